//! One request to the store: an effect with its faults and planted bugs, on its way there and back.

use std::fmt;
use std::io;

use object_store::{Error, Result};
use twox_hash::XxHash64;
use wavetank_engine::environment::Clock;

use super::store::Bucket;
use super::{ROOT, Refusal, State};
use crate::effects::{Begun, Op, Outcome};
use crate::fault::Mishap;
use crate::plant::Bug;

const STORE: &str = "SimBlob";

impl Bucket {
    /// A request that answers something and changes nothing.
    pub(super) fn ask<T>(
        &self,
        op: Op,
        key: &str,
        digest: impl FnOnce(&T) -> u64,
        act: impl FnOnce(&mut State, Option<&Begun>) -> Result<T>,
    ) -> Result<T> {
        let Some((effects, life)) = &self.seam else { return act(&mut self.blob.state(), None) };
        let begun = effects.begin(*life, op, &location(key)).map_err(generic)?;
        let answer = match self.mishap(&begun) {
            Some(error) => Err(error),
            None if matches!(begun.mishap, Some(Mishap::Late { .. })) => Err(timed_out()),
            None => {
                let mut state = self.blob.state();
                state.do_deferred();
                act(&mut state, Some(&begun))
            }
        };
        let (outcome, digest) = match &answer {
            Ok(value) => (Outcome::Done, digest(value)),
            Err(error) => (Outcome::Refused(kind(error)), 0),
        };
        effects.end(begun, outcome, digest).map_err(generic)?;
        answer
    }

    /// A request that changes something; the answer is the e-tag of what is there then. Only one that is `conditional`
    /// can conflict.
    pub(super) fn change(
        &self,
        (op, conditional): (Op, bool),
        key: &str,
        digest: u64,
        act: impl Fn(&mut State, i64) -> std::result::Result<u64, Refusal> + Send + 'static,
    ) -> Result<u64> {
        let now_us = self.blob.clock.now_us();
        let refused = |refusal| refused(key, refusal);
        let Some((effects, life)) = &self.seam else {
            return act(&mut self.blob.state(), now_us).map_err(refused);
        };
        let begun = effects.begin(*life, op, &location(key)).map_err(generic)?;
        self.blob.state().sends(op, key);
        // A slow request arrives when it arrives.
        let now_us = self.blob.clock.now_us();
        let answer = match (self.mishap(&begun), &begun.mishap, &begun.bug) {
            (Some(error), ..) => Err(error),
            (None, Some(Mishap::Late { us }), _) => {
                self.send_late(*us, XxHash64::oneshot(digest, key.as_bytes()), act);
                Err(timed_out())
            }
            (None, mishap, bug) => {
                let mut state = self.blob.state();
                let late = std::mem::take(&mut state.deferred);
                let done = match bug {
                    Some(Bug::Skip) => Ok(0),
                    Some(Bug::Late) => {
                        state.deferred.push(Box::new(move |state| {
                            let _ = act(state, now_us);
                        }));
                        Ok(0)
                    }
                    Some(Bug::Twice) => act(&mut state, now_us).inspect(|_| {
                        let _ = act(&mut state, now_us);
                    }),
                    _ => act(&mut state, now_us),
                };
                late.into_iter().for_each(|request| request(&mut state));
                match (done, mishap) {
                    // The store's own machines made it twice.
                    (Ok(_), Some(Mishap::SelfConflict)) if conditional => Err(refused(Refusal::AlreadyExists)),
                    (done, _) => done.map_err(refused),
                }
            }
        };
        // What was sent is noted also when it was refused.
        let outcome = answer.as_ref().map_or_else(|error| Outcome::Refused(kind(error)), |_| Outcome::Done);
        effects.end(begun, outcome, digest).map_err(generic)?;
        answer
    }

    /// The bug that is planted at this request.
    pub(super) fn planted(&self, op: Op, key: &str) -> Option<Bug> {
        self.seam.as_ref().and_then(|(effects, _)| effects.planted(op, &location(key)))
    }

    /// What keeps a request from arriving.
    fn mishap(&self, begun: &Begun) -> Option<Error> {
        let (effects, _) = self.seam.as_ref()?;
        if effects.is_busy() {
            return Some(Error::Generic { store: STORE, source: "injected: 503 slow down".into() });
        }
        begun.injected.map(|injected| {
            let error = io::Error::from(injected);
            match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    Error::PermissionDenied { path: begun.name().to_owned(), source: Box::new(error) }
                }
                _ => Error::Generic { store: STORE, source: Box::new(error) },
            }
        })
    }

    /// The request is under way and does not care any more who sent it.
    fn send_late(
        &self,
        us: u64,
        digest: u64,
        act: impl Fn(&mut State, i64) -> std::result::Result<u64, Refusal> + Send + 'static,
    ) {
        let mut state = self.blob.state();
        state.sent_count += 1;
        let number = state.sent_count;
        state.under_way.insert(number, digest);
        drop(state);
        let (blob, clock) = (self.blob.clone(), self.blob.clock.clone());
        clock.clone().at(clock.now_us().saturating_add_unsigned(us), move || {
            let mut state = blob.state();
            state.sent_count += 1;
            state.under_way.remove(&number);
            let _ = act(&mut state, clock.now_us()); // nobody waits for the answer
        });
    }
}

/// The location of a key, as effects are named.
fn location(key: &str) -> String {
    format!("{ROOT}/{key}")
}

fn generic(error: io::Error) -> Error {
    Error::Generic { store: STORE, source: Box::new(error) }
}

fn timed_out() -> Error {
    generic(io::Error::new(io::ErrorKind::TimedOut, "injected: the request timed out"))
}

pub(super) fn refused(key: &str, refusal: Refusal) -> Error {
    #[derive(Debug)]
    struct Refused(Refusal);
    impl fmt::Display for Refused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(match self.0 {
                Refusal::NotFound => "404 no such key",
                Refusal::AlreadyExists => "412 precondition failed",
            })
        }
    }
    impl std::error::Error for Refused {}
    let (path, source) = (key.to_owned(), Box::new(Refused(refusal)));
    match refusal {
        Refusal::NotFound => Error::NotFound { path, source },
        Refusal::AlreadyExists => Error::AlreadyExists { path, source },
    }
}

/// How the trace calls an error.
fn kind(error: &Error) -> io::ErrorKind {
    match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } => io::ErrorKind::PermissionDenied,
        Error::Generic { source, .. } => {
            source.downcast_ref::<io::Error>().map_or(io::ErrorKind::ResourceBusy, io::Error::kind)
        }
        _ => io::ErrorKind::InvalidInput,
    }
}
