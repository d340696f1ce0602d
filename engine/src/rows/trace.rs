//! Finds the Arrow type of a serde type without having a value: the type is asked to read itself, and what it asks for
//! is written down.
//!
//! The full version has to handle: text that not every text will do for (times, addresses: several are tried, and
//! which one is taken says what it is), enums (every variant is tried, since only those without data are columns),
//! types that refuse zero, maps and lists (one element), types that contain themselves (an error, not a stack
//! overflow), and types that want to look at the data first (an error).

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::de::value::{Error as TraceError, StrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::timestamp;
use crate::sql::types::map_type;

/// Nesting beyond this is a type that contains itself.
const DEEPEST: usize = 48;

/// Texts to try, in order, and the type of a column of texts of which this is the first that is taken.
fn texts() -> [(&'static str, DataType); 10] {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    [
        ("", DataType::Utf8),
        ("0", DataType::Utf8),
        ("a", DataType::Utf8),
        ("1970-01-01T00:00:00Z", micros(Some("UTC"))),
        ("1970-01-01T00:00:00", micros(None)),
        ("1970-01-01", DataType::Date32),
        ("00:00:00", DataType::Utf8),
        ("127.0.0.1", DataType::Utf8),
        ("127.0.0.1:80", DataType::Utf8),
        ("00000000-0000-0000-0000-000000000000", DataType::Utf8),
    ]
}

/// The type of a column of such values; the error says what about the type has no column.
pub(super) fn column_type<T: DeserializeOwned>() -> Result<DataType, String> {
    let mut attempt = Attempt::default();
    loop {
        attempt.texts_seen = 0;
        let mut found = Traced::default();
        match T::deserialize(Tracer { found: &mut found, attempt: &mut attempt }) {
            Ok(_) if attempt.variant + 1 < attempt.most_variants => attempt.variant += 1,
            Ok(_) => return found.data_type(),
            Err(error) => attempt.next_text().map_err(|()| attempt.problem.take().unwrap_or(error.to_string()))?,
        }
    }
}

/// What is tried.
#[derive(Default)]
struct Attempt {
    /// For every text asked for, in order, which of [`texts`] to answer.
    texts: Vec<usize>,
    texts_seen: usize,
    /// Which variant of every enum to answer (the last, where there are fewer).
    variant: usize,
    most_variants: usize,
    depth: usize,
    /// Why no attempt can succeed.
    problem: Option<String>,
}

impl Attempt {
    /// After a refusal: the text asked for last is to be another one.
    fn next_text(&mut self) -> Result<(), ()> {
        if self.problem.is_some() || self.texts_seen == 0 {
            return Err(());
        }
        self.texts.truncate(self.texts_seen);
        let last = &mut self.texts[self.texts_seen - 1];
        *last += 1;
        if *last < texts().len() { Ok(()) } else { Err(()) }
    }

    fn refuse(&mut self, why: impl Into<String>) -> TraceError {
        let why = why.into();
        let error = TraceError::custom(&why);
        self.problem.get_or_insert(why);
        error
    }
}

/// What was found out about a value.
#[derive(Default)]
enum Traced {
    #[default]
    Unknown,
    Plain(DataType),
    List(Box<Traced>),
    Map(Box<(Traced, Traced)>),
    Struct(Vec<(String, Traced)>),
}

impl Traced {
    fn data_type(self) -> Result<DataType, String> {
        let nullable = |name: &str, traced: Traced| Ok::<_, String>(Field::new(name, traced.data_type()?, true));
        Ok(match self {
            Self::Unknown => return Err("nothing was read from it".into()),
            Self::Plain(data_type) => data_type,
            Self::List(item) => DataType::new_list(item.data_type()?, true),
            Self::Map(entry) => map_type(entry.0.data_type()?, entry.1.data_type()?),
            Self::Struct(fields) => {
                let fields: Result<Vec<Field>, String> =
                    fields.into_iter().map(|(name, traced)| nullable(&name, traced)).collect();
                DataType::Struct(Fields::from(fields?))
            }
        })
    }
}

struct Tracer<'a> {
    found: &'a mut Traced,
    attempt: &'a mut Attempt,
}

type Traces<T> = Result<T, TraceError>;

impl<'a> Tracer<'a> {
    fn plain(self, data_type: DataType) {
        *self.found = Traced::Plain(data_type);
    }

    /// One level further down.
    fn deeper<T>(self, visit: impl FnOnce(&mut Traced, &mut Attempt) -> Traces<T>) -> Traces<T> {
        if self.attempt.depth >= DEEPEST {
            return Err(self.attempt.refuse("it contains itself"));
        }
        self.attempt.depth += 1;
        let visited = visit(self.found, self.attempt);
        self.attempt.depth -= 1;
        visited
    }

    fn text(self) -> &'static str {
        let at = self.attempt.texts_seen;
        self.attempt.texts_seen += 1;
        if self.attempt.texts.len() <= at {
            self.attempt.texts.push(0);
        }
        let (text, data_type) = texts()[self.attempt.texts[at]].clone();
        self.plain(data_type);
        text
    }

    fn fields<'de, V: Visitor<'de>>(self, names: Vec<String>, as_tuple: bool, visitor: V) -> Traces<V::Value> {
        self.deeper(|found, attempt| {
            let mut fields: Vec<_> = names.into_iter().map(|name| (name, Traced::default())).collect();
            let walk = Elements { fields: &mut fields, next: 0, attempt };
            let visited = if as_tuple { visitor.visit_seq(walk) } else { visitor.visit_map(walk) };
            *found = Traced::Struct(fields);
            visited
        })
    }
}

/// The fields of a struct, or the elements of a tuple.
struct Elements<'a> {
    fields: &'a mut [(String, Traced)],
    next: usize,
    attempt: &'a mut Attempt,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = TraceError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Traces<Option<T::Value>> {
        let Some((_, found)) = self.fields.get_mut(self.next) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(Tracer { found, attempt: self.attempt }).map(Some)
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = TraceError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Traces<Option<K::Value>> {
        let Some((name, _)) = self.fields.get(self.next) else { return Ok(None) };
        seed.deserialize(StrDeserializer::<TraceError>::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Traces<V::Value> {
        let (_, found) = &mut self.fields[self.next];
        self.next += 1;
        seed.deserialize(Tracer { found, attempt: self.attempt })
    }
}

/// A list of one element, or a map of one entry.
struct One<'a> {
    found: &'a mut [Traced],
    attempt: &'a mut Attempt,
    done: bool,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = TraceError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Traces<Option<T::Value>> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        seed.deserialize(Tracer { found: &mut self.found[0], attempt: self.attempt }).map(Some)
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = TraceError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Traces<Option<K::Value>> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Traces<V::Value> {
        seed.deserialize(Tracer { found: &mut self.found[1], attempt: self.attempt })
    }
}

/// A variant of an enum.
struct Variant<'a> {
    index: u32,
    attempt: &'a mut Attempt,
}

const WITH_DATA: &str = "it has an enum whose variants have data";

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = TraceError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Traces<(V::Value, Self)> {
        let index: U32Deserializer<TraceError> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = TraceError;

    fn unit_variant(self) -> Traces<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Traces<T::Value> {
        Err(self.attempt.refuse(WITH_DATA))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Traces<V::Value> {
        Err(self.attempt.refuse(WITH_DATA))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Traces<V::Value> {
        Err(self.attempt.refuse(WITH_DATA))
    }
}

/// Methods that write a type down and answer a value of it. One, because some types refuse zero.
macro_rules! plain {
    ($($method:ident $visit:ident $value:expr => $data_type:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
            self.plain($data_type);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = TraceError;

    plain! {
        deserialize_bool visit_bool false => DataType::Boolean;
        deserialize_i8 visit_i8 1 => DataType::Int8;
        deserialize_i16 visit_i16 1 => DataType::Int16;
        deserialize_i32 visit_i32 1 => DataType::Int32;
        deserialize_i64 visit_i64 1 => DataType::Int64;
        deserialize_u8 visit_u8 1 => DataType::UInt8;
        deserialize_u16 visit_u16 1 => DataType::UInt16;
        deserialize_u32 visit_u32 1 => DataType::UInt32;
        deserialize_u64 visit_u64 1 => DataType::UInt64;
        deserialize_f32 visit_f32 1.0 => DataType::Float32;
        deserialize_f64 visit_f64 1.0 => DataType::Float64;
        deserialize_char visit_char 'a' => DataType::Utf8;
        deserialize_bytes visit_bytes &[] => DataType::Binary;
        deserialize_byte_buf visit_byte_buf vec![] => DataType::Binary;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        visitor.visit_borrowed_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        visitor.visit_str(self.text())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        self.plain(DataType::Null);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Traces<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        self.deeper(|found, attempt| visitor.visit_some(Tracer { found, attempt }))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Traces<V::Value> {
        self.deeper(|found, attempt| {
            let visited = visitor.visit_newtype_struct(Tracer { found, attempt })?;
            if name == timestamp::NAME {
                *found = Traced::Plain(crate::sql::types::timestamp_type());
            }
            Ok(visited)
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        self.deeper(|found, attempt| {
            let mut item = [Traced::default()];
            let visited = visitor.visit_seq(One { found: &mut item, attempt, done: false });
            let [item] = item;
            *found = Traced::List(Box::new(item));
            visited
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        self.deeper(|found, attempt| {
            let mut entry = [Traced::default(), Traced::default()];
            let visited = visitor.visit_map(One { found: &mut entry, attempt, done: false });
            let [key, value] = entry;
            *found = Traced::Map(Box::new((key, value)));
            visited
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Traces<V::Value> {
        self.fields((1..=len).map(|at| format!("_{at}")).collect(), true, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, len: usize, visitor: V) -> Traces<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Traces<V::Value> {
        self.fields(fields.iter().map(|name| (*name).to_owned()).collect(), false, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Traces<V::Value> {
        let attempt = self.attempt;
        *self.found = Traced::Plain(DataType::Utf8);
        attempt.most_variants = attempt.most_variants.max(variants.len());
        let index = attempt.variant.min(variants.len().saturating_sub(1)) as u32;
        visitor.visit_enum(Variant { index, attempt })
    }

    fn deserialize_i128<V: Visitor<'de>>(self, _: V) -> Traces<V::Value> {
        Err(self.attempt.refuse("it has integers of 128 bits"))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, _: V) -> Traces<V::Value> {
        Err(self.attempt.refuse("it has integers of 128 bits"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Traces<V::Value> {
        Err(self.attempt.refuse("it has a value of any type"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Traces<V::Value> {
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU8;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    enum Colour {
        Red,
        Green,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    enum Shape {
        None,
        Circle(f64),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Node {
        next: Option<Box<Node>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Row {
        user_id: Option<i64>,
        at: super::super::Timestamp,
        colour: Colour,
        tags: Vec<(String, f32)>,
        counts: BTreeMap<String, NonZeroU8>,
        from: std::net::IpAddr,
    }

    #[test]
    fn a_struct_is_traced_field_by_field() {
        let DataType::Struct(fields) = column_type::<Row>().unwrap() else { panic!("a struct") };
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["userId", "at", "colour", "tags", "counts", "from"]);
        let types: Vec<_> = fields.iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types[0], DataType::Int64);
        assert_eq!(types[1], crate::sql::types::timestamp_type());
        assert_eq!(types[2], DataType::Utf8);
        let pair = DataType::Struct(Fields::from(vec![
            Field::new("_1", DataType::Utf8, true),
            Field::new("_2", DataType::Float32, true),
        ]));
        assert_eq!(types[3], DataType::new_list(pair, true));
        assert_eq!(types[4], map_type(DataType::Utf8, DataType::UInt8));
        assert_eq!(types[5], DataType::Utf8);
        assert!(fields.iter().all(|field| field.is_nullable()));
    }

    #[test]
    fn what_has_no_columns_says_why() {
        assert_eq!(column_type::<Shape>().unwrap_err(), WITH_DATA);
        assert_eq!(column_type::<Node>().unwrap_err(), "it contains itself");
        assert_eq!(column_type::<serde_json::Value>().unwrap_err(), "it has a value of any type");
        assert_eq!(column_type::<(i128,)>().unwrap_err(), "it has integers of 128 bits");
    }

    /// As `chrono::DateTime<Utc>` does: text, but not any text.
    struct Instant;

    impl<'de> Deserialize<'de> for Instant {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            chrono::DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom).map(|_| Self)
        }
    }

    #[test]
    fn text_that_must_be_a_time_is_a_timestamp() {
        let traced = column_type::<(String, Instant, String)>().unwrap();
        let DataType::Struct(fields) = traced else { panic!("a struct") };
        let types: Vec<_> = fields.iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, crate::sql::types::timestamp_type(), DataType::Utf8]);
    }
}
