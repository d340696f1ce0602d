//! A folder of its own, in which the real program is run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The folder.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// An empty one.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for temporary files") }
    }

    /// A path in it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The program, in this folder, with its output captured.
    pub fn wavetank(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavetank"));
        command.args(arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}
