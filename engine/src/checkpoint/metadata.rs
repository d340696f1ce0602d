//! The `metadata` file: the id of the query that a checkpoint belongs to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::seal::{seal, unseal};
use crate::error::{Error, Result};
use crate::storage::{Folder, PutNew};

const METADATA: &str = "metadata";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    id: String,
}

/// The id in the checkpoint, or `None` when it has no metadata file.
pub(super) async fn read(folder: &Folder) -> Result<Option<Uuid>> {
    let Some(bytes) = folder.get(METADATA).await? else { return Ok(None) };
    let unsealed = unseal(&bytes, &folder.uri(METADATA))?;
    parse(unsealed.as_bytes()).map(Some).ok_or_else(|| {
        Error::checkpoint(
            folder.uri(METADATA),
            "the file should be {\"id\":\"<uuid>\"} but is not: it is damaged, or this is no checkpoint. Restore it \
             from a backup, or use another checkpointLocation.",
        )
    })
}

/// Writes the id of a new query. Should another run have been faster (on storage without locks), its id is answered.
pub(super) async fn create(folder: &Folder, id: Uuid) -> Result<Uuid> {
    let bytes = seal(format!("{{\"id\":\"{id}\"}}"));
    match folder.put_new(METADATA, Bytes::from(bytes)).await? {
        PutNew::Written => Ok(id),
        PutNew::AlreadyThere(_) => {
            read(folder).await?.ok_or_else(|| Error::internal("the metadata file is there and is not there"))
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let metadata: Metadata = serde_json::from_str(text).ok()?;
    let id = Uuid::try_parse(&metadata.id).ok()?;
    // The usual form with hyphens, in lower case, and nothing around the JSON but a line end.
    let canonical = format!("{{\"id\":\"{id}\"}}");
    (text.strip_suffix('\n').unwrap_or(text) == canonical).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPARK: &[u8] = include_bytes!("../../testdata/spark-4.3.0/metadata");

    #[test]
    fn sparks_file_is_read_and_written() {
        let id = parse(SPARK).expect("Spark's metadata");
        assert_eq!(id.to_string(), "f40aabe3-a351-4f1c-8ba2-4b1d16e46b90");
    }

    #[tokio::test]
    async fn damage_is_found() {
        let folder = Folder {
            store: std::sync::Arc::new(object_store::memory::InMemory::new()),
            path: "ck".into(),
            uri_root: "memory://".into(),
        };
        let id = parse(SPARK).expect("Spark's metadata");
        assert_eq!(create(&folder, id).await.unwrap(), id);
        let good = folder.get(METADATA).await.unwrap().expect("written");
        assert_eq!(read(&folder).await.unwrap(), Some(id));
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = good.to_vec();
            flipped[at] ^= 1 << bit;
            damaged.push(flipped);
        }
        for text in ["{}", "null", "{\"id\":\"x\"}", "{\"id\":1}", " {\"id\":\"f40aabe3-a351-4f1c-8ba2-4b1d16e46b90\"}"]
        {
            damaged.push(text.into());
        }
        for bytes in damaged {
            folder.put(METADATA, bytes.clone().into()).await.unwrap();
            let error = read(&folder).await.expect_err(&String::from_utf8_lossy(&bytes)).to_string();
            assert!(error.contains("memory:///ck/metadata") && error.contains("checkpointLocation"), "{error}");
        }
    }
}
