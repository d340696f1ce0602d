//! Failures on disk: a scenario to replay, a page to read and a picture each; the scenarios run first the next time.

use std::io;
use std::path::{Path, PathBuf};

use crate::scenario::Scenario;

/// Writes a failure into a folder: `NAME.toml`, `NAME.txt`, `NAME.svg`. Answers the path of the scenario, which is what
/// replays it. The folder is made when it is not there; a failure of the same name is replaced.
pub fn save(folder: &Path, name: &str, scenario: &str, page: &str, picture: &str) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = |ending: &str| file(folder, name, ending);
    for (ending, text) in [("toml", scenario), ("txt", page), ("svg", picture)] {
        std::fs::write(path(ending), text)?;
    }
    Ok(scenario_path(folder, name))
}

/// Where [`save`] writes the scenario of a failure.
pub fn scenario_path(folder: &Path, name: &str) -> PathBuf {
    file(folder, name, "toml")
}

fn file(folder: &Path, name: &str, ending: &str) -> PathBuf {
    folder.join(format!("{name}.{ending}"))
}

/// The scenarios of a folder, in order of name; none when there is no such folder.
///
/// # Errors
/// When the folder or a file cannot be read, or a file `*.toml` is no scenario: the text names it.
pub fn saved(folder: &Path) -> Result<Vec<(PathBuf, Scenario)>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|error| unreadable(folder, &error))?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    paths.into_iter().map(|path| read(&path).map(|scenario| (path, scenario))).collect()
}

/// One saved scenario.
///
/// # Errors
/// When the file cannot be read or is no scenario: the text names it.
pub fn read(path: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Scenario::from_toml(&text).map_err(|error| format!("{} is no scenario: {error}", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("Cannot read {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_again_in_order_of_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("deep/out");
        assert_eq!(saved(&out), Ok(vec![]));
        let scenario = |seed| Scenario { seed, ..Scenario::default() };
        for seed in [2, 1] {
            let path = save(&out, &format!("seed-{seed}"), &scenario(seed).to_toml(), "page", "<svg/>").expect("saved");
            assert_eq!(path, out.join(format!("seed-{seed}.toml")));
        }
        let read = saved(&out).expect("both are scenarios");
        assert_eq!(read.iter().map(|(_, read)| read.clone()).collect::<Vec<_>>(), [scenario(1), scenario(2)]);
        std::fs::write(out.join("odd.toml"), "seed = 'x'").expect("written");
        assert!(saved(&out).unwrap_err().contains("odd.toml"));
    }
}
