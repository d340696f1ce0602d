//! What a person reads when a step of a test does not hold.

use wavetank_engine::query::StreamingQuery;
use wavetank_sim::CrashImage;

use super::stream_test::{Action, Check};
use super::transcript::Transcript;

/// A step as one line.
pub(super) fn describe(step: &Action) -> String {
    let rows = |count: usize| match count {
        0 => "no rows".to_owned(),
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    };
    match step {
        Action::Add(arrivals) => {
            let each = arrivals.iter().map(|(source, added)| format!("{} to {source}", rows(added.len())));
            format!("add {}", each.collect::<Vec<_>>().join(", "))
        }
        Action::Check(check, expected) => {
            let verb = match check {
                Check::All => "check_answer",
                Check::Contains => "check_answer_contains",
                Check::New => "check_new_answer",
                Check::Last => "check_last_batch",
                Check::LastSorted => "check_last_batch_sorted",
            };
            format!("{verb}: {}", rows(expected.len()))
        }
        Action::CheckBy(about, _) => format!("check_answer_by: {about}"),
        Action::State(expected) => {
            let parts =
                [("updated", &expected.updated), ("removed", &expected.removed), ("dropped", &expected.dropped)];
            let parts = parts.iter().filter_map(|(name, rows)| rows.as_ref().map(|rows| format!(", {name} {rows:?}")));
            format!("check_state: total {:?}{}", expected.total, parts.collect::<String>())
        }
        Action::Watermark(time) => format!("check_watermark: {time}"),
        Action::LastBatch(id) => format!("check_last_batch_id: {id}"),
        Action::Start(start) => match (&start.job, &start.checkpoint) {
            (None, None) => "start".to_owned(),
            (Some(_), None) => "start another version of the job".to_owned(),
            (_, Some(checkpoint)) => format!("start on checkpoint {checkpoint}"),
        },
        Action::Stop => "stop".to_owned(),
        Action::Crash(CrashImage::Kill) => "crash".to_owned(),
        Action::Crash(image) => format!("power cut ({image})"),
        Action::Advance(time) => format!("advance_clock by {time:?}"),
        Action::ProcessAll => "process_all_available".to_owned(),
        Action::AwaitTermination => "await_termination".to_owned(),
        Action::ExpectFailure(what) => format!("expect_failure: {what}"),
        Action::OnQuery(about, _) => format!("assert_on_query: {about}"),
        Action::Outside(about, _) => format!("execute: {about}"),
        Action::File(path, content) => format!("add_file {path} ({} bytes)", content.len()),
    }
}

/// The report: `steps` as lines, the number (from 1) of the one that does not hold, why, and what was there.
pub(super) fn report(
    steps: &[String],
    at: usize,
    failure: &str,
    transcript: &Transcript,
    query: Option<&StreamingQuery>,
) -> String {
    let at = at.clamp(1, steps.len().max(1));
    let step = steps.get(at - 1).map_or("", String::as_str);
    let mut text = format!("step {at} of {} does not hold: {step}\n{}", steps.len(), indented(failure));
    text.push_str("\nSTEPS\n");
    for (number, step) in steps.iter().enumerate().map(|(before, step)| (before + 1, step)) {
        let marker = if number == at { "=>" } else { "  " };
        text.push_str(&format!(" {marker} {number:>3}  {step}\n"));
    }
    text.push_str("\nBATCHES\n");
    match transcript.batches() {
        [] => text.push_str("  none\n"),
        _ => text.push_str(&indented(&transcript.to_string())),
    }
    if let Some(query) = query {
        text.push_str(&format!("\nQUERY\n  {}\n", query.status().message));
        text.push_str(&format!("\nPLAN\n{}", indented(query.explain())));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
