//! A file to copy: one job, tested step by step, in many simulated worlds, and as a snapshot.
//!
//! The job counts page views per page and 5 minutes. Put your own in `job()`: a `SELECT` as here, a whole pipeline with
//! `Job::script(include_str!("../pipeline.sql"))`, or Rust with `Job::frame(async |session: Session| ...)`.
//! `docs/TESTING.md` says more.

use wavetank::testing::{Job, NO_ROWS, StateRows, StreamTest, simulate};

fn job() -> Job {
    Job::sql(
        "SELECT window.start AS since, page, count(*) AS views
         FROM STREAM views WATERMARK seen DELAY OF INTERVAL 10 MINUTES
         GROUP BY window(seen, '5 minutes'), page",
    )
    .source("views", "seen TIMESTAMP, page STRING")
}

#[test]
fn a_window_comes_out_when_the_watermark_passes_its_end() {
    StreamTest::new(job())
        .add_data("views", [("2024-01-01 12:01:00", "home"), ("2024-01-01 12:04:59.999999", "home")])
        .check_new_answer(NO_ROWS)
        // The watermark is 10 minutes behind the newest view: at 12:05 now, so [12:00, 12:05) is over.
        .add_data("views", [("2024-01-01 12:15:00", "about")])
        .check_new_answer([("2024-01-01 12:00:00", "home", 2)])
        .check_watermark("2024-01-01 12:05:00")
        .check_state(StateRows::total([1]))
        .run();
}

#[test]
fn late_views_do_not_count_and_a_crash_changes_nothing() {
    StreamTest::new(job())
        .add_data("views", [("2024-01-01 12:15:00", "home")])
        .process_all_available()
        .crash()
        .start()
        .add_data("views", [("2024-01-01 12:04:00", "home"), ("2024-01-01 12:06:00", "home")])
        .add_data("views", [("2024-01-01 12:30:00", "about")])
        .check_answer([("2024-01-01 12:05:00", "home", 1), ("2024-01-01 12:15:00", "home", 1)])
        .run();
}

#[test]
fn whatever_happens_each_window_and_page_comes_out_once() {
    simulate(job())
        .runs(10)
        .check("each window and page comes out once", |run| {
            let rows = run.rows();
            let mut keys: Vec<_> = rows.iter().map(|row| (row["since"].to_string(), row["page"].to_string())).collect();
            keys.sort();
            let all = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), all, "{rows:?}");
        })
        .check("no view counts twice", |run| {
            let counted: u64 = run.rows().iter().map(|row| row["views"].as_u64().unwrap()).sum();
            assert!(counted <= run.input("views").len() as u64);
        })
        .run();
}

#[test]
fn what_every_batch_does() {
    let run = StreamTest::new(job())
        .add_data("views", [("2024-01-01 12:01:00", "home"), ("2024-01-01 12:02:00", "about")])
        .process_all_available()
        .add_data("views", [("2024-01-01 12:16:00", "home")])
        .process_all_available()
        .add_data("views", [("2024-01-01 12:03:00", "home")])
        .process_all_available()
        .run();
    insta::assert_snapshot!(run.to_snapshot(), @r"
    batch 0: 2 rows in, watermark 1970-01-01 00:00:00
      no rows
      state rows 2 (2 updated)
    batch 1: no rows in, watermark 2024-01-01 11:52:00
      no rows
      state rows 2
    batch 2: 1 row in, watermark 2024-01-01 11:52:00
      no rows
      state rows 3 (1 updated)
    batch 3: no rows in, watermark 2024-01-01 12:06:00
      | since               | page  | views |
      | 2024-01-01 12:00:00 | about | 1     |
      | 2024-01-01 12:00:00 | home  | 1     |
      state rows 1 (2 removed)
    batch 4: 1 row in, watermark 2024-01-01 12:06:00
      no rows
      state rows 1 (1 late)
    ");
}
