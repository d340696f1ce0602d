//! Pipelines over `rate-micro-batch`, a source that never ends: each start of the query takes one batch.

use rand::Rng;
use rand::seq::IndexedRandom;
use wavetank_engine::environment::Entropy;

use super::places::Places;
use crate::scenario::{Scenario, Step};

/// The scenario of one seed of forty.
pub(super) fn scenario(seed: u64) -> Option<Scenario> {
    let entropy = Entropy::from_seed(seed).fork("rate");
    let mut random = entropy.stream();
    if !random.random_ratio(1, 40) {
        return None;
    }
    let (query, mode) = *[
        ("SELECT timestamp, value FROM STREAM events WHERE value % 3 <> 1", "append"),
        ("SELECT value % 3 AS k, count(*) AS n, max(timestamp) AS t FROM STREAM events GROUP BY value % 3", "update"),
        ("SELECT value % 3 AS k, count(*) AS n, sum(value) AS s FROM STREAM events GROUP BY value % 3", "complete"),
    ]
    .choose(&mut random)
    .expect("three");
    let script = format!(
        "CREATE TABLE events USING `rate-micro-batch`\n  OPTIONS (rowsPerBatch '{}', numPartitions '{}', startTimestamp \
         '{}', advanceMillisPerBatch '{}');\nCREATE STREAMING TABLE out USING witness\n  OPTIONS (outputMode '{mode}', \
         trigger 'availableNow', checkpointLocation '{}')\n  AS {query};\n",
        random.random_range(1..6),
        random.random_range(1..4),
        random.random_range(0..5_000),
        *[0, 1, 1_000, 60_000].choose(&mut random).expect("four"),
        Places::drawn(entropy).checkpoint,
    );
    let mut steps = vec![Step::Settle];
    for _ in 0..random.random_range(1..5) {
        steps.extend([Step::Restart, Step::Settle]);
    }
    Some(Scenario { about: format!("drawn from seed {seed}"), seed, script, steps, ..Scenario::default() })
}
