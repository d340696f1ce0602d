//! Planted bugs: an engine with a bug is had without changing the engine, by lying to it at the seam.
//!
//! | plant | the bug that it stands for |
//! |---|---|
//! | `no-sync KIND` | a missing fsync: the call answers and syncs nothing |
//! | `late KIND` | a missing await: the effect is done after the next effect that changes anything, if it comes to that |
//! | `hold KIND until KIND` | two steps in the wrong order: the effect is done, and durable, after the next of the other kind |
//! | `skip KIND` | a forgotten step: the effect answers and is never done |
//! | `replace KIND` | "already there" taken for success: what is there is replaced |
//! | `rewrite KIND /FROM/TO/` | a wrong value in an entry: in what is written, FROM becomes TO (`#` in FROM is a number) |
//! | `stale KIND` | a cached read: the first answer is given again |
//! | `twice KIND` | a step done again: the effect is done two times |
//! | `engine NAME` | a place in the engine's code that goes wrong (`bugs.rs`) |
//!
//! KIND is a kind of effect name, `checkpoint/commits/N link` ([`kind_of`](crate::effects::kind_of)). Plants belong to
//! the scenario, so what they break replays and shrinks like any other failure. They live in the simulator; only
//! `engine NAME` needs a build of the engine with the feature `planted-bugs`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A bug, planted at a kind of effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Plant {
    /// The kind of the effect's name.
    pub kind: String,
    /// What is wrong with it.
    pub bug: Bug,
}

/// What is wrong with an effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// See the table of the module.
    NoSync,
    /// See the table of the module.
    Late,
    /// See the table of the module.
    Hold {
        /// The kind of the effect after which it is done.
        until: String,
    },
    /// See the table of the module.
    Skip,
    /// See the table of the module.
    Replace,
    /// See the table of the module.
    Rewrite {
        /// What to look for; `#` stands for an integer.
        from: String,
        /// What to put in its place.
        to: String,
    },
    /// See the table of the module.
    Stale,
    /// See the table of the module.
    Twice,
    /// See the table of the module; the plant's kind is the name.
    Engine,
}

/// A bug planted in the engine's code, in this thread, until it is dropped.
pub(crate) struct EnginePlant;

impl EnginePlant {
    /// Plants the engine's bug among these.
    ///
    /// # Panics
    /// If it is unknown, or if this build of the engine has no places for bugs: the run would pass for the wrong reason.
    pub(crate) fn of(plants: &[Plant]) -> Self {
        let wanted = plants.iter().find(|plant| plant.bug == Bug::Engine).map_or("", |plant| plant.kind.as_str());
        let known = crate::bugs::BUGS.iter().find(|bug| bug.engine_name() == Some(wanted));
        let name = known.and_then(|bug| bug.engine_name()).unwrap_or("");
        assert_eq!(name, wanted, "the engine has no place for such a bug");
        assert!(
            wavetank_engine::planted::plant(name),
            "'{name}' needs an engine with the feature planted-bugs: cargo test -p wavetank-sim builds one"
        );
        Self
    }
}

impl Drop for EnginePlant {
    fn drop(&mut self) {
        wavetank_engine::planted::plant("");
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.kind;
        match &self.bug {
            Bug::NoSync => write!(f, "no-sync {kind}"),
            Bug::Late => write!(f, "late {kind}"),
            Bug::Hold { until } => write!(f, "hold {kind} until {until}"),
            Bug::Skip => write!(f, "skip {kind}"),
            Bug::Replace => write!(f, "replace {kind}"),
            Bug::Rewrite { from, to } => write!(f, "rewrite {kind} /{from}/{to}/"),
            Bug::Stale => write!(f, "stale {kind}"),
            Bug::Twice => write!(f, "twice {kind}"),
            Bug::Engine => write!(f, "engine {kind}"),
        }
    }
}

impl From<Plant> for String {
    fn from(plant: Plant) -> Self {
        plant.to_string()
    }
}

impl TryFrom<String> for Plant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let odd = || format!("'{text}' is no planted bug; write for example: no-sync checkpoint/commits fsync-dir");
        let (word, rest) = text.split_once(' ').ok_or_else(odd)?;
        let mut kind = rest.to_owned();
        let bug = match word {
            "no-sync" => Bug::NoSync,
            "late" => Bug::Late,
            "hold" => {
                let (before, until) = rest.split_once(" until ").ok_or_else(odd)?;
                kind = before.to_owned();
                Bug::Hold { until: until.to_owned() }
            }
            "skip" => Bug::Skip,
            "replace" => Bug::Replace,
            "stale" => Bug::Stale,
            "twice" => Bug::Twice,
            "engine" => Bug::Engine,
            "rewrite" => {
                let (before, rule) = rest.split_once(" /").ok_or_else(odd)?;
                let (from, to) = rule.strip_suffix('/').and_then(|rule| rule.split_once('/')).ok_or_else(odd)?;
                kind = before.to_owned();
                Bug::Rewrite { from: from.to_owned(), to: to.to_owned() }
            }
            _ => return Err(odd()),
        };
        Ok(Self { kind, bug })
    }
}

/// `text` with every `from` replaced; `#` in `from` stands for an integer.
pub fn rewritten(text: &str, from: &str, to: &str) -> String {
    let Some((before, after)) = from.split_once('#') else { return text.replace(from, to) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let number = &rest[at + before.len()..];
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(number.len());
        if end > 0 && number[end..].starts_with(after) {
            out.push_str(&rest[..at]);
            out.push_str(to);
            rest = &number[end + after.len()..];
        } else {
            out.push_str(&rest[..at + before.len()]);
            rest = number;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plants_have_names_that_read_back() {
        for text in [
            "no-sync checkpoint/commits fsync-dir",
            "late checkpoint/offsets/N link",
            "hold checkpoint/offsets/N link until checkpoint/commits/N link",
            r#"rewrite checkpoint/commits/N.tmp write /"nextBatchWatermarkMs":#/"nextBatchWatermarkMs":0/"#,
            "twice witness/out/N commit",
            "engine watermark-goes-back",
        ] {
            assert_eq!(text.parse::<Plant>().unwrap().to_string(), text);
        }
        assert!("drop everything".parse::<Plant>().unwrap_err().contains("no planted bug"));
    }

    #[test]
    fn numbers_are_rewritten_where_they_stand() {
        assert_eq!(rewritten(r#"{"a":-12,"b":"x","a":y}"#, r#""a":#,"#, r#""a":0,"#), r#"{"a":0,"b":"x","a":y}"#);
        assert_eq!(rewritten("abab", "b", "c"), "acac");
    }
}
