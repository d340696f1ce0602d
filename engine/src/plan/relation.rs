//! The leaf of a streaming plan before a query is started: a source's definition that pretends to be a table.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::Error;
use crate::source::{SourceDefinition, SourceProvider};

/// A stream that was defined but is not running: `session.read_stream()...load()` or `STREAM t`.
///
/// Two leaves of a query read the same source if and only if they hold the same `Arc` of this.
#[derive(Debug)]
pub struct StreamingRelation {
    /// The table's name, or the format's: for explain and messages.
    pub name: String,
    /// Who makes the running source.
    pub provider: Arc<dyn SourceProvider>,
    /// What the user wrote.
    pub definition: SourceDefinition,
    /// The columns, as the provider resolved them.
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for StreamingRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(Error::analysis(format!(
            "Queries with streaming sources must be executed with writeStream.start(): '{}' is a stream. Write the \
             result to a sink (write_stream().format(..).start(), or CREATE STREAMING TABLE ... AS SELECT).",
            self.name
        ))
        .into())
    }
}

/// The streaming relation that a plan node is, if it is one.
pub fn as_streaming_relation(plan: &LogicalPlan) -> Option<Arc<dyn TableProvider>> {
    let LogicalPlan::TableScan(scan) = plan else { return None };
    let provider = source_as_provider(&scan.source).ok()?;
    (provider.as_ref() as &dyn Any).is::<StreamingRelation>().then_some(provider)
}

/// Whether rows of a stream flow through this plan (sub-queries do not count: see [`has_streaming_subquery`]).
pub fn is_streaming(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(as_streaming_relation(node).is_some())).unwrap_or(false)
}

/// Whether an expression of the plan has a sub-query that reads a stream.
pub fn has_streaming_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_subqueries(|subquery| {
            found |= is_streaming(subquery);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
