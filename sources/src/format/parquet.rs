//! Parquet: the row groups of a piece of a file, with only the columns wanted, adapted to the types asked for.
//!
//! Columns are found by name without regard to case, as Spark finds them; one that the file lacks is null. A type is
//! adapted where no value can be lost (wider numbers, other units of time, structs field by field) and refused
//! otherwise. A row group belongs to the piece in which its middle byte lies.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StructArray,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, Fields, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use object_store::{GetOptions, OBJECT_STORE_COALESCE_DEFAULT, coalesce_ranges};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use wavetank_engine::sql::types::quoted_type_name;
use wavetank_engine::{Error, Result};

use crate::blocks::BATCH_ROWS;
use crate::format::column::is_text;
use crate::format::lines::FileBytes;

/// One piece of a Parquet file, being read.
pub(crate) struct ParquetReader {
    file: Pinned,
    schema: SchemaRef,
    /// For each wanted column, its place in what is read; `None` for a column that the file lacks.
    places: Vec<Option<usize>>,
    rows: Rows,
}

enum Rows {
    Stream(Box<ParquetRecordBatchStream<Pinned>>),
    /// No column of the file is wanted, only how many rows it has.
    Count(usize),
}

impl ParquetReader {
    /// Opens the row groups of a piece.
    pub(crate) async fn open(file: FileBytes, range: Range<u64>, schema: SchemaRef) -> Result<Self> {
        let file = Pinned::new(file);
        let metadata = load(&file).await?;
        let roots = metadata.schema().fields();
        let mut wanted = Vec::new();
        let mut places = Vec::new();
        for field in schema.fields() {
            let root = find(roots, field.name(), &file.bytes)?;
            places.push(root);
            wanted.extend(root);
        }
        wanted.sort_unstable();
        wanted.dedup();
        for root in places.iter_mut().flatten() {
            *root = wanted.partition_point(|other| *other < *root);
        }
        let groups: Vec<usize> = metadata
            .metadata()
            .row_groups()
            .iter()
            .enumerate()
            .filter(|(_, group)| range.contains(&middle(group)))
            .map(|(position, _)| position)
            .collect();
        let rows = if wanted.is_empty() {
            let groups = groups.iter().map(|group| metadata.metadata().row_group(*group).num_rows());
            Rows::Count(groups.sum::<i64>().max(0) as usize)
        } else {
            let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), metadata);
            let builder = builder.with_projection(mask).with_row_groups(groups).with_batch_size(BATCH_ROWS);
            Rows::Stream(Box::new(builder.build().map_err(|error| read_error(&file.bytes, error))?))
        };
        Ok(Self { file, schema, places, rows })
    }

    /// The next rows.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (columns, rows_count) = match &mut self.rows {
            Rows::Count(0) => return Ok(None),
            Rows::Count(left) => {
                let rows_count = (*left).min(BATCH_ROWS);
                *left -= rows_count;
                (Vec::new(), rows_count)
            }
            Rows::Stream(stream) => match stream.next().await {
                None => return Ok(None),
                Some(batch) => {
                    let batch = batch.map_err(|error| read_error(&self.file.bytes, error))?;
                    (batch.columns().to_vec(), batch.num_rows())
                }
            },
        };
        let arrays = self.schema.fields().iter().zip(&self.places).map(|(field, place)| match place {
            None => Ok(new_null_array(field.data_type(), rows_count)),
            Some(place) => adapt(&columns[*place], field.data_type()).ok_or_else(|| {
                let found = columns[*place].data_type();
                mismatch(&self.file.bytes, field, found)
            }),
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows_count));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?))
    }
}

/// The columns of a file as Spark's types, for a table without a schema.
pub(crate) async fn infer(file: &FileBytes) -> Result<Schema> {
    let metadata = load(&Pinned::new(file.clone())).await?;
    Ok(Schema::new(
        metadata
            .schema()
            .fields()
            .iter()
            .map(|field| {
                Field::new(field.name(), wavetank_engine::sql::types::nearest_spark_type(field.data_type()), true)
            })
            .collect::<Vec<_>>(),
    ))
}

async fn load(file: &Pinned) -> Result<ArrowReaderMetadata> {
    // The file's own types count, not the Arrow types of who wrote it.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ArrowReaderMetadata::load_async(&mut file.clone(), options).await.map_err(|error| read_error(&file.bytes, error))
}

fn read_error(file: &FileBytes, error: ParquetError) -> Error {
    if let ParquetError::External(inner) = error {
        return match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => read_error(file, ParquetError::General(other.to_string())),
        };
    }
    Error::Data {
        class: Some("FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER".into()),
        message: format!(
            "Encountered error while reading file {}. Please ensure that the file is in Parquet format and complete \
             ({error}). Write files under another name (starting with _ or .) and rename them when they are complete.",
            file.uri
        ),
    }
}

/// The place of a column among the file's; a name that only differs in case is the same name.
fn find(roots: &Fields, name: &str, file: &FileBytes) -> Result<Option<usize>> {
    let mut same = roots.iter().enumerate().filter(|(_, root)| root.name().eq_ignore_ascii_case(name));
    match (same.next(), same.next()) {
        (Some((_, one)), Some((_, other))) => Err(Error::Data {
            class: None,
            message: format!(
                "Found duplicate field(s) \"{name}\": [{}, {}] in case-insensitive mode in file {}. Rename one of the \
                 columns.",
                one.name(),
                other.name(),
                file.uri
            ),
        }),
        (found, _) => Ok(found.map(|(place, _)| place)),
    }
}

/// A byte in the middle of a row group.
fn middle(group: &RowGroupMetaData) -> u64 {
    let column = group.column(0);
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    (start + group.compressed_size() / 2).max(0) as u64
}

fn mismatch(file: &FileBytes, field: &Field, found: &DataType) -> Error {
    Error::Data {
        class: Some("FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH".into()),
        message: format!(
            "Encountered error while reading file {}. Data type mismatches when reading Parquet column [{}]. Expected \
             Spark type {}, actual Parquet type {}. Give the column the file's type in the schema, and convert it in \
             the query.",
            file.uri,
            field.name(),
            quoted_type_name(field.data_type()),
            quoted_type_name(found)
        ),
    }
}

/// The array with another type, where no value is lost by it.
fn adapt(array: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    let source = array.data_type();
    if source == target {
        return Some(Arc::clone(array));
    }
    match (source, target) {
        (DataType::Struct(_), DataType::Struct(fields)) => adapt_struct(array.as_struct(), fields),
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = adapt(list.values(), item.data_type())?;
            let list = ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned());
            Some(Arc::new(list.ok()?))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let columns =
                map.entries().columns().iter().zip(fields).map(|(column, field)| adapt(column, field.data_type()));
            let pairs = StructArray::try_new(fields.clone(), columns.collect::<Option<_>>()?, None).ok()?;
            let nulls = map.nulls().cloned();
            let map = MapArray::try_new(Arc::clone(entries), map.offsets().clone(), pairs, nulls, *sorted);
            Some(Arc::new(map.ok()?))
        }
        // Downwards, as Spark does it: a cast would go towards 1970.
        (DataType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp(TimeUnit::Microsecond, zone))
            if is_lossless(source, target) =>
        {
            let times = array.as_primitive::<TimestampNanosecondType>();
            let times: PrimitiveArray<TimestampMicrosecondType> = times.unary(|nanos| nanos.div_euclid(1000));
            Some(Arc::new(times.with_timezone_opt(zone.clone())))
        }
        _ if is_lossless(source, target) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, target, &options).ok()
        }
        _ => None,
    }
}

fn adapt_struct(array: &StructArray, fields: &Fields) -> Option<ArrayRef> {
    let columns = fields.iter().map(|field| {
        let place = array.fields().iter().position(|own| own.name().eq_ignore_ascii_case(field.name()));
        match place {
            None => Some(new_null_array(field.data_type(), array.len())),
            Some(place) => adapt(array.column(place), field.data_type()),
        }
    });
    let columns = columns.collect::<Option<Vec<_>>>()?;
    let nulls = array.nulls().cloned();
    Some(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len()).ok()?))
}

/// The conversions that Spark's Parquet reader makes; one that fails for a value fails the query.
fn is_lossless(source: &DataType, target: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Decimal128, Dictionary, Float16, Float32, Float64, Int8, Int16, Int32, Int64,
        LargeBinary, LargeUtf8, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let is_bytes = |data_type: &DataType| is_text(data_type) || matches!(data_type, Binary | LargeBinary | BinaryView);
    match (source, target) {
        (Dictionary(_, values), _) => **values == *target || is_lossless(values, target),
        (Int8 | Int16 | Int32 | UInt8 | UInt16, Int8 | Int16 | Int32 | Int64 | Float64) => true,
        (UInt32, Int64 | Float64) | (UInt64, Decimal128(20.., 0)) => true,
        (Int32 | Int64 | Int16 | Int8, Decimal128(precision, scale)) => {
            let digits = if *source == Int64 { 20 } else { 10 };
            i16::from(*precision) - i16::from(*scale) >= digits
        }
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Decimal128(p, s), Decimal128(q, t)) => {
            t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s)
        }
        (Date32, Timestamp(_, None) | Int32) | (Int32, Date32) => true,
        // A moment is never read as a clock on the wall; the other way round is fine.
        (Timestamp(_, Some(_)), Timestamp(_, None)) => false,
        (Timestamp(..), Timestamp(TimeUnit::Microsecond, _)) => true,
        (Utf8 | LargeUtf8 | Utf8View, other) => is_bytes(other),
        (other, _) if is_bytes(other) => is_bytes(target),
        _ => false,
    }
}

/// One version of a file: whatever is read of it, in however many requests, is of the version of the first one.
#[derive(Clone)]
struct Pinned {
    bytes: FileBytes,
    e_tag: Arc<OnceLock<Option<String>>>,
}

impl Pinned {
    fn new(bytes: FileBytes) -> Self {
        Self { bytes, e_tag: Arc::default() }
    }

    /// Some bytes of that version; an error when the file is another one by now.
    async fn range(&self, range: Range<u64>) -> object_store::Result<Bytes> {
        let (location, if_match) = (&self.bytes.location, self.e_tag.get().cloned().flatten());
        let options = GetOptions { range: Some(range.into()), if_match, ..GetOptions::default() };
        let found = self.bytes.store.get_opts(location, options).await?;
        if found.meta.size != self.bytes.size {
            let source = format!("{} bytes have become {}", self.bytes.size, found.meta.size).into();
            return Err(object_store::Error::Precondition { path: location.to_string(), source });
        }
        self.e_tag.get_or_init(|| found.meta.e_tag.clone());
        found.bytes().await
    }
}

impl AsyncFileReader for Pinned {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let bytes = Self::range(self, range).await;
            bytes.map_err(|error| ParquetError::External(Box::new(self.bytes.read_error(error))))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let fetch = |range| Self::range(self, range);
            let bytes = coalesce_ranges(&ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await;
            bytes.map_err(|error| ParquetError::External(Box::new(self.bytes.read_error(error))))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.bytes.size;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(64 << 10));
            reader.load_and_finish(self, size).await.map(Arc::new)
        }
        .boxed()
    }
}
