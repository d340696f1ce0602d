//! The global watermark: from what the watermark nodes saw to the one number that a batch is logged with
//! (`spec/02` section 3).

use crate::error::{Error, Result};
use crate::operators::watermark::{EventTimeStats, WatermarkNode};
use crate::planted::planted;

/// How the watermarks of several nodes become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultipleWatermarkPolicy {
    /// The slowest node holds everything back; a node that has seen nothing in this run counts as 0.
    #[default]
    Min,
    /// The fastest node decides.
    Max,
}

impl std::str::FromStr for MultipleWatermarkPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_lowercase().as_str() {
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            _ => Err(Error::analysis(format!(
                "Could not recognize watermark policy '{text}'. Set spark.sql.streaming.multipleWatermarkPolicy to min \
                 or max."
            ))),
        }
    }
}

/// Follows the watermark of each node, and the global one, through the batches of a run.
#[derive(Debug)]
pub struct WatermarkTracker {
    policy: MultipleWatermarkPolicy,
    /// Per node: the newest event time seen in this run minus the delay; not kept over restarts.
    nodes: Vec<Option<i64>>,
    global_ms: i64,
}

impl WatermarkTracker {
    /// A tracker that begins a run at `global_ms` (0 for a new query).
    pub fn new(policy: MultipleWatermarkPolicy, nodes: usize, global_ms: i64) -> Self {
        Self { policy, nodes: vec![None; nodes], global_ms }
    }

    /// The global watermark in milliseconds.
    pub fn current_ms(&self) -> i64 {
        self.global_ms
    }

    /// Takes what each node saw in a batch. The global watermark never goes back.
    pub fn update<'a>(&mut self, seen: impl IntoIterator<Item = (&'a WatermarkNode, Option<EventTimeStats>)>) {
        for (node, stats) in seen {
            if let Some(stats) = stats {
                let delay_ms = if planted("watermark-without-delay") { 0 } else { node.delay_ms };
                let reached = stats.max_ms.saturating_sub(delay_ms);
                let known = &mut self.nodes[node.id];
                let before = if planted("watermark-goes-back") { None } else { *known };
                *known = Some(before.map_or(reached, |before| before.max(reached)));
            }
        }
        let of_nodes = self.nodes.iter().map(|node| node.unwrap_or(0));
        let seen = self.nodes.iter().flatten().copied();
        let candidate = match self.policy {
            _ if planted("watermark-policy-max-for-min") => of_nodes.max(),
            _ if planted("a-silent-source-holds-nothing-back") => seen.min(),
            MultipleWatermarkPolicy::Min => of_nodes.min(),
            MultipleWatermarkPolicy::Max => of_nodes.max(),
        };
        let floor_ms = if planted("watermark-goes-back") { 0 } else { self.global_ms };
        self.global_ms = floor_ms.max(candidate.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saw(max_s: i64) -> Option<EventTimeStats> {
        let max_ms = max_s * 1000;
        Some(EventTimeStats { max_ms, min_ms: max_ms, count: 1, sum_ms: max_ms.into() })
    }

    /// `spec/02` section 3: policy min, A(10s), B(20s), with a restart.
    #[test]
    fn the_worked_example_of_policy_min() {
        let (a, b) = (WatermarkNode::new(0, 10_000), WatermarkNode::new(1, 20_000));
        let mut tracker = WatermarkTracker::new(MultipleWatermarkPolicy::Min, 2, 0);
        let step = |tracker: &mut WatermarkTracker, node: &WatermarkNode, s| {
            tracker.update([(node, saw(s))]);
            tracker.current_ms() / 1000
        };
        assert_eq!(step(&mut tracker, &a, 30), 0);
        assert_eq!(step(&mut tracker, &b, 35), 15);
        assert_eq!(step(&mut tracker, &a, 100), 15);
        assert_eq!(step(&mut tracker, &b, 60), 40);
        let mut restarted = WatermarkTracker::new(MultipleWatermarkPolicy::Min, 2, 40_000);
        assert_eq!(step(&mut restarted, &a, 200), 40);
        assert_eq!(step(&mut restarted, &b, 90), 70);
    }

    #[test]
    fn the_watermark_is_never_negative_and_never_goes_back() {
        let node = WatermarkNode::new(0, 10_000);
        let mut tracker = WatermarkTracker::new(MultipleWatermarkPolicy::Max, 1, 0);
        tracker.update([(&node, saw(5))]);
        assert_eq!(tracker.current_ms(), 0);
        tracker.update([(&node, saw(50))]);
        tracker.update([(&node, saw(20))]);
        tracker.update([(&node, None)]);
        assert_eq!(tracker.current_ms(), 40_000);
    }
}
