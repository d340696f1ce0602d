//! `wavetank run`: a script's statements, then all its queries side by side until they end.

use std::sync::{Arc, PoisonError};

use clap::Args;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wavetank::engine::script::Answer;
use wavetank::prelude::StreamingQuery;
use wavetank::sinks::{Terminal, console};
use wavetank::{Error, Result};

use crate::progress::{Progress, Shown};
use crate::session::Script;
use crate::{Outcome, signals};

/// The command line of `wavetank run`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    script: Script,
    /// How progress is shown on stderr. Without it: live on a terminal, else a line per batch.
    #[arg(long, value_enum)]
    progress: Option<Shown>,
}

/// Runs the script.
pub async fn run(arguments: Arguments) -> Outcome {
    let asked = signals::listen("the running batch")
        .map_err(|error| Error::analysis(format!("Cannot listen for signals: {error}.")))?;
    let progress = Arc::new(Progress::new(arguments.progress));
    let terminal = progress.stdout();
    let session = arguments.script.session(Arc::clone(&terminal))?;
    session.streams().add_listener(Arc::clone(&progress) as _);
    let run = session.run_script(&arguments.script.text()?).await?;
    for answer in &run.answers {
        print(&terminal, answer)?;
    }
    let ended = until_the_end(run.queries, asked).await;
    progress.finish();
    ended
}

/// Waits for all queries. When one fails, or when a signal asks for it, the others end after the batch under way: a
/// half-running pipeline would hide that something is wrong from whoever could start it again.
async fn until_the_end(queries: Vec<StreamingQuery>, mut asked: watch::Receiver<bool>) -> Outcome {
    let mut ends = JoinSet::new();
    for query in &queries {
        let query = query.clone();
        ends.spawn(async move { query.await_termination().await });
    }
    let mut failed: Option<Error> = None;
    let mut is_stopping = false;
    loop {
        tokio::select! {
            end = ends.join_next() => match end {
                None => return failed.map_or(Ok(()), Err),
                Some(end) => {
                    let end = end.unwrap_or_else(|panic| Err(Error::internal(format!("a query panicked: {panic}"))));
                    if let Err(error) = end {
                        queries.iter().for_each(StreamingQuery::stop_after_batch);
                        // The last failure is this process's answer; those before it are told now.
                        if let Some(before) = failed.replace(error) {
                            eprintln!("error: {before}");
                        }
                    }
                }
            },
            Ok(_) = asked.wait_for(|asked| *asked), if !is_stopping => {
                is_stopping = true;
                queries.iter().for_each(StreamingQuery::stop_after_batch);
            }
        }
    }
}

fn print(terminal: &Terminal, answer: &Answer) -> Result<()> {
    let text = match answer {
        Answer::Rows { schema, rows } => console::show(schema, rows)?,
        Answer::Text(text) => format!("{}\n", text.trim_end()),
    };
    let mut terminal = terminal.lock().unwrap_or_else(PoisonError::into_inner);
    let printed = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
    printed.map_err(|error| Error::analysis(format!("Cannot write to stdout: {error}.")))
}
