//! The types that functions can be written over.

use super::*;

/// State as an enum with data, rows and results as structs, the key an expression.
#[test]
fn structs_enums_and_key_expressions() {
    #[derive(Serialize, Deserialize)]
    enum Door {
        Closed,
        Open { times: u32 },
    }
    #[derive(Deserialize)]
    struct Push {
        strength: Option<f64>,
    }
    #[derive(Serialize, Deserialize)]
    struct Report {
        door: String,
        opened: u32,
        strongest: Option<f64>,
    }
    let job = Job::frame(async |session: Session| {
        let pushes = session.table("pushes").await?;
        let by = [pushes.expr("upper(door) AS door")?, pushes.expr("floor % 10 AS level")?];
        pushes.group_by(by).map_groups_with_state(
            NoTimeout,
            |(door, level): (String, i64), pushes: Values<'_, Push>, state: &mut GroupState<Door>| {
                let strongest = pushes.filter_map(|push| push.strength).max_by(f64::total_cmp);
                let opened = match state.get_option() {
                    Some(Door::Open { times }) => times + 1,
                    _ => 1,
                };
                state.update(if opened > 2 { Door::Closed } else { Door::Open { times: opened } });
                Ok(Report { door: format!("{door}{level}"), opened, strongest })
            },
        )
    });
    StreamTest::new(job.source("pushes", "door STRING, floor INT, strength DOUBLE").output_mode(OutputMode::Update))
        .add_data("pushes", rows![json!(["a", 1, 0.5]), json!(["A", 11, null]), json!(["b", 2, null])])
        .check_new_answer(rows![json!(["A1", 1, 0.5]), json!(["B2", 1, null])])
        .add_data("pushes", rows![json!(["a", 21, 2.0])])
        .check_new_answer(rows![json!(["A1", 2, 2.0])])
        .crash()
        .start()
        .add_data("pushes", rows![json!(["a", 1, 1.0])])
        .check_new_answer(rows![json!(["A1", 3, 1.0])])
        .add_data("pushes", rows![json!(["a", 1, 1.0])])
        .check_new_answer(rows![json!(["A1", 1, 1.0])])
        .run();
}

#[test]
fn arrow_values_need_no_serde() {
    let output = Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("sum", DataType::Int64, false)]);
    let types = ArrowTypes { state: DataType::Int64, output: Arc::new(output) };
    let job = Job::frame(async move |session: Session| {
        let numbers = session.table("numbers").await?.group_by([col("k")]);
        let schema = Arc::clone(&types.output);
        numbers.flat_map_groups_with_state_arrow(
            types.clone(),
            OutputMode::Update,
            NoTimeout,
            move |key: &[ScalarValue], rows: RecordBatch, state: &mut GroupState<ScalarValue>| {
                let before = match state.get_option() {
                    Some(ScalarValue::Int64(Some(before))) => *before,
                    _ => 0,
                };
                let sum = before + rows.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
                state.update(ScalarValue::Int64(Some(sum)));
                let key = StringArray::from(vec![key[0].to_string()]);
                let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(key), Arc::new(Int64Array::from(vec![sum]))];
                Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
            },
        )
    });
    StreamTest::new(job.source("numbers", "k STRING, v BIGINT").output_mode(OutputMode::Update))
        .add_data("numbers", [("a", 1), ("b", 5), ("a", 2)])
        .check_new_answer([("a", 3), ("b", 5)])
        .stop()
        .start()
        .add_data("numbers", [("a", 10)])
        .check_new_answer([("a", 13)])
        .run();
}

#[test]
fn another_type_of_state_is_refused_at_the_restart() {
    let other = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(
            OutputMode::Update,
            NoTimeout,
            |key: String, _: Values<'_, String>, _: &mut GroupState<(i64, String)>| Ok([(key, 0)]),
        )
    });
    let other = other.source("words", "k STRING").output_mode(OutputMode::Update);
    words()
        .add_data("words", ["a"])
        .check_new_answer([("a", 1)])
        .stop()
        .start_with(Start::new().job(other))
        .expect_failure("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE")
        .start_with(Start::new().job(counting(OutputMode::Update)))
        .add_data("words", ["a"])
        .check_new_answer([("a", 2)])
        .run();
}
