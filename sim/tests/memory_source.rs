//! The memory source in simulated worlds: whoever fills it again with the same blocks reads on where the query was.
//!
//! Its rows die with their process, so a test that starts again adds them again, as Spark's own suites do.

use std::num::NonZeroU64;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use wavetank_engine::Result;
use wavetank_engine::session::SessionBuilder;
use wavetank_engine::sink::OutputMode;
use wavetank_engine::sql::parse_ddl_schema;
use wavetank_sim::pipeline::Queries;
use wavetank_sim::subject::{Life, Running, Subject};
use wavetank_sim::sweep::{Depth, sweep};
use wavetank_sim::{Scenario, Step, run};
use wavetank_sources::memory::MemoryStream;

const BLOCKS: [&str; 3] =
    ["{\"k\":\"a\",\"v\":1}\n{\"k\":\"b\",\"v\":2}", "{\"k\":\"a\",\"v\":3}", "{\"k\":\"c\",\"v\":4}"];

/// A count by key over a memory stream.
struct Remembered;

impl Subject for Remembered {
    fn start<'a>(&'a self, life: Life<'a>) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        async move {
            let session = SessionBuilder::new(life.environment).sinks(life.sinks).build()?;
            session.set_conf("spark.sql.shuffle.partitions", "2")?;
            let one = NonZeroU64::MIN;
            let stream = MemoryStream::new(parse_ddl_schema("k STRING, v BIGINT")?).with_blocks_per_trigger(one);
            for block in BLOCKS {
                stream.add_json(block)?;
            }
            let frame = session.stream_of("events", Arc::new(stream), Default::default()).await?;
            frame.create_or_replace_temp_view("events")?;
            let query = session
                .sql("SELECT k, count(*) AS n, sum(v) AS s FROM events GROUP BY k")
                .await?
                .write_stream()
                .format("witness")
                .query_name("out")
                .output_mode(OutputMode::Update)
                .option("checkpointLocation", "checkpoint");
            Ok(Box::new(Queries::new(vec![query.start().await?])) as Box<dyn Running>)
        }
        .boxed_local()
    }
}

#[test]
fn a_memory_source_that_is_filled_again_is_read_on() {
    let scenario = Scenario { seed: 1, steps: vec![Step::Settle, Step::Restart, Step::Settle], ..Scenario::default() };
    let calm = run(&scenario, &Remembered);
    assert_eq!(calm.failures, []);
    let batches: Vec<String> = calm.observed.sinks["out"].filled_batches().iter().map(|rows| rows.join(" ")).collect();
    let expected =
        [r#"{"k":"a","n":1,"s":1} {"k":"b","n":1,"s":2}"#, r#"{"k":"a","n":2,"s":4}"#, r#"{"k":"c","n":1,"s":4}"#];
    assert_eq!(batches, expected);
    let found = sweep(&scenario, &Remembered, &Depth { stride: 2, ..Depth::single() });
    assert!(found.failures.is_empty(), "{:?}", found.failures.first());
    let total = found.total();
    assert_eq!(total.reached, total.exist, "{found}");
}
