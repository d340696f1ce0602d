//! The exhaustive list, sampled: what `wavetank sim --exhaust` crashes everywhere is crashed here at every thirtieth effect.

use wavetank_sim::CrashImage;
use wavetank_sim::exhaust::scenarios;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::sweep::{Depth, sweep};

#[test]
fn every_scenario_of_the_list_survives_a_sample_of_its_crashes() {
    let images = vec![CrashImage::Kill, CrashImage::Strict];
    let depth = Depth { images, stride: 30, ..Depth::single() };
    for (name, scenario) in scenarios() {
        let found = sweep(&scenario, &Pipeline, &depth);
        assert!(found.failures.is_empty(), "{name}: {:?}", found.failures.first());
        let total = found.total();
        assert!(total.exist > 0 && total.reached == total.exist, "{name}: {found}");
    }
}
