//! What must be true of a run over files that change while they are read: each is read once, whole, as it was at some time.
//!
//! | what a file source may do (`spec/06`) | what it may not |
//! |---|---|
//! | read a file as it is when its batch reads it: also half-written, also more than was listed | read it in two batches, or mix two versions |
//! | read another version when the batch is run again | leave out a file that was there all the time |
//! | find nothing where a file was deleted before it was read | take a file again that was rewritten |
//!
//! Every row of such a scenario has a value of its own, so the sink says which version of which file was read. The query
//! is known by its text: one that passes values through.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::observe::Observed;
use crate::oracle::Judged;
use crate::runner::{Failure, FailureKind, LifeEnd, Run};
use crate::scenario::{Scenario, Step};

/// What a version of a file holds; nothing after a deletion.
type Version = Option<Vec<i64>>;

/// Judges a run over files that change; `None` where they do not.
pub(crate) fn judge_files(scenario: &Scenario, run: &Run) -> Option<Judged> {
    if !change(scenario) {
        return None;
    }
    let passes = ["v", "value"].map(|column| format!("FROM STREAM events WHERE {column} IS NOT NULL"));
    if !passes.iter().any(|query| scenario.script.contains(query)) {
        return Some(Judged::Beyond("files that change, and a query that does more than pass values on".to_owned()));
    }
    let Some((name, seen)) = run.observed.sinks.iter().next() else { return Some(Judged::Followed(Vec::new())) };
    let mut failures = Vec::new();
    let mut fail = |kind, text: String| failures.push(Failure { kind, text: format!("{name}: {text}") });
    let mut batches: BTreeMap<i64, u64> = BTreeMap::new();
    for (batch_id, row) in seen.batches.iter().flat_map(|(id, rows)| rows.iter().map(move |row| (*id, row))) {
        match value_of(row) {
            Some(value) if batches.insert(value, batch_id).is_none() => {}
            Some(value) => fail(FailureKind::Rows, format!("{value} came twice")),
            None => fail(FailureKind::Rows, format!("a row that nobody wrote: {row}")),
        }
    }
    let mut known = BTreeSet::new();
    for file in files(scenario) {
        let story = Story::of(scenario, file, run);
        known.extend(story.versions.iter().flatten().flatten().copied());
        let got: BTreeSet<i64> =
            story.versions.iter().flatten().flatten().copied().filter(|value| batches.contains_key(value)).collect();
        if let Some(why) = story.wrong(&got) {
            fail(FailureKind::Rows, format!("of {file}, {why}: {got:?} of {:?}", story.versions));
        }
        let of_batches: BTreeSet<u64> = got.iter().filter_map(|value| batches.get(value).copied()).collect();
        if of_batches.len() > 1 {
            fail(FailureKind::Rows, format!("{file} was read in the batches {of_batches:?}"));
        }
    }
    if let Some(value) = batches.keys().find(|value| !known.contains(value)) {
        fail(FailureKind::Rows, format!("{value} is in no file"));
    }
    Some(Judged::Followed(failures))
}

/// Whether files of this scenario change after they have come.
pub(crate) fn change(scenario: &Scenario) -> bool {
    let mut dropped = BTreeSet::new();
    scenario.steps.iter().any(|step| match step {
        Step::Drop { file, torn, .. } => *torn || !dropped.insert(file),
        Step::Remove { .. } | Step::DropLater { .. } | Step::RemoveLater { .. } => true,
        _ => false,
    })
}

/// Whether a query may end with this error because a file went away, or became another, between two looks at it.
pub(crate) fn excuses(scenario: &Scenario, error: &str) -> bool {
    // The footer of one version of a file of Parquet says nothing of another one.
    let said = [
        "FAILED_READ_FILE.FILE_NOT_EXIST",
        "the file changed while it was read",
        "FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER",
    ];
    said.iter().any(|text| error.contains(text)) && disturbed(scenario).any(|file| error.contains(file))
}

/// How often files go away or change while the query goes on.
pub(crate) fn disturbances(scenario: &Scenario) -> usize {
    disturbed(scenario).count()
}

/// The files that go away or change while the query goes on, once for each time.
fn disturbed(scenario: &Scenario) -> impl Iterator<Item = &str> {
    scenario.steps.iter().filter_map(|step| match step {
        Step::Remove { file } | Step::RemoveLater { file, .. } | Step::DropLater { file, .. } => Some(file.as_str()),
        // Half a file of lines is a file of lines.
        Step::Drop { file, torn: true, .. } if file.ends_with(".parquet") => Some(file),
        _ => None,
    })
}

/// A batch over files that change may come again with other rows.
pub(crate) fn forgive(scenario: &Scenario, observed: &mut Observed) {
    if change(scenario) {
        let sinks = observed.sinks.values_mut();
        sinks.for_each(|seen| seen.complaints.retain(|text| !text.contains("came again with other rows")));
    }
}

fn files(scenario: &Scenario) -> BTreeSet<&str> {
    scenario.steps.iter().filter_map(|step| touched(step).map(|(file, ..)| file)).collect()
}

/// The file that a step changes, what it holds then, and whether that happens later.
fn touched(step: &Step) -> Option<(&str, Version, bool)> {
    let values = |rows: &[String]| Some(rows.iter().filter_map(|row| value_of(row)).collect());
    match step {
        Step::Drop { file, rows, .. } => Some((file, values(rows), false)),
        Step::DropLater { file, rows, .. } => Some((file, values(rows), true)),
        Step::Remove { file } => Some((file, None, false)),
        Step::RemoveLater { file, .. } => Some((file, None, true)),
        _ => None,
    }
}

/// The value of a row: `{"v":7}` or `7`. Half a row has none.
fn value_of(row: &str) -> Option<i64> {
    match serde_json::from_str(row).ok()? {
        Value::Object(fields) => fields.get("v")?.as_i64(),
        value => value.as_i64(),
    }
}

/// What became of one file.
struct Story {
    versions: Vec<Version>,
    /// The versions that a batch can have read.
    readable: Vec<Version>,
    /// Something happened to it while the query went on.
    later: bool,
    /// All input was taken in the end.
    over: bool,
}

impl Story {
    fn of(scenario: &Scenario, file: &str, run: &Run) -> Self {
        let changes = || scenario.steps.iter().filter_map(touched).filter(|(of, ..)| *of == file);
        let versions: Vec<Version> = changes().map(|(_, version, _)| version).collect();
        let later = changes().any(|(.., later)| later);
        let undisturbed = run.lives.iter().all(|end| matches!(end, LifeEnd::Done | LifeEnd::Restarted));
        let over = run.lives.last() == Some(&LifeEnd::Done) && scenario.steps.last() == Some(&Step::Settle);
        let readable = if later || !undisturbed { versions.clone() } else { until_settled(scenario, file) };
        Self { versions, readable, later, over }
    }

    /// What is wrong with reading these values of it.
    fn wrong(&self, got: &BTreeSet<i64>) -> Option<&'static str> {
        let is = |version: &Version| {
            let values = version.as_deref().unwrap_or_default();
            let whole = values.iter().copied().collect::<BTreeSet<i64>>() == *got;
            // One that is replaced by another while it is read is read as far as it was long before.
            whole
                || (self.later
                    && (0..values.len()).any(|end| values[..end].iter().copied().collect::<BTreeSet<_>>() == *got))
        };
        if self.readable.iter().any(is) {
            return None;
        }
        let gone = self.readable.contains(&None);
        let was_there = self.versions.iter().any(Option::is_some);
        match (got.is_empty(), self.over && was_there && !gone) {
            (true, true) => Some("nothing was read"),
            (true, false) => None,
            (false, _) => Some("what was read is none of the versions that could be read"),
        }
    }
}

/// The versions that were there while the query ran, until it had taken all there was.
fn until_settled(scenario: &Scenario, file: &str) -> Vec<Version> {
    let (mut now, mut begun, mut readable) = (None, false, Vec::new());
    for step in &scenario.steps {
        match (touched(step), step) {
            (Some((of, version, _)), _) if of == file => {
                begun |= version.is_some();
                now = version;
            }
            (None, Step::Settle | Step::Wait { .. } | Step::Restart) if begun => {
                readable.push(now.clone());
                if now.is_some() && *step == Step::Settle {
                    return readable;
                }
            }
            _ => {}
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Seen;

    /// Steps, what the sink got of them by batch, and whether that is fine.
    type Case<'a> = (&'a [Step], &'a [&'a [i64]], bool);

    /// What is said of a run of these steps in which the sink got this.
    fn judged(steps: &[Step], batches: &[&[i64]]) -> Vec<Failure> {
        let script = "AS SELECT v FROM STREAM events WHERE v IS NOT NULL".to_owned();
        let scenario = Scenario { script, steps: steps.to_vec(), ..Scenario::default() };
        let batches = (0..).zip(batches.iter().map(|rows| rows.iter().map(|v| format!("{{\"v\":{v}}}")).collect()));
        let seen = Seen { batches: batches.collect(), ..Seen::default() };
        let run = Run {
            observed: Observed { sinks: BTreeMap::from([("out".to_owned(), seen)]), ..Observed::default() },
            lives: vec![LifeEnd::Done],
            ..crate::runner::run(&Scenario::default(), &crate::mini::Mini { bug: crate::mini::Bug::None })
        };
        match judge_files(&scenario, &run) {
            Some(Judged::Followed(failures)) => failures,
            other => panic!("{other:?}"),
        }
    }

    fn drop(file: &str, values: &[i64]) -> Step {
        let rows = values.iter().map(|v| format!("{{\"v\":{v}}}")).collect();
        Step::Drop { file: file.into(), rows, torn: false }
    }

    #[test]
    fn a_file_is_read_once_and_as_it_was_at_some_time() {
        let remove = Step::Remove { file: "a".into() };
        let grown = [drop("a", &[1]), Step::Settle, drop("a", &[1, 2]), Step::Settle];
        let at_once = [drop("a", &[1]), drop("a", &[1, 2]), Step::Settle];
        let again = [drop("a", &[1, 2]), Step::Settle, drop("a", &[3]), Step::Settle];
        let gone = [drop("a", &[1]), remove.clone(), Step::Settle];
        let never = [remove.clone(), Step::Settle];
        let too_late = [drop("a", &[1]), Step::Settle, remove, Step::Settle];
        let cases: [Case; 15] = [
            (&grown, &[&[1]], true),
            (&grown, &[&[1], &[2]], false),
            (&grown, &[&[1, 2]], false),
            (&grown, &[], false),
            (&at_once, &[&[1, 2]], true),
            (&at_once, &[&[1]], false),
            (&at_once, &[&[1, 2], &[1]], false),
            (&again, &[&[1, 2]], true),
            (&again, &[&[1, 2], &[3]], false),
            (&again, &[&[1], &[2]], false),
            (&again, &[&[1, 3]], false),
            (&gone, &[], true),
            (&never, &[], true),
            (&too_late, &[], false),
            (&too_late, &[&[1], &[77]], false),
        ];
        for (steps, batches, fine) in cases {
            let failures = judged(steps, batches);
            assert_eq!(failures.is_empty(), fine, "{steps:?} {batches:?}: {failures:?}");
        }
    }

    #[test]
    fn only_errors_that_name_a_file_that_changed_are_excused() {
        let later = Step::DropLater { ms: 5, file: "in/1.parquet".into(), rows: vec![], torn: false };
        let half = Step::Drop { file: "in/2.parquet".into(), rows: vec![], torn: true };
        let steps = vec![drop("in/0.parquet", &[1]), later, half];
        let scenario = Scenario { steps, ..Scenario::default() };
        let footer =
            |at: usize| format!("[FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER] .. file:///world/in/{at}.parquet.");
        assert_eq!([0, 1, 2].map(|at| excuses(&scenario, &footer(at))), [false, true, true]);
        assert!(!excuses(&scenario, "file:///world/in/1.parquet: odd"));
    }

    #[test]
    fn what_changes_while_it_is_read_may_be_read_in_part_but_not_mixed() {
        let file = "a".to_owned();
        let later = Step::DropLater { ms: 5, file, rows: vec!["{\"v\":3}".into(), "{\"v\":4}".into()], torn: false };
        let steps = [drop("a", &[1, 2]), later, Step::Settle];
        for (batches, fine) in [(&[1, 2][..], true), (&[3, 4], true), (&[3], true), (&[1, 4], false), (&[2, 3], false)]
        {
            assert_eq!(judged(&steps, &[batches]).is_empty(), fine, "{batches:?}");
        }
    }
}
