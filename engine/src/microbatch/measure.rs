//! How long the steps of one trigger took, and the progress report made from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::environment::Clock;

/// The clock of one trigger.
#[derive(Debug)]
pub(super) struct TriggerTimes {
    clock: Arc<dyn Clock>,
    /// Wall clock at the trigger's start (microseconds).
    pub(super) started_wall_us: i64,
    started_us: u64,
    steps_us: BTreeMap<&'static str, u64>,
}

impl TriggerTimes {
    pub(super) fn begin(clock: Arc<dyn Clock>) -> Self {
        let (started_wall_us, started_us) = (clock.now_us(), clock.monotonic_us());
        Self { clock, started_wall_us, started_us, steps_us: BTreeMap::new() }
    }

    /// The moment from which [`TriggerTimes::step`] measures.
    pub(super) fn now_us(&self) -> u64 {
        self.clock.monotonic_us()
    }

    /// The step that began at `since_us` ends now.
    pub(super) fn step(&mut self, name: &'static str, since_us: u64) {
        *self.steps_us.entry(name).or_default() += self.clock.monotonic_us().saturating_sub(since_us);
    }

    /// Microseconds by step.
    pub(super) fn steps_us(&self) -> &BTreeMap<&'static str, u64> {
        &self.steps_us
    }

    /// Milliseconds since the trigger began.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.clock.monotonic_us().saturating_sub(self.started_us) / 1000
    }

    /// Milliseconds by step, Spark's names, with the whole trigger.
    pub(super) fn durations_ms(&self) -> BTreeMap<&'static str, u64> {
        let mut durations: BTreeMap<_, _> = self.steps_us.iter().map(|(name, us)| (*name, us / 1000)).collect();
        durations.insert("triggerExecution", self.elapsed_ms());
        durations
    }
}
