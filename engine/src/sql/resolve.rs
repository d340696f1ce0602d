//! Gives every name of a parsed query the spelling under which the session knows it, and every column Spark's name.
//!
//! Spark finds names without regard to case and keeps the user's spelling in the output; DataFusion compares letters.
//! So after this pass each identifier is quoted and spelled as registered, each select item has the alias that Spark
//! would give it, `STREAM`'s mangled names are those of registered relations, and names that mean nothing are refused
//! with Spark's classes and the nearest right names. Expressions are walked in [`super::expressions`].

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, LateralView, ObjectName, ObjectNamePart, OrderBy,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins, Value, WildcardAdditionalOptions,
};

use super::STREAM_PREFIX;
use super::calls::call;
use super::catalog::{Catalog, parts};
use super::names::Namer;
pub(crate) use super::names::quoted;
use super::scope::{Columns, Names, Relation, Scope, place, quote};
use crate::error::{Error, Result};
use crate::options::did_you_mean;

/// Resolves the names of one query against a catalog.
pub(crate) struct Resolver<'a> {
    pub(crate) catalog: &'a Catalog,
    ctes: Vec<(String, Columns)>,
}

/// What the items of a select list are called, and what the aliases among them stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) columns: Columns,
    /// Aliases as written, with the expression (already resolved) behind each.
    pub(crate) aliases: Vec<(String, Expr)>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, ctes: Vec::new() }
    }

    /// Resolves a query in place; `outer` are the scopes of the queries it stands in. Answers its columns.
    pub(crate) fn query(&mut self, query: &mut Query, outer: Option<&Names>) -> Result<Columns> {
        let known = self.ctes.len();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                if with.recursive {
                    self.ctes.push((cte.alias.name.value.clone(), Columns::unknown()));
                }
                let mut columns = self.query(&mut cte.query, None)?;
                quote_ident(&mut cte.alias.name);
                rename(&mut columns, &mut cte.alias.columns)?;
                self.ctes.push((cte.alias.name.value.clone(), columns));
            }
        }
        let columns = match query.body.as_mut() {
            SetExpr::Select(select) => self.select(select, query.order_by.as_mut(), outer)?,
            body => {
                let columns = self.set_expr(body, outer)?;
                let output = Output { columns: columns.clone(), aliases: Vec::new() };
                if let Some(order_by) = &mut query.order_by {
                    let scope = Scope {
                        relations: vec![Relation { qualifier: None, columns: columns.clone() }],
                        merged: Vec::new(),
                    };
                    self.order_by(order_by, &output, &Names { scope: &scope, outer })?;
                }
                columns
            }
        };
        self.ctes.truncate(known);
        Ok(columns)
    }

    fn set_expr(&mut self, body: &mut SetExpr, outer: Option<&Names>) -> Result<Columns> {
        match body {
            SetExpr::Select(select) => self.select(select, None, outer),
            SetExpr::Query(query) => self.query(query, outer),
            SetExpr::SetOperation { left, right, .. } => {
                let columns = self.set_expr(left, outer)?;
                self.set_expr(right, outer)?;
                Ok(columns)
            }
            SetExpr::Values(values) => {
                let scope = Scope::default();
                let names = Names { scope: &scope, outer };
                for expr in values.rows.iter_mut().flat_map(|row| row.content.iter_mut()) {
                    self.expr(expr, &names)?;
                }
                let width = values.rows.first().map_or(0, |row| row.content.len());
                Ok(Columns::known((1..=width).map(|i| format!("column{i}")).collect()))
            }
            SetExpr::Table(table) => Err(Error::analysis_class(
                "UNSUPPORTED_FEATURE",
                format!(
                    "TABLE {} is not supported here. Write SELECT * FROM it.",
                    table.table_name.clone().unwrap_or_default()
                ),
            )),
            other => Err(Error::analysis_class("UNSUPPORTED_FEATURE", format!("{other} is not a query."))),
        }
    }

    fn select(
        &mut self,
        select: &mut Select,
        order_by: Option<&mut OrderBy>,
        outer: Option<&Names>,
    ) -> Result<Columns> {
        let mut scope = Scope::default();
        for view in std::mem::take(&mut select.lateral_views) {
            let Some(last) = select.from.last_mut() else {
                return Err(Error::analysis("LATERAL VIEW needs a FROM before it."));
            };
            last.joins.push(lateral_join(view)?);
        }
        self.watermark_of_expression(select, outer)?;
        for from in &mut select.from {
            self.table_with_joins(from, &mut scope, outer)?;
        }
        let names = Names { scope: &scope, outer };
        if let Some(selection) = &mut select.selection {
            self.expr(selection, &names)?;
        }
        for definition in &mut select.named_window {
            self.named_window(definition, &names)?;
        }
        let windows = self.window_calls(select)?;
        let output = self.projection(&mut select.projection, &names, &windows)?;
        self.group_by(&mut select.group_by, &select.projection, &output, &names, &windows)?;
        for condition in [&mut select.having, &mut select.qualify].into_iter().flatten() {
            self.expr_with(condition, &names, &output.aliases, &windows)?;
        }
        if let Some(order_by) = order_by {
            self.order_by_with(order_by, &output, &names, &windows)?;
        }
        Ok(output.columns)
    }

    // ---- FROM ----

    fn table_with_joins(&mut self, from: &mut TableWithJoins, scope: &mut Scope, outer: Option<&Names>) -> Result<()> {
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
        match constraint(operator) {
            Some(JoinConstraint::On(condition)) => {
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

    fn relation(&mut self, factor: &mut TableFactor, scope: &mut Scope, outer: Option<&Names>) -> Result<()> {
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

    /// `WATERMARK expr AS name`: the named expression becomes the first column of the relation below the watermark.
    fn watermark_of_expression(&mut self, select: &mut Select, outer: Option<&Names>) -> Result<()> {
        let Some(Expr::Function(function)) = &mut select.selection else { return Ok(()) };
        if !super::watermark::is_marker(&function.name) {
            return Ok(());
        }
        let mut scope = Scope::default();
        let mut from = select.from.clone();
        for from in &mut from {
            self.table_with_joins(from, &mut scope, outer)?;
        }
        let names = Names { scope: &scope, outer };
        if let Some(projection) = super::watermark::name_expression(function, &names)? {
            let relation = std::mem::take(&mut select.from);
            select.from = vec![super::watermark::projected(projection, relation)];
        }
        Ok(())
    }

    // ---- SELECT list ----

    fn projection(&mut self, items: &mut Vec<SelectItem>, names: &Names, windows: &[Expr]) -> Result<Output> {
        let mut output = Output::default();
        let mut done = Vec::with_capacity(items.len());
        for mut item in std::mem::take(items) {
            match &mut item {
                SelectItem::UnnamedExpr(expr) => {
                    let written = expr.clone();
                    let alias = self.item_name(&written, names);
                    self.expr_with(expr, names, &output.aliases, windows)?;
                    match alias {
                        None => output.columns.open = true,
                        Some(alias) => {
                            output.columns.names.push(alias.clone());
                            if bare_column(expr) != Some(alias.as_str()) {
                                let expr = expr.clone();
                                item = SelectItem::ExprWithAlias { expr, alias: quoted(&alias) };
                            }
                        }
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.expr_with(expr, names, &output.aliases, windows)?;
                    quote_ident(alias);
                    output.columns.names.push(alias.value.clone());
                    output.aliases.push((alias.value.clone(), expr.clone()));
                }
                SelectItem::ExprWithAliases { expr, aliases } => {
                    self.expr_with(expr, names, &output.aliases, windows)?;
                    for (i, alias) in aliases.iter().enumerate() {
                        let index = super::calls::number(i as i64);
                        let expr = call(super::GENERATOR_FIELD_CALL, vec![expr.clone(), index]);
                        output.columns.names.push(alias.value.clone());
                        done.push(SelectItem::ExprWithAlias { expr, alias: quoted(&alias.value) });
                    }
                    continue;
                }
                SelectItem::Wildcard(options) => {
                    let columns = names.scope.all_columns();
                    extend(&mut output.columns, excluded(columns, options)?);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let columns = self.qualified_wildcard(name, names)?;
                    extend(&mut output.columns, excluded(columns, options)?);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                    return Err(Error::analysis_class(
                        "CANNOT_RESOLVE_STAR_EXPAND",
                        "The fields of an expression cannot be listed with *. Name them one by one.",
                    ));
                }
            }
            done.push(item);
        }
        *items = done;
        Ok(output)
    }

    /// The name of an item without an alias; `None` when only its type tells (a generator).
    fn item_name(&self, expr: &Expr, names: &Names) -> Option<String> {
        if let Expr::Function(function) = expr
            && super::generator_name(&function.name.to_string().to_lowercase())
        {
            return None;
        }
        Some(Namer { is_relation: &|name| names.scope.has_relation(name) }.item(expr))
    }

    fn qualified_wildcard(&self, name: &mut ObjectName, names: &Names) -> Result<Columns> {
        let qualifier = parts(name).pop().unwrap_or_default();
        let relation = names
            .scope
            .relations
            .iter()
            .find(|r| r.qualifier.as_deref().is_some_and(|q| q.eq_ignore_ascii_case(&qualifier)));
        let Some(relation) = relation else {
            let mut columns = names.scope.all_columns().names;
            columns.sort();
            return Err(Error::analysis_class(
                "CANNOT_RESOLVE_STAR_EXPAND",
                format!(
                    "Cannot resolve `{qualifier}`.* given input columns {}. Please check that the specified table or struct \
                     exists and is accessible in the input columns.",
                    columns.iter().map(|c| quote(&[c])).collect::<Vec<_>>().join(", ")
                ),
            ));
        };
        *name = object_name(&[relation.qualifier.clone().unwrap_or_default()]);
        Ok(relation.columns.clone())
    }

    // ---- GROUP BY, ORDER BY ----

    fn group_by(
        &mut self,
        group_by: &mut GroupByExpr,
        items: &[SelectItem],
        output: &Output,
        names: &Names,
        windows: &[Expr],
    ) -> Result<()> {
        if let GroupByExpr::All(modifiers) = group_by {
            let plain = items.iter().filter_map(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
                _ => None,
            });
            let keys = plain.filter(|expr| !self.aggregates(expr)).collect();
            *group_by = GroupByExpr::Expressions(keys, std::mem::take(modifiers));
            return Ok(());
        }
        let GroupByExpr::Expressions(keys, _) = group_by else { return Ok(()) };
        for key in keys {
            match key {
                // An ordinal: DataFusion counts the items too.
                Expr::Value(value) if matches!(value.value, Value::Number(..)) => {}
                // A column of the input is meant before an alias of the output.
                key => self.expr_with(key, names, &output.aliases, windows)?,
            }
        }
        Ok(())
    }

    fn order_by(&mut self, order_by: &mut OrderBy, output: &Output, names: &Names) -> Result<()> {
        self.order_by_with(order_by, output, names, &[])
    }

    /// An alias or column of the output is meant before a column of the input.
    fn order_by_with(
        &mut self,
        order_by: &mut OrderBy,
        output: &Output,
        names: &Names,
        windows: &[Expr],
    ) -> Result<()> {
        let OrderByKind::Expressions(keys) = &mut order_by.kind else { return Ok(()) };
        for key in keys {
            match &mut key.expr {
                Expr::Value(value) if matches!(value.value, Value::Number(..)) => {}
                Expr::Identifier(ident)
                    if output.columns.names.iter().any(|n| n.eq_ignore_ascii_case(&ident.value)) =>
                {
                    let names = &output.columns.names;
                    let exact = names.iter().find(|n| **n == ident.value);
                    let found = exact.or_else(|| names.iter().find(|n| n.eq_ignore_ascii_case(&ident.value)));
                    *ident = quoted(found.expect("one of them is equal"));
                }
                expr => self.expr_with(expr, names, &output.aliases, windows)?,
            }
        }
        Ok(())
    }
}

/// The columns after `EXCEPT (...)`, whose names are replaced by the right spelling.
fn excluded(mut columns: Columns, options: &mut WildcardAdditionalOptions) -> Result<Columns> {
    let Some(except) = &mut options.opt_except else { return Ok(columns) };
    for ident in std::iter::once(&mut except.first_element).chain(&mut except.additional_elements) {
        match columns.names.iter().position(|c| c.eq_ignore_ascii_case(&ident.value)) {
            Some(at) => *ident = quoted(&columns.names.remove(at)),
            None if columns.open => {}
            None => {
                let near = did_you_mean(&ident.value, columns.names.iter().map(String::as_str));
                return Err(Error::analysis_class(
                    "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                    format!("A column with name `{}` to leave out cannot be resolved.{near}", ident.value),
                ));
            }
        }
    }
    Ok(columns)
}

fn extend(all: &mut Columns, more: Columns) {
    all.names.extend(more.names);
    all.open |= more.open;
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
fn rename(columns: &mut Columns, aliases: &mut [TableAliasColumnDef]) -> Result<()> {
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
fn lateral_join(view: LateralView) -> Result<Join> {
    let LateralView { mut lateral_view, lateral_view_name, mut lateral_col_alias, outer } = view;
    if let (true, Expr::Function(function)) = (lateral_col_alias.is_empty(), &lateral_view) {
        let names: &[&str] = match super::expressions::lower_name(function).trim_end_matches("_outer") {
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

/// The name of a select item that is a column and nothing more.
fn bare_column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(ident) => Some(&ident.value),
        Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.as_str()),
        _ => None,
    }
}

fn quote_ident(ident: &mut Ident) {
    ident.quote_style = Some('`');
}

fn object_name(parts: &[String]) -> ObjectName {
    ObjectName(parts.iter().map(|part| ObjectNamePart::Identifier(quoted(part))).collect())
}

pub(crate) fn table_alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: quoted(name), columns: Vec::new(), at: None }
}

fn column_alias(name: &str) -> TableAliasColumnDef {
    TableAliasColumnDef { name: quoted(name), data_type: None }
}
