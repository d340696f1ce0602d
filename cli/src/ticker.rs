//! How far a campaign is, on stderr: a bar on a terminal, elsewhere a line now and then; and each failure when it is found.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use wavetank::Error;
use wavetank::sim::campaign::Progress;

/// Where there is no terminal, a line comes this often.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Tells how far a campaign is.
pub struct Ticker {
    bar: ProgressBar,
    begun: Instant,
    /// When the last line was written.
    told: Mutex<Instant>,
}

impl Ticker {
    /// Of a campaign of so many seeds, which begins now.
    pub fn new(seeds_count: u64) -> wavetank::Result<Self> {
        let bar = ProgressBar::new(seeds_count);
        // What does not fit into the line is cut: a line that wraps is not taken away again.
        let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {wide_msg}")
            .map_err(|error| Error::internal(error.to_string()))?;
        bar.set_style(style);
        let begun = Instant::now();
        Ok(Self { bar, begun, told: Mutex::new(begun) })
    }

    /// A seed is done.
    pub fn tick(&self, progress: &Progress, missing: &[&str]) {
        let said = || format!("{} {}", self.rates(progress), not_reached(missing));
        if self.bar.is_hidden() {
            let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if told.elapsed() >= LINE_EVERY {
                *told = Instant::now();
                eprintln!("{} seeds: {}", progress.seeds_count, said());
            }
            return;
        }
        // The message first: whoever looks between the two sees no number of the seed before.
        self.bar.set_message(said());
        self.bar.set_position(progress.seeds_count);
    }

    /// Writes a line, above the bar if there is one.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// The campaign is over: how long it took, and how fast it was.
    pub fn finish(&self, progress: &Progress) {
        self.bar.finish_and_clear();
        eprintln!("{:.1} s: {}", self.begun.elapsed().as_secs_f64(), self.rates(progress));
    }

    fn rates(&self, progress: &Progress) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let per_second = |count: u64| count as f64 / seconds;
        format!(
            "{} failures, {:.1} seeds/s, {:.0} batches/s, {:.1} crashes/s",
            progress.failures_count,
            per_second(progress.seeds_count),
            per_second(progress.batches_count),
            per_second(progress.crashes_count)
        )
    }
}

fn not_reached(missing: &[&str]) -> String {
    if missing.is_empty() { String::new() } else { format!("(not yet: {})", missing.join(", ")) }
}
