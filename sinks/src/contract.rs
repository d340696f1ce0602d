//! What every sink that can be looked at must do, as one suite that runs on each of them.
//!
//! A [`Subject`] starts a run of its sink and tells what a reader sees. The suite panics at the first broken promise.

use std::sync::Arc;

use async_trait::async_trait;
use wavetank_engine::sink::{OutputBatch, Sink};

use crate::testing::{batch, broken_batch, rows};

/// A sink under test, and its reader.
#[async_trait]
pub(crate) trait Subject {
    /// A new run of the query, which goes on with this batch.
    async fn start(&self, next_batch_id: u64) -> Arc<dyn Sink>;

    /// The values of column `v` that a reader sees, in order.
    async fn visible(&self) -> Vec<i32>;

    /// Whether what was committed is still there in a new run.
    fn survives_restart(&self) -> bool;

    /// Whether a batch replaces the ones before.
    fn replaces(&self) -> bool {
        false
    }
}

/// A batch of two partitions whose values are `10 * id + 1 ..= 10 * id + 3`.
fn three(batch_id: u64) -> OutputBatch {
    let first = batch_id as i32 * 10;
    batch(batch_id, vec![rows(&[("a", first + 1), ("b", first + 2)]), rows(&[]), rows(&[("a", first + 3)])])
}

/// Runs the suite. The subject must be new; each part goes on where the one before ended.
pub(crate) async fn check(subject: &dyn Subject) {
    let sink = subject.start(0).await;
    assert_eq!(subject.visible().await, Vec::<i32>::new(), "a new sink shows nothing");
    sink.write(three(0)).await.unwrap();
    assert_eq!(subject.visible().await, Vec::<i32>::new(), "what is written and not committed is not visible");
    sink.write(three(0)).await.unwrap();
    sink.commit(0).await.unwrap();
    assert_eq!(subject.visible().await, [1, 2, 3], "two writes and one commit show the batch once");
    sink.commit(0).await.unwrap();
    assert_eq!(subject.visible().await, [1, 2, 3], "a second commit changes nothing");
    sink.write(batch(0, vec![rows(&[("other", 99)])])).await.unwrap();
    sink.commit(0).await.unwrap();
    assert_eq!(subject.visible().await, [1, 2, 3], "a batch that is visible is skipped");

    let mut failing = three(1);
    failing.partitions.extend(broken_batch(1).partitions);
    let error = sink.write(failing).await.unwrap_err().to_string();
    assert!(error.contains("the plan failed"), "the plan's own error is told: {error}");
    assert_eq!(subject.visible().await, [1, 2, 3], "a batch that failed is not visible");
    assert!(sink.commit(1).await.is_err(), "a batch that failed cannot be committed");
    sink.write(three(1)).await.unwrap();
    sink.commit(1).await.unwrap();
    let both = if subject.replaces() { vec![11, 12, 13] } else { vec![1, 2, 3, 11, 12, 13] };
    assert_eq!(subject.visible().await, both, "a batch that failed can be written again");
    sink.write(batch(2, vec![])).await.unwrap();
    sink.commit(2).await.unwrap();
    let after_empty = if subject.replaces() { vec![] } else { both };
    assert_eq!(subject.visible().await, after_empty, "a batch without partitions is a batch");
    assert!(sink.commit(3).await.is_err(), "a batch that was never written cannot be committed");

    sink.write(three(3)).await.unwrap();
    let restarted = subject.start(3).await;
    let before = if subject.survives_restart() { after_empty } else { vec![] };
    assert_eq!(subject.visible().await, before, "a batch of a run that died before its commit is not visible");
    restarted.commit(2).await.unwrap();
    assert_eq!(subject.visible().await, before, "a commit of an earlier run changes nothing");
    restarted.write(three(3)).await.unwrap();
    restarted.commit(3).await.unwrap();
    let expected = if subject.replaces() { vec![31, 32, 33] } else { [before, vec![31, 32, 33]].concat() };
    assert_eq!(subject.visible().await, expected, "a batch that runs again is there once");
    restarted.stop().await.unwrap();

    if subject.survives_restart() {
        // The run died between the sink's commit and the commit log: the batch runs again.
        let again = subject.start(3).await;
        again.write(batch(3, vec![rows(&[("other", 99)])])).await.unwrap();
        again.commit(3).await.unwrap();
        assert_eq!(subject.visible().await, expected, "a visible batch that runs again in a new run is skipped");
    }
}
