//! What is wrong with a run: of itself, and beside the same run without harm.

use std::collections::{BTreeMap, BTreeSet};

use wavetank_engine::sink::OutputMode;

use crate::observe::{Observed, Seen};
use crate::runner::{Failure, FailureKind, LifeEnd, Run};
use crate::scenario::Scenario;

/// Everything that is wrong with a run, compared with the same scenario without faults but with the interruptions of
/// the run ([`baseline_of`]).
pub fn judge(run: &Run, baseline: &Run) -> Vec<Failure> {
    let mut failures = run.failures.clone();
    for (sink, seen) in &run.observed.sinks {
        let torn =
            seen.complaints.iter().map(|text| Failure { kind: FailureKind::Torn, text: format!("{sink}: {text}") });
        failures.extend(torn);
    }
    if run.failures.is_empty() && run.lives.last() == Some(&LifeEnd::Done) {
        failures.extend(left_overs(&run.observed));
    }
    if run.failures.is_empty() {
        // A run that was given up has other rows for that reason alone.
        failures.extend(rows_differ(&baseline.observed, &run.observed));
    }
    failures
}

/// What a killed process left in a folder is gone when the query has come to its end, so that readers who only list the
/// folder see the same rows. Not on object stores: there nobody can know that the process is dead.
fn left_overs(observed: &Observed) -> Vec<Failure> {
    // Nor when only the checkpoint is there: without its lock nobody deletes what may be another run's.
    if observed.logs.keys().any(|checkpoint| checkpoint.contains("://")) {
        return Vec::new();
    }
    let local = observed.sinks.iter().filter(|(sink, _)| !sink.contains("://"));
    let left = |(sink, seen): (&String, &Seen)| {
        let text =
            format!("{sink}: whoever lists the folder sees files that its log does not have: {:?}", seen.unlisted);
        (!seen.unlisted.is_empty()).then_some(Failure { kind: FailureKind::Rows, text })
    };
    local.filter_map(left).collect()
}

/// What a run is compared with: the same scenario, the same interruptions, no other harm.
pub fn baseline_of(scenario: &Scenario, run: &Run) -> Scenario {
    scenario.with_faults(run.interruptions.iter().cloned())
}

fn rows_differ(expected: &Observed, got: &Observed) -> Vec<Failure> {
    let names: BTreeSet<&String> = expected.sinks.keys().chain(got.sinks.keys()).collect();
    let mut failures = Vec::new();
    for name in names {
        let none = Default::default();
        let (expected, got) = (expected.sinks.get(name).unwrap_or(&none), got.sinks.get(name).unwrap_or(&none));
        if expected.forgets || got.forgets {
            continue; // what it shows depends on when its process began
        }
        let same = match expected.mode {
            // Which batch a row came in may depend on when a crash was; that it came once may not.
            OutputMode::Append => expected.all_rows() == got.all_rows(),
            OutputMode::Update => expected.filled_batches() == got.filled_batches(),
            // So may how often an unchanged result came again.
            OutputMode::Complete => distinct_results(expected) == distinct_results(got),
        };
        if !same {
            failures.push(Failure { kind: FailureKind::Rows, text: format!("{name}: {}", difference(expected, got)) });
        }
    }
    failures
}

fn distinct_results(seen: &Seen) -> Vec<&Vec<String>> {
    let mut results = seen.filled_batches();
    results.dedup();
    results
}

/// The rows that are missing and the rows that are too many.
fn difference(expected: &Seen, got: &Seen) -> String {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in expected.all_rows() {
        *counts.entry(row).or_default() += 1;
    }
    for row in got.all_rows() {
        *counts.entry(row).or_default() -= 1;
    }
    let some = |sign: i64| -> Vec<&str> {
        counts.iter().filter(|(_, count)| **count * sign > 0).map(|(row, _)| *row).take(5).collect()
    };
    let (lost, added) = (some(1), some(-1));
    if lost.is_empty() && added.is_empty() {
        return format!(
            "the same rows in other batches: {:?}, not {:?}",
            got.filled_batches(),
            expected.filled_batches()
        );
    }
    format!("lost {lost:?}, got in addition {added:?}")
}
