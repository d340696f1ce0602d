//! What can go wrong, and where: a harm bound to the stable name of an effect.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::disk::CrashImage;

/// With how many errors of the object store an engine may give up.
pub const PATIENCE: u32 = 6;

/// What goes wrong at an effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "harm", rename_all = "kebab-case")]
pub enum Harm {
    /// The process dies (and the power fails, unless the image is `kill`) before the effect.
    CrashBefore {
        /// What a rebooted machine finds of what was not synced.
        image: CrashImage,
    },
    /// The process dies after the effect, before it learns of it.
    CrashAfter {
        /// What a rebooted machine finds of what was not synced.
        image: CrashImage,
    },
    /// No space: a write leaves a part of the bytes, everything else leaves nothing.
    NoSpace,
    /// An I/O error. At an fsync, what should have been synced may never become durable.
    Eio,
    /// Not permitted; nothing happens.
    Denied,
    /// The effect is done, but its reply is lost: the caller sees an error.
    LostReply,
    /// The effect takes this long, and nothing else runs meanwhile.
    Slow {
        /// How long, in microseconds.
        us: u64,
    },
    /// Somebody sets the wall clock just before the effect.
    StepWall {
        /// By how much, in microseconds.
        us: i64,
    },
    /// The object store answers 503 to this request and to the ones after it.
    Busy {
        /// To how many in all.
        times: u32,
    },
    /// The request to the object store times out, and is done later all the same, even when its sender is long dead.
    Late {
        /// How much later, in microseconds.
        us: u64,
    },
    /// The object store sends a part of what it announced.
    Cut {
        /// How many bytes it sends.
        bytes: u64,
        /// Whether the answer then just ends; otherwise it ends with an error.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        quietly: bool,
    },
    /// The conditional put is done, and is told that the object was there already: it was made twice on its way.
    SelfConflict,
}

/// What goes wrong with a request to the object store besides its being refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// See [`Harm::Late`].
    Late {
        /// How much later, in microseconds.
        us: u64,
    },
    /// See [`Harm::Cut`].
    Cut {
        /// How many bytes are sent.
        bytes: u64,
        /// Whether the answer then just ends.
        quietly: bool,
    },
    /// See [`Harm::SelfConflict`].
    SelfConflict,
}

impl Harm {
    /// The image, when the harm is a crash.
    pub fn crash_image(&self) -> Option<CrashImage> {
        match self {
            Self::CrashBefore { image } | Self::CrashAfter { image } => Some(*image),
            _ => None,
        }
    }

    /// How many tries it may cost a caller who tries again ([`PATIENCE`]): none when it gives no error.
    pub fn tries(&self) -> u32 {
        match self {
            Self::CrashBefore { .. } | Self::CrashAfter { .. } | Self::Slow { .. } | Self::StepWall { .. } => 0,
            Self::Denied => PATIENCE,
            Self::Busy { times } => *times,
            _ => 1,
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashBefore { image } => write!(f, "crash before ({image})"),
            Self::CrashAfter { image } => write!(f, "crash after ({image})"),
            Self::NoSpace => f.write_str("no space"),
            Self::Eio => f.write_str("I/O error"),
            Self::Denied => f.write_str("denied"),
            Self::LostReply => f.write_str("reply lost"),
            Self::Slow { us } => write!(f, "takes {us} us"),
            Self::StepWall { us } => write!(f, "wall clock set by {us} us"),
            Self::Busy { times } => write!(f, "503 {times} times"),
            Self::Late { us } => write!(f, "times out, done {us} us later"),
            Self::Cut { bytes, quietly: false } => write!(f, "cut off after {bytes} bytes"),
            Self::Cut { bytes, quietly: true } => write!(f, "ends after {bytes} bytes"),
            Self::SelfConflict => f.write_str("conflicts with itself"),
        }
    }
}

/// One fault, bound to the name of an effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// In which life of the process: 0 is the first, 1 the one after the first crash or restart, ...
    #[serde(default)]
    pub life: u32,
    /// The effect, for example `offsets/3 rename`, or `offsets/3 read#2` for its second occurrence in that life.
    pub at: String,
    /// What goes wrong there.
    #[serde(flatten)]
    pub harm: Harm,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life {}: {} at {}", self.life, self.harm, self.at)
    }
}
