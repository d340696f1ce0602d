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
    // By life and object: what was sent and refused, and whether something else was read then.
    let mut refused: BTreeMap<(u32, &str), (u64, bool)> = BTreeMap::new();
    for effect in trace {
        let Some((object, _)) = effect.name.split_once(' ') else { continue };
        if object.contains("/offsets/") {
            let key = (effect.life, object);
            match (effect.op, effect.outcome) {
                (Op::Put, Outcome::Refused(ErrorKind::AlreadyExists)) => {
                    refused.insert(key, (effect.digest, false));
                }
                (Op::Get, Outcome::Done) => {
                    if let Some((sent, other)) = refused.get_mut(&key) {
                        *other = *sent != effect.digest;
                    }
                }
                _ => {}
            }
        } else if effect.op == Op::Put && effect.outcome == Outcome::Done && object.contains("/commits/") {
            let promise = object.replace("/commits/", "/offsets/");
            if let Some((_, true)) = refused.get(&(effect.life, promise.as_str())) {
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
    }
}
