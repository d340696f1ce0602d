//! The text of a log file: a version line, then lines of JSON; and the errors for text that is not that.
//!
//! Strict where Spark is lenient: an unknown or missing name, a space where Spark writes none, a number that should be
//! a text are signs of damage, and an error now is better than another meaning.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What all log files begin with.
pub(super) const V1: &str = "v1";

/// What every error about a damaged log ends with.
const ADVICE: &str = "Restore the file from a backup, or start over with a new checkpointLocation (and, for a file \
                      sink, a new output folder).";

/// The lines after the version line.
pub(super) fn lines<'a>(bytes: &'a [u8], path: &str) -> Result<Vec<&'a str>> {
    let text = std::str::from_utf8(bytes).map_err(|error| damaged(path, format!("is not UTF-8 ({error})")))?;
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    if first != V1 {
        let number = first.strip_prefix('v').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        return Err(match number.and_then(|digits| digits.parse::<u32>().ok()) {
            Some(version) if version > 1 => Error::checkpoint_class(
                "INVALID_LOG_VERSION.MAX_SUPPORTED_VERSION",
                path,
                format!(
                    "UnsupportedLogVersion. The maximum supported log version is v1, but encountered v{version}. The \
                     log file was produced by a newer version and cannot be read by this version. Upgrade Wavetank, \
                     or start over with a new checkpointLocation."
                ),
            ),
            _ => malformed(path, &first.chars().take(20).collect::<String>()),
        });
    }
    Ok(lines.collect())
}

/// One line of compact JSON. `line` counts from 1, the version line.
pub(super) fn json<T: DeserializeOwned>(text: &str, path: &str, line: usize) -> Result<T> {
    if has_loose_space(text) {
        return Err(damaged(path, format!("has a space in line {line} where none is written")));
    }
    serde_json::from_str(text).map_err(|error| damaged(path, format!("cannot be read in line {line} ({error})")))
}

/// The error for a log file that cannot be what was written; `what` completes "the log file ...".
pub(super) fn damaged(path: &str, what: impl AsRef<str>) -> Error {
    Error::checkpoint(path, format!("the log file {}: it is damaged. {ADVICE}", what.as_ref()))
}

fn malformed(path: &str, first_line: &str) -> Error {
    let message = format!("Log file was malformed: failed to read correct log version from '{first_line}'. {ADVICE}");
    Error::checkpoint_class("MALFORMED_LOG_FILE", path, message)
}

/// Whether there is white space outside of strings. `170 }` is JSON too, but is no longer the number 1700.
fn has_loose_space(json: &str) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            byte if !in_string => return byte.is_ascii_whitespace(),
            _ => {}
        }
        false
    })
}
