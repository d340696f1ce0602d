//! Spark's function names that DataFusion knows under another name, or that are another expression there.
//!
//! Names that both know with one meaning are absent: they go to the registry as they are (see `functions`).

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, OrderByExpr, OrderByOptions, Value,
    ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::{Error, Result};

/// Names that exist through this file alone, and whether they aggregate.
pub(crate) const OWN_CALLS: [(&str, bool); 29] = [
    ("first", true),
    ("any_value", true),
    ("last", true),
    ("mean", true),
    ("std", true),
    ("variance", true),
    ("every", true),
    ("some", true),
    ("any", true),
    ("count_if", true),
    ("approx_count_distinct", true),
    ("max_by", true),
    ("min_by", true),
    ("collect_list", true),
    ("array_agg", true),
    ("if", false),
    ("ifnull", false),
    ("nvl", false),
    ("nvl2", false),
    ("now", false),
    ("current_timestamp", false),
    ("curdate", false),
    ("current_date", false),
    ("char_length", false),
    ("lcase", false),
    ("ucase", false),
    ("pow", false),
    ("printf", false),
    ("named_struct", false),
];

/// Spark's name and DataFusion's, where nothing else differs.
const RENAMED: [(&str, &str); 12] = [
    ("first", "first_value"),
    ("any_value", "first_value"),
    ("last", "last_value"),
    ("mean", "avg"),
    ("std", "stddev"),
    ("variance", "var_samp"),
    ("every", "bool_and"),
    ("some", "bool_or"),
    ("any", "bool_or"),
    ("ifnull", "coalesce"),
    ("nvl", "coalesce"),
    ("array_agg", "collect_list"),
];

/// The expression that stands for a call, when it is not simply the call itself. Arguments are resolved already.
pub(crate) fn rewrite_call(name: &str, function: &mut Function) -> Result<Option<Expr>> {
    if let Some((_, other)) = RENAMED.iter().find(|(spark, _)| *spark == name) {
        ignore_nulls_argument(name, function);
        function.name = object_name(other);
        return Ok(None);
    }
    let arguments = positional(function);
    Ok(match (name, arguments.as_slice()) {
        ("if", [condition, then, otherwise]) => Some(case(condition, then, Some(otherwise))),
        ("if", _) => return Err(wrong_count(name, "3", arguments.len())),
        ("nvl2", [value, then, otherwise]) => {
            Some(case(&Expr::IsNotNull(Box::new(value.clone())), then, Some(otherwise)))
        }
        ("count_if", [condition]) => {
            let one = Expr::Value(ValueWithSpan { value: Value::Number("1".to_owned(), false), span: Span::empty() });
            set_arguments(function, vec![case(condition, &one, None)]);
            function.name = object_name("count");
            None
        }
        ("approx_count_distinct", [value, ..]) => {
            set_arguments(function, vec![value.clone()]);
            function.name = object_name("approx_distinct");
            Some(cast(Expr::Function(function.clone()), DataType::BigInt(None)))
        }
        ("max_by" | "min_by", [value, order]) => {
            set_arguments(function, vec![value.clone()]);
            let ascending = name == "max_by";
            function.name = object_name(if ascending { "last_value" } else { "first_value" });
            order_by(function, order.clone());
            let known = Expr::IsNotNull(Box::new(order.clone()));
            let filter = match function.filter.take() {
                None => known,
                Some(filter) => Expr::BinaryOp {
                    left: filter,
                    op: datafusion::sql::sqlparser::ast::BinaryOperator::And,
                    right: Box::new(known),
                },
            };
            function.filter = Some(Box::new(filter));
            None
        }
        ("now" | "current_timestamp" | "localtimestamp", []) => {
            let now = call("now", Vec::new());
            Some(cast(now, DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::None)))
        }
        ("curdate" | "current_date", []) => Some(call("current_date", Vec::new())),
        _ => None,
    })
}

/// `first(x, true)` is `first_value(x) IGNORE NULLS`; `any_value`, `first` and `last` otherwise keep nulls.
fn ignore_nulls_argument(name: &str, function: &mut Function) {
    let arguments = positional(function);
    let ignore = matches!(arguments.get(1), Some(Expr::Value(ValueWithSpan { value: Value::Boolean(true), .. })));
    if matches!(name, "first" | "last" | "any_value") && arguments.len() == 2 {
        set_arguments(function, vec![arguments[0].clone()]);
        if ignore {
            function.null_treatment = Some(datafusion::sql::sqlparser::ast::NullTreatment::IgnoreNulls);
        }
    }
}

/// Spark's error for a wrong number of arguments.
pub(crate) fn wrong_count(name: &str, expected: &str, found: usize) -> Error {
    Error::analysis_class(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        format!("The `{name}` requires {expected} parameters but the actual number is {found}."),
    )
}

/// The unnamed arguments of a call.
pub(crate) fn positional(function: &Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    list.args
        .iter()
        .filter_map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect()
}

fn set_arguments(function: &mut Function, arguments: Vec<Expr>) {
    let arguments = arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    match &mut function.args {
        FunctionArguments::List(list) => list.args = arguments,
        other => *other = argument_list(arguments),
    }
}

fn order_by(function: &mut Function, order: Expr) {
    let order = OrderByExpr {
        expr: order,
        options: OrderByOptions { asc: Some(true), nulls_first: Some(true) },
        with_fill: None,
    };
    if let FunctionArguments::List(list) = &mut function.args {
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![order]));
    }
}

fn argument_list(args: Vec<FunctionArg>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

/// A call by name.
pub(crate) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let arguments = arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Expr::Function(Function {
        name: object_name(name),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: argument_list(arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A cast to a type.
pub(crate) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn case(condition: &Expr, then: &Expr, otherwise: Option<&Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition: condition.clone(), result: then.clone() }],
        else_result: otherwise.map(|e| Box::new(e.clone())),
    }
}

fn object_name(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))])
}

/// An integer literal that stays one (an ordinal, an index of a marker call).
pub(crate) fn number(value: i64) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Number(value.to_string(), false), span: Span::empty() })
}
