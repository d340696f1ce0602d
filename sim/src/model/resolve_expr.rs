//! Expressions of the syntax tree to typed expressions over the columns of a relation.

use sqlparser::ast::{self, BinaryOperator, UnaryOperator};

use super::aggregate;
use super::expr::{AggregateCall, Arith, Comparison, Expr};
use super::functions;
use super::refusal::Refusal;
use super::resolve::{Relation, Resolver, unresolved};
use super::time;
use super::value::{Type, Value};

impl Resolver<'_> {
    /// Resolves one expression.
    pub fn expr(&mut self, e: &ast::Expr, scope: &Relation) -> Result<Expr, Refusal> {
        Ok(match e {
            ast::Expr::Nested(inner) => self.expr(inner, scope)?,
            ast::Expr::Identifier(name) => column(std::slice::from_ref(&name.value), scope)?,
            ast::Expr::CompoundIdentifier(names) => {
                column(&names.iter().map(|n| n.value.clone()).collect::<Vec<_>>(), scope)?
            }
            ast::Expr::CompoundFieldAccess { root, access_chain } => {
                let mut expr = self.expr(root, scope)?;
                for access in access_chain {
                    let ast::AccessExpr::Dot(ast::Expr::Identifier(name)) = access else {
                        return Err(Refusal::beyond("[] access"));
                    };
                    expr = field(expr, &name.value)?;
                }
                expr
            }
            ast::Expr::Value(value) => literal(&value.value)?,
            ast::Expr::TypedString(typed) => typed_literal(typed)?,
            ast::Expr::Interval(interval) => self.interval(interval)?,
            ast::Expr::UnaryOp { op, expr } => self.unary(*op, expr, scope)?,
            ast::Expr::BinaryOp { left, op, right } => {
                let (left, right) = (self.expr(left, scope)?, self.expr(right, scope)?);
                binary(op, left, right)?
            }
            ast::Expr::IsNull(a) => Expr::IsNull(Box::new(self.expr(a, scope)?)),
            ast::Expr::IsNotNull(a) => self.expr(a, scope)?.not_null(),
            ast::Expr::IsTrue(a) => self.is_bool(a, true, scope)?,
            ast::Expr::IsFalse(a) => self.is_bool(a, false, scope)?,
            ast::Expr::IsNotTrue(a) => Expr::Not(Box::new(self.is_bool(a, true, scope)?)),
            ast::Expr::IsNotFalse(a) => Expr::Not(Box::new(self.is_bool(a, false, scope)?)),
            ast::Expr::Between { expr, negated, low, high } => {
                let expr = self.expr(expr, scope)?;
                let low = compared(Comparison::GreaterOrEqual, expr.clone(), self.expr(low, scope)?)?;
                let high = compared(Comparison::LessOrEqual, expr, self.expr(high, scope)?)?;
                negate(*negated, Expr::And(Box::new(low), Box::new(high)))
            }
            ast::Expr::InList { expr, list, negated } => {
                let expr = self.expr(expr, scope)?;
                let list = list.iter().map(|i| self.expr(i, scope)).collect::<Result<Vec<_>, _>>()?;
                negate(*negated, Expr::In(Box::new(expr), list))
            }
            ast::Expr::Like { negated, expr, pattern, escape_char: None, any: false } => {
                let args = vec![self.expr(expr, scope)?, self.expr(pattern, scope)?];
                negate(*negated, Expr::Call("like".into(), args, Type::Boolean))
            }
            ast::Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), scope)?
            }
            ast::Expr::Cast { expr, data_type, .. } => {
                let ty = Type::parse(&data_type.to_string());
                let ty = ty.ok_or_else(|| Refusal::beyond(format!("CAST AS {data_type}")))?;
                Expr::Cast(Box::new(self.expr(expr, scope)?), ty)
            }
            ast::Expr::Floor { expr, .. } => self.call("floor", &[expr], scope)?,
            ast::Expr::Ceil { expr, .. } => self.call("ceil", &[expr], scope)?,
            ast::Expr::Trim { expr, trim_where: None, trim_what: None, .. } => self.call("trim", &[expr], scope)?,
            ast::Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let mut args: Vec<&ast::Expr> = vec![expr, from];
                args.extend(substring_for.as_deref());
                self.call("substring", &args, scope)?
            }
            ast::Expr::Extract { field, expr, .. } => self.call(&field.to_string().to_lowercase(), &[expr], scope)?,
            ast::Expr::Function(function) => self.function(function, scope)?,
            ast::Expr::Subquery(query)
            | ast::Expr::Exists { subquery: query, .. }
            | ast::Expr::InSubquery { subquery: query, .. } => return Err(self.subquery(query)),
            other => return Err(Refusal::beyond(format!("the expression {other}"))),
        })
    }

    fn subquery(&mut self, query: &ast::Query) -> Refusal {
        match self.query(query) {
            Ok(relation) if relation.plan.is_streaming() => Refusal::start(
                "INVALID_SUBQUERY_EXPRESSION.STREAMING_QUERY",
                "[INVALID_SUBQUERY_EXPRESSION.STREAMING_QUERY] Invalid subquery: Streaming query is not allowed in subquery expressions.",
            ),
            Ok(_) => Refusal::beyond("a subquery over a static table"),
            Err(error) if error.class.as_deref() == Some("UNRESOLVED_COLUMN.WITH_SUGGESTION") => {
                Refusal::beyond("a subquery that may refer to what is around it")
            }
            Err(error) => error,
        }
    }

    fn is_bool(&mut self, e: &ast::Expr, wanted: bool, scope: &Relation) -> Result<Expr, Refusal> {
        let expr = self.expr(e, scope)?;
        let wanted = Expr::Literal(Value::Bool(wanted), Type::Boolean);
        Ok(Expr::Compare(Comparison::NullSafeEqual, Box::new(expr), Box::new(wanted)))
    }

    fn unary(&mut self, op: UnaryOperator, e: &ast::Expr, scope: &Relation) -> Result<Expr, Refusal> {
        let expr = self.expr(e, scope)?;
        match (op, &expr) {
            (UnaryOperator::Not | UnaryOperator::BangNot, _) => Ok(Expr::Not(Box::new(expr))),
            (UnaryOperator::Plus, _) => Ok(expr),
            (UnaryOperator::Minus, Expr::Literal(Value::Int(i), ty)) => Ok(Expr::Literal(Value::Int(-i), ty.clone())),
            (UnaryOperator::Minus, Expr::Literal(Value::Double(d), ty)) => {
                Ok(Expr::Literal(Value::Double(-d), ty.clone()))
            }
            (UnaryOperator::Minus, _) => {
                let ty = expr.ty();
                Ok(Expr::Call("negative".into(), vec![expr], ty))
            }
            _ => Err(Refusal::beyond(format!("the operator {op}"))),
        }
    }

    fn interval(&mut self, interval: &ast::Interval) -> Result<Expr, Refusal> {
        let number = interval.value.to_string();
        let number = number.trim_matches('\'');
        let parsed = match &interval.leading_field {
            Some(unit) if interval.last_field.is_none() => time::interval_of(number, &unit.to_string()),
            Some(_) => None,
            None => time::parse_interval(number),
        };
        let (months, micros) = parsed.ok_or_else(|| Refusal::beyond(format!("the interval {interval}")))?;
        Ok(Expr::Literal(Value::Interval(months, micros), Type::Interval))
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        scope: &Relation,
    ) -> Result<Expr, Refusal> {
        let operand = operand.map(|o| self.expr(o, scope)).transpose()?;
        let (mut whens, mut results) = (Vec::new(), Vec::new());
        for arm in conditions {
            let when = self.expr(&arm.condition, scope)?;
            whens.push(match &operand {
                None => when,
                Some(operand) => compared(Comparison::Equal, operand.clone(), when)?,
            });
            results.push(self.expr(&arm.result, scope)?);
        }
        results.push(match otherwise {
            Some(e) => self.expr(e, scope)?,
            None => Expr::Literal(Value::Null, Type::Void),
        });
        let ty = functions::common_type(&results)?;
        let mut results = results.into_iter().map(|e| widened(e, &ty));
        let arms = whens.into_iter().zip(results.by_ref()).collect();
        let otherwise = results.next().unwrap_or(Expr::Literal(Value::Null, Type::Void));
        Ok(Expr::Case(arms, Box::new(otherwise), ty))
    }

    fn call(&mut self, name: &str, args: &[&ast::Expr], scope: &Relation) -> Result<Expr, Refusal> {
        let args = args.iter().map(|a| self.expr(a, scope)).collect::<Result<Vec<_>, _>>()?;
        let ty = functions::result_type(name, &args)?;
        Ok(Expr::Call(name.into(), args, ty))
    }

    fn function(&mut self, function: &ast::Function, scope: &Relation) -> Result<Expr, Refusal> {
        let name = function.name.to_string().to_lowercase();
        let (args, distinct) = match &function.args {
            ast::FunctionArguments::None => (Vec::new(), false),
            ast::FunctionArguments::List(list) => {
                let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
                (self.arguments(&list.args, scope)?, distinct)
            }
            ast::FunctionArguments::Subquery(query) => return Err(self.subquery(query)),
        };
        if function.over.is_some() {
            self.notes.window_function = Some(name.to_uppercase());
            return Ok(Expr::Literal(Value::Null, Type::Int));
        }
        match name.as_str() {
            "window" => return time_window(&args, scope),
            "session_window" => return session_window(args, scope),
            "window_time" if !args.first().is_some_and(|a| is_window_column(a, scope)) => {
                return Err(Refusal::text("The input is not a correct window column"));
            }
            "explode" => match args.first().map(Expr::ty) {
                Some(Type::Array(item)) => return Ok(Expr::Call(name, args, *item)),
                _ => return Err(Refusal::beyond("explode of this type")),
            },
            "monotonically_increasing_id" => {
                self.notes.increasing_id = true;
                return Ok(Expr::Literal(Value::Null, Type::BigInt));
            }
            _ => {}
        }
        if let Some(ty) = aggregate::result_type(&name, &args) {
            let filter = function.filter.as_ref().map(|f| self.expr(f, scope)).transpose()?;
            return Ok(Expr::Aggregate(Box::new(AggregateCall { name, args, filter, distinct, ty })));
        }
        let ty = functions::result_type(&name, &args)?;
        let args = match name.as_str() {
            "greatest" | "least" => args.into_iter().map(|a| widened(a, &ty)).collect(),
            "if" => {
                let mut args = args;
                args[1] = widened(args[1].clone(), &ty);
                args[2] = widened(args[2].clone(), &ty);
                args
            }
            "date_trunc" => vec![args[0].clone(), widened(args[1].clone(), &Type::Timestamp)],
            _ => args,
        };
        Ok(Expr::Call(name, args, ty))
    }

    fn arguments(&mut self, args: &[ast::FunctionArg], scope: &Relation) -> Result<Vec<Expr>, Refusal> {
        let mut all = Vec::new();
        for arg in args {
            match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => all.push(self.expr(e, scope)?),
                // count(*)
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) => {}
                _ => return Err(Refusal::beyond("named arguments")),
            }
        }
        Ok(all)
    }
}

/// Finds a column by its name parts: `column`, `qualifier.column`, and struct fields after either.
fn column(parts: &[String], scope: &Relation) -> Result<Expr, Refusal> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let full = parts.join("`.`");
    let one = |found: Vec<&super::expr::Column>| match found.as_slice() {
        [] => Ok(None),
        [column] => Ok(Some(Expr::column(column))),
        // The same column twice under one name is no ambiguity.
        [first, rest @ ..] if rest.iter().all(|c| c.id == first.id) => Ok(Some(Expr::column(first))),
        _ => {
            Err(Refusal::start("AMBIGUOUS_REFERENCE", format!("[AMBIGUOUS_REFERENCE] Reference `{full}` is ambiguous")))
        }
    };
    let qualified = |(q, c): &&(Option<String>, super::expr::Column)| {
        parts.len() > 1 && q.as_deref().is_some_and(|q| same(q, &parts[0])) && same(&c.name, &parts[1])
    };
    if let Some(expr) = one(scope.names.iter().filter(qualified).map(|(_, c)| c).collect())? {
        return parts[2..].iter().try_fold(expr, |e, name| field(e, name));
    }
    let plain = scope.names.iter().filter(|(_, c)| same(&c.name, &parts[0])).map(|(_, c)| c).collect();
    match one(plain)? {
        Some(expr) => parts[1..].iter().try_fold(expr, |e, name| field(e, name)),
        None => Err(unresolved(&full)),
    }
}

fn field(expr: Expr, name: &str) -> Result<Expr, Refusal> {
    if let Type::Struct(fields) = expr.ty()
        && let Some(index) = fields.iter().position(|(n, _)| n.eq_ignore_ascii_case(name))
    {
        return Ok(Expr::Field(Box::new(expr), index, fields[index].1.clone()));
    }
    Err(Refusal::start("FIELD_NOT_FOUND", format!("[FIELD_NOT_FOUND] No such struct field `{name}`")))
}

fn literal(value: &ast::Value) -> Result<Expr, Refusal> {
    Ok(match value {
        ast::Value::Null => Expr::Literal(Value::Null, Type::Void),
        ast::Value::Boolean(b) => Expr::Literal(Value::Bool(*b), Type::Boolean),
        ast::Value::SingleQuotedString(s) | ast::Value::DoubleQuotedString(s) => {
            Expr::Literal(Value::Text(s.clone()), Type::String)
        }
        ast::Value::Number(digits, _) => match (digits.parse::<i64>(), digits.parse::<f64>()) {
            (Ok(i), _) if i32::try_from(i).is_ok() => Expr::Literal(Value::Int(i), Type::Int),
            (Ok(i), _) => Expr::Literal(Value::Int(i), Type::BigInt),
            (_, Ok(d)) => Expr::Literal(Value::Double(d), Type::Double),
            _ => return Err(Refusal::beyond(format!("the number {digits}"))),
        },
        other => return Err(Refusal::beyond(format!("the literal {other}"))),
    })
}

/// `TIMESTAMP '..'`.
fn typed_literal(typed: &ast::TypedString) -> Result<Expr, Refusal> {
    let text = typed.value.to_string();
    match (typed.data_type.to_string().to_uppercase().as_str(), time::parse_timestamp(text.trim_matches('\''))) {
        ("TIMESTAMP", Some(us)) => Ok(Expr::Literal(Value::Timestamp(us), Type::Timestamp)),
        _ => Err(Refusal::beyond(format!("the literal {typed}"))),
    }
}

fn negate(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}

fn widened(expr: Expr, ty: &Type) -> Expr {
    match &expr {
        Expr::Literal(Value::Null, _) => Expr::Literal(Value::Null, ty.clone()),
        _ if expr.ty() == *ty => expr,
        _ => Expr::Cast(Box::new(expr), ty.clone()),
    }
}

fn binary(op: &BinaryOperator, a: Expr, b: Expr) -> Result<Expr, Refusal> {
    let arith = match op {
        BinaryOperator::And => return Ok(Expr::And(Box::new(a), Box::new(b))),
        BinaryOperator::Or => return Ok(Expr::Or(Box::new(a), Box::new(b))),
        BinaryOperator::Eq => return compared(Comparison::Equal, a, b),
        BinaryOperator::NotEq => return compared(Comparison::NotEqual, a, b),
        BinaryOperator::Lt => return compared(Comparison::Less, a, b),
        BinaryOperator::LtEq => return compared(Comparison::LessOrEqual, a, b),
        BinaryOperator::Gt => return compared(Comparison::Greater, a, b),
        BinaryOperator::GtEq => return compared(Comparison::GreaterOrEqual, a, b),
        BinaryOperator::Spaceship => return compared(Comparison::NullSafeEqual, a, b),
        BinaryOperator::StringConcat => return Ok(Expr::Call("concat".into(), vec![a, b], Type::String)),
        BinaryOperator::Plus => Arith::Plus,
        BinaryOperator::Minus => Arith::Minus,
        BinaryOperator::Multiply => Arith::Times,
        BinaryOperator::Divide => Arith::Over,
        BinaryOperator::Modulo => Arith::Modulo,
        BinaryOperator::MyIntegerDivide => return Ok(Expr::Arith(Arith::Over, Box::new(a), Box::new(b), Type::BigInt)),
        other => return Err(Refusal::beyond(format!("the operator {other}"))),
    };
    let ty = match (a.ty(), b.ty()) {
        (Type::Timestamp, Type::Interval) | (Type::Interval, Type::Timestamp) => Type::Timestamp,
        (Type::Timestamp, Type::Timestamp) | (Type::Interval, Type::Interval) => Type::Interval,
        (a, b) if a.is_numeric() && b.is_numeric() => match arith {
            Arith::Over => Type::Double,
            _ => functions::wider(&a, &b)?,
        },
        (a, b) => return Err(Refusal::beyond(format!("arithmetic on {a} and {b}"))),
    };
    Ok(Expr::Arith(arith, Box::new(a), Box::new(b), ty))
}

/// A comparison with the implicit casts of ANSI mode: the string side takes the other side's type.
fn compared(op: Comparison, a: Expr, b: Expr) -> Result<Expr, Refusal> {
    let (a, b) = match (a.ty(), b.ty()) {
        (x, y) if x == y || x == Type::Void || y == Type::Void => (a, b),
        (x, y) if x.is_numeric() && y.is_numeric() => (a, b),
        (Type::String, Type::Int) => (Expr::Cast(Box::new(a), Type::BigInt), b),
        (Type::Int, Type::String) => (a, Expr::Cast(Box::new(b), Type::BigInt)),
        (Type::String, other) => (Expr::Cast(Box::new(a), other), b),
        (other, Type::String) => (a, Expr::Cast(Box::new(b), other)),
        (x, y) => return Err(Refusal::beyond(format!("a comparison of {x} and {y}"))),
    };
    Ok(Expr::Compare(op, Box::new(a), Box::new(b)))
}

fn is_window_column(expr: &Expr, scope: &Relation) -> bool {
    matches!(expr, Expr::Column(id, _) if scope.names.iter().any(|(_, c)| c.id == *id && c.window))
}

/// The time argument of a window: an instant, text that is cast to one, or a window (then its `window_time`).
fn window_time(time: &Expr, scope: &Relation) -> Result<Expr, Refusal> {
    match time.ty() {
        Type::Timestamp => Ok(time.clone()),
        Type::String => Ok(Expr::Cast(Box::new(time.clone()), Type::Timestamp)),
        _ if is_window_column(time, scope) => Ok(Expr::Call("window_time".into(), vec![time.clone()], Type::Timestamp)),
        ty => Err(Refusal::start(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] a window over {ty}"),
        )),
    }
}

fn time_window(args: &[Expr], scope: &Relation) -> Result<Expr, Refusal> {
    let [time, sizes @ ..] = args else { return Err(Refusal::beyond("window() without arguments")) };
    let mut parsed = Vec::new();
    for size in sizes {
        parsed.push(match size {
            Expr::Literal(Value::Int(us), _) => *us,
            Expr::Literal(Value::Text(text), _) => match time::parse_interval(text) {
                Some((0, us)) => us,
                Some(_) => {
                    return Err(Refusal::text(format!("Intervals greater than a month is not supported ({text}).")));
                }
                None => {
                    return Err(Refusal::start(
                        "INVALID_INTERVAL_FORMAT",
                        format!("[INVALID_INTERVAL_FORMAT] '{text}'"),
                    ));
                }
            },
            Expr::Literal(Value::Interval(0, us), _) => *us,
            _ => return Err(Refusal::beyond("a window size that is not a literal")),
        });
    }
    let (width, slide, start) = match parsed.as_slice() {
        [width] => (*width, *width, 0),
        [width, slide] => (*width, *slide, 0),
        [width, slide, start] => (*width, *slide, *start),
        _ => return Err(Refusal::beyond("window() with this many arguments")),
    };
    if width <= 0 || slide <= 0 {
        return Err(mismatch("VALUE_OUT_OF_RANGE", "the window and the slide must be above 0"));
    }
    if slide > width {
        return Err(mismatch(
            "PARAMETER_CONSTRAINT_VIOLATION",
            "The `slide_duration` must be <= the `window_duration`",
        ));
    }
    if start.abs() >= slide {
        return Err(mismatch("PARAMETER_CONSTRAINT_VIOLATION", "The `abs(start_time)` must be < the `slide_duration`"));
    }
    Ok(Expr::TimeWindow(Box::new(window_time(time, scope)?), width, slide, start))
}

fn mismatch(class: &str, text: &str) -> Refusal {
    let class = format!("DATATYPE_MISMATCH.{class}");
    let text = format!("[{class}] {text}");
    Refusal::start(&class, text)
}

fn session_window(mut args: Vec<Expr>, scope: &Relation) -> Result<Expr, Refusal> {
    if args.len() != 2 || !matches!(args[1].ty(), Type::String | Type::Interval) {
        return Err(Refusal::beyond("session_window() with these arguments"));
    }
    let gap = args.remove(1);
    Ok(Expr::SessionWindow(Box::new(window_time(&args[0], scope)?), Box::new(gap)))
}
