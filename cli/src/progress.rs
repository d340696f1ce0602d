//! How far the queries are, on stderr: a live line a query, a line a batch, a line of JSON a batch, or nothing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wavetank::engine::Error;
use wavetank::engine::microbatch::driver::Identity;
use wavetank::engine::progress::StreamingQueryProgress;
use wavetank::prelude::StreamingQueryListener;
use wavetank::sinks::Terminal;

use crate::pipe::Stdout;

/// How often a live line turns its wheel.
const TICK: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// One line a query that is redrawn in place.
    Live,
    /// One line a batch.
    Line,
    /// One line a batch: Spark's progress report as JSON.
    Json,
    /// Nothing.
    None,
}

/// Shows progress as a listener of all queries.
pub struct Progress {
    shown: Shown,
    lines: MultiProgress,
    /// The live line of each run.
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Progress {
    /// As asked for, or as fits what stderr is.
    pub fn new(shown: Option<Shown>) -> Self {
        let shown = shown.unwrap_or(if io::stderr().is_terminal() { Shown::Live } else { Shown::Line });
        let target = if shown == Shown::Live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { shown, lines: MultiProgress::with_draw_target(target), bars: Mutex::default() }
    }

    /// Standard output, which on a shared terminal must not be written into the middle of a live line.
    pub fn stdout(&self) -> Terminal {
        match self.shown {
            Shown::Live => Arc::new(Mutex::new(AroundLines(self.lines.clone()))),
            _ => Arc::new(Mutex::new(Stdout)),
        }
    }

    /// Leaves the last state of the live lines on the terminal.
    pub fn finish(&self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.abandon();
        }
    }

    fn live(&self, run_id: &str, message: String) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(run_id) {
            bar.set_message(message);
        }
    }
}

impl StreamingQueryListener for Progress {
    fn on_query_started(&self, query: &Identity) {
        if self.shown != Shown::Live {
            return;
        }
        let style = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}");
        let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let bar = self.lines.add(bar);
        bar.set_prefix(query.name.clone().unwrap_or_else(|| query.id.clone()));
        bar.set_message("waiting for data");
        bar.enable_steady_tick(TICK);
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(query.run_id.clone(), bar);
    }

    fn on_query_progress(&self, progress: &StreamingQueryProgress) {
        match self.shown {
            Shown::None => {}
            Shown::Json => eprintln!("{}", progress.json()),
            Shown::Line => eprintln!("{}: {}", progress.name.as_deref().unwrap_or(&progress.id), line(progress)),
            Shown::Live => self.live(&progress.run_id, line(progress)),
        }
    }

    fn on_query_terminated(&self, query: &Identity, error: Option<&Error>) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(&query.run_id) {
            let said = bar.message();
            bar.abandon_with_message(if error.is_some() {
                format!("failed · {said}")
            } else {
                format!("ended · {said}")
            });
        }
    }
}

/// A batch in one line. What is zero is not said.
fn line(progress: &StreamingQueryProgress) -> String {
    let mut line = format!("batch {} · {} rows in", progress.batch_id, progress.num_input_rows);
    let mut say = |text: String| line.extend([" · ", &text]);
    if let Ok(rows) = u64::try_from(progress.sink.num_output_rows) {
        say(format!("{rows} out"));
    }
    say(format!("{} ms", progress.batch_duration));
    let operators = &progress.state_operators;
    if !operators.is_empty() {
        say(format!("{} rows in state", operators.iter().map(|operator| operator.num_rows_total).sum::<u64>()));
    }
    if let Some(watermark) = progress.event_time.get("watermark") {
        say(format!("watermark {watermark}"));
    }
    let late: u64 = operators.iter().map(|operator| operator.num_rows_dropped_by_watermark).sum();
    if late > 0 {
        say(format!("{late} too late"));
    }
    line
}

/// Standard output below live lines: they are taken away while it is written.
struct AroundLines(MultiProgress);

impl Write for AroundLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| Stdout.write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.suspend(|| Stdout.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Stdout.flush()
    }
}
