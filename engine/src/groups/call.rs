//! Calls of a user's code: what it returns, what it throws, and what it panics with.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

/// Calls user code. Its error, or its panic, is [`Error::UserFunction`] with `class`; `text` puts the reason into Spark's
/// words. Errors with a class of their own pass: they say what is wrong better.
pub(super) fn guarded<T>(
    class: &'static str,
    text: impl Fn(&str) -> String,
    call: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let failed = |reason: &str| Error::UserFunction { class: class.into(), message: text(reason) };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.class().is_some() => Err(error),
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(panic) => Err(failed(&format!("it panicked: {}", message_of(panic.as_ref())))),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
