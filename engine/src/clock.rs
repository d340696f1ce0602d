//! [`SystemClock`]: the clock of this machine, the one place of the engine that reads the time.
#![expect(clippy::disallowed_methods, reason = "this is what everything else is told to use instead")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::environment::Clock;

/// A sleep looks at the wall clock again at least this often, since that may be set forward meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The wall clock and the monotonic clock of this machine. Sleeping needs a tokio runtime with time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The clock; its monotonic time starts now.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        wall_us()
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn sleep_until_us(&self, deadline_us: i64) -> BoxFuture<'static, ()> {
        async move {
            loop {
                let left_us = deadline_us.saturating_sub(wall_us());
                let Some(left_us) = u64::try_from(left_us).ok().filter(|us| *us > 0) else { return };
                // The one place that really waits: everybody else asks a `Clock`, in simulated worlds a virtual one.
                tokio::time::sleep(Duration::from_micros(left_us).min(LONGEST_SLEEP)).await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_passes() {
        let clock = SystemClock::new();
        let (wall, monotonic) = (clock.now_us(), clock.monotonic_us());
        clock.sleep_until_us(wall - 1).await;
        clock.sleep_until_us(wall + 3_000).await;
        assert!(clock.now_us() >= wall + 3_000);
        assert!(clock.monotonic_us() >= monotonic + 2_000);
    }
}
