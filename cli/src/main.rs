//! The `wavetank` program: pipelines as SQL files, run, explained and simulated; and what they remember.
//!
//! One module per subcommand. `progress` and `signals` belong to `run`, `exhaust` and `twice` to `sim`; `session`, `pipe`
//! and `warnings` to all. Data goes to stdout, everything else to stderr. Absent: everything that decides an answer; the
//! program only calls the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod exhaust;
mod explain;
mod pipe;
mod pipeline;
mod progress;
mod replay;
mod run;
mod session;
mod signals;
mod sim;
mod state;
mod ticker;
mod twice;
mod warnings;

/// Planning and Arrow allocate much and in small pieces; the system's allocator takes a sixth of a campaign's time for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Spark Structured Streaming's semantics without the cluster: pipelines are SQL files.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a pipeline until its triggers say it is done, or until it is told to stop.
    Run(run::Arguments),
    /// Shows how a pipeline would be run. Nothing runs and nothing is written.
    Explain(explain::Arguments),
    /// Shows what a checkpoint remembers: its stateful operators, or the entries of one.
    State(state::Arguments),
    /// Runs the engine in simulated worlds with crashes and failing storage, one world a seed.
    Sim(sim::Arguments),
    /// Runs one simulated scenario again and shows what happened.
    Replay(replay::Arguments),
}

/// What a subcommand answers: it did what was asked, or why it did not.
type Outcome = wavetank::Result<()>;

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    pipe::end_quietly();
    if !matches!(command, Command::Sim(_) | Command::Replay(_)) {
        // In simulated worlds engines die all the time, and warn of it; what matters is what is found.
        warnings::show();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Run(arguments) => run::run(arguments).await,
            Command::Explain(arguments) => explain::explain(arguments).await,
            Command::State(arguments) => state::state(arguments).await,
            // Simulated worlds bring their own runtimes and clocks.
            Command::Sim(arguments) => tokio::task::block_in_place(|| sim::sim(&arguments)),
            Command::Replay(arguments) => tokio::task::block_in_place(|| replay::replay(&arguments)),
        }
    });
    // What still runs (reads of files that nobody waits for any more) is not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::FAILURE
}
