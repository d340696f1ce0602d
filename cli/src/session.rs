//! What every subcommand begins with: the script's text, and a session of this machine with the settings of the
//! command line.

use std::path::{Path, PathBuf};

use clap::Args;
use wavetank::sinks::{ConsoleProvider, Terminal};
use wavetank::{Environment, Error, Result, Session};

/// Which script, and under which settings.
#[derive(Debug, Args)]
pub struct Script {
    /// The pipeline: a file of Spark SQL statements. Relative paths in it start at the working directory.
    file: PathBuf,
    /// Sets a configuration key before the script is run; may be repeated. SET in the script wins.
    #[arg(long = "conf", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
}

impl Script {
    /// The script's text.
    pub fn text(&self) -> Result<String> {
        std::fs::read_to_string(&self.file).map_err(|error| cannot_read(&self.file, &error))
    }

    /// A session whose console is `terminal`.
    pub fn session(&self, terminal: Terminal) -> Result<Session> {
        let here = std::env::current_dir().map_err(|error| cannot_read(Path::new("."), &error))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut builder = wavetank::session_builder(Environment::real(here))
            .parallelism(cores)
            .sinks([std::sync::Arc::new(ConsoleProvider::new(terminal)) as _]);
        for (key, value) in &self.settings {
            builder = builder.conf(key, value)?;
        }
        builder.build()
    }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Error {
    Error::analysis(format!("Cannot read {}: {error}. Name a file of SQL statements.", path.display()))
}

fn key_and_value(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
