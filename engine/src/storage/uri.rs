//! Paths of a store as URIs and back, encoded the way Hadoop's `Path.toUri.toString` does, which is what Spark's logs
//! hold and what Spark's readers decode.

use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str};

/// What `java.net.URI` quotes in a path: all ASCII that is not unreserved, punctuation or `/`. Other characters
/// (unicode) stay as they are; `%` is always quoted.
const QUOTED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Quotes a path for a URI. Unicode is kept, as Java keeps it.
pub fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for c in path.chars() {
        if c.is_ascii() {
            let mut buffer = [0; 1];
            encoded.extend(percent_encoding::utf8_percent_encode(c.encode_utf8(&mut buffer), QUOTED));
        } else {
            encoded.push(c);
        }
    }
    encoded
}

/// Takes the quoting off. A `%` that starts no quoted byte stays; `None` when the bytes are not UTF-8.
pub fn decode(encoded: &str) -> Option<String> {
    percent_decode_str(encoded).decode_utf8().ok().map(|text| text.into_owned())
}

/// The URI of a path of the store whose URIs start with `root` (`file://`, `s3://bucket`).
pub fn join(root: &str, path: &Path) -> String {
    format!("{root}/{}", encode(path.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_as_java_does() {
        // Left: raw path; right: `new org.apache.hadoop.fs.Path(raw).toUri.toString`.
        for (raw, encoded) in [
            ("data/a b.json", "data/a%20b.json"),
            ("100%/x%20y", "100%25/x%2520y"),
            ("ü/日本", "ü/日本"),
            ("k=v,w;x:y@z&a+b$c!d*e'(f)~g_h-i.j", "k=v,w;x:y@z&a+b$c!d*e'(f)~g_h-i.j"),
            (r##"#?[]{}|\^"<>`"##, "%23%3F%5B%5D%7B%7D%7C%5C%5E%22%3C%3E%60"),
        ] {
            assert_eq!(encode(raw), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(raw));
        }
        assert_eq!(decode("a%zz%").as_deref(), Some("a%zz%"));
        assert_eq!(decode("%ff"), None);
    }
}
