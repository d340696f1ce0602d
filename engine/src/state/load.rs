//! From files to a version in memory: the newest snapshot that can be trusted, then the deltas after it.
//!
//! Every delta names (by checksum) the delta that it was made on top of, every snapshot the delta of its version. What
//! does not fit together was left by a try that did not become history; such a snapshot is passed over. A damaged
//! snapshot is passed over, too, when an older one and its deltas are still there; a delta cannot be done without.

use futures::StreamExt;

use crate::error::{Error, Result};
use crate::planted::planted;
use crate::state::content::{SectionTypes, expiry_at, read_section};
use crate::state::files::{History, Read, StoreFiles};
use crate::state::frame::{Kind, Opened};
use crate::state::rows::Codecs;
use crate::state::table::Table;

/// Deltas that are fetched at the same time.
const FETCH_AHEAD: usize = 16;

/// A version in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) table: Table,
    pub(super) history: History,
    /// Why newer snapshots were passed over.
    pub(super) repaired: Vec<String>,
}

/// Loads a version.
pub(super) async fn load(files: &StoreFiles, codecs: &Codecs, version: u64) -> Result<Loaded> {
    let empty = || Table::new(codecs.prefix.is_some());
    let lost = planted("state-comes-back-empty");
    if version <= files.since || lost {
        let history = History { version, ..History::default() };
        return Ok(Loaded { table: empty(), history, repaired: Vec::new() });
    }
    let known = files.list().await?;
    let mut repaired = Vec::new();
    let snapshots =
        known.range(files.since + 1..=version).rev().filter(|(_, known)| known.snapshot).map(|(version, _)| *version);
    for base in snapshots {
        match from_snapshot(files, codecs, base, version, empty()).await? {
            Ok(mut loaded) => {
                loaded.history.known = known;
                loaded.repaired = repaired;
                return Ok(loaded);
            }
            Err(why) => repaired.push(format!("{}: {why}", files.uri(base, Kind::Snapshot))),
        }
    }
    let history = History { version: files.since, known, ..History::default() };
    match add_deltas(files, codecs, version, empty(), history).await {
        Ok((table, history)) => Ok(Loaded { table, history, repaired }),
        Err(Problem::Deltas(error)) => Err(error.explained(&repaired)),
        Err(Problem::Base(why)) => Err(damaged(files, files.since + 1, Kind::Delta, &why).explained(&repaired)),
    }
}

/// Loads a version from the snapshot of `base`, which has to be there and whole.
pub(super) async fn load_from(files: &StoreFiles, codecs: &Codecs, base: u64, version: u64) -> Result<Loaded> {
    let table = Table::new(codecs.prefix.is_some());
    from_snapshot(files, codecs, base, version, table).await?.map_err(|why| {
        Error::checkpoint_class(
            "CANNOT_LOAD_STATE_STORE.CANNOT_READ_SNAPSHOT_FILE_NOT_EXISTS",
            files.uri(base, Kind::Snapshot),
            format!("Cannot read the state from this snapshot: {why}. Name the batch of another one, or none."),
        )
    })
}

/// Why a version could not be put together.
enum Problem {
    /// What the file at hand holds cannot be used; another one may do.
    Base(String),
    /// A delta is missing or damaged, or the storage failed: no other file can help.
    Deltas(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Deltas(error)
    }
}

/// The version from this snapshot on, or why the snapshot cannot be used.
async fn from_snapshot(
    files: &StoreFiles,
    codecs: &Codecs,
    base: u64,
    version: u64,
    mut table: Table,
) -> Result<Result<Loaded, String>> {
    let (opened, size) = match files.read(base, Kind::Snapshot).await? {
        Read::Whole(opened, size) => (opened, size),
        Read::Missing => return Ok(Err("it is not there".into())),
        Read::Damaged(why) => return Ok(Err(why)),
    };
    match apply(&opened, codecs, &mut table) {
        Ok(()) => (),
        Err(Problem::Base(why)) => return Ok(Err(why)),
        Err(Problem::Deltas(error)) => return Err(error),
    }
    let mut history = History { version: base, checksum: opened.header.link, ..History::default() };
    history.snapshotted(size);
    if base == version {
        // No delta follows that would tell whether the snapshot belongs to this history: ask the delta of its version.
        let (delta, _) = whole(files, version, files.read(version, Kind::Delta).await?)?;
        if delta.checksum != opened.header.link {
            return Ok(Err("it was not made from the delta of its version that is there".into()));
        }
    }
    match add_deltas(files, codecs, version, table, history).await {
        Ok((table, history)) => Ok(Ok(Loaded { table, history, repaired: Vec::new() })),
        Err(Problem::Base(why)) => Ok(Err(why)),
        Err(Problem::Deltas(error)) => Err(error),
    }
}

/// Applies the deltas from the history's version to `version`.
async fn add_deltas(
    files: &StoreFiles,
    codecs: &Codecs,
    version: u64,
    mut table: Table,
    mut history: History,
) -> Result<(Table, History), Problem> {
    let base = history.version;
    let read = |version: u64| async move { (version, files.read(version, Kind::Delta).await) };
    let mut deltas = futures::stream::iter(base + 1..=version).map(read).buffered(FETCH_AHEAD);
    while let Some((at, read)) = deltas.next().await {
        let (opened, size) = whole(files, at, read?)?;
        if opened.header.link != history.checksum {
            let why = format!(
                "{} was made on top of another {} than the one that is there",
                files.uri(at, Kind::Delta),
                at - 1
            );
            return Err(match at == base + 1 {
                true => Problem::Base(why),
                false => damaged(files, at, Kind::Delta, "it does not continue the delta before it").into(),
            });
        }
        if at == version && base + 1 < version && planted("state-misses-its-last-delta") {
            history.committed(opened.checksum, size);
            continue;
        }
        apply(&opened, codecs, &mut table).map_err(|problem| match problem {
            Problem::Base(why) => Problem::Deltas(damaged(files, at, Kind::Delta, &why)),
            other => other,
        })?;
        history.committed(opened.checksum, size);
    }
    Ok((table, history))
}

pub(super) fn whole(files: &StoreFiles, version: u64, read: Read) -> Result<(Opened, u64)> {
    match read {
        Read::Whole(opened, size) => Ok((opened, size)),
        Read::Missing => Err(missing(files, version)),
        Read::Damaged(why) => Err(damaged(files, version, Kind::Delta, &why)),
    }
}

/// Puts the content of a file into the table.
fn apply(opened: &Opened, codecs: &Codecs, table: &mut Table) -> Result<(), Problem> {
    // Arrow complains about bytes that it cannot read; everything else is no fault of the file.
    let content = |error: Error| match error {
        Error::DataFusion(error) => Problem::Base(error.to_string()),
        other => Problem::Deltas(other),
    };
    let types = SectionTypes { keys: codecs.keys.file_types(), values: codecs.values.file_types() };
    let puts = read_section(types, &opened.puts, |columns| {
        let keys = codecs.file_keys(&columns.keys, columns.rows)?;
        let values = codecs.values.encode_file(&columns.values, columns.rows)?;
        for row in 0..columns.rows {
            let expiry = if planted("state-comes-back-without-expiries") { None } else { columns.expiry.as_ref() };
            table.load_put(keys.key(row), values.row(row), expiry_at(expiry, row))?;
        }
        Ok(())
    });
    let puts = puts.map_err(content)?;
    let mut unknown = 0;
    if planted("state-brings-back-what-was-removed") {
        return Ok(());
    }
    let removes = read_section(SectionTypes { values: &[], ..types }, &opened.removes, |columns| {
        let keys = codecs.file_keys(&columns.keys, columns.rows)?;
        unknown += (0..columns.rows).filter(|row| !table.load_remove(keys.key(*row))).count();
        Ok(())
    });
    let removes = removes.map_err(content)?;
    if (puts, removes, unknown) != (opened.header.puts, opened.header.removes, 0) {
        let (want_puts, want_removes) = (opened.header.puts, opened.header.removes);
        return Err(Problem::Base(format!(
            "it has {puts} entries and {removes} removals ({unknown} of keys that are not there) where it should have \
             {want_puts} and {want_removes}"
        )));
    }
    Ok(())
}

fn missing(files: &StoreFiles, version: u64) -> Error {
    let uri = files.uri(version, Kind::Delta);
    let message = format!(
        "Error reading delta file {uri}: the file does not exist, and without it the state of this query cannot be \
         put together. Restore the file, or the whole checkpoint, from a copy, or start the query with a new \
         checkpointLocation."
    );
    Error::checkpoint_class("CANNOT_LOAD_STATE_STORE.CANNOT_READ_DELTA_FILE_NOT_EXISTS", uri, message)
}

pub(super) fn damaged(files: &StoreFiles, version: u64, kind: Kind, why: &str) -> Error {
    Error::checkpoint_class(
        "CANNOT_LOAD_STATE_STORE.UNCATEGORIZED",
        files.uri(version, kind),
        format!(
            "the file is damaged: {why}. Restore it, or the whole checkpoint, from a copy, or start the query with a \
             new checkpointLocation."
        ),
    )
}

trait Explained {
    fn explained(self, repaired: &[String]) -> Self;
}

impl Explained for Error {
    /// The error, with the snapshots that would have made the file unnecessary.
    fn explained(self, repaired: &[String]) -> Self {
        match self {
            Error::Checkpoint { class, path, message } if !repaired.is_empty() => Error::Checkpoint {
                class,
                path,
                message: format!(
                    "{message} It would not be needed if a snapshot could be used, but: {}.",
                    repaired.join("; ")
                ),
            },
            other => other,
        }
    }
}
