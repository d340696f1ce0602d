//! What users implement for transformWithState, and the little types it is called with.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handle::StatefulProcessorHandle;
use crate::error::{Error, Result};
use crate::rows::Values;
use crate::sink::OutputMode;

/// What timers and lifetimes are measured by (Spark: `TimeMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeMode {
    /// No timers, no lifetimes.
    #[default]
    None,
    /// The clock. A batch runs at every trigger, with data or without.
    ProcessingTime,
    /// The watermark. Late rows are dropped.
    EventTime,
}

impl std::fmt::Display for TimeMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::ProcessingTime => "ProcessingTime",
            Self::EventTime => "EventTime",
        })
    }
}

/// How long what is written to a state variable stays: each value, list element and map entry from when it was written
/// last. Needs [`TimeMode::ProcessingTime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TtlConfig {
    /// Milliseconds; 0 is for ever.
    pub duration_ms: i64,
}

impl TtlConfig {
    /// For ever.
    pub const NONE: Self = Self { duration_ms: 0 };

    /// For Spark's duration text, such as `"1 hour"`.
    pub fn of(duration: &str) -> Result<Self> {
        let duration_ms = crate::sql::duration::watermark_delay_ms(duration)?;
        if duration_ms == 0 {
            return Err(Error::analysis(format!(
                "A TTL must be positive, and '{duration}' is not. Use TtlConfig::NONE."
            )));
        }
        Ok(Self { duration_ms })
    }
}

/// The times of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerValues {
    pub(crate) processing_ms: i64,
    pub(crate) watermark_ms: i64,
}

impl TimerValues {
    /// The time of the batch, milliseconds since 1970.
    pub fn get_current_processing_time_ms(&self) -> i64 {
        self.processing_ms
    }

    /// The watermark of the batch, milliseconds since 1970; 0 without one.
    pub fn get_current_watermark_ms(&self) -> i64 {
        self.watermark_ms
    }
}

/// Which timer has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredTimerInfo {
    pub(crate) expiry_ms: i64,
}

impl ExpiredTimerInfo {
    /// The time that the timer was registered for, milliseconds since 1970.
    pub fn get_expiry_time_in_ms(&self) -> i64 {
        self.expiry_ms
    }
}

/// A user's operator over groups, with state variables and timers (Spark: `StatefulProcessor`).
///
/// # Contract
/// For every state partition and batch the processor is cloned from the one that was given to `transform_with_state`
/// and then called in this order: `init`; in the first batch `handle_initial_state` for each initial row; then
/// `handle_input_rows` once for each key with rows; then `handle_expired_timer` for each timer whose time has come, in
/// order of time; then `close`. What a processor keeps in fields of its own is gone after the batch; what is to stay
/// goes into state variables, which `init` makes, by the same names every time. `init` is called once more when the
/// query is planned, to learn of the variables; state cannot be used then.
pub trait StatefulProcessor: Clone + Send + Sync + 'static {
    /// The key: the value of the only grouping column, else a tuple or struct of them.
    type Key: DeserializeOwned + 'static;
    /// A row of the input.
    type Row: DeserializeOwned + 'static;
    /// A row of the result.
    type Output: Serialize + DeserializeOwned + 'static;

    /// Makes the state variables, and keeps them (and the handle, for timers) in the processor.
    fn init(&mut self, handle: &StatefulProcessorHandle, output_mode: OutputMode, time_mode: TimeMode) -> Result<()>;

    /// The rows of one key.
    fn handle_input_rows(
        &mut self,
        key: &Self::Key,
        rows: Values<'_, Self::Row>,
        timers: &TimerValues,
    ) -> Result<Vec<Self::Output>>;

    /// A timer of one key has expired. It is still listed; afterwards it is gone.
    fn handle_expired_timer(
        &mut self,
        _key: &Self::Key,
        _timers: &TimerValues,
        _expired: &ExpiredTimerInfo,
    ) -> Result<Vec<Self::Output>> {
        Ok(vec![])
    }

    /// The batch is over.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A processor that begins with rows of a static frame (Spark: `StatefulProcessorWithInitialState`).
pub trait StatefulProcessorWithInitialState: StatefulProcessor {
    /// A row of the initial state.
    type Initial: DeserializeOwned + 'static;

    /// A row of the initial state; there may be several of a key.
    fn handle_initial_state(&mut self, key: &Self::Key, initial: Self::Initial, timers: &TimerValues) -> Result<()>;
}
