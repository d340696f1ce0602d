//! Virtual time: a clock that stands still while anything can run and jumps over the time in which nothing does.
//!
//! ```text
//! engine sleeps until t ──► alarm (t, n) ─┐
//! actor: event at t     ──► alarm (t, n) ─┤ ordered by (deadline, order of arrival)
//!                                         ▼
//! the world is idle ──► skip_idle(): now = first deadline, fire what is due ──► tasks run ──► idle again ...
//! ```
//! With [`VirtualClock::hold`] idle time is not skipped: the clock moves by [`VirtualClock::advance_us`] alone, as the
//! StreamTest verb `advance_clock` wants it. [`VirtualClock::step_wall_us`] is the fault "somebody set the wall clock":
//! the wall jumps, the monotonic clock does not.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use wavetank_engine::environment::Clock;

/// When worlds begin unless told otherwise: 2024-01-01T00:00:00Z, in microseconds since 1970.
pub const EPOCH_US: i64 = 1_704_067_200_000_000;

/// A clock driven by the world. Cheap to clone; clones are the same clock.
#[derive(Clone)]
pub struct VirtualClock {
    state: Arc<Mutex<State>>,
}

struct State {
    wall_us: i64,
    monotonic_us: u64,
    /// By deadline on the wall clock, then by arrival, so that equal deadlines fire in a stable order.
    alarms: BTreeMap<(i64, u64), Alarm>,
    arrivals_count: u64,
    held: bool,
}

enum Alarm {
    Wake(Waker),
    Event(Box<dyn FnOnce() + Send>),
}

impl Alarm {
    fn fire(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Event(event) => event(),
        }
    }
}

impl VirtualClock {
    /// A clock that shows `wall_us` (microseconds since 1970) and skips idle time.
    pub fn new(wall_us: i64) -> Self {
        let state = State { wall_us, monotonic_us: 0, alarms: BTreeMap::new(), arrivals_count: 0, held: false };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of the engine under test must not hide behind a poisoned clock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether idle time is left alone (`true`) or skipped (`false`, the default).
    pub fn hold(&self, held: bool) {
        self.state().held = held;
    }

    /// Runs `event` when the wall clock reaches `at_us`: an actor outside the process, which no crash takes away. Nor does
    /// it notice that the wall clock is set in between: it has a clock of its own.
    pub fn at(&self, at_us: i64, event: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let key = state.next_key(at_us);
        state.alarms.insert(key, Alarm::Event(Box::new(event)));
    }

    /// Moves both clocks on by `delta_us` and fires everything that comes due on the way, in order.
    pub fn advance_us(&self, delta_us: u64) {
        let target_us = self.state().wall_us.saturating_add_unsigned(delta_us);
        loop {
            let due = {
                let mut state = self.state();
                let Some(deadline_us) = state.first_deadline().filter(|d| *d <= target_us) else { break };
                state.reach(deadline_us);
                state.take_due()
            };
            due.into_iter().for_each(Alarm::fire);
        }
        self.state().reach(target_us);
    }

    /// Jumps to the first deadline and fires what is due then. `false` when no one waits for any moment, or when the
    /// clock is held.
    pub fn skip_idle(&self) -> bool {
        let due = {
            let mut state = self.state();
            if state.held {
                return false;
            }
            let Some(deadline_us) = state.first_deadline() else { return false };
            state.reach(deadline_us);
            state.take_due()
        };
        due.into_iter().for_each(Alarm::fire);
        true
    }

    /// The fault "the wall clock was set": it jumps by `delta_us`, and the monotonic clock does not notice.
    pub fn step_wall_us(&self, delta_us: i64) {
        let due = {
            let mut state = self.state();
            state.wall_us = state.wall_us.saturating_add(delta_us);
            let alarms = std::mem::take(&mut state.alarms).into_iter().map(|((at_us, n), alarm)| match alarm {
                Alarm::Event(_) => ((at_us.saturating_add(delta_us), n), alarm),
                Alarm::Wake(_) => ((at_us, n), alarm),
            });
            state.alarms = alarms.collect();
            state.take_due()
        };
        due.into_iter().for_each(Alarm::fire);
    }
}

impl State {
    fn next_key(&mut self, deadline_us: i64) -> (i64, u64) {
        self.arrivals_count += 1;
        (deadline_us, self.arrivals_count)
    }

    fn first_deadline(&self) -> Option<i64> {
        self.alarms.keys().next().map(|(deadline_us, _)| *deadline_us)
    }

    /// Lets time pass until `wall_us`; a moment that has passed already changes nothing.
    fn reach(&mut self, wall_us: i64) {
        if wall_us > self.wall_us {
            self.monotonic_us += wall_us.abs_diff(self.wall_us);
            self.wall_us = wall_us;
        }
    }

    fn take_due(&mut self) -> Vec<Alarm> {
        let later = self.alarms.split_off(&(self.wall_us.saturating_add(1), 0));
        std::mem::replace(&mut self.alarms, later).into_values().collect()
    }
}

impl Clock for VirtualClock {
    fn now_us(&self) -> i64 {
        self.state().wall_us
    }

    fn monotonic_us(&self) -> u64 {
        self.state().monotonic_us
    }

    fn sleep_until_us(&self, deadline_us: i64) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { clock: self.clone(), deadline_us, key: None })
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualClock({} us)", self.now_us())
    }
}

struct Sleep {
    clock: VirtualClock,
    deadline_us: i64,
    key: Option<(i64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.wall_us >= self.deadline_us {
            if let Some(key) = self.key.take() {
                state.alarms.remove(&key);
            }
            return Poll::Ready(());
        }
        // A key is kept over polls, so that polling twice does not send the sleeper to the end of the queue.
        let key = self.key.unwrap_or_else(|| state.next_key(self.deadline_us));
        self.key = Some(key);
        state.alarms.insert(key, Alarm::Wake(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.clock.state().alarms.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn idle_time_is_skipped_to_the_first_deadline_and_ties_fire_in_order_of_arrival() {
        let clock = VirtualClock::new(0);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (at_us, name) in [(30, "c"), (10, "a"), (10, "b")] {
            let (seen, clock_then) = (Arc::clone(&seen), clock.clone());
            clock.at(at_us, move || seen.lock().unwrap().push((clock_then.now_us(), name)));
        }
        assert!(clock.skip_idle());
        assert_eq!((clock.now_us(), clock.monotonic_us()), (10, 10));
        assert!(clock.skip_idle());
        assert!(!clock.skip_idle(), "nobody waits any more");
        assert_eq!(*seen.lock().unwrap(), [(10, "a"), (10, "b"), (30, "c")]);
    }

    #[test]
    fn a_held_clock_moves_only_when_told() {
        let clock = VirtualClock::new(0);
        clock.hold(true);
        let mut sleep = clock.sleep_until_us(5);
        assert!((&mut sleep).now_or_never().is_none());
        assert!(!clock.skip_idle());
        clock.advance_us(4);
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance_us(1);
        assert!((&mut sleep).now_or_never().is_some());
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_sleepers_but_not_the_monotonic_clock() {
        let clock = VirtualClock::new(100);
        let mut sleep = clock.sleep_until_us(150);
        assert!((&mut sleep).now_or_never().is_none());
        clock.step_wall_us(-60);
        clock.advance_us(60);
        assert_eq!((clock.now_us(), clock.monotonic_us()), (100, 60));
        assert!((&mut sleep).now_or_never().is_none(), "the wall shows 100: not yet");
        clock.step_wall_us(50);
        assert!((&mut sleep).now_or_never().is_some());
        assert_eq!(clock.monotonic_us(), 60);
    }

    #[test]
    fn actors_outside_do_not_notice_that_the_wall_clock_is_set() {
        let clock = VirtualClock::new(100);
        let seen = Arc::new(Mutex::new(None));
        let (seen_then, clock_then) = (Arc::clone(&seen), clock.clone());
        clock.at(140, move || *seen_then.lock().unwrap() = Some(clock_then.monotonic_us()));
        clock.step_wall_us(-75);
        clock.advance_us(39);
        assert_eq!(*seen.lock().unwrap(), None);
        clock.step_wall_us(1_000);
        clock.advance_us(1);
        assert_eq!(*seen.lock().unwrap(), Some(40));
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let clock = VirtualClock::new(0);
        let mut sleep = clock.sleep_until_us(5);
        assert!((&mut sleep).now_or_never().is_none());
        drop(sleep);
        assert!(!clock.skip_idle());
    }
}
