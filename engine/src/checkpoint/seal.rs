//! A checksum inside of a log's text: one more name in its first JSON object, which Spark's readers pass over (asked of
//! Spark 4.3.0: a query went on over `metadata`, `commits/N` and `sources/0/N` with such a name in every object).
//!
//! The checksum is the CRC-32 of the whole text with eight zeros in its own place, so a cut at the end of a line is
//! found as well. Text without one is Spark's own and is taken as it is; damage to the name itself leaves a name that
//! the strict parsers refuse.

use super::log_text::damaged;
use crate::error::{Error, Result};

const MARK: &str = ",\"wavetank.crc32\":\"";
const BLANK: &str = "00000000";
const END: &str = "\"}";

/// The text with its checksum in the first line that is an object; text without such a line stays as it is.
pub(super) fn seal(mut text: String) -> String {
    let Some(brace) = first_object_end(&text) else { return text };
    text.insert_str(brace, &format!("{MARK}{BLANK}\""));
    let digits = brace + MARK.len();
    let checksum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
    text.replace_range(digits..digits + BLANK.len(), &checksum);
    text
}

/// The text without its checksum, if that is right or there is none.
pub(super) fn unseal(bytes: &[u8], path: &str) -> Result<String> {
    let mut text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_suffix('\n').unwrap_or(text).to_owned(),
        Err(error) => return Err(damaged(path, format!("is not UTF-8 ({error})"))),
    };
    let Some((mark, digits)) = seal_at(&text) else { return Ok(text) };
    let checksum = text[digits..digits + BLANK.len()].to_owned();
    text.replace_range(digits..digits + BLANK.len(), BLANK);
    if format!("{:08x}", crc32fast::hash(text.as_bytes())) != checksum {
        return Err(mismatch(path));
    }
    text.replace_range(mark..digits + BLANK.len() + 1, "");
    Ok(text)
}

fn mismatch(path: &str) -> Error {
    damaged(path, "does not match its own checksum")
}

/// Where the first line that is an object has its last brace.
fn first_object_end(text: &str) -> Option<usize> {
    let start = if text.starts_with('{') { 0 } else { text.find("\n{")? + 1 };
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    text[start..end].ends_with('}').then_some(end - 1)
}

/// Where the mark begins and where the digits do.
fn seal_at(text: &str) -> Option<(usize, usize)> {
    let end = first_object_end(text)? + 1;
    let digits = end.checked_sub(END.len() + BLANK.len())?;
    let mark = digits.checked_sub(MARK.len())?;
    let whole = text.get(mark..end)?;
    (whole.starts_with(MARK) && whole.ends_with(END) && text.is_char_boundary(digits)).then_some((mark, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_there_again() {
        for (text, sealed) in [
            ("{\"id\":1}", "{\"id\":1,\"wavetank.crc32\":\"b23c7e1f\"}"),
            ("v1\n{\"a\":1}\n{\"b\":\"}\"}", "v1\n{\"a\":1,\"wavetank.crc32\":\"\"}\n{\"b\":\"}\"}"),
            ("v1", "v1"),
            ("v1\n", "v1\n"),
        ] {
            let found = seal(text.into());
            let without_digits = |text: &str| text.replace(|c: char| c.is_ascii_hexdigit(), "");
            assert_eq!(without_digits(&found), without_digits(sealed));
            assert_eq!(unseal(found.as_bytes(), "x").unwrap(), text.strip_suffix('\n').unwrap_or(text));
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_a_mismatch_or_no_seal() {
        let text = "v1\n{\"a\":\"ü\"}\n{\"b\":2}\n{\"c\":3}";
        let sealed = seal(text.into()).into_bytes();
        for cut in (0..sealed.len()).filter(|cut| sealed[*cut] == b'\n' && *cut > 3) {
            assert!(unseal(&sealed[..cut], "x").is_err(), "cut at {cut}");
        }
        for (at, bit) in (0..sealed.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            // Flips in the version line are the caller's to find.
            if let (Ok(left), 3..) = (unseal(&flipped, "x"), at) {
                assert_ne!(left, text, "byte {at} bit {bit}");
                let names = |line| serde_json::from_str::<serde_json::Map<_, _>>(line).map_or(0, |object| object.len());
                assert!(left.lines().skip(1).any(|line| names(line) != 1), "byte {at} bit {bit}: {left}");
            }
        }
    }
}
