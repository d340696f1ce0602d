//! Which format the files of a drawn scenario have: what is read (JSON, Parquet, text), and what is written (CSV too).
//!
//! Rows are drawn as JSON whatever becomes of them (`content.rs` writes Parquet). Text has one column, so its scenarios are
//! drawn here as a whole: lines that are empty, blank, quoted, or look like something else. Absent: files that change
//! (`changing.rs`).

use rand::Rng;
use rand::seq::IndexedRandom;
use wavetank_engine::environment::Entropy;

use super::places::Places;
use super::{is_folder, settings};
use crate::scenario::{Keep, Scenario, Step, View};
use crate::shapes::Shape;

/// What lines of text are made of: no line says of itself which file it is from.
const LINES: [&str; 11] = ["", "a", "a", "b", "b a", " a ", "a,b", "\"x\"", "0", "é", "#"];

/// The format of the files that are read.
pub(super) fn source(entropy: &Entropy) -> &'static str {
    if entropy.fork("source formats").stream().random_ratio(1, 3) { "parquet" } else { "json" }
}

/// The format of the files that are written, where it could be JSON: CSV for a third of the results that fit into fields.
pub(super) fn folder(entropy: &Entropy, shape: &Shape, sink: &'static str) -> &'static str {
    let is_flat = !["window", "collect_list"].iter().any(|nested| shape.query.contains(nested));
    let csv = sink == "json" && is_flat && entropy.fork("sink formats").stream().random_ratio(1, 3);
    if csv { "csv" } else { sink }
}

/// The scenario of one seed of forty: a folder of text.
pub(super) fn text(seed: u64) -> Option<Scenario> {
    let entropy = Entropy::from_seed(seed).fork("text");
    let mut random = entropy.stream();
    if !random.random_ratio(1, 40) {
        return None;
    }
    let Places { checkpoint, input, output } = Places::drawn(entropy);
    let whole = random.random_ratio(1, 4);
    let (query, modes) = *[
        ("SELECT value FROM STREAM events WHERE value <> 'b'", "append"),
        ("SELECT value FROM STREAM once", "append"),
        ("SELECT value, length(value) AS n, upper(value) AS u FROM STREAM events", "append"),
        ("SELECT value, count(*) AS n FROM STREAM events GROUP BY value", "update"),
        ("SELECT value, count(*) AS n FROM STREAM events GROUP BY value", "complete"),
    ]
    .choose(&mut random)
    .expect("five");
    let one_column = query.starts_with("SELECT value FROM");
    let sinks: &[&str] = match modes {
        // The lines of a whole file cannot be told apart in files of lines.
        "append" if whole => &["witness", "json", "parquet"],
        "append" if one_column => &["witness", "json", "parquet", "csv", "text", "text"],
        "append" => &["witness", "json", "parquet", "csv"],
        "complete" => &["witness", "memory", "console"],
        _ => &["witness", "foreach", "foreachBatch", "console"],
    };
    let sink = *sinks.choose(&mut random).expect("several");
    let path = if is_folder(sink) { format!("path '{output}', ") } else { String::new() };
    let whole = if whole { ", wholetext 'true'" } else { "" };
    let script = format!(
        "CREATE TABLE events (value STRING)\n  USING text OPTIONS (path '{input}', maxFilesPerTrigger '1'{whole});\nCREATE \
         STREAMING TABLE out USING {sink}\n  OPTIONS ({path}outputMode '{modes}', checkpointLocation '{checkpoint}')\n  AS \
         {query};\n"
    );
    let once = View {
        name: "once".to_owned(),
        from: "events".to_owned(),
        keep: Keep::DropDuplicates,
        columns: vec!["value".to_owned()],
    };
    let mut steps = Vec::new();
    for file in 0..random.random_range(1..7) {
        // An empty file has no line; whether it is a value as a whole is not for this page.
        let lines = (0..random.random_range(usize::from(!whole.is_empty())..5)).map(|_| LINES.choose(&mut random));
        let rows = lines.map(|line| (*line.expect("eleven")).to_owned()).collect();
        steps.push(Step::Drop { file: format!("{input}/{file:03}.txt"), rows, torn: false });
        match random.random_range(0..4) {
            0 => {}
            1 => steps.extend([Step::Settle, Step::Restart]),
            _ => steps.push(Step::Settle),
        }
    }
    steps.push(Step::Settle);
    Some(Scenario {
        about: format!("drawn from seed {seed}"),
        seed,
        script,
        settings: settings(&mut entropy.fork("settings").stream()),
        views: if query.ends_with("once") { vec![once] } else { Vec::new() },
        steps,
        ..Scenario::default()
    })
}
