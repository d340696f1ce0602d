//! The simulator, tested: every planted bug is found by the seed that was measured for it, a wrong engine by any seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wavetank_sim::bugs::BUGS;
use wavetank_sim::campaign::{Campaign, Report};
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::plant::Plant;
use wavetank_sim::{Scenario, draw};

/// `bug TAB seed`, as `cargo run -p wavetank-sim --example planted` prints it (with more columns, which are not read).
const SEEDS: &str = include_str!("planted_bugs.tsv");

fn run(plants: &[Plant], seeds: std::ops::Range<u64>) -> Report {
    let scenario = |seed| Scenario { plants: plants.to_vec(), ..draw::scenario(seed) };
    Campaign {
        seeds,
        jobs: 1,
        shrink_tries: 0,
        scenario: &scenario,
        subject: &Pipeline,
        stop_at_failure: false,
        progress: &|_| true,
    }
    .run()
}

#[test]
fn every_planted_bug_is_found() {
    let lines = SEEDS.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let seeds: BTreeMap<&str, u64> =
        lines.map(|columns| (columns[0], columns[1].parse().expect("the seed is a number"))).collect();
    let listed: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
    assert_eq!(seeds.keys().copied().collect::<BTreeSet<_>>(), listed, "planted_bugs.tsv has other bugs than bugs.rs");
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(bug) = BUGS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seed = seeds[bug.name];
                    if run(&[bug.plant()], seed..seed + 1).failures.is_empty() {
                        missed.lock().expect("no panic").push(bug.name);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert_eq!(missed, Vec::<&str>::new(), "measure their seeds again: cargo run -p wavetank-sim --example planted");
    let mut sorted: Vec<u64> = seeds.into_values().collect();
    sorted.sort_unstable();
    assert!(sorted[sorted.len() / 2] < 20, "the median bug takes more than 20 seeds");
}

#[test]
fn an_engine_that_is_always_wrong_is_caught_by_every_seed() {
    let forgets_its_promises = ["skip checkpoint/offsets/N link", "skip blob://bucket/checkpoint/offsets/N put"];
    let report = run(&forgets_its_promises.map(|plant| plant.parse().expect("a plant")), 0..20);
    let caught: Vec<u64> = report.failures.iter().map(|found| found.seed).collect();
    assert_eq!(caught, (0..20).collect::<Vec<_>>());
}
