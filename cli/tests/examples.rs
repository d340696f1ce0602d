//! Every `examples/NAME.sql` is run by the real program, in a folder of its own, and says what `examples/NAME.out` (here,
//! in `cli/tests`) says. `WAVETANK_ACCEPT=1` writes these files; what changed is read in review.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use libtest_mimic::{Arguments, Failed, Trial};

mod place;

use place::Place;

fn main() -> ExitCode {
    let mut scripts: Vec<PathBuf> = entries(&examples());
    scripts.retain(|path| path.extension().is_some_and(|ending| ending == "sql"));
    assert!(scripts.len() >= 5, "{scripts:?}");
    let trial = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        Trial::test(name.clone(), move || check(&name))
    };
    libtest_mimic::run(&Arguments::from_args(), scripts.into_iter().map(trial).collect()).exit_code()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("examples")
}

/// In the order of their names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Copies a folder; files are a little younger than the ones before them, as in a fresh clone.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for (age, path) in entries(from).into_iter().enumerate() {
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target)?;
            continue;
        }
        fs::copy(&path, &target)?;
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + age as u64);
        fs::File::options().write(true).open(target)?.set_modified(changed)?;
    }
    Ok(())
}

fn check(name: &str) -> Result<(), Failed> {
    let place = Place::empty();
    copy(&examples(), &place.path("examples"))?;
    let output = place.wavetank(&["run", &format!("examples/{name}.sql"), "--progress", "none"]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let said = String::from_utf8(output.stdout)?;
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples").join(name).with_extension("out");
    if std::env::var_os("WAVETANK_ACCEPT").is_some() {
        return Ok(fs::write(expected, said)?);
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    if said == wanted {
        return Ok(());
    }
    Err(format!("it says\n{said}\nand should say\n{wanted}\n(WAVETANK_ACCEPT=1 accepts what it says)").into())
}
