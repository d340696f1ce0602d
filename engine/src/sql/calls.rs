//! Spark's function names that DataFusion knows under another name, or that are another expression there.
//!
//! Names that both know with one meaning are absent: they go to the registry as they are (see `functions`).

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, UnaryOperator, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::{Error, Result};
use crate::functions::CAST_CALL;
use crate::functions::calendar::SECONDS_CALL;

/// Names that exist through this file alone, and whether they aggregate.
pub(crate) const OWN_CALLS: [(&str, bool); 69] = [
    ("first", true),
    ("any_value", true),
    ("last", true),
    ("mean", true),
    ("try_avg", true),
    ("std", true),
    ("variance", true),
    ("every", true),
    ("some", true),
    ("any", true),
    ("count_if", true),
    ("approx_count_distinct", true),
    ("array_agg", true),
    ("listagg", true),
    ("percentile", true),
    ("if", false),
    ("ifnull", false),
    ("nvl", false),
    ("nvl2", false),
    ("now", false),
    ("current_timestamp", false),
    ("localtimestamp", false),
    ("curdate", false),
    ("current_date", false),
    ("current_timezone", false),
    ("lcase", false),
    ("ucase", false),
    ("startswith", false),
    ("endswith", false),
    ("isnull", false),
    ("isnotnull", false),
    ("equal_null", false),
    ("zeroifnull", false),
    ("nullifzero", false),
    ("sign", false),
    ("e", false),
    ("try_divide", false),
    ("try_mod", false),
    ("year", false),
    ("month", false),
    ("day", false),
    ("dayofmonth", false),
    ("quarter", false),
    ("dayofweek", false),
    ("dayofyear", false),
    ("weekofyear", false),
    ("dateadd", false),
    ("sort_array", false),
    ("array_size", false),
    ("map_contains_key", false),
    ("struct", false),
    ("exists", false),
    ("forall", false),
    ("boolean", false),
    ("tinyint", false),
    ("smallint", false),
    ("int", false),
    ("bigint", false),
    ("float", false),
    ("double", false),
    ("decimal", false),
    ("string", false),
    ("binary", false),
    ("date", false),
    ("timestamp", false),
    ("overlay", false),
    ("position", false),
    ("rand", false),
    ("grouping_id", true),
];

/// Spark's name and DataFusion's, where nothing else differs.
const RENAMED: [(&str, &str); 23] = [
    ("first", "first_value"),
    ("any_value", "first_value"),
    ("last", "last_value"),
    ("mean", "avg"),
    ("try_avg", "avg"),
    ("std", "stddev"),
    ("variance", "var_samp"),
    ("every", "bool_and"),
    ("some", "bool_or"),
    ("any", "bool_or"),
    ("ifnull", "coalesce"),
    ("nvl", "coalesce"),
    ("array_agg", "collect_list"),
    ("listagg", "string_agg"),
    ("lcase", "lower"),
    ("ucase", "upper"),
    ("startswith", "starts_with"),
    ("endswith", "ends_with"),
    ("position", "locate"),
    ("sign", "signum"),
    ("array_remove", "array_remove_all"),
    ("exists", "array_any_match"),
    ("dateadd", "date_add"),
];

/// Calls whose name is a type are casts.
const CASTS: [&str; 12] = [
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "float",
    "double",
    "decimal",
    "string",
    "binary",
    "date",
    "timestamp",
];

/// Calls that are a part of a time.
const DATE_PARTS: [(&str, &str); 8] = [
    ("year", "year"),
    ("month", "month"),
    ("day", "day"),
    ("dayofmonth", "day"),
    ("quarter", "quarter"),
    ("dayofweek", "dayofweek"),
    ("dayofyear", "doy"),
    ("weekofyear", "week"),
];

/// The expression that stands for a call, when it is not simply the call itself. Arguments are resolved already.
pub(crate) fn rewrite_call(name: &str, function: &mut Function) -> Result<Option<Expr>> {
    if let Some((_, other)) = RENAMED.iter().find(|(spark, _)| *spark == name) {
        ignore_nulls_argument(name, function);
        function.name = object_name(other);
        return Ok(None);
    }
    let arguments = positional(function);
    if let (true, [value]) = (CASTS.contains(&name), arguments.as_slice()) {
        return Ok(Some(call(CAST_CALL, vec![value.clone(), text(name)])));
    }
    if let (Some((_, part)), [time]) = (DATE_PARTS.iter().find(|(own, _)| *own == name), arguments.as_slice()) {
        return Ok(Some(call("date_part", vec![text(part), time.clone()])));
    }
    if let Some(expr) = rewrite_scalar(name, function, &arguments) {
        return Ok(expr);
    }
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
        ("nth_value", [value, position]) => {
            let position = call(CAST_CALL, vec![position.clone(), text("bigint")]);
            set_arguments(function, vec![value.clone(), position]);
            None
        }
        ("grouping", [_]) => Some(cast(Expr::Function(function.clone()), DataType::TinyInt(None))),
        ("grouping_id", _) => {
            function.name = object_name("grouping");
            Some(cast(Expr::Function(function.clone()), DataType::BigInt(None)))
        }
        ("rand" | "random", []) => Some(call("random", Vec::new())),
        ("rand" | "random", _) => {
            return Err(Error::analysis_class(
                "UNSUPPORTED_FEATURE",
                format!(
                    "{name}(seed) is not supported: its values would not be Spark's. Call {name}(): a batch that is run again \
                     draws the same values."
                ),
            ));
        }
        ("now" | "current_timestamp" | "localtimestamp", []) => {
            let now = call("now", Vec::new());
            Some(cast(now, DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::None)))
        }
        ("curdate" | "current_date", []) => Some(call("current_date", Vec::new())),
        _ => None,
    })
}

/// Scalar functions that are another expression. The inner `None` says that the call itself was changed.
fn rewrite_scalar(name: &str, function: &mut Function, arguments: &[Expr]) -> Option<Option<Expr>> {
    let equals = |left: &Expr, right: &Expr| Expr::IsNotDistinctFrom(Box::new(left.clone()), Box::new(right.clone()));
    let binary = |left: Expr, op: BinaryOperator, right: Expr| Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    };
    let negated = |expr: Expr| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) };
    Some(Some(match (name, arguments) {
        ("isnull", [value]) => Expr::IsNull(Box::new(value.clone())),
        ("isnotnull", [value]) => Expr::IsNotNull(Box::new(value.clone())),
        ("equal_null", [left, right]) => equals(left, right),
        ("zeroifnull", [value]) => call("coalesce", vec![value.clone(), cast(number(0), DataType::Int(None))]),
        ("nullifzero", [value]) => call("nullif", vec![value.clone(), cast(number(0), DataType::Int(None))]),
        ("try_divide", [left, right]) => {
            binary(left.clone(), BinaryOperator::Divide, call("nullif", vec![right.clone(), number(0)]))
        }
        ("try_mod", [left, right]) => {
            binary(left.clone(), BinaryOperator::Modulo, call("nullif", vec![right.clone(), number(0)]))
        }
        ("log", [value]) => call("ln", vec![value.clone()]),
        ("e", []) => call(CAST_CALL, vec![text("2.718281828459045"), text("DOUBLE")]),
        ("current_timezone", []) => text("UTC"),
        ("replace", [value, part]) => call("replace", vec![value.clone(), part.clone(), text("")]),
        ("regexp_replace", [value, pattern, with]) => {
            call("regexp_replace", vec![value.clone(), pattern.clone(), with.clone(), text("g")])
        }
        ("regexp_count", [_, _]) => cast(Expr::Function(function.clone()), DataType::Int(None)),
        ("sort_array" | "array_sort", [array]) if name == "sort_array" => {
            call("array_sort", vec![array.clone(), text("ASC"), text("NULLS FIRST")])
        }
        ("array_sort", [array]) => call("array_sort", vec![array.clone(), text("ASC"), text("NULLS LAST")]),
        ("sort_array", [array, ascending]) => case(
            ascending,
            &call("array_sort", vec![array.clone(), text("ASC"), text("NULLS FIRST")]),
            Some(&call("array_sort", vec![array.clone(), text("DESC"), text("NULLS LAST")])),
        ),
        // A CASE in other words; NULL is equal to NULL in it.
        ("decode", [value, rest @ ..]) if rest.len() > 1 => {
            let (pairs, otherwise) = rest.as_chunks::<2>();
            let last = otherwise.first().cloned();
            let none = Expr::Value(Value::Null.with_empty_span());
            pairs.iter().rev().fold(last.unwrap_or(none), |otherwise, [search, result]| {
                case(&equals(value, search), result, Some(&otherwise))
            })
        }
        ("round" | "bround", [value, Expr::Cast { expr: digits, .. }]) if matches!(**digits, Expr::Value(_)) => {
            call(name, vec![value.clone(), digits.as_ref().clone()])
        }
        ("factorial", [value]) => call(name, vec![call(CAST_CALL, vec![value.clone(), text("INT")])]),
        ("encode", [value, charset]) if is_utf8(charset) => call(CAST_CALL, vec![value.clone(), text("BINARY")]),
        ("date_part" | "datepart", [part, time]) if is_second(part) => call(SECONDS_CALL, vec![time.clone()]),
        // The size of nothing is not known (ANSI), a value that is not there is in place 0.
        ("size" | "cardinality" | "array_size", [collection]) => {
            let known = Expr::IsNotNull(Box::new(collection.clone()));
            case(&known, &call("size", vec![collection.clone()]), None)
        }
        ("array_position", [array, value]) => {
            let known = [array, value].map(|e| Expr::IsNotNull(Box::new(e.clone())));
            let [array_known, value_known] = known;
            let place = call("coalesce", vec![call(name, vec![array.clone(), value.clone()]), number(0)]);
            let place = cast(place, DataType::BigInt(None));
            case(&binary(array_known, BinaryOperator::And, value_known), &place, None)
        }
        // Days of a time, too.
        ("last_day", [day]) => call(name, vec![call(CAST_CALL, vec![day.clone(), text("DATE")])]),
        ("next_day" | "add_months" | "date_add" | "date_sub" | "trunc", [day, rest]) => {
            call(name, vec![call(CAST_CALL, vec![day.clone(), text("DATE")]), rest.clone()])
        }
        // What to cut stands first.
        ("ltrim" | "rtrim", [what, value]) => call(name, vec![value.clone(), what.clone()]),
        ("array_prepend", [array, item]) => call("array_prepend", vec![item.clone(), array.clone()]),
        ("map", []) => call("__empty_map", Vec::new()),
        ("map_contains_key", [map, key]) => call("array_has", vec![call("map_keys", vec![map.clone()]), key.clone()]),
        ("forall", [array, Expr::Lambda(lambda)]) => {
            let mut lambda = lambda.clone();
            lambda.body = Box::new(negated(*lambda.body));
            negated(call("array_any_match", vec![array.clone(), Expr::Lambda(lambda)]))
        }
        // A set has no order; a sorted one is the same in every run.
        ("collect_set", [_]) if function.over.is_none() => {
            call("array_sort", vec![Expr::Function(function.clone()), text("ASC"), text("NULLS LAST")])
        }
        // Without a separator there is none.
        ("listagg" | "string_agg", [value]) => {
            set_arguments(function, vec![value.clone(), text("")]);
            function.name = object_name("string_agg");
            return Some(None);
        }
        // An array of fractions: each for itself.
        ("percentile" | "percentile_approx" | "approx_percentile", [value, Expr::Function(fractions), rest @ ..])
            if ["array", "make_array"].contains(&&*lower(fractions)) =>
        {
            let exact = name == "percentile";
            let each = positional(fractions).into_iter().map(|fraction| {
                let mut one = function.clone();
                let rest = if exact { &[] } else { rest };
                set_arguments(&mut one, [&[value.clone(), fraction], rest].concat());
                one.name = object_name(if exact { "percentile_cont" } else { name });
                Expr::Function(one)
            });
            call("array", each.collect())
        }
        ("percentile", [value, fraction]) => {
            set_arguments(function, vec![value.clone(), fraction.clone()]);
            function.name = object_name("percentile_cont");
            return Some(None);
        }
        _ => return None,
    }))
}

fn lower(function: &Function) -> String {
    function.name.to_string().replace('`', "").to_lowercase()
}

fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

fn is_utf8(charset: &Expr) -> bool {
    literal_text(charset).is_some_and(|name| ["utf-8", "utf8"].contains(&&*name.to_lowercase()))
}

/// Whether a part of a time is its seconds, which have a fraction.
fn is_second(part: &Expr) -> bool {
    let names = ["s", "sec", "secs", "second", "seconds"];
    literal_text(part).is_some_and(|name| names.contains(&&*name.to_lowercase()))
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

/// A text literal.
pub(crate) fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).with_empty_span())
}
