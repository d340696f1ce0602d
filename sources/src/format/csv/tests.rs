//! What the CSV decoder makes of lines, against real Spark (`facts/csv.json`).

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wavetank_engine::sql::types::parse_ddl_schema;

use super::*;
use crate::format::facts::{Fact, decode, differences, shown};
use crate::format::json::tests::damaged;

fn rows(fact: &Fact, mode: &str, columns: Option<&[usize]>) -> Result<Vec<serde_json::Value>> {
    let options = Arc::new(CsvOptions::new(&fact.options(mode))?);
    let all = parse_ddl_schema(&fact.schema)?;
    CsvOptions::check_schema(&all)?;
    let wanted = crate::blocks::projected(&all, columns)?;
    let mut decoder = CsvDecoder::new(wanted, &all, Arc::clone(&options))?;
    decode(&mut decoder, &fact.content, &options.text).map(|batches| shown(&batches))
}

#[test]
fn spark_s_facts() {
    let facts: Vec<Fact> = serde_json::from_str(include_str!("../facts/csv.json")).unwrap();
    assert!(facts.len() > 50);
    let mut failures = Vec::new();
    for fact in facts.iter().filter(|fact| !fact.options.contains_key("multiLine")) {
        for (mode, columns, expected) in [
            ("PERMISSIVE", None, &fact.permissive),
            ("DROPMALFORMED", None, &fact.dropmalformed),
            ("PERMISSIVE", Some(&[0][..]), &fact.first_column_only["permissive"]),
            ("DROPMALFORMED", Some(&[0][..]), &fact.first_column_only["dropmalformed"]),
        ] {
            // Cases that were shortened for what is not read here have no rows for one column.
            if expected.is_null() {
                continue;
            }
            let found = rows(fact, mode, columns);
            let difference = match (expected, &found) {
                (serde_json::Value::Object(_), Err(_)) => None,
                (_, Err(error)) => Some(format!("failed: {error}")),
                (_, Ok(found)) => differences(expected, found),
            };
            if let Some(difference) = difference {
                failures.push(format!("{} ({mode}, {columns:?})\n{difference}", fact.name));
            }
        }
        let fails = rows(fact, "FAILFAST", None).is_err();
        if fails != (fact.failfast == "error") {
            failures.push(format!("{} (FAILFAST): fails here: {fails}", fact.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_not_supported_is_refused() {
    for (name, value) in [
        ("multiLine", "true"),
        ("quote", "ab"),
        ("unescapedQuoteHandling", "RAISE_ERROR"),
        ("sep", ""),
        ("maxColumns", "x"),
    ] {
        assert!(CsvOptions::new(&Options::new().with(name, value)).is_err(), "{name}");
    }
}

#[test]
fn counting_rows_reads_no_token() {
    let all = parse_ddl_schema("a INT, b INT").unwrap();
    let options = Arc::new(CsvOptions::new(&Options::new().with("mode", "FAILFAST")).unwrap());
    let none = crate::blocks::projected(&all, Some(&[])).unwrap();
    let mut decoder = CsvDecoder::new(none, &all, Arc::clone(&options)).unwrap();
    let batches = decode(&mut decoder, "1,2\nx\n\n1,2,3\n", &options.text).unwrap();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 3));
}

#[test]
fn damaged_lines_panic_nowhere() {
    let facts: Vec<Fact> = serde_json::from_str(include_str!("../facts/csv.json")).unwrap();
    let place = Place { file: "f".into(), line: None, byte: 0 };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for fact in &facts {
        let (Ok(options), Ok(all)) = (CsvOptions::new(&fact.options("PERMISSIVE")), parse_ddl_schema(&fact.schema))
        else {
            continue;
        };
        let Ok(mut decoder) = CsvDecoder::new(Arc::clone(&all), &all, Arc::new(options)) else { continue };
        let lines: Vec<&str> = fact.content.lines().filter(|line| !line.is_empty()).collect();
        for _ in 0..200 {
            let line = damaged(lines[random.random_range(0..lines.len())], &mut random);
            // Two of the cases fail on purpose (too long a value, another header).
            let _ = decoder.line(line.as_bytes(), &place);
            decoder.finish().unwrap();
        }
    }
}
