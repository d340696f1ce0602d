//! Why the model gives no rows: Spark would refuse the query, the query would die, or the model does not know.

use std::fmt;

/// When a query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// By `start()`, before anything runs.
    Start,
    /// In the query's own thread, so that a client sees `STREAM_FAILED`.
    Running,
    /// Not by Spark at all: the query uses something outside the model's language.
    BeyondModel,
}

/// A refusal with Spark's error class (where it has one) and the beginning of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub stage: Stage,
    /// Error class of the cause.
    pub class: Option<String>,
    /// Beginning of the message.
    pub text: String,
}

impl Refusal {
    /// Refused at start with an error class.
    pub fn start(class: &str, text: impl Into<String>) -> Refusal {
        Refusal { stage: Stage::Start, class: Some(class.into()), text: text.into() }
    }

    /// Refused at start with a text only.
    pub fn text(text: impl Into<String>) -> Refusal {
        Refusal { stage: Stage::Start, class: None, text: text.into() }
    }

    /// Fails in the query thread with an error class.
    pub fn failed(class: &str, text: impl Into<String>) -> Refusal {
        Refusal { stage: Stage::Running, class: Some(class.into()), text: text.into() }
    }

    /// Fails in the query thread with a text only.
    pub fn failed_text(text: impl Into<String>) -> Refusal {
        Refusal { stage: Stage::Running, class: None, text: text.into() }
    }

    /// Outside the model's language.
    pub fn beyond(what: impl Into<String>) -> Refusal {
        Refusal { stage: Stage::BeyondModel, class: None, text: what.into() }
    }

    /// The class a client of the query sees: `STREAM_FAILED` wraps everything that happens in the query thread.
    pub fn seen_class(&self) -> Option<&str> {
        match self.stage {
            Stage::Running => Some("STREAM_FAILED"),
            _ => self.class.as_deref(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} [{}] {}", self.stage, self.class.as_deref().unwrap_or("-"), self.text)
    }
}

impl std::error::Error for Refusal {}
