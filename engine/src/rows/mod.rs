//! Rows as Rust values: any serde type to Arrow columns and back.
//!
//! ```text
//! trace.rs     a type, without a value of it -> the Arrow type of its column
//! write.rs     values -> one column          read.rs   rows of columns -> values
//! shapes.rs    which columns of a table a type is read from, and which columns it becomes
//! timestamp.rs Timestamp: microseconds since 1970 that are a TIMESTAMP column
//! ```
//! A struct is a struct of columns by name, a tuple one with the columns `_1`, `_2`, .. (as in Spark), `Option` is null,
//! a `Vec` an array, a map a map, an enum without data its variant's name; integers without sign become the next
//! greater type that Spark has. Text that its type reads only if it is a time (RFC 3339) or a date makes a TIMESTAMP or
//! DATE column. Values of types that have no columns (enums with data, `serde_json::Value`) can be kept as JSON text.
//!
//! Absent from here: what the values are for (`groups/` calls user functions with them), and the state of operators.

mod read;
mod shapes;
mod timestamp;
mod trace;
mod write;

pub use shapes::Values;
pub use timestamp::Timestamp;

pub(crate) use shapes::{RecordShape, Records, RowSource, ValueColumn};
