//! Gives every name of a parsed query the spelling under which the session knows it, and every column Spark's name.
//!
//! Spark finds names without regard to case and keeps the user's spelling in the output; DataFusion compares letters.
//! So after this pass each identifier is quoted and spelled as registered, each select item has the alias that Spark
//! would give it, `STREAM`'s mangled names are those of registered relations, and names that mean nothing are refused
//! with Spark's classes and the nearest right names. Expressions are walked in [`super::expressions`].

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, ObjectName, ObjectNamePart, OrderBy, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAlias, Value, WildcardAdditionalOptions, visit_expressions,
};
use std::ops::ControlFlow;

use super::calls::{call, positional};
use super::catalog::{Catalog, parts};
use super::duplicates::marked;
use super::expressions::lower_name;
use super::names::Namer;
use super::relations::{lateral_join, rename};
use super::scope::{Columns, Names, Relation, Scope, quote};
use crate::error::{Error, Result};
use crate::options::did_you_mean;

/// Resolves the names of one query against a catalog.
pub(crate) struct Resolver<'a> {
    pub(crate) catalog: &'a Catalog<'a>,
    pub(crate) ctes: Vec<(String, Columns)>,
}

/// What the items of a select list are called, and what the aliases among them stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) columns: Columns,
    /// Aliases as written, with the expression (already resolved) behind each.
    pub(crate) aliases: Vec<(String, Expr)>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(catalog: &'a Catalog<'a>) -> Self {
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
        super::table_clauses::sort_by_as_order_by(query);
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
        super::table_clauses::name_grouping_columns(select);
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
        refuse_grouping_without_sets(select)?;
        refuse_lost_windows(select)?;
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
                            let bare = bare_column(expr) == Some(alias.as_str());
                            let again =
                                if bare { repeats_column(&done, expr) } else { output.columns.names.contains(&alias) };
                            if again || !bare {
                                let shown =
                                    if again { marked(&alias, output.columns.names.len()) } else { alias.clone() };
                                item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: quoted(&shown) };
                            }
                            output.columns.names.push(alias);
                        }
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.expr_with(expr, names, &output.aliases, windows)?;
                    output.aliases.push((alias.value.clone(), expr.clone()));
                    let again = output.columns.names.contains(&alias.value);
                    output.columns.names.push(alias.value.clone());
                    if again {
                        alias.value = marked(&alias.value, output.columns.names.len());
                    }
                    quote_ident(alias);
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
                    let columns = excluded(names.scope.all_columns(), options)?;
                    extend(&mut output.columns, columns.clone());
                    if !names.scope.merged.is_empty() && !columns.open {
                        // Spark: what USING merged stands first.
                        for name in &columns.names {
                            done.push(SelectItem::UnnamedExpr(names.scope.column_of_star(name)));
                        }
                        continue;
                    }
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

/// Spark makes a column of the window that a select groups by before it looks at HAVING and at `window_time`, which then
/// ask for the event time that is gone.
fn refuse_lost_windows(select: &Select) -> Result<()> {
    let window = |expr: &Expr| matches!(expr, Expr::Function(call) if lower_name(call) == "window");
    let breaks = |found: bool| if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let slides = |expr: &Expr| matches!(expr, Expr::Function(call) if window(expr) && positional(call).len() > 2);
    if let Some(having) = &select.having
        && visit_expressions(having, |expr| breaks(window(expr))).is_break()
    {
        let class = match visit_expressions(having, |expr| breaks(slides(expr))).is_break() {
            true => "MISSING_ATTRIBUTES.RESOLVED_ATTRIBUTE_MISSING_FROM_INPUT",
            false => "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        };
        return Err(Error::analysis_class(
            class,
            "HAVING cannot call window(..): the event time is no longer there after grouping. Select the window under a name \
             in a subquery, and write the condition as WHERE around it.",
        ));
    }
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return Ok(()) };
    // By the name that the column gets, too.
    let grouped = |expr: &Expr| {
        window(expr) || matches!(expr, Expr::Identifier(name) if name.value.eq_ignore_ascii_case("window"))
    };
    let of_window = |expr: &Expr| {
        breaks(
            matches!(expr, Expr::Function(call) if lower_name(call) == "window_time" && positional(call).iter().any(grouped)),
        )
    };
    let mut items = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    if keys.iter().any(window) && items.any(|item| visit_expressions(item, of_window).is_break()) {
        return Err(Error::analysis_class(
            "MISSING_AGGREGATION",
            "window_time(window(..)) is not one of the columns grouped by. Group by the window in a subquery, and call \
             window_time of its column around it.",
        ));
    }
    Ok(())
}

/// `grouping()` and `grouping_id()` ask in which of several grouping sets a row is.
fn refuse_grouping_without_sets(select: &Select) -> Result<()> {
    let is_set = |key: &Expr| matches!(key, Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_));
    if let GroupByExpr::Expressions(keys, modifiers) = &select.group_by
        && (keys.iter().any(is_set) || !modifiers.is_empty())
    {
        return Ok(());
    }
    let asks = |expr: &Expr| match expr {
        Expr::Function(call) if ["grouping", "grouping_id"].contains(&&*lower_name(call)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let mut items = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    if items.any(|item| visit_expressions(item, asks).is_break())
        || select.having.as_ref().is_some_and(|having| visit_expressions(having, asks).is_break())
    {
        return Err(Error::analysis_class(
            "UNSUPPORTED_GROUPING_EXPRESSION",
            "grouping()/grouping_id() can only be used with GroupingSets/Cube/Rollup. Leave it out, or group by sets.",
        ));
    }
    Ok(())
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

/// Whether a bare column would be there twice: the same column, or one of its name that is no column of another relation.
fn repeats_column(done: &[SelectItem], column: &Expr) -> bool {
    let name = bare_column(column);
    let relation = |expr: &Expr| match expr {
        Expr::CompoundIdentifier(parts) => parts.first().map(|part| part.value.clone()),
        _ => None,
    };
    done.iter().any(|item| match item {
        SelectItem::UnnamedExpr(other) => {
            bare_column(other) == name && (relation(other) == relation(column) || relation(other).is_none())
        }
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.as_str()) == name,
        _ => false,
    })
}

/// The name of a select item that is a column and nothing more.
fn bare_column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(ident) => Some(&ident.value),
        Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.as_str()),
        _ => None,
    }
}

/// An identifier in backticks: DataFusion takes it as it stands.
pub(crate) fn quoted(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

pub(crate) fn quote_ident(ident: &mut Ident) {
    ident.quote_style = Some('`');
}

pub(crate) fn object_name(parts: &[String]) -> ObjectName {
    ObjectName(parts.iter().map(|part| ObjectNamePart::Identifier(quoted(part))).collect())
}

pub(crate) fn table_alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: quoted(name), columns: Vec::new(), at: None }
}
