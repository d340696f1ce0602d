//! The pipelines that drawn scenarios have: each stateful operator, in each of its output modes, alone and in chains.
//!
//! Windows are ten seconds long, watermarks five seconds behind (`draw.rs` draws event times around these edges).

use crate::groups::Timing;
use crate::scenario::{Keep, View};

/// A query over `events`, or over `a` and `b`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How often it is drawn, compared with others.
    pub weight: u32,
    /// The tables that it reads, in the order of the query.
    pub tables: &'static [&'static str],
    /// SQL views that come before it.
    pub views: &'static str,
    /// A view that SQL cannot say: name, relation below, kind, columns.
    pub keep: Option<(&'static str, &'static str, Keep, &'static [&'static str])>,
    /// The query.
    pub query: &'static str,
    /// The output modes it can run in.
    pub modes: &'static [&'static str],
}

impl Shape {
    /// Whether what comes out depends on the clock: a batch runs at every trigger.
    pub fn is_clocked(&self) -> bool {
        matches!(self.keep, Some((_, _, Keep::Groups(job), _)) if job.timing() == Timing::Clock)
    }

    /// The views of a scenario with this pipeline.
    pub fn scenario_views(&self) -> Vec<View> {
        let view = |(name, from, keep, columns): (&str, &str, Keep, &[&str])| View {
            name: name.to_owned(),
            from: from.to_owned(),
            keep,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        };
        self.keep.map(view).into_iter().collect()
    }
}

/// The watermark of every shape that has one, as the script says it.
pub const MARK: &str = " WATERMARK ts DELAY OF INTERVAL 5 SECONDS";

const EVENTS: &[&str] = &["events"];
const TWO: &[&str] = &["a", "b"];
/// `events` with a watermark.
const MARKED: &str =
    "CREATE TEMPORARY VIEW e AS SELECT * FROM STREAM events WATERMARK ts DELAY OF INTERVAL 5 SECONDS;\n";
/// Two sides of a join with watermarks.
const SIDES: &str = "CREATE TEMPORARY VIEW l AS SELECT ts AS lts, k AS lk, v AS lv FROM STREAM a WATERMARK ts DELAY OF INTERVAL 5 SECONDS;\n\
                     CREATE TEMPORARY VIEW r AS SELECT ts AS rts, k AS rk, v AS rv FROM STREAM b WATERMARK ts DELAY OF INTERVAL 5 SECONDS;\n";

const APPEND: &[&str] = &["append"];
const ANY: &[&str] = &["append", "update", "complete"];
const NOT_APPEND: &[&str] = &["update", "complete"];

const fn over_events(weight: u32, query: &'static str, modes: &'static [&'static str]) -> Shape {
    Shape { weight, tables: EVENTS, views: "", keep: None, query, modes }
}

const fn marked(weight: u32, query: &'static str, modes: &'static [&'static str]) -> Shape {
    Shape { weight, tables: EVENTS, views: MARKED, keep: None, query, modes }
}

const fn once(
    weight: u32,
    from: &'static str,
    keep: Keep,
    columns: &'static [&'static str],
    query: &'static str,
) -> Shape {
    Shape { weight, tables: EVENTS, views: MARKED, keep: Some(("once", from, keep, columns)), query, modes: APPEND }
}

const fn join(weight: u32, query: &'static str) -> Shape {
    Shape { weight, tables: TWO, views: SIDES, keep: None, query, modes: APPEND }
}

/// All of them.
pub const SHAPES: &[Shape] = &[
    over_events(3, "SELECT k, v + 1 AS v FROM STREAM events WHERE v IS NOT NULL AND v % 3 <> 0", &["append", "update"]),
    over_events(3, "SELECT k, v, current_timestamp() AS seen FROM STREAM events", APPEND),
    over_events(4, "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM events GROUP BY k", NOT_APPEND),
    over_events(
        4,
        "SELECT k, first(v) AS f, last(v) AS l, collect_list(v) AS vs FROM STREAM events GROUP BY k",
        NOT_APPEND,
    ),
    over_events(2, "SELECT count(*) AS n, max(v) AS m, min(k) AS k FROM STREAM events", NOT_APPEND),
    over_events(
        4,
        "SELECT window(ts, '10 seconds') AS w, count(*) AS n FROM STREAM events GROUP BY window(ts, '10 seconds')",
        NOT_APPEND,
    ),
    marked(
        9,
        "SELECT window(ts, '10 seconds') AS w, k, count(*) AS n FROM STREAM e GROUP BY window(ts, '10 seconds'), k",
        ANY,
    ),
    marked(
        6,
        "SELECT window(ts, '10 seconds', '5 seconds') AS w, count(*) AS n, avg(v) AS a FROM STREAM e GROUP BY window(ts, '10 seconds', '5 seconds')",
        ANY,
    ),
    marked(3, "SELECT ts, count(*) AS n FROM STREAM e GROUP BY ts", &["append", "update"]),
    marked(
        6,
        "SELECT session_window(ts, '5 seconds') AS w, k, count(*) AS n, sum(v) AS s FROM STREAM e GROUP BY session_window(ts, '5 seconds'), k",
        &["append", "complete"],
    ),
    marked(
        3,
        "SELECT window(window_time(w), '20 seconds') AS w2, sum(n) AS n FROM (SELECT window(ts, '10 seconds') AS w, count(v) AS n FROM STREAM e \
         GROUP BY window(ts, '10 seconds')) GROUP BY window(window_time(w), '20 seconds')",
        APPEND,
    ),
    once(4, "e", Keep::DropDuplicates, &["k", "ts"], "SELECT ts, k, v FROM STREAM once"),
    once(2, "events", Keep::DropDuplicates, &["k"], "SELECT ts, k, v FROM STREAM once"),
    once(6, "e", Keep::DropDuplicatesWithinWatermark, &["k"], "SELECT ts, k, v FROM STREAM once"),
    once(
        3,
        "e",
        Keep::DropDuplicates,
        &["k", "ts"],
        "SELECT window(ts, '10 seconds') AS w, count(*) AS n FROM STREAM once GROUP BY window(ts, '10 seconds')",
    ),
    over_events(5, "SELECT k, v FROM STREAM events LIMIT 5", APPEND),
    join(
        2,
        "SELECT lts, lk, lv, rts, rk, rv FROM l JOIN r ON lk = rk AND lts >= rts AND lts <= rts + INTERVAL 5 SECONDS",
    ),
    join(
        4,
        "SELECT lts, lk, lv, rts, rk, rv FROM l LEFT JOIN r ON lk = rk AND lts >= rts AND lts <= rts + INTERVAL 5 SECONDS",
    ),
    join(
        2,
        "SELECT lts, lk, lv, rts, rk, rv FROM l RIGHT JOIN r ON lk = rk AND lts >= rts AND lts <= rts + INTERVAL 5 SECONDS",
    ),
    join(
        5,
        "SELECT lts, lk, lv, rts, rk, rv FROM l FULL JOIN r ON lk = rk AND lts >= rts AND lts <= rts + INTERVAL 5 SECONDS",
    ),
    join(4, "SELECT lts, lk, lv FROM l LEFT SEMI JOIN r ON lk = rk AND lts >= rts AND lts <= rts + INTERVAL 5 SECONDS"),
    join(
        5,
        "SELECT window(lts, '10 seconds') AS w, count(*) AS n FROM (SELECT lts FROM l LEFT JOIN r ON lk = rk AND lts >= rts AND \
         lts <= rts + INTERVAL 5 SECONDS) GROUP BY window(lts, '10 seconds')",
    ),
    Shape {
        weight: 6,
        tables: TWO,
        views: "CREATE TEMPORARY VIEW u AS SELECT ts, k FROM STREAM a WATERMARK ts DELAY OF INTERVAL 5 SECONDS UNION ALL \
                SELECT ts, k FROM STREAM b WATERMARK ts DELAY OF INTERVAL 2 SECONDS;\n",
        keep: None,
        query: "SELECT window(ts, '10 seconds') AS w, k, count(*) AS n FROM STREAM u GROUP BY window(ts, '10 seconds'), k",
        modes: ANY,
    },
];
