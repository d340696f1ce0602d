//! When faults are a reason for a query to end with an error, and when the engine should have gone on.

use crate::blob::SimBlob;
use crate::effects::Effects;
use crate::fault::{Harm, PATIENCE};
use crate::files;
use crate::scenario::Scenario;

/// Whether a query of this life may end with this error. One error of the disk is a reason; what an object store does is
/// waited out unless there is much of it; files may go away.
pub(crate) fn is_excused(scenario: &Scenario, effects: &Effects, life: u32, error: &str) -> bool {
    let (mut tries, mut is_late) = (0, false);
    for (fired_life, at) in effects.fired() {
        for harm in faults_at(scenario, fired_life, &at) {
            is_late |= matches!(harm, Harm::Late { .. }) && fired_life < life;
            if fired_life == life {
                tries += if SimBlob::key(&at).is_some() { harm.tries() } else { harm.tries() * PATIENCE };
            }
        }
    }
    // What was sent late meets a later life, which takes it for another writer.
    let met = is_late && error.contains("CONCURRENT_STREAM_LOG_UPDATE");
    tries >= PATIENCE || met || files::excuses(scenario, error)
}

/// Whether a promise of this batch was sent late: the next life may find it.
pub(crate) fn is_promised_late(scenario: &Scenario, effects: &Effects, root: &str, batch_id: u64) -> bool {
    let at = format!("{root}/offsets/{batch_id} put");
    let fired = effects.fired();
    let mut puts = fired.iter().filter(|(_, name)| name.split('#').next() == Some(&at));
    puts.any(|(life, name)| faults_at(scenario, *life, name).any(|harm| matches!(harm, Harm::Late { .. })))
}

fn faults_at<'f>(scenario: &'f Scenario, life: u32, at: &'f str) -> impl Iterator<Item = &'f Harm> {
    let named = move |name: &str| name.strip_suffix("#1").unwrap_or(name) == at;
    scenario.faults.iter().filter(move |f| f.life == life && named(&f.at)).map(|f| &f.harm)
}
