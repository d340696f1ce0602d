//! The state of a stream-stream join as Spark has it: by side, or under the names of Spark's four stores.
//!
//! ```text
//! joinSide left                  the buffered rows of the left input
//! left-keyToNumValues            how many there are of each key
//! left-keyWithIndexToValue       each with its number among those of its key, and whether it has matched
//! ```
//! Wavetank keeps one store a side: key columns, where the row came from (`__batch`, `__row`) -> the row's other columns,
//! `__matched`. A column that is a join key is kept once, in the key.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::row::{OwnedRow, RowConverter, SortField};

use super::options::{JoinSide, StateOptions, Wanted, invalid};
use super::store::spark_fields;
use crate::error::{Error, Result};
use crate::state::{Entries, OperatorSpec, StoreSpec};

const JOIN: &str = "symmetricHashJoin";

/// Which of Spark's views of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rows,
    NumValues,
    WithIndex,
}

/// How a side of a join is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct JoinView {
    side: JoinSide,
    kind: Kind,
}

impl JoinView {
    /// The view that the options ask for; `None` for a store as it is.
    pub(super) fn of(options: &StateOptions, operator: &OperatorSpec) -> Result<Option<Self>> {
        let is_join = operator.name == JOIN;
        if let Some(side) = options.join_side {
            if !is_join {
                let why = format!(
                    "operator {} ({}) is not a stream-stream join. Leave the option out.",
                    operator.operator_id, operator.name
                );
                return Err(invalid("joinSide", &why));
            }
            return Ok(Some(Self { side, kind: Kind::Rows }));
        }
        let (side, kind) = match options.store_name().split_once('-') {
            Some(("left", kind)) if is_join => (JoinSide::Left, kind),
            Some(("right", kind)) if is_join => (JoinSide::Right, kind),
            _ => return Ok(None),
        };
        let kind = match kind {
            "keyToNumValues" => Kind::NumValues,
            "keyWithIndexToValue" => Kind::WithIndex,
            _ => return Ok(None),
        };
        if let Wanted::Changes(..) = options.wanted {
            return Err(invalid(
                "readChangeFeed",
                "Wavetank keeps a join's state in the stores left and right. Read their changes instead.",
            ));
        }
        Ok(Some(Self { side, kind }))
    }

    /// The store that is read.
    pub(super) fn store_name(&self) -> &'static str {
        match self.side {
            JoinSide::Left => "left",
            JoinSide::Right => "right",
        }
    }

    /// The fields of key and value.
    pub(super) fn fields(&self, store: &StoreSpec) -> (Fields, Fields) {
        let as_spark =
            |(at, field): (usize, FieldRef)| Arc::new(field.as_ref().clone().with_name(format!("field{at}")));
        let mut keys: Vec<FieldRef> = own(&store.schema.key).into_iter().map(as_spark).collect();
        let mut values: Vec<FieldRef> = own(&store.schema.value).into_iter().map(|(_, field)| field).collect();
        let bigint = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
        match self.kind {
            Kind::Rows => {}
            Kind::NumValues => values = vec![bigint("value")],
            Kind::WithIndex => {
                keys.push(bigint("index"));
                values.push(Arc::new(Field::new("matched", DataType::Boolean, true)));
            }
        }
        (spark_fields(&keys), spark_fields(&values))
    }

    /// To be given the entries of one partition.
    pub(super) fn begin(&self) -> Viewing {
        Viewing { kind: self.kind, seen: BTreeMap::new(), converter: None }
    }
}

/// The columns that are the query's own.
fn own(schema: &Schema) -> Vec<(usize, FieldRef)> {
    let fields = schema.fields().iter().cloned().enumerate();
    fields.filter(|(_, field)| !field.name().starts_with("__")).collect()
}

fn pick(columns: &[ArrayRef], schema: &Schema) -> Vec<ArrayRef> {
    own(schema).into_iter().map(|(at, _)| Arc::clone(&columns[at])).collect()
}

/// A view being made.
pub(super) struct Viewing {
    kind: Kind,
    /// How often each key came, with it.
    seen: BTreeMap<OwnedRow, i64>,
    /// What made the rows in `seen`: only it can read them.
    converter: Option<RowConverter>,
}

impl Viewing {
    /// Takes entries; hands on those of the view that are known by now.
    pub(super) fn add(
        &mut self,
        entries: Entries,
        store: &StoreSpec,
        mut show: impl FnMut(Entries) -> Result<()>,
    ) -> Result<()> {
        let mut keys = pick(&entries.keys, &store.schema.key);
        let stored = entries.values.unwrap_or_default();
        let mut values = pick(&stored, &store.schema.value);
        if self.kind != Kind::Rows {
            let converter = match &mut self.converter {
                Some(converter) => converter,
                none => {
                    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone()));
                    none.insert(RowConverter::new(fields.collect())?)
                }
            };
            let rows = converter.convert_columns(&keys)?;
            let indexes = rows.iter().map(|row| {
                let count = self.seen.entry(row.owned()).or_insert(0);
                *count += 1;
                *count - 1
            });
            let indexes = Int64Array::from_iter_values(indexes);
            if self.kind == Kind::NumValues {
                return Ok(());
            }
            keys.push(Arc::new(indexes));
            let matched = store.schema.value.index_of("__matched").map_err(Error::from)?;
            values.push(Arc::clone(&stored[matched]));
        }
        show(Entries { count: entries.count, keys, values: Some(values) })
    }

    /// What is known only at the end.
    pub(super) fn finish(self) -> Result<Option<Entries>> {
        let (Kind::NumValues, Some(converter)) = (self.kind, &self.converter) else { return Ok(None) };
        let (keys, counts): (Vec<_>, Vec<_>) = self.seen.into_iter().unzip();
        let keys = converter.convert_rows(keys.iter().map(OwnedRow::row))?;
        let counts = Int64Array::from(counts);
        Ok(Some(Entries { count: counts.len(), keys, values: Some(vec![Arc::new(counts)]) }))
    }
}
