//! Rows of a schema, drawn around what the pipeline talks about: edges of windows and watermarks, compared values.
//!
//! Handles: event times on, one microsecond before and one after the edges of windows and of the watermark; equal, late,
//! very late, missing and far-future times; few keys, so that groups meet; NULL wherever a column allows it; nested
//! types. A column of a type that is not known here is NULL, or refused if it may not be.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrono::DateTime;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Number, Value};

use super::hints::Hints;
use super::script::{Stream, UserScript};
use crate::clock::EPOCH_US;

/// The length of a window when the pipeline names no duration, in microseconds.
const WINDOW_US: i64 = 10_000_000;

/// Draws the rows of one stream.
#[derive(Clone, Debug)]
pub struct RowDrawer {
    schema: SchemaRef,
    hints: Hints,
}

/// Draws the rows of all streams of a script, whose event times move on together.
#[derive(Debug)]
pub struct RowDrawers {
    drawers: BTreeMap<String, RowDrawer>,
    clocks: Mutex<BTreeMap<String, i64>>,
}

impl RowDrawers {
    /// Drawers for the streams of a script.
    pub fn new(script: &UserScript) -> Self {
        let drawer = |stream: &Stream| (stream.name.clone(), RowDrawer::new(&stream.schema, &script.hints));
        let clock = |stream: &Stream| (stream.name.clone(), RowDrawer::BEGIN_US);
        Self {
            drawers: script.streams.iter().map(drawer).collect(),
            clocks: Mutex::new(script.streams.iter().map(clock).collect()),
        }
    }

    /// The next block of a stream.
    pub fn block(&self, stream: &Stream, random: &mut ChaCha8Rng) -> Vec<String> {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = clocks.values().copied().max().unwrap_or_default();
        let (Some(drawer), Some(event_us)) = (self.drawers.get(&stream.name), clocks.get_mut(&stream.name)) else {
            return vec![];
        };
        if random.random_ratio(1, 3) {
            // A stream that was idle catches up.
            *event_us = newest;
        }
        drawer.block(random, event_us)
    }
}

/// Where the event times of one block are.
#[derive(Clone, Copy)]
struct Moment {
    event_us: i64,
    window_us: i64,
    delay_us: i64,
}

impl RowDrawer {
    /// Where event time begins, in microseconds since 1970.
    pub const BEGIN_US: i64 = EPOCH_US;

    /// Draws rows with these columns.
    pub fn new(schema: &SchemaRef, hints: &Hints) -> Self {
        Self { schema: schema.clone(), hints: hints.clone() }
    }

    /// A block of rows as JSON objects, around a moment that moves on.
    pub fn block(&self, random: &mut ChaCha8Rng, event_us: &mut i64) -> Vec<String> {
        let duration = |random: &mut ChaCha8Rng| self.hints.durations_us.choose(random).copied().unwrap_or(WINDOW_US);
        let (window_us, delay_us) = (duration(random), duration(random));
        let moment = Moment { event_us: *event_us, window_us, delay_us };
        let rows = (0..random.random_range(0..6)).map(|_| self.row(random, moment).to_string()).collect();
        *event_us += match random.random_range(0..8) {
            0 => 0,
            1 => 10 * window_us,
            _ => random.random_range(0..2 * window_us),
        };
        rows
    }

    fn row(&self, random: &mut ChaCha8Rng, moment: Moment) -> Value {
        let cells = self.schema.fields().iter().map(|field| (field.name().clone(), self.cell(random, field, moment)));
        Value::Object(cells.collect::<Map<_, _>>())
    }

    fn cell(&self, random: &mut ChaCha8Rng, field: &Field, moment: Moment) -> Value {
        if field.is_nullable() && random.random_ratio(1, 12) {
            return Value::Null;
        }
        match field.data_type() {
            DataType::Timestamp(_, zone) => {
                let text = timestamp(moment.draw(random));
                // Without a zone the text has none either.
                if zone.is_some() { text.into() } else { text.trim_end_matches('Z').into() }
            }
            DataType::Date32 => timestamp(moment.draw(random))[..10].into(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.text(random).into(),
            DataType::Binary | DataType::LargeBinary => {
                self.text(random).bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into()
            }
            DataType::Boolean => random.random::<bool>().into(),
            DataType::Int8 => self.integer(random, i8::MAX.into()).into(),
            DataType::Int16 => self.integer(random, i16::MAX.into()).into(),
            DataType::Int32 => self.integer(random, i32::MAX.into()).into(),
            DataType::Int64 => self.integer(random, 9_007_199_254_740_993).into(),
            DataType::Float32 | DataType::Float64 => {
                let number = self.number(random);
                Number::from_f64(number).map_or(Value::Null, Value::Number)
            }
            DataType::Decimal128(precision, scale) => self.decimal(random, *precision, *scale),
            DataType::Struct(fields) => {
                let cells = fields.iter().map(|field| (field.name().clone(), self.cell(random, field, moment)));
                Value::Object(cells.collect::<Map<_, _>>())
            }
            DataType::List(item) => (0..random.random_range(0..3)).map(|_| self.cell(random, item, moment)).collect(),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => {
                    let entries = (0..random.random_range(0..3)).map(|_| {
                        let key = self.cell(random, &fields[0].as_ref().clone().with_nullable(false), moment);
                        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                        (key, self.cell(random, &fields[1], moment))
                    });
                    Value::Object(entries.collect::<Map<_, _>>())
                }
                _ => Value::Null,
            },
            _ => Value::Null,
        }
    }

    fn text(&self, random: &mut ChaCha8Rng) -> String {
        match self.hints.texts.choose(random) {
            Some(text) if random.random_ratio(3, 5) => text.clone(),
            _ => (*["a", "b", "c", "", "ß, \"x\""].choose(random).expect("five")).to_owned(),
        }
    }

    /// A small number, or one that the pipeline talks about, or one next to it, or a large one.
    fn integer(&self, random: &mut ChaCha8Rng, most: i64) -> i64 {
        let hint = self.hints.numbers.choose(random).map(|number| *number as i64);
        match (random.random_range(0..10), hint) {
            (0..5, Some(hint)) => (hint + random.random_range(-1..2)).clamp(-most - 1, most),
            (9, _) => most,
            _ => random.random_range(-2..6),
        }
    }

    fn number(&self, random: &mut ChaCha8Rng) -> f64 {
        // Multiples of a quarter: sums of them are exact in any order.
        match self.hints.numbers.choose(random) {
            Some(hint) if random.random() => hint + f64::from(random.random_range(-2_i32..3)) / 4.0,
            _ => f64::from(random.random_range(-20_i32..100)) / 4.0,
        }
    }

    fn decimal(&self, random: &mut ChaCha8Rng, precision: u8, scale: i8) -> Value {
        let digits = u32::from(precision).saturating_sub(scale.max(0).unsigned_abs().into()).min(12);
        let most = 10_i64.pow(digits) - 1;
        let whole = self.integer(random, most).clamp(-most, most);
        let fraction = if scale >= 2 && most > 0 { random.random_range(0..100) } else { 0 };
        if scale >= 2 { format!("{whole}.{fraction:02}").into() } else { whole.to_string().into() }
    }
}

/// `2024-01-01T00:00:00.000001Z`.
fn timestamp(us: i64) -> String {
    let time = DateTime::from_timestamp_micros(us).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

impl Moment {
    fn draw(self, random: &mut ChaCha8Rng) -> i64 {
        let Self { event_us, window_us, delay_us } = self;
        let edge_us = event_us - event_us.rem_euclid(window_us);
        match random.random_range(0..20) {
            0..8 => event_us + random.random_range(0..window_us),
            8..11 => edge_us + window_us * random.random_range(-2..3) + random.random_range(-1..2),
            11..14 => event_us - delay_us + random.random_range(-1_001..1_002),
            14 => event_us,
            15..17 => event_us - random.random_range(0..4 * window_us),
            17 => event_us - 100 * window_us,
            _ => event_us + random.random_range(0..3) * window_us,
        }
    }
}
