//! What the JSON decoder makes of records, against real Spark (`facts/json.json`) and the swift way against the careful.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wavetank_engine::options::Options;
use wavetank_engine::sql::types::parse_ddl_schema;

use super::*;
use crate::format::facts::{Fact, decode, differences, shown};

/// Where Spark's row depends on where exactly its tokenizer stumbles inside a nested value, the whole record is bad here.
const STUMBLES: [&str; 2] = [r#"{"c":{"d":1,},"b":2}"#, r#"{"e":[1 2],"b":2}"#];

fn decoder(schema: &str, options: &Options) -> Result<(JsonDecoder, Arc<TextOptions>)> {
    let options = Arc::new(TextOptions::json(options)?);
    Ok((JsonDecoder::new(parse_ddl_schema(schema)?, Arc::clone(&options))?, options))
}

fn rows(fact: &Fact, content: &str, mode: &str) -> Result<Vec<serde_json::Value>> {
    let (mut decoder, options) = decoder(&fact.schema, &fact.options(mode))?;
    decode(&mut decoder, content, &options).map(|batches| shown(&batches))
}

#[test]
fn spark_s_facts() {
    let facts: Vec<Fact> = serde_json::from_str(include_str!("../facts/json.json")).unwrap();
    assert!(facts.len() > 90);
    let mut failures = Vec::new();
    for mut fact in facts {
        for mode in ["PERMISSIVE", "DROPMALFORMED"] {
            let expected = if mode == "PERMISSIVE" { &mut fact.permissive } else { &mut fact.dropmalformed };
            let expected = if fact.name == "syntax before and after" && mode == "PERMISSIVE" {
                let mut rows = expected.take();
                for row in rows.as_array_mut().unwrap() {
                    let text = row.as_str().unwrap();
                    if STUMBLES.iter().any(|stumble| text.contains(&stumble.replace('"', "\\\""))) {
                        *row = text.replace("\"b\":2,", "\"b\":null,").into();
                    }
                }
                rows
            } else {
                expected.take()
            };
            let found = rows(&fact, &fact.content, mode);
            let difference = match (&expected, &found) {
                (serde_json::Value::Object(_), Err(_)) => None,
                (_, Err(error)) => Some(format!("failed: {error}")),
                (_, Ok(found)) => differences(&expected, found),
            };
            if let Some(difference) = difference {
                failures.push(format!("{} ({mode})\n{difference}", fact.name));
            }
        }
        let fails = rows(&fact, &fact.content, "FAILFAST").is_err();
        if fails != (fact.failfast == "error") {
            failures.push(format!("{} (FAILFAST): fails here: {fails}", fact.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_swift_way_agrees_with_the_careful_way() {
    let facts: Vec<Fact> = serde_json::from_str(include_str!("../facts/json.json")).unwrap();
    let mut swift_count = 0;
    for fact in facts {
        let Ok((mut both, options)) = decoder(&fact.schema, &fact.options("PERMISSIVE")) else { continue };
        let (mut careful, _) = decoder(&fact.schema, &fact.options("PERMISSIVE")).unwrap();
        for line in fact.content.split(['\n', '\r']) {
            let place = Place { file: "f".into(), line: None, byte: 0 };
            let mut swift = Swift::new(line, &options.times);
            if swift.is_blank() || swift.object(&mut both.names, both.rows.columns(), 0).is_none() {
                both.rows.truncate(0);
                continue;
            }
            both.rows.close_row();
            swift_count += 1;
            careful.careful(line, &place).unwrap();
            assert_eq!(both.finish().unwrap(), careful.finish().unwrap(), "{line}");
        }
    }
    assert!(swift_count > 200, "only {swift_count} records went the swift way");
}

#[test]
fn failing_names_file_line_and_reason() {
    let (mut decoder, options) = decoder("a BIGINT", &Options::new().with("mode", "failfast")).unwrap();
    let error = decode(&mut decoder, "{\"a\":1}\n{\"a\":\"x\"}\n", &options).unwrap_err();
    assert_eq!(error.class(), Some("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION"));
    for part in ["file mem:///f, line 2", "field `a`", "\"x\" is no \"BIGINT\"", "'mode' as 'PERMISSIVE'"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_become_replacement_characters() {
    let (mut decoder, _) = decoder("a STRING", &Options::new()).unwrap();
    let place = Place { file: "f".into(), line: None, byte: 0 };
    decoder.line(b"{\"a\":\"x\xffy\"}", &place).unwrap();
    assert_eq!(shown(&[decoder.finish().unwrap()])[0]["a"], "x\u{fffd}y");
}

#[test]
fn many_rows_become_batches_of_8192() {
    let (mut decoder, options) = decoder("a BIGINT, s STRING", &Options::new()).unwrap();
    let content: String = (0..20_000).map(|n| format!("{{\"a\":{n},\"s\":\"x{n}\"}}\n")).collect();
    let batches = decode(&mut decoder, &content, &options).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).collect::<Vec<_>>(), [8192, 8192, 3616]);
}

#[test]
fn every_cut_of_a_record_is_a_bad_record_and_no_panic() {
    let record =
        r#"{"a":-12.5e1,"s":"x\u00e9\n","l":[1,null],"m":{"k":true},"t":"2024-03-01T12:00:00Z","z":[{"q":[]}]}"#;
    let schema = "a DOUBLE, s STRING, l ARRAY<INT>, m MAP<STRING,BOOLEAN>, t TIMESTAMP, _corrupt_record STRING";
    let (mut decoder, options) = decoder(schema, &Options::new()).unwrap();
    for cut in 1..record.len() {
        let batches = decode(&mut decoder, &record[..cut], &options).unwrap();
        assert_eq!(shown(&batches)[0]["_corrupt_record"], record[..cut]);
    }
}

#[test]
fn damaged_records_panic_nowhere_and_both_ways_agree() {
    let facts: Vec<Fact> = serde_json::from_str(include_str!("../facts/json.json")).unwrap();
    let place = Place { file: "f".into(), line: None, byte: 0 };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for fact in &facts {
        let Ok((mut both, options)) = decoder(&fact.schema, &fact.options("PERMISSIVE")) else { continue };
        let (mut careful, _) = decoder(&fact.schema, &fact.options("PERMISSIVE")).unwrap();
        let lines: Vec<&str> = fact.content.lines().filter(|line| !line.is_empty() && line.len() < 400).collect();
        for _ in 0..200 {
            let Some(line) = lines.get(random.random_range(0..lines.len().max(1))) else { continue };
            let damaged = damaged(line, &mut random);
            let mut swift = Swift::new(&damaged, &options.times);
            if !swift.is_blank() && swift.object(&mut both.names, both.rows.columns(), 0).is_some() {
                both.rows.close_row();
                careful.careful(&damaged, &place).unwrap();
                assert_eq!(both.finish().unwrap(), careful.finish().unwrap(), "{damaged}");
            }
            both.rows.truncate(0);
            both.line(damaged.as_bytes(), &place).unwrap();
            both.finish().unwrap();
        }
    }
}

/// The text with some bytes replaced, removed or doubled.
pub(crate) fn damaged(text: &str, random: &mut ChaCha8Rng) -> String {
    const SPECIAL: &[u8] = b"\"\\{}[]:,0-.eEnt '\t";
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] = SPECIAL[random.random_range(0..SPECIAL.len())],
            2 => {
                bytes.remove(at);
            }
            _ => bytes.insert(at, bytes[random.random_range(0..bytes.len())]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
