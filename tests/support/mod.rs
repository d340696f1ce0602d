//! What integration tests share: cases with Spark's answers, and how they are run and compared.

pub mod case;
pub mod compare;
pub mod groups;
pub mod run;
