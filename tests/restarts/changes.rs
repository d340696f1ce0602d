//! The table of changes: a query before the restart, one after it, and what must come of it.

use std::path::Path;

use wavetank::prelude::*;

use super::copy;

/// A query with everything about it that can change.
#[derive(Clone, Copy)]
pub struct Job {
    pub sql: &'static str,
    /// Columns by which duplicates are dropped from what `sql` answers.
    pub drop_duplicates: &'static [&'static str],
    pub mode: OutputMode,
    pub conf: &'static [(&'static str, &'static str)],
    pub format: &'static str,
    pub path: &'static str,
    pub columns: &'static str,
    pub files_per_trigger: usize,
    pub delay: &'static str,
    pub trigger: Trigger,
    pub name: &'static str,
    /// Empty: the test looks at the rows.
    pub sink: &'static str,
    pub output: &'static str,
    pub checkpoint: &'static str,
}

pub const JOB: Job = Job {
    sql: "SELECT k, v FROM events",
    drop_duplicates: &[],
    mode: OutputMode::Append,
    conf: &[],
    format: "json",
    path: "in",
    columns: "k STRING, v INT, ts TIMESTAMP",
    files_per_trigger: 1,
    delay: "10 seconds",
    trigger: Trigger::AvailableNow,
    name: "q",
    sink: "",
    output: "out",
    checkpoint: "checkpoint",
};

pub const COUNTS: Job = Job { sql: "SELECT k, sum(v) AS s FROM events GROUP BY k", mode: OutputMode::Update, ..JOB };
pub const WINDOWS: Job = Job {
    sql: "SELECT window, count(*) AS n FROM marked GROUP BY window(ts, '10 seconds')",
    mode: OutputMode::Append,
    ..JOB
};
pub const ONCE: Job = Job { drop_duplicates: &["k"], ..JOB };
pub const JOIN: Job = Job { sql: "SELECT k, v, w FROM marked JOIN others ON k = k2 AND ts = ts2", ..JOB };

pub enum Expect {
    /// The rows of each batch after the restart, as JSON, batches apart by ` | `.
    Answers(&'static str),
    /// Spark's class, where it has one, and a part of the text.
    Refused(Option<&'static str>, &'static str),
}
pub use Expect::{Answers, Refused};

pub struct Change {
    /// The row of `spec/08`.
    pub row: &'static str,
    pub name: &'static str,
    pub before: Job,
    pub after: Job,
    /// What is done to the folder in between.
    pub meanwhile: fn(&Path),
    pub expect: Expect,
}

pub fn nothing(_: &Path) {}

const fn change(row: &'static str, name: &'static str, before: Job, after: Job, expect: Expect) -> Change {
    Change { row, name, before, after, meanwhile: nothing, expect }
}

pub const OPERATORS: &str = "add/remove/reorder stateful operators, stateful <-> stateless, agg <-> dedup";
pub const NOT_MATCH: Option<&str> = Some("STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA");
pub const KEY: Option<&str> = Some("STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE");
pub const VALUE: Option<&str> = Some("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE");
const SESSIONS: &str = "SELECT session_window(ts, '5 seconds') AS w, k, count(*) AS n FROM marked GROUP BY session_window(ts, '5 seconds'), k";
pub const TWICE: &str = "SELECT k, v FROM events UNION ALL SELECT k2 AS k, w AS v FROM plain_others";

pub fn changes() -> Vec<Change> {
    let counts = |sql: &'static str| Job { sql, ..COUNTS };
    vec![
        // Sources.
        change(
            "number/order of sources (offset log v1)",
            "a source more",
            JOB,
            Job { sql: TWICE, ..JOB },
            Refused(
                None,
                "There are [1] sources in the checkpoint offsets and now there are [2] sources requested by the query. Cannot continue.",
            ),
        ),
        change(
            "number/order of sources (offset log v1)",
            "a source less",
            Job { sql: TWICE, ..JOB },
            JOB,
            Refused(None, "There are [2] sources in the checkpoint offsets and now there are [1] sources requested"),
        ),
        change(
            "number/order of sources (offset log v1)",
            "another type of source",
            JOB,
            Job { sql: "SELECT 'r' AS k, value AS v FROM ramp", trigger: Trigger::Once, ..JOB },
            Refused(None, "source 0 of the query was read from 'json' and is now read from 'rate-micro-batch'"),
        ),
        change(
            "number/order of sources (offset log v1)",
            "another order of sources",
            Job { sql: "SELECT k FROM events UNION ALL SELECT 'r' AS k FROM ramp", trigger: Trigger::Once, ..JOB },
            Job { sql: "SELECT 'r' AS k FROM ramp UNION ALL SELECT k FROM events", trigger: Trigger::Once, ..JOB },
            Refused(None, "source 0 of the query was read from 'json' and is now read from 'rate-micro-batch'"),
        ),
        change(
            "source options: rate limits (maxFilesPerTrigger, maxOffsetsPerTrigger...)",
            "more files a trigger",
            JOB,
            Job { files_per_trigger: 10, ..JOB },
            Answers(r#"["a",5] ["c",7]"#),
        ),
        change(
            "startingOffsets / startingTimestamp",
            "another first timestamp",
            Job { sql: "SELECT value, timestamp FROM ramp", trigger: Trigger::Once, ..JOB },
            Job { sql: "SELECT value, timestamp FROM late_ramp", trigger: Trigger::Once, ..JOB },
            Answers(r#"[2,"1970-01-01T00:00:01.000000Z"] [3,"1970-01-01T00:00:01.000000Z"]"#),
        ),
        change(
            "file source path",
            "another path",
            JOB,
            Job {
                path: "in2",
                columns: "k2 STRING, w INT, ts2 TIMESTAMP",
                sql: "SELECT k2 AS k, w AS v FROM events",
                ..JOB
            },
            Refused(None, "Wrong basePath"),
        ),
        change(
            "file format of the source",
            "another format",
            JOB,
            Job { format: "csv", ..JOB },
            Refused(None, "source 0 of the query was read from 'json' and is now read from 'csv'"),
        ),
        change(
            "user schema of file/csv/json source",
            "a column more",
            JOB,
            Job { columns: "k STRING, v BIGINT, ts TIMESTAMP, x STRING", sql: "SELECT k, v, x FROM events", ..JOB },
            Answers(r#"["a",5,null] | ["c",7,"new"]"#),
        ),
        // What is done with the rows.
        change(
            "projection/filter/map changes",
            "other columns, other rows",
            JOB,
            Job { sql: "SELECT upper(k) AS u FROM events WHERE v > 5", ..JOB },
            Answers(r#" | ["C"]"#),
        ),
        change(
            "projection/filter/map changes",
            "below an aggregation: what was added stays",
            COUNTS,
            counts("SELECT k, sum(v) AS s FROM events WHERE v <> 7 GROUP BY k"),
            Answers(r#"["a",9] | "#),
        ),
        // Stateful operators.
        change(
            OPERATORS,
            "stateless to stateful",
            Job { mode: OutputMode::Update, ..JOB },
            COUNTS,
            Refused(
                Some("STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY"),
                "the state directory is empty or missing",
            ),
        ),
        change(
            OPERATORS,
            "stateful to stateless",
            COUNTS,
            Job { mode: OutputMode::Update, ..JOB },
            Refused(
                NOT_MATCH,
                "in the metadata: [(OperatorId: 0 -> OperatorName: stateStoreSave)]; stateful operators in the current batch: []",
            ),
        ),
        change(OPERATORS, "aggregation to deduplication", COUNTS, ONCE, Refused(NOT_MATCH, "dedupe")),
        change(
            OPERATORS,
            "an operator more",
            WINDOWS,
            Job { sql: "SELECT window, count(*) AS n FROM once GROUP BY window(ts, '10 seconds')", ..WINDOWS },
            Refused(NOT_MATCH, "dedupe"),
        ),
        change(
            OPERATORS,
            "an operator less",
            Job { sql: "SELECT window, count(*) AS n FROM once GROUP BY window(ts, '10 seconds')", ..WINDOWS },
            WINDOWS,
            Refused(NOT_MATCH, "dedupe"),
        ),
        change(
            OPERATORS,
            "operators in another order",
            Job { sql: "SELECT k, v FROM (SELECT * FROM events LIMIT 9)", drop_duplicates: &["k"], ..JOB },
            Job { sql: "SELECT k, v FROM once_by_key LIMIT 9", ..JOB },
            Refused(NOT_MATCH, "globalLimit"),
        ),
        change(
            "grouping key type or number",
            "another type",
            COUNTS,
            counts("SELECT v AS k, sum(v) AS s FROM events GROUP BY v"),
            Refused(KEY, "k"),
        ),
        change(
            "grouping key type or number",
            "a key more",
            COUNTS,
            counts("SELECT k, v, sum(v) AS s FROM events GROUP BY k, v"),
            Refused(KEY, "v"),
        ),
        change(
            "grouping key renamed",
            "another name",
            COUNTS,
            counts("SELECT kk, sum(v) AS s FROM (SELECT k AS kk, v FROM events) GROUP BY kk"),
            Answers(r#"["a",9] | ["c",7]"#),
        ),
        change(
            "add/remove aggregate, change its buffer type (sum int -> sum double)",
            "an aggregate more",
            COUNTS,
            counts("SELECT k, sum(v) AS s, count(*) AS n FROM events GROUP BY k"),
            Refused(VALUE, "count"),
        ),
        change(
            "add/remove aggregate, change its buffer type (sum int -> sum double)",
            "an aggregate less",
            counts("SELECT k, sum(v) AS s, count(*) AS n FROM events GROUP BY k"),
            COUNTS,
            Refused(VALUE, "count"),
        ),
        change(
            "add/remove aggregate, change its buffer type (sum int -> sum double)",
            "a sum of another type",
            COUNTS,
            counts("SELECT k, sum(CAST(v AS DOUBLE)) AS s FROM events GROUP BY k"),
            Refused(VALUE, "sum"),
        ),
        change(
            "other aggregate with same buffer types (sum(v) -> sum(-v))",
            "goes on from the old sum",
            COUNTS,
            counts("SELECT k, sum(-v) AS s FROM events GROUP BY k"),
            Answers(r#"["a",-1] | ["c",-7]"#),
        ),
        change(
            "window size, slide, offset",
            "wider windows beside the old ones",
            Job { mode: OutputMode::Complete, ..WINDOWS },
            Job {
                sql: "SELECT window, count(*) AS n FROM marked GROUP BY window(ts, '60 seconds')",
                mode: OutputMode::Update,
                ..WINDOWS
            },
            Answers(
                r#"[{"start":"2024-01-01T00:00:00.000000Z","end":"2024-01-01T00:01:00.000000Z"},1] | [{"start":"2024-01-01T00:01:00.000000Z","end":"2024-01-01T00:02:00.000000Z"},1] | "#,
            ),
        ),
        change("dedup columns", "a column more", ONCE, Job { drop_duplicates: &["k", "v"], ..ONCE }, Refused(KEY, "v")),
        change("dedup columns", "another column", ONCE, Job { drop_duplicates: &["v"], ..ONCE }, Refused(KEY, "v")),
        change(
            "dedup columns",
            "the same ones",
            ONCE,
            Job { sql: "SELECT k, v + 1 AS v FROM events", ..ONCE },
            Answers(r#" | ["c",8]"#),
        ),
        change(
            "join keys / schema / conditions / type",
            "another key",
            JOIN,
            Job { sql: "SELECT k, v, w FROM marked JOIN others ON v = w AND ts = ts2", ..JOIN },
            Refused(KEY, ""),
        ),
        change(
            "join keys / schema / conditions / type",
            "another column kept",
            JOIN,
            Job {
                sql: "SELECT k, CAST(v AS STRING) AS v, w FROM (SELECT k, ts, CAST(v AS STRING) AS v FROM marked) JOIN others ON k = k2 AND ts = ts2",
                ..JOIN
            },
            Refused(VALUE, "v"),
        ),
        change(
            "join keys / schema / conditions / type",
            "inner to left outer",
            JOIN,
            Job { sql: "SELECT k, v, w FROM marked LEFT JOIN others ON k = k2 AND ts = ts2", ..JOIN },
            Answers(r#" |  | ["a",3,null] ["a",5,null]"#),
        ),
        // Watermarks, settings, modes, triggers, names.
        change(
            "watermark delay",
            "a shorter delay",
            WINDOWS,
            Job { delay: "1 second", ..WINDOWS },
            Answers(r#" |  | [{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:40.000000Z"},2]"#),
        ),
        change(
            "watermark delay",
            "a watermark where there was none: groups from before come out, too",
            Job { sql: "SELECT ts, count(*) AS n FROM events GROUP BY ts", ..COUNTS },
            Job { sql: "SELECT ts, count(*) AS n FROM marked GROUP BY ts", ..JOB },
            Answers(
                r#" | ["2024-01-01T00:00:10.000000Z",1] ["2024-01-01T00:00:11.000000Z",1] | ["2024-01-01T00:00:30.000000Z",1] ["2024-01-01T00:00:31.000000Z",1]"#,
            ),
        ),
        change(
            "watermark delay",
            "a watermark where there was none: windows",
            Job {
                sql: "SELECT window, count(*) AS n FROM events GROUP BY window(ts, '10 seconds')",
                mode: OutputMode::Complete,
                ..JOB
            },
            WINDOWS,
            Answers(
                r#" | [{"start":"2024-01-01T00:00:10.000000Z","end":"2024-01-01T00:00:20.000000Z"},2] | [{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:40.000000Z"},2]"#,
            ),
        ),
        change(
            "watermark delay",
            "a watermark where there was none: sessions",
            Job {
                sql: "SELECT session_window(ts, '5 seconds') AS w, k, count(*) AS n FROM events GROUP BY session_window(ts, '5 seconds'), k",
                mode: OutputMode::Complete,
                ..JOB
            },
            Job { sql: SESSIONS, ..JOB },
            Answers(
                r#" | [{"start":"2024-01-01T00:00:10.000000Z","end":"2024-01-01T00:00:15.000000Z"},"a",1] [{"start":"2024-01-01T00:00:11.000000Z","end":"2024-01-01T00:00:16.000000Z"},"b",1] | [{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:36.000000Z"},"a",2]"#,
            ),
        ),
        change(
            "watermark delay",
            "no watermark any more",
            Job { mode: OutputMode::Update, ..WINDOWS },
            Job {
                sql: "SELECT window, count(*) AS n FROM events GROUP BY window(ts, '10 seconds')",
                mode: OutputMode::Update,
                ..JOB
            },
            Answers(
                r#"[{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:40.000000Z"},2] | [{"start":"2024-01-01T00:01:00.000000Z","end":"2024-01-01T00:01:10.000000Z"},1]"#,
            ),
        ),
        change(
            "multipleWatermarkPolicy, shuffle partitions, provider class, format versions, codec",
            "other settings: those of the checkpoint stay",
            Job { conf: &[("spark.sql.shuffle.partitions", "3")], ..COUNTS },
            Job {
                conf: &[
                    ("spark.sql.shuffle.partitions", "5"),
                    ("spark.sql.streaming.multipleWatermarkPolicy", "max"),
                    ("spark.sql.streaming.stateStore.providerClass", "another"),
                ],
                ..COUNTS
            },
            Answers(r#"["a",9] | ["c",7]"#),
        ),
        change(
            "state store provider change",
            "ignored",
            COUNTS,
            Job { conf: &[("spark.sql.streaming.stateStore.providerClass", "x")], ..COUNTS },
            Answers(r#"["a",9] | ["c",7]"#),
        ),
        change(
            "output mode",
            "update to complete",
            COUNTS,
            Job { mode: OutputMode::Complete, ..COUNTS },
            Answers(r#"["a",9] ["b",2] | ["a",9] ["b",2] ["c",7]"#),
        ),
        change(
            "output mode",
            "complete to update",
            Job { mode: OutputMode::Complete, ..COUNTS },
            COUNTS,
            Answers(r#"["a",9] | ["c",7]"#),
        ),
        change(
            "output mode",
            "append to update",
            WINDOWS,
            Job { mode: OutputMode::Update, ..WINDOWS },
            Answers(
                r#"[{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:40.000000Z"},2] | [{"start":"2024-01-01T00:01:00.000000Z","end":"2024-01-01T00:01:10.000000Z"},1] | "#,
            ),
        ),
        change(
            "trigger",
            "available now to once",
            COUNTS,
            Job { trigger: Trigger::Once, ..COUNTS },
            Answers(r#"["a",9] ["c",7]"#),
        ),
        change(
            "trigger",
            "once to available now",
            Job { trigger: Trigger::Once, ..COUNTS },
            COUNTS,
            Answers(r#"["a",9] | ["c",7]"#),
        ),
        change("queryName", "another name", COUNTS, Job { name: "other", ..COUNTS }, Answers(r#"["a",9] | ["c",7]"#)),
        // More of the same rows, with what Spark 4.3.0 answered.
        change(
            "grouping key type or number",
            "keys in another order",
            counts("SELECT k, v, count(*) AS n FROM events GROUP BY k, v"),
            counts("SELECT v, k, count(*) AS n FROM events GROUP BY v, k"),
            Refused(KEY, "v"),
        ),
        change(
            "add/remove aggregate, change its buffer type (sum int -> sum double)",
            "an average becomes a sum and a count",
            counts("SELECT k, avg(v) AS s FROM events GROUP BY k"),
            counts("SELECT k, sum(v) AS s, count(v) AS n FROM events GROUP BY k"),
            Refused(VALUE, ""),
        ),
        change(
            "add/remove aggregate, change its buffer type (sum int -> sum double)",
            "aggregates in another order",
            counts("SELECT k, sum(v) AS s, max(v) AS m FROM events GROUP BY k"),
            counts("SELECT k, max(v) AS m, sum(v) AS s FROM events GROUP BY k"),
            Refused(VALUE, ""),
        ),
        change(
            "other aggregate with same buffer types (sum(v) -> sum(-v))",
            "the greatest becomes the least",
            counts("SELECT k, max(v) AS s FROM events GROUP BY k"),
            counts("SELECT k, min(v) AS s FROM events GROUP BY k"),
            Answers(r#"["a",3] | ["c",7]"#),
        ),
        change(
            "join keys / schema / conditions / type",
            "left outer to inner",
            Job { sql: "SELECT k, v, w FROM marked LEFT JOIN others ON k = k2 AND ts = ts2", ..JOIN },
            JOIN,
            Answers(" |  | "),
        ),
        change(
            "window size, slide, offset",
            "another gap of sessions",
            Job { sql: SESSIONS, ..WINDOWS },
            Job {
                sql: "SELECT session_window(ts, '20 seconds') AS w, k, count(*) AS n FROM marked GROUP BY session_window(ts, '20 seconds'), k",
                ..WINDOWS
            },
            Answers(" |  | "),
        ),
        change(
            OPERATORS,
            "windows to sessions",
            WINDOWS,
            Job { sql: SESSIONS, ..WINDOWS },
            Refused(NOT_MATCH, "session"),
        ),
        change(
            OPERATORS,
            "deduplication to limit",
            ONCE,
            Job { sql: "SELECT k, v FROM events LIMIT 9", ..JOB },
            Refused(NOT_MATCH, "globalLimit"),
        ),
        change(
            "projection/filter/map changes",
            "a greater limit",
            Job { sql: "SELECT k, v FROM events LIMIT 3", ..JOB },
            Job { sql: "SELECT k, v FROM events LIMIT 9", ..JOB },
            Answers(r#"["a",5] | ["c",7]"#),
        ),
        change(
            "output mode",
            "update to append",
            Job { mode: OutputMode::Update, ..WINDOWS },
            WINDOWS,
            Answers(r#" |  | [{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:40.000000Z"},2]"#),
        ),
        // Sinks.
        change("sink type", "to noop", JOB, Job { sink: "noop", ..JOB }, Answers("")),
        change("sink type", "file to another", Job { sink: "json", ..JOB }, JOB, Answers(r#"["a",5] | ["c",7]"#)),
        change(
            "sink type",
            "memory needs a fresh checkpoint",
            JOB,
            Job { sink: "memory", ..JOB },
            Refused(None, "This query does not support recovering from checkpoint location"),
        ),
        change(
            "sink type",
            "complete mode into memory",
            Job { mode: OutputMode::Complete, ..COUNTS },
            Job { mode: OutputMode::Complete, sink: "memory", ..COUNTS },
            Answers(""),
        ),
        change(
            "file sink output directory",
            "another folder",
            Job { sink: "json", ..JOB },
            Job { sink: "json", output: "out2", ..JOB },
            Refused(None, "the query goes on with batch 2, but the next batch of this output folder is 0"),
        ),
        change(
            "file sink output directory",
            "the same folder",
            Job { sink: "json", ..JOB },
            Job { sink: "json", ..JOB },
            Answers(""),
        ),
        change(
            "new checkpoint, same file sink directory",
            "rows would be lost",
            Job { sink: "json", ..JOB },
            Job { sink: "json", checkpoint: "new", ..JOB },
            Refused(None, "the output folder has batches of another query"),
        ),
        // The checkpoint itself.
        Change {
            meanwhile: |folder| copy(&folder.join("checkpoint"), &folder.join("copy")),
            ..change(
                "checkpoint dir copied",
                "the copy goes on",
                COUNTS,
                Job { checkpoint: "copy", ..COUNTS },
                Answers(r#"["a",9] | ["c",7]"#),
            )
        },
        Change {
            meanwhile: |folder| {
                for log in ["offsets", "commits"] {
                    std::fs::remove_file(folder.join("checkpoint").join(log).join("1")).expect("an entry");
                }
            },
            ..change(
                "deleting last offsets+commits files by hand",
                "goes on from the batch before",
                COUNTS,
                COUNTS,
                Answers(r#"["a",4] | ["a",9] | ["c",7]"#),
            )
        },
    ]
}
