//! Plans a streaming query once, and collects the handles through which the driver steers every run of the plan.
//!
//! ```text
//! analysed plan -> bound to batch time -> filters placed -> incremental -> bound to leaves -> optimized -> numbered
//!     -> ExecutionPlan + handles
//! ```

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, plan_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as PlanResult;
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, TableType};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::batch_functions::{bind_batch_functions, draws_randomly};
use super::extension::StatefulPlanner;
use super::filters::place_filters;
use super::groups::StaticKeyedPlanner;
use super::incremental::incremental;
use super::nodes::{Watermark, as_node, as_stateful};
use super::panes::aggregate_by_panes;
use super::relation::{StreamingRelation, as_streaming_relation, is_streaming};
use super::scan_filters::FiltersIntoScans;
use super::set_operations::plan_set_operations;
use super::watermark::Propagation;
use crate::environment::Clock;
use crate::error::{Error, Result};
use crate::functions::sample::begin_row_ids;
use crate::functions::session_assign::{AssignSessionsPlanner, assign_sessions};
use crate::functions::window_expand::TimeWindowExpandPlanner;
use crate::operators::batch::BatchContext;
use crate::operators::source_scan::{Leaf, SourceScanExec};
use crate::operators::stateful::StatefulOperator;
use crate::operators::watermark::WatermarkNode;
use crate::sink::OutputMode;
use crate::sql::query::finish_plan;

/// A query planned once, to be run for every batch.
#[derive(Debug)]
pub struct PlannedQuery {
    /// What runs.
    pub physical: Arc<dyn ExecutionPlan>,
    /// The optimized logical plan, for explain.
    pub logical: LogicalPlan,
    /// The columns of the result.
    pub schema: SchemaRef,
    /// Which rows a batch emits.
    pub mode: OutputMode,
    /// Where the driver puts what changes from batch to batch.
    pub context: Arc<BatchContext>,
    /// The distinct streaming relations, in plan-walk order: source k keeps its log in `sources/<k>`.
    pub relations: Vec<Arc<dyn TableProvider>>,
    /// For each occurrence of a source in the plan (a line of the offset log), the index of its relation.
    pub occurrences: Vec<usize>,
    /// The leaves that are really read, by leaf id; the optimizer may have removed some.
    pub leaves: Vec<Arc<Leaf>>,
    /// Whether the query says what event time is; the optimizer may have removed all watermark nodes nevertheless.
    pub has_watermark: bool,
    /// The watermark nodes, by id.
    pub watermark_nodes: Vec<Arc<WatermarkNode>>,
    /// The stateful operators, by id.
    pub operators: Vec<Arc<StatefulOperator>>,
    /// How the global watermark reaches them.
    pub propagation: Propagation,
}

/// What planning operators needs to know beside the plan.
#[derive(Clone, Debug)]
pub(super) struct PlanSettings {
    /// How many partitions state has.
    pub(super) state_partitions: usize,
    /// For measuring.
    pub(super) clock: Arc<dyn Clock>,
}

/// Analyses a plan: resolves types, functions and wildcards. Errors are the user's.
pub fn analyse(plan: LogicalPlan, session: &SessionState) -> Result<LogicalPlan> {
    let plan = finish_plan(plan)?;
    let analysed = session.analyzer().execute_and_check(plan, &session.config_options().clone(), |_, _| {})?;
    Ok(begin_row_ids(assign_sessions(analysed, is_streaming)?)?)
}

/// Plans queries over static tables, for `collect()`.
#[derive(Debug)]
pub(crate) struct StaticPlanner;

/// The time that user functions over groups see in queries over static tables: an extension of the session's settings.
#[derive(Debug)]
pub(crate) struct SessionClock(pub(crate) Arc<dyn Clock>);

#[async_trait]
impl QueryPlanner for StaticPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let Some(clock) = session.config().get_extension::<SessionClock>() else {
            return plan_err!("this session was not made by SessionBuilder: it has no clock");
        };
        DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(TimeWindowExpandPlanner),
            Arc::new(AssignSessionsPlanner),
            Arc::new(StaticKeyedPlanner { clock: Arc::clone(&clock.0) }),
        ])
        .create_physical_plan(plan, session)
        .await
    }
}

/// A query planned as far as it can be without knowing its checkpoint: every error of the user's is found by now.
#[derive(Debug)]
pub struct LogicalQuery {
    numbered: LogicalPlan,
    mode: OutputMode,
    counts: Counts,
    has_watermark: bool,
    context: Arc<BatchContext>,
    bindings: Bindings,
    propagation: Propagation,
}

/// Plans an analysed plan that passed `plan::check`, up to the optimized logical plan. `scan_partitions` is how many
/// partitions sources are read in.
pub fn plan_logical(
    analysed: LogicalPlan,
    session: &SessionState,
    mode: OutputMode,
    scan_partitions: usize,
) -> Result<LogicalQuery> {
    let context = Arc::new(BatchContext::default());
    let scan_partitions = if draws_randomly(&analysed)? { 1 } else { scan_partitions };
    let has_watermark = analysed.exists(|node| Ok(is_watermark(node)))?;
    let bound = bind_batch_functions(analysed, &context)?;
    let bound = plan_set_operations(bound)?;
    let incremental = incremental(place_filters(bound, session)?, mode)?;
    let (bound, bindings) = bind_leaves(incremental, &context, scan_partitions)?;
    let optimized = streaming_optimizer(session).optimize(bound, session, |_, _| {})?;
    let (numbered, counts) = number(aggregate_by_panes(optimized)?)?;
    let propagation = propagation_of(&numbered)?;
    Ok(LogicalQuery { numbered, mode, counts, has_watermark, context, bindings, propagation })
}

/// Computes `window.end` and the like near the leaves, under a name of their own: a filter on it would then
/// no longer look like one on event time, and slip below a watermark node (`spec/02` section 2).
const NOT_OVER_STREAMS: [&str; 2] = ["extract_leaf_expressions", "push_down_leaf_projections"];

/// DataFusion's optimizer without the rules that do not hold for streams, and with filters in the scans that take them.
fn streaming_optimizer(session: &SessionState) -> Optimizer {
    let rules = session.optimizer().rules.iter();
    let mut rules: Vec<_> = rules.filter(|rule| !NOT_OVER_STREAMS.contains(&rule.name())).cloned().collect();
    let last = rules.iter().rposition(|rule| rule.name() == "optimize_projections").unwrap_or(rules.len());
    rules.insert(last, Arc::new(FiltersIntoScans { takes_filters }));
    Optimizer::with_rules(rules)
}

impl LogicalQuery {
    /// How many lines an offset log entry of this query has.
    pub fn occurrences_count(&self) -> usize {
        self.bindings.occurrences.len()
    }

    /// The formats of the sources, one for each line of an offset log entry.
    pub fn source_formats(&self) -> Result<Vec<&str>> {
        let format = |source: &usize| Ok(streaming(&self.bindings.relations[*source])?.provider.short_name());
        self.bindings.occurrences.iter().map(format).collect()
    }

    /// Plans the operators. `state_partitions` is `spark.sql.shuffle.partitions` of the query's first batch.
    pub async fn plan_physical(
        self,
        session: &SessionState,
        state_partitions: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<PlannedQuery> {
        let settings = PlanSettings { state_partitions, clock };
        let handles = Arc::new(Handles::default());
        let planner = StatefulPlanner { settings, context: Arc::clone(&self.context), handles: Arc::clone(&handles) };
        let physical = DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(planner),
            Arc::new(TimeWindowExpandPlanner),
            Arc::new(AssignSessionsPlanner),
        ])
        .create_physical_plan(&self.numbered, session)
        .await?;
        let handles = handles.take();
        if handles.operators.len() != self.counts.operators
            || handles.watermark_nodes.len() != self.counts.watermark_nodes
        {
            return Err(Error::internal("a stateful node of the logical plan has no operator"));
        }
        let leaves = std::mem::take(&mut *self.bindings.leaves.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(PlannedQuery {
            schema: physical.schema(),
            physical,
            logical: self.numbered,
            mode: self.mode,
            context: self.context,
            relations: self.bindings.relations,
            occurrences: self.bindings.occurrences,
            leaves: leaves.into_values().collect(),
            has_watermark: self.has_watermark,
            watermark_nodes: handles.watermark_nodes.into_values().collect(),
            operators: handles.operators.into_values().collect(),
            propagation: self.propagation,
        })
    }
}

/// The handles that physical planning makes, by id.
#[derive(Debug, Default)]
pub(super) struct Handles {
    made: Mutex<Made>,
}

/// Handles by id.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) watermark_nodes: BTreeMap<usize, Arc<WatermarkNode>>,
    pub(super) operators: BTreeMap<usize, Arc<StatefulOperator>>,
}

impl Handles {
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Made) -> T) -> T {
        change(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Made {
        self.with(std::mem::take)
    }
}

/// Which source each leaf reads.
#[derive(Debug, Default)]
struct Bindings {
    relations: Vec<Arc<dyn TableProvider>>,
    occurrences: Vec<usize>,
    leaves: Arc<Mutex<BTreeMap<usize, Arc<Leaf>>>>,
}

/// Gives every streaming leaf an occurrence number, in plan-walk order, and makes it scannable.
fn bind_leaves(plan: LogicalPlan, context: &Arc<BatchContext>, partitions: usize) -> Result<(LogicalPlan, Bindings)> {
    let mut bindings = Bindings::default();
    let plan = plan.transform_down(|node| {
        let Some(relation) = as_streaming_relation(&node) else { return Ok(Transformed::no(node)) };
        let LogicalPlan::TableScan(mut scan) = node else { unreachable!("only a scan is a streaming relation") };
        let known = bindings.relations.iter().position(|known| Arc::ptr_eq(known, &relation));
        let source = known.unwrap_or_else(|| {
            bindings.relations.push(Arc::clone(&relation));
            bindings.relations.len() - 1
        });
        let bound = BoundLeaf {
            occurrence: bindings.occurrences.len(),
            name: streaming(&relation)?.name.clone(),
            schema: relation.schema(),
            partitions,
            takes_filters: streaming(&relation)?.provider.filters_while_reading(),
            context: Arc::clone(context),
            leaves: Arc::clone(&bindings.leaves),
        };
        bindings.occurrences.push(source);
        scan.source = provider_as_source(Arc::new(bound));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok((plan.data, bindings))
}

/// The definition behind a relation of [`PlannedQuery::relations`].
pub fn streaming(relation: &Arc<dyn TableProvider>) -> Result<&StreamingRelation> {
    (relation.as_ref() as &dyn Any)
        .downcast_ref::<StreamingRelation>()
        .ok_or_else(|| Error::internal("a bound relation is not a stream"))
}

/// A streaming leaf of a query that is being planned.
#[derive(Debug)]
struct BoundLeaf {
    occurrence: usize,
    name: String,
    schema: SchemaRef,
    partitions: usize,
    /// See [`crate::source::SourceProvider::filters_while_reading`].
    takes_filters: bool,
    context: Arc<BatchContext>,
    leaves: Arc<Mutex<BTreeMap<usize, Arc<Leaf>>>>,
}

#[async_trait]
impl TableProvider for BoundLeaf {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let filter = conjunction(filters.iter().cloned());
        let mut read: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&read)?);
        // What only the filter looks at is read, too, and goes no further.
        for column in filter.iter().flat_map(Expr::column_refs) {
            let column = self.schema.index_of(&column.name)?;
            if !read.contains(&column) {
                read.push(column);
            }
        }
        let columns = DFSchema::try_from(self.schema.project(&read)?)?;
        let filter = filter.map(|filter| session.create_physical_expr(filter, &columns)).transpose()?;
        let read = projection.map(|_| read);
        let leaf = Arc::new(Leaf::new(self.occurrence, self.occurrence, read));
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).insert(leaf.id, Arc::clone(&leaf));
        let scan = SourceScanExec::new(leaf, Arc::clone(&self.context), self.name.clone(), schema, self.partitions);
        Ok(Arc::new(scan.with_filter(filter)))
    }
}

/// Whether a scan is of a source that filters while it reads.
fn takes_filters(scan: &TableScan) -> bool {
    let provider = source_as_provider(&scan.source);
    provider.is_ok_and(|provider| {
        (provider.as_ref() as &dyn Any).downcast_ref::<BoundLeaf>().is_some_and(|leaf| leaf.takes_filters)
    })
}

#[derive(Debug, Default)]
struct Counts {
    watermark_nodes: usize,
    operators: usize,
}

/// Numbers watermark nodes and stateful operators, bottom-up; nodes of one origin have one number.
fn number(plan: LogicalPlan) -> Result<(LogicalPlan, Counts)> {
    let mut counts = Counts::default();
    let mut origins = Vec::new();
    let next = |counter: &mut usize| {
        *counter += 1;
        *counter - 1
    };
    let numbered = plan.transform_up(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        if let Some(watermark) = as_node::<Watermark>(extension.node.as_ref()) {
            let known = origins.iter().position(|origin| origin == watermark.origin());
            let id = known.unwrap_or_else(|| {
                origins.push(watermark.origin().clone());
                next(&mut counts.watermark_nodes)
            });
            return Ok(Transformed::yes(watermark.with_id(id)));
        }
        if let Some(stateful) = as_stateful(&node) {
            return Ok(Transformed::yes(stateful.with_id(next(&mut counts.operators))));
        }
        Ok(Transformed::no(node))
    })?;
    Ok((numbered.data, counts))
}

fn is_watermark(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Extension(extension) if as_node::<Watermark>(extension.node.as_ref()).is_some())
}

/// The shape of a numbered plan as far as watermarks are concerned.
fn propagation_of(plan: &LogicalPlan) -> Result<Propagation> {
    let inputs = plan.inputs().into_iter().map(propagation_of).collect::<Result<Vec<_>>>()?;
    if is_watermark(plan) {
        return Ok(Propagation::Watermark(Box::new(Propagation::Plain(inputs))));
    }
    if let Some(stateful) = as_stateful(plan) {
        return Ok(Propagation::Stateful { operator: stateful.id()?, inputs, rule: stateful.output_rule()? });
    }
    Ok(Propagation::Plain(inputs))
}
