//! What integration tests share: cases with Spark's answers, and how they are run and compared.

pub mod case;
pub mod compare;
#[allow(dead_code, reason = "conformance looks at no folders")]
pub mod files;
pub mod groups;
pub mod run;
