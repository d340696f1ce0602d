//! What a user function sees and changes of one key: its state and its timeout.

use std::fmt;

use crate::error::{Error, Result};
use crate::sql::duration::{Interval, watermark_delay_of};

/// When keys without data are called (Spark: `GroupStateTimeout`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd)]
pub enum GroupStateTimeout {
    /// Never.
    #[default]
    NoTimeout,
    /// When a duration has passed, by the clock. A batch runs at every trigger, with data or without.
    ProcessingTimeTimeout,
    /// When the watermark has passed a time. The input needs a watermark; late rows are dropped.
    EventTimeTimeout,
}

impl fmt::Display for GroupStateTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTimeout => "NoTimeout",
            Self::ProcessingTimeTimeout => "ProcessingTimeTimeout",
            Self::EventTimeTimeout => "EventTimeTimeout",
        })
    }
}

/// The times of a batch, as its functions see them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupTimes {
    pub(crate) timeout: GroupStateTimeout,
    /// The batch timestamp, milliseconds since 1970.
    pub(crate) processing_ms: i64,
    /// The watermark, milliseconds since 1970; `None` without a watermark on the input.
    pub(crate) watermark_ms: Option<i64>,
}

/// The state of one key, handed to a function for one call.
///
/// A timeout holds until the key's next call, whatever that call is: a call that wants to be called again sets it anew.
#[derive(Clone, Debug)]
pub struct GroupState<S> {
    value: Option<S>,
    updated: bool,
    removed: bool,
    timed_out: bool,
    timeout_ms: Option<i64>,
    times: GroupTimes,
}

impl<S> GroupState<S> {
    pub(crate) fn new(value: Option<S>, timed_out: bool, times: GroupTimes) -> Self {
        Self { value, updated: false, removed: false, timed_out, timeout_ms: None, times }
    }

    /// Whether the key has a state.
    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// The state; an error if there is none.
    pub fn get(&self) -> Result<&S> {
        self.value.as_ref().ok_or_else(|| {
            Error::analysis(
                "State is either not defined or has already been removed. Ask exists() first, or use get_option().",
            )
        })
    }

    /// The state, if there is one.
    pub fn get_option(&self) -> Option<&S> {
        self.value.as_ref()
    }

    /// Sets the state. A value that is null (`None`, for a state that is an `Option`) fails the batch.
    pub fn update(&mut self, value: S) {
        self.value = Some(value);
        self.updated = true;
        self.removed = false;
    }

    /// Removes the state.
    pub fn remove(&mut self) {
        self.value = None;
        self.updated = false;
        self.removed = true;
    }

    /// Whether the key is called because its timeout has passed. There is no data then.
    pub fn has_timed_out(&self) -> bool {
        self.timed_out
    }

    /// The key times out this long after the batch's time: Spark's duration text, such as `"10 minutes"` (a month
    /// counts 31 days). Needs [`GroupStateTimeout::ProcessingTimeTimeout`].
    pub fn set_timeout_duration(&mut self, duration: &str) -> Result<()> {
        self.set_timeout_duration_ms(positive_ms(duration)?)
    }

    /// The key times out this many milliseconds after the batch's time.
    pub fn set_timeout_duration_ms(&mut self, duration_ms: i64) -> Result<()> {
        if self.times.timeout != GroupStateTimeout::ProcessingTimeTimeout {
            return Err(Error::analysis(
                "Cannot set timeout duration without enabling processing time timeout in [map|flatMap]GroupsWithState. \
                 Pass GroupStateTimeout::ProcessingTimeTimeout.",
            ));
        }
        if duration_ms <= 0 {
            return Err(Error::analysis("Timeout duration must be positive. Give at least one millisecond."));
        }
        self.timeout_ms = Some(self.times.processing_ms.saturating_add(duration_ms));
        Ok(())
    }

    /// The key times out when the watermark is later than this time (milliseconds since 1970). Needs
    /// [`GroupStateTimeout::EventTimeTimeout`]. A time before the current watermark is an error.
    pub fn set_timeout_timestamp(&mut self, timestamp_ms: i64) -> Result<()> {
        self.check_event_time()?;
        if timestamp_ms <= 0 {
            return Err(Error::analysis("Timeout timestamp must be positive. Give milliseconds since 1970."));
        }
        match self.times.watermark_ms {
            Some(watermark_ms) if timestamp_ms < watermark_ms => Err(Error::analysis(format!(
                "Timeout timestamp ({timestamp_ms}) cannot be earlier than the current watermark ({watermark_ms}). Set it \
                 to the later of the two."
            ))),
            _ => {
                self.timeout_ms = Some(timestamp_ms);
                Ok(())
            }
        }
    }

    /// [`GroupState::set_timeout_timestamp`] with a duration added to the time.
    pub fn set_timeout_timestamp_after(&mut self, timestamp_ms: i64, additional_duration: &str) -> Result<()> {
        self.check_event_time()?;
        self.set_timeout_timestamp(positive_ms(additional_duration)?.saturating_add(timestamp_ms))
    }

    fn check_event_time(&self) -> Result<()> {
        if self.times.timeout == GroupStateTimeout::EventTimeTimeout {
            return Ok(());
        }
        Err(Error::analysis(
            "Cannot set timeout timestamp without enabling event time timeout in [map|flatMap]GroupsWithState. Pass \
             GroupStateTimeout::EventTimeTimeout.",
        ))
    }

    /// The watermark of the batch in milliseconds since 1970: 0 in the first batches, an error without `with_watermark`.
    pub fn get_current_watermark_ms(&self) -> Result<i64> {
        self.times.watermark_ms.ok_or_else(|| {
            Error::analysis(
                "Cannot get event time watermark timestamp without setting watermark before \
                 [map|flatMap]GroupsWithState. Call with_watermark first.",
            )
        })
    }

    /// The time of the batch in milliseconds since 1970. It does not change within a batch.
    pub fn get_current_processing_time_ms(&self) -> i64 {
        self.times.processing_ms
    }

    /// Whether [`GroupState::update`] was the last change.
    pub fn is_updated(&self) -> bool {
        self.updated
    }

    /// Whether [`GroupState::remove`] was the last change.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// The timeout set in this call, in milliseconds since 1970.
    pub fn timeout_timestamp_ms(&self) -> Option<i64> {
        self.timeout_ms
    }

    pub(crate) fn into_value(self) -> Option<S> {
        self.value
    }
}

/// Milliseconds of a duration that is not negative.
fn positive_ms(text: &str) -> Result<i64> {
    let interval = Interval::parse(text)?;
    watermark_delay_of(interval, text).map_err(|error| match error.class() {
        // Too large.
        Some(_) => error,
        None => Error::analysis(format!("Provided duration ({text}) is negative. Give one that is not.")),
    })
}

/// A [`GroupState`] for testing a function without a query (Spark: `TestGroupState`).
#[derive(Clone, Copy, Debug)]
pub struct TestGroupState {
    times: GroupTimes,
    timed_out: bool,
}

impl TestGroupState {
    /// A batch at time 0 without a watermark.
    pub fn new(timeout: GroupStateTimeout) -> Self {
        Self { times: GroupTimes { timeout, processing_ms: 0, watermark_ms: None }, timed_out: false }
    }

    /// The time of the batch, milliseconds since 1970.
    pub fn at_processing_time_ms(mut self, ms: i64) -> Self {
        self.times.processing_ms = ms;
        self
    }

    /// The watermark, milliseconds since 1970.
    pub fn with_watermark_ms(mut self, ms: i64) -> Self {
        self.times.watermark_ms = Some(ms);
        self
    }

    /// The call is one of a key whose timeout has passed.
    pub fn timed_out(mut self) -> Self {
        self.timed_out = true;
        self
    }

    /// The state to call the function with. [`GroupState::is_updated`], [`GroupState::is_removed`] and
    /// [`GroupState::timeout_timestamp_ms`] tell afterwards what it did.
    pub fn state<S>(self, value: Option<S>) -> GroupState<S> {
        GroupState::new(value, self.timed_out, self.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    /// `spec/09` T01.
    #[test]
    fn state_exists_from_update_to_remove() {
        let mut state = TestGroupState::new(GroupStateTimeout::NoTimeout).state::<i64>(None);
        assert!(!state.exists());
        assert!(refused(state.get().copied()).starts_with("State is either not defined or has already been removed"));
        state.update(3);
        assert_eq!((state.exists(), state.get().unwrap(), state.is_updated()), (true, &3, true));
        state.remove();
        assert_eq!(
            (state.exists(), state.get_option(), state.is_removed(), state.is_updated()),
            (false, None, true, false)
        );
        state.update(4);
        assert_eq!((state.exists(), state.is_removed(), state.is_updated()), (true, false, true));
    }

    /// `spec/09` T02.
    #[test]
    fn durations_are_counted_from_the_time_of_the_batch() {
        let test = TestGroupState::new(GroupStateTimeout::ProcessingTimeTimeout).at_processing_time_ms(1000);
        let mut state = test.state::<i64>(None);
        state.set_timeout_duration("-1 month 31 days 1 second").unwrap();
        assert_eq!(state.timeout_timestamp_ms(), Some(2000));
        state.set_timeout_duration_ms(500).unwrap();
        state.update(1);
        state.remove();
        assert_eq!(state.timeout_timestamp_ms(), Some(1500));
        for (text, why) in [
            ("-1 month", "Provided duration (-1 month) is negative"),
            ("1 month -32 day", "is negative"),
            ("-2 second", "Provided duration (-2 second) is negative"),
            ("1 month -31 day", "Timeout duration must be positive"),
            ("soon", "soon"),
        ] {
            let error = refused(state.set_timeout_duration(text));
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(refused(state.set_timeout_duration_ms(0)).starts_with("Timeout duration must be positive"));
        assert!(refused(state.set_timeout_timestamp(5000)).starts_with("Cannot set timeout timestamp without"));
        assert!(refused(state.get_current_watermark_ms()).starts_with("Cannot get event time watermark"));
        assert_eq!(state.get_current_processing_time_ms(), 1000);
    }

    /// `spec/09` T03.
    #[test]
    fn timestamps_may_not_be_before_the_watermark() {
        let test = TestGroupState::new(GroupStateTimeout::EventTimeTimeout).with_watermark_ms(1000);
        let mut state = test.state(Some(1));
        state.set_timeout_timestamp(5000).unwrap();
        state.update(2);
        assert_eq!(state.timeout_timestamp_ms(), Some(5000));
        state.set_timeout_timestamp(1000).unwrap();
        state.set_timeout_timestamp_after(10_000, "1 month -31 day 3 seconds").unwrap();
        assert_eq!(state.timeout_timestamp_ms(), Some(13_000));
        assert!(
            refused(state.set_timeout_timestamp(999))
                .contains("(999) cannot be earlier than the current watermark (1000)")
        );
        assert!(refused(state.set_timeout_timestamp(-10_000)).starts_with("Timeout timestamp must be positive"));
        for extra in ["-3 second", "-1 month", "1 month -32 day"] {
            assert!(refused(state.set_timeout_timestamp_after(10_000, extra)).contains("is negative"), "{extra}");
        }
        assert!(refused(state.set_timeout_duration("1 second")).starts_with("Cannot set timeout duration without"));
        assert_eq!(state.get_current_watermark_ms().unwrap(), 1000);
    }
}
