//! A piece of a text file, cut at line ends: `range of bytes -> (decompressed) buffer -> lines -> decoder`.
//!
//! A line belongs to the piece in which its first byte lies, so a piece that starts inside a file passes over the end
//! of a line that it finds first, and reads its own last line to the end even where that lies in the next piece.
//! Memory: a piece of a plain file is read at once (pieces are small), a compressed file a few MiB at a time.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use wavetank_engine::{Error, Result};

use crate::format::{LineDecoder, Place};

/// How much is read beyond a piece, to find the end of its last line.
const TAIL_BYTES: u64 = 64 << 10;
/// How much is read at a time when a line does not want to end.
const STEP_BYTES: u64 = 4 << 20;
/// How much of a compressed file is read at a time; it may become a thousand times as much.
const COMPRESSED_STEP_BYTES: u64 = 256 << 10;

/// A file to be read.
#[derive(Clone, Debug)]
pub(crate) struct FileBytes {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) location: Path,
    /// The file's URI, for errors.
    pub(crate) uri: Arc<str>,
    /// Bytes of the file when its batch was planned; what was added since is not read.
    pub(crate) size: u64,
}

impl FileBytes {
    /// Some bytes of the file.
    pub(crate) async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let start = range.start;
        match self.store.get_range(&self.location, range).await {
            Ok(bytes) => Ok(bytes),
            Err(error @ object_store::Error::NotFound { .. }) => Err(self.read_error(error)),
            Err(error) => match self.store.head(&self.location).await {
                // It became shorter since the batch was planned: what there is is read.
                Ok(there) if there.size <= start => Ok(Bytes::new()),
                _ => Err(self.read_error(error)),
            },
        }
    }

    /// The error for a file that cannot be read.
    pub(crate) fn read_error(&self, error: object_store::Error) -> Error {
        match error {
            object_store::Error::NotFound { .. } => Error::Data {
                class: Some("FAILED_READ_FILE.FILE_NOT_EXIST".into()),
                message: format!(
                    "Encountered error while reading file {}. File does not exist: it was there when the batch was \
                     planned. Start the query again (a file that is gone is then skipped), and delete files only \
                     after their batch, for example with the option cleanSource.",
                    self.uri
                ),
            },
            object_store::Error::Precondition { .. } => Error::Data {
                class: Some("FAILED_READ_FILE.NO_HINT".into()),
                message: format!(
                    "Encountered error while reading file {}: the file changed while it was read. Start the query again, and \
                     write files under another name (starting with _ or .) and rename them when they are complete.",
                    self.uri
                ),
            },
            other => other.into(),
        }
    }
}

/// How a file is compressed: by the end of its name, as Hadoop decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Deflate,
}

impl Compression {
    pub(crate) fn of(location: &Path) -> Result<Self> {
        let name = location.filename().unwrap_or_default();
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("gz") => Ok(Self::Gzip),
            Some("deflate") => Ok(Self::Deflate),
            Some(ending @ ("bz2" | "snappy" | "lz4" | "zst")) => Err(Error::analysis(format!(
                "The file '{location}' is compressed with {ending}, which the text formats do not read. Compress it \
                 with gzip (.gz), or exclude it with the option pathGlobFilter."
            ))),
            _ => Ok(Self::None),
        }
    }
}

/// Undoes the compression of what is pushed into it.
enum Inflater {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Inflater {
    fn push(&mut self, bytes: &[u8], is_last: bool) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                if is_last {
                    decoder.try_finish()?;
                }
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(bytes)?;
                if is_last {
                    decoder.try_finish()?;
                }
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

/// Reads one piece of a file line by line.
pub(crate) struct LineReader {
    file: FileBytes,
    /// Lines that start before this byte are the piece's own.
    end: u64,
    separator: Option<Arc<[u8]>>,
    inflater: Option<Inflater>,
    whole_file: bool,
    /// Bytes not consumed yet begin at `at`.
    buffer: Bytes,
    at: usize,
    /// The place in the (uncompressed) file of the buffer's first byte.
    buffer_starts: u64,
    /// The file has been read up to here.
    loaded_to: u64,
    /// The number of the next line, when it is known.
    line: Option<u64>,
    /// The file's start (byte order mark) or a stranger's line must be passed over first.
    is_begun: bool,
}

impl LineReader {
    /// The lines that start in `range`; compressed files and whole files are always one piece.
    pub(crate) fn new(file: FileBytes, range: Range<u64>, separator: Option<&[u8]>, whole_file: bool) -> Result<Self> {
        let inflater = match Compression::of(&file.location)? {
            Compression::None => None,
            Compression::Gzip => Some(Inflater::Gzip(MultiGzDecoder::new(Vec::new()))),
            Compression::Deflate => Some(Inflater::Deflate(ZlibDecoder::new(Vec::new()))),
        };
        let from = range.start.saturating_sub(1);
        Ok(Self {
            end: if inflater.is_some() || whole_file { u64::MAX } else { range.end },
            separator: separator.map(Arc::from),
            inflater,
            whole_file,
            buffer: Bytes::new(),
            at: 0,
            buffer_starts: from,
            loaded_to: from,
            line: (range.start == 0).then_some(1),
            is_begun: false,
            file,
        })
    }

    /// Hands lines to the decoder until it is full (false) or the piece is at its end (true).
    pub(crate) async fn feed(&mut self, decoder: &mut dyn LineDecoder) -> Result<bool> {
        if !self.is_begun {
            self.begin(decoder).await?;
        }
        if self.whole_file {
            while self.more().await? {}
            if !self.buffer.is_empty() {
                decoder.line(&self.buffer, &self.place())?;
            }
            return Ok(true);
        }
        let mut place = self.place();
        loop {
            let starts = self.buffer_starts + self.at as u64;
            if starts >= self.end {
                return Ok(true);
            }
            let rest = &self.buffer[self.at..];
            let (length, next) = match line_end(rest, self.separator.as_deref(), self.is_all_loaded()) {
                Some(found) => found,
                None if self.more().await? => continue,
                None => {
                    let rest = &self.buffer[self.at..];
                    if rest.is_empty() {
                        return Ok(true);
                    }
                    (rest.len(), rest.len())
                }
            };
            (place.byte, place.line) = (starts, self.line);
            decoder.line(&self.buffer[self.at..self.at + length], &place)?;
            self.at += next;
            self.line = self.line.map(|line| line + 1);
            if decoder.is_full() {
                return Ok(false);
            }
        }
    }

    fn place(&self) -> Place {
        Place { file: Arc::clone(&self.file.uri), line: self.line, byte: self.buffer_starts + self.at as u64 }
    }

    fn is_all_loaded(&self) -> bool {
        self.loaded_to >= self.file.size
    }

    async fn begin(&mut self, decoder: &mut dyn LineDecoder) -> Result<()> {
        self.is_begun = true;
        decoder.begin_file(self.line.is_some());
        while self.more().await? && self.buffer.len() < 3 {}
        if self.line.is_some() {
            if self.buffer.starts_with(&[0xef, 0xbb, 0xbf]) {
                self.at = 3;
            }
            return Ok(());
        }
        // The buffer starts one byte before the piece: if that byte ends a line, the next line is ours.
        loop {
            match line_end(&self.buffer, self.separator.as_deref(), self.is_all_loaded()) {
                Some((_, next)) => self.at = next,
                None if self.more().await? => continue,
                None => self.at = self.buffer.len(),
            }
            return Ok(());
        }
    }

    /// Reads on; false when there is nothing more.
    async fn more(&mut self) -> Result<bool> {
        if self.is_all_loaded() {
            return Ok(false);
        }
        let is_first = self.loaded_to == self.buffer_starts && self.buffer.is_empty();
        let step = if self.inflater.is_none() && is_first && self.end != u64::MAX {
            (self.end - self.loaded_to).saturating_add(TAIL_BYTES)
        } else if self.inflater.is_some() {
            COMPRESSED_STEP_BYTES
        } else {
            // A long line is copied at each step: steps that grow with it keep that linear.
            STEP_BYTES.max((self.buffer.len() - self.at) as u64)
        };
        let to = self.loaded_to.saturating_add(step).min(self.file.size);
        let mut bytes = self.file.range(self.loaded_to..to).await?;
        if bytes.is_empty() {
            // The file has become shorter than it was.
            self.loaded_to = self.file.size;
            return Ok(false);
        }
        self.loaded_to += bytes.len() as u64;
        let is_last = self.is_all_loaded();
        if let Some(inflater) = &mut self.inflater {
            bytes = inflater.push(&bytes, is_last).map(Bytes::from).map_err(|error| Error::Data {
                class: Some("FAILED_READ_FILE.NO_HINT".into()),
                message: format!(
                    "Encountered error while reading file {}: {error}. The compressed file is damaged or not complete; \
                     write files under another name and rename them when they are complete.",
                    self.file.uri
                ),
            })?;
        }
        if self.at < self.buffer.len() {
            let mut joined = Vec::with_capacity(self.buffer.len() - self.at + bytes.len());
            joined.extend_from_slice(&self.buffer[self.at..]);
            joined.extend_from_slice(&bytes);
            bytes = Bytes::from(joined);
        }
        self.buffer_starts += self.at as u64;
        self.buffer = bytes;
        self.at = 0;
        Ok(true)
    }
}

/// The first line's length and where the next line starts; `None` when the line's end is not in these bytes.
#[inline]
fn line_end(bytes: &[u8], separator: Option<&[u8]>, is_all: bool) -> Option<(usize, usize)> {
    if let Some(separator) = separator {
        let length = memchr::memmem::find(bytes, separator)?;
        return Some((length, length + separator.len()));
    }
    let length = memchr::memchr2(b'\n', b'\r', bytes)?;
    if bytes[length] == b'\n' {
        return Some((length, length + 1));
    }
    match bytes.get(length + 1) {
        Some(b'\n') => Some((length, length + 2)),
        Some(_) => Some((length, length + 1)),
        // The `\n` of a `\r\n` may be the next byte to come.
        None if is_all => Some((length, length + 1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::record_batch::RecordBatch;
    use object_store::memory::InMemory;

    use super::*;

    #[derive(Debug, Default)]
    struct Collect(Vec<String>);

    impl LineDecoder for Collect {
        fn line(&mut self, line: &[u8], _: &Place) -> Result<()> {
            self.0.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        }

        fn is_full(&self) -> bool {
            false
        }

        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        fn finish(&mut self) -> Result<RecordBatch> {
            Err(Error::internal("not asked for here"))
        }
    }

    async fn file(name: &str, bytes: &[u8]) -> FileBytes {
        let store = Arc::new(InMemory::new());
        let location = Path::from(name);
        store.put(&location, bytes.to_vec().into()).await.unwrap();
        FileBytes { store, location, uri: "mem:///f".into(), size: bytes.len() as u64 }
    }

    async fn lines(file: &FileBytes, range: Range<u64>, separator: Option<&[u8]>) -> Vec<String> {
        let mut decoder = Collect::default();
        let mut reader = LineReader::new(file.clone(), range, separator, false).unwrap();
        assert!(reader.feed(&mut decoder).await.unwrap());
        decoder.0
    }

    #[tokio::test]
    async fn every_cut_gives_every_line_once() {
        for text in
            ["a\nbb\nccc", "a\r\nbb\r\n\r\nc\r\n", "a\rb\r\rc", "\n\n\n", "a\n\rb\r\rc\r\n\nd", "one line", "é\nü"]
        {
            let file = file("f", text.as_bytes()).await;
            let whole = lines(&file, 0..file.size, None).await;
            for cut in 1..file.size {
                let mut parts = lines(&file, 0..cut, None).await;
                parts.extend(lines(&file, cut..file.size, None).await);
                assert_eq!(parts, whole, "{text:?} cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn lines_longer_than_what_is_read_at_once() {
        let long = "x".repeat(3 * TAIL_BYTES as usize);
        let file = file("f", format!("a\n{long}\nb\n").as_bytes()).await;
        assert_eq!(lines(&file, 0..10, None).await, ["a", &long]);
        assert_eq!(lines(&file, 10..file.size, None).await, ["b"]);
    }

    #[tokio::test]
    async fn compressed_files_in_several_members() {
        let mut packed = Vec::new();
        for part in ["a\nb", "b\nc\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            packed.extend(encoder.finish().unwrap());
        }
        let whole = file("f.gz", &packed).await;
        assert_eq!(lines(&whole, 0..whole.size, None).await, ["a", "bb", "c"]);
        let torn = file("f.gz", &packed[..packed.len() - 5]).await;
        let mut reader = LineReader::new(torn, 0..1, None, false).unwrap();
        let error = reader.feed(&mut Collect::default()).await.unwrap_err();
        assert!(error.to_string().contains("mem:///f"), "{error}");
        let error = Compression::of(&Path::from("x.zst")).unwrap_err();
        assert!(error.to_string().contains("gzip"), "{error}");
    }

    #[tokio::test]
    async fn byte_order_mark_and_own_separators() {
        let marked = file("f", "\u{feff}a\nb".as_bytes()).await;
        assert_eq!(lines(&marked, 0..marked.size, None).await, ["a", "b"]);
        let separated = file("f", b"a||b\n||c").await;
        assert_eq!(lines(&separated, 0..separated.size, Some(b"||")).await, ["a", "b\n", "c"]);
    }
}
