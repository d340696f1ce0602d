//! Scenarios that failed once, because of the engine, the model or the simulator: each must be right for ever.

use std::path::Path;

use wavetank_sim::campaign::check;
use wavetank_sim::page;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::saved::saved;

#[test]
fn what_failed_once_is_right_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let scenarios = saved(&folder).unwrap_or_else(|error| panic!("{error}"));
    assert!(!scenarios.is_empty(), "no scenario in {}", folder.display());
    for (path, scenario) in scenarios {
        let name = path.display();
        let (baseline, run, failures) = check(&scenario, &Pipeline);
        let page = page::text(&scenario, &run, &baseline, &failures, &format!("wavetank replay {name}"));
        assert!(failures.is_empty(), "{name}\n{page}");
    }
}
