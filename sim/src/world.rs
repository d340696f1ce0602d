//! One seed's world: a clock, a machine with a disk, and the lives of a process that runs on it.
//!
//! ```text
//! World::new(seed) ─► run(|environment| engine ...) ─► Ended::Finished(value)
//!                          │                          Ended::Died(crash at an effect | runaway)
//!                          │                          Ended::Stuck | Ended::OutOfTime
//!                          ▼
//!            a current-thread tokio runtime of its own, without tokio's time, I/O or blocking threads;
//!            when it has nothing to run, the virtual clock jumps to the next moment anyone waits for
//! World::crash(image) ─► World::reboot() ─► run(...) again: the next life, on what the disk kept
//! ```
//! A life ends with its runtime: every task of it is dropped, as a kill drops it, and no handle of it can perform an
//! effect any more. Absent from here: what to run, which faults, and what must be true afterwards.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::{Builder, Runtime};
use wavetank_engine::environment::{Clock, Entropy, Environment};
use wavetank_engine::storage::{LocalStorage, Posix};

use crate::blob::{self, Bucket, SimBlob};
use crate::clock::{EPOCH_US, VirtualClock};
use crate::disk::{CrashImage, SimDisk, SimPosix};
use crate::effects::{Death, Effects};

/// Where a world's relative paths start.
pub const HOME: &str = "/world";

/// The simulated world that grows from one seed.
pub struct World {
    entropy: Entropy,
    clock: VirtualClock,
    effects: Effects,
    disk: SimDisk,
    blob: SimBlob,
    /// A life may last this long, in virtual microseconds.
    patience_us: u64,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// The future gave this answer.
    Finished(T),
    /// The process is dead.
    Died(Death),
    /// Nothing could run, and nobody waited for any moment.
    Stuck,
    /// It still ran when the life's time was over.
    OutOfTime,
}

impl<T> Ended<T> {
    /// The answer of a life that finished.
    pub fn finished(self) -> Option<T> {
        match self {
            Self::Finished(value) => Some(value),
            _ => None,
        }
    }
}

/// A day: far longer than any scenario, so that only what never ends runs out of it.
const PATIENCE_US: u64 = 86_400_000_000;
/// How long a machine takes to come up again.
pub(crate) const REBOOT_US: u64 = 1_234_567;
/// More effects than any scenario needs in one life.
pub(crate) const LIFE_EFFECTS_LIMIT: u64 = 50_000;

impl World {
    /// The world of this seed, at the epoch, with an empty disk and no faults.
    pub fn new(seed: u64) -> Self {
        let clock = VirtualClock::new(EPOCH_US);
        let effects = Effects::new(clock.clone());
        effects.limit(LIFE_EFFECTS_LIMIT);
        effects.name_root(HOME, "");
        let disk = SimDisk::new(clock.clone());
        let outside = disk.outside();
        outside.mkdir(HOME.as_ref()).expect("an empty disk has room for a directory");
        disk.sync_all();
        let blob = SimBlob::new(clock.clone());
        Self { entropy: Entropy::from_seed(seed), clock, effects, disk, blob, patience_us: PATIENCE_US }
    }

    /// The clock of this world.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// The seam through which every effect of this world goes.
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// The disk of this world's machine.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The object store of this world.
    pub fn blob(&self) -> &SimBlob {
        &self.blob
    }

    /// The random streams of this world.
    pub fn entropy(&self) -> Entropy {
        self.entropy
    }

    /// How long a life may last before it is [`Ended::OutOfTime`], in virtual microseconds.
    pub fn set_patience_us(&mut self, patience_us: u64) {
        self.patience_us = patience_us;
    }

    /// What the running life of the process is given to live in.
    pub fn environment(&self) -> Environment {
        let life = self.effects.life();
        self.environment_over(self.disk.process(&self.effects, life), self.blob.process(&self.effects, life), life)
    }

    /// The world as somebody outside the process sees it: no effect, no fault, no trace.
    pub fn outside(&self) -> Environment {
        self.environment_over(self.disk.outside(), self.blob.outside(), u32::MAX)
    }

    fn environment_over(&self, posix: SimPosix, bucket: Bucket, life: u32) -> Environment {
        // Each start of a real process draws new randomness; so does each life.
        let entropy = self.entropy.fork("process").fork(&life.to_string());
        let clock = Arc::new(self.clock.clone());
        let storage = LocalStorage::new(Arc::new(posix), HOME, u64::from(life)).with_clock(clock.clone());
        let storage = storage.with_store(blob::ROOT, Arc::new(bucket));
        Environment { clock, storage: Arc::new(storage), entropy }
    }

    /// Runs one life of the process, until the future is done, the process dies, or nothing happens any more. Tasks
    /// that the future spawned and left behind are dropped.
    pub fn run<F: Future>(&self, life: impl FnOnce(Environment) -> F) -> Ended<F::Output> {
        let environment = self.environment();
        let pulse = Arc::new(Pulse::default());
        let runtime = runtime(&self.clock, &pulse);
        self.effects.on_death(Waker::from(Arc::clone(&pulse)));
        let deadline_us = self.clock.now_us().saturating_add_unsigned(self.patience_us);
        let clock = self.clock.clone();
        let ended = runtime.block_on(async {
            let mut future = pin!(life(environment));
            poll_fn(|context| {
                pulse.listen(context.waker());
                if let Some(death) = self.effects.death() {
                    return Poll::Ready(Ended::Died(death));
                }
                if clock.now_us() > deadline_us {
                    return Poll::Ready(Ended::OutOfTime);
                }
                if pulse.ready.swap(false, Ordering::Relaxed) {
                    let waker = Waker::from(Arc::clone(&pulse));
                    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        // An engine that swallows the error of a dying effect is dead all the same.
                        let death = self.effects.death();
                        return Poll::Ready(death.map_or(Ended::Finished(value), Ended::Died));
                    }
                }
                if pulse.stuck.load(Ordering::Relaxed) {
                    return Poll::Ready(self.effects.death().map_or(Ended::Stuck, Ended::Died));
                }
                Poll::Pending
            })
            .await
        });
        drop(runtime);
        pulse.forget();
        assert!(
            !pulse.thread_started.load(Ordering::Relaxed),
            "something opened a thread (spawn_blocking?): what a thread does cannot be replayed"
        );
        ended
    }

    /// The process dies now, and unless the image is [`CrashImage::Kill`] the power fails with it.
    pub fn crash(&self, image: CrashImage) {
        self.effects.kill(Death::Crash { at: "the moment of the crash".to_owned(), image });
        self.disk.crash(image, self.crash_entropy());
        self.blob.forget_deferred();
    }

    /// A digest of what the disk and the object store would hold after [`World::crash`] with this image.
    pub fn digest_after(&self, image: CrashImage) -> u64 {
        self.disk.digest_after(image, self.crash_entropy()) ^ self.blob.digest()
    }

    fn crash_entropy(&self) -> Entropy {
        self.entropy.fork("crash").fork(&self.effects.life().to_string())
    }

    /// Begins the next life, on what the last one left: a restart, or after [`World::crash`] a recovery.
    pub fn reboot(&self) -> u32 {
        self.do_deferred();
        // Whatever held a lock is gone, gracefully or not.
        self.disk.crash(CrashImage::Kill, self.entropy);
        // It takes a while to come up again: a life that asks the clock for what it should know is found.
        self.clock.advance_us(REBOOT_US);
        self.effects.next_life()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({:?}, {:?}, {:?})", self.clock, self.effects, self.disk)
    }
}

fn runtime(clock: &VirtualClock, pulse: &Arc<Pulse>) -> Runtime {
    let (clock, idle_pulse, thread_pulse) = (clock.clone(), Arc::clone(pulse), Arc::clone(pulse));
    Builder::new_current_thread()
        .max_blocking_threads(1)
        .on_thread_park(move || {
            // tokio has no task to run. If the main future has something to do, time stands still for it.
            if !idle_pulse.ready.load(Ordering::Relaxed) {
                if !clock.skip_idle() {
                    idle_pulse.stuck.store(true, Ordering::Relaxed);
                }
                idle_pulse.nudge();
            }
        })
        .on_thread_start(move || thread_pulse.thread_started.store(true, Ordering::Relaxed))
        .build()
        .expect("a runtime without drivers needs nothing from the machine")
}

/// The waker of the main future, which also remembers whether it was woken: tokio parks with a woken main future, and
/// time must not pass then.
struct Pulse {
    ready: AtomicBool,
    stuck: AtomicBool,
    thread_started: AtomicBool,
    runtime: Mutex<Option<Waker>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { ready: true.into(), stuck: false.into(), thread_started: false.into(), runtime: Mutex::default() }
    }
}

impl Pulse {
    fn listen(&self, waker: &Waker) {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if !runtime.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *runtime = Some(waker.clone());
        }
    }

    /// The life is over. The runtime holds this through its hooks, and this the runtime through its waker: without an end
    /// to that, neither would ever go.
    fn forget(&self) {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Makes tokio poll again, without telling the main future that it was woken.
    fn nudge(&self) {
        let waker = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for Pulse {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::Relaxed);
        self.nudge();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wavetank_engine::storage::contract;

    use super::*;
    use crate::fault::{Fault, Harm};

    async fn put(environment: &Environment, name: &str, bytes: &'static [u8]) -> wavetank_engine::error::Result<()> {
        environment.storage.folder("log")?.put(name, Bytes::from_static(bytes)).await
    }

    #[test]
    fn the_simulated_storage_keeps_the_contract_of_storages() {
        let world = World::new(1);
        let ended = world.run(|environment| async move {
            contract::check_storage(environment.storage.as_ref(), "storage").await;
        });
        assert_eq!(ended, Ended::Finished(()));
    }

    #[test]
    fn idle_hours_pass_at_once_and_sleepers_meet_in_order() {
        let world = World::new(1);
        let begun = std::time::Instant::now();
        let clock = world.clock().clone();
        let ended = world.run(|environment| async move {
            let (first, second) = (environment.clock.now_us(), environment.clock.clone());
            let late = tokio::spawn(async move {
                second.sleep_until_us(first + 7_200_000_000).await;
                second.now_us() - first
            });
            environment.clock.sleep_until_us(first + 3_600_000_000).await;
            let hour_us = environment.clock.now_us() - first;
            (hour_us, late.await.expect("the task ends"))
        });
        assert_eq!(ended, Ended::Finished((3_600_000_000, 7_200_000_000)));
        assert_eq!(clock.monotonic_us(), 7_200_000_000);
        assert!(begun.elapsed().as_secs() < 5);
    }

    #[test]
    fn waiting_for_nothing_is_stuck_and_waiting_for_ever_is_out_of_time() {
        let world = World::new(1);
        assert_eq!(world.run(|_| std::future::pending::<()>()), Ended::Stuck);
        let ended: Ended<()> = world.run(|environment| async move {
            loop {
                environment.clock.sleep_until_us(environment.clock.now_us() + 10_000_000).await;
            }
        });
        assert_eq!(ended, Ended::OutOfTime);
    }

    #[test]
    fn events_of_the_world_reach_a_process_that_sleeps() {
        let world = World::new(1);
        let disk = world.disk().outside();
        world.clock().at(EPOCH_US + 500, move || disk.write("/world/dropped".as_ref(), b"x").expect("room"));
        let ended = world.run(|environment| async move {
            environment.clock.sleep_until_us(EPOCH_US + 499).await;
            let home = environment.storage.folder(".").expect("home");
            let before = home.list().await.expect("listed").len();
            environment.clock.sleep_until_us(EPOCH_US + 501).await;
            (before, home.list().await.expect("listed").len())
        });
        assert_eq!(ended, Ended::Finished((0, 1)));
    }

    /// A world in whose first life "a" was put; "b" is being put in the second, with these faults.
    fn two_lives(faults: &[Fault]) -> (World, Ended<bool>) {
        let world = World::new(1);
        world.effects().arm(faults.iter().cloned());
        let first = world.run(|environment| async move { put(&environment, "a", b"a").await.is_ok() });
        assert_eq!(first, Ended::Finished(true));
        world.reboot();
        let second = world.run(|environment| async move { put(&environment, "b", b"b").await.is_ok() });
        (world, second)
    }

    #[test]
    fn a_put_that_was_acknowledged_survives_every_crash_at_every_effect() {
        let (world, _) = two_lives(&[]);
        let names: Vec<_> = world.effects().take_trace().into_iter().filter(|effect| effect.life == 1).collect();
        assert!(names.len() > 5, "{names:?}");
        for image in CrashImage::ALL {
            for effect in &names {
                for harm in [Harm::CrashBefore { image }, Harm::CrashAfter { image }] {
                    let (world, died) = two_lives(&[Fault { life: 1, at: effect.name.clone(), harm }]);
                    assert!(matches!(died, Ended::Died(_)), "{died:?} at {effect}");
                    world.crash(image);
                    world.reboot();
                    let found = world.run(|environment| async move {
                        let log = environment.storage.folder("log").expect("folder");
                        (log.get("a").await.expect("read"), log.get("b").await.expect("read"))
                    });
                    let (a, b) = found.finished().expect("finished");
                    assert_eq!(a.as_deref(), Some(b"a".as_slice()), "{image} at {effect}");
                    assert!(b.is_none_or(|b| b == b"b".as_slice()), "{image} at {effect}");
                }
            }
        }
    }

    #[test]
    fn a_crash_drops_what_the_life_spawned() {
        let world = World::new(1);
        world.effects().arm([Fault {
            life: 0,
            at: "log/a.tmp write".into(),
            harm: Harm::CrashAfter { image: CrashImage::Kill },
        }]);
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let ended: Ended<()> = world.run(|environment| async move {
            tokio::spawn(async move {
                let _held = held;
                let _ = put(&environment, "a", b"a").await;
                std::future::pending::<()>().await;
            });
            std::future::pending().await
        });
        assert!(matches!(ended, Ended::Died(Death::Crash { .. })), "{ended:?}");
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// Each life left its runtime behind: a campaign of 100,000 seeds needed a gigabyte.
    #[test]
    fn a_world_that_is_dropped_leaves_nothing_behind() {
        let world = World::new(1);
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        world.clock().at(EPOCH_US + 1_000_000_000, move || drop(held));
        for _ in 0..2 {
            let ended = world.run(|environment| async move { put(&environment, "a", b"a").await.is_ok() });
            assert_eq!(ended, Ended::Finished(true));
            world.reboot();
        }
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(world);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    #[should_panic(expected = "opened a thread")]
    fn a_thread_in_the_simulation_is_found() {
        let world = World::new(1);
        let _ = world.run(|_| async { tokio::task::spawn_blocking(|| ()).await.is_ok() });
    }
}
