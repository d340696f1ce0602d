//! Scalar expressions over one row: their type, their value, and which columns they look at.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::functions;
use super::refusal::Refusal;
use super::time;
use super::value::{Type, Value};

/// Identifies a column through the whole plan; every relation instance makes new ones.
pub type ColumnId = u32;

/// A column of a plan node.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Identity.
    pub id: ColumnId,
    /// Name as the user sees it.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// Set on the event-time column: the delay of its watermark.
    pub delay_ms: Option<i64>,
    /// Whether `window()` or `session_window()` made it (`window_time` accepts nothing else).
    pub window: bool,
}

/// Arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arith {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Over,
    /// `%`
    Modulo,
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<=>`, where NULL equals NULL
    NullSafeEqual,
}

/// An expression whose columns and types are known.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A column of the input row.
    Column(ColumnId, Type),
    /// A constant.
    Literal(Value, Type),
    /// Arithmetic on numbers, or an instant and an interval.
    Arith(Arith, Box<Expr>, Box<Expr>, Type),
    /// A comparison.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// Three-valued AND.
    And(Box<Expr>, Box<Expr>),
    /// Three-valued OR.
    Or(Box<Expr>, Box<Expr>),
    /// Three-valued NOT.
    Not(Box<Expr>),
    /// `IS NULL`.
    IsNull(Box<Expr>),
    /// `IN (list)`.
    In(Box<Expr>, Vec<Expr>),
    /// `CASE`: (condition, result) pairs, the ELSE, the type.
    Case(Vec<(Expr, Expr)>, Box<Expr>, Type),
    /// Field number of a struct.
    Field(Box<Expr>, usize, Type),
    /// A conversion.
    Cast(Box<Expr>, Type),
    /// A scalar function by lower-case name.
    Call(String, Vec<Expr>, Type),
    /// `window(time, width, slide, start)` in microseconds, before it is taken out of the expression.
    TimeWindow(Box<Expr>, i64, i64, i64),
    /// `session_window(time, gap)`, before it is taken out of the expression.
    SessionWindow(Box<Expr>, Box<Expr>),
    /// An aggregate call, before it is taken out of the expression.
    Aggregate(Box<AggregateCall>),
}

/// One aggregate function with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Lower-case name.
    pub name: String,
    /// Arguments; none for `count(*)`.
    pub args: Vec<Expr>,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<Expr>,
    /// `DISTINCT`.
    pub distinct: bool,
    /// Result type.
    pub ty: Type,
}

/// A row with the ids of its columns: what an expression is evaluated against.
pub struct Scope<'a> {
    /// Column ids, one a value.
    pub columns: &'a [ColumnId],
    /// Values.
    pub values: &'a [Value],
    /// What `current_timestamp()` says in this batch, microseconds.
    pub now_us: i64,
}

impl Expr {
    /// A reference to a column.
    pub fn column(column: &Column) -> Expr {
        Expr::Column(column.id, column.ty.clone())
    }

    /// `expr IS NOT NULL`.
    pub fn not_null(self) -> Expr {
        Expr::Not(Box::new(Expr::IsNull(Box::new(self))))
    }

    /// The type of the result.
    pub fn ty(&self) -> Type {
        match self {
            Expr::Column(_, ty)
            | Expr::Literal(_, ty)
            | Expr::Arith(.., ty)
            | Expr::Case(.., ty)
            | Expr::Field(.., ty)
            | Expr::Cast(_, ty)
            | Expr::Call(.., ty) => ty.clone(),
            Expr::TimeWindow(..) | Expr::SessionWindow(..) => Type::window(),
            Expr::Aggregate(call) => call.ty.clone(),
            _ => Type::Boolean,
        }
    }

    /// The direct sub-expressions.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Column(..) | Expr::Literal(..) => vec![],
            Expr::Arith(_, a, b, _) | Expr::Compare(_, a, b) | Expr::And(a, b) | Expr::Or(a, b) => vec![a, b],
            Expr::SessionWindow(a, b) => vec![a, b],
            Expr::Not(a) | Expr::IsNull(a) | Expr::Field(a, ..) | Expr::Cast(a, _) | Expr::TimeWindow(a, ..) => {
                vec![a]
            }
            Expr::In(a, list) => std::iter::once(&**a).chain(list).collect(),
            Expr::Case(arms, otherwise, _) => {
                let mut all: Vec<&Expr> = arms.iter().flat_map(|(when, then)| [when, then]).collect();
                all.push(otherwise);
                all
            }
            Expr::Call(_, args, _) => args.iter().collect(),
            Expr::Aggregate(call) => call.args.iter().chain(&call.filter).collect(),
        }
    }

    /// Rebuilds the expression bottom-up; `change` sees every node top-down first and may replace it.
    pub fn rewrite(&self, change: &mut dyn FnMut(&Expr) -> Option<Expr>) -> Expr {
        if let Some(other) = change(self) {
            return other;
        }
        let mut go = |e: &Expr| Box::new(e.rewrite(change));
        match self {
            Expr::Column(..) | Expr::Literal(..) => self.clone(),
            Expr::Arith(op, a, b, ty) => Expr::Arith(*op, go(a), go(b), ty.clone()),
            Expr::Compare(op, a, b) => Expr::Compare(*op, go(a), go(b)),
            Expr::And(a, b) => Expr::And(go(a), go(b)),
            Expr::Or(a, b) => Expr::Or(go(a), go(b)),
            Expr::SessionWindow(a, b) => Expr::SessionWindow(go(a), go(b)),
            Expr::Not(a) => Expr::Not(go(a)),
            Expr::IsNull(a) => Expr::IsNull(go(a)),
            Expr::Field(a, index, ty) => Expr::Field(go(a), *index, ty.clone()),
            Expr::Cast(a, ty) => Expr::Cast(go(a), ty.clone()),
            Expr::TimeWindow(a, width, slide, start) => Expr::TimeWindow(go(a), *width, *slide, *start),
            Expr::In(a, list) => Expr::In(go(a), list.iter().map(|e| *go(e)).collect()),
            Expr::Case(arms, otherwise, ty) => {
                let arms = arms.iter().map(|(when, then)| (*go(when), *go(then))).collect();
                Expr::Case(arms, go(otherwise), ty.clone())
            }
            Expr::Call(name, args, ty) => Expr::Call(name.clone(), args.iter().map(|e| *go(e)).collect(), ty.clone()),
            Expr::Aggregate(call) => Expr::Aggregate(Box::new(AggregateCall {
                args: call.args.iter().map(|e| *go(e)).collect(),
                filter: call.filter.as_ref().map(|e| *go(e)),
                ..(**call).clone()
            })),
        }
    }

    /// Whether `test` holds for this node or one below it.
    pub fn any(&self, test: &dyn Fn(&Expr) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|e| e.any(test))
    }

    /// The columns the expression looks at.
    pub fn columns(&self) -> BTreeSet<ColumnId> {
        let mut found = BTreeSet::new();
        self.collect_columns(&mut found);
        found
    }

    fn collect_columns(&self, found: &mut BTreeSet<ColumnId>) {
        if let Expr::Column(id, _) = self {
            found.insert(*id);
        }
        for child in self.children() {
            child.collect_columns(found);
        }
    }

    /// Columns that cannot be NULL if the expression is not NULL: reachable through operators that
    /// answer NULL for a NULL input. Spark infers IS NOT NULL filters from exactly these.
    pub fn null_rejecting_columns(&self, found: &mut BTreeSet<ColumnId>) {
        match self {
            Expr::Column(id, _) => {
                found.insert(*id);
            }
            Expr::Compare(Comparison::NullSafeEqual, ..) => {}
            Expr::Call(name, ..) if !functions::is_null_intolerant(name) => {}
            Expr::Arith(..) | Expr::Compare(..) | Expr::Field(..) | Expr::Cast(..) | Expr::Call(..) => {
                for child in self.children() {
                    child.null_rejecting_columns(found);
                }
            }
            // NOT (x IS NULL) is IS NOT NULL: it rejects what x itself rejects.
            Expr::Not(inner) => match &**inner {
                Expr::IsNull(tested) => tested.null_rejecting_columns(found),
                other => other.null_rejecting_columns(found),
            },
            _ => {}
        }
    }

    /// Splits at top-level ANDs.
    pub fn conjuncts(&self) -> Vec<Expr> {
        match self {
            Expr::And(a, b) => a.conjuncts().into_iter().chain(b.conjuncts()).collect(),
            other => vec![other.clone()],
        }
    }

    /// Joins with AND; `None` for nothing.
    pub fn conjunction(parts: Vec<Expr>) -> Option<Expr> {
        parts.into_iter().reduce(|a, b| Expr::And(Box::new(a), Box::new(b)))
    }

    /// Whether the expression is true (not false, not NULL) for the row.
    pub fn holds(&self, row: &Scope<'_>) -> Result<bool, Refusal> {
        Ok(matches!(self.eval(row)?, Value::Bool(true)))
    }

    /// The value for one row. Errors are Spark's ANSI errors (overflow, division by zero, bad cast).
    pub fn eval(&self, row: &Scope<'_>) -> Result<Value, Refusal> {
        Ok(match self {
            Expr::Column(id, _) => {
                let index = row.columns.iter().position(|c| c == id);
                let index = index.ok_or_else(|| Refusal::beyond(format!("column {id} is not in the row")))?;
                row.values[index].clone()
            }
            Expr::Literal(value, _) => value.clone(),
            Expr::Arith(op, a, b, ty) => arithmetic(*op, a.eval(row)?, b.eval(row)?, ty)?,
            Expr::Compare(op, a, b) => compare(*op, &a.eval(row)?, &b.eval(row)?),
            Expr::And(a, b) => match (a.eval(row)?, b) {
                (Value::Bool(false), _) => Value::Bool(false),
                (a, b) => match (a, b.eval(row)?) {
                    (_, Value::Bool(false)) => Value::Bool(false),
                    (Value::Bool(true), b) => b,
                    _ => Value::Null,
                },
            },
            Expr::Or(a, b) => match (a.eval(row)?, b) {
                (Value::Bool(true), _) => Value::Bool(true),
                (a, b) => match (a, b.eval(row)?) {
                    (_, Value::Bool(true)) => Value::Bool(true),
                    (Value::Bool(false), b) => b,
                    _ => Value::Null,
                },
            },
            Expr::Not(a) => match a.eval(row)? {
                Value::Bool(b) => Value::Bool(!b),
                _ => Value::Null,
            },
            Expr::IsNull(a) => Value::Bool(a.eval(row)?.is_null()),
            Expr::In(a, list) => is_in(&a.eval(row)?, list, row)?,
            Expr::Case(arms, otherwise, _) => {
                for (when, then) in arms {
                    if when.holds(row)? {
                        return then.eval(row);
                    }
                }
                otherwise.eval(row)?
            }
            Expr::Field(a, index, _) => match a.eval(row)? {
                Value::Struct(fields) => fields[*index].clone(),
                _ => Value::Null,
            },
            Expr::Cast(a, ty) => functions::cast(a.eval(row)?, ty)?,
            Expr::Call(name, args, ty) => functions::call(name, args, ty, row)?,
            Expr::TimeWindow(..) | Expr::SessionWindow(..) | Expr::Aggregate(_) => {
                return Err(Refusal::beyond("a window or an aggregate in a place the model does not know"));
            }
        })
    }
}

fn is_in(value: &Value, list: &[Expr], row: &Scope<'_>) -> Result<Value, Refusal> {
    let mut unknown = value.is_null();
    for item in list {
        let item = item.eval(row)?;
        unknown |= item.is_null();
        if !item.is_null() && !value.is_null() && item == *value {
            return Ok(Value::Bool(true));
        }
    }
    Ok(if unknown { Value::Null } else { Value::Bool(false) })
}

/// Compares as SQL does: NULL with anything is NULL, except under `<=>`.
pub fn compare(op: Comparison, a: &Value, b: &Value) -> Value {
    if op == Comparison::NullSafeEqual {
        return Value::Bool(a == b);
    }
    if a.is_null() || b.is_null() {
        return Value::Null;
    }
    let order = a.cmp(b);
    Value::Bool(match op {
        Comparison::Equal | Comparison::NullSafeEqual => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

fn arithmetic(op: Arith, a: Value, b: Value, ty: &Type) -> Result<Value, Refusal> {
    if a.is_null() || b.is_null() {
        return Ok(Value::Null);
    }
    let overflow = || Refusal::failed("ARITHMETIC_OVERFLOW", "[ARITHMETIC_OVERFLOW] the result is out of range");
    match (a, b, ty) {
        (Value::Timestamp(us), Value::Interval(months, micros), _)
        | (Value::Interval(months, micros), Value::Timestamp(us), _) => {
            let sign = if op == Arith::Minus { -1 } else { 1 };
            time::add_interval(us, sign * months, sign * micros).map(Value::Timestamp).ok_or_else(overflow)
        }
        (Value::Timestamp(a), Value::Timestamp(b), _) => {
            a.checked_sub(b).map(|us| Value::Interval(0, us)).ok_or_else(overflow)
        }
        (Value::Interval(am, au), Value::Interval(bm, bu), _) => Ok(match op {
            Arith::Minus => Value::Interval(am.saturating_sub(bm), au.saturating_sub(bu)),
            _ => Value::Interval(am.saturating_add(bm), au.saturating_add(bu)),
        }),
        (Value::Int(a), Value::Int(b), Type::Int | Type::BigInt) => {
            let result = match op {
                Arith::Plus => a.checked_add(b),
                Arith::Minus => a.checked_sub(b),
                Arith::Times => a.checked_mul(b),
                Arith::Modulo | Arith::Over if b == 0 => return Err(by_zero()),
                Arith::Modulo => a.checked_rem(b).or(Some(0)),
                Arith::Over => a.checked_div(b),
            };
            let fits = |r: &i64| *ty == Type::BigInt || i32::try_from(*r).is_ok();
            result.filter(fits).map(Value::Int).ok_or_else(overflow)
        }
        (a, b, _) => match (a.as_double(), b.as_double()) {
            (Some(a), Some(b)) => Ok(Value::Double(match op {
                Arith::Plus => a + b,
                Arith::Minus => a - b,
                Arith::Times => a * b,
                Arith::Modulo | Arith::Over if b == 0.0 => return Err(by_zero()),
                Arith::Over => a / b,
                Arith::Modulo => a % b,
            })),
            _ => Err(Refusal::beyond("arithmetic on these types")),
        },
    }
}

fn by_zero() -> Refusal {
    Refusal::failed("DIVIDE_BY_ZERO", "[DIVIDE_BY_ZERO] Division by zero. Use `try_divide` to tolerate divisor being 0")
}
