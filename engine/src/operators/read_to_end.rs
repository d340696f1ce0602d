//! What remembers must see all of its input, whether or not somebody above still wants rows.
//!
//! DataFusion leaves off reading when the answer is known: LIMIT after enough rows, a hash join whose other side is
//! empty. Below it an operator would not evict, and a watermark node not see the rest of the batch. So whoever must run
//! to the end is wrapped: its stream is also noted in the [`Batch`](super::batch::Batch), and the driver reads what
//! is left after the sink has had its rows.
//!
//! The full version has to handle: streams that were never asked, that were dropped in the middle, or that were read to
//! the end; a wrapped stream below another one (the upper one is read first, it needs the rows of the lower one); a
//! consumer in a task that is being aborted; errors in what nobody asked for (they fail the batch all the same); LIMIT
//! of row by row work, below which Spark does not read on either ([`RowDemand`]).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::stream::poll_fn;

use super::batch::BatchContext;
use super::limit::RowDemand;
use super::stateless_exec::StatelessWork;

/// A stream that its consumer and the driver can read, one after the other; `None` at its end.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Option<SendableRecordBatchStream>>>);

impl Shared {
    fn set(&self, stream: SendableRecordBatchStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = stream.as_mut() else { return Poll::Ready(None) };
        let polled = running.poll_next_unpin(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            *stream = None;
        }
        polled
    }
}

/// The streams of a batch that have to be read to the end, upper ones before those below them.
#[derive(Default)]
pub struct Unread {
    streams: Mutex<Vec<Shared>>,
}

impl Unread {
    fn note(&self) -> Shared {
        let shared = Shared::default();
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(shared.clone());
        shared
    }

    /// Begins a run of the plan.
    pub fn begin(&self) -> Reading<'_> {
        Reading { unread: self }
    }
}

/// A run of the plan. However it ends, no stream stays behind: streams hold the batch that holds them.
#[derive(Debug)]
pub struct Reading<'a> {
    unread: &'a Unread,
}

impl Reading<'_> {
    /// Reads what is left of every stream.
    pub async fn to_end(self) -> Result<()> {
        let mut next = 0;
        loop {
            // Reading an upper stream may begin lower ones.
            let stream = self.unread.streams.lock().unwrap_or_else(PoisonError::into_inner).get(next).cloned();
            let Some(stream) = stream else { return Ok(()) };
            let mut rest = poll_fn(|context| stream.poll(context));
            while rest.next().await.transpose()?.is_some() {}
            next += 1;
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let streams = std::mem::take(&mut *self.unread.streams.lock().unwrap_or_else(PoisonError::into_inner));
        for stream in streams {
            *stream.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").finish_non_exhaustive()
    }
}

/// Passes rows on; what is not asked for is read at the end of the batch.
#[derive(Debug)]
pub struct ReadToEndWork {
    /// Where the batch is that notes the streams.
    pub context: Arc<BatchContext>,
}

impl StatelessWork for ReadToEndWork {
    fn node_name(&self) -> &'static str {
        "ReadToEndExec"
    }

    fn keeps_order(&self) -> bool {
        true
    }

    fn run(
        self: Arc<Self>,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if RowDemand::of(&context).is_some() {
            return input.execute(partition, context);
        }
        // Noted before what is below is executed, and noted by it.
        let shared = self.context.current().unread.note();
        shared.set(input.execute(partition, context)?);
        let rows = poll_fn(move |context| shared.poll(context));
        Ok(Box::pin(RecordBatchStreamAdapter::new(input.schema(), rows)))
    }
}
