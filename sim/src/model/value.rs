//! The values and types the model computes with: one enum each, with the total order that grouping needs.

use std::cmp::Ordering;
use std::fmt;

/// A Spark SQL type, as far as the model knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// The type of a bare `NULL`.
    Void,
    /// `BOOLEAN`.
    Boolean,
    /// `INT` (32 bits).
    Int,
    /// `BIGINT` (64 bits).
    BigInt,
    /// `DOUBLE`. Decimal literals are read as this too (see the module head).
    Double,
    /// `STRING`.
    String,
    /// `TIMESTAMP`, microseconds since the epoch, UTC.
    Timestamp,
    /// Any interval.
    Interval,
    /// `ARRAY<..>`.
    Array(Box<Type>),
    /// `STRUCT<..>` with its field names.
    Struct(Vec<(String, Type)>),
}

impl Type {
    /// The type of `window()` and `session_window()` columns.
    pub fn window() -> Type {
        Type::Struct(vec![("start".into(), Type::Timestamp), ("end".into(), Type::Timestamp)])
    }

    /// Whether this is a struct of two timestamps named start and end.
    pub fn is_window(&self) -> bool {
        *self == Type::window()
    }

    /// Whether this is INT, BIGINT or DOUBLE.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Type::Int | Type::BigInt | Type::Double)
    }

    /// Reads a Spark DDL type name.
    pub fn parse(text: &str) -> Option<Type> {
        Some(match text.trim().to_ascii_uppercase().as_str() {
            "BOOLEAN" => Type::Boolean,
            "INT" | "INTEGER" => Type::Int,
            "BIGINT" | "LONG" => Type::BigInt,
            "DOUBLE" => Type::Double,
            "STRING" => Type::String,
            "TIMESTAMP" => Type::Timestamp,
            _ => return None,
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Void => f.write_str("void"),
            Type::Boolean => f.write_str("boolean"),
            Type::Int => f.write_str("int"),
            Type::BigInt => f.write_str("bigint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Interval => f.write_str("interval"),
            Type::Array(item) => write!(f, "array<{item}>"),
            Type::Struct(fields) => {
                let fields: Vec<String> = fields.iter().map(|(name, ty)| format!("{name}:{ty}")).collect();
                write!(f, "struct<{}>", fields.join(","))
            }
        }
    }
}

/// Reads a schema in Spark DDL (`ts TIMESTAMP, k STRING`); `None` if a type is not one of the model's.
pub fn parse_schema(ddl: &str) -> Option<Vec<(String, Type)>> {
    ddl.split(',')
        .map(|column| {
            let (name, ty) = column.trim().split_once(char::is_whitespace)?;
            Some((name.trim_matches('`').to_string(), Type::parse(ty)?))
        })
        .collect()
}

/// One SQL value. `Int` holds both INT and BIGINT; the static type tells which.
#[derive(Debug, Clone)]
pub enum Value {
    /// SQL NULL of any type.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// A string.
    Text(String),
    /// Microseconds since the epoch.
    Timestamp(i64),
    /// Calendar months and microseconds (days are 24 hours: the session zone is UTC).
    Interval(i64, i64),
    /// An array.
    List(Vec<Value>),
    /// A struct, in field order.
    Struct(Vec<Value>),
}

impl Value {
    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// A window struct from its bounds in microseconds.
    pub fn window(start_us: i64, end_us: i64) -> Value {
        Value::Struct(vec![Value::Timestamp(start_us), Value::Timestamp(end_us)])
    }

    /// The instant the watermark is compared with: a timestamp itself, a window's end. NULL has none.
    pub fn event_time_us(&self) -> Option<i64> {
        match self {
            Value::Timestamp(us) => Some(*us),
            Value::Struct(fields) => match fields.as_slice() {
                [_, Value::Timestamp(end_us)] => Some(*end_us),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value as grouping sees it: all NaN are one NaN and -0.0 is 0.0 (spec/04 section 0).
    pub fn normalized(self) -> Value {
        match self {
            Value::Double(d) if d.is_nan() => Value::Double(f64::NAN),
            Value::Double(0.0) => Value::Double(0.0),
            Value::List(items) => Value::List(items.into_iter().map(Value::normalized).collect()),
            Value::Struct(items) => Value::Struct(items.into_iter().map(Value::normalized).collect()),
            other => other,
        }
    }

    /// A number as a double; `None` for everything else.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::Double(d) => Some(*d),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Double(_) => 2,
            Value::Text(_) => 3,
            Value::Timestamp(_) => 4,
            Value::Interval(..) => 5,
            Value::List(_) => 6,
            Value::Struct(_) => 7,
        }
    }
}

/// NULL first, then Spark's order; NaN is equal to itself and above all numbers, -0.0 equals 0.0.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => {
                let (a, b) = (self.as_double().unwrap_or(0.0), other.as_double().unwrap_or(0.0));
                // `partial_cmp` says -0.0 == 0.0; it fails only for NaN, which is the largest.
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Interval(am, au), Value::Interval(bm, bu)) => (am, au).cmp(&(bm, bu)),
            (Value::List(a), Value::List(b)) | (Value::Struct(a), Value::Struct(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}
