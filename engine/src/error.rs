//! The one error type of the engine: what went wrong, where, Spark's class for it, and what the user can do.

use std::borrow::Cow;

use datafusion::error::DataFusionError;

/// Shorthand for a result with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can stop a query, or keep it from starting.
///
/// The text of each error ends with what the user can do. [`Error::class`] is Spark's error class (condition) where
/// Spark has one, for example `STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The query or one of its options was refused before anything ran or was written.
    #[error("{}{message}", class_prefix(.class))]
    Analysis {
        /// Spark's error class, where Spark has one.
        class: Option<Cow<'static, str>>,
        /// What is wrong, why, and what to write instead.
        message: String,
    },
    /// Something in a checkpoint, source log or sink log cannot be used. Nothing was changed.
    #[error("{}{path}: {message}", class_prefix(.class))]
    Checkpoint {
        /// Spark's error class, where Spark has one.
        class: Option<Cow<'static, str>>,
        /// The file or folder that is wrong, as the storage names it.
        path: String,
        /// What was expected, what was found, and what the user can do.
        message: String,
    },
    /// Another run wrote to the same log at the same time (Spark: `CONCURRENT_STREAM_LOG_UPDATE`).
    #[error(
        "[CONCURRENT_STREAM_LOG_UPDATE] {path}: batch {batch_id} was already written by another run of this \
             query. Stop the other run, or give this one a checkpointLocation of its own."
    )]
    ConcurrentLogUpdate {
        /// The log entry that another run wrote first.
        path: String,
        /// The batch this run wanted to log.
        batch_id: u64,
    },
    /// A row of the input could not be read and the reader was told to fail on such rows (`mode` `FAILFAST`).
    #[error("{}{message}", class_prefix(.class))]
    Data {
        /// Spark's error class, where Spark has one.
        class: Option<Cow<'static, str>>,
        /// Which row of which file, and why.
        message: String,
    },
    /// A user function (foreach, foreachBatch, group state, UDF) failed; the cause is the user's own error.
    #[error("[{class}] {message}")]
    UserFunction {
        /// Spark's error class, for example `FOREACH_BATCH_USER_FUNCTION_ERROR`.
        class: Cow<'static, str>,
        /// The text of the user's error.
        message: String,
    },
    /// A query failed; `cause` says why.
    #[error("Query [id = {id}, runId = {run_id}] terminated with exception: {cause}")]
    StreamFailed {
        /// The query's id.
        id: String,
        /// The run's id.
        run_id: String,
        /// Why.
        cause: std::sync::Arc<Error>,
    },
    /// The query was asked to stop while it was doing this.
    #[error("the query was stopped")]
    Stopped,
    /// The storage refused: not there, no space, not permitted, not reachable.
    #[error("storage: {0}")]
    Storage(#[from] object_store::Error),
    /// Planning or running the plan failed inside DataFusion.
    #[error(transparent)]
    DataFusion(DataFusionError),
    /// A promise that the engine makes to itself is broken: a bug of Wavetank, please report it.
    #[error("internal: {0}. This is a bug of Wavetank; please report it with the command that replays it.")]
    Internal(String),
}

fn class_prefix(class: &Option<Cow<'static, str>>) -> String {
    class.as_ref().map(|c| format!("[{c}] ")).unwrap_or_default()
}

impl Error {
    /// A refusal without one of Spark's classes.
    pub fn analysis(message: impl Into<String>) -> Self {
        Self::Analysis { class: None, message: message.into() }
    }

    /// A refusal with Spark's error class.
    pub fn analysis_class(class: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Analysis { class: Some(class.into()), message: message.into() }
    }

    /// A file or folder of a checkpoint (or of a source's or sink's log) that cannot be used.
    pub fn checkpoint(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Checkpoint { class: None, path: path.into(), message: message.into() }
    }

    /// Like [`Error::checkpoint`], with Spark's error class.
    pub fn checkpoint_class(
        class: impl Into<Cow<'static, str>>,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::Checkpoint { class: Some(class.into()), path: path.into(), message: message.into() }
    }

    /// A broken invariant of the engine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    /// Spark's error class, where Spark has one.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Analysis { class, .. } | Self::Checkpoint { class, .. } | Self::Data { class, .. } => {
                class.as_deref()
            }
            Self::ConcurrentLogUpdate { .. } => Some("CONCURRENT_STREAM_LOG_UPDATE"),
            Self::UserFunction { class, .. } => Some(class),
            Self::StreamFailed { cause, .. } => cause.class(),
            Self::Stopped | Self::Storage(_) | Self::DataFusion(_) | Self::Internal(_) => None,
        }
    }
}

/// An engine error that travelled through DataFusion comes back as itself.
impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Self::DataFusion(DataFusionError::External(other)),
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Self::from(*inner),
            other => Self::DataFusion(other),
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::DataFusion(inner) => inner,
            own => DataFusionError::External(Box::new(own)),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::from(DataFusionError::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_errors_survive_the_way_through_datafusion() {
        let there: DataFusionError = Error::analysis_class("X.Y", "no").into();
        let back = Error::from(there.context("while planning"));
        assert_eq!(back.class(), Some("X.Y"));
        assert_eq!(back.to_string(), "[X.Y] no");
    }
}
