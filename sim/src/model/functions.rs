//! The scalar functions and casts the model knows, by lower-case Spark name.

use super::expr::{Expr, Scope};
use super::refusal::Refusal;
use super::time;
use super::value::{Type, Value};

/// Whether NULL in gives NULL out, so that Spark may infer IS NOT NULL through the function.
pub fn is_null_intolerant(name: &str) -> bool {
    !matches!(name, "coalesce" | "nvl" | "ifnull" | "nullif" | "if" | "greatest" | "least" | "concat_ws" | "nvl2")
}

/// The result type of a function, with the arguments as they were typed.
pub fn result_type(name: &str, args: &[Expr]) -> Result<Type, Refusal> {
    let ty = |index: usize| args.get(index).map(Expr::ty).unwrap_or(Type::Void);
    Ok(match (name, args.len()) {
        ("upper" | "ucase" | "lower" | "lcase" | "trim" | "ltrim" | "rtrim" | "reverse", 1) => Type::String,
        ("concat", 1..) | ("concat_ws", 2..) | ("substring" | "substr", 2..=3) => Type::String,
        ("length" | "char_length" | "len", 1) => Type::Int,
        ("abs" | "negative" | "positive", 1) => ty(0),
        ("coalesce" | "greatest" | "least", 1..) | ("nvl" | "ifnull", 2) => common_type(args)?,
        ("if", 3) => common_type(&args[1..])?,
        ("nvl2", 3) => common_type(&args[1..])?,
        ("nullif", 2) => ty(0),
        ("split", 2) => Type::Array(Box::new(Type::String)),
        ("date_trunc", 2) | ("current_timestamp" | "now", 0) | ("window_time", 1) => Type::Timestamp,
        ("sqrt", 1) | ("power" | "pow", 2) => Type::Double,
        ("floor" | "ceil" | "ceiling", 1) => Type::BigInt,
        ("unix_seconds" | "unix_millis" | "unix_micros", 1) => Type::BigInt,
        ("timestamp_seconds" | "timestamp_millis" | "timestamp_micros", 1) => Type::Timestamp,
        ("year" | "month" | "day" | "dayofmonth" | "hour" | "minute" | "second", 1) => Type::Int,
        ("size" | "cardinality", 1) => Type::Int,
        ("contains" | "startswith" | "endswith" | "like", 2) | ("isnull" | "isnotnull" | "isnan", 1) => Type::Boolean,
        _ => return Err(Refusal::beyond(format!("function {name} with {} arguments", args.len()))),
    })
}

/// The type that all arguments are widened to.
pub fn common_type(args: &[Expr]) -> Result<Type, Refusal> {
    let mut common = Type::Void;
    for arg in args {
        common = wider(&common, &arg.ty())?;
    }
    Ok(common)
}

/// The wider of two types.
pub fn wider(a: &Type, b: &Type) -> Result<Type, Refusal> {
    Ok(match (a, b) {
        (a, b) if a == b => a.clone(),
        (Type::Void, other) | (other, Type::Void) => other.clone(),
        (Type::Double, other) | (other, Type::Double) if other.is_numeric() => Type::Double,
        (Type::Int, Type::BigInt) | (Type::BigInt, Type::Int) => Type::BigInt,
        (Type::Timestamp, Type::String) | (Type::String, Type::Timestamp) => Type::Timestamp,
        (a, b) => return Err(Refusal::beyond(format!("a common type of {a} and {b}"))),
    })
}

/// Converts a value as ANSI CAST does.
pub fn cast(value: Value, ty: &Type) -> Result<Value, Refusal> {
    let invalid = |text: &str| {
        let message =
            format!("[CAST_INVALID_INPUT] The value '{text}' cannot be cast to \"{ty}\" because it is malformed");
        Err(Refusal::failed("CAST_INVALID_INPUT", message))
    };
    Ok(match (value, ty) {
        (Value::Null, _) => Value::Null,
        (Value::Int(i), Type::Double) => Value::Double(i as f64),
        (Value::Int(i), Type::Int) if i32::try_from(i).is_err() => {
            return Err(Refusal::failed(
                "CAST_OVERFLOW",
                format!("[CAST_OVERFLOW] The value {i} cannot be cast to INT"),
            ));
        }
        (Value::Double(d), Type::BigInt | Type::Int) => {
            let top = if *ty == Type::Int { f64::from(i32::MAX) } else { i64::MAX as f64 };
            if d.is_nan() || d.abs() > top {
                return Err(Refusal::failed("CAST_OVERFLOW", format!("[CAST_OVERFLOW] The value {d} cannot be cast")));
            }
            Value::Int(d.trunc() as i64)
        }
        (Value::Bool(b), Type::Int | Type::BigInt) => Value::Int(i64::from(b)),
        (Value::Int(i), Type::Boolean) => Value::Bool(i != 0),
        (Value::Int(i), Type::Timestamp) => Value::Timestamp(i.saturating_mul(time::SECOND_US)),
        (Value::Timestamp(us), Type::BigInt | Type::Int) => Value::Int(us.div_euclid(time::SECOND_US)),
        (Value::Timestamp(us), Type::Double) => Value::Double(us as f64 / time::SECOND_US as f64),
        (Value::Int(i), Type::String) => Value::Text(i.to_string()),
        (Value::Bool(b), Type::String) => Value::Text(b.to_string()),
        (Value::Timestamp(us), Type::String) => Value::Text(timestamp_text(us)),
        (Value::Text(s), Type::Int | Type::BigInt) => match s.trim().parse::<i64>() {
            Ok(i) if *ty == Type::BigInt || i32::try_from(i).is_ok() => Value::Int(i),
            _ => return invalid(&s),
        },
        (Value::Text(s), Type::Double) => match s.trim().parse::<f64>() {
            Ok(d) => Value::Double(d),
            Err(_) => return invalid(&s),
        },
        (Value::Text(s), Type::Timestamp) => match time::parse_timestamp(&s) {
            Some(us) => Value::Timestamp(us),
            None => return invalid(&s),
        },
        (value @ Value::Int(_), Type::Int | Type::BigInt)
        | (value @ Value::Double(_), Type::Double)
        | (value @ Value::Text(_), Type::String)
        | (value @ Value::Bool(_), Type::Boolean)
        | (value @ Value::Timestamp(_), Type::Timestamp)
        | (value @ Value::Interval(..), Type::Interval) => value,
        (value @ (Value::List(_) | Value::Struct(_)), Type::Array(_) | Type::Struct(_)) => value,
        (value, ty) => return Err(Refusal::beyond(format!("cast of {value:?} to {ty}"))),
    })
}

/// A timestamp as CAST AS STRING writes it: a space, and only the digits of the fraction that are needed.
fn timestamp_text(us: i64) -> String {
    let text = time::format_timestamp(us).replace('T', " ");
    let text = text.trim_end_matches('Z').trim_end_matches('0');
    text.trim_end_matches('.').to_string()
}

/// Calls a function on one row.
pub fn call(name: &str, args: &[Expr], ty: &Type, row: &Scope<'_>) -> Result<Value, Refusal> {
    // Lazy functions first: they must not evaluate (and fail in) a branch that is not taken.
    match name {
        "if" => return if args[0].holds(row)? { args[1].eval(row) } else { args[2].eval(row) },
        "nvl2" => return if args[0].eval(row)?.is_null() { args[2].eval(row) } else { args[1].eval(row) },
        "coalesce" | "nvl" | "ifnull" => {
            for arg in args {
                let value = arg.eval(row)?;
                if !value.is_null() {
                    return cast(value, ty);
                }
            }
            return Ok(Value::Null);
        }
        "current_timestamp" | "now" => return Ok(Value::Timestamp(row.now_us)),
        _ => {}
    }
    let values = args.iter().map(|a| a.eval(row)).collect::<Result<Vec<_>, _>>()?;
    match name {
        "isnull" => return Ok(Value::Bool(values[0].is_null())),
        "isnotnull" => return Ok(Value::Bool(!values[0].is_null())),
        "isnan" => return Ok(Value::Bool(matches!(values[0], Value::Double(d) if d.is_nan()))),
        "nullif" => {
            return Ok(if !values[0].is_null() && values[0] == values[1] { Value::Null } else { values[0].clone() });
        }
        "greatest" => return Ok(values.into_iter().filter(|v| !v.is_null()).max().unwrap_or(Value::Null)),
        "least" => return Ok(values.into_iter().filter(|v| !v.is_null()).min().unwrap_or(Value::Null)),
        "concat_ws" => return Ok(concat_ws(&values)),
        _ => {}
    }
    if values.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    match values.as_slice() {
        [Value::Text(s)] => text_function(name, s),
        [Value::Timestamp(us)] => time_function(name, *us),
        [Value::Struct(fields)] if name == "window_time" => match fields[1] {
            Value::Timestamp(end_us) => Ok(Value::Timestamp(end_us - 1)),
            _ => Ok(Value::Null),
        },
        [Value::List(items)] if matches!(name, "size" | "cardinality") => Ok(Value::Int(items.len() as i64)),
        [Value::Text(unit), Value::Timestamp(us)] if name == "date_trunc" => date_trunc(unit, *us),
        [Value::Text(a), Value::Text(b)] => two_texts(name, a, b),
        [Value::Text(s), Value::Int(from)] => Ok(substring(s, *from, i64::MAX)),
        [Value::Text(s), Value::Int(from), Value::Int(len)] => Ok(substring(s, *from, *len)),
        texts if name == "concat" => concat(texts),
        numbers => number_function(name, numbers),
    }
}

fn text_function(name: &str, s: &str) -> Result<Value, Refusal> {
    Ok(match name {
        "upper" | "ucase" => Value::Text(s.to_uppercase()),
        "lower" | "lcase" => Value::Text(s.to_lowercase()),
        // Spark's trim removes spaces only.
        "trim" => Value::Text(s.trim_matches(' ').into()),
        "ltrim" => Value::Text(s.trim_start_matches(' ').into()),
        "rtrim" => Value::Text(s.trim_end_matches(' ').into()),
        "reverse" => Value::Text(s.chars().rev().collect()),
        "concat" => Value::Text(s.into()),
        "length" | "char_length" | "len" => Value::Int(s.chars().count() as i64),
        _ => return Err(Refusal::beyond(format!("{name} of a string"))),
    })
}

fn two_texts(name: &str, a: &str, b: &str) -> Result<Value, Refusal> {
    Ok(match name {
        "contains" => Value::Bool(a.contains(b)),
        "startswith" => Value::Bool(a.starts_with(b)),
        "endswith" => Value::Bool(a.ends_with(b)),
        "concat" => Value::Text(format!("{a}{b}")),
        "like" => Value::Bool(like(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())),
        // A pattern without regular-expression characters splits literally; others are outside the model.
        "split" if !b.is_empty() && !b.chars().any(|c| "\\^$.|?*+()[]{}".contains(c)) => {
            Value::List(a.split(b).map(|part| Value::Text(part.into())).collect())
        }
        _ => return Err(Refusal::beyond(format!("{name}('{a}', '{b}')"))),
    })
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        Some(('\\', [escaped, rest @ ..])) => text.first() == Some(escaped) && like(&text[1..], rest),
        Some(('_', rest)) => !text.is_empty() && like(&text[1..], rest),
        Some((c, rest)) => text.first() == Some(c) && like(&text[1..], rest),
    }
}

fn concat(texts: &[Value]) -> Result<Value, Refusal> {
    let mut all = String::new();
    for text in texts {
        match cast(text.clone(), &Type::String)? {
            Value::Text(s) => all.push_str(&s),
            _ => return Ok(Value::Null),
        }
    }
    Ok(Value::Text(all))
}

fn concat_ws(values: &[Value]) -> Value {
    let texts: Vec<&str> =
        values.iter().filter_map(|v| if let Value::Text(s) = v { Some(s.as_str()) } else { None }).collect();
    match &values[0] {
        Value::Text(separator) => Value::Text(texts[1..].join(separator)),
        _ => Value::Null,
    }
}

/// 1-based; 0 counts as 1, a negative start counts from the end.
fn substring(s: &str, from: i64, len: i64) -> Value {
    let chars: Vec<char> = s.chars().collect();
    let count = chars.len() as i64;
    let start = if from > 0 {
        from - 1
    } else if from < 0 {
        count + from
    } else {
        0
    };
    let end = start.saturating_add(len.max(0)).clamp(0, count);
    let start = start.clamp(0, count);
    Value::Text(chars[start as usize..end.max(start) as usize].iter().collect())
}

fn date_trunc(unit: &str, us: i64) -> Result<Value, Refusal> {
    let unit_us = match unit.to_ascii_lowercase().as_str() {
        "microsecond" => 1,
        "millisecond" => 1000,
        "second" => time::SECOND_US,
        "minute" => 60 * time::SECOND_US,
        "hour" => 3600 * time::SECOND_US,
        "day" | "dd" => 86_400 * time::SECOND_US,
        _ => return Err(Refusal::beyond(format!("date_trunc('{unit}')"))),
    };
    Ok(Value::Timestamp(us.div_euclid(unit_us).saturating_mul(unit_us)))
}

fn time_function(name: &str, us: i64) -> Result<Value, Refusal> {
    let day_us = 86_400 * time::SECOND_US;
    let (year, month, day) = time::civil_from_days(us.div_euclid(day_us));
    let second = us.rem_euclid(day_us) / time::SECOND_US;
    Ok(Value::Int(match name {
        "unix_seconds" => us.div_euclid(time::SECOND_US),
        "unix_millis" => us.div_euclid(1000),
        "unix_micros" => us,
        "year" => year,
        "month" => month,
        "day" | "dayofmonth" => day,
        "hour" => second / 3600,
        "minute" => second / 60 % 60,
        "second" => second % 60,
        _ => return Err(Refusal::beyond(format!("{name} of a timestamp"))),
    }))
}

fn number_function(name: &str, values: &[Value]) -> Result<Value, Refusal> {
    Ok(match (name, values) {
        ("abs", [Value::Int(i)]) => Value::Int(i.checked_abs().ok_or_else(overflow)?),
        ("negative", [Value::Int(i)]) => Value::Int(i.checked_neg().ok_or_else(overflow)?),
        ("positive", [value]) => value.clone(),
        ("abs", [Value::Double(d)]) => Value::Double(d.abs()),
        ("negative", [Value::Double(d)]) => Value::Double(-d),
        ("negative", [Value::Interval(m, us)]) => Value::Interval(m.saturating_neg(), us.saturating_neg()),
        ("timestamp_seconds", [Value::Int(i)]) => {
            Value::Timestamp(i.checked_mul(time::SECOND_US).ok_or_else(overflow)?)
        }
        ("timestamp_millis", [Value::Int(i)]) => Value::Timestamp(i.checked_mul(1000).ok_or_else(overflow)?),
        ("timestamp_micros", [Value::Int(i)]) => Value::Timestamp(*i),
        ("floor" | "ceil" | "ceiling", [Value::Int(i)]) => Value::Int(*i),
        ("floor", [Value::Double(d)]) => cast(Value::Double(d.floor()), &Type::BigInt)?,
        ("ceil" | "ceiling", [Value::Double(d)]) => cast(Value::Double(d.ceil()), &Type::BigInt)?,
        ("sqrt", [x]) => Value::Double(x.as_double().unwrap_or(f64::NAN).sqrt()),
        ("power" | "pow", [x, y]) => match (x.as_double(), y.as_double()) {
            (Some(x), Some(y)) => Value::Double(x.powf(y)),
            _ => return Err(Refusal::beyond("power of these types")),
        },
        _ => return Err(Refusal::beyond(format!("{name} of {values:?}"))),
    })
}

fn overflow() -> Refusal {
    Refusal::failed("ARITHMETIC_OVERFLOW", "[ARITHMETIC_OVERFLOW] the result is out of range")
}
