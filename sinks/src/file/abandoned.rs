//! Files that a run left when it died in the middle of a batch: how they are known, and how they go.
//!
//! No entry of `_spark_metadata` names them, so readers of the entries never see them; readers that only list the
//! folder would see their rows twice. A file's name therefore carries a mark of its query and batch, and the run that
//! takes up an interrupted batch deletes the files with that mark before it writes its own.
//!
//! The full version has to handle: files of other queries, of other batches and of strangers in the same folder (other
//! marks: left alone); a batch whose entry is there already (its files are committed: left alone, the caller looks); a
//! run that may still be alive (the caller asks only when it holds the checkpoint's lock); folders of `partitionBy`; a
//! delete that fails (the batch fails, and is taken up again); a delete undone by a power cut (the next start deletes
//! again: the batch is not committed before its own files are synced into the same folder).

use object_store::path::Path;
use uuid::Uuid;
use wavetank_engine::Result;
use wavetank_engine::environment::Entropy;
use wavetank_engine::storage::Folder;

/// The 48 bits that the names of a batch's files share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark([u8; 6]);

impl Mark {
    /// The mark of a batch of a query.
    pub(crate) fn of(query_id: &str, batch_id: u64) -> Self {
        let mixed = Entropy::from_seed(batch_id).fork(query_id).seed().to_be_bytes();
        Self([mixed[0], mixed[1], mixed[2], mixed[3], mixed[4], mixed[5]])
    }

    /// The drawn uuid with this mark in front; it stays one of version 4.
    pub(crate) fn put_on(self, drawn: Uuid) -> Uuid {
        let mut bytes = drawn.into_bytes();
        bytes[..6].copy_from_slice(&self.0);
        Uuid::from_bytes(bytes)
    }

    /// Whether a file's name is `part-<task>-<uuid with this mark>...`.
    fn is_on(self, path: &Path) -> bool {
        let uuid = || {
            let (task, rest) = path.filename()?.strip_prefix("part-")?.split_once('-')?;
            task.parse::<usize>().ok()?;
            Uuid::try_parse(rest.get(..36)?).ok()
        };
        uuid().is_some_and(|uuid| uuid.as_bytes()[..6] == self.0)
    }
}

/// Deletes the files with this mark in the folder and in those below. Answers how many.
pub(crate) async fn clear(folder: &Folder, mark: Mark) -> Result<usize> {
    let prefix = format!("{}/", folder.path);
    let mut cleared = 0;
    for file in folder.list_recursive().await? {
        if mark.is_on(&file.location)
            && let Some(name) = file.location.as_ref().strip_prefix(&prefix)
        {
            folder.delete(name).await?;
            cleared += 1;
        }
    }
    Ok(cleared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_the_batch_carry_its_mark() {
        let drawn = Entropy::from_seed(1).uuid("x");
        let mark = Mark::of("query", 7);
        let marked = mark.put_on(drawn);
        assert_eq!(marked.get_version_num(), 4);
        for (name, expected) in [
            (format!("out/part-00000-{marked}-c000.snappy.parquet"), true),
            (format!("out/k=a/part-00012-{marked}.c000.json"), true),
            (format!("out/part-00000-{drawn}-c000.json"), false),
            (format!("out/part-00000-{}-c000.json", Mark::of("query", 8).put_on(drawn)), false),
            (format!("out/part-00000-{}-c000.json", Mark::of("other", 7).put_on(drawn)), false),
            (format!("out/part-x-{marked}-c000.json"), false),
            (format!("out/mine-00000-{marked}"), false),
            ("out/part-00000-é".to_owned(), false),
            ("out/part-".to_owned(), false),
        ] {
            assert_eq!(mark.is_on(&Path::from(name.as_str())), expected, "{name}");
        }
    }
}
