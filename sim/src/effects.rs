//! The one numbered seam: every effect has a stable name, a line in the trace, and perhaps a fault bound to that name.
//!
//! ```text
//! SimPosix / SimBlob ──► Effects::perform(life, op, path, act)
//!                          name  = path below its root + op + #occurrence in this life  ("offsets/3 rename")
//!                          fault = the one bound to (life, name), if any
//!                          crash before? ─► the process dies, act is not called
//!                          act(injected error or none)
//!                          crash after?  ─► the process dies, the reply is lost
//!                          trace += (time, name, outcome, digest of what was written or read)
//! ```
//! A dead process performs nothing: each later call of that life fails and leaves no trace, until the world reboots.
//! Names, never positions, carry the faults: taking one fault away does not shift the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use twox_hash::XxHash64;
use wavetank_engine::environment::Clock;

use crate::clock::VirtualClock;
use crate::disk::CrashImage;
use crate::fault::{Fault, Harm, Mishap};
use crate::names::stable;
use crate::plant::{Bug, Plant};

pub use crate::names::{Op, kind_of};

/// What an effect answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, by itself or by a fault.
    Refused(io::ErrorKind),
    /// The process died before it.
    DiedBefore,
    /// The process died after it.
    DiedAfter,
}

/// A line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The life of the process, from 0.
    pub life: u32,
    /// Virtual wall clock, microseconds since 1970.
    pub at_us: i64,
    /// The stable name, for example `offsets/3 rename`.
    pub name: String,
    /// What was done.
    pub op: Op,
    /// How it ended.
    pub outcome: Outcome,
    /// A digest of the bytes or names written or read.
    pub digest: u64,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:?} {:016x}", self.life, self.at_us, self.name, self.outcome, self.digest)
    }
}

/// Why a process is no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// A fault of the scenario killed it at this effect.
    Crash {
        /// The name of the effect.
        at: String,
        /// What the fault says a rebooted machine finds.
        image: CrashImage,
    },
    /// It performed more effects than a life may: it does not get anywhere.
    Runaway {
        /// How many effects it performed.
        effects_count: u64,
    },
}

/// The seam of one world. Cheap to clone; clones are the same seam.
#[derive(Clone)]
pub struct Effects {
    clock: VirtualClock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Path prefix -> label, longest prefix first.
    roots: Vec<(String, String)>,
    faults: BTreeMap<(u32, String), Vec<Harm>>,
    /// Planted bugs, by kind of effect.
    plants: BTreeMap<String, Bug>,
    fired: BTreeSet<(u32, String)>,
    life: u32,
    death: Option<Death>,
    counts: BTreeMap<String, u32>,
    life_effects_count: u64,
    life_effects_limit: Option<u64>,
    trace: Vec<Effect>,
    /// How many requests to the object store are still refused.
    busy_count: u32,
    waker: Option<Waker>,
    probe: Option<Probe>,
    /// For planted bugs: what is done after the next effect of a kind.
    held: Vec<(String, Held)>,
}

/// An effect that a planted bug holds back.
type Held = Box<dyn FnOnce() + Send>;

/// Called before (`true`) and after (`false`) each effect of a process that lives, with the effect's name.
pub type Probe = Arc<dyn Fn(u32, &str, bool) + Send + Sync>;

impl Effects {
    /// A seam without faults, in life 0.
    pub fn new(clock: VirtualClock) -> Self {
        Self { clock, inner: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Paths below `prefix` are named from there, behind `label` (`""` for none, as for the checkpoint).
    pub fn name_root(&self, prefix: &str, label: &str) {
        let mut inner = self.inner();
        inner.roots.push((prefix.trim_end_matches('/').to_owned(), label.to_owned()));
        inner.roots.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    }

    /// Binds faults to the names they carry, in addition to those that are bound.
    pub fn arm(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut inner = self.inner();
        for fault in faults {
            let name = fault.at.strip_suffix("#1").unwrap_or(&fault.at).to_owned();
            inner.faults.entry((fault.life, name)).or_default().push(fault.harm);
        }
    }

    /// Plants bugs at kinds of effects; one bug per kind.
    pub fn plant(&self, plants: impl IntoIterator<Item = Plant>) {
        let of_effects = plants.into_iter().filter(|plant| plant.bug != Bug::Engine);
        self.inner().plants.extend(of_effects.map(|plant| (plant.kind, plant.bug)));
    }

    /// The bug that is planted at this effect, if any.
    pub fn planted(&self, op: Op, path: &str) -> Option<Bug> {
        let inner = self.inner();
        if inner.plants.is_empty() {
            return None;
        }
        inner.plants.get(&kind_of(&format!("{} {}", inner.subject(path), op.as_str()))).cloned()
    }

    /// For planted bugs: has something done after the next effect of this kind, unless the process dies before it.
    pub(crate) fn hold(&self, until: &str, act: Held) {
        self.inner().held.push((until.to_owned(), act));
    }

    /// The process ends in peace: what planted bugs hold back is done.
    pub(crate) fn do_held(&self) {
        let held = std::mem::take(&mut self.inner().held);
        held.into_iter().for_each(|(_, act)| act());
    }

    /// A life ends as a runaway after this many effects.
    pub fn limit(&self, life_effects_limit: u64) {
        self.inner().life_effects_limit = Some(life_effects_limit);
    }

    /// Which (life, effect name) with faults were reached.
    pub fn fired(&self) -> BTreeSet<(u32, String)> {
        self.inner().fired.clone()
    }

    /// The life that is running, from 0.
    pub fn life(&self) -> u32 {
        self.inner().life
    }

    /// Begins the next life: names count from 1 again, effects are performed again.
    pub fn next_life(&self) -> u32 {
        let mut inner = self.inner();
        inner.life += 1;
        inner.death = None;
        inner.counts.clear();
        inner.held.clear();
        inner.life_effects_count = 0;
        inner.busy_count = 0;
        inner.life
    }

    /// Calls `probe` before and after each effect, or nobody any more.
    pub fn set_probe(&self, probe: Option<Probe>) {
        self.inner().probe = probe;
    }

    /// Why the running life ended, if it did.
    pub fn death(&self) -> Option<Death> {
        self.inner().death.clone()
    }

    /// Ends the running life from outside, as a kill at this moment does.
    pub fn kill(&self, death: Death) {
        self.inner().die(death);
    }

    /// Who is told when the process dies.
    pub(crate) fn on_death(&self, waker: Waker) {
        self.inner().waker = Some(waker);
    }

    /// The trace so far.
    pub fn trace(&self) -> Vec<Effect> {
        self.inner().trace.clone()
    }

    /// Takes the trace out.
    pub fn take_trace(&self) -> Vec<Effect> {
        std::mem::take(&mut self.inner().trace)
    }

    /// One number for the whole trace.
    pub fn trace_digest(&self) -> u64 {
        self.inner().trace.iter().fold(0, |hash, effect| XxHash64::oneshot(hash, effect.to_string().as_bytes()))
    }

    /// Performs an effect of `life`: calls `act` with what it must mind: an error that a fault injects ([`Begun::check`];
    /// `act` decides what such an error leaves behind, and must then answer with an error), or a planted bug.
    pub fn perform<T>(
        &self,
        life: u32,
        op: Op,
        path: &str,
        digest: impl FnOnce(&T) -> u64,
        act: impl FnOnce(&Begun) -> io::Result<T>,
    ) -> io::Result<T> {
        let begun = self.begin(life, op, path)?;
        let result = act(&begun);
        let (outcome, digest) = match &result {
            Ok(value) => (Outcome::Done, digest(value)),
            Err(error) => (Outcome::Refused(error.kind()), 0),
        };
        self.end(begun, outcome, digest)?;
        result
    }

    /// The first half of [`Effects::perform`], for effects that wait: fails when the process is dead or dies here.
    pub fn begin(&self, life: u32, op: Op, path: &str) -> io::Result<Begun> {
        let mut inner = self.inner();
        inner.check_alive(life)?;
        let name = inner.name(op, path);
        let key = (life, name);
        let harms = inner.faults.get(&key).cloned().unwrap_or_default();
        if !harms.is_empty() {
            inner.fired.insert(key.clone());
        }
        let bug = if inner.plants.is_empty() { None } else { inner.plants.get(&kind_of(&key.1)).cloned() };
        let mut begun = Begun { life, op, name: key.1, injected: None, mishap: None, after: None, bug };
        if let Some(probe) = inner.probe.clone() {
            drop(inner);
            probe(life, &begun.name, true);
            inner = self.inner();
        }
        let at_us = self.clock.now_us();
        let mut passes_us = 0;
        let mut steps_us = 0;
        for harm in harms {
            match harm {
                Harm::CrashBefore { image } => {
                    inner.record(begun.effect(at_us, Outcome::DiedBefore, 0));
                    inner.die(Death::Crash { at: begun.name.clone(), image });
                    return Err(dead(&inner.death));
                }
                Harm::CrashAfter { .. } | Harm::LostReply => begun.after = Some(harm),
                Harm::NoSpace => begun.injected = Some(Injected::NoSpace),
                Harm::Eio => begun.injected = Some(Injected::Eio),
                Harm::Denied => begun.injected = Some(Injected::Denied),
                Harm::Slow { us } => passes_us += us,
                Harm::StepWall { us } => steps_us += us,
                Harm::Busy { times } => inner.busy_count = inner.busy_count.max(times),
                Harm::Late { us } => begun.mishap = Some(Mishap::Late { us }),
                Harm::Cut { bytes, quietly } => begun.mishap = Some(Mishap::Cut { bytes, quietly }),
                Harm::SelfConflict => begun.mishap = Some(Mishap::SelfConflict),
            }
        }
        drop(inner); // alarms that fire now may look at the seam
        if steps_us != 0 {
            self.clock.step_wall_us(steps_us);
        }
        if passes_us != 0 {
            self.clock.advance_us(passes_us);
        }
        Ok(begun)
    }

    /// Whether the object store is too busy for the request that has begun.
    pub(crate) fn is_busy(&self) -> bool {
        let mut inner = self.inner();
        let busy = inner.busy_count > 0;
        inner.busy_count = inner.busy_count.saturating_sub(1);
        busy
    }

    /// The second half of [`Effects::perform`]: writes the trace; fails when the caller must not learn of the effect.
    pub fn end(&self, begun: Begun, outcome: Outcome, digest: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check_alive(begun.life)?;
        if let Some(probe) = inner.probe.clone() {
            drop(inner);
            probe(begun.life, &begun.name, false);
            inner = self.inner();
        }
        let at_us = self.clock.now_us();
        match &begun.after {
            Some(Harm::CrashAfter { image }) => {
                inner.record(begun.effect(at_us, Outcome::DiedAfter, digest));
                inner.die(Death::Crash { at: begun.name.clone(), image: *image });
                Err(dead(&inner.death))
            }
            Some(Harm::LostReply) if outcome == Outcome::Done => {
                inner.record(begun.effect(at_us, Outcome::Refused(io::ErrorKind::TimedOut), digest));
                Err(io::Error::new(io::ErrorKind::TimedOut, "the reply was lost"))
            }
            _ => {
                inner.record(begun.effect(at_us, outcome, digest));
                let due = inner.due(&begun.name);
                drop(inner);
                due.into_iter().for_each(|(_, act)| act());
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner();
        write!(f, "Effects(life {}, {} effects)", inner.life, inner.trace.len())
    }
}

/// An error that a fault puts in the place of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// See [`Harm::NoSpace`].
    NoSpace,
    /// See [`Harm::Eio`].
    Eio,
    /// See [`Harm::Denied`].
    Denied,
}

impl From<Injected> for io::Error {
    fn from(injected: Injected) -> Self {
        match injected {
            Injected::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "injected: no space left on device"),
            Injected::Eio => io::Error::other("injected: input/output error"),
            Injected::Denied => io::Error::new(io::ErrorKind::PermissionDenied, "injected: permission denied"),
        }
    }
}

/// An effect between its beginning and its end.
#[derive(Debug)]
pub struct Begun {
    life: u32,
    op: Op,
    name: String,
    /// The error to give instead of doing it.
    pub injected: Option<Injected>,
    /// What goes wrong with it if it is a request to the object store.
    pub mishap: Option<Mishap>,
    /// A bug that is planted at it.
    pub bug: Option<Bug>,
    after: Option<Harm>,
}

impl Begun {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The injected error, if there is one, for effects that it prevents altogether.
    pub fn check(&self) -> io::Result<()> {
        self.injected.map_or(Ok(()), |injected| Err(injected.into()))
    }

    fn effect(&self, at_us: i64, outcome: Outcome, digest: u64) -> Effect {
        Effect { life: self.life, at_us, name: self.name.clone(), op: self.op, outcome, digest }
    }
}

impl Inner {
    fn check_alive(&mut self, life: u32) -> io::Result<()> {
        if life != self.life {
            return Err(io::Error::other(format!("life {life} of the process is over; life {} runs", self.life)));
        }
        if self.death.is_some() {
            return Err(dead(&self.death));
        }
        if self.life_effects_limit.is_some_and(|limit| self.life_effects_count >= limit) {
            self.die(Death::Runaway { effects_count: self.life_effects_count });
            return Err(dead(&self.death));
        }
        Ok(())
    }

    fn die(&mut self, death: Death) {
        if self.death.is_none() {
            self.death = Some(death);
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// What planted bugs held back until an effect of this name's kind.
    fn due(&mut self, name: &str) -> Vec<(String, Held)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let kind = kind_of(name);
        let (due, rest) = std::mem::take(&mut self.held).into_iter().partition(|(until, _)| *until == kind);
        self.held = rest;
        due
    }

    fn record(&mut self, effect: Effect) {
        self.life_effects_count += 1;
        self.trace.push(effect);
    }

    fn name(&mut self, op: Op, path: &str) -> String {
        let mut name = self.subject(path);
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(op.as_str());
        if let Some(count) = self.counts.get_mut(&name) {
            *count += 1;
            let count = *count;
            return format!("{name}#{count}");
        }
        self.counts.insert(name.clone(), 1);
        name
    }

    fn subject(&self, path: &str) -> String {
        for (prefix, label) in &self.roots {
            if let Some(below) = path.strip_prefix(prefix.as_str())
                && (below.is_empty() || below.starts_with('/'))
            {
                let below = below.trim_start_matches('/');
                let slash = if label.is_empty() || below.is_empty() { "" } else { "/" };
                return stable(&format!("{label}{slash}{below}"));
            }
        }
        stable(path.trim_start_matches('/'))
    }
}

fn dead(death: &Option<Death>) -> io::Error {
    io::Error::other(match death {
        Some(Death::Crash { at, .. }) => format!("the process died at {at}"),
        Some(Death::Runaway { effects_count }) => format!("the process did not stop after {effects_count} effects"),
        None => "the process is dead".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seam() -> Effects {
        let effects = Effects::new(VirtualClock::new(0));
        effects.name_root("/w/checkpoint", "");
        effects.name_root("/w/out", "sink");
        effects
    }

    fn do_it(effects: &Effects, life: u32, op: Op, path: &str) -> io::Result<bool> {
        effects.perform(life, op, path, |_| 1, |begun| begun.check().map(|()| true))
    }

    fn names(effects: &Effects) -> Vec<String> {
        effects.trace().into_iter().map(|effect| effect.name).collect()
    }

    #[test]
    fn names_come_from_the_path_below_its_root_and_count_their_occurrences() {
        let effects = seam();
        for (op, path) in [
            (Op::Rename, "/w/checkpoint/offsets/3"),
            (Op::Rename, "/w/checkpoint/offsets/3"),
            (Op::Write, "/w/out/part-0-6ba7b810-9dad-11d1-80b4-00c04fd430c8.json"),
            (Op::Mkdir, "/w/out"),
            (Op::Read, "/w/outside/file"),
            (Op::Write, "/w/checkpoint/offsets/.wt-tmp-1f-0-3"),
        ] {
            do_it(&effects, 0, op, path).unwrap();
        }
        let expected = [
            "offsets/3 rename",
            "offsets/3 rename#2",
            "sink/part-0-*.json write",
            "sink mkdir",
            "w/outside/file read",
            "offsets/3.tmp write",
        ];
        assert_eq!(names(&effects), expected);
    }

    #[test]
    fn a_crash_before_or_after_kills_the_life_and_the_next_life_counts_anew() {
        for (harm, done) in [
            (Harm::CrashBefore { image: CrashImage::Strict }, false),
            (Harm::CrashAfter { image: CrashImage::Strict }, true),
        ] {
            let effects = seam();
            effects.arm([Fault { life: 0, at: "offsets/0 rename#1".into(), harm }]);
            let mut was_done = false;
            let answer = effects.perform(
                0,
                Op::Rename,
                "/w/checkpoint/offsets/0",
                |()| 0,
                |_| {
                    was_done = true;
                    Ok(())
                },
            );
            assert!(answer.is_err());
            assert_eq!(was_done, done);
            assert!(do_it(&effects, 0, Op::Read, "/w/checkpoint/offsets/0").is_err(), "the dead do nothing");
            assert_eq!(names(&effects), ["offsets/0 rename"]);
            assert_eq!(effects.next_life(), 1);
            assert!(do_it(&effects, 0, Op::Read, "/w/checkpoint/x").is_err(), "a handle of the old life stays dead");
            assert!(do_it(&effects, 1, Op::Rename, "/w/checkpoint/offsets/0").is_ok());
            assert_eq!(names(&effects), ["offsets/0 rename", "offsets/0 rename"]);
        }
    }

    #[test]
    fn errors_and_lost_replies_hit_the_named_occurrence_only() {
        let effects = seam();
        effects.arm([
            Fault { life: 0, at: "a write#2".into(), harm: Harm::NoSpace },
            Fault { life: 0, at: "b write".into(), harm: Harm::LostReply },
        ]);
        assert!(do_it(&effects, 0, Op::Write, "/w/checkpoint/a").is_ok());
        let full = do_it(&effects, 0, Op::Write, "/w/checkpoint/a").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(do_it(&effects, 0, Op::Write, "/w/checkpoint/a").is_ok());
        let lost = do_it(&effects, 0, Op::Write, "/w/checkpoint/b").unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::TimedOut);
        assert_eq!(effects.fired().len(), 2);
    }

    #[test]
    fn a_life_that_does_not_end_is_a_runaway() {
        let effects = seam();
        effects.limit(3);
        let done = (0..10).filter(|_| do_it(&effects, 0, Op::Stat, "/w/checkpoint/a").is_ok()).count();
        assert_eq!(done, 3);
        assert_eq!(effects.death(), Some(Death::Runaway { effects_count: 3 }));
    }

    #[test]
    fn a_slow_effect_takes_virtual_time() {
        let effects = seam();
        effects.arm([Fault { life: 0, at: "a write".into(), harm: Harm::Slow { us: 7 } }]);
        do_it(&effects, 0, Op::Write, "/w/checkpoint/a").unwrap();
        assert_eq!(effects.trace()[0].at_us, 7);
    }
}
