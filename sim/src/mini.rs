//! The smallest engine that is exactly once: promise, run, commit, done. With bugs to switch on, to test the simulator.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use wavetank_engine::Result;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, Sink, SinkContext};
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, SourceDefinition};
use wavetank_engine::sql::types;
use wavetank_engine::storage::{Folder, PutNew};

use crate::scenario::{Scenario, Step};
use crate::subject::{Life, Running, Subject};

/// What is wrong with a [`Mini`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// The batch is done before its sink is.
    DoneBeforeSink,
    /// A batch that was promised is taken for done after a restart.
    PromiseIsDone,
    /// The source may forget a batch before the sink has it.
    ReleaseBeforeSink,
    /// A batch that runs again has other rows.
    OtherRows,
    /// It waits for ever when a log entry is already there.
    Hangs,
    /// It panics when it is started a second time.
    Panics,
}

/// The subject.
pub struct Mini {
    pub bug: Bug,
}

struct Alive {
    bug: Bug,
    log: Folder,
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    /// The next batch, and where it starts.
    next: Mutex<(u64, Option<Offset>)>,
    /// A batch that was promised and not done, with its end.
    promised: Mutex<Option<Offset>>,
    again: bool,
}

/// Blocks of rows, one batch each: `[["a", "b"], ["c"]]`.
pub fn scenario(blocks: &[&[&str]]) -> Scenario {
    let mut steps = Vec::new();
    for block in blocks {
        let rows = block.iter().map(|value| format!(r#"{{"v":"{value}"}}"#)).collect();
        steps.push(Step::Add { tape: "events".into(), rows });
        steps.push(Step::Settle);
    }
    Scenario { seed: 1, steps, ..Scenario::default() }
}

impl Subject for Mini {
    fn start<'a>(&'a self, life: Life<'a>) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        async move {
            let log = life.environment.storage.folder("checkpoint")?;
            let schema = Some(types::parse_ddl_schema("v STRING")?);
            let options = Options::new().with("name", "events").with("blocksPerTrigger", "1");
            let definition = SourceDefinition { schema, options };
            let schema = life.sources[0].stream_schema(&definition, &life.environment).await?;
            let context = SourceContext {
                environment: life.environment.clone(),
                folder: log.child("sources/0"),
                schema: schema.clone(),
            };
            let source = life.sources[0].stream(&definition, context).await?;
            let again = log.put_new("metadata", "v1\n{}".into()).await? != PutNew::Written || life.number > 0;
            assert!(self.bug != Bug::Panics || !again, "planted: started a second time");
            for name in ["offsets", "commits"] {
                life.environment.storage.settle(&log.child(name)).await?;
            }
            let (next, promised) = recover(&log, self.bug).await?;
            let sink = life.sinks[0]
                .sink(SinkContext {
                    environment: life.environment.clone(),
                    schema,
                    output_mode: OutputMode::Append,
                    options: Options::new(),
                    partition_by: Vec::new(),
                    query_name: None,
                    query_id: "mini".into(),
                    next_batch_id: next.0,
                    is_new: false,
                    interrupted: false,
                })
                .await?;
            let (next, promised) = (Mutex::new(next), Mutex::new(promised));
            Ok(Box::new(Alive { bug: self.bug, log, source, sink, next, promised, again }) as Box<dyn Running>)
        }
        .boxed_local()
    }
}

type Start = ((u64, Option<Offset>), Option<Offset>);

async fn recover(log: &Folder, bug: Bug) -> Result<Start> {
    let mut next = 0_u64;
    while log.get(&format!("commits/{next}")).await?.is_some() {
        next += 1;
    }
    let entry = async |batch: u64| -> Result<Option<Offset>> {
        let text = log.get(&format!("offsets/{batch}")).await?;
        Ok(text.map(|text| Offset::new(String::from_utf8_lossy(&text[3..]).into_owned())))
    };
    let mut start = match next.checked_sub(1) {
        Some(last) => entry(last).await?,
        None => None,
    };
    let mut promised = entry(next).await?;
    if bug == Bug::PromiseIsDone && promised.is_some() {
        next += 1;
        start = promised.take();
    }
    Ok(((next, start), promised))
}

impl Alive {
    /// One batch; `false` when there is nothing to do.
    async fn batch(&self) -> Result<bool> {
        let (batch, start) = self.next.lock().expect("one task").clone();
        let promised = self.promised.lock().expect("one task").take();
        let rerun = promised.is_some();
        let end = match promised {
            Some(end) => end,
            None => {
                let Some(end) = self.source.latest_offset(start.as_ref(), ReadLimit::Default).await? else {
                    return Ok(false);
                };
                if Some(&end) == start.as_ref() {
                    return Ok(false);
                }
                let entry = format!("v1\n{end}");
                if self.log.put_new(&format!("offsets/{batch}"), entry.into()).await? != PutNew::Written {
                    return Err(wavetank_engine::Error::internal("another run promised this batch"));
                }
                end
            }
        };
        if self.bug == Bug::Hangs && rerun {
            std::future::pending::<()>().await;
        }
        let splits = self.source.read(start.as_ref(), &end, None).await?;
        if self.bug == Bug::ReleaseBeforeSink {
            self.source.commit(&end).await?;
        }
        let twice = if self.bug == Bug::OtherRows && self.again { 2 } else { 1 };
        let partitions: Result<Vec<_>> = splits.iter().cycle().take(splits.len() * twice).map(|s| s.open()).collect();
        self.sink.write(OutputBatch { batch_id: batch, timestamp_ms: 0, partitions: partitions? }).await?;
        let entry = format!("commits/{batch}");
        let done = self.log.put_new(&entry, "v1\n{}".into());
        if self.bug == Bug::DoneBeforeSink {
            done.await?;
            self.sink.commit(batch).await?;
        } else {
            self.sink.commit(batch).await?;
            done.await?;
        }
        self.source.commit(&end).await?;
        *self.next.lock().expect("one task") = (batch + 1, Some(end));
        Ok(true)
    }
}

impl Running for Alive {
    fn settle(&self) -> LocalBoxFuture<'_, Result<()>> {
        async move {
            while self.batch().await? {}
            Ok(())
        }
        .boxed_local()
    }

    fn stop(&self) -> LocalBoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed_local()
    }
}
