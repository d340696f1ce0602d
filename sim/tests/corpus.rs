//! Scenarios that failed once, because of the engine, the model or the simulator: each must be right for ever.

use std::path::Path;

use wavetank_sim::Scenario;
use wavetank_sim::campaign::check;
use wavetank_sim::page;
use wavetank_sim::pipeline::Pipeline;

#[test]
fn what_failed_once_is_right_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = std::fs::read_dir(&folder).expect("the corpus is a folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scenario in {}", folder.display());
    for path in paths {
        let name = path.display();
        let text = std::fs::read_to_string(&path).expect("readable");
        let scenario = Scenario::from_toml(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (baseline, run, failures) = check(&scenario, &Pipeline);
        let page = page::text(&scenario, &run, &baseline, &failures, &format!("wavetank replay {name}"));
        assert!(failures.is_empty(), "{name}\n{page}");
    }
}
