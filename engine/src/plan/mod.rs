//! A query's logical plan becomes a physical plan that can run again for every batch.
//!
//! ```text
//! LogicalPlan -> check (refuse) -> set_operations -> filters, semi joins (in their places) -> incremental (stateful nodes)
//!             -> DataFusion's optimizer -> scan_filters -> panes -> physical -> ExecutionPlan
//! ```
//! Absent from here: anything that happens per batch (`microbatch/`), and the operators themselves (`operators/`).

pub mod batch_functions;
pub mod check;
pub mod dedup;
mod extension;
mod filters;
pub mod groups;
pub mod incremental;
pub mod join;
pub mod join_bounds;
pub mod join_condition;
mod join_operator;
pub mod limit;
pub mod nodes;
mod null_rejection;
mod panes;
mod partial;
pub mod physical;
pub mod relation;
mod scan_filters;
mod semi_joins;
pub mod set_operations;
pub mod watermark;
