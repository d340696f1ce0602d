//! A static result becomes files, once: no entries, no batches, `_SUCCESS` when it is whole.
//!
//! The new files are written before the old ones go, so a frame may read what it overwrites, and a write that fails
//! leaves what was there. Between the two a reader sees both: Spark's protocol has such a moment, too.

use wavetank_engine::sink::{OutputBatch, SaveMode, SinkContext};
use wavetank_engine::storage::Folder;
use wavetank_engine::{Error, Result};

use super::format::{Format, Kind};
use super::partition::Partitioning;
use super::path_of;
use super::stage::{Failed, Stage};

const SUCCESS: &str = "_SUCCESS";

/// Writes `batch` as the save mode says.
pub(super) async fn write(kind: Kind, context: SinkContext, mode: SaveMode, batch: OutputBatch) -> Result<()> {
    let partitioning = Partitioning::of(&context.schema, &context.partition_by)?;
    kind.check_schema(&partitioning.data_schema)?;
    let format = Format::of(kind, &context.options)?;
    let folder = context.environment.storage.folder(path_of(&context.options)?)?;
    let before = names_in(&folder).await?;
    let replaced = match mode {
        _ if before.is_empty() => vec![],
        SaveMode::Append => vec![],
        SaveMode::Overwrite => before,
        SaveMode::Ignore => return Ok(()),
        SaveMode::ErrorIfExists => {
            return Err(Error::analysis_class(
                "PATH_ALREADY_EXISTS",
                format!(
                    "Path {} already exists. Set mode as \"overwrite\" to overwrite the existing path.",
                    folder.uri("")
                ),
            ));
        }
    };
    let stage = Stage {
        entropy: context.environment.entropy,
        query_id: context.query_id,
        schema: context.schema,
        partitioning,
        ending: format.ending().into(),
        format,
        folder,
    };
    if let Err(Failed { error, written }) = stage.write(batch).await {
        for name in written {
            let _ = stage.folder.delete(&name).await; // the write's own error is the one to tell
        }
        return Err(error);
    }
    for name in replaced {
        stage.folder.delete(&name).await?;
    }
    stage.folder.put(SUCCESS, bytes::Bytes::new()).await
}

/// The files in the folder and below, relative to it.
async fn names_in(folder: &Folder) -> Result<Vec<String>> {
    let prefix = format!("{}/", folder.path);
    let files = folder.list_recursive().await?;
    Ok(files.iter().filter_map(|file| file.location.as_ref().strip_prefix(&prefix)).map(str::to_owned).collect())
}
