//! The example programs do what they say.

use std::time::Duration;

use wavetank::prelude::*;
use wavetank::testing::{Job, Start, StreamTest};

#[expect(dead_code, reason = "its main is for users")]
#[path = "../examples/structured_sessionization.rs"]
mod structured_sessionization;

#[expect(dead_code, reason = "its main is for users")]
#[path = "../examples/structured_transform_with_state.rs"]
mod structured_transform_with_state;

#[tokio::test]
async fn sessions_of_the_visits_beside_the_example() -> wavetank::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/visits");
    let tables = MemoryTables::new();
    let session = wavetank::engine::session::SessionBuilder::new(wavetank::Environment::real("/".into()))
        .sources(wavetank::sources::providers())
        .sinks(wavetank::sinks::providers(tables.clone(), wavetank::sinks::stdout()))
        .build()?;
    let visits = session
        .read_stream()
        .format("json")
        .schema_ddl("user STRING, at TIMESTAMP, page STRING")?
        .option("maxFilesPerTrigger", 1)
        .load_path(folder)
        .await?;
    let sessions = structured_sessionization::sessions(&visits)?;
    let query = sessions.write_stream().format("memory").query_name("sessions").trigger(Trigger::AvailableNow);
    query.start().await?.await_termination().await?;
    let rows = session.sql("SELECT user, seconds, visits FROM sessions").await?.collect().await?;
    let text = arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" | ")).skip(1).collect();
    let mut lines: Vec<_> = lines.iter().map(|line| line.replace([' '], "")).collect();
    lines.sort();
    assert_eq!(lines, ["|ada|400|3|", "|bob|0|1|", "|bob|120|2|", "|cyd|0|1|"], "{text}");
    Ok(())
}

#[test]
fn a_user_is_active_and_falls_silent() {
    let job =
        Job::frame(async |session: Session| structured_transform_with_state::activity(&session.table("events").await?));
    let second = Duration::from_secs(1);
    StreamTest::new(job.source("events", "user STRING, value BIGINT").output_mode(OutputMode::Update))
        .manual_clock()
        .starting_at("1970-01-01 00:00:00")
        .start_with(Start::new().trigger(Trigger::processing_time("1 second").expect("a trigger")))
        .add_data("events", [("ada", 1), ("ada", 2)])
        .advance_clock(second)
        .check_new_answer([("ada", "active", 2)])
        .add_data("events", [("ada", 3)])
        .advance_clock(2 * second)
        .check_new_answer([("ada", "active", 3)])
        .advance_clock(4 * second)
        .check_new_answer([("ada", "silent after 1, 2, 3", 3)])
        .add_data("events", [("ada", 4)])
        .advance_clock(8 * second)
        .check_answer_contains([("ada", "active", 1)])
        .stop()
        .run();
}
