//! When the next batch may start (`spec/01` section 5).

use crate::error::{Error, Result};

/// When batches run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// On a grid of this many microseconds, aligned to 1970-01-01T00:00:00Z; 0 is as fast as possible.
    ProcessingTime(i64),
    /// One batch with everything that is there, then the query ends.
    Once,
    /// Batches of the usual size until everything that was there at the start is done, then the query ends.
    AvailableNow,
}

impl Default for Trigger {
    fn default() -> Self {
        Self::ProcessingTime(0)
    }
}

impl Trigger {
    /// A trigger from the text of a `trigger` option: an interval such as `5 seconds`, `once` or `availableNow`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().to_lowercase().replace([' ', '_', '-'], "").as_str() {
            "once" => Ok(Self::Once),
            "availablenow" => Ok(Self::AvailableNow),
            "" | "default" => Ok(Self::default()),
            _ => Self::processing_time(text),
        }
    }

    /// A processing-time trigger from interval text.
    pub fn processing_time(interval: &str) -> Result<Self> {
        let interval_us = crate::sql::duration::trigger_interval_ms(interval)? * 1000;
        if interval_us < 0 {
            return Err(Error::analysis("the interval of trigger should not be negative"));
        }
        Ok(Self::ProcessingTime(interval_us))
    }

    /// The wall-clock time (microseconds) before which the trigger that started at `started_us` has no successor.
    /// An instant exactly on the grid is the start of its interval. Ticks missed by a slow batch are skipped: the
    /// answer may lie in the past by the time the batch has ended.
    pub fn next_us(self, started_us: i64) -> i64 {
        match self {
            Self::ProcessingTime(interval_us) if interval_us > 0 => {
                started_us.div_euclid(interval_us) * interval_us + interval_us
            }
            _ => started_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_aligned_to_the_epoch() {
        let trigger = Trigger::ProcessingTime(10);
        assert_eq!(trigger.next_us(0), 10);
        assert_eq!(trigger.next_us(9), 10);
        assert_eq!(trigger.next_us(10), 20);
        assert_eq!(trigger.next_us(-1), 0);
        assert_eq!(Trigger::default().next_us(7), 7);
    }

    #[test]
    fn trigger_texts() {
        assert_eq!(Trigger::parse("5 seconds").unwrap(), Trigger::ProcessingTime(5_000_000));
        assert_eq!(Trigger::parse("availableNow").unwrap(), Trigger::AvailableNow);
        assert_eq!(Trigger::parse("Once").unwrap(), Trigger::Once);
        assert!(Trigger::parse("-1 second").unwrap_err().to_string().contains("negative"));
    }
}
