//! The progress reports of all lives of a process: what the engine itself says about each batch.
//!
//! A listener of each life's session writes them down here, outside the process, where a crash does not reach. A batch
//! that died between its last log entry and its report has none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wavetank_engine::progress::StreamingQueryProgress;
use wavetank_engine::query::StreamingQueryListener;

/// Reports by name of the query and batch. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    reports: Arc<Mutex<BTreeMap<String, BTreeMap<u64, BatchReport>>>>,
}

/// What the engine says about a batch, as far as a model can say it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// Rows read, over all sources.
    pub input_rows: u64,
    /// Stateful operators, the last of the pipeline first.
    pub operators: Vec<OperatorReport>,
}

/// What the engine says about a stateful operator after a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorReport {
    /// Spark's name.
    pub name: &'static str,
    /// Rows in its state.
    pub state_rows: u64,
    /// Late rows that it dropped in this batch.
    pub late: u64,
}

impl Reports {
    /// The listener for one life's session.
    pub fn listener(&self) -> Arc<dyn StreamingQueryListener> {
        Arc::new(self.clone())
    }

    /// All that were written down so far.
    pub fn all(&self) -> BTreeMap<String, BTreeMap<u64, BatchReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl StreamingQueryListener for Reports {
    fn on_query_progress(&self, progress: &StreamingQueryProgress) {
        let operators = progress.state_operators.iter().map(|operator| OperatorReport {
            name: operator.operator_name,
            state_rows: operator.num_rows_total,
            late: operator.num_rows_dropped_by_watermark,
        });
        let report = BatchReport { input_rows: progress.num_input_rows, operators: operators.collect() };
        let name = progress.name.clone().unwrap_or_default();
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.entry(name).or_default().insert(progress.batch_id, report);
    }
}
