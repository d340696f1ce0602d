//! How soon is each planted bug found? Prints the table of `docs/TESTING.md`, and the seeds for `tests/planted_bugs.tsv`.
//!
//! `cargo run -p wavetank-sim --example planted [SEEDS [PART OF A NAME]]`: per bug at most so many seeds, from 0.

use std::time::Instant;

use wavetank_sim::bugs::BUGS;
use wavetank_sim::campaign::Campaign;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::scenario::View;
use wavetank_sim::{Scenario, draw};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seeds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let part = arguments.next().unwrap_or_default();
    println!("bug\tseed\tseconds\tshrink_seconds\tfaults\trows\tkind");
    let (mut needed, mut small, mut quick) = (Vec::new(), 0, 0);
    let bugs: Vec<_> = BUGS.iter().filter(|bug| bug.name.contains(&part)).collect();
    for bug in &bugs {
        let scenario = |seed| Scenario { plants: vec![bug.plant()], ..draw::scenario(seed) };
        let campaign = |seeds, shrink_tries| Campaign {
            seeds,
            jobs: 1,
            shrink_tries,
            scenario: &scenario,
            subject: &Pipeline,
            stop_at_failure: true,
            progress: &|_| true,
        };
        let begun = Instant::now();
        // Places in the code of user functions, and in joins, are reached by no other seeds.
        let is_in_joins = bug.name.starts_with("join-");
        let reaches = |seed: &u64| {
            let drawn = || draw::scenario(*seed);
            (!bug.is_in_groups() || drawn().views.iter().any(View::calls_a_function))
                && (!is_in_joins || drawn().script.contains(" JOIN "))
        };
        let found = (0..seeds).filter(reaches).find_map(|seed| campaign(seed..seed + 1, 0).run().failures.pop());
        let Some(found) = found else {
            println!("{}\tnot found in {seeds} seeds\t{:.1}", bug.name, begun.elapsed().as_secs_f64());
            continue;
        };
        let seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let shrunk = campaign(found.seed..found.seed + 1, 400).run();
        let shrink_seconds = begun.elapsed().as_secs_f64();
        let smallest = shrunk.failures.first().and_then(|found| Scenario::from_toml(&found.scenario).ok());
        let (faults, rows) = smallest.map_or((99, 99), |smallest| (smallest.faults.len(), smallest.rows_count()));
        let kind = found.failures.first().map_or("", |text| text.split(':').next().unwrap_or(""));
        println!("{}\t{}\t{seconds:.2}\t{shrink_seconds:.1}\t{faults}\t{rows}\t{kind}", bug.name, found.seed);
        needed.push(found.seed + 1);
        small += usize::from(faults <= 3 && rows <= 10);
        quick += usize::from(shrink_seconds <= 30.0);
    }
    needed.sort_unstable();
    println!("# {} of {} found; median {:?} seeds", needed.len(), bugs.len(), needed.get(needed.len() / 2));
    println!("# shrunk to at most 3 faults and 10 rows: {small}; within 30 s: {quick}");
}
