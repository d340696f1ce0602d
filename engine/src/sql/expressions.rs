//! The walk over expressions in which names are resolved, and literals and calls get Spark's meaning.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, Interval, NamedWindowDefinition, NamedWindowExpr,
    OrderByExpr, Query, Select, SelectItem, Subscript, UnaryOperator, Value, ValueWithSpan, Visit, Visitor, WindowSpec,
    WindowType,
};
use std::ops::ControlFlow;

use super::calls::{call, cast, positional, rewrite_call, text};
use super::names::{string_arguments, type_text};
use super::resolve::{Resolver, quoted};
use super::row_in_subquery::{aggregates_in_a_row, is_row_in, negated_row_in, row_in_subquery};
use super::scope::{Columns, Found, Names, Relation, Scope, place, quote};
use super::{INTERVAL_CALL, TYPED_CALL, WATERMARK_CALL};
use crate::error::{Error, Result};
use crate::functions::calendar::SECONDS_CALL;
use crate::functions::collections::ARRAYS_ZIP_CALL;
use crate::functions::{CAST_CALL, TRY_CAST_CALL};
use crate::options::did_you_mean;

impl Resolver<'_> {
    /// Resolves an expression over the columns in scope.
    pub(crate) fn expr(&mut self, expr: &mut Expr, names: &Names) -> Result<()> {
        self.expr_with(expr, names, &[], &[])
    }

    /// [`Resolver::expr`] where a name that is no column may be an alias of the select list, or `window` for the
    /// time window that the select groups by.
    pub(crate) fn expr_with(
        &mut self,
        expr: &mut Expr,
        names: &Names,
        aliases: &[(String, Expr)],
        windows: &[Expr],
    ) -> Result<()> {
        Walk { resolver: self, names, aliases, windows }.expr(expr)
    }

    /// The calls of `window` and `session_window` in `GROUP BY` and the select list, unresolved; an error when they
    /// differ. The same call may be written many times.
    pub(crate) fn window_calls(&self, select: &Select) -> Result<Vec<Expr>> {
        let mut found: Vec<&Expr> = Vec::new();
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            found.extend(keys.iter().filter(|key| time_window_name(key).is_some()));
        }
        found.extend(select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                time_window_name(expr).map(|_| expr)
            }
            _ => None,
        }));
        let mut texts: Vec<String> = found.iter().map(|call| call.to_string().to_lowercase()).collect();
        texts.dedup();
        if texts.len() > 1 {
            return Err(Error::analysis(crate::functions::window::MULTIPLE_WINDOWS));
        }
        Ok(found.into_iter().cloned().collect())
    }

    /// Whether an aggregate function is called in an expression.
    pub(crate) fn aggregates(&self, expr: &Expr) -> bool {
        struct Search<'a>(&'a Resolver<'a>);
        impl Visitor for Search<'_> {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                match expr {
                    Expr::Function(f) if f.over.is_none() && self.0.catalog.is_aggregate(&lower_name(f)) => {
                        ControlFlow::Break(())
                    }
                    _ => ControlFlow::Continue(()),
                }
            }
        }
        let this = Resolver::new(self.catalog);
        expr.visit(&mut Search(&this)).is_break()
    }

    pub(crate) fn named_window(&mut self, definition: &mut NamedWindowDefinition, names: &Names) -> Result<()> {
        match &mut definition.1 {
            NamedWindowExpr::WindowSpec(spec) => {
                Walk { resolver: self, names, aliases: &[], windows: &[] }.window_spec(spec)
            }
            NamedWindowExpr::NamedWindow(_) => Ok(()),
        }
    }
}

/// One walk over one expression.
struct Walk<'w, 'r, 'a> {
    resolver: &'w mut Resolver<'r>,
    names: &'w Names<'a>,
    aliases: &'w [(String, Expr)],
    windows: &'w [Expr],
}

impl Walk<'_, '_, '_> {
    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e mut Expr>) -> Result<()> {
        exprs.into_iter().try_for_each(|expr| self.expr(expr))
    }

    /// A long chain of operators is a deep tree: the stack grows with it.
    #[recursive::recursive]
    fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Identifier(ident) => {
                let ids = vec![ident.clone()];
                *expr = self.identifier(&ids)?;
            }
            Expr::CompoundIdentifier(ids) => {
                let ids = ids.clone();
                *expr = self.identifier(&ids)?;
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                for access in access_chain {
                    match access {
                        AccessExpr::Dot(Expr::Identifier(field)) => {
                            *access = AccessExpr::Dot(text(&field.value));
                        }
                        AccessExpr::Dot(_) => {}
                        AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index)?,
                        AccessExpr::Subscript(Subscript::Slice { .. }) => {
                            return Err(Error::analysis_class(
                                "PARSE_SYNTAX_ERROR",
                                "A part of an array is written slice(array, start, length).",
                            ));
                        }
                    }
                }
            }
            Expr::Value(value) => {
                if let Some(literal) = number_literal(value, false) {
                    *expr = literal;
                }
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match inner.as_ref() {
                Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                    if let Some(literal) = number_literal(value, true) {
                        *expr = literal;
                    }
                }
                _ => self.expr(inner)?,
            },
            Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::BangNot, expr: inner } if is_row_in(inner) => {
                *expr = negated_row_in(inner);
                self.expr(expr)?;
            }
            Expr::UnaryOp { op, expr: inner } => {
                if *op == UnaryOperator::BangNot {
                    *op = UnaryOperator::Not;
                }
                self.expr(inner)?;
                if *op == UnaryOperator::BitwiseNot {
                    *expr = call("bitwise_not", vec![inner.as_ref().clone()]);
                }
            }
            Expr::BinaryOp { left, op, right } => {
                self.all([left.as_mut(), right.as_mut()])?;
                if *op == BinaryOperator::Spaceship {
                    *expr = Expr::IsNotDistinctFrom(left.clone(), right.clone());
                }
            }
            Expr::RLike { negated, expr: value, pattern, .. } => {
                self.all([value.as_mut(), pattern.as_mut()])?;
                let matches = call("regexp_like", vec![value.as_ref().clone(), pattern.as_ref().clone()]);
                *expr =
                    if *negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(matches) } } else { matches };
            }
            Expr::Cast { kind, expr: value, data_type, .. } => {
                self.expr(value)?;
                let function = match kind {
                    CastKind::TryCast | CastKind::SafeCast => TRY_CAST_CALL,
                    CastKind::Cast | CastKind::DoubleColon => CAST_CALL,
                };
                *expr = call(function, vec![value.as_ref().clone(), text(&type_text(data_type))]);
            }
            Expr::TypedString(typed) => {
                let value = Expr::Value(typed.value.clone());
                *expr = call(CAST_CALL, vec![value, text(&typed.data_type.to_string())]);
            }
            Expr::Struct { values, .. } => {
                let mut function = call("struct", std::mem::take(values));
                self.function(&mut function)?;
                *expr = function;
            }
            Expr::Extract { field: DateTimeField::Second | DateTimeField::Seconds, expr: time, .. } => {
                self.expr(time)?;
                *expr = call(SECONDS_CALL, vec![time.as_ref().clone()]);
            }
            Expr::Function(_) => self.function(expr)?,
            Expr::Subquery(query) => self.subquery(query)?,
            Expr::Exists { subquery, .. } => self.subquery(subquery)?,
            Expr::InSubquery { expr: value, subquery, negated } => {
                if matches!(value.as_ref(), Expr::Tuple(_)) && self.resolver.aggregates(value) {
                    return Err(aggregates_in_a_row());
                }
                self.expr(value)?;
                let columns = self.resolver.query(subquery, Some(self.names))?;
                if let Expr::Tuple(values) = value.as_mut() {
                    *expr = row_in_subquery(std::mem::take(values), subquery, &columns, *negated)?;
                }
            }
            _ => self.children(expr)?,
        }
        Ok(())
    }

    /// Expressions of which only the parts are of interest.
    fn children(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Nested(e)
            | Expr::IsNull(e)
            | Expr::IsNotNull(e)
            | Expr::IsTrue(e)
            | Expr::IsNotTrue(e)
            | Expr::IsFalse(e)
            | Expr::IsNotFalse(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e)
            | Expr::Extract { expr: e, .. }
            | Expr::Ceil { expr: e, .. }
            | Expr::Floor { expr: e, .. }
            | Expr::Collate { expr: e, .. }
            | Expr::Named { expr: e, .. } => self.expr(e),
            Expr::IsDistinctFrom(l, r)
            | Expr::IsNotDistinctFrom(l, r)
            | Expr::AnyOp { left: l, right: r, .. }
            | Expr::AllOp { left: l, right: r, .. }
            | Expr::Position { expr: l, r#in: r }
            | Expr::Like { expr: l, pattern: r, .. }
            | Expr::ILike { expr: l, pattern: r, .. }
            | Expr::AtTimeZone { timestamp: l, time_zone: r } => self.all([l.as_mut(), r.as_mut()]),
            Expr::Between { expr, low, high, .. } => self.all([expr.as_mut(), low.as_mut(), high.as_mut()]),
            Expr::InList { expr, list, .. } => {
                self.expr(expr)?;
                self.all(list)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.expr(expr)?;
                self.all([substring_from, substring_for].into_iter().flatten().map(Box::as_mut))
            }
            Expr::Trim { trim_what, expr, trim_characters, .. } => {
                self.expr(expr)?;
                self.all(trim_what.iter_mut().map(Box::as_mut))?;
                self.all(trim_characters.iter_mut().flatten())
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.all([expr.as_mut(), overlay_what.as_mut(), overlay_from.as_mut()])?;
                self.all(overlay_for.iter_mut().map(Box::as_mut))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.all(operand.iter_mut().chain(else_result).map(Box::as_mut))?;
                self.all(conditions.iter_mut().flat_map(|when| [&mut when.condition, &mut when.result]))
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => self.all(sets.iter_mut().flatten()),
            Expr::Tuple(values) => self.all(values),
            Expr::Array(array) => self.all(&mut array.elem),
            _ => Ok(()),
        }
    }

    fn subquery(&mut self, query: &mut Query) -> Result<()> {
        self.resolver.query(query, Some(self.names)).map(|_| ())
    }

    /// A column, an alias of the select list, or the time window of the select, with the struct fields after it.
    fn identifier(&mut self, ids: &[Ident]) -> Result<Expr> {
        if let Some((found, _)) = self.names.find(ids)? {
            let Found { qualifier, column, parts } = found;
            let root = match qualifier {
                Some(qualifier) => Expr::CompoundIdentifier(vec![quoted(&qualifier), quoted(&column)]),
                None => Expr::Identifier(quoted(&column)),
            };
            return Ok(with_fields(root, &ids[parts..]));
        }
        let first = &ids[0].value;
        if let Some((_, expr)) = self.aliases.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(first)) {
            return Ok(with_fields(nested(expr.clone()), &ids[1..]));
        }
        let window = self.windows.iter().find(|w| time_window_name(w).is_some_and(|n| n.eq_ignore_ascii_case(first)));
        if let Some(mut window) = window.cloned() {
            self.expr(&mut window)?;
            return Ok(with_fields(window, &ids[1..]));
        }
        if let [ident] = ids
            && ident.quote_style.is_none()
            && ["current_timestamp", "current_date", "now"].contains(&ident.value.to_lowercase().as_str())
        {
            let mut function = call(&ident.value.to_lowercase(), Vec::new());
            self.expr(&mut function)?;
            return Ok(function);
        }
        if self.names.is_open() {
            let ids: Vec<Ident> = ids.iter().map(|id| quoted(&id.value)).collect();
            return Ok(match ids.as_slice() {
                [id] => Expr::Identifier(id.clone()),
                _ => Expr::CompoundIdentifier(ids),
            });
        }
        Err(self.names.unresolved(ids))
    }

    fn function(&mut self, expr: &mut Expr) -> Result<()> {
        let Expr::Function(function) = expr else { return Ok(()) };
        let name = lower_name(function);
        if name == INTERVAL_CALL {
            *expr = interval(function)?;
            return Ok(());
        }
        if name != WATERMARK_CALL && name != TYPED_CALL && !self.resolver.catalog.has_function(&name) {
            return Err(self.unknown_function(function, &name));
        }
        if name == TYPED_CALL {
            *expr = call(CAST_CALL, positional(function));
            return Ok(());
        }
        let name = unit_argument(function, name);
        match name.as_str() {
            "struct" => name_fields(function),
            "arrays_zip" => name_arrays(function),
            _ => {}
        }
        if let FunctionArguments::List(list) = &mut function.args {
            for argument in &mut list.args {
                match argument {
                    FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }
                    | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(e), .. }
                    | FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => self.argument(e)?,
                    _ => {}
                }
            }
            for clause in &mut list.clauses {
                if let FunctionArgumentClause::OrderBy(keys) = clause {
                    self.sort_keys(keys)?;
                }
            }
        }
        self.all(function.filter.iter_mut().map(Box::as_mut))?;
        self.sort_keys(&mut function.within_group)?;
        if let Some(WindowType::WindowSpec(spec)) = &mut function.over {
            self.window_spec(spec)?;
        }
        if let Some(other) = rewrite_call(&name, function)? {
            *expr = other;
        }
        Ok(())
    }

    /// An argument; the parameters of a lambda are names of their own.
    fn argument(&mut self, argument: &mut Expr) -> Result<()> {
        let Expr::Lambda(lambda) = argument else { return self.expr(argument) };
        let columns = Columns::known(lambda.params.iter().map(|p| p.name.value.clone()).collect());
        let scope = Scope { relations: vec![Relation { qualifier: None, columns }], merged: Vec::new() };
        let names = Names { scope: &scope, outer: Some(self.names) };
        Walk { resolver: self.resolver, names: &names, aliases: self.aliases, windows: &[] }.expr(&mut lambda.body)
    }

    fn sort_keys(&mut self, keys: &mut [OrderByExpr]) -> Result<()> {
        self.all(keys.iter_mut().map(|key| &mut key.expr))
    }

    fn window_spec(&mut self, spec: &mut WindowSpec) -> Result<()> {
        self.all(&mut spec.partition_by)?;
        self.sort_keys(&mut spec.order_by)
    }

    fn unknown_function(&self, function: &Function, name: &str) -> Error {
        let at = function.name.0[0].as_ident().map(|i| place(i.span.start)).unwrap_or_default();
        let near = did_you_mean(name, self.resolver.catalog.function_names());
        let dot = if near.is_empty() { " Check its spelling." } else { "" };
        Error::analysis_class(
            "UNRESOLVED_ROUTINE",
            format!("Cannot resolve routine {}{at}.{near}{dot}", quote(&[name])),
        )
    }
}

/// `window` or `session_window` when the expression is a call of it.
fn time_window_name(expr: &Expr) -> Option<&'static str> {
    let Expr::Function(function) = expr else { return None };
    let name = lower_name(function);
    ["window", "session_window"].into_iter().find(|known| *known == name && function.over.is_none())
}

pub(crate) fn lower_name(function: &Function) -> String {
    function.name.to_string().replace('`', "").to_lowercase()
}

fn nested(expr: Expr) -> Expr {
    match expr {
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => Expr::Nested(Box::new(expr)),
        other => other,
    }
}

fn with_fields(root: Expr, fields: &[Ident]) -> Expr {
    if fields.is_empty() {
        return root;
    }
    let access_chain = fields.iter().map(|field| AccessExpr::Dot(text(&field.value))).collect();
    Expr::CompoundFieldAccess { root: Box::new(root), access_chain }
}

/// Spark's type of a number: INT when it fits, else BIGINT, else DECIMAL; `1e3` DOUBLE; `1.5` DECIMAL(2,1), which
/// DataFusion reads itself.
fn number_literal(value: &ValueWithSpan, negative: bool) -> Option<Expr> {
    let Value::Number(digits, long) = &value.value else { return None };
    let signed = if negative { format!("-{digits}") } else { digits.clone() };
    let plain = Expr::Value(ValueWithSpan { value: Value::Number(signed.clone(), false), span: value.span });
    if digits.contains(['e', 'E']) {
        return Some(cast(text(&signed), DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None)));
    }
    if digits.contains('.') {
        return negative.then(|| Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(Expr::Value(ValueWithSpan {
                value: Value::Number(digits.clone(), false),
                span: value.span,
            })),
        });
    }
    if !long && signed.parse::<i32>().is_ok() {
        return Some(cast(plain, DataType::Int(None)));
    }
    if signed.parse::<i64>().is_ok() {
        return Some(cast(plain, DataType::BigInt(None)));
    }
    let info = datafusion::sql::sqlparser::ast::ExactNumberInfo::PrecisionAndScale(digits.len() as u64, 0);
    Some(cast(text(&signed), DataType::Decimal(info)))
}

/// `dateadd(hour, 1, ts)`: the unit is a word, not a column. Answers the name under which the call goes on.
fn unit_argument(function: &mut Function, name: String) -> String {
    let other = match name.as_str() {
        "dateadd" | "date_add" | "timestampadd" => "timestampadd",
        "datediff" | "date_diff" | "timestampdiff" => "timestampdiff",
        _ => return name,
    };
    let FunctionArguments::List(list) = &mut function.args else { return name };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)), _, _] = list.args.as_mut_slice() else { return name };
    if let Expr::Identifier(word) = unit {
        *unit = text(&word.value.to_lowercase());
    }
    function.name = Ident::new(other).into();
    other.to_owned()
}

/// `struct(v, k AS x)` is `named_struct('v', v, 'x', k)`; what has no name is `col1`, `col2`, ...
fn name_fields(function: &mut Function) {
    let mut fields = Vec::new();
    for (i, value) in positional(function).into_iter().enumerate() {
        let (name, value) = match value {
            Expr::Named { expr, name } => (name.value, *expr),
            Expr::Identifier(ref id) => (id.value.clone(), value),
            Expr::CompoundIdentifier(ref ids) => (ids.last().map(|id| id.value.clone()).unwrap_or_default(), value),
            value => (format!("col{}", i + 1), value),
        };
        fields.extend([text(&name), value]);
    }
    if let Expr::Function(named) = call("named_struct", fields) {
        *function = named;
    }
}

/// `arrays_zip(a, array(1))`: the fields of its structs are called after the columns, or by number from 0.
fn name_arrays(function: &mut Function) {
    let arrays = positional(function);
    let names = arrays.iter().enumerate().map(|(at, array)| match array {
        Expr::Identifier(id) => id.value.clone(),
        Expr::CompoundIdentifier(ids) => ids.last().map(|id| id.value.clone()).unwrap_or_default(),
        _ => at.to_string(),
    });
    let names = text(&names.collect::<Vec<_>>().join("\u{0}"));
    if let Expr::Function(named) = call(ARRAYS_ZIP_CALL, std::iter::once(names).chain(arrays).collect()) {
        *function = named;
    }
}

/// The interval literal that the token pass wrote as a call.
fn interval(function: &Function) -> Result<Expr> {
    let arguments = string_arguments(function);
    let parts: Vec<i64> =
        arguments.first().map(|p| p.split(' ').filter_map(|n| n.parse().ok()).collect()).unwrap_or_default();
    let [months, days, micros] = parts.as_slice() else {
        return Err(Error::internal(format!("an interval of {arguments:?}")));
    };
    let value = format!("{months} months {days} days {micros} microseconds");
    Ok(Expr::Interval(Interval {
        value: Box::new(text(&value)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}
