//! A table as Spark's `show()` draws it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wavetank_engine::Result;

use crate::values::plain::{Style, encoder};

/// Longer cells are cut to this many UTF-16 units, the last three of them dots.
const CELL_MAX: usize = 20;
const COLUMN_MIN: usize = 3;

/// Draws all rows; every line ends with a line break. With `truncate` cells are cut and right-aligned, without it
/// they are whole and left-aligned. Headers are never cut.
pub(crate) fn draw(schema: &SchemaRef, batches: &[RecordBatch], truncate: bool) -> Result<String> {
    let header: Vec<String> = schema.fields().iter().map(|field| escape(field.name())).collect();
    let mut lines = vec![header];
    for batch in batches {
        let encoders =
            batch.columns().iter().map(|column| encoder(column, &Style::cell())).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let cell = |encode: &crate::values::Encoder<'_>| {
                let mut bytes = Vec::new();
                encode(row, &mut bytes);
                let text = escape(&String::from_utf8_lossy(&bytes));
                if truncate { cut(text) } else { text }
            };
            lines.push(encoders.iter().map(cell).collect());
        }
    }
    let widths: Vec<usize> = (0..schema.fields().len())
        .map(|column| lines.iter().map(|line| width(&line[column])).fold(COLUMN_MIN, usize::max))
        .collect();
    let rule: String = format!("+{}+\n", widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().join("+"));
    let mut text = rule.clone();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, w)| pad(cell, *w, truncate)).collect();
        text.push_str(&format!("|{}|\n", cells.join("|")));
        if number == 0 {
            text.push_str(&rule);
        }
    }
    text.push_str(&rule);
    Ok(text)
}

fn pad(cell: &str, width_wanted: usize, right_aligned: bool) -> String {
    let gap = " ".repeat(width_wanted - width(cell));
    if right_aligned { gap + cell } else { cell.to_owned() + &gap }
}

/// Keeps a cell on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\x0c' => escaped.push_str("\\f"),
            '\x08' => escaped.push_str("\\b"),
            '\x0b' => escaped.push_str("\\v"),
            '\x07' => escaped.push_str("\\a"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Spark counts UTF-16 units; a pair that is cut in the middle shows as a question mark.
fn cut(text: String) -> String {
    let length: usize = text.chars().map(char::len_utf16).sum();
    if length <= CELL_MAX {
        return text;
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        match CELL_MAX - 3 - used {
            0 => break,
            1 if c.len_utf16() == 2 => {
                kept.push('?');
                break;
            }
            _ => kept.push(c),
        }
        used += c.len_utf16();
    }
    kept + "..."
}

/// How many columns of a terminal Spark thinks that a text takes: one per UTF-16 unit, two for East Asian wide ones.
fn width(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { c.len_utf16() }).sum()
}

/// The ranges of Spark's `Utils.fullWidthRegex`, asked of Spark 4.3.0.
fn is_wide(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}' | '\u{F900}'..='\u{FAFF}'
        | '\u{FE10}'..='\u{FE19}' | '\u{FE30}'..='\u{FE6F}' | '\u{FF00}'..='\u{FF60}' | '\u{FFE0}'..='\u{FFE6}')
}
