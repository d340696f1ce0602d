//! Spark's SQL: from the text of a script to DataFusion's logical plans.
//!
//! ```text
//! script.rs    a script -> statements; queries stay text         duration.rs  interval text -> months, days, micros
//! types.rs     Spark's type names <-> Arrow                      dialect.rs   how sqlparser reads Spark's SQL
//!
//! query.rs     text of a query or expression -> plan, in steps:
//!   cursor.rs       text -> tokens, and the sentence for a wrong one
//!   clauses.rs      tokens -> tokens: STREAM, WATERMARK, intervals (interval_literal.rs), literals with suffixes
//!   parse.rs        tokens -> sqlparser's tree, of bounded depth (chains.rs)
//!   resolve.rs      tree -> tree: names as registered (scope.rs, catalog.rs), Spark's column names (names.rs);
//!     relations.rs    FROM (table_clauses.rs: PIVOT, TABLESAMPLE)
//!     expressions.rs  Spark's literals, functions under DataFusion's names (calls.rs)
//!     row_in_subquery.rs  (a, b) IN (SELECT ..)
//!     duplicates.rs   columns of one name in a select list
//!   (DataFusion)    tree -> plan
//!   watermark.rs    plan -> plan: the marker of a WATERMARK clause becomes a node
//!   (functions)     plan -> plan: generators and time windows become nodes
//! ```
//! Absent: what a statement does (the session's work), anything that runs, catalogs and everything that writes with
//! SQL's own words (`INSERT`, `MERGE`).

mod calls;
mod catalog;
mod chains;
mod clauses;
mod cursor;
pub mod dialect;
pub(crate) mod duplicates;
pub mod duration;
mod expressions;
mod interval_literal;
mod names;
mod parse;
pub mod query;
mod relations;
mod resolve;
mod row_in_subquery;
mod scope;
pub mod script;
mod table_clauses;
pub mod types;
mod watermark;

pub use query::{plan_expr, plan_query};
pub use script::{Located, QueryText, Statement, parse_script};
pub use types::{parse_ddl_schema, spark_type_name};
pub use watermark::MakeWatermark;
pub(crate) use watermark::watermark_marker;

pub(crate) use calls::wrong_count as wrong_argument_count;

/// Begins the registered name of a table read as a stream.
const STREAM_PREFIX: &str = "__stream.";
/// The call that the token pass writes for an interval literal.
const INTERVAL_CALL: &str = "__interval";
/// The call that the token pass writes for a number with a type letter: digits, type.
const TYPED_CALL: &str = "__typed";
/// The condition that the token pass writes for a `WATERMARK` clause.
pub(crate) const WATERMARK_CALL: &str = "__watermark";
/// The call that stands for one column of a generator with several: generator, number of the column.
pub(crate) const GENERATOR_FIELD_CALL: &str = "__generator_field";

/// The name under which a session registers `t` to be read by `STREAM t`. A view, or a table that is only ever read
/// as a stream, may be registered under its plain name alone: `STREAM t` falls back to that.
pub fn stream_relation_name(name: &str) -> String {
    format!("{STREAM_PREFIX}{name}")
}

/// Whether a function (by lower-case name) makes several rows of one.
pub(crate) fn generator_name(name: &str) -> bool {
    ["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer"].contains(&name)
}
