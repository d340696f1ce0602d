//! Options of a source, sink or query: Spark's case-insensitive name -> text map, with typed reads and spelling help.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Options by lower-cased name, each with the spelling the user chose. A later value for a name replaces the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    entries: BTreeMap<String, (String, String)>,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option; names are case-insensitive, the last value wins.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.entries.insert(name.to_lowercase(), (name, value.into()));
    }

    /// [`Options::set`] as a builder.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// The text of an option, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(&name.to_lowercase()).map(|(_, value)| value.as_str())
    }

    /// Removes an option and gives its text.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.entries.remove(&name.to_lowercase()).map(|(_, value)| value)
    }

    /// Names (as the user spelled them) and values, ordered by lower-cased name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.values().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// An option that is a positive integer, as Spark checks it.
    pub fn positive_integer(&self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.trim().parse::<u64>() {
            Ok(value) if value > 0 => Ok(Some(value)),
            _ => {
                Err(Error::analysis(format!("Invalid value '{text}' for option '{name}', must be a positive integer")))
            }
        }
    }

    /// An option that is `true` or `false`, in any case.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name).map(|text| text.trim().to_lowercase()) {
            None => Ok(default),
            Some(text) if text == "true" => Ok(true),
            Some(text) if text == "false" => Ok(false),
            Some(text) => Err(Error::analysis(format!(
                "{text} is not a boolean string. Write true or false for option '{name}'."
            ))),
        }
    }

    /// Refuses an option whose name is not among `known`, and names the nearest one that is.
    pub fn refuse_unknown(&self, what: &str, known: &[&str]) -> Result<()> {
        for (name, _) in self.entries.values() {
            if !known.iter().any(|k| k.eq_ignore_ascii_case(name)) {
                return Err(Error::analysis(format!(
                    "{what} has no option '{name}'.{} Its options are: {}.",
                    did_you_mean(name, known.iter().copied()),
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut options = Self::new();
        for (name, value) in pairs {
            options.set(name, value);
        }
        options
    }
}

/// ` Did you mean 'x'?` for the nearest candidate, or nothing when none is near.
pub fn did_you_mean<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let given = given.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&given, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3))
        .map(|(_, candidate)| format!(" Did you mean '{candidate}'?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_and_the_last_value_wins() {
        let options = Options::new().with("maxFilesPerTrigger", "1").with("MAXFILESPERTRIGGER", "2");
        assert_eq!(options.get("maxfilespertrigger"), Some("2"));
        assert_eq!(options.iter().count(), 1);
    }

    #[test]
    fn unknown_options_name_the_nearest_right_one() {
        let error =
            Options::new().with("maxFilePerTrigger", "1").refuse_unknown("json", &["path", "maxFilesPerTrigger"]);
        assert!(error.unwrap_err().to_string().contains("Did you mean 'maxFilesPerTrigger'?"));
    }

    #[test]
    fn positive_integers_are_checked_as_spark_does() {
        let error = Options::new().with("maxFilesPerTrigger", "0").positive_integer("maxFilesPerTrigger").unwrap_err();
        assert_eq!(error.to_string(), "Invalid value '0' for option 'maxFilesPerTrigger', must be a positive integer");
    }
}
