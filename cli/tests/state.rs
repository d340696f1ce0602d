//! `wavetank state`: what a checkpoint remembers, and the same from a script.

use std::path::Path;
use std::process::Command;

fn wavetank(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wavetank"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

/// Runs a script that counts three rows by key.
fn counted(folder: &Path) {
    std::fs::create_dir(folder.join("in")).expect("a folder");
    std::fs::write(folder.join("in/0.json"), "{\"k\":\"a\"}\n{\"k\":\"b\"}\n{\"k\":\"a\"}\n").expect("a file");
    let script = "CREATE TABLE events (k STRING) USING json OPTIONS (path 'in');
        CREATE STREAMING TABLE counts USING noop
            OPTIONS (outputMode 'update', trigger 'availableNow', checkpointLocation 'checkpoint')
            AS SELECT k, count(*) AS n FROM STREAM events GROUP BY k;";
    std::fs::write(folder.join("count.sql"), script).expect("a file");
    let (ok, text) = wavetank(folder, &["run", "count.sql"]);
    assert!(ok, "{text}");
}

#[test]
fn a_checkpoint_is_shown_as_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    counted(folder.path());
    let (ok, operators) = wavetank(folder.path(), &["state", "checkpoint"]);
    assert!(ok && operators.contains("|operatorId|operatorName  |stateStoreName|"), "{operators}");
    assert!(operators.contains("|0         |stateStoreSave|default       |"), "{operators}");
    let (ok, rows) = wavetank(folder.path(), &["state", "checkpoint", "--operator", "0", "--batch", "0"]);
    assert!(ok && rows.contains("|{a}|{2}  |0           |") && rows.contains("|{b}|{1}  |0           |"), "{rows}");
    let (ok, changes) = wavetank(folder.path(), &["state", "checkpoint", "--operator", "0", "--changes-from", "0"]);
    assert!(ok && changes.contains("|0       |update     |{a}|{2}  |0           |"), "{changes}");
}

#[test]
fn a_script_reads_it_with_create_table() {
    let folder = tempfile::tempdir().expect("a folder");
    counted(folder.path());
    let script = "CREATE TABLE kept USING statestore OPTIONS (path 'checkpoint');
        SELECT key.k, partition_id FROM kept ORDER BY 1;";
    std::fs::write(folder.path().join("look.sql"), script).expect("a file");
    let (ok, text) = wavetank(folder.path(), &["run", "look.sql"]);
    assert!(ok && text.contains("|a  |0           |") && text.contains("|b  |0           |"), "{text}");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    counted(folder.path());
    for (arguments, what) in [
        (&["state", "nowhere"][..], "There is no folder nowhere"),
        (&["state", "in", "--operator", "0"], "[STDS_COMMITTED_BATCH_UNAVAILABLE]"),
        (
            &["state", "checkpoint", "--operator", "7"],
            "there is no operator 7. The checkpoint's operators are: 0 (stateStoreSave)",
        ),
        (&["state", "checkpoint", "--operator", "0", "--batch", "9"], "the last committed batch is 0"),
        (&["state", "checkpoint", "--operator", "0", "--side", "left"], "is not a stream-stream join"),
        (&["state", "checkpoint", "--operator", "0", "--store", "x"], "has no store 'x'. Its stores are: default"),
    ] {
        let (ok, text) = wavetank(folder.path(), arguments);
        assert!(!ok && text.contains(what), "{arguments:?}: {text}");
    }
}
