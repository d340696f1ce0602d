//! A small campaign of drawn scenarios against the engine, with every oracle.

use wavetank_sim::campaign::Campaign;
use wavetank_sim::draw;
use wavetank_sim::pipeline::Pipeline;

/// `WAVETANK_RUNS` and `WAVETANK_SEED` make it longer, or begin elsewhere; `WAVETANK_SHRINK` is for how many runs failures
/// are shrunk.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn drawn_scenarios_raise_no_alarm() {
    let first = number("WAVETANK_SEED", 0);
    let campaign = Campaign {
        seeds: first..first + number("WAVETANK_RUNS", 40),
        jobs: number("WAVETANK_JOBS", 2) as usize,
        shrink_tries: number("WAVETANK_SHRINK", 150) as usize,
        scenario: &draw::scenario,
        subject: &Pipeline,
        stop_at_failure: false,
        progress: &|_| true,
    };
    let begun = std::time::Instant::now();
    let report = campaign.run();
    println!("{:?} in {:?}\n{:#?}", report.progress, begun.elapsed(), report.marks);
    let pages: Vec<&str> = report.failures.iter().map(|found| found.page.as_str()).collect();
    assert!(
        pages.is_empty(),
        "{} of {} seeds failed\n{}",
        pages.len(),
        report.progress.seeds_count,
        pages.join("\n\n")
    );
}
