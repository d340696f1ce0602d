//! Spark's SQL: from the text of a script to DataFusion's logical plans.
//!
//! ```text
//! script.rs    a script -> statements; queries stay text              duration.rs  interval text -> months, days, micros
//! types.rs     Spark's type names <-> Arrow                           dialect.rs   how sqlparser reads Spark's SQL
//! cursor.rs    tokens, and the sentence for a wrong one
//! ```
//! Absent: what a statement does (the session's work), anything that runs, catalogs and everything that writes with
//! SQL's own words (`INSERT`, `MERGE`).

mod cursor;
pub mod dialect;
pub mod duration;
pub mod script;
pub mod types;

pub use script::{Located, QueryText, Statement, parse_script};
pub use types::{parse_ddl_schema, spark_type_name};
