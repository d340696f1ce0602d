//! The pipeline of `examples/`, tested as users test theirs: as it stands, with rows of the test.

use serde_json::json;
use wavetank::testing::{Job, StreamTest, rows, simulate};

fn finished() -> Job {
    Job::script(include_str!("../../examples/earthquakes.sql")).streaming_table("finished")
}

#[test]
fn finished_windows_are_written_once_the_watermark_has_passed() {
    StreamTest::new(finished())
        .add_data("quakes", rows![
            json!({"time": "2024-01-01 01:00:00", "mag": 2.5, "place": "7km WNW of Cobb, CA", "type": "earthquake"}),
            json!({"time": "2024-01-01 05:59:59.999999", "mag": 4, "place": "near Parkfield, CA", "type": "earthquake"}),
            json!({"time": "2024-01-01 02:00:00", "mag": 1, "place": "a mine, NV", "type": "explosion"}),
            json!({"time": "2024-01-02 06:00:00", "mag": 3, "place": "Fiji", "type": "earthquake"}),
        ])
        .check_answer([("2024-01-01", "2024-01-01 06:00:00", "CA", 2, 4.0)])
        .run();
}

#[test]
fn it_survives_simulation() {
    let report = simulate(finished()).runs(6).run();
    assert!(report.rows_in > 10, "{report}");
}
