//! Arbitrary state: user functions that are called once per key and keep what they want (`spec/04` sections 5 and 6).
//!
//! ```text
//! verbs.rs        GroupedData::map_groups_with_state and its siblings -> a node of the logical plan
//! group_state.rs  GroupState: what a function sees and changes          timeout rules and their errors
//! function.rs     the batch-wise calls that the operator makes; serde types      arrow.rs: the same for Arrow values
//! processor.rs    StatefulProcessor and what it is called with         handle.rs: makes state variables, has the timers
//! variables/      value, list and map state, timers                    transform.rs, transform_verbs.rs: transform_with_state
//! call.rs         user code that fails or panics
//! ```
//! The operator (`operators/groups`) finds the groups of a batch, brings their states and stores what comes back, all
//! in columns; per key there is only the user's call.
//!
//! Absent from here: how state is kept (`state/`), and what may be chained (`plan/check/groups.rs`).

mod arrow;
mod call;
mod function;
mod group_state;
mod handle;
mod processor;
mod transform;
mod transform_verbs;
mod variables;
mod verbs;

pub use crate::rows::{Timestamp, Values};
pub use arrow::ArrowTypes;
pub use group_state::{GroupState, GroupStateTimeout, TestGroupState};
pub use handle::StatefulProcessorHandle;
pub use processor::{
    ExpiredTimerInfo, StatefulProcessor, StatefulProcessorWithInitialState, TimeMode, TimerValues, TtlConfig,
};
pub use variables::{ListState, MapState, ValueState};

pub(crate) use function::{Answers, Calls, Change, StateFunction};
pub(crate) use group_state::GroupTimes;
pub(crate) use transform::{GroupRows, TransformFunction, TransformNumbers, TransformRun};
pub(crate) use variables::{TIMERS_STORE, Timers, VariableKind};
