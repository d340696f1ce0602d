//! One type for streams and static tables: Spark's verbs over a DataFusion logical plan.
//!
//! Absent: running a stream (that is [`DataFrame::write_stream`]), and anything that looks at rows before a plan is run.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Column;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Aggregate, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, SortExpr, col};

use crate::error::{Error, Result};
use crate::frame_writer::DataFrameWriter;
use crate::options::did_you_mean;
use crate::plan::dedup::{Deduplicate, Memory};
use crate::plan::physical::analyse;
use crate::plan::relation::is_streaming;
use crate::plan::set_operations::plan_set_operations;
use crate::plan::watermark::watermark_node;
use crate::session::Session;
use crate::sql::duplicates::{user_batch, user_rows, user_schema};
use crate::sql::duration::watermark_delay_ms;
use crate::sql::plan_expr;
use crate::writer::DataStreamWriter;

/// A query that has not run: over streams, or over static tables only.
#[derive(Clone, Debug)]
pub struct DataFrame {
    session: Session,
    plan: LogicalPlan,
}

impl DataFrame {
    pub(crate) fn new(session: Session, plan: LogicalPlan) -> Self {
        Self { session, plan }
    }

    /// The logical plan.
    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The same session with another plan.
    pub(crate) fn with_plan(&self, plan: LogicalPlan) -> Result<Self> {
        Ok(Self { session: self.session.clone(), plan })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        user_schema(Arc::new(self.plan.schema().as_arrow().clone()))
    }

    /// Whether rows of a stream flow through this query.
    pub fn is_streaming(&self) -> bool {
        is_streaming(&self.plan)
    }

    fn then(
        &self,
        step: impl FnOnce(LogicalPlanBuilder) -> datafusion::error::Result<LogicalPlanBuilder>,
    ) -> Result<Self> {
        let plan = step(LogicalPlanBuilder::from(self.plan.clone()))?.build()?;
        Ok(Self { session: self.session.clone(), plan })
    }

    /// These expressions as columns.
    pub fn select(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<Self> {
        self.then(|plan| plan.project(exprs.into_iter().collect::<Vec<_>>()))
    }

    /// These Spark SQL expressions as columns: `select_expr(&["upper(k) AS k", "v * 2"])`.
    pub fn select_expr(&self, exprs: &[&str]) -> Result<Self> {
        self.select(exprs.iter().map(|sql| self.expr(sql)).collect::<Result<Vec<_>>>()?)
    }

    /// A Spark SQL expression over this frame's columns.
    pub fn expr(&self, sql: &str) -> Result<Expr> {
        plan_expr(&self.session.inner.context.state(), sql, self.plan.schema())
    }

    /// The rows for which the condition is true.
    pub fn filter(&self, condition: Expr) -> Result<Self> {
        self.then(|plan| plan.filter(condition))
    }

    /// The rows for which the Spark SQL condition is true.
    pub fn where_(&self, sql: &str) -> Result<Self> {
        self.filter(self.expr(sql)?)
    }

    /// All columns, and one more (or another one of the same name in its place).
    pub fn with_column(&self, name: &str, expr: Expr) -> Result<Self> {
        let mut exprs = vec![];
        let mut replaced = false;
        for column in self.plan.schema().columns() {
            if column.name.eq_ignore_ascii_case(name) {
                exprs.push(expr.clone().alias(name));
                replaced = true;
            } else {
                exprs.push(Expr::Column(column));
            }
        }
        if !replaced {
            exprs.push(expr.alias(name));
        }
        self.select(exprs)
    }

    /// All columns, one under another name.
    pub fn with_column_renamed(&self, from: &str, to: &str) -> Result<Self> {
        let renamed = self.plan.schema().columns().into_iter().map(|column| {
            let is_it = column.name.eq_ignore_ascii_case(from);
            let expr = Expr::Column(column);
            if is_it { expr.alias(to) } else { expr }
        });
        self.select(renamed.collect::<Vec<_>>())
    }

    /// All columns but these.
    pub fn drop_columns(&self, names: &[&str]) -> Result<Self> {
        let columns = self.plan.schema().columns();
        let kept = columns.into_iter().filter(|c| !names.iter().any(|name| c.name.eq_ignore_ascii_case(name)));
        self.select(kept.map(Expr::Column).collect::<Vec<_>>())
    }

    /// The frame under a name, for joins with itself.
    pub fn alias(&self, name: &str) -> Result<Self> {
        self.then(|plan| plan.alias(name))
    }

    /// Says which column is event time, and how late rows may be: `with_watermark("ts", "10 minutes")`.
    pub fn with_watermark(&self, column: &str, delay: &str) -> Result<Self> {
        let delay_ms = watermark_delay_ms(delay)?;
        if !self.is_streaming() {
            return Ok(self.clone());
        }
        let column = self.top_level_column(column)?;
        let plan = watermark_node(self.plan.clone(), column, delay_ms)?;
        Ok(Self { session: self.session.clone(), plan })
    }

    /// The column of this name, in any case.
    pub(crate) fn top_level_column(&self, name: &str) -> Result<Column> {
        let found = self.plan.schema().columns().into_iter().find(|column| column.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| match name.split_once('.') {
            Some(_) => Error::analysis_class(
                "EVENT_TIME_MUST_BE_TOP_LEVEL_COLUMN",
                format!("The event time `{name}` must be a top level column. Select it as a column of its own first."),
            ),
            None => Error::analysis_class(
                "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                format!(
                    "A column with name `{name}` cannot be resolved.{} The columns are: {}.",
                    did_you_mean(name, self.plan.schema().fields().iter().map(|field| field.name().as_str())),
                    self.plan.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(", ")
                ),
            ),
        })
    }

    /// Groups by these expressions; [`GroupedData::agg`] says what to compute.
    pub fn group_by(&self, exprs: impl IntoIterator<Item = Expr>) -> GroupedData {
        GroupedData { frame: self.clone(), by: exprs.into_iter().collect() }
    }

    /// Aggregates over all rows.
    pub fn agg(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<Self> {
        self.group_by([]).agg(exprs)
    }

    /// Each row once: [`DataFrame::drop_duplicates`] by all columns. (SQL's `SELECT DISTINCT` on a stream is an
    /// aggregation instead and needs a watermark in append mode, `spec/04` section 1.)
    pub fn distinct(&self) -> Result<Self> {
        self.drop_duplicates(&[])
    }

    /// The first row of each combination of these columns (none: of all of them). On a stream over all batches: what
    /// was seen is remembered until the watermark passes the event-time column, for ever if that is not among the
    /// columns. An unknown column is `UNRESOLVED_COLUMN_AMONG_FIELD_NAMES`.
    pub fn drop_duplicates(&self, columns: &[&str]) -> Result<Self> {
        let keys = self.columns_among(columns)?;
        if self.is_streaming() {
            let plan = Deduplicate::plan(self.plan.clone(), keys, Memory::OfKey);
            return Ok(Self { session: self.session.clone(), plan });
        }
        let all: Vec<_> = self.plan.schema().columns();
        if keys.len() == all.len() {
            return self.then(LogicalPlanBuilder::distinct);
        }
        let exprs = |columns: Vec<Column>| columns.into_iter().map(Expr::Column).collect::<Vec<_>>();
        self.then(|plan| plan.distinct_on(exprs(keys), exprs(all), None))
    }

    /// The first row of each combination of these columns (none: of all of them) within the watermark's delay: what
    /// was seen is forgotten once the watermark reaches the first row's event time plus the delay. Only for streams
    /// with a watermark (checked when the query starts).
    pub fn drop_duplicates_within_watermark(&self, columns: &[&str]) -> Result<Self> {
        if !self.is_streaming() {
            return Err(Error::analysis(
                "dropDuplicatesWithinWatermark is not supported with batch DataFrames/DataSets. Use drop_duplicates.",
            ));
        }
        let keys = self.columns_among(columns)?;
        let plan = Deduplicate::plan(self.plan.clone(), keys, Memory::WithinWatermark);
        Ok(Self { session: self.session.clone(), plan })
    }

    /// The columns of these names, each once, in the order asked for; all columns for no names.
    fn columns_among(&self, names: &[&str]) -> Result<Vec<Column>> {
        let columns = self.plan.schema().columns();
        if names.is_empty() {
            return Ok(columns);
        }
        let mut found: Vec<Column> = vec![];
        for name in names {
            let of_name: Vec<_> = columns.iter().filter(|column| column.name.eq_ignore_ascii_case(name)).collect();
            if of_name.is_empty() {
                let all: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
                return Err(Error::analysis_class(
                    "UNRESOLVED_COLUMN_AMONG_FIELD_NAMES",
                    format!(
                        "Cannot resolve column name \"{name}\" among ({}).{} Name one of these.",
                        all.join(", "),
                        did_you_mean(name, all.iter().copied())
                    ),
                ));
            }
            found.extend(of_name.into_iter().filter(|column| !found.contains(column)).cloned().collect::<Vec<_>>());
        }
        Ok(found)
    }

    /// Rows of both frames that belong together.
    pub fn join(&self, right: &DataFrame, join_type: JoinType, on: Expr) -> Result<Self> {
        self.then(|plan| plan.join_on(right.plan.clone(), join_type, [on]))
    }

    /// The rows of both frames, by position of the columns.
    pub fn union(&self, other: &DataFrame) -> Result<Self> {
        self.then(|plan| plan.union(other.plan.clone()))
    }

    /// Sorted rows; on a stream only after an aggregation in complete mode.
    pub fn order_by(&self, by: impl IntoIterator<Item = SortExpr>) -> Result<Self> {
        self.then(|plan| plan.sort(by.into_iter().collect::<Vec<_>>()))
    }

    /// At most `rows` rows.
    pub fn limit(&self, rows: usize) -> Result<Self> {
        self.then(|plan| plan.limit(0, Some(rows)))
    }

    /// Gives the frame a name that SQL can use.
    pub fn create_or_replace_temp_view(&self, name: &str) -> Result<()> {
        self.session.register_view(name, self)
    }

    /// Begins the definition of a query that writes this stream to a sink.
    pub fn write_stream(&self) -> DataStreamWriter {
        DataStreamWriter::new(self.clone())
    }

    /// Begins the definition of a write of this static frame.
    pub fn write(&self) -> DataFrameWriter {
        DataFrameWriter::new(self.clone())
    }

    /// All rows of a static frame.
    pub async fn collect(&self) -> Result<Vec<RecordBatch>> {
        let batches = self.planned()?.collect().await?;
        Ok(batches.into_iter().map(user_batch).collect::<std::result::Result<_, _>>()?)
    }

    /// The rows of a static frame, by partition, as they come.
    pub(crate) async fn execute(&self) -> Result<Vec<SendableRecordBatchStream>> {
        Ok(self.planned()?.execute_stream_partitioned().await?.into_iter().map(user_rows).collect())
    }

    fn planned(&self) -> Result<datafusion::dataframe::DataFrame> {
        if self.is_streaming() {
            return Err(Error::analysis(
                "Queries with streaming sources must be executed with writeStream.start(). Use \
                 write_stream().format(..).start(), or CREATE STREAMING TABLE ... AS SELECT.",
            ));
        }
        let state = self.session.inner.context.state();
        let analysed = plan_set_operations(analyse(self.plan.clone(), &state)?)?;
        Ok(datafusion::dataframe::DataFrame::new(state, analysed))
    }

    /// The logical plan as text.
    pub fn explain(&self) -> String {
        self.plan.display_indent().to_string()
    }
}

/// A frame and what it is grouped by.
#[derive(Clone, Debug)]
pub struct GroupedData {
    pub(crate) frame: DataFrame,
    pub(crate) by: Vec<Expr>,
}

impl GroupedData {
    pub(crate) fn frame(&self) -> &DataFrame {
        &self.frame
    }

    pub(crate) fn by(&self) -> &[Expr] {
        &self.by
    }

    /// One row a group: what it is grouped by, then these aggregates.
    pub fn agg(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<DataFrame> {
        let aggregates: Vec<_> = exprs.into_iter().collect();
        let frame = self.frame.then(|plan| plan.aggregate(self.by.clone(), aggregates))?;
        // With grouping sets there is a column that tells them apart: not one of the result's.
        let columns = frame.plan.schema().columns();
        match columns.iter().any(|column| column.name == Aggregate::INTERNAL_GROUPING_ID) {
            true => frame.drop_columns(&[Aggregate::INTERNAL_GROUPING_ID]),
            false => Ok(frame),
        }
    }

    /// How many rows each group has, as column `count`.
    pub fn count(&self) -> Result<DataFrame> {
        self.agg([datafusion::functions_aggregate::expr_fn::count(datafusion::logical_expr::lit(1)).alias("count")])
    }

    /// The sum of a column in each group.
    pub fn sum(&self, column: &str) -> Result<DataFrame> {
        self.agg([datafusion::functions_aggregate::expr_fn::sum(col(column)).alias(format!("sum({column})"))])
    }

    /// The greatest value of a column in each group.
    pub fn max(&self, column: &str) -> Result<DataFrame> {
        self.agg([datafusion::functions_aggregate::expr_fn::max(col(column)).alias(format!("max({column})"))])
    }

    /// The least value of a column in each group.
    pub fn min(&self, column: &str) -> Result<DataFrame> {
        self.agg([datafusion::functions_aggregate::expr_fn::min(col(column)).alias(format!("min({column})"))])
    }

    /// The average of a column in each group.
    pub fn avg(&self, column: &str) -> Result<DataFrame> {
        self.agg([datafusion::functions_aggregate::expr_fn::avg(col(column)).alias(format!("avg({column})"))])
    }
}
