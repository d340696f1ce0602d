//! Every sync and every order of the commit protocol, taken away: the crash that was found for it still shows it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wavetank_sim::Scenario;
use wavetank_sim::barriers::{Finding, Findings, barriers, shows};
use wavetank_sim::exhaust::scenarios;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::sweep::{Depth, sweep};

/// As `wavetank sim --barriers` prints it, with the reasons of what no crash shows.
const FINDINGS: &str = include_str!("barriers.toml");

const MEASURE: &str = "measure again: cargo run --release -- sim --barriers > sim/tests/barriers.toml";

/// Whether the crash that was found shows the barrier; where there is none, whether there is a reason.
fn is_shown(finding: &Finding) -> bool {
    let Some(name) = &finding.scenario else { return finding.free.as_deref().is_some_and(|why| !why.is_empty()) };
    shows(&finding.without, name, &finding.fault)
}

#[test]
fn each_barrier_that_is_taken_away_is_shown_by_a_crash_or_has_its_reason() {
    let findings = Findings::from_toml(FINDINGS).expect("sim/tests/barriers.toml");
    let known: BTreeSet<String> = findings.barrier.iter().map(|finding| finding.without.to_string()).collect();
    let there: BTreeSet<String> = barriers().keys().map(ToString::to_string).collect();
    let other: Vec<_> = known.symmetric_difference(&there).collect();
    assert!(other.is_empty(), "other barriers than those of sim/tests/barriers.toml: {other:#?}; {MEASURE}");
    let (next, hidden) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(finding) = findings.barrier.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !is_shown(finding) {
                        hidden.lock().expect("no panic").push(finding.without.to_string());
                    }
                }
            });
        }
    });
    assert_eq!(hidden.into_inner().expect("no panic"), Vec::<String>::new(), "{MEASURE}");
    let syncs = findings.barrier.iter().filter(|finding| finding.without.to_string().starts_with("no-sync "));
    let needed = syncs.clone().filter(|finding| finding.scenario.is_some()).count();
    assert!(2 * needed > syncs.count(), "most syncs are needed: what is synced in vain costs time");
}

/// The small scenarios keep all deltas below a snapshot; here they are purged.
#[test]
fn a_snapshot_that_is_not_synced_is_missed_when_its_deltas_are_purged() {
    let (_, purged) = scenarios().into_iter().find(|(name, _)| name.starts_with("a purge")).expect("it is in the list");
    let mut scenario = Scenario {
        plants: vec!["no-sync checkpoint/state/N/N/N.snapshot.tmp fsync".parse().expect("a plant")],
        ..purged
    };
    let settings = scenario.settings.entry(0).or_default();
    settings.insert("spark.sql.streaming.stateStore.minDeltasForSnapshot".to_owned(), "1".to_owned());
    // More batches, so that snapshots stand for deltas that are gone.
    let more = scenario.steps.clone();
    scenario.steps.extend(more);
    let depth = Depth { jobs: 2, stop_at_failure: true, ..Depth::single() };
    let found = sweep(&scenario, &Pipeline, &depth);
    assert!(!found.failures.is_empty(), "no crash shows it\n{found}");
    let sound = sweep(&Scenario { plants: vec![], ..scenario }, &Pipeline, &Depth { stride: 5, ..depth });
    assert!(sound.failures.is_empty(), "{:?}", sound.failures.first());
}
