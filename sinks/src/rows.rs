//! Reading what a batch hands to a sink: every partition to its end, all at the same time.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use futures::future::try_join_all;
use wavetank_engine::{Error, Result};

/// All rows, partition by partition, each record batch with exactly `schema`.
pub(crate) async fn collect(
    schema: &SchemaRef,
    partitions: Vec<SendableRecordBatchStream>,
) -> Result<Vec<Vec<RecordBatch>>> {
    try_join_all(partitions.into_iter().map(|mut stream| async move {
        let mut batches = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            if batch.num_rows() > 0 {
                batches.push(conform(schema, batch)?);
            }
        }
        Ok::<_, Error>(batches)
    }))
    .await
}

/// The first `limit` rows in the order of the partitions, and how many there were; the others are read and dropped.
pub(crate) async fn head(
    schema: &SchemaRef,
    partitions: Vec<SendableRecordBatchStream>,
    limit: usize,
) -> Result<(Vec<RecordBatch>, u64)> {
    let heads = try_join_all(partitions.into_iter().map(|mut stream| async move {
        let (mut batches, mut kept, mut rows) = (Vec::new(), 0, 0);
        while let Some(batch) = stream.try_next().await? {
            rows += batch.num_rows() as u64;
            if kept < limit && batch.num_rows() > 0 {
                let batch = conform(schema, batch)?;
                let batch = batch.slice(0, batch.num_rows().min(limit - kept));
                kept += batch.num_rows();
                batches.push(batch);
            }
        }
        Ok::<_, Error>((batches, rows))
    }))
    .await?;
    let (mut first, mut missing, mut total) = (Vec::new(), limit, 0);
    for (batches, rows) in heads {
        total += rows;
        for batch in batches {
            let batch = batch.slice(0, batch.num_rows().min(missing));
            missing -= batch.num_rows();
            if batch.num_rows() > 0 {
                first.push(batch);
            }
        }
    }
    Ok((first, total))
}

/// How many rows there are; none is kept.
pub(crate) async fn count(partitions: Vec<SendableRecordBatchStream>) -> Result<u64> {
    let counts = try_join_all(partitions.into_iter().map(|mut stream| async move {
        let mut rows = 0;
        while let Some(batch) = stream.try_next().await? {
            rows += batch.num_rows() as u64;
        }
        Ok::<_, Error>(rows)
    }))
    .await?;
    Ok(counts.iter().sum())
}

/// The number of rows in these record batches.
pub(crate) fn rows_count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// The batch under the sink's own schema. Plans may differ from it in what a sink's readers do not see (a column that
/// the plan knows to be without nulls, metadata, another layout of the same type).
pub(crate) fn conform(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal(format!(
            "a batch of {} columns came to a sink of {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(column.clone())
        } else {
            arrow::compute::cast(column, field.data_type())
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| Error::internal(format!("a batch does not fit its sink: {error}")))
}
