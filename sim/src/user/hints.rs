//! What a pipeline talks about: the durations, numbers and texts in it, around which rows are worth drawing.

use wavetank_engine::sql::duration::window_duration_us;

/// Values taken from a pipeline's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// Lengths of windows, gaps and delays, in microseconds.
    pub durations_us: Vec<i64>,
    /// Numbers that columns may be compared with.
    pub numbers: Vec<f64>,
    /// Texts that columns may be compared with.
    pub texts: Vec<String>,
}

impl Hints {
    /// The hints of a text. Comments count too; a hint too many does no harm.
    pub fn of(text: &str) -> Self {
        let mut hints = Self::default();
        let mut plain = String::new();
        for (at, part) in text.split('\'').enumerate() {
            if at % 2 == 0 {
                plain.push_str(part);
                plain.push(' ');
            } else {
                // `INTERVAL '10' SECONDS` keeps its number.
                if part.parse::<u64>().is_ok() {
                    plain.push_str(part);
                    plain.push(' ');
                }
                hints.quoted(part);
            }
        }
        hints.plain(&plain);
        hints.durations_us.sort_unstable();
        hints.durations_us.dedup();
        hints
    }

    fn quoted(&mut self, text: &str) {
        match window_duration_us(text) {
            Ok(us) if us > 0 => self.durations_us.push(us),
            _ if text.len() <= 40 && !self.texts.iter().any(|known| known == text) => self.texts.push(text.to_owned()),
            _ => {}
        }
    }

    fn plain(&mut self, text: &str) {
        let words: Vec<&str> = text
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .filter(|word| !word.is_empty())
            .collect();
        for (at, word) in words.iter().enumerate() {
            let is_interval = at > 0 && words[at - 1].eq_ignore_ascii_case("interval");
            let unit = words.get(at + 1).copied().unwrap_or_default();
            match window_duration_us(&format!("{word} {unit}")) {
                Ok(us) if is_interval && us > 0 => self.durations_us.push(us),
                _ => {
                    let number = word.parse::<f64>().ok().filter(|number| number.is_finite() && number.abs() < 1e15);
                    self.numbers.extend(number.filter(|number| !self.numbers.contains(number)));
                }
            }
        }
    }
}
