//! Is every sync and every order of the commit protocol needed? Each is taken away in turn; some crash must show it.
//!
//! ```text
//! undisturbed traces of the small scenarios ─► every kind of fsync            ─► no-sync KIND
//!                                           ─► every two steps in their order ─► hold FIRST until SECOND
//!                                                 │ each, in the scenarios that have it: crash sweep, to the first failure
//!                                                 ▼
//!                    Finding: shown by this crash of this scenario, or by none
//! ```
//! A step is what makes something count: a name that is given or taken away, a batch in a sink outside, a block that a
//! source may forget. Two steps are tried when one follows the other directly, and each step of a batch is tried against
//! the entry that says the batch is done. The protocol is the same on an object store; it is taken apart on the disk, where
//! more can be lost. What no crash shows must have its reason in `tests/barriers.toml`: a sync that
//! is not needed is a cost, an order that is not needed may change one day.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::campaign::check;
use crate::effects::{Effect, Op, kind_of};
use crate::exhaust;
use crate::fault::Fault;
use crate::pipeline::Pipeline;
use crate::plant::{Bug, Plant};
use crate::runner::run;
use crate::scenario::Scenario;
use crate::sweep::{Depth, sweep};

/// The entry that says a batch is done.
const DONE: &str = "checkpoint/commits/N link";

/// Of the crash points in recoveries, every how many-th is tried where one crash shows nothing.
const SECOND_CRASH_STRIDE: usize = 11;

/// How many times fewer where hardly two points leave the same, because the time counts too: there each is a run.
const TIMED_STRIDE: usize = 97;

/// In how many scenarios a second crash is tried.
const SECOND_CRASH_SCENARIOS: usize = 2;

/// All that was found, as `tests/barriers.toml` keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// One for each barrier.
    #[serde(default)]
    pub barrier: Vec<Finding>,
}

impl Findings {
    /// Reads `tests/barriers.toml`.
    ///
    /// # Errors
    /// When it is no such text.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The text of `tests/barriers.toml`.
    ///
    /// # Panics
    /// Never: every field is a text, a number, or a list or table of such, which TOML has.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("findings are made of what TOML has")
    }
}

/// What came of taking one barrier away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The barrier, as the planted bug that takes it away.
    pub without: Plant,
    /// The scenario that fails without it; none if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Only where no crash shows it: why that is so. What the barrier is for, if it is for something that these
    /// scenarios do not see; otherwise why nothing depends on it. Empty as measured; a person fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
    /// What is wrong then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// The crashes of the scenario; none when it already fails without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<Fault>,
}

/// Every barrier that the small scenarios have, with the names of the scenarios that have it.
pub fn barriers() -> BTreeMap<Plant, Vec<&'static str>> {
    let mut found: BTreeMap<Plant, Vec<&'static str>> = BTreeMap::new();
    for (name, scenario) in exhaust::scenarios() {
        let trace = run(&scenario, &Pipeline).trace;
        for plant in syncs(&trace).into_iter().chain(orders(&trace)) {
            found.entry(plant).or_default().push(name);
        }
    }
    found
}

fn syncs(trace: &[Effect]) -> BTreeSet<Plant> {
    let syncs = trace.iter().filter(|effect| matches!(effect.op, Op::Fsync | Op::FsyncDir));
    syncs.map(|effect| Plant { kind: kind_of(&effect.name), bug: Bug::NoSync }).collect()
}

fn orders(trace: &[Effect]) -> BTreeSet<Plant> {
    let steps: Vec<String> =
        trace.iter().filter(|effect| is_step(effect)).map(|effect| kind_of(&effect.name)).collect();
    let mut pairs = BTreeSet::new();
    for (at, first) in steps.iter().enumerate() {
        let after = || steps[at + 1..].iter().take_while(|step| *step != first);
        pairs.extend(after().next().map(|next| (first, next)));
        pairs.extend(after().find(|step| *step == DONE).map(|done| (first, done)));
        if first == DONE {
            pairs.extend(after().map(|later| (first, later)));
        }
    }
    let hold =
        |(first, next): (&String, &String)| Plant { kind: first.clone(), bug: Bug::Hold { until: next.clone() } };
    pairs.into_iter().map(hold).collect()
}

fn is_step(effect: &Effect) -> bool {
    let names = matches!(effect.op, Op::Link | Op::Rename | Op::Unlink) && !effect.name.contains(".tmp ");
    names || matches!(effect.op, Op::Commit | Op::Release)
}

/// Takes a barrier away, in these scenarios, until a crash shows it: one crash, and if that is not enough a second one
/// in the recovery.
pub fn find(plant: &Plant, scenarios: &[&str], jobs: usize) -> Finding {
    for recovery_stride in [0, SECOND_CRASH_STRIDE] {
        for name in scenarios.iter().take(if recovery_stride == 0 { usize::MAX } else { SECOND_CRASH_SCENARIOS }) {
            let scenario = without(plant, name);
            let recovery_stride =
                if scenario.is_repeatable() { recovery_stride } else { recovery_stride * TIMED_STRIDE };
            let depth = Depth { jobs, recovery_stride, stop_at_failure: true, ..Depth::single() };
            let found = sweep(&scenario, &Pipeline, &depth);
            let mut shown = found.failures.into_iter().filter(|(scenario, _)| is_sound_with_it(scenario));
            if let Some((scenario, failures)) = shown.next() {
                return Finding {
                    without: plant.clone(),
                    scenario: Some((*name).to_owned()),
                    free: None,
                    says: failures.first().map(|failure| format!("{:?}", failure.kind)),
                    fault: scenario.faults,
                };
            }
        }
    }
    Finding { without: plant.clone(), scenario: None, free: Some(String::new()), says: None, fault: Vec::new() }
}

/// Whether the engine as it is survives the crashes of this scenario: one that it does not survive shows nothing of a
/// barrier.
fn is_sound_with_it(scenario: &Scenario) -> bool {
    check(&Scenario { plants: Vec::new(), ..scenario.clone() }, &Pipeline).2.is_empty()
}

/// Whether the scenario fails at these crashes without the barrier, and only without it.
///
/// # Panics
/// If there is no such scenario.
pub fn shows(plant: &Plant, name: &str, faults: &[Fault]) -> bool {
    let scenario = without(plant, name).with_faults(faults.iter().cloned());
    !check(&scenario, &Pipeline).2.is_empty() && is_sound_with_it(&scenario)
}

/// The small scenario of this name, without a barrier.
///
/// # Panics
/// If there is no such scenario.
fn without(plant: &Plant, name: &str) -> Scenario {
    let (_, scenario) = exhaust::scenarios().into_iter().find(|(known, _)| *known == name).expect("a known scenario");
    Scenario { plants: vec![plant.clone()], ..scenario }
}
