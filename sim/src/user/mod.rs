//! A user's own pipeline in the simulated world: its text is moved in, and a seed becomes rows and steps for it.
//!
//! ```text
//! pipeline.sql ─► script.rs: streams become tapes, sinks become witnesses, static tables are given
//!              └► hints.rs:  durations, numbers and texts that the pipeline talks about
//! seed ─ rows.rs: rows of the streams' columns around those ─► blocks, settling, waiting, restarts ─► Scenario
//! ```
//! What goes wrong in a run is drawn by `draw.rs`, as for drawn pipelines. Absent: what must be true of the output; the
//! self-oracle of the runner compares with the faultless run, and users bring assertions of their own.

mod given;
mod hints;
mod rows;
mod script;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use wavetank_engine::environment::Entropy;

pub use given::GivenProvider;
pub use hints::Hints;
pub use rows::{RowDrawer, RowDrawers};
pub use script::{Known, Stream, UserScript, create_tape, streams_of};

use crate::scenario::{Scenario, Step};

/// Gives the rows (JSON objects) of a block: of which stream, from which random stream, the how many-eth block of it.
pub type Arrivals<'a> = dyn Fn(&Stream, &mut ChaCha8Rng, usize) -> Vec<String> + Sync + 'a;

/// How many blocks of rows a scenario has at most.
const BLOCKS_LIMIT: usize = 8;

/// The scenario of a seed for a user's script, without faults: rows drawn from the schemas of its streams.
pub fn scenario(seed: u64, script: &UserScript) -> Scenario {
    let drawers = RowDrawers::new(script);
    scenario_with(seed, script, &|stream, random, _| drawers.block(stream, random))
}

/// The scenario of a seed for a user's script, without faults, with rows that the caller gives.
pub fn scenario_with(seed: u64, script: &UserScript, arrivals: &Arrivals<'_>) -> Scenario {
    let entropy = Entropy::from_seed(seed);
    let steps = drawn_steps(entropy, &script.streams, arrivals);
    Scenario {
        about: format!("your pipeline, seed {seed}"),
        seed,
        script: script.text.clone(),
        steps,
        ..Scenario::default()
    }
}

/// Arrivals and what lies between them.
fn drawn_steps(entropy: Entropy, streams: &[Stream], arrivals: &Arrivals<'_>) -> Vec<Step> {
    let mut random = entropy.fork("user steps").stream();
    let mut rows_random = entropy.fork("user rows").stream();
    let mut blocks = vec![0; streams.len()];
    let mut steps = vec![];
    for _ in 0..random.random_range(1..=BLOCKS_LIMIT) {
        let indexes: Vec<usize> = (0..streams.len()).collect();
        let Some(&at) = indexes.choose(&mut random) else { break };
        let rows = arrivals(&streams[at], &mut rows_random, blocks[at]);
        blocks[at] += 1;
        steps.push(Step::Add { tape: streams[at].name.clone(), rows });
        // As in `draw.rs`: whoever waits or restarts settles before, so that a crash cannot change which batches run.
        match random.random_range(0..10) {
            0..5 => steps.push(Step::Settle),
            5..7 => {
                // An idle query looks for rows every 10 ms; long waits cost time and show nothing new.
                let ms = *[3, 40, 700, 3_000].choose(&mut random).expect("four");
                steps.extend([Step::Settle, Step::Wait { ms }, Step::Settle]);
            }
            7 => steps.extend([Step::Settle, Step::Restart]),
            _ => {}
        }
    }
    steps.push(Step::Settle);
    steps
}

#[cfg(test)]
mod tests;
