//! User functions over groups that scenarios can name: a function is Rust, and a scenario is text.
//!
//! ```text
//! functions.rs   for map- and flatMapGroupsWithState        shapes.rs       pipelines with them, drawn and swept
//! processors.rs  for transformWithState                     model/groups.rs the same functions for the reference model
//! ```
//! Together they use every kind of state, both timeouts, timers, lifetimes and initial states, and do with them what
//! is odd but allowed: a timeout without a state, one that is not set again, a timer deleted by another one.
//!
//! Absent from here: what the functions must answer; the reference model has them a second time.

mod functions;
mod processors;
mod shapes;

use serde::{Deserialize, Serialize};
use wavetank_engine::Result;
use wavetank_engine::dataframe::{DataFrame, GroupedData};
use wavetank_engine::groups::{GroupStateTimeout, TimeMode, Timestamp};
use wavetank_engine::session::Session;
use wavetank_engine::sink::OutputMode;

pub use shapes::{SHAPES, swept};

/// A user function, by name. All give columns `_1` (the key), `_2` and `_3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupJob {
    /// mapGroupsWithState: counts and sums a key's rows; the fifth one makes it forget.
    Tally,
    /// flatMapGroupsWithState with an event-time timeout: five seconds after a key's last row it comes out.
    Sessions,
    /// flatMapGroupsWithState with a processing-time timeout: two seconds after a key was seen.
    Visits,
    /// flatMapGroupsWithState in append mode: numbers each key's rows.
    Numbers,
    /// flatMapGroupsWithState whose keys `a` and `z` begin with a state.
    Begun,
    /// transformWithState: a value, a list and a map.
    Variables,
    /// transformWithState with timers in event time.
    Alarms,
    /// transformWithState with lifetimes of two seconds, and timers that look at what is left.
    Lifetimes,
    /// transformWithState whose result has event time.
    Stamped,
    /// transformWithState that begins with two rows of `a` and one of `z`.
    Opened,
    /// transformWithState whose variables are others in lives that set [`LATER_VARIABLES`]. What comes out is the same; the
    /// model cannot follow it.
    Changing,
}

/// A life that sets this has the later variables of [`GroupJob::Changing`].
pub const LATER_VARIABLES: &str = "simulator.laterVariables";

/// What a function's timeouts, timers and lifetimes are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Nothing.
    None,
    /// The batch's time: a batch runs at every trigger.
    Clock,
    /// The watermark.
    EventTime,
}

impl GroupJob {
    /// What its time is measured by.
    pub fn timing(self) -> Timing {
        match self {
            Self::Tally | Self::Numbers | Self::Begun | Self::Variables | Self::Opened | Self::Changing => Timing::None,
            Self::Visits | Self::Lifetimes => Timing::Clock,
            Self::Sessions | Self::Alarms | Self::Stamped => Timing::EventTime,
        }
    }

    /// Whether it is a function for transformWithState.
    pub fn is_processor(self) -> bool {
        !matches!(self, Self::Tally | Self::Sessions | Self::Visits | Self::Numbers | Self::Begun)
    }

    /// The frame that it makes of this one.
    pub(crate) async fn over(self, session: &Session, frame: &DataFrame, keys: &[&str]) -> Result<DataFrame> {
        let groups = frame.group_by(keys.iter().map(|key| datafusion::prelude::col(*key)));
        let mode = OutputMode::Update;
        match self {
            Self::Tally => groups.map_groups_with_state(GroupStateTimeout::NoTimeout, functions::tally),
            Self::Sessions => groups.flat_map_groups_with_state(
                OutputMode::Append,
                GroupStateTimeout::EventTimeTimeout,
                functions::sessions,
            ),
            Self::Visits => {
                groups.flat_map_groups_with_state(mode, GroupStateTimeout::ProcessingTimeTimeout, functions::visits)
            }
            Self::Numbers => {
                groups.flat_map_groups_with_state(OutputMode::Append, GroupStateTimeout::NoTimeout, functions::numbers)
            }
            Self::Begun => {
                let initial = given(session, "('a', 10), ('z', 5)").await?;
                groups.flat_map_groups_with_initial_state(
                    mode,
                    GroupStateTimeout::NoTimeout,
                    &initial,
                    functions::begun,
                )
            }
            Self::Variables => groups.transform_with_state(processors::Variables::default(), TimeMode::None, mode),
            Self::Alarms => groups.transform_with_state(processors::Alarms::default(), TimeMode::EventTime, mode),
            Self::Lifetimes => {
                groups.transform_with_state(processors::Lifetimes::default(), TimeMode::ProcessingTime, mode)
            }
            Self::Changing => {
                let later = session.conf().get(LATER_VARIABLES).is_some();
                groups.transform_with_state(processors::Changing::new(later), TimeMode::None, mode)
            }
            Self::Stamped => groups.transform_with_state_event_time(processors::Stamped::default(), "_2", mode),
            Self::Opened => {
                let initial = given(session, "('a', 10), ('a', 11), ('z', 5)").await?;
                groups.transform_with_initial_state(processors::Opened::default(), TimeMode::None, mode, &initial)
            }
        }
    }
}

/// Keys and numbers to begin with.
async fn given(session: &Session, rows: &str) -> Result<GroupedData> {
    let query = format!("SELECT k, CAST(n AS BIGINT) AS n FROM (VALUES {rows}) AS t(k, n)");
    Ok(session.sql(query.as_str()).await?.group_by([datafusion::prelude::col("k")]))
}

/// A row, as the functions take it.
#[derive(Deserialize)]
struct Event {
    ts: Option<Timestamp>,
    v: Option<i64>,
}

/// The key.
type Key = Option<String>;
/// A row of the result.
type Answer = (Key, String, i64);
