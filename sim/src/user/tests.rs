//! A script with everything in it, moved into the world and run there.

use wavetank_engine::sql::parse_ddl_schema;

use super::*;
use crate::judge::{baseline_of, judge};
use crate::pipeline::Pipeline;
use crate::runner::run;
use crate::{draw, observe::Seen};

const SCRIPT: &str = "
    SET spark.sql.shuffle.partitions = 2;
    CREATE TABLE quakes (time TIMESTAMP, mag DOUBLE, net STRING, id BIGINT NOT NULL) USING json
      OPTIONS (path 'examples/data', maxFilesPerTrigger '1');
    CREATE TABLE pulse USING rate OPTIONS (rowsPerSecond '1');
    CREATE TABLE nets USING csv OPTIONS (path 'nets.csv', header 'true');
    SELECT 1;
    CREATE TEMPORARY VIEW strong AS SELECT q.*, name FROM STREAM quakes WATERMARK time DELAY OF INTERVAL 10 MINUTES AS q
      LEFT JOIN nets ON q.net = nets.net WHERE mag >= 4.5;
    CREATE STREAMING TABLE counted USING console OPTIONS (outputMode 'update', trigger 'availableNow', numRows '5')
      AS SELECT window.start AS w, name, count(*) AS n FROM strong GROUP BY window(time, '1 hour'), name;
    CREATE STREAMING TABLE finished USING parquet OPTIONS (path 'out', trigger '5 seconds', checkpointLocation 'c')
      AS SELECT window.start AS w, count(*) AS n, max(mag) AS m FROM strong GROUP BY window(time, '1 hour');
    CREATE STREAMING TABLE pulses USING noop AS SELECT * FROM STREAM(pulse) WHERE value > 3;";

fn known() -> Known {
    let pulse = parse_ddl_schema("timestamp TIMESTAMP, value BIGINT").unwrap();
    let nets = parse_ddl_schema("net STRING, name STRING").unwrap();
    let rows = vec![r#"{"net":"a","name":"Ala's\\ka"}"#.into(), r#"{"net":"b"}"#.into()];
    Known { columns: [("pulse".to_owned(), pulse)].into(), tables: [("nets".to_owned(), (nets, rows))].into() }
}

fn moved() -> Vec<UserScript> {
    UserScript::all(SCRIPT, &known()).unwrap()
}

#[test]
fn a_script_is_moved_in_as_text() {
    let moved = moved();
    let all: String = moved.iter().map(|moved| moved.text.as_str()).collect();
    for part in [
        "SET spark.sql.shuffle.partitions = 2;",
        "CREATE TABLE quakes (time timestamp, mag double, net string, id bigint NOT NULL)\n  USING tape OPTIONS (name 'quakes', blocksPerTrigger '1');",
        "CREATE TABLE pulse (timestamp timestamp, value bigint)\n  USING tape",
        r#"USING given OPTIONS (rows '{"net":"a","name":"Ala\'s\\\\ka"}\n{"net":"b"}');"#,
        "CREATE STREAMING TABLE counted USING witness\n  OPTIONS (outputMode 'update', checkpointLocation 'checkpoints/counted')\n  AS SELECT window.start",
        "outputMode 'append', trigger '5 seconds', checkpointLocation 'checkpoints/finished'",
    ] {
        assert!(all.contains(part), "{part}\nis not in\n{all}");
    }
    assert!(!all.contains("SELECT 1"));
    assert_eq!(moved[0].streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["quakes", "pulse"]);
    assert!(moved[2].text.contains("pulses") && !moved[2].text.contains("counted"), "{}", moved[2].text);
}

#[test]
fn hints_are_what_the_script_talks_about() {
    let hints = Hints::of("x >= 4.5 AND t IN ('ab', '6 hours') AND INTERVAL 10 MINUTES AND INTERVAL '2' SECONDS -- 7");
    assert_eq!(hints.durations_us, [2_000_000, 600_000_000, 21_600_000_000]);
    assert_eq!(hints.texts, ["ab", "2"]);
    assert_eq!(hints.numbers, [4.5, 7.0]);
}

#[test]
fn a_moved_script_runs_and_survives_what_is_drawn() {
    let moved = moved();
    let (mut rows, mut crashes) = (0, 0);
    for seed in 0..24 {
        let moved = &moved[seed as usize % moved.len()];
        let scenario = scenario(seed, moved);
        assert_eq!(scenario, super::scenario(seed, moved), "a seed draws the same again");
        let calm = run(&scenario, &Pipeline);
        assert!(judge(&calm, &calm).is_empty(), "{:?}", judge(&calm, &calm));
        rows += calm.observed.sinks.values().map(|seen: &Seen| seen.all_rows().len()).sum::<usize>();
        let disturbed = scenario.with_faults(draw::faults(seed, &calm.trace));
        let run_disturbed = run(&disturbed, &Pipeline);
        crashes += run_disturbed.lives.len() - 1;
        let baseline = run(&baseline_of(&disturbed, &run_disturbed), &Pipeline);
        let failures = judge(&run_disturbed, &baseline);
        assert!(failures.is_empty(), "seed {seed}: {failures:?}\n{}", disturbed.to_toml());
    }
    assert!(rows > 20 && crashes > 3, "{rows} rows, {crashes} crashes");
}

#[test]
fn rows_of_every_type_fit_their_columns_and_lie_around_the_edges() {
    let schema = parse_ddl_schema(
        "t TIMESTAMP NOT NULL, n TIMESTAMP_NTZ, d DATE, s STRING, b BINARY, o BOOLEAN, i1 TINYINT, i2 SMALLINT, i4 INT, \
         i8 BIGINT, f FLOAT, x DOUBLE, c DECIMAL(10,2), c0 DECIMAL(5,0), st STRUCT<a: INT, b: ARRAY<STRING>>, \
         m MAP<STRING, INT>",
    );
    let schema = schema.unwrap();
    let drawer = RowDrawer::new(&schema, &Hints::of("'1 hour' x > 1000 'us'"));
    let mut random = Entropy::from_seed(1).stream();
    let mut event_us = RowDrawer::BEGIN_US;
    let rows: Vec<String> = (0..400).flat_map(|_| drawer.block(&mut random, &mut event_us)).collect();
    let batch = crate::tape::decode(&schema, &rows).unwrap();
    assert_eq!(batch.num_rows(), rows.len());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        assert_eq!(column.null_count() == 0, !field.is_nullable(), "{field}");
    }
    for part in ["59:59.999999Z", "00:00.000001Z", "00:00.000000Z", "\"us\"", ":1001", ":999"] {
        assert!(rows.iter().any(|row| row.contains(part)), "no {part}");
    }
}

#[test]
fn scripts_that_cannot_be_simulated_say_why() {
    for (script, said) in [
        ("CREATE TABLE t (a INT) USING json OPTIONS (path 'x');", "no CREATE STREAMING TABLE"),
        ("CREATE STREAMING TABLE o USING console AS SELECT 1;", "reads no table with STREAM"),
        (
            "CREATE TABLE t USING json; CREATE STREAMING TABLE o AS SELECT 1 FROM STREAM t;",
            "Nothing is known of the table t",
        ),
        ("CREATE TALBE t", "PARSE_SYNTAX_ERROR"),
    ] {
        let error = UserScript::all(script, &Known::default()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_a_script_does_not_say_is_looked_up() {
    let world = crate::World::new(1);
    let script = "CREATE TABLE nets USING given OPTIONS (rows '');
        CREATE TABLE names (k STRING, v INT) USING given OPTIONS (rows '{\"k\":\"a\",\"v\":1}');
        CREATE TABLE pulse USING rate OPTIONS (rowsPerSecond '1');
        CREATE STREAMING TABLE o USING noop AS SELECT * FROM STREAM pulse;";
    let found = world.run(async |environment| {
        let session = wavetank_engine::session::SessionBuilder::new(environment)
            .sources(wavetank_sources::providers())
            .sources([std::sync::Arc::new(GivenProvider) as _])
            .build()?;
        let refused = Known::of(script, &session).await.unwrap_err().to_string();
        assert!(refused.contains("Given rows need columns"), "{refused}");
        Known::of(&script[script.find("CREATE TABLE names").unwrap()..], &session).await
    });
    let known = found.finished().unwrap().unwrap();
    assert_eq!(known.columns["pulse"].fields().len(), 2);
    assert_eq!(known.tables["names"].1, [r#"{"k":"a","v":1}"#]);
}
