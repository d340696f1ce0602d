//! What can go wrong, and where: a harm bound to the stable name of an effect.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::disk::CrashImage;

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
}

impl Harm {
    /// The image, when the harm is a crash.
    pub fn crash_image(&self) -> Option<CrashImage> {
        match self {
            Self::CrashBefore { image } | Self::CrashAfter { image } => Some(*image),
            _ => None,
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
