//! `wavetank state`: what a checkpoint remembers, as tables.

use std::path::{Path, PathBuf};

use clap::Args;
use wavetank::sinks::console;
use wavetank::{Environment, Error};

use crate::Outcome;

/// The command line of `wavetank state`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The checkpoint's folder (the query's checkpointLocation). It may be that of a running query.
    checkpoint: PathBuf,
    /// Shows the state of this operator; without it, the operators are listed.
    #[arg(long, value_name = "ID")]
    operator: Option<u64>,
    /// Shows the state after this batch; without it, after the last committed one.
    #[arg(long, value_name = "ID", requires = "operator")]
    batch: Option<u64>,
    /// Which of the operator's stores, where it has several.
    #[arg(long, value_name = "NAME", requires = "operator")]
    store: Option<String>,
    /// Which variable of a transformWithState operator.
    #[arg(long, value_name = "NAME", requires = "operator", conflicts_with_all = ["store", "timers"])]
    variable: Option<String>,
    /// Shows the timers of a transformWithState operator.
    #[arg(long, requires = "operator", conflicts_with = "store")]
    timers: bool,
    /// Which side of a stream-stream join: left or right.
    #[arg(long, value_name = "SIDE", requires = "operator", conflicts_with = "store")]
    side: Option<String>,
    /// Shows what the batches from this one on changed, instead of what was there after them.
    #[arg(long, value_name = "ID", requires = "operator", conflicts_with_all = ["batch", "side"])]
    changes_from: Option<u64>,
    /// The last batch whose changes are shown.
    #[arg(long, value_name = "ID", requires = "changes_from")]
    changes_to: Option<u64>,
    /// At most so many rows.
    #[arg(long, value_name = "ROWS", default_value_t = 1000)]
    limit: usize,
}

/// Prints the checkpoint's operators, or the entries of a store. Nothing is locked and nothing is written.
pub async fn state(arguments: Arguments) -> Outcome {
    let here = std::env::current_dir().map_err(|error| Error::analysis(format!("Cannot read .: {error}.")))?;
    if !arguments.checkpoint.is_dir() && !arguments.checkpoint.to_string_lossy().contains("://") {
        return Err(not_there(&arguments.checkpoint));
    }
    let session = wavetank::session_builder(Environment::real(here)).build()?;
    let path = arguments.checkpoint.to_string_lossy();
    let reader = session.read().option("path", &path);
    let frame = match arguments.operator {
        None => reader.format("state-metadata"),
        Some(operator) => {
            let numbers = [
                ("batchId", arguments.batch),
                ("changeStartBatchId", arguments.changes_from),
                ("changeEndBatchId", arguments.changes_to),
            ];
            let mut reader = reader.format("statestore").option("operatorId", operator);
            for (name, number) in numbers {
                if let Some(number) = number {
                    reader = reader.option(name, number);
                }
            }
            if arguments.changes_from.is_some() {
                reader = reader.option("readChangeFeed", true);
            }
            if arguments.timers {
                reader = reader.option("readRegisteredTimers", true);
            }
            let names =
                [("storeName", &arguments.store), ("stateVarName", &arguments.variable), ("joinSide", &arguments.side)];
            for (name, text) in names {
                if let Some(text) = text {
                    reader = reader.option(name, text);
                }
            }
            reader
        }
    };
    let frame = frame.load().await?.limit(arguments.limit)?;
    print!("{}", console::show(&frame.schema(), &frame.collect().await?)?);
    Ok(())
}

fn not_there(path: &Path) -> Error {
    Error::analysis(format!(
        "There is no folder {}. Name the folder that the query has as checkpointLocation.",
        path.display()
    ))
}
