//! Queries run over a small table, against what Spark 4.3 answered for the same.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::execution::context::QueryPlanner;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionContext;

use super::*;
use crate::functions::window_expand::TimeWindowExpandPlanner;
use crate::functions::{session_builder, session_config};
use crate::sql::spark_type_name;

#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(TimeWindowExpandPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}

/// A session with the tables `t`, `names` and the window view `ww`, as they were when Spark was asked.
pub(crate) async fn session() -> SessionContext {
    let state = session_builder(session_config(1)).with_query_planner(Arc::new(Planner)).build();
    let context = SessionContext::new_with_state(state);
    for (name, sql) in [
        (
            "t",
            "SELECT * FROM VALUES
             (timestamp'2024-03-01 12:00:01.5', 'a', 5L, 1.5D, array(1,2), map('x',1), named_struct('x',1,'Y','s'), 7L),
             (timestamp'2024-03-01 12:00:07',   'b', 7L, 2.5D, array(3),   map('y',2), named_struct('x',2,'Y','t'), 8L),
             (null,                             null, null, 4.0D, null,    null,       named_struct('x',3,'Y','u'), 9L)
             AS t(ts,k,v,d,a,m,s,adId)",
        ),
        ("names", "SELECT * FROM VALUES ('a','la'),('z','lz') AS n(k,label)"),
        ("ww", "SELECT window(ts,'5 seconds') w, count(*) n FROM t GROUP BY 1"),
    ] {
        let (_, batches) = run(&context, sql).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let schema = batches[0].schema();
        let table = datafusion::datasource::MemTable::try_new(schema, vec![batches]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

async fn run(context: &SessionContext, sql: &str) -> Result<(Vec<(String, String)>, Vec<RecordBatch>)> {
    let state = context.state();
    // In a batch a watermark does nothing.
    let plan = plan_query(&state, sql, &|input, column, _| {
        input.schema().index_of_column(&column)?;
        Ok(input)
    })
    .await?;
    let columns = plan.schema().fields().iter();
    let columns = columns.map(|f| (f.name().clone(), spark_type_name(f.data_type()))).collect();
    let physical = state.create_physical_plan(&plan).await?;
    let batches = collect(physical, context.task_ctx()).await?;
    Ok((columns, batches))
}

/// Rows as text, one a line, columns separated by `|`.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

async fn check(context: &SessionContext, sql: &str, columns: &str, expected: &[&str]) {
    let (found, batches) = run(context, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let found: Vec<String> = found.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect();
    assert_eq!(found.join(", "), columns, "{sql}");
    let mut found = rows(&batches);
    if !sql.to_lowercase().contains("order by") {
        found.sort();
    }
    assert_eq!(found, expected, "{sql}");
}

#[tokio::test]
async fn names_are_found_in_any_case_and_keep_the_users_spelling() {
    let context = session().await;
    for (sql, columns, expected) in [
        ("select K, T.V from T where ADID = 7", "K string, V bigint", vec!["a|5"]),
        ("select adid, `adId` as `x y` from t where t.k = 'b'", "adid bigint, x y bigint", vec!["8|8"]),
        ("select S.x, s.y, t.s.X + 1 from t where v = 5", "x int, y string, (s.X + 1) int", vec!["1|s|2"]),
        ("select q.KK from (select k as kk from t) Q where Q.kk = 'a'", "KK string", vec!["a"]),
        ("with C as (select K from t) select c.k from c where k = 'a'", "k string", vec!["a"]),
        (
            "select k, count(*) C from t group by K having c > 0 and k = 'a' order by C, K",
            "k string, C bigint",
            vec!["a|1"],
        ),
        ("select t.K, Label from t join NAMES n on T.k = N.k", "K string, Label string", vec!["a|la"]),
        ("select K, label from t join names using (K)", "K string, label string", vec!["a|la"]),
        ("select * except (TS, d, A, m, s) from t where K = 'a'", "k string, v bigint, adId bigint", vec!["a|5|7"]),
        ("select n.* from t, names N where t.k = n.K", "k string, label string", vec!["a|la"]),
        ("select K from t where exists (select 1 from names n where n.K = T.k)", "K string", vec!["a"]),
        ("select v + 1 as b, b * 2 as c from t where k = 'a'", "b bigint, c bigint", vec!["6|12"]),
        (
            "select upper(k), count(*) from t where v > 1 group by all order by 1",
            "upper(k) string, count(1) bigint",
            vec!["A|1", "B|1"],
        ),
        ("select k from t left anti join names on t.k = names.k where t.k is not null", "k string", vec!["b"]),
        ("select k from t left semi join names on t.k = names.k", "k string", vec!["a"]),
        ("select k from names union all select label from names where k = 'a'", "k string", vec!["a", "la", "z"]),
        ("select * from values (1, 'a') order by col1", "col1 int, col2 string", vec!["1|a"]),
    ] {
        check(&context, sql, columns, &expected).await;
    }
}

#[tokio::test]
async fn columns_without_an_alias_are_named_as_in_spark() {
    let context = session().await;
    for (item, name) in [
        ("v+1", "(v + 1)"),
        ("t.v*2", "(v * 2)"),
        ("-v", "(- v)"),
        ("not (v > 1)", "(NOT (v > 1))"),
        ("v > 1 and k = 'a'", "((v > 1) AND (k = a))"),
        ("v != 1", "(NOT (v = 1))"),
        ("k like 'a%'", "k LIKE a%"),
        ("v between 1 and 2", "between(v, 1, 2)"),
        ("v in (1,2)", "(v IN (1, 2))"),
        ("k is not null", "(k IS NOT NULL)"),
        ("case when v > 1 then 'x' else 'y' end", "CASE WHEN (v > 1) THEN x ELSE y END"),
        ("case k when 'a' then 1 end", "CASE WHEN (k = a) THEN 1 END"),
        ("cast(v as string)", "v"),
        ("cast('1' as int)", "CAST(1 AS INT)"),
        ("1.5", "1.5"),
        ("1e3", "1000.0"),
        ("null", "NULL"),
        ("date'2024-01-01'", "DATE '2024-01-01'"),
        ("ts + interval 1 hour", "ts + INTERVAL '01' HOUR"),
        ("a[0]", "a[0]"),
        ("m['x']", "m[x]"),
        ("coalesce(v, 1)", "coalesce(v, 1)"),
        ("if(v>1,1,2)", "(IF((v > 1), 1, 2))"),
        ("k || 'x'", "concat(k, x)"),
        ("substring(k,1,2)", "substring(k, 1, 2)"),
        ("trim(k)", "trim(k)"),
        ("extract(hour from ts)", "extract(hour FROM ts)"),
        ("v % 2", "(v % 2)"),
        ("v div 2", "(v div 2)"),
        ("v <=> 1", "(v <=> 1)"),
        ("!true", "(NOT true)"),
        ("current_timestamp", "current_timestamp()"),
        ("window(ts, '5 seconds')", "window"),
        ("window(ts, '5 seconds').start", "window.start"),
        ("session_window(ts, '5 seconds')", "session_window"),
        ("count(*)", "count(1)"),
        ("max(distinct v)", "max(DISTINCT v)"),
        ("sum(v) filter (where v > 1)", "sum(v) FILTER (WHERE (v > 1))"),
    ] {
        let sql = format!("select {item} from t");
        let (columns, _) = run(&context, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(columns[0].0, name, "{sql}");
    }
}

#[tokio::test]
async fn time_windows_are_those_that_spark_gave() {
    let context = session().await;
    let w = "struct<start:timestamp,end:timestamp>";
    for (sql, columns, expected) in [
        (
            "select window(ts, '5 seconds') w, sum(v) from t group by window(ts, '5 seconds')",
            format!("w {w}, sum(v) bigint"),
            vec![
                "{start: 2024-03-01T12:00:00Z, end: 2024-03-01T12:00:05Z}|5",
                "{start: 2024-03-01T12:00:05Z, end: 2024-03-01T12:00:10Z}|7",
            ],
        ),
        (
            "select window.start s, count(*) n from t group by window(ts, '10 seconds', '5 seconds') order by s",
            "s timestamp, n bigint".to_owned(),
            vec!["2024-03-01T11:59:55Z|1", "2024-03-01T12:00:00Z|2", "2024-03-01T12:00:05Z|1"],
        ),
        (
            "select k, window(ts, '10 seconds', '5 seconds').end from t where k = 'a' order by 2 desc",
            "k string, window.end timestamp".to_owned(),
            vec!["a|2024-03-01T12:00:10Z", "a|2024-03-01T12:00:05Z"],
        ),
        (
            "select window(W, '10 seconds') w2, sum(N) n from ww group by window(w, '10 seconds')",
            format!("w2 {w}, n bigint"),
            vec!["{start: 2024-03-01T12:00:00Z, end: 2024-03-01T12:00:10Z}|2"],
        ),
        (
            "select window_time(w) from ww order by 1",
            "window_time(w) timestamp".to_owned(),
            vec!["2024-03-01T12:00:04.999999Z", "2024-03-01T12:00:09.999999Z"],
        ),
        (
            "select session_window(ts, case when k = 'a' then '2 seconds' else '0 seconds' end) s from t",
            format!("s {w}"),
            vec!["{start: 2024-03-01T12:00:01.500Z, end: 2024-03-01T12:00:03.500Z}"],
        ),
        (
            "select session_window(ts, '1 month').end e from t where k = 'a'",
            "e timestamp".to_owned(),
            vec!["2024-04-01T12:00:01.500Z"],
        ),
        ("select session_window(ts, k) from t", format!("session_window {w}"), vec![]),
        (
            "select k from t where window(ts, '5 seconds').start > timestamp'2024-03-01 12:00:02'",
            "k string".to_owned(),
            vec!["b"],
        ),
        (
            "select window(ts, 5000000) from t where v = 5",
            format!("window {w}"),
            vec!["{start: 2024-03-01T12:00:00Z, end: 2024-03-01T12:00:05Z}"],
        ),
        ("select window('2024-01-01', '5 seconds').end e", "e timestamp".to_owned(), vec!["2024-01-01T00:00:05Z"]),
        (
            "select window(timestamp_ntz'2024-01-01 00:00:01', '5 seconds') w",
            "w struct<start:timestamp_ntz,end:timestamp_ntz>".to_owned(),
            vec!["{start: 2024-01-01T00:00:00, end: 2024-01-01T00:00:05}"],
        ),
    ] {
        check(&context, sql, &columns, &expected).await;
    }
}

#[tokio::test]
async fn generators_make_rows() {
    let context = session().await;
    for (sql, columns, expected) in [
        ("select k, explode(a) from t", "k string, col int", vec!["a|1", "a|2", "b|3"]),
        ("select k, explode_outer(a) as x from t", "k string, x int", vec!["a|1", "a|2", "b|3", "null|null"]),
        ("select explode(m) from t", "key string, value int", vec!["x|1", "y|2"]),
        ("select explode(m) as (kk, vv) from t", "kk string, vv int", vec!["x|1", "y|2"]),
        ("select k, posexplode(a) as (p, q) from t", "k string, p int, q int", vec!["a|0|1", "a|1|2", "b|0|3"]),
        ("select posexplode(a) from t", "pos int, col int", vec!["0|1", "0|3", "1|2"]),
        ("select K, C from t lateral view explode(A) x as c where C > 1", "K string, C int", vec!["a|2", "b|3"]),
        ("select x.* from t lateral view explode(m) x as key, value", "key string, value int", vec!["x|1", "y|2"]),
        ("select x.col from t lateral view explode(a) x", "col int", vec!["1", "2", "3"]),
        (
            "select k, p, c from t lateral view outer posexplode(a) x as p, c where v is null or v = 7",
            "k string, p int, c int",
            vec!["b|0|3", "null|null|null"],
        ),
        (
            "select word, count(*) n from (select explode(split('a b a', ' ')) as word) group by word",
            "word string, n bigint",
            vec!["a|2", "b|1"],
        ),
        ("select explode(array()) from t", "col void", vec![]),
    ] {
        check(&context, sql, columns, &expected).await;
    }
}

#[tokio::test]
async fn streams_and_watermarks_are_read_where_they_stand() {
    let context = session().await;
    for (sql, columns, expected) in [
        ("select k from stream t watermark ts delay of interval 10 seconds where v = 5", "k string", vec!["a"]),
        ("select x.k from stream(t) watermark TS delay of interval '1' hour as x where x.v = 5", "k string", vec!["a"]),
        (
            "select q.k from (select ts, k from t) watermark ts delay of interval 1 minute q where q.k = 'a'",
            "k string",
            vec!["a"],
        ),
        (
            "select * from (select ts, k from t where v = 5) watermark ts + interval 1 second as ts2 delay of interval 0 seconds",
            "ts2 timestamp, ts timestamp, k string",
            vec!["2024-03-01T12:00:02.500Z|2024-03-01T12:00:01.500Z|a"],
        ),
        (
            "select a.k from t watermark ts delay of interval 1 second a join stream names b on a.k = b.k",
            "k string",
            vec!["a"],
        ),
        ("select watermark.k from t watermark where v = 5", "k string", vec!["a"]),
        ("select stream from (select 1 stream) stream", "stream int", vec!["1"]),
        ("select extract(hour from ts), k from t where v = 5", "extract(hour FROM ts) int, k string", vec!["12|a"]),
    ] {
        check(&context, sql, columns, &expected).await;
    }
}

#[tokio::test]
async fn wrong_queries_get_sparks_class_and_the_nearest_right_name() {
    let context = session().await;
    for (sql, class, expected) in [
        ("selec 1", "PARSE_SYNTAX_ERROR", "Did you mean 'SELECT'? (line 1, pos 0)"),
        ("select k from t whre v > 1", "PARSE_SYNTAX_ERROR", "at or near 'v'"),
        ("select (1", "PARSE_SYNTAX_ERROR", "end of input"),
        ("select 'abc", "PARSE_SYNTAX_ERROR", "Unterminated"),
        (
            "select kk from t",
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            "with name `kk` cannot be resolved. Did you mean one of the following? [`k`, `a`, `d`, `m`, `s`] (line 1, pos 7)",
        ),
        (
            "select t.kk from t",
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            "`t`.`kk` cannot be resolved. Did you mean one of the following? [`t`.`k`,",
        ),
        ("select 1 as b from t\nwhere kk > 1", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "(line 2, pos 6)"),
        ("select k", "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", "There is no column here"),
        ("select k from t join names on t.k = names.k", "AMBIGUOUS_REFERENCE", "could be: [`names`.`k`, `t`.`k`]"),
        (
            "select * from namse",
            "TABLE_OR_VIEW_NOT_FOUND",
            "`namse` cannot be found. Verify the spelling and correctness of the schema and catalog (line 1, pos 14). Did you mean 'names'?",
        ),
        ("select * from stream namse", "TABLE_OR_VIEW_NOT_FOUND", "`namse` cannot be found"),
        (
            "select uper(k) from t",
            "UNRESOLVED_ROUTINE",
            "Cannot resolve routine `uper` (line 1, pos 7). Did you mean 'upper'?",
        ),
        ("select s.zz from t", "FIELD_NOT_FOUND", "No such struct field `zz` in `x`, `Y`"),
        ("select k.x from t", "INVALID_EXTRACT_BASE_FIELD_TYPE", "Can't extract a value from"),
        ("select nosuch.* from t", "CANNOT_RESOLVE_STAR_EXPAND", "Cannot resolve `nosuch`.*"),
        ("select v, count(*) from t group by k", "MISSING_AGGREGATION", "Add the column to GROUP BY"),
        ("select explode(a) + 1 from t", "UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS", "nested in expressions"),
        ("select x.* from t lateral view explode(m) x", "UDTF_ALIAS_NUMBER_MISMATCH", "Name them all"),
        ("select explode(k) from t", "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", "\"STRING\""),
        (
            "select window(ts, '0 seconds') from t",
            "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
            "\"window(ts, 0, 0, 0)\" due to data type mismatch: The `window_duration` must be between (0, 9223372036854775807] (current value = 0L)",
        ),
        (
            "select window(ts, '1 second', '2 seconds') from t",
            "DATATYPE_MISMATCH.PARAMETER_CONSTRAINT_VIOLATION",
            "The `slide_duration`(2000000L) must be <= the `window_duration`(1000000L)",
        ),
        (
            "select window(ts, '5 second', '2 seconds', '-2 seconds') from t",
            "DATATYPE_MISMATCH.PARAMETER_CONSTRAINT_VIOLATION",
            "\"window(ts, 5000000, 2000000, -2000000)\" due to data type mismatch: The `abs(start_time)`(2000000L) must be < the `slide_duration`(2000000L)",
        ),
        (
            "select window(v, '5 seconds') from t",
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            "however \"v\" has the type \"BIGINT\"",
        ),
        ("select window(ts, 'abc') from t", "CANNOT_PARSE_INTERVAL", "Unable to parse 'abc'"),
        (
            "select window(ts) from t",
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            "The `window` requires [2, 3, 4] parameters but the actual number is 1",
        ),
        ("select window(ts, '1 month') from t", "", "Intervals greater than a month is not supported (1 month)."),
        (
            "select window(ts, k) from t",
            "",
            "The duration and time inputs to window must be an integer, long or string literal.",
        ),
        (
            "select window(ts, '1 second'), window(ts, '2 seconds') from t",
            "",
            "Multiple time/session window expressions would result in a cartesian product",
        ),
        ("select window_time(s) from t", "", "The input is not a correct window column: window_time(s)"),
        (
            "select session_window(ts, v) from t",
            "",
            "Gap duration expression used in session window must be CalendarIntervalType",
        ),
        (
            "select * from t watermark ts + interval 1 second delay of interval 10 seconds",
            "REQUIRES_EXPLICIT_NAME_IN_WATERMARK_CLAUSE",
            "but got ts + INTERVAL '01' SECOND",
        ),
        (
            "select * from t watermark ts delay of interval -10 seconds",
            "",
            "delay threshold (INTERVAL '-10' SECOND) should not be negative",
        ),
        ("select * from t watermark ts delay of 10", "PARSE_SYNTAX_ERROR", "expected INTERVAL"),
        (
            "select * from t x watermark ts delay of interval 1 second",
            "PARSE_SYNTAX_ERROR",
            "stands after its WATERMARK clause",
        ),
        (
            "select * from t watermark nosuch delay of interval 1 second",
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            "`nosuch` cannot be resolved",
        ),
        (
            "select session_window(ts, interval 10 seconds) from t",
            "",
            "Gap duration expression used in session window must be CalendarIntervalType, but got an interval literal",
        ),
        (
            "select session_window(ts, case when k = 'a' then interval 1 hour end) from t",
            "",
            "must be CalendarIntervalType, but got an interval literal",
        ),
        ("select k, from t", "TRAILING_COMMA_IN_SELECT", "Trailing comma detected in SELECT clause (line 1, pos 8)"),
        ("select upper(k, k) from t", "WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "expects 1 arguments but received 2"),
        (
            "select k, count(*) from t group by k having v > 1",
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            "After GROUP BY there are only the grouping columns and aggregates",
        ),
        ("select 1 / 0", "DIVIDE_BY_ZERO", "Division by zero"),
        ("select v / (v - v) from t", "DIVIDE_BY_ZERO", "Division by zero"),
        ("select 5 % 0", "REMAINDER_BY_ZERO", "Remainder by zero"),
        ("select 9223372036854775807 + 1", "ARITHMETIC_OVERFLOW", "overflow. Use 'try_add'"),
        ("select 2147483647 + 1", "ARITHMETIC_OVERFLOW", "overflow"),
        ("select a[5] from t", "INVALID_ARRAY_INDEX", "The index 5 is out of bounds. The array has 2 elements"),
    ] {
        let error = match run(&context, sql).await {
            Err(error) => error,
            Ok((columns, _)) => panic!("{sql} gave {columns:?}"),
        };
        assert_eq!(error.class().unwrap_or(""), class, "{sql}: {error}");
        assert!(error.to_string().contains(expected), "{sql}: {error}");
    }
}

#[tokio::test]
async fn an_expression_is_planned_over_any_schema() {
    let context = session().await;
    let (state, table) = (context.state(), context.table("t").await.unwrap());
    for (text, expected) in [
        ("SUM(V) as total", "sum(t.v) AS total"),
        ("V", "t.v AS V"),
        ("t.k", "t.k"),
        ("count(*)", "count(Int64(1)) AS count(1)"),
    ] {
        let expr = plan_expr(&state, text, table.schema()).unwrap();
        assert_eq!(expr.to_string(), expected, "{text}");
    }
    assert_eq!(plan_expr(&state, "vv", table.schema()).unwrap_err().class(), Some("UNRESOLVED_COLUMN.WITH_SUGGESTION"));
}

#[tokio::test]
async fn long_conditions_are_planned() {
    let context = session().await;
    let chain = vec!["v = 5"; 3000].join(" OR ");
    let (_, batches) = run(&context, &format!("select k from t where {chain}")).await.unwrap();
    assert_eq!(rows(&batches), ["a"]);
}

#[tokio::test]
async fn long_sums_are_planned_or_refused() {
    let context = session().await;
    let sum = |terms: usize| format!("select {} as s from t where k = 'a'", vec!["v"; terms].join(" + "));
    let (_, batches) = run(&context, &sum(100)).await.unwrap();
    assert_eq!(rows(&batches), ["500"]);
    assert_eq!(run(&context, &sum(20_000)).await.unwrap_err().class(), Some("FAILED_TO_PARSE_TOO_COMPLEX"));
}

#[tokio::test]
async fn deep_parentheses_are_planned_or_refused() {
    let context = session().await;
    let deep = format!("select {}1{} from t", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(run(&context, &deep).await.unwrap_err().class(), Some("FAILED_TO_PARSE_TOO_COMPLEX"));
    let nested = format!("select {}1{} as x", "(".repeat(20), ")".repeat(20));
    check(&context, &nested, "x int", &["1"]).await;
}

#[tokio::test]
async fn odd_queries_mean_what_they_mean_in_spark() {
    let context = session().await;
    for (sql, columns, expected) in [
        ("with t as (select 1 as v) select v from t", "v int", vec!["1"]),
        ("select /* c */ k -- d\n from t where k = 'a' /* ; */", "k string", vec!["a"]),
        ("select 'é;''x' as `ü`, k from t where k = 'a'", "ü string, k string", vec!["é;'x|a"]),
        ("select count(*) c from t where ts > '2024-03-01 12:00:05'", "c bigint", vec!["1"]),
        ("select k from t where k in (select K from names)", "k string", vec!["a"]),
        ("select (select max(v) from t) m", "m bigint", vec!["7"]),
        ("select v + 1 as v from t where v > 5 order by V desc", "v bigint", vec!["8"]),
        ("select v from t order by v desc limit 1", "v bigint", vec!["7"]),
        ("select v from t order by v", "v bigint", vec!["null", "5", "7"]),
        (
            "select a.k from t a, stream t watermark ts delay of interval 1 second b where a.k = b.k and b.v = 5",
            "k string",
            vec!["a"],
        ),
        ("select sum(v) over (order by ts) s from t where v = 5", "s bigint", vec!["5"]),
        ("select case when k = 'a' then 1 else 2.5 end c from t where v = 5", "c decimal(11,1)", vec!["1.0"]),
        (
            "select window.end e, k from t where v = 5 group by window(ts, '5 seconds'), k",
            "e timestamp, k string",
            vec!["2024-03-01T12:00:05Z|a"],
        ),
        (
            "select w.start from (select window(ts, '5 seconds') w, v from t) q where q.w.end > timestamp'2024-03-01 12:00:06'",
            "start timestamp",
            vec!["2024-03-01T12:00:05Z"],
        ),
        ("select distinct k from t where v is not null order by 1", "k string", vec!["a", "b"]),
        (
            "select k, v from t where v = 5 union all select K, 1 from names where k = 'z'",
            "k string, v bigint",
            vec!["a|5", "z|1"],
        ),
        ("from t select k where v = 5", "k string", vec!["a"]),
    ] {
        check(&context, sql, columns, &expected).await;
    }
}
