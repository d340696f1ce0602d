//! What one version changed: a delta file read by itself.

use arrow::array::ArrayRef;

use crate::error::Result;
use crate::state::content::{SectionTypes, read_section};
use crate::state::files::StoreFiles;
use crate::state::frame::Kind;
use crate::state::load::{damaged, whole};
use crate::state::operator::{StoreIdentity, StoreSpec};
use crate::state::rows::{Codecs, RowCodec};
use crate::storage::Folder;

/// Entries of a store, in columns of its types.
#[derive(Clone, Debug)]
pub struct Entries {
    /// How many; also where there are no columns.
    pub count: usize,
    /// The key columns.
    pub keys: Vec<ArrayRef>,
    /// The value columns; `None` for keys that were removed.
    pub values: Option<Vec<ArrayRef>>,
}

/// What a version changed.
#[derive(Clone, Debug)]
pub struct Changes {
    /// New values.
    pub put: Entries,
    /// Removed keys.
    pub removed: Entries,
}

/// Reads what `version` changed in the store in this folder.
///
/// # Errors
/// The delta is damaged, or was deleted because no version that is kept needs it.
pub async fn read_changes(folder: Folder, identity: &StoreIdentity, spec: &StoreSpec, version: u64) -> Result<Changes> {
    let codecs = Codecs::new(&spec.schema, 0)?;
    let files = StoreFiles::new(folder, identity, spec);
    let (delta, _) = whole(&files, version, files.read(version, Kind::Delta).await?)?;
    let types = SectionTypes { keys: codecs.keys.file_types(), values: codecs.values.file_types() };
    let entries = |types: SectionTypes<'_>, section: &[u8], has_values: bool| {
        let (mut keys, mut values, mut count) = (vec![], vec![], 0);
        read_section(types, section, |columns| {
            count += columns.rows;
            keys.push(codecs.keys.encode_file(&columns.keys, columns.rows)?);
            if has_values {
                values.push(codecs.values.encode_file(&columns.values, columns.rows)?);
            }
            Ok(())
        })?;
        let decode = |codec: &RowCodec, parts: &[_]| {
            let rows =
                parts.iter().flat_map(|rows: &crate::state::rows::EncodedRows| (0..rows.len()).map(|at| rows.row(at)));
            codec.decode(rows)
        };
        let values = has_values.then(|| decode(&codecs.values, &values)).transpose()?;
        Ok::<_, crate::error::Error>(Entries { count, keys: decode(&codecs.keys, &keys)?, values })
    };
    let broken = |error: crate::error::Error| match error {
        crate::error::Error::DataFusion(error) => damaged(&files, version, Kind::Delta, &error.to_string()),
        other => other,
    };
    Ok(Changes {
        put: entries(types, &delta.puts, true).map_err(broken)?,
        removed: entries(SectionTypes { values: &[], ..types }, &delta.removes, false).map_err(broken)?,
    })
}
