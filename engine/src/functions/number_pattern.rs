//! `to_char(number, pattern)`: numbers printed in a pattern of `9 0 . D , G $ S MI PR`.
//!
//! A digit place before the point that the number does not reach is a space under `9` and `0` under `0`; a number that
//! has more digits than places is printed as `#`. Times and dates are printed by `date_format` (see `sql::calls`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call};
use super::datetime_pattern::Pattern as TimePattern;
use crate::error::Error;
use crate::sql::types::{quoted_type_name, timestamp_type};
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    ["to_char", "to_varchar"].map(|name| Call::computed(name, types, text_field, to_char)).into()
}

fn types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let value = match types {
        [DataType::Timestamp(..) | DataType::Date32, _] => timestamp_type(),
        [value @ DataType::Decimal128(..), _] => value.clone(),
        [value, _] if value.is_integer() => DataType::Decimal128(20, 0),
        [DataType::Float32 | DataType::Float64, _] => DataType::Decimal128(30, 15),
        [DataType::Utf8 | DataType::Null, _] => DataType::Decimal128(38, 18),
        [value, _] => {
            return Err(Error::analysis_class(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                format!(
                    "Cannot resolve \"{name}\" due to data type mismatch: the first parameter is a number or a time, not {}.",
                    quoted_type_name(value)
                ),
            )
            .into());
        }
        _ => return Err(wrong_argument_count(name, "2", types.len()).into()),
    };
    Ok(vec![value, DataType::Utf8])
}

fn text_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Utf8, true)))
}

fn to_char(arguments: Arguments) -> Result<ArrayRef> {
    let patterns = arguments.arrays[1].as_string::<i32>();
    let mut texts = StringBuilder::new();
    for row in 0..arguments.rows {
        if arguments.arrays.iter().any(|array| array.is_null(row)) {
            texts.append_null();
            continue;
        }
        let values = &arguments.arrays[0];
        match values.data_type() {
            DataType::Decimal128(_, scale) => {
                let value = values.as_primitive::<Decimal128Type>().value(row);
                texts.append_value(Pattern::new(patterns.value(row))?.print(value, *scale as usize));
            }
            _ => {
                let time = values.as_primitive::<TimestampMicrosecondType>().value(row);
                texts.append_value(TimePattern::new(patterns.value(row))?.print(time));
            }
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// A pattern taken apart.
struct Pattern {
    /// The places before the point, with their commas.
    whole: Vec<char>,
    /// The places after the point.
    fraction: usize,
    point: bool,
    dollar: bool,
    sign: Sign,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Not asked for: a number below zero is printed as if it were above.
    None,
    /// `S`: + or -.
    First,
    Last,
    /// `MI`: - or a space.
    MinusFirst,
    MinusLast,
    /// `PR`: angle brackets.
    Brackets,
}

impl Pattern {
    fn new(text: &str) -> Result<Self> {
        let refused = || {
            Error::analysis_class(
                "INVALID_FORMAT.UNEXPECTED_TOKEN",
                format!(
                    "The format is invalid: '{text}'. A number pattern has digits 9 and 0, one point (. or D), commas (, or G), \
                     $ before them, and S, MI or PR at an end."
                ),
            )
        };
        let upper = text.to_uppercase();
        let (rest, sign) = [
            (upper.strip_prefix("MI"), Sign::MinusFirst),
            (upper.strip_suffix("MI"), Sign::MinusLast),
            (upper.strip_suffix("PR"), Sign::Brackets),
            (upper.strip_prefix('S'), Sign::First),
            (upper.strip_suffix('S'), Sign::Last),
        ]
        .into_iter()
        .find_map(|(rest, sign)| rest.map(|rest| (rest, sign)))
        .unwrap_or((&upper, Sign::None));
        let (dollar, places) = rest.strip_prefix('$').map_or((false, rest), |rest| (true, rest));
        let point = places.find(['.', 'D']);
        let (whole, fraction) = point.map_or((places, ""), |at| (&places[..at], &places[at + 1..]));
        let digits = |text: &str| !text.is_empty() && text.chars().all(|c| matches!(c, '0' | '9'));
        let whole: Vec<char> = whole.chars().map(|c| if c == 'G' { ',' } else { c }).collect();
        let good = whole.iter().all(|c| matches!(c, '0' | '9' | ',')) && whole.first() != Some(&',');
        if !good || whole.len() + fraction.len() == 0 || !(fraction.is_empty() || digits(fraction)) {
            return Err(refused().into());
        }
        Ok(Self { whole, fraction: fraction.len(), point: point.is_some(), dollar, sign })
    }

    fn print(&self, value: i128, scale: usize) -> String {
        let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let whole = whole.trim_start_matches('0');
        let places = self.whole.iter().filter(|c| **c != ',').count();
        let fraction = fraction.trim_end_matches('0');
        let fits = whole.len() <= places && fraction.len() <= self.fraction;
        if !fits {
            return self.overflow();
        }
        // From the first place that prints a digit on, everything is printed.
        let mut body = String::new();
        let mut started = false;
        let (mut blanks, mut left) = (0, places);
        for place in &self.whole {
            if *place == ',' {
                if started {
                    body.push(',')
                } else {
                    blanks += 1
                }
                continue;
            }
            left -= 1;
            let digit = (whole.len() > left).then(|| whole.as_bytes()[whole.len() - 1 - left] as char);
            started |= digit.is_some() || *place == '0';
            match digit {
                Some(digit) => body.push(digit),
                None if started => body.push('0'),
                None => blanks += 1,
            }
        }
        if body.is_empty() && self.fraction == 0 {
            body.push('0');
            blanks -= 1;
        }
        if self.point {
            let dot = if self.fraction > 0 { "." } else { "" };
            body.push_str(&format!("{dot}{fraction:0<width$}", width = self.fraction));
        }
        self.signed(value < 0, blanks, &body)
    }

    fn signed(&self, negative: bool, blanks: usize, body: &str) -> String {
        let blanks = " ".repeat(blanks);
        let dollar = if self.dollar { "$" } else { "" };
        let sign = if negative { "-" } else { "+" };
        let minus = if negative { "-" } else { "" };
        match self.sign {
            Sign::None => format!("{blanks}{dollar}{body}"),
            Sign::First => format!("{blanks}{sign}{dollar}{body}"),
            Sign::Last => format!("{blanks}{dollar}{body}{sign}"),
            Sign::MinusFirst => format!("{blanks}{}{dollar}{body}", if negative { "-" } else { " " }),
            Sign::MinusLast => format!("{blanks}{dollar}{body}{}", if minus.is_empty() { " " } else { minus }),
            Sign::Brackets if negative => format!("{blanks}<{dollar}{body}>"),
            Sign::Brackets => format!("{blanks}{dollar}{body}  "),
        }
    }

    fn overflow(&self) -> String {
        let places = self.whole.iter().filter(|c| **c != ',').count();
        let point = if self.point { "." } else { "" };
        format!("{}{point}{}", "#".repeat(places), "#".repeat(self.fraction))
    }
}
