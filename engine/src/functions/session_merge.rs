//! Which sessions the rows of some keys form: pure arithmetic on starts and ends.
//!
//! `spec/03` section 3: in order of start, a row joins the session before it when it begins at or before that
//! session's end (touching is enough); a session ends where the last of its rows does, so that a row with a short gap
//! never shortens it. Streaming state (`operators::session`) and static tables ([`super::session_assign`]) both come
//! here. Absent: what is aggregated, and lateness.

use crate::planted::planted;

/// The sessions of some rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// All rows, by number, in order of key, start, number: the rows of a session stand together.
    pub order: Vec<u32>,
    /// For each row of `order` the number of its session; 0, 1, 2, ..
    pub session_of: Vec<u32>,
    /// The key of each session.
    pub keys: Vec<u32>,
    /// Where each session starts (microseconds).
    pub starts: Vec<i64>,
    /// Where each session ends (microseconds).
    pub ends: Vec<i64>,
}

impl Sessions {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.starts.len()
    }
}

/// Merges rows `[start, end)` (microseconds) of numbered keys into sessions. The slices are equally long, of at most
/// `u32::MAX` rows. Rows that start at the same time keep their order.
pub fn merge_sessions(keys: &[u32], starts: &[i64], ends: &[i64]) -> Sessions {
    assert!(keys.len() == starts.len() && starts.len() == ends.len(), "a key, a start and an end for each row");
    let rows = u32::try_from(keys.len()).expect("rows are counted by the caller");
    let mut order: Vec<u32> = (0..rows).collect();
    order.sort_unstable_by_key(|row| (keys[*row as usize], starts[*row as usize], *row));
    let mut sessions = Sessions { session_of: Vec::with_capacity(order.len()), order, ..Sessions::default() };
    let apart_us = i64::from(planted("session-touching-ones-stay-apart"));
    for row in &sessions.order {
        let row = *row as usize;
        let (key, start, end) = (keys[row], starts[row], ends[row]);
        match (sessions.keys.last(), sessions.ends.last_mut()) {
            // `<=` and not `<`: sessions that touch are one.
            (Some(current), Some(current_end)) if *current == key && start <= *current_end - apart_us => {
                *current_end = end.max(*current_end);
            }
            _ => {
                sessions.keys.push(key);
                sessions.starts.push(start);
                sessions.ends.push(end);
            }
        }
        sessions.session_of.push(sessions.keys.len() as u32 - 1);
    }
    sessions
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Sessions of one key as (start, end) pairs.
    fn merged(rows: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let (starts, ends): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
        let sessions = merge_sessions(&vec![0; rows.len()], &starts, &ends);
        sessions.starts.into_iter().zip(sessions.ends).collect()
    }

    #[test]
    fn sessions_are_those_that_spark_measured() {
        let gap = |times: &[i64], gap: i64| times.iter().map(|t| (*t, t + gap)).collect::<Vec<_>>();
        for (rows, expected) in [
            (gap(&[10, 15], 5), vec![(10, 20)]),
            (gap(&[30, 21, 10, 11, 14, 15, 20], 5), vec![(10, 26), (30, 35)]),
            (vec![(10, 20), (11, 12), (14, 15)], vec![(10, 20)]),
            (vec![(40, 55), (60, 70)], vec![(40, 55), (60, 70)]),
            (vec![(40, 55), (60, 70), (52, 62)], vec![(40, 70)]),
            (vec![], vec![]),
        ] {
            assert_eq!(merged(&rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn keys_do_not_mix_and_rows_of_a_session_stand_together() {
        let sessions = merge_sessions(&[1, 0, 1, 0], &[5, 5, 6, 100], &[10, 10, 11, 101]);
        assert_eq!(sessions.order, [1, 3, 0, 2]);
        assert_eq!(sessions.session_of, [0, 1, 2, 2]);
        assert_eq!((sessions.keys, sessions.ends), (vec![0, 0, 1], vec![10, 101, 11]));
    }

    /// Two rows are in one session when a chain of touching rows leads from one to the other: found by joining pairs
    /// until nothing changes.
    #[test]
    fn merging_is_the_closure_of_touching() {
        for seed in 0..200 {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let count = random.random_range(0..12);
            let rows: Vec<(u32, i64, i64)> = (0..count)
                .map(|_| {
                    let start = random.random_range(-20..20);
                    (random.random_range(0..2), start, start + random.random_range(1..6))
                })
                .collect();
            let mut slow: Vec<usize> = (0..count).collect();
            for _ in 0..count {
                for a in 0..count {
                    for b in 0..count {
                        let ((k, s, e), (l, t, f)) = (rows[a], rows[b]);
                        if k == l && s <= f && t <= e {
                            let least = slow[a].min(slow[b]);
                            (slow[a], slow[b]) = (least, least);
                        }
                    }
                }
            }
            let column = |of: fn(&(u32, i64, i64)) -> i64| rows.iter().map(of).collect::<Vec<i64>>();
            let keys: Vec<u32> = rows.iter().map(|row| row.0).collect();
            let fast = merge_sessions(&keys, &column(|row| row.1), &column(|row| row.2));
            let mut number = vec![0; count];
            for (row, session) in fast.order.iter().zip(&fast.session_of) {
                number[*row as usize] = *session;
            }
            for a in 0..count {
                for b in 0..count {
                    assert_eq!(number[a] == number[b], slow[a] == slow[b], "seed {seed}: rows {a} and {b} of {rows:?}");
                }
            }
        }
    }
}
