//! Brings the partitions of an input together, one after the other.
//!
//! DataFusion's own coalescing hands rows on as they arrive. Which rows a LIMIT lets pass, which of several equal keys a
//! deduplication keeps, and what `first()` and `collect_list()` answer would then depend on which partition was read
//! faster, and a batch that is run again could answer something else. Partitions are read at the same time all the same:
//! those whose turn has not come fill a buffer.
//!
//! The full version has to handle: any number of partitions; a consumer that leaves off in the middle (the rest is read
//! by [`super::read_to_end`] where something must see it); an error in one partition; a plan that is run again.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;

use super::stateless_exec::{StatelessWork, plain_properties};

/// How many batches of rows a partition may be ahead of its turn. What comes here is mostly reduced to groups already,
/// and the operator above keeps a batch of the stream in memory anyway.
const AHEAD: usize = 1024;

/// All partitions of the input as one, in their order.
#[derive(Debug)]
pub struct InOrderWork;

impl StatelessWork for InOrderWork {
    fn node_name(&self) -> &'static str {
        "InOrderExec"
    }

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> PlanProperties {
        plain_properties(input, input.schema(), 1)
    }

    fn run(
        self: Arc<Self>,
        input: &Arc<dyn ExecutionPlan>,
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let partitions = input.output_partitioning().partition_count();
        let begin = |partition| Ok(spawn_buffered(input.execute(partition, Arc::clone(&context))?, AHEAD));
        let streams = (0..partitions).map(begin).collect::<Result<Vec<_>>>()?;
        let rows = futures::stream::iter(streams).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(input.schema(), rows)))
    }
}
