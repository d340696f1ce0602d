//! What is under a path now: the files that a file source may read.
//!
//! A path is a folder, one file, or a pattern of which every match is a folder or a file. Of a folder, the files
//! directly in it count, or those in its partition folders (`k=v/`), or with `recursiveFileLookup` those anywhere below.
//! A folder that a file sink wrote is not listed: the sink's log (`_spark_metadata`) says what is in it.

use futures::future::BoxFuture;
use object_store::{ListResult, ObjectMeta};
use wavetank_engine::checkpoint::{CompactibleLog, FileAction, SinkFile};
use wavetank_engine::storage::{Folder, Storage, uri};
use wavetank_engine::{Error, Result};

use crate::file::glob::{Glob, is_glob};
use crate::file::options::Selection;
use crate::file::partitions::{Discovered, name_of_partition};

/// The folder in which a file sink keeps its log.
const SINK_LOG: &str = "_spark_metadata";

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundFile {
    pub(crate) uri: String,
    pub(crate) size: u64,
    /// When it was last changed, in ms since 1970.
    pub(crate) changed_ms: i64,
}

/// A path that can be listed again and again.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The path, or the folder in which its pattern begins.
    base: Folder,
    /// The names below `base` that must match, level by level.
    levels: Vec<Glob>,
    selection: Selection,
    /// As the user wrote it.
    text: String,
    /// The part of the text that is a pattern.
    pattern: String,
}

/// What a path means: a folder or a file.
enum Root {
    Folder(Folder),
    File(Folder, ObjectMeta),
}

impl Listing {
    pub(crate) fn new(storage: &dyn Storage, path: &str, selection: Selection) -> Result<Self> {
        let (base, pattern) = if is_glob(path) { split_pattern(path) } else { (path, "") };
        let levels = pattern.split('/').filter(|part| !part.is_empty()).map(Glob::new).collect::<Result<_>>()?;
        let (base, text, pattern) = (storage.folder(base)?, path.to_string(), pattern.to_string());
        Ok(Self { base, levels, selection, text, pattern })
    }

    pub(crate) fn is_pattern(&self) -> bool {
        !self.levels.is_empty()
    }

    /// The path as Spark shows it in progress reports: `file:/data/in`.
    pub(crate) fn shown(&self) -> String {
        let base = self.base.uri("").replacen(":///", ":/", 1);
        if self.is_pattern() { format!("{}/{}", base.trim_end_matches('/'), self.pattern) } else { base }
    }

    /// The folder, where the path is one.
    pub(crate) fn base(&self) -> &Folder {
        &self.base
    }

    /// Refuses a path that is not there. A pattern may match nothing yet.
    pub(crate) async fn check_exists(&self) -> Result<()> {
        if self.is_pattern() || self.exists().await? {
            return Ok(());
        }
        Err(Error::analysis_class(
            "PATH_NOT_FOUND",
            format!(
                "Path does not exist: {}. Create the folder first, or correct the option path ('{}').",
                self.base.uri(""),
                self.text
            ),
        ))
    }

    async fn exists(&self) -> Result<bool> {
        if !self.base.is_empty().await? || self.base.head("").await?.is_some() {
            return Ok(true);
        }
        // An empty folder shows only in its parent.
        let mut parts: Vec<_> = self.base.path.parts().collect();
        if parts.pop().is_none() {
            return Ok(true);
        }
        let parent = parts.into_iter().collect::<object_store::path::Path>();
        let listed = self.base.store.list_with_delimiter(Some(&parent)).await?;
        Ok(listed.common_prefixes.contains(&self.base.path))
    }

    /// Whether a file sink wrote this folder.
    pub(crate) async fn has_sink_log(&self) -> Result<bool> {
        Ok(!self.is_pattern() && !self.base.child(SINK_LOG).is_empty().await?)
    }

    /// The files that the sink's log says are in the folder, ordered by path.
    pub(crate) async fn sink_files(&self) -> Result<Vec<FoundFile>> {
        let log = CompactibleLog::<SinkFile>::read(&self.base.child(SINK_LOG)).await?;
        let entries = log.map(|log| log.entries).unwrap_or_default();
        let mut files = std::collections::BTreeMap::new();
        for entry in entries {
            match entry.action {
                FileAction::Add => files.insert(
                    entry.path.clone(),
                    FoundFile { uri: entry.path, size: entry.size, changed_ms: entry.modification_time },
                ),
                FileAction::Delete => files.remove(&entry.path),
            };
        }
        Ok(files.into_values().collect())
    }

    /// The files there are, ordered by path.
    pub(crate) async fn files(&self, partition_columns: &[String]) -> Result<Vec<FoundFile>> {
        let mut files = Vec::new();
        for root in self.roots().await? {
            match root {
                Root::File(folder, file) => files.push(found(&folder, &file)),
                Root::Folder(folder) if self.selection.is_recursive => self.all_below(folder, &mut files).await?,
                Root::Folder(folder) => self.in_partitions(folder, partition_columns, &mut files).await?,
            }
        }
        files.sort_unstable_by(|a, b| a.uri.cmp(&b.uri));
        files.dedup();
        Ok(files)
    }

    /// The partition columns there are.
    pub(crate) async fn partitions(&self) -> Result<Discovered> {
        let mut discovered = Discovered::default();
        if !self.selection.is_recursive {
            for root in self.roots().await? {
                if let Root::Folder(folder) = root {
                    discover(folder, 0, &mut discovered).await?;
                }
            }
        }
        Ok(discovered)
    }

    async fn roots(&self) -> Result<Vec<Root>> {
        let Some((last, before)) = self.levels.split_last() else {
            let file = self.base.head("").await?;
            return Ok(vec![match file {
                Some(file) => Root::File(self.base.clone(), file),
                None => Root::Folder(self.base.clone()),
            }]);
        };
        let mut folders = vec![self.base.clone()];
        for level in before {
            let mut next = Vec::new();
            for folder in &folders {
                let names = folder.list_folders().await?;
                next.extend(names.iter().filter(|name| level.matches(name)).map(|name| folder.child(name)));
            }
            folders = next;
        }
        let mut roots = Vec::new();
        for folder in folders {
            let ListResult { common_prefixes, objects } = list(&folder).await?;
            let names = common_prefixes.iter().filter_map(|path| path.filename());
            roots.extend(names.filter(|name| last.matches(name)).map(|name| Root::Folder(folder.child(name))));
            let files =
                objects.into_iter().filter(|file| file.location.filename().is_some_and(|name| last.matches(name)));
            roots.extend(files.map(|file| Root::File(folder.clone(), file)));
        }
        Ok(roots)
    }

    fn is_selected(&self, file: &ObjectMeta) -> bool {
        let Selection { name_glob, modified_after_ms, modified_before_ms, .. } = &self.selection;
        let name = file.location.filename().unwrap_or_default();
        let changed_ms = file.last_modified.timestamp_millis();
        !is_hidden(name)
            && name_glob.as_ref().is_none_or(|glob| glob.matches(name))
            && modified_after_ms.is_none_or(|after| changed_ms > after)
            && modified_before_ms.is_none_or(|before| changed_ms < before)
    }

    fn in_partitions<'a>(
        &'a self,
        folder: Folder,
        columns: &'a [String],
        files: &'a mut Vec<FoundFile>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let ListResult { common_prefixes, objects } = list(&folder).await?;
            let Some((column, rest)) = columns.split_first() else {
                files.extend(objects.iter().filter(|file| self.is_selected(file)).map(|file| found(&folder, file)));
                return Ok(());
            };
            for name in common_prefixes.iter().filter_map(|path| path.filename()) {
                if name_of_partition(name).is_some_and(|own| own.eq_ignore_ascii_case(column)) {
                    self.in_partitions(folder.child(name), rest, files).await?;
                }
            }
            Ok(())
        })
    }

    fn all_below<'a>(&'a self, folder: Folder, files: &'a mut Vec<FoundFile>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let ListResult { common_prefixes, objects } = list(&folder).await?;
            files.extend(objects.iter().filter(|file| self.is_selected(file)).map(|file| found(&folder, file)));
            for name in common_prefixes.iter().filter_map(|path| path.filename()).filter(|name| !is_hidden(name)) {
                self.all_below(folder.child(name), files).await?;
            }
            Ok(())
        })
    }
}

async fn list(folder: &Folder) -> Result<ListResult> {
    Ok(folder.store.list_with_delimiter(Some(&folder.path)).await?)
}

fn found(folder: &Folder, file: &ObjectMeta) -> FoundFile {
    FoundFile {
        uri: uri::join(&folder.uri_root, &file.location),
        size: file.size,
        changed_ms: file.last_modified.timestamp_millis(),
    }
}

/// Names that no file source reads: Spark's and Hadoop's own, and what is still being copied.
fn is_hidden(name: &str) -> bool {
    (name.starts_with('_') && !name.contains('=')) || name.starts_with('.') || name.ends_with("._COPYING_")
}

fn discover(folder: Folder, depth: usize, discovered: &mut Discovered) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        for path in list(&folder).await?.common_prefixes {
            let name = path.filename().unwrap_or_default();
            if is_hidden(name) {
                continue;
            }
            if let Some(column) = name_of_partition(name) {
                discovered.add(depth, column, &name[column.len() + 1..], &folder)?;
                discover(folder.child(name), depth + 1, discovered).await?;
            }
        }
        Ok(())
    })
}

/// The folder before the first name that is a pattern, and the rest of the path.
fn split_pattern(path: &str) -> (&str, &str) {
    let mut start = 0;
    for part in path.split_inclusive('/') {
        if is_glob(part) {
            break;
        }
        start += part.len();
    }
    let (base, pattern) = path.split_at(start);
    let base = match base {
        "" => ".",
        "/" => "/",
        base => base.trim_end_matches('/'),
    };
    (base, pattern)
}
