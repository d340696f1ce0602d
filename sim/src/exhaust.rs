//! Small scenarios for the exhaustive sweep: together they pass every point of the commit protocol.
//!
//! Each sink, each output mode, a first batch, a batch without data, a compacted log, a snapshot of state, a purge, a
//! graceful stop, tapes and files, files of one moment, everything in an object store, a source without end, functions
//! that read the clock, watermarks that come between two runs. `wavetank sim --exhaust` crashes each of them before and
//! after every effect, in every crash image. How many batches a source without end gives depends on how often the query
//! starts, and what a clocked function says on when: these are judged by the model alone
//! ([`Scenario::is_repeatable`]), the others by an undisturbed run too.

use std::collections::BTreeMap;

use crate::blob::ROOT;
use crate::scenario::{Scenario, Step};
use crate::shapes::MARK;

const KEYS: &str = "SELECT k FROM STREAM events WHERE v > 0";
const WINDOWS: &str = "SELECT window(ts, '10 seconds') AS w, k, count(*) AS n FROM STREAM events WATERMARK ts DELAY OF \
                       INTERVAL 5 SECONDS GROUP BY window(ts, '10 seconds'), k";
const COUNTS: &str = "SELECT k, count(*) AS n FROM STREAM events GROUP BY k";
const PLAIN: &str = "SELECT k, v + 1 AS v FROM STREAM events WHERE v > 0";

/// The scenarios, by name.
pub fn scenarios() -> Vec<(&'static str, Scenario)> {
    let tape = |sink, mode, query, blocks| small("tape", sink, mode, query, blocks);
    let set = |scenario: Scenario, key: &str, value: &str| {
        let set = BTreeMap::from([(format!("spark.sql.streaming.{key}"), value.to_owned())]);
        Scenario { settings: BTreeMap::from([(0, set)]), ..scenario }
    };
    let mut stopped = tape("witness", "update", COUNTS, 2);
    stopped.steps.insert(2, Step::Restart);
    let mut scenarios = vec![
        ("files into a folder of JSON, first batch", small("files", "json", "append", PLAIN, 1)),
        ("windows into a folder of JSON, append, a batch without data", tape("json", "append", WINDOWS, 2)),
        ("rows into a folder of Parquet", tape("parquet", "append", PLAIN, 2)),
        ("rows into a folder of CSV", tape("csv", "append", PLAIN, 2)),
        ("windows into a table, update", tape("witness", "update", WINDOWS, 2)),
        ("counts into a table, complete", tape("witness", "complete", COUNTS, 2)),
        ("a graceful stop between two batches", stopped),
        ("a snapshot of state", set(tape("witness", "update", COUNTS, 4), "stateStore.minDeltasForSnapshot", "1")),
        ("a purge of logs and state", set(tape("witness", "update", COUNTS, 4), "minBatchesToRetain", "1")),
        ("a compacted log", tape("json", "append", PLAIN, 11)),
        ("rows into a folder of text", tape("text", "append", KEYS, 2)),
        ("windows into foreach, update", tape("foreach", "update", WINDOWS, 2)),
        ("rows into foreachBatch", tape("foreachBatch", "append", PLAIN, 2)),
        ("counts into a table in memory, complete", tape("memory", "complete", COUNTS, 2)),
        ("counts to the console, complete", tape("console", "complete", COUNTS, 2)),
        ("files of one moment, and one from before", dated()),
        ("a checkpoint, files and a folder of JSON in an object store", remote()),
        ("a source without end", endless()),
        ("windows that get a watermark between two runs", marked_later()),
        ("a join that gets watermarks between two runs", joined_later()),
    ];
    scenarios.extend(crate::groups::swept());
    scenarios
}

/// Files that all have the time of the first one, or an earlier one.
fn dated() -> Scenario {
    let mut scenario = small("files", "witness", "append", PLAIN, 3);
    let file = |block: usize| format!("in/{block}.json");
    scenario.steps.insert(1, Step::Touch { file: file(0), modified_ms: 1_000 });
    scenario.steps.insert(4, Step::Touch { file: file(1), modified_ms: 1_000 });
    scenario.steps.insert(7, Step::Touch { file: file(2), modified_ms: -1_000 });
    scenario
}

/// The first scenario's like, with nothing on the disk.
fn remote() -> Scenario {
    let mut scenario = small("files", "json", "append", WINDOWS, 2);
    for place in ["in", "out", "checkpoint"] {
        scenario.script = scenario.script.replace(&format!("'{place}'"), &format!("'{ROOT}/{place}'"));
    }
    for step in &mut scenario.steps {
        if let Step::Drop { file, .. } = step {
            *file = format!("{ROOT}/{file}");
        }
    }
    scenario
}

/// Three batches of a source that has a batch for each start, and one more for each crash.
fn endless() -> Scenario {
    let script = "CREATE TABLE events USING `rate-micro-batch`\n  OPTIONS (rowsPerBatch '3', numPartitions '2', startTimestamp \
                  '1000', advanceMillisPerBatch '500');\nCREATE STREAMING TABLE out USING witness\n  OPTIONS (outputMode \
                  'update', trigger 'availableNow', checkpointLocation 'checkpoint')\n  AS SELECT value % 2 AS k, count(*) \
                  AS n, max(timestamp) AS t FROM STREAM events GROUP BY value % 2;";
    let steps = vec![Step::Settle, Step::Restart, Step::Settle, Step::Restart, Step::Settle];
    Scenario { seed: 1, script: script.to_owned(), steps, ..Scenario::default() }
}

/// What two batches kept without a watermark leaves when the changed query has one.
fn marked_later() -> Scenario {
    let mut scenario = small("tape", "witness", "update", WINDOWS, 4);
    redeploy(&mut scenario, 4);
    scenario
}

/// The same of a join's two sides.
fn joined_later() -> Scenario {
    let side = |table: &str| {
        format!(
            "CREATE TABLE {table} (ts TIMESTAMP, k STRING, v BIGINT) USING tape OPTIONS (name '{table}', blocksPerTrigger \
             '1');\nCREATE TEMPORARY VIEW m{table} AS SELECT ts AS t{table}, k AS k{table} FROM STREAM {table}{MARK};\n"
        )
    };
    let script = format!(
        "{}{}CREATE STREAMING TABLE out USING witness\n  OPTIONS (outputMode 'append', checkpointLocation \
         'checkpoint')\n  AS SELECT ta, tb, ka FROM ma JOIN mb ON ka = kb AND ta >= tb - INTERVAL 9 SECONDS AND ta <= tb;",
        side("a"),
        side("b")
    );
    let mut steps = Vec::new();
    for minute in 0..4 {
        for (tape, second) in [("a", 1), ("b", 4)] {
            let row = format!(r#"{{"ts":"2024-01-01T00:{minute:02}:{second:02}Z","k":"x","v":1}}"#);
            steps.push(Step::Add { tape: tape.into(), rows: vec![row] });
        }
        steps.push(Step::Settle);
    }
    let mut scenario = Scenario { seed: 1, script, steps, ..Scenario::default() };
    redeploy(&mut scenario, 6);
    scenario
}

/// Without watermarks up to this step, with them from then on.
fn redeploy(scenario: &mut Scenario, at: usize) {
    let marked = std::mem::take(&mut scenario.script);
    scenario.script = marked.replace(MARK, "");
    scenario.steps.insert(at, Step::Redeploy { script: marked });
}

fn small(source: &str, sink: &str, mode: &str, query: &str, blocks: usize) -> Scenario {
    let from = match source {
        "tape" => "tape OPTIONS (name 'events', blocksPerTrigger '1')",
        _ => "json OPTIONS (path 'in', maxFilesPerTrigger '1')",
    };
    let path = if matches!(sink, "json" | "parquet" | "csv" | "text") { "path 'out', " } else { "" };
    let script = format!(
        "CREATE TABLE events (ts TIMESTAMP, k STRING, v BIGINT) USING {from};\nCREATE STREAMING TABLE out USING {sink}\n  \
         OPTIONS ({path}outputMode '{mode}', checkpointLocation 'checkpoint')\n  AS {query};"
    );
    let mut steps = Vec::new();
    for block in 0..blocks {
        let row =
            |second: usize, k: &str| format!(r#"{{"ts":"2024-01-01T00:{block:02}:{second:02}Z","k":"{k}","v":1}}"#);
        let rows = vec![row(1, "a"), row(4, "b")];
        steps.push(match source {
            "tape" => Step::Add { tape: "events".into(), rows },
            _ => Step::Drop { file: format!("in/{block}.json"), rows, torn: false },
        });
        steps.push(Step::Settle);
    }
    Scenario { seed: 1, script, steps, ..Scenario::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge;
    use crate::pipeline::Pipeline;
    use crate::runner::run;

    #[test]
    fn the_scenarios_reach_what_their_names_say() {
        let (mut traces, mut rows) = (String::new(), String::new());
        for (name, scenario) in scenarios() {
            let run = run(&scenario, &Pipeline);
            assert_eq!(judge(&run, &run), [], "{name}");
            traces.extend(run.trace.iter().map(|effect| format!("{}\n", effect.name)));
            rows.extend(run.observed.sinks.values().flat_map(|seen| seen.all_rows()));
        }
        for reached in [
            ".compact ",
            ".snapshot ",
            "offsets/0 unlink",
            "out/1 commit",
            "commits/2 link",
            "foreach/out/0/0 commit",
            "foreachBatch/out/1 commit",
            "blob://bucket/checkpoint/commits/1 put",
        ] {
            assert!(traces.contains(reached), "no effect {reached}");
        }
        // What is waited for by the clock comes; the source without end gives its third batch.
        for said in ["gone at", "left ", "1970-01-01T00:00:02"] {
            assert!(rows.contains(said), "no row with {said}: {rows}");
        }
    }
}
