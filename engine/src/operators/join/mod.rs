//! The join of two streams: each side's rows are remembered until the other side can match them no more.
//!
//! ```text
//! left input  -> exchange by key --\
//!                                   StreamJoinExec (run.rs) -> joined rows, padded rows
//! right input -> exchange by key --/      |         |
//!                                   buffer.rs x 2   pairs.rs    side.rs, bound.rs: what a side is, when it is forgotten
//! ```
//! The full version has to handle: inner, left, right, full and left semi joins; late rows on each side by its own event
//! time; rows that fail their own side's part of the condition (never stored; padded at once on an outer side); a pair of
//! two new rows (once); one row against very many (in pieces); null keys (equal to each other: where they must not match,
//! a filter below the join has removed them); -0.0 and NaN keys; window structs as keys; key expressions; an event time
//! that is null (never leaves); rows that come when the watermark has passed them already; a matched flag that changes
//! while the row is buffered; several partitions; a consumer that stops reading early (all state changes happen
//! before the first row comes out); and a batch that is run again.
//!
//! Absent from here: what bounds a side (`plan/join_bounds.rs`), and the join of a stream with a static table, which is
//! DataFusion's own.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;

pub mod bound;
mod buffer;
mod pairs;
mod run;
mod side;

#[cfg(test)]
mod tests;

pub use pairs::PairFilter;
pub use side::JoinSide;

use self::buffer::Buffer;
use self::run::PartitionRun;
use super::stateful::OperatorNumbers;
use super::stateful_exec::{StatefulRows, StatefulTask, StatefulWork, answer_once};
use crate::state::StoreSpec;

/// What is joined, and how.
#[derive(Debug)]
pub struct StreamJoinParts {
    /// The left side.
    pub left: JoinSide,
    /// The right side.
    pub right: JoinSide,
    /// Whether only left rows come out, each once, when it has a match.
    pub semi: bool,
    /// What a pair with equal keys must satisfy besides.
    pub filter: Option<PairFilter>,
}

impl StreamJoinParts {
    /// What the state of this join holds: a store per side.
    pub fn store_specs(&self) -> Result<Vec<StoreSpec>> {
        Ok(vec![buffer::store_spec(&self.left)?, buffer::store_spec(&self.right)?])
    }
}

/// Joins two streams: the columns of the left side, then (but for a semi join) of the right side.
impl StatefulWork for StreamJoinParts {
    fn node_name(&self) -> &'static str {
        "StreamJoinExec"
    }

    fn describe(&self, _inputs: &[Arc<dyn ExecutionPlan>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.semi, self.left.outer, self.right.outer) {
            (true, _, _) => "LeftSemi",
            (_, true, true) => "Full",
            (_, true, false) => "Left",
            (_, false, true) => "Right",
            (_, false, false) => "Inner",
        };
        write!(f, "type={kind}")?;
        match &self.filter {
            Some(filter) => write!(f, " filter={}", filter.expr),
            None => Ok(()),
        }
    }

    fn run(self: Arc<Self>, task: StatefulTask, mut inputs: Vec<SendableRecordBatchStream>) -> Result<StatefulRows> {
        let right = inputs.remove(1);
        let left = inputs.remove(0);
        Ok(answer_once(async move {
            let (left, right): (Vec<RecordBatch>, Vec<RecordBatch>) =
                futures::future::try_join(left.try_collect(), right.try_collect()).await?;
            let store = |side: &JoinSide| task.operator.store(task.partition, side.name);
            let (left_store, right_store) = (store(&self.left)?, store(&self.right)?);
            let (mut left_store, mut right_store) = (left_store.lock().await, right_store.lock().await);
            let mut run = PartitionRun {
                parts: &self,
                left: Buffer::new(&self.left, left_store.as_mut(), task.batch.id),
                right: Buffer::new(&self.right, right_store.as_mut(), task.batch.id),
                watermarks: task.watermarks(),
                schema: &task.schema,
                clock: task.operator.clock.as_ref(),
                numbers: OperatorNumbers::default(),
                out: vec![],
            };
            run.left.expire_old(task.is_first_batch(), &self.left)?;
            run.right.expire_old(task.is_first_batch(), &self.right)?;
            run.run(left, right)?;
            task.operator.count(run.numbers);
            Ok(run.out)
        }))
    }
}
