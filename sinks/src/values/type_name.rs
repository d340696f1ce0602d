//! The name of a column's type in messages, as Spark's SQL writes it: `STRUCT<a: INT, b: ARRAY<STRING>>`.

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit};

/// Spark's SQL name for an Arrow type; types that Spark does not have keep Arrow's name.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "VOID",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 | DataType::UInt8 => "SMALLINT",
        DataType::Int32 | DataType::UInt16 => "INT",
        DataType::Int64 | DataType::UInt32 => "BIGINT",
        DataType::UInt64 => "DECIMAL(20,0)",
        DataType::Float16 | DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BINARY",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ",
        DataType::Time32(_) | DataType::Time64(_) => "TIME(6)",
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH",
        DataType::Interval(IntervalUnit::DayTime) | DataType::Duration(_) => "INTERVAL DAY TO SECOND",
        DataType::Interval(IntervalUnit::MonthDayNano) => "INTERVAL",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("DECIMAL({precision},{scale})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            return format!("ARRAY<{}>", sql_name(item.data_type()));
        }
        DataType::Struct(fields) => return format!("STRUCT<{}>", struct_fields(fields)),
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type()
                && let [key, value] = pair.iter().map(|f| sql_name(f.data_type())).collect::<Vec<_>>().as_slice()
            {
                return format!("MAP<{key}, {value}>");
            }
            return data_type.to_string();
        }
        DataType::Dictionary(_, values) => return sql_name(values),
        other => return other.to_string(),
    };
    name.to_owned()
}

fn struct_fields(fields: &Fields) -> String {
    let field = |field: &Field| {
        let required = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{}: {}{required}", identifier(field.name()), sql_name(field.data_type()))
    };
    fields.iter().map(|f| field(f)).collect::<Vec<_>>().join(", ")
}

/// A name as SQL needs it: in back-ticks unless it is a plain word.
fn identifier(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn names_are_those_of_spark() {
        let inner = Fields::from(vec![Field::new("a b", DataType::Int32, false)]);
        let outer = Fields::from(vec![
            Field::new("x", DataType::Struct(inner), true),
            Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Decimal128(5, 2), true))), true),
        ]);
        assert_eq!(
            sql_name(&DataType::Struct(outer)),
            "STRUCT<x: STRUCT<`a b`: INT NOT NULL>, l: ARRAY<DECIMAL(5,2)>>"
        );
    }
}
