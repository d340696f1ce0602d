//! When entries of state leave: at their event time; also entries from before there was a watermark.
//!
//! A watermark may be added between two runs (`spec/08`). What is in the state by then never expires; Spark, which looks
//! at the kept keys and rows themselves, evicts it (and, in append mode, puts it out). So in the first batch of a run
//! each entry without expiry gets what the operator would give it now. Costs nothing when there is none. Entries whose
//! event time is null stay as they are, and are looked at once a run.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{filter, is_not_null};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::Result;

use super::watermark::event_time_micros;
use crate::planted::planted;
use crate::state::{StateRows, StateStore};

/// Entries leave at these event times (a column of timestamps, or of windows, which leave at their end), in microseconds;
/// null stays null: never.
pub(super) fn at_event_time(times: &ArrayRef) -> Result<Int64Array> {
    let times = event_time_micros(times)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    Ok(Int64Array::new(times.values().clone(), times.nulls().cloned()))
}

/// Gives the entries of a store without expiry the one of `expiry_of`, in the first batch of a run.
pub(super) fn expire_old(
    is_first_batch: bool,
    store: &mut dyn StateStore,
    expiry_of: impl Fn(&StateRows) -> Result<Int64Array>,
) -> Result<()> {
    if !is_first_batch || planted("what-was-kept-without-a-watermark-stays") {
        return Ok(());
    }
    let mut cursor = store.without_expiry()?;
    loop {
        let start = cursor.next;
        let Some(rows) = store.next_rows(&mut cursor)? else { break };
        let expiry = expiry_of(&rows)?;
        let known = is_not_null(&expiry)?;
        if known.true_count() > 0 {
            let slots = &cursor.slots[start..cursor.next];
            let slots: Vec<_> = known.values().set_indices().map(|row| slots[row]).collect();
            let values = rows.values.iter().map(|column| filter(column, &known)).collect::<Result<Vec<_>, _>>()?;
            // Entries that were read already are put: what the cursor has yet to read stays as it is.
            store.put_slots(&slots, &values, Some(&expiry.iter().flatten().map(Some).collect()))?;
        }
    }
    Ok(())
}
