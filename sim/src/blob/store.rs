//! The store as its clients call it: `ObjectStore`, request by request.

use std::fmt::{self, Display};
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use twox_hash::XxHash64;

use super::request::refused;
use super::{Object, Page, ROOT, Refusal, SimBlob};
use crate::effects::{Effects, Op};
use crate::fault::Mishap;
use crate::plant::{Bug, rewritten};

/// A client of a [`SimBlob`]: one life of a process, or somebody outside.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub(super) blob: SimBlob,
    pub(super) seam: Option<(Effects, u32)>,
}

impl Bucket {
    fn put(&self, key: &str, data: Bytes, create: bool) -> Result<PutResult> {
        let bug = self.planted(Op::Put, key);
        let data = match (&bug, std::str::from_utf8(&data)) {
            (Some(Bug::Rewrite { from, to }), Ok(text)) => rewritten(text, from, to).into(),
            _ => data,
        };
        let create = create && bug != Some(Bug::Replace);
        let (digest, owned) = (XxHash64::oneshot(0, &data), key.to_owned());
        let e_tag = self.change((Op::Put, create), key, digest, move |state, now_us| match create {
            true => state.create(&owned, data.clone(), now_us),
            false => Ok(state.put(&owned, data.clone(), now_us)),
        })?;
        Ok(PutResult { e_tag: Some(e_tag.to_string()), version: None })
    }

    /// A listing, page by page.
    fn pages(&self, prefix: Option<&Path>, delimited: bool) -> BoxStream<'static, Result<Page>> {
        let folder = prefix.map(Path::to_string).unwrap_or_default();
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let one_page = self.planted(Op::List, &folder) == Some(Bug::Skip);
        let bucket = self.clone();
        stream::try_unfold(Some(None), move |next: Option<Option<String>>| {
            let (bucket, folder, below) = (bucket.clone(), folder.clone(), below.clone());
            async move {
                let Some(token) = next else { return Ok(None) };
                if token.is_some() {
                    tokio::task::yield_now().await; // others write
                }
                let digest = |page: &Page| {
                    let keys = page.objects.iter().map(|(key, _)| key).chain(&page.folders);
                    keys.fold(0, |hash, key| XxHash64::oneshot(hash, key.as_bytes()))
                };
                let page = bucket
                    .ask(Op::List, &folder, digest, |state, _| Ok(state.page(&below, token.as_deref(), delimited)))?;
                let next = page.token.clone().filter(|_| !one_page).map(Some);
                Ok(Some((page, next)))
            }
        })
        .boxed()
    }
}

fn meta(key: &str, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: Path::parse(key).unwrap_or_default(),
        last_modified: DateTime::from_timestamp_micros(object.modified_us).unwrap_or_default(),
        size: object.data.len() as u64,
        e_tag: Some(object.e_tag.to_string()),
        version: None,
    }
}

/// The bytes that are asked for.
fn range_of(range: Option<&GetRange>, len: u64) -> Result<Range<u64>> {
    let wanted = match range {
        None => 0..len,
        Some(GetRange::Bounded(range)) => range.start..range.end.min(len),
        Some(GetRange::Offset(from)) => *from..len,
        Some(GetRange::Suffix(count)) => len.saturating_sub(*count)..len,
    };
    if range.is_some() && wanted.start >= len {
        return Err(Error::Generic { store: "SimBlob", source: "416 range not satisfiable".into() });
    }
    Ok(wanted)
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) {
            return Err(Error::NotImplemented { operation: "PutMode::Update".into(), implementer: "SimBlob".into() });
        }
        self.put(location.as_ref(), payload.into(), options.mode == PutMode::Create)
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { bucket: self.clone(), key: location.to_string(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.as_ref();
        let op = if options.head { Op::Head } else { Op::Get };
        let digest = |(_, _, data, _): &(ObjectMeta, Range<u64>, Bytes, Option<Mishap>)| XxHash64::oneshot(0, data);
        let (meta, range, data, mishap) = self.ask(op, key, digest, |state, begun| {
            let mut object = state.objects.get(key).cloned().ok_or_else(|| refused(key, Refusal::NotFound))?;
            if begun.is_some_and(|begun| begun.bug == Some(Bug::Stale)) {
                object = state.first_reads.entry(key.to_owned()).or_insert(object).clone();
            }
            let meta = meta(key, &object);
            options.check_preconditions(&meta)?;
            let range = range_of(options.range.as_ref(), meta.size)?;
            let data = object.data.slice(range.start as usize..range.end as usize);
            Ok((meta, range, data, begun.and_then(|begun| begun.mishap.clone())))
        })?;
        let sent = match mishap {
            _ if options.head => Vec::new(),
            Some(Mishap::Cut { bytes, quietly }) => {
                let first = data.slice(..data.len().min(usize::try_from(bytes).unwrap_or(usize::MAX)));
                let broken = || Error::Generic { store: "SimBlob", source: "injected: the connection was cut".into() };
                if quietly { vec![Ok(first)] } else { vec![Ok(first), Err(broken())] }
            }
            _ => vec![Ok(data)],
        };
        let payload = GetResultPayload::Stream(stream::iter(sent).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        locations
            .and_then(move |location| {
                let key = location.to_string();
                let deleted = bucket.change((Op::Delete, false), &key.clone(), 0, move |state, _| {
                    state.delete(&key);
                    Ok(0)
                });
                async move { deleted.map(|_| location) }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let entries = |page: Page| stream::iter(page.objects).map(|(key, object)| Ok(meta(&key, &object)));
        self.pages(prefix, false).map_ok(entries).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = ListResult { objects: Vec::new(), common_prefixes: Vec::new() };
        let mut pages = self.pages(prefix, true);
        while let Some(page) = pages.try_next().await? {
            found.objects.extend(page.objects.iter().map(|(key, object)| meta(key, object)));
            found.common_prefixes.extend(page.folders.iter().filter_map(|folder| Path::parse(folder).ok()));
        }
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, owned) = (from.to_string(), to.to_string());
        let create = options.mode == CopyMode::Create;
        self.change((Op::Copy, create), to.as_ref(), 0, move |state, now_us| state.copy(&from, &owned, create, now_us))
            .map(drop)
    }
}

impl Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimBlob({ROOT})")
    }
}

/// An upload in parts, which nobody sees before it is complete.
#[derive(Debug)]
struct Upload {
    bucket: Bucket,
    key: String,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        futures::future::ready(Ok(())).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.bucket.put(&self.key, PutPayload::from_iter(self.parts.clone()).into(), false)
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
