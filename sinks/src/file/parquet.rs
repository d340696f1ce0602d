//! Parquet files as Spark writes and reads them: timestamps in microseconds, no Arrow schema hidden in the metadata.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use super::compression::{not_available, requested};
use super::format::{FileEncoder, Kind, refuse_unknown};

/// A row group is closed at this many bytes in memory, so that a file of any size is written in bounded space.
const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

/// The options of Parquet files.
#[derive(Clone, Debug)]
pub(crate) struct ParquetFormat {
    compression: Compression,
}

impl ParquetFormat {
    pub(crate) fn of(options: &Options) -> Result<Self> {
        refuse_unknown(Kind::Parquet, options, &[])?;
        let compression = match requested(options).as_deref() {
            None | Some("snappy") => Compression::SNAPPY,
            Some("none" | "uncompressed") => Compression::UNCOMPRESSED,
            Some("gzip") => Compression::GZIP(GzipLevel::default()),
            Some("zstd") => Compression::ZSTD(ZstdLevel::try_new(3).map_err(parquet_error)?), // Spark's level
            Some("lz4") => Compression::LZ4,
            Some("lz4_raw") => Compression::LZ4_RAW,
            Some(other) => return Err(not_available(other, "none, uncompressed, snappy, gzip, zstd, lz4, lz4_raw")),
        };
        Ok(Self { compression })
    }

    /// What stands before `.parquet` in a file name.
    pub(crate) fn codec_ending(&self) -> &'static str {
        match self.compression {
            Compression::SNAPPY => ".snappy",
            Compression::GZIP(_) => ".gz",
            Compression::ZSTD(_) => ".zstd",
            Compression::LZ4 => ".lz4hadoop",
            Compression::LZ4_RAW => ".lz4raw",
            _ => "",
        }
    }

    pub(crate) fn start(&self, schema: &SchemaRef) -> Result<Box<dyn FileEncoder>> {
        let schema = Arc::new(Schema::new(schema.fields().iter().map(|f| stored_field(f)).collect::<Fields>()));
        let properties = WriterProperties::builder().set_compression(self.compression).set_coerce_types(true).build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options).map_err(parquet_error)?;
        Ok(Box::new(ParquetEncoder { schema, writer }))
    }
}

/// The field as it is stored: times in microseconds, which is all that Spark knows; no metadata.
fn stored_field(field: &Field) -> Field {
    Field::new(field.name(), stored_type(field.data_type()), field.is_nullable())
}

fn stored_type(data_type: &DataType) -> DataType {
    let stored = |field: &Arc<Field>| Arc::new(stored_field(field));
    match data_type {
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Date64 => DataType::Date32,
        DataType::Float16 => DataType::Float32,
        DataType::Dictionary(_, values) => stored_type(values),
        DataType::List(item) => DataType::List(stored(item)),
        DataType::LargeList(item) => DataType::LargeList(stored(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(stored(item), *length),
        DataType::Map(entries, sorted) => DataType::Map(stored(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| stored_field(f)).collect()),
        other => other.clone(),
    }
}

struct ParquetEncoder {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
}

impl FileEncoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
        });
        let rows = RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_, _>>()?)?;
        self.writer.write(&rows).map_err(parquet_error)?;
        if self.writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
            self.writer.flush().map_err(parquet_error)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<u8>> {
        self.writer.finish().map_err(parquet_error)?;
        Ok(self.take())
    }
}

fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    datafusion::error::DataFusionError::from(error).into()
}
