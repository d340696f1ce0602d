//! Scenarios of Spark's own suites, with the batches that Spark 4.3.0 ran for them (`spark_measured.txt`): rows, watermark
//! and state of every batch are compared.

use wavetank::engine::dataframe::DataFrame;
use wavetank::prelude::*;
use wavetank::testing::{Job, Start};

use super::notation::{differs, scenarios};

/// A view that a scenario reads: its name, its query, and event time with its delay.
type View = (&'static str, &'static str, Option<(&'static str, &'static str)>);

async fn view(session: &Session, (name, select, mark): View) -> wavetank::Result<DataFrame> {
    let mut frame = session.sql(select).await?;
    if let Some((column, delay)) = mark {
        frame = frame.with_watermark(column, delay)?;
    }
    frame.create_or_replace_temp_view(name)?;
    Ok(frame)
}

/// A query over views.
fn over(views: &'static [View], query: &'static str) -> Job {
    framed(views, async move |session: Session| session.sql(query).await)
}

/// A frame over views.
fn framed<F>(views: &'static [View], build: F) -> Job
where
    F: AsyncFn(Session) -> wavetank::Result<DataFrame> + Send + Sync + 'static,
{
    let job = Job::frame(async move |session: Session| {
        for one in views {
            view(&session, *one).await?;
        }
        build(session).await
    });
    job.conf("spark.sql.shuffle.partitions", 1)
}

const UPDATE: OutputMode = OutputMode::Update;
const COMPLETE: OutputMode = OutputMode::Complete;
const NO_DATA: &str = "spark.sql.streaming.noDataMicroBatches.enabled";

/// Numbers `v`, and `t`, the second `v`.
const V: &str = "SELECT v, timestamp_seconds(v) AS t FROM STREAM s";
const E0: &[View] = &[("e", V, Some(("t", "0 seconds")))];
const E5: &[View] = &[("e", V, Some(("t", "5 seconds")))];
const E10: &[View] = &[("e", V, Some(("t", "10 seconds")))];
/// Keys `k` too.
const KV: &str = "SELECT k, v, timestamp_seconds(v) AS t FROM STREAM s";
const K0: &[View] = &[("e", KV, Some(("t", "0 seconds")))];
const K10: &[View] = &[("e", KV, Some(("t", "10 seconds")))];
const K30: &[View] = &[("e", KV, Some(("t", "30 seconds")))];

const BY_WINDOW: &str = "SELECT window.start AS w, count(*) AS n FROM e GROUP BY window(t, '5 seconds')";
const BY_TIME: &str = "SELECT t, count(*) AS n FROM e GROUP BY t";

fn ints(job: Job) -> Job {
    job.source("s", "v INT")
}

fn pairs(job: Job) -> Job {
    job.source("s", "k STRING, v INT")
}

/// Where Wavetank reports other numbers than Spark, on purpose or not yet otherwise: scenario, Spark's line, its line here.
/// Rows, watermarks and state are those of Spark everywhere.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    // A filter that is never true reads nothing.
    ("A31", "b0 rows=1 wm=0s out: - | agg 0/0/0/0", "b0 rows=0 wm=0s out: - | agg 0/0/0/0"),
    ("A31", "b1 rows=1 wm=0s out: - | agg 0/0/0/0", "b1 rows=0 wm=0s out: - | agg 0/0/0/0"),
    // A left row that finds its match in its own batch is put and removed again; Spark does not put it.
    ("E08", "b0 rows=3+2 wm=0s out: [1,1] | join 4/4/0/0", "b0 rows=3+2 wm=0s out: [1,1] | join 4/5/1/0"),
    ("E08", "b2 rows=1+1 wm=0s out: [9,25] | join 6/1/0/0", "b2 rows=1+1 wm=0s out: [9,25] | join 6/2/1/0"),
    ("E08", "b5 rows=1+1 wm=15s out: [9,60] | join 2/1/0/0", "b5 rows=1+1 wm=15s out: [9,60] | join 2/2/1/0"),
    ("E12", "b0 rows=3+3 wm=0s out: [1,10] | join 5/5/0/0", "b0 rows=3+3 wm=0s out: [1,10] | join 5/6/1/0"),
    ("E12", "b2 rows=1+1 wm=20s out: [5,40] | join 5/1/0/0", "b2 rows=1+1 wm=20s out: [5,40] | join 5/2/1/0"),
    ("E12", "b6 rows=1+1 wm=50s out: [7,100] | join 3/1/0/0", "b6 rows=1+1 wm=50s out: [7,100] | join 3/2/1/0"),
    // A self join reads its stream once for each side; Spark shares one exchange between them.
    ("E16", "b0 rows=2 out: [1,1,1,2] | join 4/4/0/0", "b0 rows=4 out: [1,1,1,2] | join 4/4/0/0"),
    ("E16", "b1 rows=1 out: [1,1,1,3] [1,2,1,3] | join 6/2/0/0", "b1 rows=2 out: [1,1,1,3] [1,2,1,3] | join 6/2/0/0"),
];

/// Runs scenarios with their jobs; all that differ are told at once.
fn agree(cases: Vec<(&str, Job)>) {
    agree_again(cases.into_iter().map(|(id, job)| (id, job, Start::new())).collect());
}

fn agree_again(cases: Vec<(&str, Job, Start)>) {
    let all = scenarios();
    let differences = cases.iter().filter_map(|(id, job, again)| {
        let mut scenario = all.get(*id).unwrap_or_else(|| panic!("there is no scenario {id}")).clone();
        for (_, spark, here) in DIFFERENCES.iter().filter(|(of, ..)| of == id) {
            scenario.replace(spark, here);
        }
        differs(&scenario, job, again).map(|what| format!("{id}\n{what}"))
    });
    let differences: Vec<_> = differences.collect();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn watermarks_and_windows() {
    let sums = "SELECT window.start AS w, count(*) AS n, sum(n) AS s FROM (SELECT window(t, '5 seconds') AS w5, count(*) AS n \
                FROM e GROUP BY window(t, '5 seconds')) GROUP BY window(w5, '10 seconds')";
    agree(vec![
        ("A01", ints(over(E10, BY_WINDOW)).output_mode(UPDATE)),
        ("A02", ints(over(E10, BY_WINDOW)).output_mode(COMPLETE)),
        ("A03", ints(over(E5, BY_TIME))),
        ("A04", ints(over(E10, "SELECT v FROM e"))),
        ("A05", ints(over(E10, BY_TIME))),
        (
            "A06",
            ints(over(E10, "SELECT window, count(*) AS n FROM e GROUP BY window(t, '5 seconds')")).output_mode(UPDATE),
        ),
        ("A08", ints(over(E10, BY_WINDOW))),
        ("A15", ints(over(E10, "SELECT count(*) AS n FROM e GROUP BY window(t, '5 seconds'), v % 2"))),
        ("A16", ints(over(E10, sums))),
        ("A20", ints(over(E10, BY_WINDOW)).conf(NO_DATA, false)),
        ("A22", ints(over(E10, BY_WINDOW)).conf(NO_DATA, false)),
        ("A23", ints(over(E10, "SELECT v % 3 AS k, count(*) AS n FROM e GROUP BY v % 3")).output_mode(UPDATE)),
        ("A26", ints(over(E0, "SELECT window.start AS w, count(*) AS n FROM e GROUP BY window(t, '10 seconds')"))),
        (
            "A27",
            ints(over(
                E5,
                "SELECT window.start AS a, window.end AS b, count(*) AS n FROM e GROUP BY window(t, '10 seconds', '5 seconds')",
            )),
        ),
        ("A28", ints(over(E0, "SELECT t, count(*) AS n FROM e WHERE v % 2 = 0 GROUP BY t"))),
        ("A29", ints(over(E0, "SELECT t, count(*) AS n FROM e WHERE t < timestamp_seconds(50) GROUP BY t"))),
        ("A30", ints(over(E0, BY_WINDOW)).output_mode(UPDATE).conf(NO_DATA, false)),
        ("A31", pairs(over(K0, "SELECT t, count(*) AS n FROM e WHERE 1 = 0 GROUP BY t"))),
        ("A32", ints(over(E0, "SELECT u, count(*) AS n FROM (SELECT t AS u FROM e) GROUP BY u"))),
        (
            "A34",
            ints(over(
                &[("plain", V, None)],
                "SELECT window, count(*) AS n FROM plain WATERMARK t DELAY OF INTERVAL 10 SECONDS GROUP BY window(t, '5 seconds')",
            )),
        ),
    ]);
}

#[test]
fn microseconds_chains_and_totals() {
    let micros: &[View] = &[("e", "SELECT timestamp_micros(v) AS t FROM STREAM s", Some(("t", "0 seconds")))];
    let deduplicated = framed(E10, async |session: Session| {
        let frame = session.table("e").await?.drop_duplicates(&["v", "t"])?;
        frame.create_or_replace_temp_view("e")?;
        session.sql(BY_WINDOW).await
    });
    let marked_twice = framed(E10, async |session: Session| {
        let ends = "SELECT window.end AS t2, count(*) AS n FROM e GROUP BY window(t, '5 seconds')";
        session.sql(ends).await?.with_watermark("t2", "5 seconds")?.create_or_replace_temp_view("ends")?;
        session.sql("SELECT t2, count(*) AS n FROM ends GROUP BY t2").await
    });
    agree(vec![
        ("A07", over(micros, "SELECT unix_micros(t) AS us, count(*) AS n FROM e GROUP BY t").source("s", "v BIGINT")),
        ("A17", ints(deduplicated)),
        ("A18", ints(marked_twice)),
        ("A24", ints(over(&[], "SELECT count(*) AS n, sum(v) AS s FROM STREAM s")).output_mode(UPDATE)),
        ("A25", ints(over(&[], "SELECT count(*) AS n, sum(v) AS s FROM STREAM s WHERE v > 100")).output_mode(COMPLETE)),
    ]);
}

#[test]
fn several_watermarks_and_restarts() {
    const A: &str = "SELECT v, timestamp_seconds(v) AS t FROM STREAM A";
    const B: &str = "SELECT v, timestamp_seconds(v) AS t FROM STREAM B";
    const VIEWS: &[View] = &[("a", A, Some(("t", "10 seconds"))), ("b", B, Some(("t", "20 seconds")))];
    const E30: &[View] = &[("e", V, Some(("t", "30 seconds")))];
    const POLICY: &str = "spark.sql.streaming.multipleWatermarkPolicy";
    let union = || {
        let job = over(VIEWS, "SELECT t, count(*) AS n FROM (SELECT t FROM a UNION ALL SELECT t FROM b) GROUP BY t");
        job.source("A", "v INT").source("B", "v INT")
    };
    agree_again(vec![
        ("A09", union(), Start::new()),
        ("A11", union().conf(POLICY, "max"), Start::new().conf(POLICY, "min")),
        ("A13", ints(over(E10, BY_WINDOW)), Start::new().job(ints(over(E30, BY_WINDOW)))),
    ]);
}

#[test]
fn sessions() {
    let columns = "session_window.start AS a, session_window.end AS b, k, count(*) AS n";
    let by_gap = |gap: &str| format!("FROM e GROUP BY session_window(t, '{gap}'), k");
    let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let sums = leaked(format!("SELECT {columns}, sum(v) AS s {}", by_gap("10 seconds")));
    let sums5 = leaked(format!("SELECT {columns}, sum(v) AS s {}", by_gap("5 seconds")));
    let dynamic = leaked(format!(
        "SELECT {columns} FROM e GROUP BY session_window(t, CASE k WHEN 'a' THEN '5 seconds' WHEN 'z' THEN '0 seconds' WHEN \
         'n' THEN '-1 seconds' ELSE '20 seconds' END), k"
    ));
    let then_window = "SELECT window.start AS a, count(*) AS n, sum(n) AS s FROM (SELECT session_window(t, '5 seconds') AS w, k, \
                       count(*) AS n FROM e GROUP BY session_window(t, '5 seconds'), k) GROUP BY window(w, '20 seconds')";
    let merged = "spark.sql.streaming.sessionWindow.merge.sessions.in.local.partition";
    agree(vec![
        ("B01", pairs(over(K30, sums))),
        ("B02", pairs(over(&[("e", KV, None)], sums)).output_mode(COMPLETE)),
        ("B06", pairs(over(K0, sums5))),
        ("B07", pairs(over(K30, sums)).conf(merged, true)),
        ("B08", pairs(over(K10, dynamic))),
        ("B09", pairs(over(K0, then_window))),
    ]);
}

#[test]
fn deduplication() {
    let distinct = |views: &'static [View], keys: &'static [&'static str], columns: &'static [&'static str]| {
        framed(views, async move |session: Session| {
            session.table("e").await?.drop_duplicates(keys)?.select_expr(columns)
        })
    };
    let within = |views: &'static [View]| {
        framed(views, async move |session: Session| {
            session.table("e").await?.drop_duplicates_within_watermark(&["k"])?.select_expr(&["k", "v"])
        })
    };
    const TEXTS: &[View] = &[("e", "SELECT v FROM STREAM s", None)];
    const PLAIN: &[View] = &[("e", "SELECT k, v FROM STREAM s", None)];
    let texts = |job: Job| job.source("s", "v STRING");
    let counted = framed(TEXTS, async |session: Session| {
        session.table("e").await?.drop_duplicates(&[])?.create_or_replace_temp_view("e")?;
        session.sql("SELECT count(*) AS n FROM e").await
    });
    agree(vec![
        ("C01", texts(distinct(TEXTS, &[], &["v"]))),
        ("C02", pairs(distinct(PLAIN, &["k"], &["k", "v"]))),
        ("C03", ints(distinct(E10, &["v", "t"], &["v"]))),
        ("C04", pairs(distinct(K10, &["k"], &["k", "v"]))),
        ("C05", distinct(K10, &["k"], &["k", "v", "t"]).source("s", "k INT, v INT")),
        ("C06", pairs(within(K10))),
        ("C07", pairs(within(K10))),
        ("C08", pairs(within(K10)).conf(NO_DATA, false)),
        ("C09", texts(distinct(TEXTS, &[], &["v"])).output_mode(UPDATE)),
        ("C11", texts(counted).output_mode(COMPLETE)),
        ("C12", texts(framed(TEXTS, async |session: Session| session.table("e").await?.distinct()))),
        ("C13", texts(distinct(TEXTS, &[], &["v"]))),
    ]);
}

#[test]
fn limits_and_aggregates() {
    let numbers = |build: fn(DataFrame) -> wavetank::Result<DataFrame>| {
        ints(framed(&[], async move |session: Session| build(session.sql("SELECT v FROM STREAM s").await?)))
    };
    let functions = "SELECT k, count(v) AS c, sum(v) AS s, min(v) AS a, max(v) AS b, avg(v) AS m, collect_list(v) AS l, \
                     first(v) AS f, last(v) AS z, approx_count_distinct(v) AS d FROM STREAM s GROUP BY k";
    agree(vec![
        ("D01", numbers(|frame| frame.limit(4))),
        (
            "D03",
            ints(over(&[], "SELECT v, count(*) AS n FROM STREAM s GROUP BY v ORDER BY n DESC LIMIT 2"))
                .output_mode(COMPLETE),
        ),
        ("D04", numbers(|frame| frame.limit(4)?.drop_duplicates(&[]))),
        ("D05", numbers(|frame| frame.drop_duplicates(&[])?.limit(2))),
        ("D06", pairs(over(&[], functions)).output_mode(UPDATE)),
        (
            "D07",
            ints(over(&[], "SELECT v, count(*) AS n FROM STREAM s GROUP BY v HAVING count(*) >= 2"))
                .output_mode(UPDATE),
        ),
        ("D08", ints(over(&[], "SELECT v, count(*) AS n FROM STREAM s GROUP BY v")).output_mode(UPDATE)),
    ]);
}

const L: &str = "SELECT k, v AS lv, timestamp_seconds(v) AS lt FROM STREAM L";
const R: &str = "SELECT k, v AS rv, timestamp_seconds(v) AS rt FROM STREAM R";
const PLAIN: &[View] = &[("l", L, None), ("r", R, None)];
const BOTH10: &[View] = &[("l", L, Some(("lt", "10 seconds"))), ("r", R, Some(("rt", "10 seconds")))];
const BOTH0: &[View] = &[("l", L, Some(("lt", "0 seconds"))), ("r", R, Some(("rt", "0 seconds")))];
const LEFT10: &[View] = &[("l", L, Some(("lt", "10 seconds"))), ("r", R, None)];
const RIGHT0: &[View] = &[("l", L, None), ("r", R, Some(("rt", "0 seconds")))];

fn sides(job: Job) -> Job {
    job.source("L", "k INT, v INT").source("R", "k INT, v INT")
}

/// A join on key and window, or within a range of time.
fn joined(views: &'static [View], columns: &str, kind: &str, on: &str) -> Job {
    let windows = "(SELECT *, window(lt, '10 seconds') AS lw FROM l) l";
    let query = format!(
        "SELECT {columns} FROM {windows} {kind} JOIN (SELECT *, window(rt, '10 seconds') AS rw FROM r) r ON l.k = r.k AND {on}"
    );
    sides(over(views, Box::leak(query.into_boxed_str())))
}

#[test]
fn inner_joins() {
    const E03: &[View] = &[("l", L, Some(("lt", "10 seconds"))), ("r", R, Some(("rt", "20 seconds")))];
    let range = "rt BETWEEN lt - INTERVAL 5 SECONDS AND lt + INTERVAL 10 SECONDS";
    let counted = "SELECT lw.start AS w, count(*) AS n FROM (SELECT l.lw FROM (SELECT *, window(lt, '10 seconds') AS lw FROM l) l \
                   JOIN (SELECT *, window(rt, '10 seconds') AS rw FROM r) r ON l.k = r.k AND lw = rw) GROUP BY lw";
    agree(vec![
        ("E01", sides(over(PLAIN, "SELECT l.k, lv, rv FROM l JOIN r ON l.k = r.k"))),
        ("E02", joined(LEFT10, "l.k, lw.end AS w, lv, rv", "INNER", "lw = rw")),
        ("E03", joined(E03, "l.k, lv, rv", "INNER", "lt < rt - INTERVAL 5 SECONDS")),
        ("E04", joined(BOTH10, "l.k, lv, rv", "INNER", range)),
        ("E17", sides(over(BOTH0, counted))),
        ("E20", joined(LEFT10, "l.k, lv, rv", "INNER", "lw = rw")),
        (
            "E16",
            over(
                &[("a", "SELECT k, v FROM STREAM s", None)],
                "SELECT x.k, x.v, y.k AS k2, y.v AS v2 FROM a x JOIN a y ON x.k = y.k AND x.v < y.v",
            )
            .source("s", "k INT, v INT"),
        ),
    ]);
}

#[test]
fn outer_and_semi_joins() {
    let all = "l.k, r.k AS rk, lv, rv";
    let near = "lt BETWEEN rt - INTERVAL 5 SECONDS AND rt + INTERVAL 5 SECONDS";
    agree(vec![
        ("E05", joined(BOTH10, all, "LEFT", "lw = rw")),
        ("E06", joined(BOTH10, all, "RIGHT", "lw = rw")),
        ("E07", joined(BOTH10, all, "FULL OUTER", "lw = rw")),
        ("E08", joined(BOTH10, "l.k, lv", "LEFT SEMI", "lw = rw")),
        ("E09", joined(BOTH10, all, "LEFT", near)),
        ("E10", joined(BOTH10, all, "RIGHT", near)),
        ("E11", joined(BOTH10, all, "FULL OUTER", near)),
        ("E12", joined(BOTH10, "l.k, lv", "LEFT SEMI", near)),
        ("E13", joined(BOTH10, "l.k, lv, rv", "LEFT", "lw = rw AND lv > 3 AND rv < 8")),
        ("E14", joined(BOTH10, "l.k, lv, rv", "LEFT", "lw = rw AND lv + rv > 10")),
        ("E19", joined(BOTH10, "l.k, lv, rv", "LEFT", "lw = rw")),
        ("E21", joined(RIGHT0, "l.k, lv, rv", "LEFT", near)),
    ]);
}
