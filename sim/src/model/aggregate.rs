//! Aggregate functions: a buffer that takes rows, merges with another buffer and gives a result.

use super::expr::{AggregateCall, Expr, Scope};
use super::refusal::Refusal;
use super::value::{Type, Value};

/// The result type if the name is an aggregate function the model knows.
pub fn result_type(name: &str, args: &[Expr]) -> Option<Type> {
    let arg = args.first().map(Expr::ty);
    Some(match (name, args.len()) {
        ("count", _) | ("count_if", 1) => Type::BigInt,
        ("sum", 1) if arg == Some(Type::Double) => Type::Double,
        ("sum", 1) => Type::BigInt,
        ("avg" | "mean", 1) => Type::Double,
        ("stddev_pop" | "stddev" | "stddev_samp" | "std" | "var_pop" | "variance" | "var_samp", 1) => Type::Double,
        ("min" | "max" | "first" | "last" | "any_value" | "first_value" | "last_value", 1) => arg?,
        ("bool_and" | "every" | "bool_or" | "any" | "some", 1) => Type::Boolean,
        ("collect_list" | "array_agg", 1) => Type::Array(Box::new(arg?)),
        _ => return None,
    })
}

/// What an aggregate knows after some rows.
#[derive(Debug, Clone)]
pub enum Buffer {
    /// Rows counted.
    Count(i64),
    /// A sum; NULL before the first value.
    Sum(Value),
    /// Sum and count.
    Average(f64, i64),
    /// The least value so far.
    Min(Value),
    /// The greatest value so far.
    Max(Value),
    /// Count, mean and sum of squared distances from the mean (Welford).
    Moments(f64, f64, f64),
    /// All values that are not NULL, in order of arrival.
    List(Vec<Value>),
    /// The first value, even if it is NULL.
    First(Option<Value>),
    /// The last value, even if it is NULL.
    Last(Option<Value>),
}

impl Buffer {
    /// The buffer before any row.
    pub fn empty(call: &AggregateCall) -> Buffer {
        match call.name.as_str() {
            "count" | "count_if" => Buffer::Count(0),
            "sum" => Buffer::Sum(Value::Null),
            "avg" | "mean" => Buffer::Average(0.0, 0),
            "min" | "bool_and" | "every" => Buffer::Min(Value::Null),
            "max" | "bool_or" | "any" | "some" => Buffer::Max(Value::Null),
            "first" | "any_value" | "first_value" => Buffer::First(None),
            "last" | "last_value" => Buffer::Last(None),
            "collect_list" | "array_agg" => Buffer::List(Vec::new()),
            _ => Buffer::Moments(0.0, 0.0, 0.0),
        }
    }

    /// Takes one row.
    pub fn update(&mut self, call: &AggregateCall, row: &Scope<'_>) -> Result<(), Refusal> {
        if let Some(filter) = &call.filter
            && !filter.holds(row)?
        {
            return Ok(());
        }
        if let Buffer::Count(count) = self {
            for arg in &call.args {
                let value = arg.eval(row)?;
                let counts = if call.name == "count_if" { value == Value::Bool(true) } else { !value.is_null() };
                if !counts {
                    return Ok(());
                }
            }
            *count += 1;
            return Ok(());
        }
        let value = call.args[0].eval(row)?;
        match self {
            Buffer::First(first) => first.get_or_insert(value).is_null(),
            Buffer::Last(last) => last.replace(value).is_some(),
            _ if value.is_null() => false,
            _ => return self.merge(&Buffer::of(self, value)),
        };
        Ok(())
    }

    /// A buffer of the same kind that has seen exactly one value, which is not NULL.
    fn of(kind: &Buffer, value: Value) -> Buffer {
        let number = value.as_double().unwrap_or(f64::NAN);
        match kind {
            Buffer::Count(_) => Buffer::Count(1),
            Buffer::Sum(_) => Buffer::Sum(value),
            Buffer::Average(..) => Buffer::Average(number, 1),
            Buffer::Min(_) => Buffer::Min(value),
            Buffer::Max(_) => Buffer::Max(value),
            Buffer::Moments(..) => Buffer::Moments(1.0, number, 0.0),
            Buffer::List(_) => Buffer::List(vec![value]),
            Buffer::First(_) => Buffer::First(Some(value)),
            Buffer::Last(_) => Buffer::Last(Some(value)),
        }
    }

    /// Adds what a later buffer has seen.
    pub fn merge(&mut self, later: &Buffer) -> Result<(), Refusal> {
        match (self, later) {
            (Buffer::Count(a), Buffer::Count(b)) => *a += b,
            (Buffer::Sum(a), Buffer::Sum(b)) => *a = add(a, b)?,
            (Buffer::Average(sum, count), Buffer::Average(s, c)) => {
                *sum += s;
                *count += c;
            }
            (Buffer::Min(a), Buffer::Min(b)) => {
                if !b.is_null() && (a.is_null() || b < a) {
                    *a = b.clone();
                }
            }
            (Buffer::Max(a), Buffer::Max(b)) => {
                if !b.is_null() && (a.is_null() || b > a) {
                    *a = b.clone();
                }
            }
            (Buffer::Moments(n, mean, m2), Buffer::Moments(n2, mean2, m22)) => {
                let total = *n + n2;
                if total > 0.0 {
                    let delta = mean2 - *mean;
                    *m2 += m22 + delta * delta * *n * n2 / total;
                    *mean += delta * n2 / total;
                    *n = total;
                }
            }
            (Buffer::List(a), Buffer::List(b)) => a.extend(b.iter().cloned()),
            (Buffer::First(a), Buffer::First(b)) => {
                if a.is_none() {
                    *a = b.clone();
                }
            }
            (Buffer::Last(a), Buffer::Last(b)) => {
                if b.is_some() {
                    *a = b.clone();
                }
            }
            _ => return Err(Refusal::beyond("buffers of different aggregates")),
        }
        Ok(())
    }

    /// The result for the rows seen.
    pub fn result(&self, call: &AggregateCall) -> Value {
        match self {
            Buffer::Count(count) => Value::Int(*count),
            Buffer::Sum(value) | Buffer::Min(value) | Buffer::Max(value) => value.clone(),
            Buffer::Average(_, 0) => Value::Null,
            Buffer::Average(sum, count) => Value::Double(sum / *count as f64),
            Buffer::List(values) => Value::List(values.clone()),
            Buffer::First(value) | Buffer::Last(value) => value.clone().unwrap_or(Value::Null),
            Buffer::Moments(n, _, m2) => {
                let sample = !matches!(call.name.as_str(), "stddev_pop" | "var_pop");
                let divisor = if sample { n - 1.0 } else { *n };
                if *n == 0.0 || divisor == 0.0 {
                    // The sample variance of one value is NULL since Spark 3.1.
                    return Value::Null;
                }
                let variance = m2 / divisor;
                let root = call.name.starts_with("std");
                Value::Double(if root { variance.sqrt() } else { variance })
            }
        }
    }
}

fn add(a: &Value, b: &Value) -> Result<Value, Refusal> {
    Ok(match (a, b) {
        (Value::Null, other) | (other, Value::Null) => other.clone(),
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(|| {
            Refusal::failed("ARITHMETIC_OVERFLOW", "[ARITHMETIC_OVERFLOW] long overflow. Use 'try_add'")
        })?),
        (a, b) => match (a.as_double(), b.as_double()) {
            (Some(a), Some(b)) => Value::Double(a + b),
            _ => return Err(Refusal::beyond("sum of this type")),
        },
    })
}
