//! Planted bugs: places of the engine that go wrong when a test of the simulator asks for it by name.
//!
//! Only builds with the feature `planted-bugs` have them: the simulator's own tests turn it on. In every other build
//! `planted` is a constant `false`, and what hangs on it is not compiled into anything. A bug is planted in one thread,
//! because a simulated world lives in one thread and others run beside it. `wavetank-sim` lists the names and what
//! each stands for (`sim/src/bugs.rs`).

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Plants the bug of this name in this thread, in the place of the one before (`""` for none); whether this build can.
pub fn plant(name: &'static str) -> bool {
    #[cfg(feature = "planted-bugs")]
    PLANTED.set(name);
    cfg!(feature = "planted-bugs") || name.is_empty()
}

/// Whether the bug of this name is planted in this thread.
#[cfg(feature = "planted-bugs")]
pub fn planted(name: &str) -> bool {
    PLANTED.get() == name
}

/// Whether the bug of this name is planted in this thread: this build has none.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn planted(_name: &str) -> bool {
    false
}
