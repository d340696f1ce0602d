//! The entries of the two compacted logs: a file that a source has seen, a file that a sink has written.

use serde::{Deserialize, Serialize};

use crate::checkpoint::LogEntry;

/// A file that a file source has seen (`sources/<k>/`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// The file's URI, as [`crate::storage::Folder::uri`] gives it.
    pub path: String,
    /// When the file was last changed, in ms since 1970.
    pub timestamp: i64,
    /// The step of the log in which it was first seen.
    #[serde(rename = "batchId")]
    pub batch_id: u64,
}

impl LogEntry for SourceFile {
    const SEALED: bool = true;

    fn step(&self) -> Option<u64> {
        Some(self.batch_id)
    }
}

/// A file that a file sink has written (`_spark_metadata/`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkFile {
    /// The file's URI, as [`crate::storage::Folder::uri`] gives it.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Always false for what we write.
    pub is_dir: bool,
    /// When the file was last changed, in ms since 1970.
    pub modification_time: i64,
    /// 1 for local files.
    pub block_replication: i32,
    /// 32 MiB for local files.
    pub block_size: i64,
    /// What happened to the file.
    pub action: FileAction,
}

impl LogEntry for SinkFile {
    /// Spark and others read these files; a file that is not what its entry says shows itself.
    const SEALED: bool = false;
}

/// What a sink did with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAction {
    /// It was written.
    Add,
    /// It was taken back (only in logs of very old Spark).
    Delete,
}

impl SinkFile {
    /// A written data file, with the constants Spark has for local files.
    pub fn added(path: impl Into<String>, size: u64, modification_time_ms: i64) -> Self {
        Self {
            path: path.into(),
            size,
            is_dir: false,
            modification_time: modification_time_ms,
            block_replication: 1,
            block_size: 32 << 20,
            action: FileAction::Add,
        }
    }
}
