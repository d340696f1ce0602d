//! What the trace says about promises in an object store: nobody runs a batch that another writer has promised.
//!
//! There is no lock: the conditional put of `offsets/N` is what keeps two runs apart. A run whose put was refused may go
//! on with batch N only if what it then reads is what it sent (its own earlier try), or begins anew from what is there.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use crate::effects::{Effect, Op, Outcome};

/// Batches that were done by a life whose promise of them had been refused.
pub(crate) fn taken_over(trace: &[Effect]) -> Vec<String> {
    let mut complaints = Vec::new();
    // By life and object: what was sent and refused, and whether what was read then is it.
    let mut refused: BTreeMap<(u32, &str), (u64, Option<bool>)> = BTreeMap::new();
    for effect in trace {
        let Some((object, _)) = effect.name.split_once(' ') else { continue };
        if object.contains("/offsets/") {
            let key = (effect.life, object);
            match (effect.op, effect.outcome) {
                (Op::Put, Outcome::Refused(ErrorKind::AlreadyExists)) => {
                    refused.insert(key, (effect.digest, None));
                }
                (Op::Get, Outcome::Done) => {
                    if let Some((sent, own)) = refused.get_mut(&key) {
                        // Of an answer that was cut short the rest is asked for: what is read again is a part of it.
                        *own = Some(own.unwrap_or(false) || *sent == effect.digest);
                    }
                }
                _ => {}
            }
        } else if effect.op == Op::Put && effect.outcome == Outcome::Done && object.contains("/commits/") {
            let promise = object.replace("/commits/", "/offsets/");
            if let Some((_, Some(false))) = refused.get(&(effect.life, promise.as_str())) {
                complaints.push(format!("life {} has done {object}, which another had promised", effect.life));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(life: u32, name: &str, op: Op, outcome: Outcome, digest: u64) -> Effect {
        Effect { life, at_us: 0, name: name.to_owned(), op, outcome, digest }
    }

    #[test]
    fn who_was_refused_and_read_something_else_does_not_run_the_batch() {
        let taken = Outcome::Refused(ErrorKind::AlreadyExists);
        for (life, read, complaints) in [(1, 7, 0), (1, 8, 1), (2, 8, 0)] {
            let trace = [
                effect(1, "c/offsets/3 put", Op::Put, taken, 7),
                effect(1, "c/offsets/3 get", Op::Get, Outcome::Done, read),
                effect(life, "c/commits/3 put", Op::Put, Outcome::Done, 1),
            ];
            assert_eq!(taken_over(&trace).len(), complaints, "{trace:?}");
        }
        let rest = [
            effect(0, "c/offsets/4 put", Op::Put, taken, 7),
            effect(0, "c/offsets/4 get", Op::Get, Outcome::Done, 7),
            effect(0, "c/offsets/4 get#2", Op::Get, Outcome::Done, 9),
            effect(0, "c/commits/4 put", Op::Put, Outcome::Done, 1),
        ];
        assert_eq!(taken_over(&rest), Vec::<String>::new(), "the rest of an answer that was cut short");
    }
}
