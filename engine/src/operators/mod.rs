//! DataFusion execution plans that know about batches: some observe, some remember.
//!
//! ```text
//! SourceScanExec -> ... -> WatermarkExec -> ... -> (partial aggregate -> PaneWindowsExec)
//!   -> InOrderExec -> StateExchangeExec
//!   -> StateAggregateExec or StateSessionExec -> ... -> sink
//! ```
//! Whatever has state is a [`stateful_exec::StatefulExec`] around its [`stateful_exec::StatefulWork`]; what only watches,
//! cuts or reorders rows is a [`stateless_exec::StatelessExec`] around its [`stateless_exec::StatelessWork`].
//! A plan is planned once and run for every batch; what changes between runs comes from [`batch::BatchContext`].
//! Absent from here: when a batch runs and what is logged about it (`microbatch/`), how state is stored (`state/`).

use datafusion::physical_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};

pub mod aggregate;
pub mod batch;
pub mod dedup;
pub mod exchange;
mod expiry;
pub(crate) mod groups;
pub mod in_order;
pub mod join;
pub mod limit;
pub mod pane_windows;
pub mod read_to_end;
pub mod session;
pub mod source_scan;
pub mod stateful;
pub mod stateful_exec;
pub mod stateless_exec;
pub mod watermark;

/// How `with_new_children` (deprecated, still required by the trait) asks for `replace_children`.
pub(crate) fn recompute() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}
