//! Queries that are changed between two runs over one checkpoint (`spec/08`): a watermark that comes, goes or moves.
//!
//! The scenario is an ordinary one; its query begins with another watermark, or without one, and is started again as it
//! is. The model goes along ([`crate::model::Model::redeploy`]): it keeps no notes of when something may be forgotten.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::scenario::{Keep, Scenario, Step};
use crate::shapes::{MARK, Shape};

/// The scenario, in one of twelve that have a watermark with another query up to some step.
pub(super) fn redeployed(scenario: Scenario, shape: &Shape, mode: &str, random: &mut ChaCha8Rng) -> Scenario {
    if !scenario.script.contains(MARK) || !random.random_ratio(1, 12) {
        return scenario;
    }
    let delays = ["0", "1", "20"].map(|seconds| MARK.replace('5', seconds));
    // None at all where that can be, in two of five cases.
    let none = vec![String::new(); if can_do_without(shape, mode) { 2 } else { 0 }];
    let others: Vec<String> = none.into_iter().chain(delays).collect();
    let other = scenario.script.replace(MARK, others.choose(random).expect("three or more"));
    let (first, then) = if random.random_ratio(1, 4) { (scenario.script, other) } else { (other, scenario.script) };
    let mut steps = scenario.steps;
    let at = random.random_range(0..steps.len());
    steps.splice(at..at, [Step::Settle, Step::Redeploy { script: then }]);
    Scenario { script: first, steps, ..scenario }
}

/// Whether Spark takes this query without a watermark, too.
fn can_do_without(shape: &Shape, mode: &str) -> bool {
    let is_aggregated = shape.query.contains("GROUP BY");
    match shape.keep {
        Some((_, _, Keep::DropDuplicates, _)) => !is_aggregated || mode != "append",
        Some(_) => false,
        None if mode == "append" => shape.query.contains("FROM l JOIN r") && !is_aggregated,
        None => true,
    }
}
