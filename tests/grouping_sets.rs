//! GROUPING SETS, ROLLUP, CUBE, PIVOT, samples and set operations, static and (where they can be) over streams with
//! restarts: the answers are Spark's.

use std::sync::{Arc, Mutex};

use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

use crate::support::compare::rows_of;

const COLUMNS: &str = "k STRING, c STRING, v INT";

const BLOCKS: &[&str] = &[
    "{\"k\":\"a\",\"c\":\"x\",\"v\":1}\n{\"k\":\"a\",\"c\":\"y\",\"v\":2}\n{\"k\":\"b\",\"c\":\"x\",\"v\":3}\n",
    "{\"k\":null,\"c\":\"x\",\"v\":4}\n{\"k\":\"a\",\"c\":null,\"v\":null}\n",
    "{\"k\":\"b\",\"c\":\"x\",\"v\":6}\n{\"k\":\"c\",\"c\":\"z\",\"v\":7}\n{\"k\":null,\"c\":null,\"v\":8}\n",
];

/// Queries with the answers of Spark 4.3.0 to all rows.
const QUERIES: &[(&str, &str)] = &[
    (
        "SELECT k, c, sum(v) AS s, count(*) AS n FROM events GROUP BY ROLLUP(k, c)",
        r#"[null,null,8,1] [null,null,12,2] [null,null,31,8] [null,"x",4,1] ["a",null,null,1] ["a",null,3,3] ["a","x",1,1] ["a","y",2,1] ["b",null,9,2] ["b","x",9,2] ["c",null,7,1] ["c","z",7,1]"#,
    ),
    (
        "SELECT k, c, avg(v) AS a, grouping(k) AS gk, grouping(c) AS gc FROM events GROUP BY CUBE(k, c)",
        r#"[null,null,4.428571428571429,1,1] [null,null,6.0,0,1] [null,null,8.0,0,0] [null,null,8.0,1,0] [null,"x",3.5,1,0] [null,"x",4.0,0,0] [null,"y",2.0,1,0] [null,"z",7.0,1,0] ["a",null,null,0,0] ["a",null,1.5,0,1] ["a","x",1.0,0,0] ["a","y",2.0,0,0] ["b",null,4.5,0,1] ["b","x",4.5,0,0] ["c",null,7.0,0,1] ["c","z",7.0,0,0]"#,
    ),
    (
        "SELECT k, c, max(v) AS m, grouping_id() AS g FROM events GROUP BY GROUPING SETS ((c), (k, c), ())",
        r#"[null,null,8,0] [null,null,8,1] [null,null,8,3] [null,"x",4,0] [null,"x",6,1] [null,"y",2,1] [null,"z",7,1] ["a",null,null,0] ["a","x",1,0] ["a","y",2,0] ["b","x",6,0] ["c","z",7,0]"#,
    ),
    (
        "SELECT k, c, max(v) AS m, grouping_id(c, k) AS g FROM events GROUP BY GROUPING SETS ((c), (k))",
        r#"[null,null,8,1] [null,null,8,2] [null,"x",6,1] [null,"y",2,1] [null,"z",7,1] ["a",null,2,2] ["b",null,6,2] ["c",null,7,2]"#,
    ),
    // A set that is there twice gives its rows twice.
    (
        "SELECT k, count(*) AS n FROM events GROUP BY GROUPING SETS ((k), (k), ())",
        r#"[null,2] [null,2] [null,8] ["a",3] ["a",3] ["b",2] ["b",2] ["c",1] ["c",1]"#,
    ),
    // A column of every set beside the sets.
    (
        "SELECT k, c, count(*) AS n FROM events GROUP BY k, ROLLUP(c)",
        r#"[null,null,1] [null,null,2] [null,"x",1] ["a",null,1] ["a",null,3] ["a","x",1] ["a","y",1] ["b",null,2] ["b","x",2] ["c",null,1] ["c","z",1]"#,
    ),
    // An expression, and a condition on a key that a set leaves out.
    (
        "SELECT upper(k) AS u, c, count(v) AS n FROM events GROUP BY ROLLUP(upper(k), c) HAVING c = 'x'",
        r#"[null,"x",1] ["A","x",1] ["B","x",2]"#,
    ),
    (
        "SELECT k, c, count(*) AS n FROM events GROUP BY CUBE(k, c) HAVING k IS NULL",
        r#"[null,null,1] [null,null,2] [null,null,2] [null,null,8] [null,"x",1] [null,"x",4] [null,"y",1] [null,"z",1]"#,
    ),
    ("SELECT count(*) AS n FROM events GROUP BY GROUPING SETS (())", r#"[8]"#),
];

#[tokio::test]
async fn state_of_grouping_sets_lives_through_restarts_in_any_number_of_partitions() -> wavetank::Result<()> {
    let mut wrong = vec![];
    for (query, spark) in QUERIES {
        let answers = [at_once(query).await, streamed(query, 1).await, streamed(query, 2).await];
        for (answer, how) in answers.into_iter().zip(["static", "stream", "stream in two partitions"]) {
            match answer {
                Ok(answer) if sorted(&answer) == sorted(spark) => {}
                other => wrong.push(format!("{query}, {how}\n Spark {spark}\n here {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn streamed(sql: &str, partitions: usize) -> Result<String, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let stream = MemoryStream::new(parse_ddl_schema(COLUMNS)?);
    let last = Arc::new(Mutex::new(String::new()));
    for block in BLOCKS {
        stream.add_json(block)?;
        let environment = Environment::real(folder.path().to_owned());
        let session = wavetank::session_builder(environment)
            .parallelism(partitions)
            .conf("spark.sql.shuffle.partitions", &partitions.to_string())?
            .build()?;
        let frame = session.stream_of("events", Arc::new(stream.clone()), Default::default()).await?;
        frame.create_or_replace_temp_view("events")?;
        let seen = Arc::clone(&last);
        let sink = ForeachBatchProvider::blocking(move |batch: ForeachBatch| {
            *seen.lock().expect("no panic here") = text(&batch.rows);
            Ok::<(), Error>(())
        });
        let query = session
            .sql(sql)
            .await?
            .write_stream()
            .sink(Arc::new(sink))
            .output_mode(OutputMode::Complete)
            .trigger(Trigger::AvailableNow)
            .option("checkpointLocation", "checkpoint")
            .start()
            .await?;
        query.await_termination().await?;
    }
    let last = last.lock().expect("no panic here").clone();
    Ok(last)
}

fn static_session() -> Result<Session, Error> {
    let session = wavetank::session_builder(Environment::real("/".into())).build()?;
    let schema = parse_ddl_schema(COLUMNS)?;
    let rows = wavetank::sources::parse_json_lines(&schema, &BLOCKS.concat(), &Default::default())?;
    let table = datafusion::datasource::MemTable::try_new(schema, vec![vec![rows]])?;
    session.register_table("events", Arc::new(table))?;
    Ok(session)
}

async fn at_once(sql: &str) -> Result<String, Error> {
    Ok(text(&static_session()?.sql(sql).await?.collect().await?))
}

/// The rows in an order of their own.
fn sorted(text: &str) -> Vec<String> {
    let mut rows: Vec<_> = text.split(' ').map(str::to_owned).collect();
    rows.sort();
    rows
}

fn text(rows: &[arrow::array::RecordBatch]) -> String {
    rows_of(rows).into_iter().map(|row| serde_json::Value::Array(row).to_string()).collect::<Vec<_>>().join(" ")
}

/// Static queries with the answers of Spark 4.3.0.
const STATIC: &[(&str, &str)] = &[
    (
        "SELECT * FROM VALUES (1), (1), (2), (3), (3), (3) AS a(v) EXCEPT ALL SELECT * FROM VALUES (1), (3), (9) AS b(v)",
        "[1] [2] [3] [3]",
    ),
    (
        "SELECT * FROM VALUES (1), (1), (2), (3), (3), (3) AS a(v) INTERSECT ALL SELECT * FROM VALUES (1), (3), (3) AS b(v)",
        "[1] [3] [3]",
    ),
    ("SELECT * FROM VALUES (1), (1), (NULL) AS a(v) EXCEPT SELECT * FROM VALUES (2), (NULL) AS b(v)", "[1]"),
    ("SELECT * FROM VALUES (1), (1), (NULL) AS a(v) INTERSECT SELECT * FROM VALUES (1), (NULL) AS b(v)", "[null] [1]"),
    (
        "SELECT * FROM events PIVOT (sum(v) FOR c IN ('x', 'y' AS yes))",
        "[null,4,null] [\"a\",1,2] [\"b\",9,null] [\"c\",null,null]",
    ),
    ("SELECT * FROM (SELECT c, v FROM events) PIVOT (count(v) FOR c IN ('x', 'z'))", "[4,1]"),
    ("SELECT count(*) FROM events TABLESAMPLE (100 PERCENT)", "[8]"),
    ("SELECT count(*) FROM events TABLESAMPLE (0 PERCENT) AS e", "[0]"),
    ("SELECT count(*) FROM events TABLESAMPLE (3 ROWS)", "[3]"),
    ("SELECT max(id) FROM (SELECT monotonically_increasing_id() AS id FROM events)", "[7]"),
    ("SELECT v FROM events WHERE v < 4 SORT BY v DESC", "[3] [2] [1]"),
    ("SELECT count(*) FROM events WHERE rand() < 2", "[8]"),
    ("SELECT count(*) FROM events WHERE random() < 0", "[0]"),
    ("SELECT DISTINCT nth_value(v, 2) OVER (PARTITION BY k ORDER BY v DESC) FROM events WHERE k = 'b'", "[null] [3]"),
];

#[tokio::test]
async fn static_queries_answer_as_spark() -> wavetank::Result<()> {
    let session = static_session()?;
    let mut wrong = vec![];
    for (sql, expected) in STATIC {
        let answer = match session.sql(*sql).await {
            Ok(frame) => frame.collect().await.map(|rows| text(&rows)),
            Err(error) => Err(error),
        };
        let in_order = |text: &str| match sql.contains("SORT BY") {
            true => text.split(' ').map(str::to_owned).collect(),
            false => sorted(text),
        };
        match answer {
            Ok(answer) if in_order(&answer) == in_order(expected) => {}
            other => wrong.push(format!("{sql}\n expected {expected}\n got {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Every query counts its rows from 0.
    let ids = "SELECT min(id), max(id) FROM (SELECT monotonically_increasing_id() AS id FROM events)";
    for _ in 0..2 {
        assert_eq!(text(&session.sql(ids).await?.collect().await?), "[0,7]");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_supported_says_what_to_write() -> wavetank::Result<()> {
    let session = static_session()?;
    for (sql, what) in [
        ("SELECT rand(7) FROM events", "Call rand()"),
        ("SELECT * FROM events PIVOT (sum(v), max(v) FOR c IN ('x'))", "one PIVOT for each"),
        ("SELECT * FROM events TABLESAMPLE (5)", "TABLESAMPLE (10 PERCENT)"),
    ] {
        let error = session.sql(sql).await.expect_err(sql).to_string();
        assert!(error.contains(what), "{error}");
    }
    Ok(())
}
