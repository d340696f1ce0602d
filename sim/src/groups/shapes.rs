//! The pipelines with user functions: what the random driver draws, and what the exhaustive one sweeps.

use std::collections::BTreeMap;

use wavetank_engine::conf::ENCODING_FORMAT;

use super::{GroupJob, LATER_VARIABLES, Timing};
use crate::scenario::{Keep, Scenario, Step};
use crate::shapes::Shape;

const EVENTS: &[&str] = &["events"];
const MARKED: &str =
    "CREATE TEMPORARY VIEW e AS SELECT * FROM STREAM events WATERMARK ts DELAY OF INTERVAL 5 SECONDS;\n";
const PLAIN: &str = "SELECT _1, _2, _3 FROM STREAM it";
const COUNTED: &str = "SELECT _1, count(*) AS n, max(_3) AS m FROM STREAM it GROUP BY _1";
const WINDOWS: &str =
    "SELECT window(_2, '10 seconds') AS w, count(*) AS n FROM STREAM it GROUP BY window(_2, '10 seconds')";

const fn of(
    weight: u32,
    from: &'static str,
    job: GroupJob,
    query: &'static str,
    modes: &'static [&'static str],
) -> Shape {
    Shape { weight, tables: EVENTS, views: MARKED, keep: Some(("it", from, Keep::Groups(job), &["k"])), query, modes }
}

const APPEND: &[&str] = &["append"];
const UPDATE: &[&str] = &["update"];

/// All of them.
pub const SHAPES: &[Shape] = &[
    of(2, "events", GroupJob::Tally, PLAIN, UPDATE),
    of(6, "e", GroupJob::Sessions, PLAIN, APPEND),
    of(4, "events", GroupJob::Visits, PLAIN, UPDATE),
    of(1, "e", GroupJob::Numbers, PLAIN, APPEND),
    of(2, "events", GroupJob::Numbers, COUNTED, &["update", "complete"]),
    of(3, "events", GroupJob::Begun, PLAIN, UPDATE),
    of(4, "events", GroupJob::Variables, PLAIN, &["append", "update"]),
    of(6, "e", GroupJob::Alarms, PLAIN, &["append", "update"]),
    of(4, "events", GroupJob::Lifetimes, PLAIN, APPEND),
    of(3, "e", GroupJob::Stamped, WINDOWS, &["append", "update", "complete"]),
    of(2, "events", GroupJob::Opened, PLAIN, UPDATE),
];

/// Small scenarios for the exhaustive sweep: state and timeouts, variables and timers, initial states. Those that are
/// measured by the clock run a batch a second, and time passes in them, so that what they wait for comes.
pub fn swept() -> Vec<(&'static str, Scenario)> {
    let one = |from: &str, job: GroupJob, mode: &str| {
        let clocked = job.timing() == Timing::Clock;
        let trigger = if clocked { "trigger '1 second', " } else { "" };
        let script = format!(
            "CREATE TABLE events (ts TIMESTAMP, k STRING, v BIGINT) USING tape OPTIONS (name 'events', blocksPerTrigger \
             '1');\n{MARKED}CREATE STREAMING TABLE out USING witness\n  OPTIONS ({trigger}outputMode \
             '{mode}', checkpointLocation 'checkpoint')\n  AS {PLAIN};"
        );
        let shape = of(1, "", job, PLAIN, APPEND);
        let views = shape.scenario_views().into_iter();
        let views = views.map(|view| crate::scenario::View { from: from.to_owned(), ..view }).collect();
        let blocks: [&[(&str, &str, i64)]; 3] = [
            &[("01", "a", 1), ("04", "b", 2), ("02", "a", 3)],
            &[("31", "c", 4), ("32", "a", 7)],
            &[("59", "d", 5), ("35", "c", 6)],
        ];
        let mut steps = vec![];
        // A batch a second is much: two blocks show it.
        for block in &blocks[..if clocked { 2 } else { 3 }] {
            let row = |(second, k, v): &(&str, &str, i64)| {
                format!(r#"{{"ts":"2024-01-01T00:00:{second}Z","k":"{k}","v":{v}}}"#)
            };
            steps.extend([Step::Add { tape: "events".into(), rows: block.iter().map(row).collect() }, Step::Settle]);
            if clocked {
                steps.push(Step::Wait { ms: 2_200 });
            }
        }
        Scenario { seed: 1, script, views, steps, ..Scenario::default() }
    };
    let later = [(LATER_VARIABLES, "true"), (ENCODING_FORMAT, "avro")].map(|(key, value)| (key.into(), value.into()));
    let mut changing = one("events", GroupJob::Changing, "update");
    changing.steps.insert(2, Step::Restart);
    changing.settings = BTreeMap::from([(0, BTreeMap::new()), (1, later.into())]);
    vec![
        ("group state with an event-time timeout", one("e", GroupJob::Sessions, "append")),
        ("group state that begins with a state", one("events", GroupJob::Begun, "update")),
        ("a value, a list and a map of each group", one("events", GroupJob::Variables, "update")),
        ("timers of groups", one("e", GroupJob::Alarms, "append")),
        ("group state with a timeout of the clock", one("events", GroupJob::Visits, "update")),
        ("lifetimes and timers of the clock", one("events", GroupJob::Lifetimes, "append")),
        ("state variables that change between runs", changing),
    ]
}
