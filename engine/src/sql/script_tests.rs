//! What scripts say, and what users read when they are wrong.

use super::*;

fn one(text: &str) -> Statement {
    let mut all = parse_script(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

#[test]
fn a_pipeline_is_read_with_its_lines() {
    let script = "-- a pipeline; with a semicolon in its comment
SET spark.sql.shuffle.partitions = 4;
CREATE TABLE quakes (time TIMESTAMP, mag DOUBLE NOT NULL, `the place` STRING COMMENT 'a;b')
  USING json OPTIONS (path '/data/in', maxFilesPerTrigger = 1, 'x.y' true, header.size -2);
/* two
   lines; */
CREATE OR REPLACE TEMPORARY VIEW strong AS
  SELECT * FROM STREAM quakes WATERMARK time DELAY OF INTERVAL 10 MINUTES WHERE place <> ';' AND mag > 4;

CREATE STREAMING TABLE out USING console OPTIONS (outputMode 'update', trigger '5 seconds') PARTITIONED BY (k, `l`)
AS SELECT * FROM strong;
SELECT 1;;
";
    let all = parse_script(script).unwrap();
    let lines: Vec<_> = all.iter().map(|s| s.line).collect();
    assert_eq!(lines, [2, 3, 7, 10, 12]);
    let Statement::CreateTable(table) = &all[1].statement else { panic!("{:?}", all[1]) };
    assert_eq!((table.name.as_str(), table.using.as_deref()), ("quakes", Some("json")));
    let options: Vec<_> = table.options.iter().collect();
    assert_eq!(options, [("header.size", "-2"), ("maxFilesPerTrigger", "1"), ("path", "/data/in"), ("x.y", "true")]);
    assert_eq!(table.columns.as_ref().unwrap().fields().len(), 3);
    let Statement::CreateView(view) = &all[2].statement else { panic!("{:?}", all[2]) };
    assert!(view.replace && view.query.line == 8 && view.query.sql.ends_with("place <> ';' AND mag > 4"));
    let Statement::CreateStreamingTable(out) = &all[3].statement else { panic!("{:?}", all[3]) };
    assert_eq!(out.partitioned_by, ["k", "l"]);
    assert_eq!(out.query, QueryText { sql: "SELECT * FROM strong".into(), line: 11 });
}

#[test]
fn set_takes_the_rest_as_it_stands() {
    let set = |key: Option<&str>, value: Option<&str>| Statement::Set {
        key: key.map(str::to_owned),
        value: value.map(str::to_owned),
    };
    assert_eq!(one("SET"), set(None, None));
    assert_eq!(one("set a.b-c"), set(Some("a.b-c"), None));
    assert_eq!(one("SET a.b = 10 seconds -- comment"), set(Some("a.b"), Some("10 seconds")));
    assert_eq!(one("SET a=s3://x/y?z"), set(Some("a"), Some("s3://x/y?z")));
    assert_eq!(one("SET a = 'x;y'"), set(Some("a"), Some("x;y")));
    assert_eq!(one("SET a ="), set(Some("a"), Some("")));
}

#[test]
fn other_spellings_of_the_same() {
    let Statement::CreateTable(t) = one("CREATE TABLE IF NOT EXISTS a.b LOCATION '/x' COMMENT 'c' USING PARQUET")
    else {
        panic!()
    };
    assert!(t.if_not_exists && t.name == "a.b" && t.options.get("path") == Some("/x"));
    assert_eq!((t.using.as_deref(), t.comment.as_deref(), &t.columns), (Some("parquet"), Some("c"), &None));
    let Statement::CreateTable(t) = one("CREATE TEMPORARY VIEW v USING csv OPTIONS ()") else { panic!() };
    assert_eq!(t.using.as_deref(), Some("csv"));
    let Statement::CreateView(v) = one("create view v (a, b) as (select 1, 2)") else { panic!() };
    assert_eq!((v.columns, v.query.sql.as_str(), v.replace), (vec!["a".into(), "b".into()], "(select 1, 2)", false));
    assert_eq!(one("DROP VIEW IF EXISTS v"), Statement::Drop { view: true, name: "v".into(), if_exists: true });
    let Statement::Explain { mode, query } = one("EXPLAIN EXTENDED SELECT 'é', `x;y`") else { panic!() };
    assert_eq!((mode.as_deref(), query.sql.as_str()), (Some("EXTENDED"), "SELECT 'é', `x;y`"));
    assert!(matches!(one("CREATE OR REFRESH STREAMING TABLE t AS SELECT 1"), Statement::CreateStreamingTable(_)));
    assert!(parse_script(" -- nothing\n ; /* */ ;").unwrap().is_empty());
}

#[test]
fn a_wrong_script_says_where_and_what_instead() {
    for (script, expected) in [
        (
            "SELEC 1",
            "Syntax error at or near 'SELEC': expected SELECT or CREATE or SET or DROP or EXPLAIN or WITH or VALUES. Did you mean 'SELECT'? (line 1, pos 0)",
        ),
        ("SELECT 1;\n\nCRAETE TABLE t", "Did you mean 'CREATE'? (line 3, pos 0)"),
        ("CREATE TABL t", "Did you mean 'TABLE'?"),
        ("CREATE STREAMIN TABLE t", "Did you mean 'STREAMING'?"),
        ("CREATE TABLE t (a INT) USIN json", "Did you mean 'USING'? (line 1, pos 23)"),
        ("CREATE TABLE t (a INTT)", "Did you mean 'INT'?"),
        ("CREATE TABLE t (a INT", "expected ',' or ')'"),
        ("CREATE TABLE t USING json OPTIONS (a b)", "expected the value of option 'a'"),
        ("CREATE TABLE t USING json OPTIONS (a 'b' c 'd')", "expected ',' or ')'"),
        ("CREATE TABLE t USING json OPTIONS (a 'b', A 'd')", "[DUPLICATE_KEY]"),
        ("CREATE TABLE t USING json USING csv", "[DUPLICATE_CLAUSES] Found duplicate clauses: USING"),
        ("CREATE TABLE t LOCATION 'a' OPTIONS (path 'b')", "Duplicated table paths"),
        ("CREATE TABLE t USING json AS SELECT 1", "Write CREATE STREAMING TABLE"),
        ("CREATE STREAMING TABLE t USING console", "at or near end of input: expected AS"),
        ("CREATE STREAMING TABLE t (a INT) AS SELECT 1", "come from its query"),
        ("CREATE VIEW v SELECT 1", "at or near 'SELECT': expected AS"),
        ("CREATE VIEW v AS", "at or near end of input"),
        ("DROP t", "expected VIEW or TABLE"),
        ("SELECT 'abc", "[PARSE_SYNTAX_ERROR] Unterminated string literal"),
        ("SELECT 1 /* x", "Check that every quote, backtick and comment is closed"),
        ("INSERT INTO t VALUES (1)", "is not a statement of a pipeline"),
        ("SET = 1", "expected the name of a setting"),
        ("SELECT 1; DROP VIEW a b", "at or near 'b': expected ';'"),
    ] {
        let error = parse_script(script).unwrap_err();
        assert!(error.to_string().contains(expected), "{script}: {error}");
    }
}
