//! What users see when something is wrong: every `scripts/NAME.sql` is run by the real program and compared with
//! `scripts/NAME.out`.
//!
//! A line `-- run again` splits a script into runs of the program in one folder; `-- damage WHAT PATH` before a run
//! harms a file (`truncate`: its second half is gone; `flip`: one bit in its middle; `delete`). The folder begins with
//! the files of [`FILES`]. `WAVETANK_ACCEPT=1` writes the `.out` files; what changed is read in review.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

mod place;

use place::Place;

/// What scripts find in their folder.
const FILES: [(&str, &str); 4] = [
    ("people/1.json", "{\"name\": \"Ada\", \"age\": 36}\n{\"name\": \"Grace\", \"age\": 85}\n"),
    ("half/1.json", "{\"name\": \"Ada\", \"age\": 36}\n{\"name\": \"Gra"),
    ("wrong/1.json", "{\"name\": \"Ada\", \"age\": \"old\"}\n{\"name\": \"Grace\", \"age\": 85}\n"),
    ("empty/.keep", ""),
];

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the scripts")
        .map(|entry| entry.expect("read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let trial = |path: PathBuf| {
        Trial::test(path.file_stem().expect("a name").to_string_lossy().into_owned(), move || check(&path))
    };
    libtest_mimic::run(&Arguments::from_args(), scripts.into_iter().map(trial).collect()).exit_code()
}

fn check(script: &Path) -> Result<(), Failed> {
    let said = run(&fs::read_to_string(script)?)?;
    let expected = script.with_extension("out");
    if std::env::var_os("WAVETANK_ACCEPT").is_some() {
        return Ok(fs::write(expected, said)?);
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    if said == wanted {
        return Ok(());
    }
    Err(format!("it says\n{said}\nand should say\n{wanted}\n(WAVETANK_ACCEPT=1 accepts what it says)").into())
}

fn run(text: &str) -> Result<String, Failed> {
    let place = Place::empty();
    for (path, content) in FILES {
        let path = place.path(path);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, content)?;
    }
    let mut said = String::new();
    for part in text.split("-- run again\n") {
        for order in part.lines().filter_map(|line| line.strip_prefix("-- damage ")) {
            damage(&place, order)?;
        }
        fs::write(place.path("script.sql"), part)?;
        let output = place.wavetank(&["run", "script.sql", "--progress", "none"]).output()?;
        let code = output.status.code().map_or("a signal".into(), |code| code.to_string());
        said.push_str(&String::from_utf8(output.stdout)?);
        said.push_str(&String::from_utf8(output.stderr)?);
        said.push_str(&format!("exit {code}\n"));
    }
    Ok(without_chance(&place, &said))
}

fn damage(place: &Place, order: &str) -> Result<(), Failed> {
    let (what, path) = order.split_once(' ').ok_or("-- damage WHAT PATH")?;
    let path = place.path(path);
    let mut bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let middle = bytes.len() / 2;
    match what {
        "truncate" => bytes.truncate(middle),
        "flip" => bytes[middle] ^= 1,
        "delete" => return Ok(fs::remove_file(path)?),
        _ => return Err(format!("no damage is called {what}").into()),
    }
    Ok(fs::write(path, bytes)?)
}

/// The output without what differs from run to run: the folder, ids, and columns of lines in which the folder stands.
fn without_chance(place: &Place, said: &str) -> String {
    let folder = place.path("").canonicalize().unwrap_or_default();
    let said = said.replace(folder.to_string_lossy().trim_end_matches('/'), "DIR");
    let mut text = String::new();
    for word in said.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-') {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_hexdigit() && c != '-');
        match is_uuid(end) {
            true => text.extend(["ID", &word[end.len()..]]),
            false => text.push_str(word),
        }
    }
    let mut parts = text.split(" at line 1 column ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + " at line 1 column N" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

fn is_uuid(word: &str) -> bool {
    word.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}
