//! Queries with the answers that real Spark 4.3.0 gave: one test a case (`tests/conformance/FORMAT.md`).
//!
//! Every case runs through the whole engine: its input batches are JSON files read by the file source one a trigger,
//! its result goes to a sink, its restarts are restarts on the same checkpoint. `WAVETANK_CONFORMANCE=DIR` runs the
//! cases of another folder.
//!
//! A case of a kind in [`NOT_YET`] runs, too, but need not agree; what does not is counted and listed at the end, never
//! skipped. A kind whose operator is done leaves the list.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};

mod support;

use support::case::Case;
use support::run::{Layout, Outcome, run_case};

/// Kinds that this version cannot run.
const NOT_YET: [&str; 0] = [];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let folder = std::env::var_os("WAVETANK_CONFORMANCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"), PathBuf::from);
    let cases = Case::read_folder(&folder);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut trials = vec![];
    for case in cases.into_iter().map(Arc::new) {
        let (of_case, of_tally) = (Arc::clone(&case), Arc::clone(&tally));
        trials.push(Trial::test(case.file.clone(), move || test(&of_case, Layout::SINGLE, &of_tally)));
        // Once more, spread over several partitions: enough of each kind to notice, few enough to stay quick.
        let number = case.file.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        if number.is_multiple_of(4) && !NOT_YET.contains(&case.kind.as_str()) {
            let scratch = Mutex::new(Tally::default());
            let spread = move || test(&case, Layout::SPREAD, &scratch);
            trials.push(Trial::test(format!("{}-spread", trials[trials.len() - 1].name()), spread));
        }
    }
    let conclusion = libtest_mimic::run(&args, trials);
    if args.list {
        return conclusion.exit_code();
    }
    let tally = tally.lock().expect("no test panics while counting");
    tally.print();
    let complete = conclusion.num_filtered_out == 0 && std::env::var_os("WAVETANK_CONFORMANCE").is_none();
    if complete && !tally.readme_agrees() {
        eprintln!("README.md says otherwise; WAVETANK_UPDATE=1 cargo test --test conformance writes its table anew");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn test(case: &Case, layout: Layout, tally: &Mutex<Tally>) -> Result<(), Failed> {
    let outcome = run_case(case, layout);
    let mut tally = tally.lock().expect("no test panics while counting");
    match outcome {
        Outcome::Agrees => {
            tally.count(&case.kind, |of_kind| of_kind.agree += 1);
            Ok(())
        }
        Outcome::NotYet(_) | Outcome::Differs(_) if NOT_YET.contains(&case.kind.as_str()) => {
            tally.count(&case.kind, |of_kind| of_kind.not_yet += 1);
            Ok(())
        }
        Outcome::NotYet(why) | Outcome::Differs(why) => {
            tally.count(&case.kind, |of_kind| of_kind.differ += 1);
            Err(why.into())
        }
    }
}

/// Results by kind.
#[derive(Default)]
struct Tally {
    kinds: std::collections::BTreeMap<String, OfKind>,
}

#[derive(Default)]
struct OfKind {
    agree: usize,
    differ: usize,
    not_yet: usize,
}

impl Tally {
    fn count(&mut self, kind: &str, change: impl FnOnce(&mut OfKind)) {
        change(self.kinds.entry(kind.to_owned()).or_default());
    }

    /// The table of what is supported.
    fn table(&self) -> String {
        let mut table = String::from("| kind of query | cases | as in Spark |\n|---|---|---|\n");
        for (kind, of_kind) in &self.kinds {
            let all = of_kind.agree + of_kind.differ + of_kind.not_yet;
            table += &format!("| {kind} | {all} | {} |\n", of_kind.agree);
        }
        table
    }

    /// Whether the README has the table; with `WAVETANK_UPDATE` it is given it.
    fn readme_agrees(&self) -> bool {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = std::fs::read_to_string(&path).expect("a README");
        let (begin, end) = ("<!-- conformance: begin -->\n", "<!-- conformance: end -->");
        let (before, rest) = readme.split_once(begin).expect("the table's beginning");
        let (table, after) = rest.split_once(end).expect("the table's end");
        if std::env::var_os("WAVETANK_UPDATE").is_some() {
            let written = format!("{before}{begin}{}{end}{after}", self.table());
            std::fs::write(&path, written).expect("a writable README");
            return true;
        }
        table == self.table()
    }

    fn print(&self) {
        println!("{:<50} {:>7} {:>7} {:>8}", "kind", "agree", "differ", "not yet");
        for (kind, of_kind) in &self.kinds {
            println!("{kind:<50} {:>7} {:>7} {:>8}", of_kind.agree, of_kind.differ, of_kind.not_yet);
        }
        let sum = |of: fn(&OfKind) -> usize| self.kinds.values().map(of).sum::<usize>();
        println!("{:<50} {:>7} {:>7} {:>8}", "all", sum(|k| k.agree), sum(|k| k.differ), sum(|k| k.not_yet));
    }
}
