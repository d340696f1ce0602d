//! The relations of a `FROM`: which columns they bring into scope, under which names.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, LateralView, ObjectName,
    ObjectNamePart, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins,
    visit_expressions,
};
use std::ops::ControlFlow;

use super::STREAM_PREFIX;
use super::calls::call;
use super::catalog::parts;
use super::expressions::lower_name;
use super::resolve::{Resolver, object_name, quote_ident, quoted, table_alias};
use super::scope::{Columns, Names, Relation, Scope, place, quote};
use crate::error::{Error, Result};
use crate::options::did_you_mean;

impl Resolver<'_> {
    pub(crate) fn table_with_joins(
        &mut self,
        from: &mut TableWithJoins,
        scope: &mut Scope,
        outer: Option<&Names>,
    ) -> Result<()> {
        self.relation(&mut from.relation, scope, outer)?;
        for join in &mut from.joins {
            let before = scope.relations.len();
            self.relation(&mut join.relation, scope, outer)?;
            self.join(&mut join.join_operator, scope, before, outer)?;
        }
        Ok(())
    }

    /// Resolves the condition of a join whose right side are the relations from `before` on.
    fn join(
        &mut self,
        operator: &mut JoinOperator,
        scope: &mut Scope,
        before: usize,
        outer: Option<&Names>,
    ) -> Result<()> {
        let one_sided = matches!(
            operator,
            JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::Anti(_) | JoinOperator::LeftAnti(_)
        );
        if let JoinOperator::CrossJoin(on @ JoinConstraint::On(_)) = operator {
            *operator = JoinOperator::Inner(on.clone());
        }
        match constraint(operator) {
            Some(JoinConstraint::On(condition)) => {
                refuse_time_window(condition)?;
                self.expr(condition, &Names { scope, outer })?;
            }
            Some(JoinConstraint::Using(columns)) => {
                for column in columns.iter_mut() {
                    self.using_column(column, scope, before)?;
                }
            }
            Some(JoinConstraint::Natural) => {
                let (left, right) = scope.relations.split_at(before);
                let left: Vec<&String> = left.iter().flat_map(|r| &r.columns.names).collect();
                let right = right.iter().flat_map(|r| &r.columns.names);
                let common: Vec<String> =
                    right.filter(|r| left.iter().any(|l| l.eq_ignore_ascii_case(r))).cloned().collect();
                scope.merged.extend(common);
            }
            _ => {}
        }
        if one_sided {
            scope.relations.truncate(before);
        }
        Ok(())
    }

    fn using_column(&mut self, column: &mut ObjectName, scope: &mut Scope, before: usize) -> Result<()> {
        let name = parts(column).pop().unwrap_or_default();
        let (left, right) = scope.relations.split_at(before);
        for (side, relations) in [("left", left), ("right", right)] {
            let there = |r: &Relation| r.columns.open || r.columns.names.iter().any(|c| c.eq_ignore_ascii_case(&name));
            if !relations.iter().any(there) {
                let columns: Vec<&str> = relations.iter().flat_map(|r| &r.columns.names).map(String::as_str).collect();
                return Err(Error::analysis_class(
                    "UNRESOLVED_USING_COLUMN_FOR_JOIN",
                    format!(
                        "USING column `{name}` cannot be resolved on the {side} side of the join. The {side}-side columns: [{}].",
                        columns.iter().map(|c| quote(&[c])).collect::<Vec<_>>().join(", ")
                    ),
                ));
            }
        }
        let found = left.iter().flat_map(|r| &r.columns.names).find(|c| c.eq_ignore_ascii_case(&name));
        let found = found.cloned().unwrap_or(name);
        *column = object_name(std::slice::from_ref(&found));
        scope.merged.push(found);
        Ok(())
    }

    pub(crate) fn relation(
        &mut self,
        factor: &mut TableFactor,
        scope: &mut Scope,
        outer: Option<&Names>,
    ) -> Result<()> {
        self.rewrite_table_clauses(factor, outer)?;
        if let Some(subquery) = generator_relation(factor)? {
            *factor = subquery;
        }
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let (columns, default_alias) = self.table(name)?;
                let alias = alias.get_or_insert_with(|| table_alias(&default_alias));
                add(scope, columns, Some(alias))
            }
            TableFactor::Table { alias, args: Some(_), .. } => add(scope, Columns::unknown(), alias.as_mut()),
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let values = matches!(subquery.body.as_ref(), SetExpr::Values(_));
                let columns = if *lateral {
                    let here = scope.clone();
                    self.query(subquery, Some(&Names { scope: &here, outer }))?
                } else {
                    self.query(subquery, outer)?
                };
                if values {
                    let named = alias.get_or_insert_with(|| table_alias("__values"));
                    if named.columns.is_empty() {
                        named.columns = (1..=columns.names.len()).map(|i| column_alias(&format!("col{i}"))).collect();
                    }
                }
                add(scope, columns, alias.as_mut())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let mut inner = Scope::default();
                self.table_with_joins(table_with_joins, &mut inner, outer)?;
                match alias {
                    Some(alias) => add(scope, inner.all_columns(), Some(alias)),
                    None => {
                        scope.relations.extend(inner.relations);
                        scope.merged.extend(inner.merged);
                        Ok(())
                    }
                }
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                let here = scope.clone();
                for expr in array_exprs {
                    self.expr(expr, &Names { scope: &here, outer })?;
                }
                add(scope, Columns::unknown(), alias.as_mut())
            }
            TableFactor::Function { alias, .. } | TableFactor::TableFunction { alias, .. } => {
                add(scope, Columns::unknown(), alias.as_mut())
            }
            other => Err(Error::analysis_class(
                "UNSUPPORTED_FEATURE",
                format!("{other} is not supported in FROM. Use tables, views, subqueries and table functions."),
            )),
        }
    }

    /// The columns of a table, view or CTE, whose name is replaced by the registered one; and its default alias.
    fn table(&mut self, name: &mut ObjectName) -> Result<(Columns, String)> {
        let written = parts(name);
        if let [single] = written.as_slice() {
            let plain = single.strip_prefix(STREAM_PREFIX).unwrap_or(single);
            if let Some((cte, columns)) = self.ctes.iter().rev().find(|(cte, _)| cte.eq_ignore_ascii_case(plain)) {
                *name = object_name(std::slice::from_ref(cte));
                return Ok((columns.clone(), plain.to_owned()));
            }
        }
        let Some(table) = self.catalog.table(&written) else { return Err(self.table_not_found(name, &written)) };
        *name = object_name(&table.name);
        let last = written.last().map(String::as_str).unwrap_or_default();
        let plain = last.strip_prefix(STREAM_PREFIX).unwrap_or(last);
        Ok((Columns::known(table.columns.clone()), plain.rsplit('.').next().unwrap_or(plain).to_owned()))
    }

    fn table_not_found(&self, name: &ObjectName, written: &[String]) -> Error {
        let plain: Vec<&str> = written.iter().map(|part| part.strip_prefix(STREAM_PREFIX).unwrap_or(part)).collect();
        let ctes = self.ctes.iter().map(|(name, _)| name.as_str());
        let near = did_you_mean(plain.last().unwrap_or(&""), self.catalog.table_names().chain(ctes));
        let at = name.0[0].as_ident().map(|i| place(i.span.start)).unwrap_or_default();
        Error::analysis_class(
            "TABLE_OR_VIEW_NOT_FOUND",
            format!(
                "The table or view {} cannot be found. Verify the spelling and correctness of the schema and catalog{at}.{near} \
                 CREATE TABLE or CREATE VIEW must stand before the query that reads it.",
                quote(&plain)
            ),
        )
    }
}

fn add(scope: &mut Scope, mut columns: Columns, alias: Option<&mut TableAlias>) -> Result<()> {
    let qualifier = match alias {
        None => None,
        Some(alias) => {
            quote_ident(&mut alias.name);
            rename(&mut columns, &mut alias.columns)?;
            Some(alias.name.value.clone())
        }
    };
    scope.relations.push(Relation { qualifier, columns });
    Ok(())
}

/// Gives columns the names of an alias list `t(a, b)`.
pub(crate) fn rename(columns: &mut Columns, aliases: &mut [TableAliasColumnDef]) -> Result<()> {
    if aliases.is_empty() {
        return Ok(());
    }
    if !columns.open && columns.names.len() != aliases.len() {
        return Err(Error::analysis_class(
            "ASSIGNMENT_ARITY_MISMATCH",
            format!(
                "The number of columns or variables assigned or aliased: {} does not match the number of source expressions: {}.",
                aliases.len(),
                columns.names.len()
            ),
        ));
    }
    for alias in aliases.iter_mut() {
        quote_ident(&mut alias.name);
    }
    *columns = Columns::known(aliases.iter().map(|a| a.name.value.clone()).collect());
    Ok(())
}

/// `LATERAL VIEW [OUTER] f(x) t AS a, b` as a lateral join with `(SELECT f(x) AS (a, b)) t`.
pub(crate) fn lateral_join(view: LateralView) -> Result<Join> {
    let LateralView { mut lateral_view, lateral_view_name, mut lateral_col_alias, outer } = view;
    if let (true, Expr::Function(function)) = (lateral_col_alias.is_empty(), &lateral_view) {
        let names: &[&str] = match lower_name(function).trim_end_matches("_outer") {
            "posexplode" => &["pos", "col"],
            _ => &["col"],
        };
        lateral_col_alias = names.iter().map(|name| Ident::new(*name)).collect();
    }
    if let (true, Expr::Function(function)) = (outer, &mut lateral_view)
        && let Some(ObjectNamePart::Identifier(name)) = function.name.0.last_mut()
        && !name.value.to_lowercase().ends_with("_outer")
    {
        name.value.push_str("_outer");
    }
    let item = match lateral_col_alias.as_slice() {
        [alias] => SelectItem::ExprWithAlias { expr: lateral_view, alias: alias.clone() },
        _ => SelectItem::ExprWithAliases { expr: lateral_view, aliases: lateral_col_alias },
    };
    let subquery = super::parse::select_query(vec![item], Vec::new())?;
    let alias = (!lateral_view_name.0.is_empty()).then(|| parts(&lateral_view_name).join("."));
    let alias = Some(table_alias(alias.as_deref().unwrap_or("__lateral")));
    let relation = TableFactor::Derived { lateral: true, subquery: Box::new(subquery), alias, sample: None };
    Ok(Join { relation, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) })
}

/// `LATERAL explode(x) AS t(a, b)` as `LATERAL (SELECT explode(x) AS (a, b)) AS t`.
fn generator_relation(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let TableFactor::Function { lateral: true, name, args, alias, .. } = factor else { return Ok(None) };
    let name = parts(name).join(".");
    if !super::generator_name(&name.to_lowercase()) {
        return Ok(None);
    }
    let values = args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    let aliases = alias.as_ref().map(|alias| alias.columns.iter().map(|column| column.name.clone()).collect());
    let view = LateralView {
        lateral_view: call(&name, values.collect()),
        lateral_view_name: ObjectName(alias.iter().map(|a| ObjectNamePart::Identifier(a.name.clone())).collect()),
        lateral_col_alias: aliases.unwrap_or_default(),
        outer: false,
    };
    Ok(Some(lateral_join(view)?.relation))
}

/// Spark finds time windows in select lists and grouping only; one in a join's condition leaves the join unresolved, and
/// with it every column above.
fn refuse_time_window(condition: &Expr) -> Result<()> {
    let found = visit_expressions(condition, |expr| match expr {
        Expr::Function(call) if ["window", "session_window"].contains(&&*lower_name(call)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if found.is_continue() {
        return Ok(());
    }
    Err(Error::analysis_class(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        "A time window in the condition of a join cannot be resolved. Select window(..) AS w in a subquery on each side, and \
         join on the columns w.",
    ))
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::RightSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c)
        | JoinOperator::RightAnti(c) => Some(c),
        _ => None,
    }
}

fn column_alias(name: &str) -> TableAliasColumnDef {
    TableAliasColumnDef { name: quoted(name), data_type: None }
}
