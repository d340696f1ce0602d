//! What a session registers for each file format: a definition becomes columns, a stream or a static table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use wavetank_engine::environment::Environment;
use wavetank_engine::source::{Source, SourceContext, SourceDefinition, SourceProvider};
use wavetank_engine::{Error, Result};

use crate::file::FileFormat;
use crate::file::listing::{FoundFile, Listing};
use crate::file::options::{Selection, StreamOptions, path, refuse_unknown};
use crate::file::scan::FileScan;
use crate::file::source::FileSource;
use crate::file::table::FileTable;
use crate::format::column::{is_text, nullable};
use crate::format::lines::FileBytes;
use crate::format::parquet;
use crate::format::reader::FormatReader;

/// The provider of one file format.
#[derive(Debug, Clone, Copy)]
pub struct FileProvider {
    format: FileFormat,
}

impl FileProvider {
    /// The provider of this format.
    pub fn new(format: FileFormat) -> Self {
        Self { format }
    }

    /// The columns of the files and of their folders.
    async fn scan(
        &self,
        definition: &SourceDefinition,
        listing: &Listing,
        data: Option<SchemaRef>,
    ) -> Result<FileScan> {
        let user = match (data, &definition.schema) {
            (Some(data), _) => data,
            (None, Some(schema)) => Arc::clone(schema),
            (None, None) if self.format == FileFormat::Text => {
                Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)]))
            }
            (None, None) => {
                return Err(Error::analysis(
                    "Schema must be specified when creating a streaming source DataFrame. If some files already exist \
                     in the directory, then depending on the file format you may be able to create a static DataFrame \
                     on that directory with 'spark.read.load(directory)' and infer schema from it. Write the columns, \
                     for example CREATE TABLE t (ts TIMESTAMP, k STRING) USING json ...",
                ));
            }
        };
        let partitions = listing.partitions().await?.fields(|name| {
            let own = user.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
            own.map(nullable)
        });
        let is_partition =
            |field: &FieldRef| partitions.iter().any(|own| own.name().eq_ignore_ascii_case(field.name()));
        let data: Vec<_> = user.fields().iter().filter(|field| !is_partition(field)).map(nullable).collect();
        let data = Arc::new(Schema::new(data));
        if self.format == FileFormat::Text && !matches!(data.fields().as_ref(), [only] if is_text(only.data_type())) {
            return Err(Error::analysis(format!(
                "Text data source supports only a single column of type STRING, and you have {} columns. Leave the \
                 schema out; the column is value STRING.",
                data.fields().len()
            )));
        }
        refuse_twins(&data)?;
        Ok(FileScan {
            reader: FormatReader::new(self.format, &definition.options, &data)?,
            data,
            partitions,
            ignore_missing_files: definition.options.boolean("ignoreMissingFiles", false)?,
        })
    }
}

/// Two columns of one name cannot be told apart.
fn refuse_twins(schema: &SchemaRef) -> Result<()> {
    for (at, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..at].iter().any(|other| other.name().eq_ignore_ascii_case(field.name())) {
            return Err(Error::analysis_class(
                "COLUMN_ALREADY_EXISTS",
                format!(
                    "The column `{0}` already exists. Choose another name or rename the existing column.",
                    field.name().to_lowercase()
                ),
            ));
        }
    }
    Ok(())
}

#[async_trait]
impl SourceProvider for FileProvider {
    fn short_name(&self) -> &str {
        self.format.name()
    }

    fn filters_while_reading(&self) -> bool {
        matches!(self.format, FileFormat::Json | FileFormat::Csv)
    }

    async fn stream_schema(&self, definition: &SourceDefinition, environment: &Environment) -> Result<SchemaRef> {
        refuse_unknown(self.format, &definition.options)?;
        let path = path(&definition.options)?;
        // Which values the options have is looked at when the query starts, as in Spark; where the files are, now.
        let selection = Selection::new(&definition.options).unwrap_or_default();
        let listing = Listing::new(environment.storage.as_ref(), path, selection)?;
        listing.check_exists().await?;
        Ok(self.scan(definition, &listing, None).await?.schema())
    }

    async fn stream(&self, definition: &SourceDefinition, context: SourceContext) -> Result<Arc<dyn Source>> {
        let options = StreamOptions::new(&definition.options)?;
        let selection = Selection::of_stream(&definition.options)?;
        let path = path(&definition.options)?;
        let listing = Listing::new(context.environment.storage.as_ref(), path, selection)?;
        let mut scan = self.scan(definition, &listing, None).await?;
        scan.settle(&context.schema, definition.schema.as_ref());
        Ok(Arc::new(FileSource::open(path, listing, scan, options, context).await?))
    }

    async fn table(&self, definition: &SourceDefinition, environment: &Environment) -> Result<Arc<dyn TableProvider>> {
        refuse_unknown(self.format, &definition.options)?;
        let storage = environment.storage.as_ref();
        let selection = Selection::new(&definition.options)?;
        let listing = Listing::new(storage, path(&definition.options)?, selection)?;
        listing.check_exists().await?;
        let has_sink_log = listing.has_sink_log().await?;
        let inferred = match (self.format, &definition.schema) {
            (FileFormat::Parquet, None) => {
                let names: Vec<_> = listing.partitions().await?.fields(|_| None);
                let names: Vec<_> = names.iter().map(|field| field.name().clone()).collect();
                let files = files(&listing, has_sink_log, &names).await?;
                Some(infer_parquet(storage, &files, &listing).await?)
            }
            (FileFormat::Json | FileFormat::Csv, None) => {
                return Err(Error::analysis_class(
                    "UNABLE_TO_INFER_SCHEMA",
                    format!(
                        "Unable to infer schema for {}. It must be specified manually: write the columns, for example \
                         CREATE TABLE t (ts TIMESTAMP, k STRING) USING {} ...",
                        self.format.name().to_uppercase(),
                        self.format
                    ),
                ));
            }
            _ => None,
        };
        let scan = self.scan(definition, &listing, inferred).await?;
        let found = files(&listing, has_sink_log, &scan.partition_names()).await?;
        let files = found.iter().map(|file| scan.file(storage, file)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(FileTable::new(scan, files)))
    }
}

async fn files(listing: &Listing, has_sink_log: bool, partitions: &[String]) -> Result<Vec<FoundFile>> {
    if has_sink_log { listing.sink_files().await } else { listing.files(partitions).await }
}

async fn infer_parquet(
    storage: &dyn wavetank_engine::storage::Storage,
    files: &[FoundFile],
    listing: &Listing,
) -> Result<SchemaRef> {
    let Some(first) = files.iter().find(|file| file.size > 0) else {
        return Err(Error::analysis_class(
            "UNABLE_TO_INFER_SCHEMA",
            format!(
                "Unable to infer schema for Parquet. It must be specified manually: there is no file in {} yet.",
                listing.base().uri("")
            ),
        ));
    };
    let place = storage.folder(&first.uri)?;
    let (uri, size) = (first.uri.as_str().into(), first.size);
    let file = FileBytes { store: place.store, location: place.path, uri, size };
    Ok(Arc::new(parquet::infer(&file).await?))
}
