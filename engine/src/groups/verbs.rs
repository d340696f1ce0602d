//! The verbs on a grouped frame: from a closure to a node of the logical plan.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arrow::{ArrowProgram, ArrowTypes};
use super::function::{GroupProgram, SerdeProgram, StateFunction};
use super::group_state::{GroupState, GroupStateTimeout};
use crate::conf::{Conf, SKIP_INITIAL_KEYS};
use crate::dataframe::{DataFrame, GroupedData};
use crate::error::{Error, Result};
use crate::plan::groups::{Grouping, KeyedFunction, KeyedKind};
use crate::rows::{RecordShape, RowSource, ValueColumn, Values};
use crate::sink::OutputMode;

impl GroupedData {
    /// One row for each call of `function`, which is called once for each key that a batch has rows of, and for each
    /// key whose timeout has passed; it may keep a state of the key from call to call. On a static frame it is called
    /// once for each key, without a state. Output mode update (`spec/04` section 5).
    ///
    /// The key is read from the grouping columns (the value of the only one, else a tuple or struct of them), rows from
    /// all columns of the frame, by name for a struct. What the function answers becomes the columns of the result: the
    /// fields of a struct, `_1`, `_2`, .. of a tuple, or `value`.
    pub fn map_groups_with_state<K, V, S, O, F>(&self, timeout: GroupStateTimeout, function: F) -> Result<DataFrame>
    where
        K: DeserializeOwned + 'static,
        V: DeserializeOwned + 'static,
        S: Serialize + DeserializeOwned + 'static,
        O: Serialize + DeserializeOwned + 'static,
        F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<O> + Send + Sync + 'static,
    {
        let many = one_row::<K, V, S, O, F>(function);
        self.with_state(Verb { is_map: true, mode: OutputMode::Update, timeout, initial: None }, many)
    }

    /// [`GroupedData::map_groups_with_state`] whose keys begin with a state: see
    /// [`GroupedData::flat_map_groups_with_initial_state`].
    pub fn map_groups_with_initial_state<K, V, S, O, F>(
        &self,
        timeout: GroupStateTimeout,
        initial: &GroupedData,
        function: F,
    ) -> Result<DataFrame>
    where
        K: DeserializeOwned + 'static,
        V: DeserializeOwned + 'static,
        S: Serialize + DeserializeOwned + 'static,
        O: Serialize + DeserializeOwned + 'static,
        F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<O> + Send + Sync + 'static,
    {
        let many = one_row::<K, V, S, O, F>(function);
        self.with_state(Verb { is_map: true, mode: OutputMode::Update, timeout, initial: Some(initial) }, many)
    }

    /// Any number of rows for each call of `function`; otherwise as [`GroupedData::map_groups_with_state`]. `mode` says
    /// what the rows are: only new ones (append), or also new versions of earlier ones (update). The query must run in
    /// the same mode; only append may be aggregated afterwards.
    pub fn flat_map_groups_with_state<K, V, S, O, I, F>(
        &self,
        mode: OutputMode,
        timeout: GroupStateTimeout,
        function: F,
    ) -> Result<DataFrame>
    where
        K: DeserializeOwned + 'static,
        V: DeserializeOwned + 'static,
        S: Serialize + DeserializeOwned + 'static,
        O: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = O> + 'static,
        F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<I> + Send + Sync + 'static,
    {
        self.with_state(Verb { is_map: false, mode, timeout, initial: None }, function)
    }

    /// [`GroupedData::flat_map_groups_with_state`] whose keys begin with a state: that of the row of `initial`, a static
    /// frame grouped by the same key, each key once. The state is read from its columns by name, or is its only column
    /// beside the key. In the first batch also keys that have only a state are called, without rows.
    pub fn flat_map_groups_with_initial_state<K, V, S, O, I, F>(
        &self,
        mode: OutputMode,
        timeout: GroupStateTimeout,
        initial: &GroupedData,
        function: F,
    ) -> Result<DataFrame>
    where
        K: DeserializeOwned + 'static,
        V: DeserializeOwned + 'static,
        S: Serialize + DeserializeOwned + 'static,
        O: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = O> + 'static,
        F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<I> + Send + Sync + 'static,
    {
        self.with_state(Verb { is_map: false, mode, timeout, initial: Some(initial) }, function)
    }

    /// [`GroupedData::flat_map_groups_with_state`] over Arrow values: the function gets the key's columns, the group's
    /// rows and its state, and gives rows.
    pub fn flat_map_groups_with_state_arrow<F>(
        &self,
        types: ArrowTypes,
        mode: OutputMode,
        timeout: GroupStateTimeout,
        function: F,
    ) -> Result<DataFrame>
    where
        F: Fn(&[ScalarValue], RecordBatch, &mut GroupState<ScalarValue>) -> Result<RecordBatch>,
        F: Send + Sync + 'static,
    {
        self.with_arrow_state(types, Verb { is_map: false, mode, timeout, initial: None }, function)
    }

    /// [`GroupedData::map_groups_with_state`] over Arrow values: the function gives one row.
    pub fn map_groups_with_state_arrow<F>(
        &self,
        types: ArrowTypes,
        timeout: GroupStateTimeout,
        function: F,
    ) -> Result<DataFrame>
    where
        F: Fn(&[ScalarValue], RecordBatch, &mut GroupState<ScalarValue>) -> Result<RecordBatch>,
        F: Send + Sync + 'static,
    {
        self.with_arrow_state(types, Verb { is_map: true, mode: OutputMode::Update, timeout, initial: None }, function)
    }

    fn with_state<K, V, S, O, I, F>(&self, verb: Verb<'_>, function: F) -> Result<DataFrame>
    where
        K: DeserializeOwned + 'static,
        V: DeserializeOwned + 'static,
        S: Serialize + DeserializeOwned + 'static,
        O: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = O> + 'static,
        F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<I> + Send + Sync + 'static,
    {
        let keyed = Keyed::new(self)?;
        let program = SerdeProgram {
            function,
            keys: keyed.key_source::<K>()?,
            values: keyed.value_source::<V>()?,
            state: ValueColumn::<S>::new(),
            output: RecordShape::of::<O>()?,
            types: PhantomData::<fn(K, V) -> O>,
        };
        let types =
            ArrowTypes { state: program.state.data_type().clone(), output: Arc::clone(program.output.schema()) };
        keyed.function(types, verb, Arc::new(program))
    }

    fn with_arrow_state<F>(&self, types: ArrowTypes, verb: Verb<'_>, function: F) -> Result<DataFrame>
    where
        F: Fn(&[ScalarValue], RecordBatch, &mut GroupState<ScalarValue>) -> Result<RecordBatch>,
        F: Send + Sync + 'static,
    {
        let keyed = Keyed::new(self)?;
        let (value_columns, is_map) = (0..keyed.width, verb.is_map);
        // As all that comes out of stateful operators.
        let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
        let output: SchemaRef = Arc::new(Schema::new(types.output.fields().iter().map(nullable).collect::<Fields>()));
        let types = ArrowTypes { output, ..types };
        let program = ArrowProgram { function, types: types.clone(), value_columns, is_map };
        keyed.function(types, verb, Arc::new(program))
    }
}

/// A function of one row as one of many.
fn one_row<K, V, S, O, F>(function: F) -> impl for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<Option<O>>
where
    F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<O>,
{
    move |key, values, state| function(key, values, state).map(Some)
}

/// Which verb it is.
struct Verb<'a> {
    is_map: bool,
    mode: OutputMode,
    timeout: GroupStateTimeout,
    initial: Option<&'a GroupedData>,
}

/// A grouped frame whose grouping expressions are columns.
pub(super) struct Keyed {
    frame: DataFrame,
    /// The frame, and after its columns the grouping expressions that are not among them.
    plan: LogicalPlan,
    /// How many columns the frame has.
    pub(super) width: usize,
    /// The grouping columns of `plan`.
    pub(super) keys: Vec<Column>,
    /// Their types, under the names that users know them by.
    key_fields: Fields,
}

impl Keyed {
    pub(super) fn new(grouped: &GroupedData) -> Result<Self> {
        let frame = &grouped.frame;
        let schema = frame.plan().schema();
        let width = schema.fields().len();
        let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
        let (mut keys, mut key_fields) = (vec![], vec![]);
        for (at, expr) in grouped.by.iter().enumerate() {
            let (_, field) = expr.to_field(schema)?;
            let name = match expr {
                Expr::Column(column) => column.name.clone(),
                other => other.schema_name().to_string(),
            };
            key_fields.push(Field::new(name, field.data_type().clone(), true));
            match expr {
                Expr::Column(column) => {
                    keys.push(Column::from(schema.qualified_field(schema.index_of_column(column)?)))
                }
                other => {
                    let name = format!("group key {}", at + 1);
                    columns.push(other.clone().alias(&name));
                    keys.push(Column::new_unqualified(name));
                }
            }
        }
        let plan = match columns.len() == width {
            true => frame.plan().clone(),
            false => LogicalPlanBuilder::from(frame.plan().clone()).project(columns)?.build()?,
        };
        Ok(Self { frame: frame.clone(), plan, width, keys, key_fields: key_fields.into() })
    }

    pub(super) fn key_source<K: DeserializeOwned>(&self) -> Result<RowSource> {
        RowSource::of::<K>(&self.key_fields, None)
    }

    /// Rows are read from the frame's columns; a type of one value from the only one that is no key.
    pub(super) fn value_source<V: DeserializeOwned>(&self) -> Result<RowSource> {
        let schema = self.plan.schema();
        let offered: Fields = schema.fields().iter().take(self.width).cloned().collect();
        let mut others = (0..self.width).filter(|at| !self.keys.contains(&Column::from(schema.qualified_field(*at))));
        let alone = others.next().filter(|_| others.next().is_none());
        RowSource::of::<V>(&offered, alone)
    }

    fn function(&self, types: ArrowTypes, verb: Verb<'_>, program: Arc<dyn GroupProgram>) -> Result<DataFrame> {
        if verb.mode == OutputMode::Complete {
            return Err(Error::analysis("The output mode of function should be append or update."));
        }
        let initial = match verb.initial {
            Some(initial) => Some(self.initial_state(initial, &types.state)?),
            None => None,
        };
        let (state, output) = (types.state, types.output);
        let (timeout, mode, is_map) = (verb.timeout, verb.mode, verb.is_map);
        let skip_initial_keys = self.conf().boolean(SKIP_INITIAL_KEYS)?;
        let function =
            StateFunction { state, output: Arc::clone(&output), timeout, mode, is_map, skip_initial_keys, program };
        self.node(initial, KeyedKind::State(function), output)
    }

    /// The session's configuration.
    pub(super) fn conf(&self) -> Conf {
        self.frame.session().conf()
    }

    /// The frame and its key columns.
    pub(super) fn grouping(&self) -> Grouping {
        Grouping { plan: Arc::new(self.plan.clone()), keys: self.keys.clone() }
    }

    /// The frame that the function makes of this one.
    pub(super) fn node(&self, initial: Option<Grouping>, kind: KeyedKind, output: SchemaRef) -> Result<DataFrame> {
        let plan = KeyedFunction::plan(self.grouping(), initial, kind, output)?;
        Ok(DataFrame::new(self.frame.session().clone(), plan))
    }

    /// A frame of initial states: the key columns, then the state.
    fn initial_state(&self, initial: &GroupedData, state: &DataType) -> Result<Grouping> {
        let keyed = self.same_keys(initial)?;
        let schema = keyed.plan.schema();
        let columns = schema.columns();
        let state_expr = match state {
            DataType::Struct(fields) => {
                let mut args = vec![];
                for field in fields {
                    let column = columns.iter().take(keyed.width).find(|c| c.name.eq_ignore_ascii_case(field.name()));
                    let column = column.cloned().ok_or_else(|| {
                        let all: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
                        Error::analysis_class(
                            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                            format!(
                                "A column with name `{}` cannot be resolved: the initial state has the columns {}. Select \
                                 one for each field of the state.",
                                field.name(),
                                all.join(", ")
                            ),
                        )
                    })?;
                    args.push(datafusion::prelude::lit(field.name().as_str()));
                    args.push(Expr::Column(column).cast_to(field.data_type(), schema)?);
                }
                datafusion::functions::core::expr_fn::named_struct(args)
            }
            one => {
                let others: Vec<_> = columns.iter().take(keyed.width).filter(|c| !keyed.keys.contains(c)).collect();
                let [only] = others[..] else {
                    return Err(Error::analysis(format!(
                        "The initial state has {} columns beside its key, and the state is one value. Select the key and \
                         the state.",
                        others.len()
                    )));
                };
                Expr::Column(only.clone()).cast_to(one, schema)?
            }
        };
        let names: Vec<String> = (1..=keyed.keys.len()).map(|at| format!("group key {at}")).collect();
        let mut exprs = vec![];
        for ((key, name), field) in keyed.keys.iter().zip(&names).zip(&self.key_fields) {
            exprs.push(Expr::Column(key.clone()).cast_to(field.data_type(), schema)?.alias(name));
        }
        exprs.push(state_expr.alias("state"));
        let plan = LogicalPlanBuilder::from(keyed.plan.clone()).project(exprs)?.build()?;
        Ok(Grouping { plan: Arc::new(plan), keys: names.into_iter().map(Column::new_unqualified).collect() })
    }

    /// The frame of initial states, if it is grouped by a key of the same type.
    pub(super) fn same_keys(&self, initial: &GroupedData) -> Result<Keyed> {
        let keyed = Keyed::new(initial)?;
        let types = |fields: &Fields| fields.iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        if types(&keyed.key_fields) != types(&self.key_fields) {
            return Err(Error::analysis(format!(
                "The initial state is grouped by {:?}, the rows by {:?}. Group both by columns of the same types.",
                types(&keyed.key_fields),
                types(&self.key_fields)
            )));
        }
        Ok(keyed)
    }
}
