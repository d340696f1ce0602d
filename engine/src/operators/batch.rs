//! What changes from batch to batch, handed to a plan that is planned once.
//!
//! Nodes of the physical plan hold a [`BatchContext`]; before each run the driver puts a new [`Batch`] into it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::read_to_end::Unread;
use crate::source::Split;

/// One run of the plan.
#[derive(Debug, Default)]
pub struct Batch {
    /// The batch's id.
    pub id: u64,
    /// The batch timestamp of the offset log (milliseconds since 1970): what `current_timestamp()` answers.
    pub timestamp_ms: i64,
    /// The input of each leaf of the plan, by leaf id; an empty list for a source without news.
    pub splits: Vec<Vec<Arc<dyn Split>>>,
    /// The two watermarks of each stateful operator, by operator id.
    pub watermarks: Vec<OperatorWatermarks>,
    /// What random values of this batch are drawn from: the same again when the batch is run again.
    pub seed: u64,
    /// How many rows each call of a random function has seen in this run.
    pub numbered: Mutex<BTreeMap<usize, u64>>,
    /// What must be read to the end, though nobody asks for it.
    pub unread: Unread,
}

impl Batch {
    /// The number of the first of `rows` more rows that reach this call of a random function.
    pub fn number_rows(&self, call: usize, rows: u64) -> u64 {
        let mut numbered = self.numbered.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbered.entry(call).or_default();
        *next += rows;
        *next - rows
    }
}

/// The watermarks one stateful operator works with in one batch, in milliseconds (`spec/02` section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorWatermarks {
    /// Rows whose event time is <= this are late.
    pub late_ms: i64,
    /// State whose event time is <= this leaves.
    pub evict_ms: i64,
}

impl OperatorWatermarks {
    /// The late-events watermark in microseconds, the unit of event times.
    pub fn late_us(&self) -> i64 {
        self.late_ms.saturating_mul(1000)
    }

    /// The eviction watermark in microseconds.
    pub fn evict_us(&self) -> i64 {
        self.evict_ms.saturating_mul(1000)
    }
}

/// The batch that a plan is running, shared by the plan's nodes and the driver.
#[derive(Debug, Default)]
pub struct BatchContext {
    current: RwLock<Arc<Batch>>,
}

impl BatchContext {
    /// The batch to run now.
    pub fn current(&self) -> Arc<Batch> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the batch that the next run of the plan is.
    pub fn begin(&self, batch: Batch) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(batch);
    }
}
