//! A run written down: pipeline, rows and their arrival, batch cuts, restarts, faults. TOML that a person can read.
//!
//! ```toml
//! seed = 7
//! script = "CREATE TABLE events (ts TIMESTAMP, k STRING) USING tape; ..."
//!
//! [[step]]                       # what the world outside does, in order
//! do = "add"                     # rows for a tape (tape.rs); `drop` is the same for a folder of files, on the disk
//!                                # or in the object store (`blob://bucket/in/a.json`)
//! tape = "events"
//! rows = ['{"ts":"2024-01-01T00:00:01Z","k":"a"}']
//!
//! [[step]]
//! do = "settle"                  # until the query has taken all there is
//!
//! [[fault]]                      # bound to the name of an effect, in a life of the process
//! life = 0
//! at = "commits/0.tmp fsync"
//! harm = "crash-before"
//! image = "strict"
//! ```
//! The random driver, the exhaustive driver and a person write scenarios, the runner (runner.rs) reads them, and the
//! shrinker (shrink.rs) makes them smaller. Nothing in a run depends on anything else.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::groups::{GroupJob, Timing};
use crate::plant::Plant;

/// The whole input of one simulated run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What this run is about, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Ids, temporary choices, and what crash images leave open are drawn from this.
    pub seed: u64,
    /// The pipeline, in Spark's SQL.
    pub script: String,
    /// Settings (`SET key = value`) of lives, by their number; a life without an entry has those of the one before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "by_life")]
    pub settings: BTreeMap<u32, BTreeMap<String, String>>,
    /// Views that SQL cannot say: made after the script's own views, before its streaming tables.
    #[serde(default, rename = "view", skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
    /// Bugs that the engine has in this run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plants: Vec<Plant>,
    /// What the world outside does.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What goes wrong.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// A view over a streaming relation that SQL cannot say: it keeps the first row of each key, or calls a user function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The relation below.
    pub from: String,
    /// What is kept of a key.
    pub keep: Keep,
    /// The columns of the key; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

impl View {
    /// Whether it calls a user function.
    pub fn calls_a_function(&self) -> bool {
        matches!(self.keep, Keep::Groups(_))
    }
}

/// The two deduplications, and user functions over groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// `dropDuplicates`.
    DropDuplicates,
    /// `dropDuplicatesWithinWatermark`.
    DropDuplicatesWithinWatermark,
    /// What this function keeps.
    #[serde(untagged)]
    Groups(GroupJob),
}

/// One thing that the world outside does to the process, or for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Rows (JSON objects) arrive on a tape, as one block.
    Add {
        /// The tape's name.
        tape: String,
        /// One JSON object per row.
        rows: Vec<String>,
    },
    /// A file appears, whole and durable, as if moved into place; one that is there is replaced.
    Drop {
        /// Its path, relative to the world's home.
        file: String,
        /// Its lines; each is ended by a line feed, the last one too unless `torn`.
        rows: Vec<String>,
        /// Whether the last line feed is missing: a file that is still being written.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        torn: bool,
    },
    /// A file goes away.
    Remove {
        /// Its path, relative to the world's home.
        file: String,
    },
    /// What `drop` does, some time later, while the query goes on.
    DropLater {
        /// How much later, in milliseconds.
        ms: u64,
        /// As for `drop`.
        file: String,
        /// As for `drop`.
        rows: Vec<String>,
        /// As for `drop`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        torn: bool,
    },
    /// What `remove` does, some time later, while the query goes on.
    RemoveLater {
        /// How much later, in milliseconds.
        ms: u64,
        /// As for `remove`.
        file: String,
    },
    /// A file is dated otherwise, as by a copy that keeps times.
    Touch {
        /// Its path, relative to the world's home.
        file: String,
        /// When it was changed, in milliseconds since the world began; negative is before.
        modified_ms: i64,
    },
    /// The query takes all there is.
    Settle,
    /// Virtual time passes while the query runs.
    Wait {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The query is stopped gracefully and started again, as the next life.
    Restart,
    /// What `restart` does, with another script from then on: the query was changed (`spec/08`).
    Redeploy {
        /// The pipeline, as `script` of the scenario.
        script: String,
    },
}

impl Scenario {
    /// Reads a scenario file. The error says what is wrong with it and where.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The scenario as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# this scenario cannot be written: {error}\n"))
    }

    /// The same run without anything going wrong.
    pub fn undisturbed(&self) -> Self {
        Self { faults: Vec::new(), ..self.clone() }
    }

    /// The same run with these faults and no others.
    pub fn with_faults(&self, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { faults: faults.into_iter().collect(), ..self.clone() }
    }

    /// Whether the same batches, run at another time or after another start, give the same: not where a function reads the
    /// clock, and not over a source that gives a batch to each start.
    pub fn is_repeatable(&self) -> bool {
        let is_clocked = |view: &View| matches!(view.keep, Keep::Groups(job) if job.timing() == Timing::Clock);
        !self.views.iter().any(is_clocked) && !self.script.contains("rate-micro-batch")
    }

    /// The script of a life that begins when so many steps are done.
    pub fn script_at(&self, steps_done: usize) -> &str {
        let deployed = self.steps.iter().take(steps_done).rev().find_map(|step| match step {
            Step::Redeploy { script } => Some(script),
            _ => None,
        });
        deployed.unwrap_or(&self.script)
    }

    /// How many rows arrive.
    pub fn rows_count(&self) -> usize {
        self.steps.iter().map(|step| step.rows().map_or(0, <[String]>::len)).sum()
    }
}

impl Step {
    /// Whether the query is stopped and started again.
    pub fn restarts(&self) -> bool {
        matches!(self, Self::Restart | Self::Redeploy { .. })
    }

    /// The rows that arrive with this step.
    pub fn rows(&self) -> Option<&[String]> {
        match self {
            Self::Add { rows, .. } | Self::Drop { rows, .. } | Self::DropLater { rows, .. } => Some(rows),
            _ => None,
        }
    }

    /// The rows that arrive with this step, to change them.
    pub fn rows_mut(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::Add { rows, .. } | Self::Drop { rows, .. } | Self::DropLater { rows, .. } => Some(rows),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { tape, rows } => write!(f, "{} rows on tape {tape}", rows.len()),
            Self::Drop { file, rows, torn: false } => write!(f, "file {file} with {} lines", rows.len()),
            Self::Drop { file, rows, torn: true } => write!(f, "file {file}, half written, {} lines", rows.len()),
            Self::Remove { file } => write!(f, "file {file} is removed"),
            Self::DropLater { ms, file, rows, .. } => write!(f, "file {file} with {} lines, {ms} ms later", rows.len()),
            Self::RemoveLater { ms, file } => write!(f, "file {file} is removed, {ms} ms later"),
            Self::Touch { file, modified_ms } => write!(f, "file {file} is dated {modified_ms} ms"),
            Self::Settle => f.write_str("the query takes all there is"),
            Self::Wait { ms } => write!(f, "{ms} ms pass"),
            Self::Restart => f.write_str("stop and start again"),
            Self::Redeploy { .. } => f.write_str("stop and start again, as another query"),
        }
    }
}

/// TOML has text keys only.
mod by_life {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Settings = BTreeMap<String, String>;

    pub fn serialize<S: Serializer>(settings: &BTreeMap<u32, Settings>, serializer: S) -> Result<S::Ok, S::Error> {
        settings.iter().map(|(life, set)| (life.to_string(), set)).collect::<BTreeMap<_, _>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, Settings>, D::Error> {
        let by_text = BTreeMap::<String, Settings>::deserialize(deserializer)?;
        let numbered = by_text.into_iter().map(|(life, set)| {
            let number =
                life.parse().map_err(|_| D::Error::custom(format!("settings.{life}: not the number of a life")));
            number.map(|number| (number, set))
        });
        numbered.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::CrashImage;
    use crate::fault::Harm;

    fn example() -> Scenario {
        Scenario {
            about: "a torn file".into(),
            seed: u64::MAX >> 1,
            script: "CREATE TABLE t\n USING json".into(),
            views: vec![View {
                name: "once".into(),
                from: "t".into(),
                keep: Keep::DropDuplicatesWithinWatermark,
                columns: vec!["a".into()],
            }],
            plants: vec!["late checkpoint/offsets/N link".parse().unwrap()],
            settings: BTreeMap::from([(1, BTreeMap::from([("spark.sql.shuffle.partitions".into(), "3".into())]))]),
            steps: vec![
                Step::Add { tape: "t".into(), rows: vec![r#"{"a":"it's"}"#.into()] },
                Step::Drop { file: "in/a.json".into(), rows: vec!["{".into()], torn: true },
                Step::Remove { file: "in/a.json".into() },
                Step::DropLater { ms: 7, file: "in/b.json".into(), rows: vec!["{}".into()], torn: false },
                Step::RemoveLater { ms: 8, file: "in/b.json".into() },
                Step::Touch { file: "in/b.json".into(), modified_ms: -9 },
                Step::Settle,
                Step::Wait { ms: 10 },
                Step::Restart,
                Step::Redeploy { script: "CREATE TABLE t\n USING csv".into() },
            ],
            faults: vec![
                Fault { life: 0, at: "a write".into(), harm: Harm::CrashAfter { image: CrashImage::Prefix(Some(2)) } },
                Fault { life: 2, at: "b fsync#2".into(), harm: Harm::Slow { us: 5 } },
            ],
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = example().to_toml();
        assert_eq!(Scenario::from_toml(&text).unwrap(), example(), "{text}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, said) in [
            ("seed = 1\nscript = ''\nfaults = []", "unknown field `faults`"),
            ("seed = 1\nscript = ''\n[[step]]\ndo = 'sleep'", "unknown variant `sleep`"),
            ("seed = 1\nscript = ''\n[[fault]]\nat = 'x'\nharm = 'crash-after'\nimage = 'mild'", "no crash image"),
        ] {
            let error = Scenario::from_toml(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
