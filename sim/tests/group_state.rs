//! User functions over groups in simulated worlds: crashed at every effect, and drawn, with the reference model as judge.

use std::collections::BTreeMap;

use wavetank_sim::campaign::Campaign;
use wavetank_sim::groups::{GroupJob, swept};
use wavetank_sim::oracle::{Judged, judge_by_model};
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::scenario::Keep;
use wavetank_sim::sweep::{Depth, sweep};
use wavetank_sim::{CrashImage, draw, run};

fn job_of(seed: u64) -> Option<GroupJob> {
    draw::scenario(seed).views.iter().find_map(|view| match view.keep {
        Keep::Groups(job) => Some(job),
        _ => None,
    })
}

#[test]
fn state_timeouts_variables_and_timers_survive_every_crash() {
    let depth =
        Depth { stride: 7, images: vec![CrashImage::Kill, CrashImage::Strict, CrashImage::Chaos], ..Depth::single() };
    for (name, scenario) in swept() {
        let undisturbed = run(&scenario, &Pipeline);
        let judged = judge_by_model(&scenario, &undisturbed);
        // Which variables there are depends on the life: this one is only compared with the run without crashes.
        let sound = match &judged {
            Judged::Followed(failures) => failures.is_empty(),
            Judged::Beyond(_) => name.contains("change") && undisturbed.failures.is_empty(),
        };
        assert!(sound, "{name}: {judged:?} {:?}", undisturbed.failures);
        // What has changed is written down by the first promise of the second life.
        let rewrites = undisturbed.trace.iter().any(|e| e.life == 1 && e.name.contains("wavetank-stores"));
        assert_eq!(rewrites, name.contains("change"), "{name}");
        let found = sweep(&scenario, &Pipeline, &depth);
        if let Some((scenario, failures)) = found.failures.first() {
            panic!("{name}: {failures:#?}\n{}\n{found}", scenario.to_toml());
        }
        let total = found.total();
        assert!(total.exist > 0 && total.reached == total.exist, "{name}\n{found}");
    }
}

#[test]
fn drawn_functions_answer_what_the_model_answers() {
    // `WAVETANK_RUNS` scenarios of each function.
    let each = std::env::var("WAVETANK_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5);
    let mut seeds: BTreeMap<GroupJob, Vec<u64>> = BTreeMap::new();
    for (seed, job) in (0..200 * each as u64).filter_map(|seed| Some((seed, job_of(seed)?))) {
        seeds.entry(job).or_default().push(seed);
    }
    assert_eq!(seeds.len(), 10, "{seeds:?}");
    let seeds: Vec<u64> = seeds.into_values().flat_map(|seeds| seeds.into_iter().take(each)).collect();
    let report = Campaign {
        seeds: 0..seeds.len() as u64,
        jobs: 2,
        shrink_tries: 0,
        scenario: &|at| draw::scenario(seeds[at as usize]),
        subject: &Pipeline,
        stop_at_failure: false,
        progress: &|_| true,
    }
    .run();
    let failures: Vec<_> = report.failures.iter().map(|found| (seeds[found.seed as usize], &found.failures)).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.marks["the model could follow"], seeds.len() as u64);
}
