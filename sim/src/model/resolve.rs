//! Names to columns: turns views and a syntax tree into a [`Plan`], with the errors that Spark's analyser gives.

use std::rc::Rc;

use sqlparser::ast;

use super::expr::{Column, Expr};
use super::groups;
use super::plan::{JoinKind, Plan, SortKey, mark_of};
use super::refusal::Refusal;
use super::sql::{self, WatermarkClause};
use super::time;
use super::value::Type;
use super::{Query, ViewKind};
use crate::groups::GroupJob;

/// A relation with the names by which its columns can be reached.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The plan.
    pub plan: Plan,
    /// (qualifier, column) in order.
    pub names: Vec<(Option<String>, Column)>,
}

impl Relation {
    fn of(plan: Plan, qualifier: Option<&str>) -> Relation {
        let names = plan.columns().into_iter().map(|c| (qualifier.map(str::to_string), c)).collect();
        Relation { plan, names }
    }

    /// The columns alone.
    pub fn columns(&self) -> Vec<Column> {
        self.names.iter().map(|(_, c)| c.clone()).collect()
    }

    /// The same names over another plan that has at least the same columns.
    fn over(&self, plan: Plan) -> Relation {
        Relation { plan, names: self.names.clone() }
    }
}

/// Things the analyser saw that only the check of unsupported operations may refuse.
#[derive(Debug, Default, Clone)]
pub struct Notes {
    /// A window function that is not a time window, as text.
    pub window_function: Option<String>,
    /// `monotonically_increasing_id()`.
    pub increasing_id: bool,
}

/// Names visible in one query: its WITH queries and the watermark clauses cut out of its text.
#[derive(Clone, Default)]
struct Names {
    with: Vec<(String, Rc<ast::Query>, Rc<Names>)>,
    clauses: Rc<Vec<WatermarkClause>>,
}

/// Turns names into plans; every relation instance gets fresh column ids.
pub struct Resolver<'a> {
    within: &'a Query,
    /// How many of the views exist yet: a view sees only those made before it.
    views: usize,
    next_id: u32,
    names: Names,
    /// What was seen on the way.
    pub notes: Notes,
}

impl<'a> Resolver<'a> {
    /// A resolver over the sources, tables and views of a query.
    pub fn new(within: &'a Query) -> Self {
        Resolver { within, views: within.views.len(), next_id: 0, names: Names::default(), notes: Notes::default() }
    }

    /// A new column.
    pub fn column(&mut self, name: &str, ty: Type) -> Column {
        self.next_id += 1;
        Column { id: self.next_id, name: name.to_string(), ty, delay_ms: None, window: false }
    }

    /// Resolves a whole query text.
    pub fn query_text(&mut self, text: &str) -> Result<Relation, Refusal> {
        let (query, clauses) = sql::parse(text)?;
        let outer = std::mem::replace(&mut self.names, Names { with: Vec::new(), clauses: Rc::new(clauses) });
        let relation = self.query(&query);
        self.names = outer;
        relation
    }

    /// Resolves a view, source or table by name.
    pub fn relation(&mut self, name: &str) -> Result<Relation, Refusal> {
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        let within = self.within;
        if let Some((_, query, names)) = self.names.with.iter().rev().find(|(n, ..)| same(n)).cloned() {
            let outer = std::mem::replace(&mut self.names, (*names).clone());
            let relation = self.query(&query);
            self.names = outer;
            return Ok(Relation::of(relation?.plan, Some(name)));
        }
        if let Some(index) = within.views[..self.views].iter().rposition(|v| same(&v.name)) {
            // A view was analysed when it was made: it sees neither later views, nor itself, nor the WITH
            // names of the query that uses it.
            let outer = (std::mem::take(&mut self.names), std::mem::replace(&mut self.views, index));
            let relation = self.view(&within.views[index].kind);
            (self.names, self.views) = outer;
            return Ok(Relation::of(relation?.plan, Some(name)));
        }
        if let Some(source) = within.sources.iter().position(|s| same(&s.name)) {
            let columns = within.sources[source].columns.iter().map(|(n, ty)| self.column(n, ty.clone())).collect();
            return Ok(Relation::of(Plan::Stream { source, columns }, Some(name)));
        }
        if let Some(table) = within.tables.iter().find(|t| same(&t.name)) {
            let columns = table.columns.iter().map(|(n, ty)| self.column(n, ty.clone())).collect();
            return Ok(Relation::of(Plan::Table { columns, rows: Rc::new(table.rows.clone()) }, Some(name)));
        }
        Err(Refusal::start(
            "TABLE_OR_VIEW_NOT_FOUND",
            format!("[TABLE_OR_VIEW_NOT_FOUND] The table or view `{name}` cannot be found. Verify the spelling"),
        ))
    }

    fn view(&mut self, kind: &ViewKind) -> Result<Relation, Refusal> {
        match kind {
            ViewKind::Sql(text) => self.query_text(text),
            ViewKind::Watermark { from, column, delay } => {
                let relation = self.relation(from)?;
                self.watermark(relation, column, delay)
            }
            ViewKind::DropDuplicates { from, columns } => {
                let relation = self.relation(from)?;
                self.dedup(relation, columns, false)
            }
            ViewKind::DropDuplicatesWithinWatermark { from, columns } => {
                let relation = self.relation(from)?;
                self.dedup(relation, columns, true)
            }
            ViewKind::Groups { from, columns, job } => {
                let relation = self.relation(from)?;
                self.groups(relation, columns, *job)
            }
        }
    }

    fn watermark(&mut self, relation: Relation, column: &str, delay: &str) -> Result<Relation, Refusal> {
        let Some((months, micros)) = time::parse_interval(delay) else {
            return Err(Refusal::start("INVALID_INTERVAL_FORMAT", format!("[INVALID_INTERVAL_FORMAT] '{delay}'")));
        };
        let delay_ms = time::delay_ms(months, micros);
        if delay_ms < 0 {
            let text = format!("requirement failed: delay threshold ({delay}) should not be negative.");
            return Err(Refusal::text(text));
        }
        let found = relation.names.iter().find(|(_, c)| c.name.eq_ignore_ascii_case(column));
        let Some((_, found)) = found else { return Err(unresolved(column)) };
        if found.ty != Type::Timestamp && !found.ty.is_window() {
            return Err(Refusal::start(
                "EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE",
                format!(
                    "[EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE] The event time `{column}` has the invalid type \"{}\", but expected \"TIMESTAMP\".",
                    found.ty.to_string().to_uppercase()
                ),
            ));
        }
        if !relation.plan.is_streaming() {
            return Ok(relation);
        }
        let column = found.id;
        let plan = Plan::Watermark { input: Box::new(relation.plan), column, delay_ms, node: 0 };
        Ok(Relation::of(plan, None))
    }

    fn groups(&mut self, relation: Relation, names: &[String], job: GroupJob) -> Result<Relation, Refusal> {
        if job == GroupJob::Changing {
            return Err(Refusal::beyond("variables that change between lives"));
        }
        let below = relation.columns();
        let key = |name: &String| below.iter().find(|c| c.name.eq_ignore_ascii_case(name)).map(|c| c.id);
        let keys = names.iter().map(|name| key(name).ok_or_else(|| unresolved(name))).collect::<Result<_, _>>()?;
        let columns = groups::columns(job, &below, |name, ty| self.column(name, ty));
        Ok(Relation::of(Plan::Groups { input: Box::new(relation.plan), keys, job, columns, op: 0 }, None))
    }

    fn dedup(&mut self, relation: Relation, columns: &[String], within: bool) -> Result<Relation, Refusal> {
        let mut keys = Vec::new();
        for name in columns {
            let found = relation.names.iter().find(|(_, c)| c.name.eq_ignore_ascii_case(name));
            keys.push(found.ok_or_else(|| unresolved(name))?.1.id);
        }
        if keys.is_empty() {
            keys = relation.names.iter().map(|(_, c)| c.id).collect();
        }
        let plan = Plan::Dedup { input: Box::new(relation.plan), keys, within, op: 0 };
        Ok(Relation::of(plan, None))
    }

    /// Resolves a query: WITH, body, ORDER BY, LIMIT and OFFSET.
    pub fn query(&mut self, query: &ast::Query) -> Result<Relation, Refusal> {
        let outer = self.names.clone();
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                if !cte.alias.columns.is_empty() || with.recursive {
                    return Err(Refusal::beyond("WITH with column names or RECURSIVE"));
                }
                let defined_in = Rc::new(self.names.clone());
                self.names.with.push((cte.alias.name.value.clone(), Rc::new((*cte.query).clone()), defined_in));
            }
        }
        let relation = self.query_body(query);
        self.names = outer;
        relation
    }

    fn query_body(&mut self, query: &ast::Query) -> Result<Relation, Refusal> {
        let order_by = match &query.order_by {
            None => &[][..],
            Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(keys), .. }) => keys,
            Some(_) => return Err(Refusal::beyond("ORDER BY ALL")),
        };
        let mut relation = match &*query.body {
            ast::SetExpr::Select(select) => self.select(select, order_by)?,
            other => {
                let relation = self.set(other)?;
                self.sort_by_output(relation, order_by)?
            }
        };
        let (limit, offset) = match &query.limit_clause {
            None => (None, None),
            Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                (limit.as_ref(), offset.as_ref().map(|o| &o.value))
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => return Err(Refusal::beyond("LIMIT a, b")),
        };
        if let Some(offset) = offset {
            let count = constant(offset)?;
            relation = relation.over(Plan::Offset { input: Box::new(relation.plan.clone()), count });
        }
        if let Some(limit) = limit {
            let count = constant(limit)?;
            relation =
                relation.over(Plan::Limit { input: Box::new(relation.plan.clone()), count, stateful: true, op: 0 });
        }
        Ok(relation)
    }

    fn sort_by_output(&mut self, relation: Relation, keys: &[ast::OrderByExpr]) -> Result<Relation, Refusal> {
        if keys.is_empty() {
            return Ok(relation);
        }
        let mut by = Vec::new();
        for key in keys {
            let expr = match ordinal(&key.expr) {
                Some(index) => Expr::column(nth(&relation.columns(), index)?),
                None => self.expr(&key.expr, &relation)?,
            };
            by.push(sort_key(expr, key));
        }
        Ok(relation.over(Plan::Sort { input: Box::new(relation.plan.clone()), by }))
    }

    fn set(&mut self, body: &ast::SetExpr) -> Result<Relation, Refusal> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, &[]),
            ast::SetExpr::Query(query) => self.query(query),
            ast::SetExpr::SetOperation { op: ast::SetOperator::Union, set_quantifier, left, right } => {
                let (left, right) = (self.set(left)?, self.set(right)?);
                let union = self.union(left, right)?;
                match set_quantifier {
                    ast::SetQuantifier::All => Ok(union),
                    ast::SetQuantifier::None | ast::SetQuantifier::Distinct => Ok(distinct(union)),
                    _ => Err(Refusal::beyond("UNION BY NAME")),
                }
            }
            _ => Err(Refusal::beyond("this form of query (VALUES, EXCEPT, INTERSECT)")),
        }
    }

    fn union(&mut self, left: Relation, right: Relation) -> Result<Relation, Refusal> {
        let (a, b) = (left.columns(), right.columns());
        if a.len() != b.len() {
            return Err(Refusal::start("NUM_COLUMNS_MISMATCH", "[NUM_COLUMNS_MISMATCH] UNION can only be performed"));
        }
        let mut columns = Vec::new();
        for (left, right) in a.iter().zip(&b) {
            if left.ty != right.ty {
                return Err(Refusal::beyond("UNION of different column types"));
            }
            let mut column = self.column(&left.name, left.ty.clone());
            // The union keeps the metadata of its first input.
            column.delay_ms = left.delay_ms;
            column.window = left.window;
            columns.push(column);
        }
        Ok(Relation::of(Plan::Union { inputs: vec![left.plan, right.plan], columns }, None))
    }

    /// FROM: comma means cross join.
    pub fn from(&mut self, tables: &[ast::TableWithJoins]) -> Result<Relation, Refusal> {
        let mut all: Option<Relation> = None;
        for table in tables {
            let mut relation = self.factor(&table.relation)?;
            for join in &table.joins {
                let right = self.factor(&join.relation)?;
                relation = self.join(relation, right, &join.join_operator)?;
            }
            all = Some(match all {
                None => relation,
                Some(left) => joined(left, relation, JoinKind::Inner, None),
            });
        }
        all.ok_or_else(|| Refusal::beyond("SELECT without FROM"))
    }

    fn factor(&mut self, factor: &ast::TableFactor) -> Result<Relation, Refusal> {
        let (mut relation, alias) = match factor {
            ast::TableFactor::Table { name, alias, args: None, sample: None, .. } => {
                let name = name.0.last().map(ToString::to_string).unwrap_or_default();
                (self.named(name.trim_matches('`'))?, alias)
            }
            ast::TableFactor::Derived { subquery, alias, lateral: false, sample: None } => {
                let relation = self.query(subquery)?;
                (Relation::of(relation.plan, None), alias)
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } => {
                (self.from(std::slice::from_ref(&**table_with_joins))?, alias)
            }
            _ => return Err(Refusal::beyond("this form of FROM")),
        };
        if let Some(alias) = alias {
            if !alias.columns.is_empty() {
                return Err(Refusal::beyond("column names in a table alias"));
            }
            for (qualifier, _) in &mut relation.names {
                *qualifier = Some(alias.name.value.clone());
            }
        }
        Ok(relation)
    }

    fn named(&mut self, name: &str) -> Result<Relation, Refusal> {
        let clauses = self.names.clauses.clone();
        let Some(index) = (0..clauses.len()).find(|i| sql::clause_name(*i) == name) else {
            return self.relation(name);
        };
        let clause = &clauses[index];
        let relation = if clause.relation.starts_with('(') {
            self.query_text(&format!("SELECT * FROM {}", clause.relation))?
        } else {
            let name = clause.relation.rsplit(". ").next().unwrap_or_default();
            self.relation(name.trim_matches('`'))?
        };
        let (relation, column) = match &clause.alias {
            None => (relation, clause.expression.clone()),
            Some(alias) => (self.with_expression(relation, &clause.expression, alias)?, alias.clone()),
        };
        if relation.names.iter().all(|(_, c)| !c.name.eq_ignore_ascii_case(&column)) && clause.alias.is_none() {
            return Err(Refusal::start(
                "REQUIRES_EXPLICIT_NAME_IN_WATERMARK_CLAUSE",
                "[REQUIRES_EXPLICIT_NAME_IN_WATERMARK_CLAUSE] The watermark clause requires an explicit name",
            ));
        }
        let relation = self.watermark(relation, &column, &clause.delay)?;
        Ok(Relation::of(relation.plan, clause.qualifier.as_deref()))
    }

    /// `SELECT *, expression AS alias`.
    fn with_expression(&mut self, relation: Relation, text: &str, alias: &str) -> Result<Relation, Refusal> {
        let expr = sql::parse_expression(text)?;
        let expr = self.expr(&expr, &relation)?;
        let columns = relation.columns();
        let mut items: Vec<(Column, Expr)> = columns.iter().map(|c| (c.clone(), Expr::column(c))).collect();
        let column = self.output(alias, &expr, &columns);
        items.push((column, expr));
        Ok(Relation::of(Plan::Project { input: Box::new(relation.plan), items }, None))
    }

    /// The column of a select item: a bare column keeps its identity, an alias keeps mark and window-ness.
    pub fn output(&mut self, name: &str, expr: &Expr, input: &[Column]) -> Column {
        let mut column = self.column(name, expr.ty());
        column.delay_ms = mark_of(expr, input);
        if let Expr::Column(id, _) = expr {
            column.window = input.iter().any(|c| c.id == *id && c.window);
        }
        column
    }

    fn join(&mut self, left: Relation, right: Relation, op: &ast::JoinOperator) -> Result<Relation, Refusal> {
        use ast::JoinOperator as J;
        let (kind, constraint) = match op {
            J::Join(c) | J::Inner(c) | J::CrossJoin(c) => (JoinKind::Inner, c),
            J::Left(c) | J::LeftOuter(c) => (JoinKind::LeftOuter, c),
            J::Right(c) | J::RightOuter(c) => (JoinKind::RightOuter, c),
            J::FullOuter(c) => (JoinKind::FullOuter, c),
            J::Semi(c) | J::LeftSemi(c) => (JoinKind::LeftSemi, c),
            J::Anti(c) | J::LeftAnti(c) => (JoinKind::LeftAnti, c),
            _ => return Err(Refusal::beyond("this form of JOIN")),
        };
        match constraint {
            ast::JoinConstraint::None => Ok(joined(left, right, kind, None)),
            ast::JoinConstraint::On(condition) => {
                let both = joined(left.clone(), right.clone(), JoinKind::Inner, None);
                let condition = self.expr(condition, &both)?;
                Ok(joined(left, right, kind, Some(condition)))
            }
            _ => Err(Refusal::beyond("JOIN USING and NATURAL JOIN")),
        }
    }
}

fn joined(left: Relation, right: Relation, kind: JoinKind, condition: Option<Expr>) -> Relation {
    let mut names = left.names;
    if !kind.left_only() {
        names.extend(right.names);
    }
    let plan = Plan::Join { left: Box::new(left.plan), right: Box::new(right.plan), kind, condition, op: 0 };
    Relation { plan, names }
}

/// SELECT DISTINCT is an aggregation by all columns (spec/04 section 1).
pub fn distinct(relation: Relation) -> Relation {
    let keys = relation.plan.columns();
    let plan = Plan::Aggregate { input: Box::new(relation.plan), keys, calls: Vec::new(), session: None, op: 0 };
    Relation { plan, names: relation.names }
}

/// A sort key with Spark's default place of NULL: first ascending, last descending.
pub fn sort_key(expr: Expr, key: &ast::OrderByExpr) -> SortKey {
    let descending = key.options.asc == Some(false);
    SortKey { expr, descending, nulls_first: key.options.nulls_first.unwrap_or(!descending) }
}

/// `ORDER BY 1`, `GROUP BY 1`: a bare number is a position in the select list.
pub fn ordinal(expr: &ast::Expr) -> Option<usize> {
    match expr {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn nth(columns: &[Column], ordinal: usize) -> Result<&Column, Refusal> {
    let found = ordinal.checked_sub(1).and_then(|i| columns.get(i));
    found
        .ok_or_else(|| Refusal::start("ORDER_BY_POS_OUT_OF_RANGE", "[ORDER_BY_POS_OUT_OF_RANGE] position out of range"))
}

fn constant(expr: &ast::Expr) -> Result<i64, Refusal> {
    ordinal(expr).map(|n| n as i64).ok_or_else(|| Refusal::beyond("a LIMIT that is not a number"))
}

/// The error for a name that is no column.
pub fn unresolved(name: &str) -> Refusal {
    Refusal::start(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        format!(
            "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column, variable, or function parameter with name `{name}` cannot be resolved."
        ),
    )
}
