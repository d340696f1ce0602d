//! Codecs of the text formats, and how each codec shows in a file name.

use std::io::Write;

use datafusion::error::DataFusionError;
use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};
use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

/// How the bytes of a text format are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Not at all.
    None,
    /// gzip, `.gz`.
    Gzip,
    /// zlib, which Hadoop calls `.deflate`.
    Deflate,
}

impl Codec {
    /// The codec that the option `compression` (or `codec`) asks for.
    pub(crate) fn of(options: &Options) -> Result<Self> {
        match requested(options).as_deref() {
            None | Some("none" | "uncompressed") => Ok(Self::None),
            Some("gzip") => Ok(Self::Gzip),
            Some("deflate") => Ok(Self::Deflate),
            Some(other) => Err(not_available(other, "none, uncompressed, gzip, deflate")),
        }
    }

    /// What follows the format's own ending.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Deflate => ".deflate",
        }
    }
}

/// The lower-cased value of `compression`, or of `codec`, its other name.
pub(crate) fn requested(options: &Options) -> Option<String> {
    options.get("compression").or_else(|| options.get("codec")).map(str::to_lowercase)
}

/// A codec that is not known here.
pub(crate) fn not_available(codec: &str, known: &str) -> Error {
    Error::analysis_class(
        "CODEC_NOT_AVAILABLE.WITH_AVAILABLE_CODECS_SUGGESTION",
        format!("The codec {codec} is not available. Available codecs are {known}."),
    )
}

/// Bytes on their way through a codec. The same bytes in give the same bytes out: no time stamps.
pub(crate) enum Compressor {
    None(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Compressor {
    pub(crate) fn new(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None(Vec::new()),
            Codec::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Level::default())),
            Codec::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), Level::default())),
        }
    }

    /// Appends bytes.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> Result<()> {
        let pushed = match self {
            Self::None(out) if out.is_empty() => {
                *out = bytes;
                Ok(())
            }
            Self::None(out) => {
                out.extend_from_slice(&bytes);
                Ok(())
            }
            Self::Gzip(encoder) => encoder.write_all(&bytes),
            Self::Deflate(encoder) => encoder.write_all(&bytes),
        };
        Ok(pushed.map_err(DataFusionError::from)?)
    }

    /// The compressed bytes that are ready.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::None(out) => out,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
        })
    }

    /// The last compressed bytes.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let last = match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        };
        Ok(last.map_err(DataFusionError::from)?)
    }
}
