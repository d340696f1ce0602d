//! Everything that is not deterministic, as one argument: clock, storage, entropy.
//!
//! The engine that users run and the engine that is simulated differ only in the [`Environment`] they are given.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::clock::SystemClock;
use crate::storage::{LocalStorage, RealPosix, Storage};

/// What a query is given to live in.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where durable bytes go and come from.
    pub storage: Arc<dyn Storage>,
    /// Where random values (ids, file names, seeds of `rand()`) come from.
    pub entropy: Entropy,
}

impl Environment {
    /// This machine: its clock, its disk, a seed from the operating system. Relative locations start at `base_dir`,
    /// an absolute path.
    pub fn real(base_dir: PathBuf) -> Self {
        let entropy = Entropy::from_os();
        let tag = entropy.fork("temporary files").stream().next_u64();
        Self {
            clock: Arc::new(SystemClock::new()),
            storage: Arc::new(LocalStorage::new(Arc::new(RealPosix), base_dir, tag)),
            entropy,
        }
    }
}

/// The one source of time.
///
/// # Contract
/// * `now_us` may go backwards (the wall clock of a real machine does); callers must not assume otherwise.
/// * `monotonic_us` never goes backwards; only differences of it mean something.
/// * `sleep_until_us` returns at the first moment at which `now_us` has reached the deadline, at once if it has passed.
pub trait Clock: Debug + Send + Sync {
    /// Wall clock: microseconds since 1970-01-01T00:00:00Z.
    fn now_us(&self) -> i64;
    /// Microseconds since some fixed moment, for measuring durations.
    fn monotonic_us(&self) -> u64;
    /// Waits until the wall clock has reached `deadline_us`.
    fn sleep_until_us(&self, deadline_us: i64) -> BoxFuture<'static, ()>;
}

/// A tree of random streams grown from one seed: a stream is named by a label, so that drawing more from one stream
/// never shifts another (`SIMULATOR.md`: random streams are forked by label).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entropy {
    seed: u64,
}

impl Entropy {
    /// The tree that grows from `seed`.
    pub fn from_seed(seed: u64) -> Self {
        Self { seed }
    }

    /// A tree that nobody can know beforehand: its seed comes from the operating system.
    #[expect(clippy::disallowed_methods, reason = "where a real environment's entropy begins")]
    pub fn from_os() -> Self {
        Self { seed: uuid::Uuid::new_v4().as_u64_pair().0 ^ uuid::Uuid::new_v4().as_u64_pair().0.rotate_left(32) }
    }

    /// The number the tree grows from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The subtree with this label.
    pub fn fork(&self, label: &str) -> Self {
        Self { seed: twox_hash::XxHash64::oneshot(self.seed, label.as_bytes()) }
    }

    /// The random stream of this subtree; calling it twice gives the same stream twice.
    pub fn stream(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// A version-4 UUID: always the same one for the same label.
    pub fn uuid(&self, label: &str) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.fork(label).stream().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_a_stream() {
        let root = Entropy::from_seed(7);
        assert_eq!(root.uuid("a"), root.uuid("a"));
        assert_ne!(root.uuid("a"), root.uuid("b"));
        assert_ne!(root.fork("x").uuid("a"), root.fork("y").uuid("a"));
    }
}
