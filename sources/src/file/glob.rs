//! Hadoop's file name patterns: `*`, `?`, `[a-z]`, `[^a]`, `{one,other}`, `\` before a special character.

use wavetank_engine::{Error, Result};

/// A pattern for one name (it never matches across `/`).
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    /// What the braces stand for: one of these must match.
    alternatives: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(char),
    AnyOne,
    AnyMany,
    OneOf { is_negated: bool, ranges: Vec<(char, char)> },
}

/// Whether the text is a pattern at all.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let invalid = || {
            Error::analysis(format!(
                "Illegal file pattern '{pattern}': a [ or {{ is not closed, or it ends with a backslash. Write a \
                 backslash before a character that shall stand for itself."
            ))
        };
        let texts = expand(pattern).ok_or_else(invalid)?;
        let alternatives = texts.iter().map(|text| pieces(text)).collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
        Ok(Self { alternatives })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        self.alternatives.iter().any(|pieces| matches(pieces, &name))
    }
}

/// The patterns without braces that a pattern with braces stands for.
fn expand(pattern: &str) -> Option<Vec<String>> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 1,
            '{' => {
                let (parts, end) = split_braces(&chars, at)?;
                let (head, tail): (String, String) = (chars[..at].iter().collect(), chars[end + 1..].iter().collect());
                let mut all = Vec::new();
                for part in parts {
                    all.extend(expand(&format!("{head}{part}{tail}"))?);
                }
                return Some(all);
            }
            _ => {}
        }
        at += 1;
    }
    Some(vec![pattern.to_string()])
}

/// The parts between the braces that open at `open`, and where they close.
fn split_braces(chars: &[char], open: usize) -> Option<(Vec<String>, usize)> {
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0);
    let mut at = open + 1;
    loop {
        let c = *chars.get(at)?;
        match c {
            '\\' => {
                part.push(c);
                at += 1;
                part.push(*chars.get(at)?);
            }
            '}' if depth == 0 => {
                parts.push(part);
                return Some((parts, at));
            }
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                part.push(c);
            }
        }
        at += 1;
    }
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::AnyMany,
            '?' => Piece::AnyOne,
            '\\' => Piece::Literal(chars.next()?),
            '[' => {
                let is_negated = chars.next_if(|c| *c == '^' || *c == '!').is_some();
                let mut ranges = Vec::new();
                loop {
                    let from = match chars.next()? {
                        ']' if !ranges.is_empty() => break,
                        '\\' => chars.next()?,
                        c => c,
                    };
                    let mut ahead = chars.clone();
                    let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
                    let to = if is_range { chars.nth(1)? } else { from };
                    ranges.push((from, to));
                }
                Piece::OneOf { is_negated, ranges }
            }
            c => Piece::Literal(c),
        });
    }
    Some(pieces)
}

fn matches(pieces: &[Piece], name: &[char]) -> bool {
    // On a mismatch, go back to the last `*` and let it take one character more.
    let (mut piece, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        let fits = match pieces.get(piece) {
            Some(Piece::AnyMany) => {
                star = Some((piece, at));
                piece += 1;
                continue;
            }
            Some(Piece::AnyOne) => true,
            Some(Piece::Literal(c)) => *c == name[at],
            Some(Piece::OneOf { is_negated, ranges }) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&name[at])) != *is_negated
            }
            None => false,
        };
        if fits {
            (piece, at) = (piece + 1, at + 1);
        } else {
            let Some((star_piece, star_at)) = star else { return false };
            star = Some((star_piece, star_at + 1));
            (piece, at) = (star_piece + 1, star_at + 1);
        }
    }
    pieces[piece..].iter().all(|piece| matches!(piece, Piece::AnyMany))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, yes, no) in [
            ("*.json", vec!["a.json", ".json"], vec!["a.jsonl", "json"]),
            ("a*b*c", vec!["abc", "axxbyyc", "abbcbc"], vec!["ab", "acb", "abcd"]),
            ("?", vec!["x", "é"], vec!["", "xy"]),
            ("[a-cx]1", vec!["a1", "c1", "x1"], vec!["d1", "-1"]),
            ("[^a-c]", vec!["d"], vec!["a"]),
            ("[a-]", vec!["a", "-"], vec!["b"]),
            ("{a,b{c,d}}.x", vec!["a.x", "bc.x", "bd.x"], vec!["b.x", "c.x"]),
            ("\\*\\{", vec!["*{"], vec!["x{"]),
            ("", vec![""], vec!["a"]),
            ("**", vec!["", "abc"], vec![]),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert!(yes.iter().all(|name| glob.matches(name)), "{pattern} must match {yes:?}");
            assert!(!no.iter().any(|name| glob.matches(name)), "{pattern} must not match {no:?}");
        }
        for pattern in ["{a", "[a", "a\\", "{a,{b}"] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }
}
