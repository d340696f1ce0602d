//! User functions over groups as a node of the logical plan, and how it is planned.
//!
//! Inputs: the grouped rows and, if keys begin with a state, the static frame of those. Nothing moves across the node:
//! what comes out has nothing to do with the columns that go in, so no filter sinks below it and it reads all columns.
//! Over a stream it is a stateful operator; over a static frame it is run once, with state that nobody keeps.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use object_store::memory::InMemory;
use object_store::path::Path;

use super::extension::StatefulPlanner;
use super::nodes::{StatefulNode, as_node, numbered};
use super::relation::is_streaming;
use super::watermark::{Marks, OutputRule, event_time_column, event_time_columns};
use crate::environment::Clock;
use crate::groups::{GroupStateTimeout, StateFunction, TimeMode, Timers, TransformFunction};
use crate::operators::exchange::exchange;
use crate::operators::groups::{KeyedExec, KeyedInput, KeyedWork, Life, StatefulGroups, TransformGroups};
use crate::operators::stateful::{NoDataBatch, StatefulOperator, TRANSFORM};
use crate::state::{OperatorSpec, OperatorState, SnapshotPolicy, StateSchema, StoreSpec};
use crate::storage::Folder;

/// Rows and the columns they are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grouping {
    /// The rows.
    pub plan: Arc<LogicalPlan>,
    /// The columns.
    pub keys: Vec<Column>,
}

/// Which kind of function it is.
#[derive(Clone, Debug)]
pub(crate) enum KeyedKind {
    /// `mapGroupsWithState` or `flatMapGroupsWithState`.
    State(StateFunction),
    /// `transformWithState`.
    Transform(TransformFunction),
}

/// A user's function, called for each key.
#[derive(Clone, Debug)]
pub struct KeyedFunction {
    input: Grouping,
    initial: Option<Grouping>,
    kind: Arc<KeyedKind>,
    /// Whether the rows are a stream.
    is_streaming: bool,
    id: Option<usize>,
    schema: DFSchemaRef,
}

impl KeyedFunction {
    /// The node with the result's columns.
    pub(crate) fn plan(
        input: Grouping,
        initial: Option<Grouping>,
        kind: KeyedKind,
        output: SchemaRef,
    ) -> Result<LogicalPlan> {
        let is_streaming = is_streaming(&input.plan);
        let schema = Arc::new(DFSchema::try_from(output.as_ref().clone())?);
        let node = Self { input, initial, kind: Arc::new(kind), is_streaming, id: None, schema };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// The node, if the plan is one.
    pub fn of(plan: &LogicalPlan) -> Option<&Self> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        as_node(extension.node.as_ref())
    }

    /// The grouped rows.
    pub fn input(&self) -> &LogicalPlan {
        &self.input.plan
    }

    /// The initial states.
    pub fn initial(&self) -> Option<&LogicalPlan> {
        self.initial.as_ref().map(|initial| initial.plan.as_ref())
    }

    pub(crate) fn kind(&self) -> &KeyedKind {
        &self.kind
    }

    /// Whether it remembers from batch to batch.
    pub fn is_stateful(&self) -> bool {
        self.is_streaming
    }
}

impl StatefulNode for KeyedFunction {
    fn id(&self) -> Result<usize> {
        numbered(self.id)
    }

    fn with_id(&self, id: usize) -> LogicalPlan {
        let node = Self { id: Some(id), ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }

    fn output_rule(&self) -> Result<OutputRule> {
        Ok(match self.kind.as_ref() {
            KeyedKind::Transform(function) if function.event_time.is_some() => OutputRule::SameAsInput,
            KeyedKind::State(_) | KeyedKind::Transform(_) => OutputRule::None,
        })
    }
}

impl PartialEq for KeyedFunction {
    fn eq(&self, other: &Self) -> bool {
        // Functions cannot be compared; this one is this one.
        Arc::ptr_eq(&self.kind, &other.kind)
            && (&self.input, &self.initial, self.id) == (&other.input, &other.initial, other.id)
    }
}

impl Eq for KeyedFunction {}

impl Hash for KeyedFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.initial.hash(state);
        self.id.hash(state);
    }
}

impl PartialOrd for KeyedFunction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for KeyedFunction {
    fn name(&self) -> &str {
        "KeyedFunction"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.input).chain(&self.initial).map(|grouping| grouping.plan.as_ref()).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let groupings = std::iter::once(&self.input).chain(&self.initial);
        groupings.flat_map(|grouping| grouping.keys.iter().cloned().map(Expr::Column)).collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.columns().into_iter().map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.input.keys.iter().map(ToString::to_string).collect();
        write!(f, "KeyedFunction: {:?} by=[{}]", self.kind, keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut keys = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let Expr::Column(column) = expr else { return internal_err!("groups have columns as keys, not {expr}") };
            keys.push(column);
        }
        let of_initial = keys.split_off(self.input.keys.len());
        let mut inputs = inputs.into_iter().map(Arc::new);
        let (Some(plan), initial) = (inputs.next(), inputs.next()) else {
            return internal_err!("groups have an input");
        };
        let initial = initial.map(|plan| Grouping { plan, keys: of_initial });
        Ok(Self { input: Grouping { plan, keys }, initial, ..self.clone() })
    }

    /// All columns: the function may look at any.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(
            UserDefinedLogicalNodeCore::inputs(self)
                .into_iter()
                .map(|input| (0..input.schema().fields().len()).collect())
                .collect(),
        )
    }
}

/// The grouping columns, by index.
fn key_indices(grouping: &Grouping) -> Result<Vec<usize>> {
    grouping.keys.iter().map(|key| grouping.plan.schema().index_of_column(key)).collect()
}

impl KeyedFunction {
    fn key_schema(&self, rows: &SchemaRef) -> Result<SchemaRef> {
        let key = |at: usize| Ok(Arc::new(rows.field(at).clone().with_nullable(true)));
        Ok(Arc::new(Schema::new(key_indices(&self.input)?.into_iter().map(key).collect::<Result<Vec<_>>>()?)))
    }

    /// The event-time column of the rows, by index. Two of them are an error, also where nobody looks at it.
    fn event_time(&self) -> Result<Option<usize>> {
        if !self.is_streaming {
            return Ok(None);
        }
        Ok(event_time_column(&self.input.plan)?.map(|(column, _)| column))
    }

    fn initial_keys(&self) -> Result<Vec<usize>> {
        Ok(self.initial.as_ref().map(key_indices).transpose()?.unwrap_or_default())
    }

    fn stores(&self, rows: &SchemaRef) -> Result<Vec<StoreSpec>> {
        let keys = self.key_schema(rows)?;
        match self.kind.as_ref() {
            KeyedKind::State(function) => {
                let mut values = vec![Field::new("groupState", function.state.clone(), true)];
                if function.timeout != GroupStateTimeout::NoTimeout {
                    values.push(Field::new("timeoutTimestamp", DataType::Int64, true));
                }
                Ok(vec![StoreSpec::default_store(StateSchema::new(keys, Arc::new(Schema::new(values)))?)])
            }
            KeyedKind::Transform(function) => {
                let mut stores = vec![];
                for variable in &function.variables {
                    stores.push(variable.store(&keys)?);
                }
                if function.time_mode != TimeMode::None {
                    stores.push(Timers::store(&keys)?);
                }
                Ok(stores)
            }
        }
    }

    /// The operator over exchanged inputs.
    fn exec(
        &self,
        inputs: &[Arc<dyn ExecutionPlan>],
        operator: Arc<StatefulOperator>,
        life: Life,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let keyed = self.keyed_inputs(inputs, operator.partitions())?;
        let (keys, initial_keys, event_time) = (key_indices(&self.input)?, self.initial_keys()?, self.event_time()?);
        let work: Arc<dyn KeyedWork> = match self.kind.as_ref() {
            KeyedKind::State(function) => {
                let (function, input) = (function.clone(), inputs[0].schema());
                Arc::new(StatefulGroups { function, input, keys, event_time, initial_keys })
            }
            KeyedKind::Transform(function) => {
                Arc::new(TransformGroups { function: function.clone(), keys, event_time, initial_keys })
            }
        };
        Ok(Arc::new(KeyedExec::new(keyed, work, operator, life)))
    }

    /// The function over static rows: everything in one partition, state in memory and forgotten.
    fn once(&self, inputs: &[Arc<dyn ExecutionPlan>], clock: &Arc<dyn Clock>) -> Result<Arc<dyn ExecutionPlan>> {
        let stores = self.stores(&inputs[0].schema())?;
        let spec = OperatorSpec { operator_id: 0, name: "static".into(), partitions: 1, stores, evolution: None };
        let nowhere =
            Folder { store: Arc::new(InMemory::new()), path: Path::from("state"), uri_root: "memory://".into() };
        let state = OperatorState::new(&nowhere, spec.clone(), SnapshotPolicy::default())?;
        let operator = StatefulOperator::new("static", spec, NoDataBatch::Never, Arc::clone(clock));
        operator.set_state(state)?;
        self.exec(inputs, Arc::new(operator), Life::Once(Arc::clone(clock)))
    }

    /// Spark's name of the operator, and when it wants a batch without data.
    fn operator_kind(&self) -> (&'static str, NoDataBatch) {
        match self.kind.as_ref() {
            KeyedKind::State(function) => {
                let wants = match function.timeout {
                    GroupStateTimeout::NoTimeout => NoDataBatch::Never,
                    GroupStateTimeout::ProcessingTimeTimeout => NoDataBatch::Always,
                    GroupStateTimeout::EventTimeTimeout => NoDataBatch::WhenWatermarkRose,
                };
                ("flatMapGroupsWithState", wants)
            }
            KeyedKind::Transform(function) => {
                let wants = match function.time_mode {
                    TimeMode::None => NoDataBatch::Never,
                    TimeMode::ProcessingTime => NoDataBatch::Always,
                    TimeMode::EventTime => NoDataBatch::WhenWatermarkRose,
                };
                (TRANSFORM, wants)
            }
        }
    }

    fn keyed_inputs(&self, inputs: &[Arc<dyn ExecutionPlan>], partitions: usize) -> Result<KeyedInput> {
        let rows = exchange(Arc::clone(&inputs[0]), key_indices(&self.input)?, partitions);
        let initial = match (&self.initial, inputs.get(1)) {
            (Some(grouping), Some(initial)) => Some(exchange(Arc::clone(initial), key_indices(grouping)?, partitions)),
            _ => None,
        };
        Ok(KeyedInput { rows, initial })
    }
}

impl StatefulPlanner {
    /// input -> exchange -> user's function, once per key.
    pub(super) fn keyed_function(
        &self,
        node: &KeyedFunction,
        inputs: &[Arc<dyn ExecutionPlan>],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !node.is_streaming {
            return node.once(inputs, &self.settings.clock);
        }
        let partitions = if node.input.keys.is_empty() { 1 } else { self.settings.state_partitions };
        let (name, wants) = node.operator_kind();
        let spec = OperatorSpec {
            operator_id: node.id()? as u32,
            name: name.into(),
            partitions: partitions as u32,
            stores: node.stores(&inputs[0].schema())?,
            evolution: match node.kind() {
                KeyedKind::State(_) => None,
                KeyedKind::Transform(function) => Some(function.evolution()),
            },
        };
        let operator = self.made(spec, name, wants);
        node.exec(inputs, operator, Life::Stream(Arc::clone(&self.context)))
    }
}

/// Plans user functions over static frames.
#[derive(Debug)]
pub(crate) struct StaticKeyedPlanner {
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl ExtensionPlanner for StaticKeyedPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        as_node::<KeyedFunction>(node).map(|node| node.once(physical_inputs, &self.clock)).transpose()
    }
}

/// The columns of the result that carry event time.
pub(super) fn marks_of_result(node: &KeyedFunction) -> Marks {
    let mut marks = vec![None; node.schema.fields().len()];
    if let KeyedKind::Transform(TransformFunction { event_time: Some(column), .. }) = node.kind.as_ref() {
        marks[*column] = event_time_columns(&node.input.plan).into_iter().flatten().next().or(Some(0));
    }
    marks
}

/// Whether the function's input has event time.
pub(super) fn has_event_time(node: &KeyedFunction) -> bool {
    event_time_columns(&node.input.plan).iter().any(Option::is_some)
}
