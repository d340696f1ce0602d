//! The state of every stateful operator, read back as tables: `statestore` and `state-metadata` (`spec/04` section 10).

use std::path::Path;

use datafusion::prelude::col;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::groups::TimeMode;
use wavetank::prelude::*;
use wavetank::{Environment, Error};

mod keeper;

use crate::support;
use keeper::Keeper;
use support::files::files;

/// What is kept, by which query, and what reading it answers: options (`name=value ..`) and the rows.
struct Kept {
    name: &'static str,
    sql: &'static str,
    mode: OutputMode,
    verb: fn(&DataFrame) -> wavetank::Result<DataFrame>,
    reads: &'static [(&'static str, &'static str)],
}

fn as_it_is(frame: &DataFrame) -> wavetank::Result<DataFrame> {
    Ok(frame.clone())
}

const KEPT: &[Kept] = &[
    Kept {
        name: "aggregate",
        sql: "SELECT k, count(*) AS n, avg(v) AS a, max(c) AS m FROM events GROUP BY k",
        mode: OutputMode::Update,
        verb: as_it_is,
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"stateStoreSave","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":2,"operatorProperties":null}
"#,
            ),
            (
                "",
                r#"
{"key":{"k":"a"},"value":{"count(Int64(1))[count]":3,"avg(events.v)[count]":3,"avg(events.v)[sum]":4.0,"max(events.c)[value]":"y"},"partition_id":0}
{"key":{"k":"b"},"value":{"count(Int64(1))[count]":2,"avg(events.v)[count]":2,"avg(events.v)[sum]":6.0,"max(events.c)[value]":"x"},"partition_id":0}
{"key":{"k":"c"},"value":{"count(Int64(1))[count]":1,"avg(events.v)[count]":1,"avg(events.v)[sum]":5.0,"max(events.c)[value]":"z"},"partition_id":0}
{"key":{"k":null},"value":{"count(Int64(1))[count]":1,"avg(events.v)[count]":1,"avg(events.v)[sum]":4.0,"max(events.c)[value]":"x"},"partition_id":0}
"#,
            ),
            (
                "batchId=0",
                r#"
{"key":{"k":"a"},"value":{"count(Int64(1))[count]":2,"avg(events.v)[count]":2,"avg(events.v)[sum]":3.0,"max(events.c)[value]":"y"},"partition_id":0}
{"key":{"k":"b"},"value":{"count(Int64(1))[count]":1,"avg(events.v)[count]":1,"avg(events.v)[sum]":3.0,"max(events.c)[value]":"x"},"partition_id":0}
"#,
            ),
            (
                "readChangeFeed=true changeStartBatchId=1",
                r#"
{"batch_id":1,"change_type":"update","key":{"k":"a"},"value":{"count(Int64(1))[count]":3,"avg(events.v)[count]":3,"avg(events.v)[sum]":4.0,"max(events.c)[value]":"y"},"partition_id":0}
{"batch_id":1,"change_type":"update","key":{"k":"b"},"value":{"count(Int64(1))[count]":2,"avg(events.v)[count]":2,"avg(events.v)[sum]":6.0,"max(events.c)[value]":"x"},"partition_id":0}
{"batch_id":1,"change_type":"update","key":{"k":null},"value":{"count(Int64(1))[count]":1,"avg(events.v)[count]":1,"avg(events.v)[sum]":4.0,"max(events.c)[value]":"x"},"partition_id":0}
{"batch_id":2,"change_type":"update","key":{"k":"c"},"value":{"count(Int64(1))[count]":1,"avg(events.v)[count]":1,"avg(events.v)[sum]":5.0,"max(events.c)[value]":"z"},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "global aggregate",
        sql: "SELECT count(*) AS n FROM events",
        mode: OutputMode::Update,
        verb: as_it_is,
        reads: &[
            (
                "",
                r#"
{"key":{},"value":{"count(Int64(1))[count]":7},"partition_id":0}
"#,
            ),
            (
                "readChangeFeed=true changeStartBatchId=0 changeEndBatchId=1",
                r#"
{"batch_id":0,"change_type":"update","key":{},"value":{"count(Int64(1))[count]":3},"partition_id":0}
{"batch_id":1,"change_type":"update","key":{},"value":{"count(Int64(1))[count]":6},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "windows, aggregated by pane",
        sql: "SELECT window, k, count(*) AS n FROM marked GROUP BY window(ts, '20 seconds', '10 seconds'), k",
        mode: OutputMode::Append,
        verb: as_it_is,
        reads: &[
            (
                "",
                r#"
{"key":{"window":{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:50.000000Z"},"k":"a"},"value":{"count(Int64(1))[count]":1},"partition_id":0}
{"key":{"window":{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:50.000000Z"},"k":"b"},"value":{"count(Int64(1))[count]":1},"partition_id":0}
{"key":{"window":{"start":"2024-01-01T00:00:30.000000Z","end":"2024-01-01T00:00:50.000000Z"},"k":null},"value":{"count(Int64(1))[count]":1},"partition_id":0}
{"key":{"window":{"start":"2024-01-01T00:00:40.000000Z","end":"2024-01-01T00:01:00.000000Z"},"k":"c"},"value":{"count(Int64(1))[count]":1},"partition_id":0}
{"key":{"window":{"start":"2024-01-01T00:00:50.000000Z","end":"2024-01-01T00:01:10.000000Z"},"k":"c"},"value":{"count(Int64(1))[count]":1},"partition_id":0}
"#,
            ),
            (
                "readChangeFeed=true changeStartBatchId=2",
                r#"
{"batch_id":2,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:00.000000Z","end":"2024-01-01T00:00:20.000000Z"},"k":"a"},"value":null,"partition_id":0}
{"batch_id":2,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:00.000000Z","end":"2024-01-01T00:00:20.000000Z"},"k":"b"},"value":null,"partition_id":0}
{"batch_id":2,"change_type":"update","key":{"window":{"start":"2024-01-01T00:00:40.000000Z","end":"2024-01-01T00:01:00.000000Z"},"k":"c"},"value":{"count(Int64(1))[count]":1},"partition_id":0}
{"batch_id":2,"change_type":"update","key":{"window":{"start":"2024-01-01T00:00:50.000000Z","end":"2024-01-01T00:01:10.000000Z"},"k":"c"},"value":{"count(Int64(1))[count]":1},"partition_id":0}
{"batch_id":3,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:10.000000Z","end":"2024-01-01T00:00:30.000000Z"},"k":"a"},"value":null,"partition_id":0}
{"batch_id":3,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:10.000000Z","end":"2024-01-01T00:00:30.000000Z"},"k":"b"},"value":null,"partition_id":0}
{"batch_id":3,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:20.000000Z","end":"2024-01-01T00:00:40.000000Z"},"k":"a"},"value":null,"partition_id":0}
{"batch_id":3,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:20.000000Z","end":"2024-01-01T00:00:40.000000Z"},"k":"b"},"value":null,"partition_id":0}
{"batch_id":3,"change_type":"delete","key":{"window":{"start":"2024-01-01T00:00:20.000000Z","end":"2024-01-01T00:00:40.000000Z"},"k":null},"value":null,"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "grouping sets",
        sql: "SELECT k, sum(v) AS s FROM events GROUP BY ROLLUP(k)",
        mode: OutputMode::Update,
        verb: as_it_is,
        reads: &[(
            "",
            r#"
{"key":{"k":"a","spark_grouping_id":0},"value":{"sum(events.v)[sum]":4},"partition_id":0}
{"key":{"k":"b","spark_grouping_id":0},"value":{"sum(events.v)[sum]":6},"partition_id":0}
{"key":{"k":"c","spark_grouping_id":0},"value":{"sum(events.v)[sum]":5},"partition_id":0}
{"key":{"k":null,"spark_grouping_id":0},"value":{"sum(events.v)[sum]":4},"partition_id":0}
{"key":{"k":null,"spark_grouping_id":1},"value":{"sum(events.v)[sum]":19},"partition_id":0}
"#,
        )],
    },
    Kept {
        name: "session",
        sql: "SELECT session_window, k, count(*) AS n FROM marked GROUP BY session_window(ts, '5 seconds'), k",
        mode: OutputMode::Append,
        verb: as_it_is,
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"sessionWindowStateStoreSaveExec","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
"#,
            ),
            (
                "",
                r#"
{"key":{"k":"c","session_start":"2024-01-01T00:00:55.000000Z"},"value":{"session_end":"2024-01-01T00:01:00.000000Z","count(Int64(1))[count]":1},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "dropDuplicates",
        sql: "SELECT * FROM marked",
        mode: OutputMode::Append,
        verb: |frame| frame.drop_duplicates(&["k", "ts"]),
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"dedupe","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
"#,
            ),
            (
                "",
                r#"
{"key":{"k":"c","ts":"2024-01-01T00:00:55.000000Z"},"value":{},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "dropDuplicatesWithinWatermark",
        sql: "SELECT * FROM marked",
        mode: OutputMode::Append,
        verb: |frame| frame.drop_duplicates_within_watermark(&["k"]),
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"dedupeWithinWatermark","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
"#,
            ),
            (
                "",
                r#"
{"key":{"k":"c"},"value":{"expiresAtMicros":1704067265000000},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "limit",
        sql: "SELECT k FROM events LIMIT 4",
        mode: OutputMode::Append,
        verb: as_it_is,
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"globalLimit","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":2,"operatorProperties":null}
"#,
            ),
            (
                "",
                r#"
{"key":{},"value":{"count":4},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "join",
        sql: "SELECT k, v, ts, k2, c2, ts2 FROM marked LEFT JOIN others ON k = k2 AND ts2 BETWEEN ts - INTERVAL 20 SECONDS \
              AND ts + INTERVAL 20 SECONDS",
        mode: OutputMode::Append,
        verb: as_it_is,
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"symmetricHashJoin","stateStoreName":"left","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
{"operatorId":0,"operatorName":"symmetricHashJoin","stateStoreName":"right","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
"#,
            ),
            (
                "joinSide=left",
                r#"
{"key":{"field0":"a"},"value":{"v":1,"ts":"2024-01-01T00:00:30.000000Z"},"partition_id":0}
{"key":{"field0":"b"},"value":{"v":3,"ts":"2024-01-01T00:00:31.000000Z"},"partition_id":0}
{"key":{"field0":"c"},"value":{"v":5,"ts":"2024-01-01T00:00:55.000000Z"},"partition_id":0}
{"key":{"field0":null},"value":{"v":4,"ts":"2024-01-01T00:00:32.000000Z"},"partition_id":0}
"#,
            ),
            (
                "joinSide=right",
                r#"
{"key":{"field0":"a"},"value":{"c2":"x","ts2":"2024-01-01T00:00:30.000000Z"},"partition_id":0}
{"key":{"field0":"b"},"value":{"c2":"x","ts2":"2024-01-01T00:00:31.000000Z"},"partition_id":0}
{"key":{"field0":"c"},"value":{"c2":"z","ts2":"2024-01-01T00:00:55.000000Z"},"partition_id":0}
"#,
            ),
            (
                "storeName=left-keyToNumValues",
                r#"
{"key":{"field0":"a"},"value":{"value":1},"partition_id":0}
{"key":{"field0":"b"},"value":{"value":1},"partition_id":0}
{"key":{"field0":"c"},"value":{"value":1},"partition_id":0}
{"key":{"field0":null},"value":{"value":1},"partition_id":0}
"#,
            ),
            (
                "storeName=left-keyWithIndexToValue",
                r#"
{"key":{"field0":"a","index":0},"value":{"v":1,"ts":"2024-01-01T00:00:30.000000Z","matched":true},"partition_id":0}
{"key":{"field0":"b","index":0},"value":{"v":3,"ts":"2024-01-01T00:00:31.000000Z","matched":true},"partition_id":0}
{"key":{"field0":"c","index":0},"value":{"v":5,"ts":"2024-01-01T00:00:55.000000Z","matched":true},"partition_id":0}
{"key":{"field0":null,"index":0},"value":{"v":4,"ts":"2024-01-01T00:00:32.000000Z","matched":false},"partition_id":0}
"#,
            ),
            (
                "joinSide=left snapshotStartBatchId=1 snapshotPartitionId=0",
                r#"
[CANNOT_LOAD_STATE_STORE.CANNOT_READ_SNAPSHOT_FILE_NOT_EXISTS] file://FOLDER/checkpoint/state/0/0/left/2.snapshot: Cannot read the state from this snapshot: it is not there. Name the batch of another one, or none.
"#,
            ),
            (
                "storeName=right-keyToNumValues",
                r#"
{"key":{"field0":"a"},"value":{"value":1},"partition_id":0}
{"key":{"field0":"b"},"value":{"value":1},"partition_id":0}
{"key":{"field0":"c"},"value":{"value":1},"partition_id":0}
"#,
            ),
            (
                "storeName=right-keyWithIndexToValue",
                r#"
{"key":{"field0":"a","index":0},"value":{"c2":"x","ts2":"2024-01-01T00:00:30.000000Z","matched":true},"partition_id":0}
{"key":{"field0":"b","index":0},"value":{"c2":"x","ts2":"2024-01-01T00:00:31.000000Z","matched":true},"partition_id":0}
{"key":{"field0":"c","index":0},"value":{"c2":"z","ts2":"2024-01-01T00:00:55.000000Z","matched":true},"partition_id":0}
"#,
            ),
        ],
    },
    Kept {
        name: "a processor's variables",
        sql: "SELECT * FROM marked",
        mode: OutputMode::Update,
        verb: kept_by_a_processor,
        reads: &[
            (
                "",
                r#"
[STDS_REQUIRED_OPTION_UNSPECIFIED] 'stateVarName' must be specified. The variables are: last, count, texts, byText.
"#,
            ),
            (
                "stateVarName=nothing",
                r#"
[STDS_INVALID_OPTION_VALUE.WITH_MESSAGE] Invalid value for source option 'stateVarName': State variable nothing is not defined for the transformWithState operator. The variables are: last, count, texts, byText.
"#,
            ),
            (
                "stateVarName=last",
                r#"
{"key":{"k":"a"},"value":{"c":"x","v":1},"partition_id":0}
{"key":{"k":"b"},"value":{"c":"x","v":3},"partition_id":0}
{"key":{"k":"c"},"value":{"c":"z","v":5},"partition_id":0}
{"key":{"k":null},"value":{"c":"x","v":4},"partition_id":0}
"#,
            ),
            (
                "stateVarName=count batchId=0",
                r#"
{"key":{"k":"a"},"value":{"value":2},"partition_id":0}
{"key":{"k":"b"},"value":{"value":1},"partition_id":0}
"#,
            ),
            (
                "stateVarName=texts",
                r#"
{"key":{"k":"a"},"list_element":{"value":"x"},"partition_id":0}
{"key":{"k":"a"},"list_element":{"value":"x"},"partition_id":0}
{"key":{"k":"a"},"list_element":{"value":"y"},"partition_id":0}
{"key":{"k":"b"},"list_element":{"value":"x"},"partition_id":0}
{"key":{"k":"b"},"list_element":{"value":"x"},"partition_id":0}
{"key":{"k":"c"},"list_element":{"value":"z"},"partition_id":0}
{"key":{"k":null},"list_element":{"value":"x"},"partition_id":0}
"#,
            ),
            (
                "stateVarName=texts flattenCollectionTypes=false",
                r#"
[STDS_INVALID_OPTION_VALUE.WITH_MESSAGE] Invalid value for source option 'flattenCollectionTypes': Wavetank shows a row for each element. Leave the option out, and put them together with collect_list or map_from_entries.
"#,
            ),
            (
                "stateVarName=byText",
                r#"
{"key":{"k":"a"},"user_map_key":{"value":"x"},"user_map_value":{"value":1},"partition_id":0}
{"key":{"k":"a"},"user_map_key":{"value":"y"},"user_map_value":{"value":2},"partition_id":0}
{"key":{"k":"b"},"user_map_key":{"value":"x"},"user_map_value":{"value":3},"partition_id":0}
{"key":{"k":"c"},"user_map_key":{"value":"z"},"user_map_value":{"value":5},"partition_id":0}
{"key":{"k":null},"user_map_key":{"value":"x"},"user_map_value":{"value":4},"partition_id":0}
"#,
            ),
            (
                "stateVarName=byText readChangeFeed=true changeStartBatchId=1 changeEndBatchId=1",
                r#"
{"batch_id":1,"change_type":"update","key":{"k":"a"},"user_map_key":{"value":"x"},"user_map_value":{"value":1},"partition_id":0}
{"batch_id":1,"change_type":"update","key":{"k":"b"},"user_map_key":{"value":"x"},"user_map_value":{"value":3},"partition_id":0}
{"batch_id":1,"change_type":"update","key":{"k":null},"user_map_key":{"value":"x"},"user_map_value":{"value":4},"partition_id":0}
"#,
            ),
            (
                "readRegisteredTimers=true",
                r#"
{"key":{"k":"a"},"expiration_timestamp_ms":2000000000000,"partition_id":0}
{"key":{"k":"b"},"expiration_timestamp_ms":2000000000000,"partition_id":0}
{"key":{"k":"c"},"expiration_timestamp_ms":2000000000000,"partition_id":0}
{"key":{"k":null},"expiration_timestamp_ms":2000000000000,"partition_id":0}
"#,
            ),
            (
                "storeName=count",
                r#"
{"key":{"k":"a"},"value":{"value":3},"partition_id":0}
{"key":{"k":"b"},"value":{"value":2},"partition_id":0}
{"key":{"k":"c"},"value":{"value":1},"partition_id":0}
{"key":{"k":null},"value":{"value":1},"partition_id":0}
"#,
            ),
            (
                "snapshotStartBatchId=1 snapshotPartitionId=0 batchId=2 stateVarName=count",
                r#"
{"key":{"k":"a"},"value":{"value":3},"partition_id":0}
{"key":{"k":"b"},"value":{"value":2},"partition_id":0}
{"key":{"k":"c"},"value":{"value":1},"partition_id":0}
{"key":{"k":null},"value":{"value":1},"partition_id":0}
"#,
            ),
            ("snapshotStartBatchId=1 snapshotPartitionId=1 batchId=2 stateVarName=count", ""),
            (
                "snapshotStartBatchId=7 snapshotPartitionId=0 stateVarName=count",
                r#"
[STDS_COMMITTED_BATCH_UNAVAILABLE] file://FOLDER/checkpoint: Batch 7 is not committed: the last committed batch is 3. Ask for that or an earlier one.
"#,
            ),
        ],
    },
    Kept {
        name: "two operators",
        sql: "SELECT window, count(*) AS n FROM once GROUP BY window(ts, '10 seconds')",
        mode: OutputMode::Append,
        verb: as_it_is,
        reads: &[
            (
                "metadata",
                r#"
{"operatorId":0,"operatorName":"dedupe","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
{"operatorId":1,"operatorName":"stateStoreSave","stateStoreName":"default","numPartitions":N,"minBatchId":0,"maxBatchId":3,"operatorProperties":null}
"#,
            ),
            (
                "operatorId=0",
                r#"
{"key":{"k":"c","ts":"2024-01-01T00:00:55.000000Z"},"value":{},"partition_id":0}
"#,
            ),
            (
                "operatorId=1",
                r#"
{"key":{"window":{"start":"2024-01-01T00:00:50.000000Z","end":"2024-01-01T00:01:00.000000Z"}},"value":{"count(Int64(1))[count]":1},"partition_id":0}
"#,
            ),
        ],
    },
];

fn kept_by_a_processor(frame: &DataFrame) -> wavetank::Result<DataFrame> {
    frame.group_by([col("k")]).transform_with_state(Keeper::default(), TimeMode::EventTime, OutputMode::Update)
}

fn kept_for_an_hour(frame: &DataFrame) -> wavetank::Result<DataFrame> {
    frame.group_by([col("k")]).transform_with_state(Keeper::default(), TimeMode::ProcessingTime, OutputMode::Update)
}

#[tokio::test]
async fn a_value_with_a_lifetime_is_shown_with_its_end() -> wavetank::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Kept {
        name: "with a lifetime",
        sql: "SELECT * FROM events",
        mode: OutputMode::Update,
        verb: kept_for_an_hour,
        reads: &[],
    };
    run(&kept, folder.path(), 1).await?;
    let rows = read(folder.path(), "stateVarName=count").await?;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(
        rows[0].starts_with(r#"{"key":{"k":"a"},"value":{"value":{"value":3},"ttlExpirationMs":1"#)
            && rows[0].ends_with(r#"},"partition_id":0}"#),
        "{}",
        rows[0]
    );
    Ok(())
}

#[tokio::test]
async fn the_state_of_every_operator_reads_back() -> wavetank::Result<()> {
    let mut wrong = vec![];
    for kept in KEPT {
        for partitions in [1, 3] {
            let folder = tempfile::tempdir().expect("a folder");
            run(kept, folder.path(), partitions).await?;
            let before = files(folder.path());
            for (options, expected) in kept.reads {
                let rows = read(folder.path(), options)
                    .await
                    .map(|rows| rows.join("\n"))
                    .unwrap_or_else(|error| error.to_string());
                let one = rows.replace(&format!("\"numPartitions\":{partitions}"), "\"numPartitions\":N");
                let one = one.replace(&*folder.path().to_string_lossy(), "FOLDER");
                if partitions == 1 && one != expected.trim() {
                    wrong.push(format!("{} [{options}]\n{one}\n", kept.name));
                }
            }
            assert!(before == files(folder.path()), "{}: reading changed the checkpoint", kept.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

const BLOCKS: [&str; 3] = [
    r#"{"k":"a","c":"x","v":1,"ts":"2024-01-01T00:00:10Z"}
{"k":"a","c":"y","v":2,"ts":"2024-01-01T00:00:12Z"}
{"k":"b","c":"x","v":3,"ts":"2024-01-01T00:00:11Z"}
"#,
    r#"{"k":"a","c":"x","v":1,"ts":"2024-01-01T00:00:30Z"}
{"k":"b","c":"x","v":3,"ts":"2024-01-01T00:00:31Z"}
{"k":null,"c":"x","v":4,"ts":"2024-01-01T00:00:32Z"}
"#,
    r#"{"k":"c","c":"z","v":5,"ts":"2024-01-01T00:00:55Z"}
"#,
];

async fn session(folder: &Path, partitions: usize) -> wavetank::Result<Session> {
    wavetank::session_builder(Environment::real(folder.to_owned()))
        .conf("spark.sql.shuffle.partitions", &partitions.to_string())?
        .build()
}

/// Runs the query over three batches.
async fn run(kept: &Kept, folder: &Path, partitions: usize) -> wavetank::Result<()> {
    let session = session(folder, partitions).await?;
    if kept.reads.iter().any(|(options, _)| options.starts_with("snapshot")) {
        session.set_conf("spark.sql.streaming.stateStore.minDeltasForSnapshot", "1")?;
    }
    let stream = MemoryStream::new(parse_ddl_schema("k STRING, c STRING, v INT, ts TIMESTAMP")?)
        .with_blocks_per_trigger(std::num::NonZeroU64::MIN);
    for block in BLOCKS {
        stream.add_json(block)?;
    }
    let events = session.stream_of("events", std::sync::Arc::new(stream), Default::default()).await?;
    events.create_or_replace_temp_view("events")?;
    let marked = events.with_watermark("ts", "10 seconds")?;
    marked.create_or_replace_temp_view("marked")?;
    marked.select_expr(&["k AS k2", "c AS c2", "ts AS ts2"])?.create_or_replace_temp_view("others")?;
    marked.drop_duplicates(&["k", "ts"])?.create_or_replace_temp_view("once")?;
    let frame = (kept.verb)(&session.sql(kept.sql).await?)?;
    let query = frame
        .write_stream()
        .format("noop")
        .output_mode(kept.mode)
        .trigger(Trigger::AvailableNow)
        .option("checkpointLocation", "checkpoint")
        .start()
        .await?;
    query.await_termination().await
}

/// The rows as JSON, sorted.
async fn read(folder: &Path, options: &str) -> Result<Vec<String>, Error> {
    let session = session(folder, 7).await?;
    let (format, options) = match options {
        "metadata" => ("state-metadata", ""),
        options => ("statestore", options),
    };
    let mut reader = session.read().format(format);
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').expect("name=value");
        reader = reader.option(name, value);
    }
    let frame = reader.load_path("checkpoint").await?;
    let names: Vec<_> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    let rows = support::compare::rows_of(&frame.collect().await?);
    let row = |row: Vec<serde_json::Value>| {
        let fields: serde_json::Map<_, _> = names.iter().cloned().zip(row).collect();
        serde_json::Value::Object(fields).to_string()
    };
    let mut rows: Vec<_> = rows.into_iter().map(row).collect();
    rows.sort();
    Ok(rows)
}
