//! Where the things of a drawn scenario are, on the disk or in the object store, and what goes wrong with requests to it.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use wavetank_engine::environment::Entropy;

use crate::blob::{ROOT, SimBlob};
use crate::disk::CrashImage;
use crate::effects::{Effect, Op};
use crate::fault::{Fault, Harm};
use crate::world::REBOOT_US;

/// The locations of a scenario.
pub(super) struct Places {
    pub checkpoint: String,
    pub input: String,
    pub output: String,
}

impl Places {
    /// Six of seven are on the disk, with everything.
    pub fn drawn(entropy: Entropy) -> Self {
        let mut random = entropy.fork("places").stream();
        let remote = random.random_ratio(1, 7);
        let mut place = |name: &str, share: f64| match remote && random.random_bool(share) {
            true => format!("{ROOT}/{name}"),
            false => name.to_owned(),
        };
        Self { checkpoint: place("checkpoint", 0.8), input: place("in", 0.7), output: place("out", 0.7) }
    }
}

/// Faults of requests to the object store in a run with this trace; none without requests.
pub(super) fn faults(entropy: Entropy, trace: &[Effect]) -> Vec<Fault> {
    let mut random = entropy.fork("requests").stream();
    let requests: Vec<&Effect> = trace.iter().filter(|effect| SimBlob::key(&effect.name).is_some()).collect();
    let (true, Some(_)) = (random.random_ratio(7, 8), requests.first()) else { return Vec::new() };
    if random.random_ratio(1, 3)
        && let Some(faults) = late_promise(&mut random, trace)
    {
        return faults;
    }
    let of = |ops: &[Op]| requests.iter().filter(|e| ops.contains(&e.op)).copied().collect::<Vec<&Effect>>();
    let kinds = [of(&[Op::Put]), of(&[Op::Get]), requests.clone()];
    let faults = (0..random.random_range(1..6)).filter_map(|_| {
        let effect = kinds.choose(&mut random)?.choose(&mut random)?;
        let life = random.random_range(0..3_u32).saturating_sub(1);
        Some(Fault { life, at: effect.name.clone(), harm: harm(&mut random, effect.op) })
    });
    faults.collect()
}

fn harm(random: &mut ChaCha8Rng, op: Op) -> Harm {
    match random.random_range(0..8) {
        0..5 if op == Op::Get => Harm::Cut { bytes: random.random_range(0..200), quietly: random.random() },
        0..2 => Harm::LostReply,
        2 if op == Op::Put => Harm::SelfConflict,
        3 => Harm::Busy { times: random.random_range(1..8) },
        4 => Harm::Eio,
        _ => {
            let soon_us = random.random_range(0..3_000_000);
            Harm::Late { us: *[1, 150_000, soon_us, REBOOT_US + soon_us, 60_000_000].choose(random).expect("five") }
        }
    }
}

/// The promise of a batch is under way when its promiser dies, and arrives when the next life has looked and has not
/// promised yet: that one is slow just then.
fn late_promise(random: &mut ChaCha8Rng, trace: &[Effect]) -> Option<Vec<Fault>> {
    let is_promise = |effect: &&Effect| effect.op == Op::Put && effect.name.contains("/offsets/");
    let promises: Vec<&Effect> = trace.iter().filter(|effect| effect.life == 0).filter(is_promise).collect();
    let promise = promises.choose(random)?;
    let image = CrashImage::Kill;
    let dead = |us| {
        let harm = Harm::CrashBefore { image };
        let second = Fault { life: 0, at: format!("{}#2", promise.name), harm };
        vec![Fault { life: 0, at: promise.name.clone(), harm: Harm::Late { us } }, second]
    };
    if random.random() {
        // The next life's own promise is refused once, and the dead one's arrives before it tries again.
        let mut faults = dead(REBOOT_US + 150_000);
        faults.push(Fault { life: 1, at: promise.name.clone(), harm: Harm::Busy { times: 1 } });
        return Some(faults);
    }
    // What a life does between looking at the logs and its first promise.
    let looked = trace.iter().position(|effect| effect.op == Op::List && effect.name.ends_with("/commits list"))?;
    let first = trace.iter().position(|effect| is_promise(&effect))?;
    let between = trace.get(looked..first)?.choose(random)?;
    let mut faults = dead(REBOOT_US + 1_000_000);
    faults.push(Fault { life: 1, at: between.name.clone(), harm: Harm::Slow { us: 2_000_000 } });
    Some(faults)
}
