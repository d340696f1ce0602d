//! Session windows of static tables: a node that gives every row the merged session it belongs to.
//!
//! `window_rewrite` leaves a row's own initial session in the window column. A static aggregation that groups by such
//! a column gets an [`AssignSessions`] below it, which replaces initial sessions by merged ones; the aggregation itself
//! stays DataFusion's, so that DISTINCT, FILTER and ORDER BY inside a call work as everywhere. Streams have an operator
//! of their own (`operators::session`).
//!
//! The full version has to handle: no other key (one partition), null keys (one group), keys that are expressions,
//! several input partitions, an empty input, windows of timestamps without zone, a session column that came through a
//! sub-query or a view. Rows without a session are the business of the filter below.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take, take_arrays};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt;

use super::session_merge::merge_sessions;
use super::window::SESSION_WINDOW_KEY;

/// How many rows an output batch has at most.
const OUTPUT_ROWS: usize = 8192;

/// Which grouping column of an aggregation is a session window.
pub fn session_key(fields: &[Arc<Field>]) -> Option<usize> {
    fields.iter().position(|field| field.metadata().contains_key(SESSION_WINDOW_KEY))
}

/// Puts an [`AssignSessions`] below every aggregation (also in sub-queries) that groups by a session window and is
/// not over a stream.
pub fn assign_sessions(plan: LogicalPlan, is_streaming: fn(&LogicalPlan) -> bool) -> Result<LogicalPlan> {
    let assigned = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if !is_streaming(&aggregate.input) => assign_below(aggregate),
        // An aggregation without aggregate functions.
        LogicalPlan::Distinct(Distinct::All(input))
            if session_key(input.schema().fields()).is_some() && !is_streaming(&input) =>
        {
            let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
            assign_below(Aggregate::try_new(input, columns, vec![])?)
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(assigned.data)
}

fn assign_below(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let groups = aggregate.group_expr.len();
    let session = match session_key(&aggregate.schema.fields()[..groups.min(aggregate.schema.fields().len())]) {
        // Of GROUPING SETS there is one expression and several fields.
        Some(key) if !aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) => key,
        _ => return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
    };
    let mut keys: Vec<Expr> = aggregate.group_expr.iter().cloned().map(Expr::unalias).collect();
    let column = keys.remove(session);
    if !matches!(column, Expr::Column(_)) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let node = AssignSessions { schema: Arc::clone(aggregate.input.schema()), input: aggregate.input, column, keys };
    let input = Arc::new(LogicalPlan::Extension(Extension { node: Arc::new(node) }));
    let assigned = Aggregate::try_new_with_schema(input, aggregate.group_expr, aggregate.aggr_expr, aggregate.schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(assigned)))
}

/// Logical node: the input, with the merged session in the session column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignSessions {
    input: Arc<LogicalPlan>,
    /// The session column.
    column: Expr,
    /// Sessions are merged within equal values of these.
    keys: Vec<Expr>,
    schema: DFSchemaRef,
}

impl AssignSessions {
    fn grouped(&self) -> impl Iterator<Item = &Expr> {
        std::iter::once(&self.column).chain(&self.keys)
    }
}

impl Hash for AssignSessions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.column, &self.keys).hash(state);
    }
}

impl PartialOrd for AssignSessions {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.column, &self.keys).partial_cmp(&(&other.column, &other.keys))
    }
}

impl UserDefinedLogicalNodeCore for AssignSessions {
    fn name(&self) -> &str {
        "AssignSessions"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.grouped().cloned().collect()
    }

    /// Filters on keys may go below. So may, as in Spark, those on the session: they are then tested on each row's own
    /// initial session.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let is_key = |column: &Column| self.grouped().any(|expr| matches!(expr, Expr::Column(key) if key == column));
        self.schema.columns().into_iter().filter(|column| !is_key(column)).map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "AssignSessions: {} by [{}]", self.column, keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(input), false) = (inputs.pop(), exprs.is_empty()) else {
            return internal_err!("AssignSessions takes a column and one input");
        };
        let column = exprs.remove(0);
        Ok(Self { schema: Arc::clone(input.schema()), input: Arc::new(input), column, keys: exprs })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = output_columns.to_vec();
        for expr in self.grouped() {
            let columns = expr.column_refs().into_iter().map(|column| self.schema.index_of_column(column).ok());
            needed.extend(columns.collect::<Option<Vec<_>>>()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Plans [`AssignSessions`]; one of the extension planners of a session.
#[derive(Debug, Default)]
pub struct AssignSessionsPlanner;

#[async_trait]
impl ExtensionPlanner for AssignSessionsPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        planning_ctx: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<AssignSessions>() else { return Ok(None) };
        let ([logical], [input], Expr::Column(column)) = (logical_inputs, physical_inputs, &node.column) else {
            return internal_err!("AssignSessions takes a column and one input");
        };
        let schema = logical.schema();
        let keys = node.keys.iter().map(|key| planner.create_physical_expr(key, schema, session, planning_ctx));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let column = schema.index_of_column(column)?;
        Ok(Some(Arc::new(AssignSessionsExec::new(Arc::clone(input), column, keys))))
    }
}

/// Physical node of [`AssignSessions`]. Rows come out in order of key and start.
#[derive(Debug)]
pub struct AssignSessionsExec {
    input: Arc<dyn ExecutionPlan>,
    column: usize,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl AssignSessionsExec {
    /// `column`: the session column of `input`, by index.
    pub fn new(input: Arc<dyn ExecutionPlan>, column: usize, keys: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, column, keys, properties: Arc::new(properties) }
    }
}

impl DisplayAs for AssignSessionsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "AssignSessionsExec: {} by [{}]", self.schema().field(self.column).name(), keys.join(", "))
    }
}

impl ExecutionPlan for AssignSessionsExec {
    fn name(&self) -> &'static str {
        "AssignSessionsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// All rows of a key in one partition.
    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.keys.as_slice() {
            [] => Distribution::SinglePartition,
            keys => Distribution::KeyPartitioned(keys.to_vec()),
        }])
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for key in &self.keys {
            recursion = recursion.visit_sibling(|| f(key))?;
        }
        Ok(recursion)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.column, self.keys.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, crate::operators::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (column, keys, schema) = (self.column, self.keys.clone(), self.schema());
        let assigned = async move {
            let batches: Vec<RecordBatch> = input.try_collect().await?;
            let rows = concat_batches(&schema, &batches)?;
            drop(batches);
            let assigned = Assigned::of(rows, column, &keys)?;
            let starts = (0..assigned.rows.num_rows()).step_by(OUTPUT_ROWS);
            Ok::<_, DataFusionError>(futures::stream::iter(starts.map(move |start| assigned.chunk(start))))
        };
        let rows = futures::stream::once(assigned).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// A partition's rows and the order in which they come out.
struct Assigned {
    rows: RecordBatch,
    column: usize,
    order: UInt32Array,
    /// For each row of `order` its session, as an index into `sessions`.
    session_of: UInt32Array,
    sessions: ArrayRef,
}

impl Assigned {
    fn of(rows: RecordBatch, column: usize, keys: &[Arc<dyn PhysicalExpr>]) -> Result<Self> {
        if u32::try_from(rows.num_rows()).is_err() {
            return Err(crate::error::Error::analysis(format!(
                "A partition of a session window aggregation has {} rows, more than 4294967295. Use more partitions.",
                rows.num_rows()
            ))
            .into());
        }
        let groups = number_keys(&rows, keys)?;
        let initial = rows.column(column).as_struct();
        let bound = |at: usize| initial.column(at).as_primitive::<TimestampMicrosecondType>();
        let merged = merge_sessions(&groups, bound(0).values(), bound(1).values());
        let sessions = session_array(rows.schema().field(column), merged.starts, merged.ends)?;
        Ok(Self { rows, column, order: merged.order.into(), session_of: merged.session_of.into(), sessions })
    }

    fn chunk(&self, start: usize) -> Result<RecordBatch> {
        let length = OUTPUT_ROWS.min(self.order.len() - start);
        let mut columns = take_arrays(self.rows.columns(), &self.order.slice(start, length), None)?;
        columns[self.column] = take(&self.sessions, &self.session_of.slice(start, length), None)?;
        Ok(RecordBatch::try_new(self.rows.schema(), columns)?)
    }
}

/// A number for each row: rows with equal keys have the same.
fn number_keys(rows: &RecordBatch, keys: &[Arc<dyn PhysicalExpr>]) -> Result<Vec<u32>> {
    if keys.is_empty() {
        return Ok(vec![0; rows.num_rows()]);
    }
    let schema = rows.schema();
    let fields = keys.iter().map(|key| key.return_field(&schema)).collect::<Result<Vec<_>>>()?;
    let columns = keys.iter().map(|key| key.evaluate(rows)?.into_array(rows.num_rows())).collect::<Result<Vec<_>>>()?;
    let key_schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut groups = vec![];
    new_group_values(key_schema, &GroupOrdering::None)?.intern(&columns, &mut groups)?;
    Ok(groups.into_iter().map(|group| group as u32).collect())
}

/// A session column with the type of `field`.
pub(crate) fn session_array(field: &Field, starts: Vec<i64>, ends: Vec<i64>) -> Result<ArrayRef> {
    let arrow::datatypes::DataType::Struct(fields) = field.data_type() else {
        return internal_err!("a session window is a struct and not {}", field.data_type());
    };
    let bounds = [starts, ends].into_iter().zip(fields).map(|(times, field)| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(times).with_data_type(field.data_type().clone()))
    });
    Ok(Arc::new(StructArray::try_new(fields.clone(), bounds.collect(), None)?))
}
