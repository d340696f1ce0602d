//! The options of every file source: their names when it is defined, their values when its query starts (as in Spark).

use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use crate::file::FileFormat;
use crate::file::glob::Glob;
use crate::format::options::{CSV_OPTIONS, JSON_OPTIONS, PARQUET_OPTIONS, TEXT_OPTIONS};
use crate::format::time::TimeFormats;

/// Options that every file format has.
const FILE_OPTIONS: &[&str] = &[
    "path",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "latestFirst",
    "fileNameOnly",
    "maxFileAge",
    "cleanSource",
    "sourceArchiveDir",
    "maxCachedFiles",
    "discardCachedInputRatio",
    "pathGlobFilter",
    "recursiveFileLookup",
    "ignoreMissingFiles",
    "modifiedBefore",
    "modifiedAfter",
];

/// What is done with a file that was read (`cleanSource`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CleanSource {
    Off,
    Delete,
    /// Moved under this location.
    Archive(String),
}

/// How much a trigger takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Files(u64),
    Bytes(u64),
}

/// The values that a stream has.
#[derive(Clone, Debug)]
pub(crate) struct StreamOptions {
    pub(crate) limit: Option<Limit>,
    pub(crate) latest_first: bool,
    pub(crate) file_name_only: bool,
    pub(crate) max_file_age_ms: i64,
    pub(crate) clean_source: CleanSource,
    pub(crate) max_cached_files: usize,
    pub(crate) discard_cached_input_ratio: f64,
}

/// Which files of the path are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) name_glob: Option<Glob>,
    pub(crate) is_recursive: bool,
    /// Only files changed after this moment and before that one, in ms since 1970 (batch reads only).
    pub(crate) modified_after_ms: Option<i64>,
    pub(crate) modified_before_ms: Option<i64>,
}

/// Refuses options that the format does not have, with the nearest name that it has.
pub(crate) fn refuse_unknown(format: FileFormat, options: &Options) -> Result<()> {
    let own = match format {
        FileFormat::Json => JSON_OPTIONS,
        FileFormat::Csv => CSV_OPTIONS,
        FileFormat::Text => TEXT_OPTIONS,
        FileFormat::Parquet => PARQUET_OPTIONS,
    };
    let known: Vec<&str> = FILE_OPTIONS.iter().chain(own).copied().collect();
    options.refuse_unknown(&format!("Source {}", format.name()), &known)
}

/// The path, which every file source needs.
pub(crate) fn path(options: &Options) -> Result<&str> {
    options.get("path").ok_or_else(|| {
        Error::analysis("'path' is not specified. Write the folder to read as the option path (or in load(..)).")
    })
}

impl Selection {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let moment_ms = |name: &str| -> Result<Option<i64>> {
            let Some(text) = options.get(name) else { return Ok(None) };
            let micros = TimeFormats::default().timestamp(text).ok_or_else(|| {
                Error::analysis(format!(
                    "The timestamp provided for the '{name}' option is invalid. The expected format is \
                     'YYYY-MM-DDTHH:mm:ss', but the provided timestamp: {text}."
                ))
            })?;
            Ok(Some(micros.div_euclid(1000)))
        };
        Ok(Self {
            name_glob: options.get("pathGlobFilter").map(Glob::new).transpose()?,
            is_recursive: options.boolean("recursiveFileLookup", false)?,
            modified_after_ms: moment_ms("modifiedAfter")?,
            modified_before_ms: moment_ms("modifiedBefore")?,
        })
    }

    /// The selection of a stream, which knows no modification times.
    pub(crate) fn of_stream(options: &Options) -> Result<Self> {
        for name in ["modifiedbefore", "modifiedafter"] {
            if options.get(name).is_some() {
                return Err(Error::analysis(format!(
                    "option '{name}' is not allowed in file stream sources. Leave it out; maxFileAge forgets old files."
                )));
            }
        }
        Self::new(options)
    }
}

impl StreamOptions {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let limit = match (
            options.positive_integer("maxFilesPerTrigger")?,
            options.positive_integer("maxBytesPerTrigger")?,
        ) {
            (Some(_), Some(_)) => {
                return Err(Error::analysis(
                    "Options 'maxFilesPerTrigger' and 'maxBytesPerTrigger' can't be both set at the same time. Write \
                     one of them.",
                ));
            }
            (Some(files), None) => Some(Limit::Files(files)),
            (None, Some(bytes)) => Some(Limit::Bytes(bytes)),
            (None, None) => None,
        };
        let latest_first = options.boolean("latestFirst", false)?;
        let age = options.get("maxFileAge").unwrap_or("7d");
        let max_file_age_ms = duration_ms(age).ok_or_else(|| {
            Error::analysis(format!(
                "Failed to parse time string: {age}. Time must be specified as seconds (s), milliseconds (ms), minutes \
                 (m or min), hours (h) or days (d), for example 7d, in the option 'maxFileAge'."
            ))
        })?;
        Ok(Self {
            // The newest files first, a few at a time: age would forget the rest before it is read.
            max_file_age_ms: if latest_first && limit.is_some() { i64::MAX } else { max_file_age_ms },
            limit,
            latest_first,
            file_name_only: options.boolean("fileNameOnly", false)?,
            clean_source: clean_source(options)?,
            max_cached_files: max_cached_files(options)?,
            discard_cached_input_ratio: discard_ratio(options)?,
        })
    }
}

fn clean_source(options: &Options) -> Result<CleanSource> {
    match options.get("cleanSource").map(str::to_lowercase).as_deref() {
        None | Some("off") => Ok(CleanSource::Off),
        Some("delete") => Ok(CleanSource::Delete),
        Some("archive") => match options.get("sourceArchiveDir") {
            Some(location) => Ok(CleanSource::Archive(location.to_string())),
            None => Err(Error::analysis("Archive mode must be used with 'sourceArchiveDir' option.")),
        },
        Some(other) => Err(Error::analysis(format!(
            "Invalid mode for clean source option {other}. Must be one of archive, delete, off."
        ))),
    }
}

fn max_cached_files(options: &Options) -> Result<usize> {
    let Some(text) = options.get("maxCachedFiles") else { return Ok(10_000) };
    text.trim().parse().map_err(|_| {
        Error::analysis(format!(
            "Invalid value '{text}' for option 'maxCachedFiles', must be an integer greater than or equal to 0"
        ))
    })
}

fn discard_ratio(options: &Options) -> Result<f64> {
    let Some(text) = options.get("discardCachedInputRatio") else { return Ok(0.2) };
    let ratio = text.trim().parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| {
        Error::analysis(format!(
            "Invalid value '{text}' for option 'discardCachedInputRatio', must be a positive double value between 0 and 1"
        ))
    })
}

/// A duration as `JavaUtils.timeStringAsMs` reads it: a number without a unit is milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let text = text.trim().to_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count = text[..split].parse::<i64>().ok()?;
    match &text[split..] {
        "us" => Some(count / 1000),
        "" | "ms" => Some(count),
        "s" => count.checked_mul(1000),
        "m" | "min" => count.checked_mul(60_000),
        "h" => count.checked_mul(3_600_000),
        "d" => count.checked_mul(86_400_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pairs: &[(&str, &str)]) -> String {
        let options: Options = pairs.iter().copied().collect();
        let values = StreamOptions::new(&options).map(|_| ()).and(Selection::of_stream(&options).map(|_| ()));
        values.unwrap_err().to_string()
    }

    #[test]
    fn values_are_refused_with_spark_s_words() {
        for (pairs, text) in [
            (
                vec![("maxFilesPerTrigger", "0")],
                "Invalid value '0' for option 'maxFilesPerTrigger', must be a positive",
            ),
            (vec![("maxFilesPerTrigger", "1"), ("maxBytesPerTrigger", "1")], "can't be both set"),
            (vec![("cleanSource", "archive")], "Archive mode must be used with 'sourceArchiveDir' option."),
            (vec![("cleanSource", "x")], "Must be one of archive, delete, off"),
            (vec![("maxFileAge", "soon")], "Failed to parse time string: soon"),
            (vec![("maxCachedFiles", "-1")], "'maxCachedFiles'"),
            (vec![("discardCachedInputRatio", "1.1")], "'discardCachedInputRatio'"),
            (vec![("latestFirst", "yes")], "yes"),
            (vec![("modifiedAfter", "2024-01-01")], "option 'modifiedafter' is not allowed in file stream sources"),
        ] {
            let error = error(&pairs);
            assert!(error.contains(text), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn names_are_refused_with_the_nearest_right_one() {
        let options = Options::new().with("path", "x").with("maxFilePerTrigger", "1");
        let error = refuse_unknown(FileFormat::Json, &options).unwrap_err().to_string();
        assert!(error.contains("Did you mean 'maxFilesPerTrigger'?"), "{error}");
        let options = Options::new().with("path", "x").with("header", "true");
        assert!(refuse_unknown(FileFormat::Json, &options).is_err());
        refuse_unknown(FileFormat::Csv, &options).unwrap();
    }

    #[test]
    fn ages_in_all_units() {
        for (text, ms) in [("7d", 604_800_000), ("10", 10), ("2min", 120_000), ("3h", 10_800_000), ("1500us", 1)] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        let options = Options::new().with("latestFirst", "true").with("maxFilesPerTrigger", "1");
        assert_eq!(StreamOptions::new(&options).unwrap().max_file_age_ms, i64::MAX);
    }
}
