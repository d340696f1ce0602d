//! Streaming deduplication as a node of the logical plan, and how it is planned.
//!
//! `DataFrame::drop_duplicates` puts the node there (a static frame gets DataFusion's own DISTINCT instead). Its
//! schema is its input's. The optimizer may take columns away from it that nothing above needs; if the event-time
//! column is among them, there is no late filter (`spec/02` section 5), just as in Spark.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, Projection, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;

use super::extension::StatefulPlanner;
use super::nodes::{StatefulNode, numbered};
use super::watermark::event_time_column;
use crate::operators::dedup::{Deduplication, Lifetime};
use crate::operators::exchange::exchange;
use crate::operators::stateful::NoDataBatch;
use crate::operators::stateful_exec::StatefulExec;
use crate::state::{StateSchema, StoreSpec};

/// How long a key is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub enum Memory {
    /// `dropDuplicates`: until the watermark passes the key's event time; for ever if the key has none.
    OfKey,
    /// `dropDuplicatesWithinWatermark`: until the watermark passes the event time of its first row by the watermark's
    /// delay. Without an event-time column the query is refused when it starts.
    WithinWatermark,
}

/// Passes on the first row of each key, over all batches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deduplicate {
    input: Arc<LogicalPlan>,
    keys: Vec<Column>,
    memory: Memory,
    /// The event-time column, where it is needed although it is no key; known once the plan is analysed.
    time: Option<Column>,
    id: Option<usize>,
    schema: DFSchemaRef,
}

impl Deduplicate {
    /// Puts the node on top of `input`.
    pub fn plan(input: LogicalPlan, keys: Vec<Column>, memory: Memory) -> LogicalPlan {
        let schema = Arc::clone(input.schema());
        let node = Self { input: Arc::new(input), keys, memory, time: None, id: None, schema };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }

    /// The rows to look at.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// The columns that make rows the same.
    pub fn keys(&self) -> &[Column] {
        &self.keys
    }

    /// How long a key is remembered.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The node of an analysed plan with a projection below it that the optimizer can narrow to what is needed. Without one, a column that
    /// only a watermark node below needs would come up to here, and rows would be late by it.
    pub fn narrowable(&self) -> Result<LogicalPlan> {
        let columns = self.schema.columns().into_iter().map(Expr::Column).collect();
        let time = match self.memory {
            Memory::WithinWatermark => {
                event_time_column(&self.input)?.map(|(index, _)| Column::from(self.schema.qualified_field(index)))
            }
            Memory::OfKey => None,
        };
        let input = Projection::try_new(columns, Arc::clone(&self.input))?;
        let node = Self { input: Arc::new(LogicalPlan::Projection(input)), time, ..self.clone() };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn key_indices(&self) -> Result<Vec<usize>> {
        self.keys.iter().map(|key| self.schema.index_of_column(key)).collect()
    }
}

impl StatefulNode for Deduplicate {
    fn id(&self) -> Result<usize> {
        numbered(self.id)
    }

    fn with_id(&self, id: usize) -> LogicalPlan {
        let node = Self { id: Some(id), ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

impl PartialOrd for Deduplicate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.keys, self.memory).partial_cmp(&(&other.keys, other.memory))
    }
}

impl UserDefinedLogicalNodeCore for Deduplicate {
    fn name(&self) -> &str {
        "Deduplicate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain(&self.time).cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys = self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let within = if self.memory == Memory::OfKey { "" } else { " within watermark" };
        write!(f, "Deduplicate: [{keys}]{within}")
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("Deduplicate takes one input") };
        let mut keys = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let Expr::Column(column) = expr else { return internal_err!("Deduplicate takes columns, not {expr}") };
            keys.push(column);
        }
        let time = if self.time.is_some() { keys.pop() } else { None };
        let schema = Arc::clone(input.schema());
        Ok(Self { input: Arc::new(input), keys, time, schema, ..*self })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = output_columns.to_vec();
        for column in self.keys.iter().chain(&self.time) {
            needed.push(self.schema.index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

impl StatefulPlanner {
    /// input -> exchange -> first row of each key.
    pub(super) fn deduplicate(
        &self,
        node: &Deduplicate,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let keys = node.key_indices()?;
        let event_time = event_time_column(&node.input)?;
        let (name, lifetime) = match (node.memory, event_time) {
            (Memory::WithinWatermark, Some((_, delay_ms))) => {
                ("dedupeWithinWatermark", Lifetime::AfterDelay { delay_us: delay_ms.saturating_mul(1000) })
            }
            (Memory::WithinWatermark, None) => {
                return internal_err!("dropDuplicatesWithinWatermark without an event-time column");
            }
            (Memory::OfKey, Some((time, _))) if keys.contains(&time) => ("dedupe", Lifetime::UntilEventTime),
            (Memory::OfKey, _) => ("dedupe", Lifetime::Forever),
        };
        let schema = input.schema();
        let key_fields: Vec<_> =
            keys.iter().map(|key| Arc::new(schema.field(*key).clone().with_nullable(true))).collect();
        let values = match lifetime {
            Lifetime::AfterDelay { .. } => vec![Field::new("expiresAtMicros", DataType::Int64, true)],
            Lifetime::UntilEventTime | Lifetime::Forever => vec![],
        };
        let store = StoreSpec::default_store(StateSchema::new(
            Arc::new(Schema::new(key_fields)),
            Arc::new(Schema::new(values)),
        )?);
        let partitions = if keys.is_empty() { 1 } else { self.settings.state_partitions };
        let wants = NoDataBatch::WhenWatermarkRose;
        let operator = self.operator(node.id()?, name, vec![store], partitions, wants);
        let exchanged = exchange(input, keys.clone(), partitions);
        let deduplication = Deduplication { keys, event_time: event_time.map(|(time, _)| time), lifetime };
        let context = Arc::clone(&self.context);
        let schema = exchanged.schema();
        Ok(Arc::new(StatefulExec::new(vec![exchanged], Arc::new(deduplication), operator, context, schema)))
    }
}
