//! Files become splits, splits become batches: `files -> pieces of about 4 MiB -> splits -> rows`.
//!
//! A large file is cut into pieces that are read side by side; small files are gathered into one split, and text rows
//! of several files into one batch, as long as their partition values are the same.

use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use wavetank_engine::source::Split;
use wavetank_engine::storage::Storage;
use wavetank_engine::{Error, Result};

use crate::file::listing::FoundFile;
use crate::file::partitions::values_of;
use crate::format::LineDecoder;
use crate::format::lines::FileBytes;
use crate::format::reader::{FormatReader, PieceReader, Progress};

/// Bytes of one piece of a text file; a split of small files has about as many.
const TEXT_PIECE_BYTES: u64 = 4 << 20;
/// Bytes of one piece of a Parquet file, whose row groups cannot be cut.
const PARQUET_PIECE_BYTES: u64 = 32 << 20;
/// What opening a file costs, counted in bytes read.
const OPEN_COST_BYTES: u64 = 64 << 10;

/// How the files of a source are read: format, columns, partition columns.
#[derive(Clone, Debug)]
pub(crate) struct FileScan {
    pub(crate) reader: FormatReader,
    /// The columns of the files.
    pub(crate) data: SchemaRef,
    /// The columns that come from folder names; they follow those of the files.
    pub(crate) partitions: Vec<FieldRef>,
    pub(crate) ignore_missing_files: bool,
}

/// A file with everything that reading it needs.
#[derive(Clone, Debug)]
pub(crate) struct ScanFile {
    bytes: FileBytes,
    partition_values: Arc<[ScalarValue]>,
}

impl FileScan {
    /// All columns, in order.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields = self.data.fields().iter().chain(&self.partitions).cloned().collect::<Vec<_>>();
        Arc::new(Schema::new(fields))
    }

    /// Takes over the columns that the stream was defined with: folders may have come or gone since.
    ///
    /// Its partition columns are the last ones that are partition columns now or that the user did not declare.
    pub(crate) fn settle(&mut self, defined: &SchemaRef, declared: Option<&SchemaRef>) {
        let is_named = |name: &str, fields: &[FieldRef]| fields.iter().any(|own| own.name().eq_ignore_ascii_case(name));
        let is_partition = |field: &&FieldRef| {
            let is_declared = declared.is_none_or(|schema| is_named(field.name(), schema.fields()));
            is_named(field.name(), &self.partitions) || !is_declared
        };
        let count = defined.fields().iter().rev().take_while(is_partition).count();
        let (data, partitions) = defined.fields().split_at(defined.fields().len() - count);
        self.data = Arc::new(Schema::new(data.to_vec()));
        self.partitions = partitions.to_vec();
    }

    pub(crate) fn partition_names(&self) -> Vec<String> {
        self.partitions.iter().map(|field| field.name().clone()).collect()
    }

    /// A found file, ready to be read.
    pub(crate) fn file(&self, storage: &dyn Storage, found: &FoundFile) -> Result<ScanFile> {
        let place = storage.folder(&found.uri)?;
        let bytes =
            FileBytes { store: place.store, location: place.path, uri: found.uri.as_str().into(), size: found.size };
        Ok(ScanFile { bytes, partition_values: values_of(&found.uri, &self.partitions)?.into() })
    }

    /// The splits of these files under a projection.
    pub(crate) fn splits(&self, files: &[ScanFile], projection: Option<&[usize]>) -> Result<Vec<Arc<dyn Split>>> {
        let plan = Arc::new(self.plan(projection)?);
        let mut splits: Vec<Arc<dyn Split>> = Vec::new();
        let mut gathered: Vec<Piece> = Vec::new();
        let mut gathered_bytes = 0;
        let split_of = |pieces: Vec<Piece>| -> Arc<dyn Split> {
            Arc::new(FileSplit { plan: Arc::clone(&plan), pieces: pieces.into() })
        };
        let piece_bytes = match self.reader {
            FormatReader::Parquet => PARQUET_PIECE_BYTES,
            _ => TEXT_PIECE_BYTES,
        };
        for file in files.iter().filter(|file| file.bytes.size > 0) {
            let size = file.bytes.size;
            let is_cut = size > piece_bytes + piece_bytes / 2 && self.reader.is_splittable(&file.bytes);
            if is_cut {
                let count = size.div_ceil(piece_bytes);
                splits.extend((0..count).map(|at| {
                    let range = size * at / count..size * (at + 1) / count;
                    split_of(vec![Piece { file: file.clone(), range }])
                }));
                continue;
            }
            if gathered_bytes + size + OPEN_COST_BYTES > piece_bytes && !gathered.is_empty() {
                splits.push(split_of(std::mem::take(&mut gathered)));
                gathered_bytes = 0;
            }
            gathered.push(Piece { file: file.clone(), range: 0..size });
            gathered_bytes += size + OPEN_COST_BYTES;
        }
        if !gathered.is_empty() {
            splits.push(split_of(gathered));
        }
        Ok(splits)
    }

    fn plan(&self, projection: Option<&[usize]>) -> Result<Plan> {
        let schema = crate::blocks::projected(&self.schema(), projection)?;
        let data_count = self.data.fields().len();
        let all: Vec<usize> = (0..data_count + self.partitions.len()).collect();
        let (mut wanted, mut columns) = (Vec::new(), Vec::new());
        for column in projection.unwrap_or(&all) {
            if *column >= data_count {
                columns.push(Origin::Partition(column - data_count));
            } else {
                let place = wanted.iter().position(|other| other == column).unwrap_or_else(|| {
                    wanted.push(*column);
                    wanted.len() - 1
                });
                columns.push(Origin::Data(place));
            }
        }
        let wanted = Arc::new(self.data.project(&wanted)?);
        self.reader.check_projection(&wanted)?;
        Ok(Plan { scan: self.clone(), schema, wanted, columns })
    }
}

/// Where a column of the result comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Data(usize),
    Partition(usize),
}

/// A scan under a projection.
#[derive(Debug)]
struct Plan {
    scan: FileScan,
    schema: SchemaRef,
    /// The columns to read from the files.
    wanted: SchemaRef,
    columns: Vec<Origin>,
}

impl Plan {
    fn assemble(&self, data: RecordBatch, partition_values: &[ScalarValue]) -> Result<RecordBatch> {
        let rows_count = data.num_rows();
        let arrays = self.columns.iter().map(|origin| match origin {
            Origin::Data(place) => Ok(Arc::clone(data.column(*place))),
            Origin::Partition(place) => Ok(partition_values[*place].to_array_of_size(rows_count)?),
        });
        let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows_count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

/// Some bytes of a file.
#[derive(Clone, Debug)]
struct Piece {
    file: ScanFile,
    range: Range<u64>,
}

/// Pieces of files that are read one after the other.
struct FileSplit {
    plan: Arc<Plan>,
    pieces: Arc<[Piece]>,
}

impl Debug for FileSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = self.pieces.iter().map(|piece| (&piece.file.bytes.uri, &piece.range));
        f.debug_list().entries(pieces).finish()
    }
}

impl Split for FileSplit {
    fn open(&self) -> Result<SendableRecordBatchStream> {
        let decoder = self.plan.scan.reader.decoder(&self.plan.wanted, &self.plan.scan.data)?;
        let reading = Reading {
            plan: Arc::clone(&self.plan),
            pieces: Arc::clone(&self.pieces),
            next: 0,
            piece: None,
            decoder,
            partition_values: Arc::from([]),
        };
        let batches = stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.plan.schema), batches)))
    }
}

/// A split being read.
struct Reading {
    plan: Arc<Plan>,
    pieces: Arc<[Piece]>,
    /// The piece that comes after the one being read.
    next: usize,
    piece: Option<PieceReader>,
    decoder: Option<Box<dyn LineDecoder>>,
    /// Of the rows that the decoder holds.
    partition_values: Arc<[ScalarValue]>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(piece) = &mut self.piece else {
                let Some(next) = self.pieces.get(self.next).cloned() else { return self.flush() };
                // Rows of other partitions do not go into one batch.
                if next.file.partition_values != self.partition_values
                    && let Some(batch) = self.flush()?
                {
                    return Ok(Some(batch));
                }
                self.partition_values = next.file.partition_values;
                self.next += 1;
                match self.plan.scan.reader.open(next.file.bytes, next.range, &self.plan.wanted).await {
                    Ok(opened) => self.piece = Some(opened),
                    Err(error) if self.may_be_missing(&error) => {}
                    Err(error) => return Err(error),
                }
                continue;
            };
            let progress = match &mut self.decoder {
                Some(decoder) => piece.next(Some(decoder.as_mut())).await,
                None => piece.next(None).await,
            };
            match progress {
                Ok(Progress::Batch(batch)) => return self.plan.assemble(batch, &self.partition_values).map(Some),
                Ok(Progress::Full) => return self.flush(),
                Ok(Progress::End) => self.piece = None,
                Err(error) if self.may_be_missing(&error) => self.piece = None,
                Err(error) => return Err(error),
            }
        }
    }

    fn may_be_missing(&self, error: &Error) -> bool {
        self.plan.scan.ignore_missing_files && error.class() == Some("FAILED_READ_FILE.FILE_NOT_EXIST")
    }

    /// The rows that the decoder holds, if it holds any.
    fn flush(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.decoder {
            Some(decoder) if !decoder.is_empty() => {
                let batch = decoder.finish()?;
                self.plan.assemble(batch, &self.partition_values).map(Some)
            }
            _ => Ok(None),
        }
    }
}
