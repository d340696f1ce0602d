//! A script of the user's, moved into the simulated world; what it does not say itself is looked up in the real one.

use std::path::Path;

use tokio::runtime::Handle;
use wavetank::sim::user::{Known, UserScript};
use wavetank::{Error, Result};

/// The queries of a script file, each for a world of its own.
pub fn moved(file: &Path) -> Result<Vec<UserScript>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::analysis(format!("Cannot read {}: {error}. Name a pipeline.", file.display())))?;
    let session = wavetank::session()?;
    let known = Handle::current().block_on(Known::of(&text, &session))?;
    UserScript::all(&text, &known)
}
