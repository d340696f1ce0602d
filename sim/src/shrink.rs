//! Makes a failing scenario small: faults first, then steps, rows and values, as long as the same failure remains.
//!
//! Delta debugging, over the scenario itself. Because faults are bound to names and rows to steps, taking one thing
//! away leaves the others where they are. Passes repeat until nothing more goes, or until the tries are used up.
//! Absent: what a failure is. The caller says whether a smaller scenario still shows it.

use serde_json::{Map, Value};

use crate::disk::CrashImage;
use crate::fault::{Fault, Harm};
use crate::scenario::{Scenario, Step};

/// A scenario made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest scenario found that still fails.
    pub scenario: Scenario,
    /// How many scenarios were tried.
    pub tries_count: usize,
    /// Whether the passes ended by themselves: nothing more can be taken away alone.
    pub is_minimal: bool,
}

/// Shrinks `scenario`, which fails, with at most so many calls of `fails`.
pub fn shrink(scenario: &Scenario, tries_limit: usize, fails: &mut dyn FnMut(&Scenario) -> bool) -> Shrunk {
    let mut shrinker = Shrinker { best: scenario.clone(), tries_count: 0, tries_limit, fails };
    loop {
        let before = shrinker.best.clone();
        shrinker.faults();
        shrinker.simpler_harms();
        shrinker.settings();
        shrinker.steps();
        shrinker.rows();
        shrinker.values();
        if shrinker.best == before || shrinker.is_out() {
            let is_minimal = !shrinker.is_out();
            return Shrunk { scenario: shrinker.best, tries_count: shrinker.tries_count, is_minimal };
        }
    }
}

struct Shrinker<'a> {
    best: Scenario,
    tries_count: usize,
    tries_limit: usize,
    fails: &'a mut dyn FnMut(&Scenario) -> bool,
}

impl Shrinker<'_> {
    fn is_out(&self) -> bool {
        self.tries_count >= self.tries_limit
    }

    /// Takes the candidate if it still fails.
    fn take(&mut self, candidate: Scenario) -> bool {
        if self.is_out() || candidate == self.best {
            return false;
        }
        self.tries_count += 1;
        let fails = (self.fails)(&candidate);
        if fails {
            self.best = candidate;
        }
        fails
    }

    /// Removes chunks of `count(best)` things, from half of them down to single ones. `without(s, from, to)` is the
    /// scenario without the things `from..to`.
    fn remove_chunks(
        &mut self,
        count: impl Fn(&Scenario) -> usize,
        without: impl Fn(&Scenario, usize, usize) -> Scenario,
    ) {
        let mut chunk = count(&self.best).div_ceil(2);
        while chunk > 0 && !self.is_out() {
            // From the end: what comes later depends on what came earlier.
            let mut to = count(&self.best);
            while to > 0 {
                let from = to.saturating_sub(chunk);
                let candidate = without(&self.best, from, to);
                self.take(candidate);
                to = from;
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }

    fn faults(&mut self) {
        self.remove_chunks(
            |scenario| scenario.faults.len(),
            |scenario, from, to| {
                let mut faults = scenario.faults.clone();
                faults.drain(from..to);
                scenario.with_faults(faults)
            },
        );
        // Without a crash, what followed it happens a life earlier.
        for at in (0..self.best.faults.len()).rev() {
            let Some(gone) = self.best.faults.get(at).cloned() else { continue };
            let earlier =
                |fault: &Fault| Fault { life: fault.life - u32::from(fault.life > gone.life), ..fault.clone() };
            let faults: Vec<Fault> = self
                .best
                .faults
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .map(|(_, fault)| earlier(fault))
                .collect();
            let candidate = self.best.with_faults(faults);
            self.take(candidate);
        }
    }

    /// A crash that needs no power cut is simpler than one that does, and a strict image is simpler than chaos.
    fn simpler_harms(&mut self) {
        for at in 0..self.best.faults.len() {
            let crash = |image: CrashImage, harm: &Harm| match harm {
                Harm::CrashBefore { image: now } if image < *now => Some(Harm::CrashBefore { image }),
                Harm::CrashAfter { image: now } if image < *now => Some(Harm::CrashAfter { image }),
                _ => None,
            };
            for image in [CrashImage::Kill, CrashImage::Strict] {
                let mut candidate = self.best.clone();
                if let Some(harm) = crash(image, &candidate.faults[at].harm) {
                    candidate.faults[at].harm = harm;
                    if self.take(candidate) {
                        break;
                    }
                }
            }
        }
    }

    fn settings(&mut self) {
        for life in self.best.settings.clone().into_keys() {
            let mut candidate = self.best.clone();
            candidate.settings.remove(&life);
            self.take(candidate);
        }
    }

    fn steps(&mut self) {
        // A query that is stopped before it has taken all there is has nothing to answer for: the last step stays.
        let removable = |scenario: &Scenario| match scenario.steps.last() {
            Some(Step::Settle) => scenario.steps.len() - 1,
            _ => scenario.steps.len(),
        };
        self.remove_chunks(removable, |scenario, from, to| {
            let mut candidate = scenario.clone();
            candidate.steps.drain(from..to);
            candidate
        });
        for at in 0..self.best.steps.len() {
            while let Some(Step::Wait { ms }) = self.best.steps.get(at).cloned() {
                let mut candidate = self.best.clone();
                candidate.steps[at] = Step::Wait { ms: ms / 2 };
                if ms < 2 || !self.take(candidate) {
                    break;
                }
            }
        }
    }

    fn rows(&mut self) {
        for at in 0..self.best.steps.len() {
            self.remove_chunks(
                |scenario| scenario.steps[at].rows().map_or(0, <[String]>::len),
                |scenario, from, to| {
                    let mut candidate = scenario.clone();
                    if let Some(rows) = candidate.steps[at].rows_mut() {
                        rows.drain(from..to);
                    }
                    candidate
                },
            );
        }
    }

    fn values(&mut self) {
        for at in 0..self.best.steps.len() {
            for row in 0..self.best.steps[at].rows().map_or(0, <[String]>::len) {
                self.values_of(at, row);
            }
        }
    }

    fn values_of(&mut self, at: usize, row: usize) {
        let parsed = |scenario: &Scenario| -> Option<Map<String, Value>> {
            serde_json::from_str(scenario.steps[at].rows()?.get(row)?).ok()
        };
        let Some(fields) = parsed(&self.best) else { return };
        for name in fields.keys() {
            // Each success may allow the next one; a value gets simpler a bounded number of times.
            for _ in 0..64 {
                let Some(now) = parsed(&self.best) else { return };
                let smaller = now.get(name).map(simpler).unwrap_or_default();
                let taken = smaller.into_iter().any(|value| {
                    let mut fields = now.clone();
                    fields.insert(name.clone(), value);
                    let mut candidate = self.best.clone();
                    if let Some(rows) = candidate.steps[at].rows_mut() {
                        rows[row] = Value::Object(fields).to_string();
                    }
                    self.take(candidate)
                });
                if !taken {
                    break;
                }
            }
        }
    }
}

/// Simpler values, the simplest first; none for the simplest.
fn simpler(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(0) => vec![],
            Some(n) => [0, 1, n / 10, n / 2].into_iter().filter(|m| m.abs() < n.abs()).map(Value::from).collect(),
            None => vec![Value::from(0), Value::from(number.as_f64().unwrap_or(0.0).trunc() as i64)],
        },
        Value::String(text) => simpler_text(text).into_iter().map(Value::from).collect(),
        Value::Array(items) if !items.is_empty() => {
            vec![Value::Array(vec![]), Value::Array(items[..items.len() / 2].to_vec())]
        }
        _ => vec![],
    }
}

fn simpler_text(text: &str) -> Vec<String> {
    // A time stays a time: its fraction goes first.
    let is_time = text.len() >= 19 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if is_time {
        return text.split_once('.').map(|(whole, _)| vec![format!("{whole}Z"), whole.to_owned()]).unwrap_or_default();
    }
    let first: String = text.chars().take(1).collect();
    ["a".to_owned(), first].into_iter().filter(|t| t.len() < text.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge;
    use crate::mini::{Bug, Mini, scenario};
    use crate::runner::{FailureKind, run};

    fn crash(life: u32, at: &str, image: CrashImage) -> Fault {
        Fault { life, at: at.into(), harm: Harm::CrashAfter { image } }
    }

    #[test]
    fn a_bug_of_the_protocol_shrinks_to_one_fault_and_one_row() {
        let subject = Mini { bug: Bug::PromiseIsDone };
        let mut big = scenario(&[&["aaa", "bbb", "ccc"], &["ddd"], &["eee", "fff"], &["ggg"]]);
        big.faults = vec![
            crash(0, "checkpoint/offsets/0.tmp fsync", CrashImage::Torn512),
            crash(1, "witness/out/1 stage", CrashImage::Torn4096),
            crash(2, "checkpoint/commits/1.tmp write", CrashImage::Kill),
            Fault { life: 1, at: "checkpoint/offsets/0.tmp write".into(), harm: Harm::Slow { us: 9 } },
        ];
        let mut fails = |scenario: &Scenario| {
            let baseline = run(&scenario.undisturbed(), &subject);
            judge(&run(scenario, &subject), &baseline).iter().any(|failure| failure.kind == FailureKind::Rows)
        };
        assert!(fails(&big));
        let shrunk = shrink(&big, 1000, &mut fails);
        assert!(shrunk.is_minimal, "{shrunk:?}");
        let small = &shrunk.scenario;
        assert_eq!((small.faults.len(), small.rows_count()), (1, 1), "{}", small.to_toml());
        assert!(small.to_toml().contains(r#"{"v":"a"}"#), "{}", small.to_toml());
        assert_eq!(small.faults[0].harm.crash_image(), Some(CrashImage::Kill));
    }

    #[test]
    fn without_an_earlier_crash_later_faults_move_to_earlier_lives() {
        let big =
            Scenario { faults: (0..4).map(|life| crash(life, "x", CrashImage::Kill)).collect(), ..Scenario::default() };
        // Fails when there are crashes in two lives, without a life between them that ends by itself.
        let mut fails = |scenario: &Scenario| {
            scenario.faults.len() >= 2 && (0..).zip(&scenario.faults).all(|(life, fault)| fault.life == life)
        };
        let shrunk = shrink(&big, 1000, &mut fails);
        assert_eq!(shrunk.scenario.faults.len(), 2);
    }

    #[test]
    fn the_step_in_which_the_query_takes_all_there_is_stays() {
        let big = scenario(&[&["a"], &["b"]]);
        assert_eq!(big.steps.last(), Some(&Step::Settle));
        let shrunk = shrink(&big, 1000, &mut |_| true);
        assert_eq!(shrunk.scenario.steps, [Step::Settle]);
    }

    #[test]
    fn the_number_of_tries_is_a_limit() {
        let big = scenario(&[&["a"; 50]]);
        let shrunk = shrink(&big, 7, &mut |scenario| scenario.rows_count() > 20);
        assert_eq!((shrunk.tries_count, shrunk.is_minimal), (7, false));
    }

    #[test]
    fn values_get_simpler_and_times_stay_times() {
        let mut big = scenario(&[&["long text"]]);
        big.steps[0].rows_mut().unwrap()[0] =
            r#"{"n":-1234,"f":2.75,"t":"2024-01-01T00:00:00.000001Z","l":[1,2,3],"s":"long"}"#.into();
        let shrunk =
            shrink(&big, 1000, &mut |scenario| scenario.rows_count() == 1 && scenario.to_toml().contains("2024"));
        let row = &shrunk.scenario.steps[0].rows().unwrap()[0];
        assert_eq!(row, r#"{"n":0,"f":0,"t":"2024-01-01T00:00:00Z","l":[],"s":"a"}"#);
    }
}
