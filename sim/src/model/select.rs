//! SELECT: wildcards, time windows, generators, grouping, HAVING, DISTINCT and ORDER BY, in Spark's order.

use sqlparser::ast;

use super::expr::{AggregateCall, Column, ColumnId, Expr};
use super::plan::{Plan, SortKey, mark_of};
use super::refusal::Refusal;
use super::resolve::{Relation, Resolver, distinct, ordinal, sort_key};
use super::value::Type;

/// The expressions of one SELECT, all over its FROM clause until [`Resolver::group`] moves them above the grouping.
struct Parts {
    items: Vec<(String, Expr)>,
    having: Option<Expr>,
    order: Vec<SortKey>,
    groups: Vec<Expr>,
}

impl Parts {
    fn all_mut(&mut self) -> Vec<&mut Expr> {
        let items = self.items.iter_mut().map(|(_, e)| e);
        items
            .chain(&mut self.having)
            .chain(self.order.iter_mut().map(|k| &mut k.expr))
            .chain(&mut self.groups)
            .collect()
    }

    fn all(&self) -> Vec<&Expr> {
        let items = self.items.iter().map(|(_, e)| e);
        items.chain(&self.having).chain(self.order.iter().map(|k| &k.expr)).chain(&self.groups).collect()
    }

    fn rewrite(&mut self, change: &mut dyn FnMut(&Expr) -> Option<Expr>) {
        for expr in self.all_mut() {
            *expr = expr.rewrite(change);
        }
    }
}

impl Resolver<'_> {
    /// Resolves one SELECT with the ORDER BY that follows it (which may look behind the select list).
    pub fn select(&mut self, select: &ast::Select, order_by: &[ast::OrderByExpr]) -> Result<Relation, Refusal> {
        refuse_unknown_clauses(select)?;
        let mut from = self.from(&select.from)?;
        if let Some(condition) = &select.selection {
            let condition = self.expr(condition, &from)?;
            from.plan = Plan::Filter { input: Box::new(from.plan), condition };
        }
        let mut parts = self.parts(select, order_by, &from)?;
        let is_aggregate = |e: &&Expr| e.any(&|e| matches!(e, Expr::Aggregate(_)));
        let grouped = !parts.groups.is_empty() || parts.all().iter().any(is_aggregate);
        let mut plan = self.take_out_windows(from.plan, &mut parts)?;
        plan = self.take_out_generators(plan, &mut parts)?;
        if grouped {
            plan = self.group(plan, &mut parts)?;
            if let Some(condition) = parts.having.take() {
                plan = Plan::Filter { input: Box::new(plan), condition };
            }
        } else if parts.having.is_some() {
            return Err(Refusal::beyond("HAVING without grouping"));
        }
        self.project(plan, parts, select.distinct.is_some())
    }

    fn parts(
        &mut self,
        select: &ast::Select,
        order_by: &[ast::OrderByExpr],
        from: &Relation,
    ) -> Result<Parts, Refusal> {
        let mut items = Vec::new();
        for item in &select.projection {
            match item {
                ast::SelectItem::Wildcard(_) => {
                    items.extend(from.names.iter().map(|(_, c)| (c.name.clone(), Expr::column(c))));
                }
                ast::SelectItem::QualifiedWildcard(kind, _) => {
                    let wanted = kind.to_string();
                    let wanted = wanted.trim_end_matches(".*");
                    let of = |q: &Option<String>| q.as_deref().is_some_and(|q| q.eq_ignore_ascii_case(wanted));
                    items.extend(
                        from.names.iter().filter(|(q, _)| of(q)).map(|(_, c)| (c.name.clone(), Expr::column(c))),
                    );
                }
                ast::SelectItem::UnnamedExpr(e) => items.push((item_name(e), self.expr(e, from)?)),
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    items.push((alias.value.clone(), self.expr(expr, from)?));
                }
                ast::SelectItem::ExprWithAliases { .. } => return Err(Refusal::beyond("several aliases of one item")),
            }
        }
        let groups = match &select.group_by {
            ast::GroupByExpr::Expressions(groups, modifiers) if modifiers.is_empty() => groups,
            _ => return Err(Refusal::beyond("GROUP BY ALL, ROLLUP, CUBE")),
        };
        // A name in GROUP BY, HAVING or ORDER BY that FROM does not have may be an alias of the select list.
        let by_alias = |e: &ast::Expr, this: &mut Self, items: &[(String, Expr)], alias_first: bool| {
            let alias = match e {
                ast::Expr::Identifier(name) => items.iter().find(|(n, _)| n.eq_ignore_ascii_case(&name.value)),
                _ => ordinal(e).and_then(|n| items.get(n.checked_sub(1)?)),
            };
            match (this.expr(e, from), alias) {
                (_, Some((_, item))) if alias_first || ordinal(e).is_some() => Ok(item.clone()),
                (Ok(expr), _) => Ok(expr),
                (Err(_), Some((_, item))) => Ok(item.clone()),
                (Err(error), None) => this.with_aliases(e, items, from).map_err(|_| error),
            }
        };
        let groups = groups.iter().map(|g| by_alias(g, self, &items, false)).collect::<Result<Vec<_>, _>>()?;
        let having = select.having.as_ref().map(|h| by_alias(h, self, &items, false)).transpose()?;
        let mut order = Vec::new();
        for key in order_by {
            order.push(sort_key(by_alias(&key.expr, self, &items, true)?, key));
        }
        Ok(Parts { items, having, order, groups })
    }

    /// Resolves an expression in which names may be aliases of the select list, by way of stand-in columns.
    fn with_aliases(&mut self, e: &ast::Expr, items: &[(String, Expr)], from: &Relation) -> Result<Expr, Refusal> {
        let mut scope = from.clone();
        let mut stand_ins = Vec::new();
        for (name, expr) in items {
            if from.names.iter().all(|(_, c)| !c.name.eq_ignore_ascii_case(name)) {
                let column = self.column(name, expr.ty());
                stand_ins.push((column.id, expr.clone()));
                scope.names.push((None, column));
            }
        }
        let expr = self.expr(e, &scope)?;
        Ok(expr.rewrite(&mut |e| match e {
            Expr::Column(id, _) => stand_ins.iter().find(|(c, _)| c == id).map(|(_, expr)| expr.clone()),
            _ => None,
        }))
    }

    /// Puts the one time window of the SELECT under it and replaces its uses by the new column.
    fn take_out_windows(&mut self, plan: Plan, parts: &mut Parts) -> Result<Plan, Refusal> {
        let mut windows: Vec<Expr> = Vec::new();
        for expr in parts.all() {
            collect(expr, &mut windows, &|e| matches!(e, Expr::TimeWindow(..) | Expr::SessionWindow(..)));
        }
        let window = match windows.as_slice() {
            [] => return Ok(plan),
            [window] => window.clone(),
            _ => {
                return Err(Refusal::text(
                    "Multiple time/session window expressions would result in a cartesian product of rows, therefore they are currently not supported.",
                ));
            }
        };
        let columns = plan.columns();
        let name = if matches!(window, Expr::TimeWindow(..)) { "window" } else { "session_window" };
        let mut column = self.column(name, Type::window());
        column.window = true;
        let replacement = Expr::column(&column);
        let plan = match &window {
            Expr::TimeWindow(time, width, slide, start) => {
                column.delay_ms = mark_of(time, &columns);
                // A filter of its own: it may look at another column than the watermark and then sinks below it.
                let condition = (**time).clone().not_null();
                let input = Box::new(Plan::Filter { input: Box::new(plan), condition });
                let time = (**time).clone();
                Plan::Window { input, column, time, width_us: *width, slide_us: *slide, start_us: *start }
            }
            Expr::SessionWindow(time, gap) => {
                column.delay_ms = mark_of(time, &columns);
                let (time, gap) = ((**time).clone(), (**gap).clone());
                let condition = time.clone().not_null();
                let input = Box::new(Plan::Filter { input: Box::new(plan), condition });
                Plan::Session { input, column, time, gap }
            }
            _ => plan,
        };
        parts.rewrite(&mut |e| (*e == window).then(|| replacement.clone()));
        Ok(plan)
    }

    fn take_out_generators(&mut self, mut plan: Plan, parts: &mut Parts) -> Result<Plan, Refusal> {
        let mut found = Vec::new();
        for expr in parts.all() {
            collect(expr, &mut found, &|e| matches!(e, Expr::Call(name, ..) if name == "explode"));
        }
        for generator in found {
            let Expr::Call(_, args, ty) = &generator else { continue };
            let column = self.column("col", ty.clone());
            let replacement = Expr::column(&column);
            plan = Plan::Explode { input: Box::new(plan), column, array: args[0].clone() };
            parts.rewrite(&mut |e| (*e == generator).then(|| replacement.clone()));
        }
        Ok(plan)
    }

    /// Puts an aggregation on the plan and moves all expressions above it.
    fn group(&mut self, plan: Plan, parts: &mut Parts) -> Result<Plan, Refusal> {
        let columns = plan.columns();
        let mut below: Vec<(Column, Expr)> = columns.iter().map(|c| (c.clone(), Expr::column(c))).collect();
        let mut keys: Vec<(Expr, Column)> = Vec::new();
        for group in &parts.groups {
            if keys.iter().any(|(e, _)| e == group) {
                continue;
            }
            let column = match group {
                Expr::Column(id, _) => columns.iter().find(|c| c.id == *id).cloned(),
                _ => None,
            };
            let column = match column {
                Some(column) => column,
                None => {
                    let column = self.output("group", group, &columns);
                    below.push((column.clone(), group.clone()));
                    column
                }
            };
            keys.push((group.clone(), column));
        }
        let input = match below.len() > columns.len() {
            true => Plan::Project { input: Box::new(plan), items: below },
            false => plan,
        };
        let mut calls: Vec<(Column, AggregateCall)> = Vec::new();
        parts.rewrite(&mut |e| {
            if let Some((_, key)) = keys.iter().find(|(group, _)| group == e) {
                return Some(Expr::column(key));
            }
            let Expr::Aggregate(call) = e else { return None };
            let known = calls.iter().position(|(_, c)| c == &**call);
            let index = known.unwrap_or_else(|| {
                calls.push((self.column(&call.name, call.ty.clone()), (**call).clone()));
                calls.len() - 1
            });
            Some(Expr::column(&calls[index].0))
        });
        let visible = |id: &ColumnId| keys.iter().any(|(_, c)| c.id == *id) || calls.iter().any(|(c, _)| c.id == *id);
        if parts.having.iter().any(|e| !e.columns().iter().all(visible)) {
            return Err(Refusal::start(
                "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                "[UNRESOLVED_COLUMN.WITH_SUGGESTION] HAVING sees only what is grouped or aggregated",
            ));
        }
        if parts.all().iter().any(|e| !e.columns().iter().all(visible)) {
            return Err(Refusal::start(
                "MISSING_AGGREGATION",
                "[MISSING_AGGREGATION] a column is neither grouped nor aggregated",
            ));
        }
        let keys: Vec<Column> = keys.into_iter().map(|(_, c)| c).collect();
        let session = match session_column(&input) {
            Some(id) => keys.iter().any(|k| k.id == id).then_some(id),
            None => None,
        };
        Ok(Plan::Aggregate { input: Box::new(input), keys, calls, session, op: 0 })
    }

    /// The select list, DISTINCT, and ORDER BY with the columns that only it needs.
    fn project(&mut self, plan: Plan, parts: Parts, is_distinct: bool) -> Result<Relation, Refusal> {
        let columns = plan.columns();
        let mut items = Vec::new();
        for (name, expr) in &parts.items {
            items.push((self.output(name, expr, &columns), expr.clone()));
        }
        let visible = items.len();
        let mut by = Vec::new();
        for key in parts.order {
            let known = items.iter().position(|(_, e)| *e == key.expr);
            let index = known.unwrap_or_else(|| {
                items.push((self.output("order", &key.expr, &columns), key.expr.clone()));
                items.len() - 1
            });
            by.push(SortKey { expr: Expr::column(&items[index].0), ..key });
        }
        let shown: Vec<Column> = items[..visible].iter().map(|(c, _)| c.clone()).collect();
        let hidden = items.len() > visible;
        let plan = Plan::Project { input: Box::new(plan), items };
        let mut relation = Relation { plan, names: shown.iter().map(|c| (None, c.clone())).collect() };
        if is_distinct {
            if hidden {
                return Err(Refusal::beyond("ORDER BY of something that SELECT DISTINCT does not have"));
            }
            relation = distinct(relation);
        }
        if !by.is_empty() {
            relation.plan = Plan::Sort { input: Box::new(relation.plan), by };
        }
        if hidden {
            let items = shown.iter().map(|c| (c.clone(), Expr::column(c))).collect();
            relation.plan = Plan::Project { input: Box::new(relation.plan), items };
        }
        Ok(relation)
    }
}

/// The session column that the nodes directly below an aggregation add.
fn session_column(plan: &Plan) -> Option<ColumnId> {
    match plan {
        Plan::Session { column, .. } => Some(column.id),
        Plan::Project { input, .. } | Plan::Explode { input, .. } => session_column(input),
        _ => None,
    }
}

fn collect(expr: &Expr, found: &mut Vec<Expr>, wanted: &dyn Fn(&Expr) -> bool) {
    if wanted(expr) {
        if !found.contains(expr) {
            found.push(expr.clone());
        }
        return;
    }
    for child in expr.children() {
        collect(child, found, wanted);
    }
}

fn refuse_unknown_clauses(select: &ast::Select) -> Result<(), Refusal> {
    let known = select.lateral_views.is_empty()
        && select.qualify.is_none()
        && select.top.is_none()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && !matches!(select.distinct, Some(ast::Distinct::On(_)));
    if known { Ok(()) } else { Err(Refusal::beyond("LATERAL VIEW, QUALIFY, TOP, CLUSTER/DISTRIBUTE/SORT BY")) }
}

/// The name of a select item without an alias: the column's or field's own, else its text.
fn item_name(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Identifier(name) => name.value.clone(),
        ast::Expr::CompoundIdentifier(names) => names.last().map(|n| n.value.clone()).unwrap_or_default(),
        ast::Expr::Function(f) => {
            let text = f.to_string().replace("(*)", "(1)");
            if text.starts_with("window(") { "window".into() } else { text }
        }
        other => other.to_string(),
    }
}
