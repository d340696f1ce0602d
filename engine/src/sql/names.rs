//! The names that Spark gives to columns without an alias: `count(1)`, `(v + 1)`, `CASE WHEN (v > 1) THEN x END`.
//!
//! Works on the text of the query as parsed, before names are resolved, since Spark prints what the user wrote.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CeilFloorKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, Subscript, UnaryOperator, Value, visit_expressions_mut,
};

use super::{INTERVAL_CALL, TYPED_CALL, WATERMARK_CALL};

/// What Spark calls every parameter of a lambda.
const LAMBDA_VARIABLE: &str = "namedlambdavariable()";
/// The comparison with which `array_sort` sorts when it is given none.
const COMPARISON: &str = "lambdafunction((IF(((namedlambdavariable() IS NULL) AND (namedlambdavariable() IS NULL)), 0, \
    (IF((namedlambdavariable() IS NULL), 1, (IF((namedlambdavariable() IS NULL), -1, (IF((namedlambdavariable() < \
    namedlambdavariable()), -1, (IF((namedlambdavariable() > namedlambdavariable()), 1, 0)))))))))), \
    namedlambdavariable(), namedlambdavariable())";

/// Functions that Spark prints in capitals.
const UPPER: [&str; 29] = [
    "sqrt",
    "cbrt",
    "exp",
    "expm1",
    "log",
    "log10",
    "log2",
    "log1p",
    "power",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "degrees",
    "radians",
    "pi",
    "e",
    "signum",
    "hypot",
    "regexp_like",
    "ceil",
    "floor",
    "cot",
];

/// Functions that Spark prints under another name.
const RENAMED: [(&str, &str); 2] = [("array_agg", "collect_list"), ("rlike", "regexp_like")];

/// Arguments that Spark prints although they were left out: function, how many were given, what is added.
const DEFAULTS: [(&str, usize, &str); 28] = [
    ("percentile_approx", 2, "10000"),
    ("approx_percentile", 2, "10000"),
    ("array_sort", 1, COMPARISON),
    ("aggregate", 3, "lambdafunction(namedlambdavariable(), namedlambdavariable())"),
    ("reduce", 3, "lambdafunction(namedlambdavariable(), namedlambdavariable())"),
    ("string_agg", 1, "NULL"),
    ("split", 2, "-1"),
    ("lpad", 2, " "),
    ("rpad", 2, " "),
    ("locate", 2, "1"),
    ("position", 2, "1"),
    ("replace", 2, ""),
    ("substring", 2, "2147483647"),
    ("substr", 2, "2147483647"),
    ("regexp_replace", 3, "1"),
    ("regexp_extract", 2, "1"),
    ("regexp_extract_all", 2, "1"),
    ("round", 1, "0"),
    ("bround", 1, "0"),
    ("months_between", 2, "true"),
    ("from_unixtime", 1, "yyyy-MM-dd HH:mm:ss"),
    ("unix_timestamp", 1, "yyyy-MM-dd HH:mm:ss"),
    ("to_unix_timestamp", 1, "yyyy-MM-dd HH:mm:ss"),
    ("sort_array", 1, "true"),
    ("str_to_map", 1, ","),
    ("str_to_map", 2, ":"),
    ("percentile", 2, "1"),
    ("overlay", 3, "-1"),
];

/// Prints expressions; knows which first parts of dotted names are relations, which Spark leaves out.
pub(crate) struct Namer<'a> {
    /// Whether a name is that of a relation in scope.
    pub(crate) is_relation: &'a dyn Fn(&str) -> bool,
}

impl Namer<'_> {
    /// The name of a select item.
    pub(crate) fn item(&self, expr: &Expr) -> String {
        match expr {
            Expr::Nested(inner) => self.item(inner),
            Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.clone()).unwrap_or_default(),
            // A cast of a column keeps the column's name.
            Expr::Cast { expr: inner, .. } if is_column(inner) => self.item(inner),
            _ => self.text(expr),
        }
    }

    /// The text of an expression inside a name.
    #[recursive::recursive]
    pub(crate) fn text(&self, expr: &Expr) -> String {
        match expr {
            Expr::Nested(inner) => self.text(inner),
            Expr::Identifier(ident) => ident.value.clone(),
            Expr::CompoundIdentifier(parts) => self.dotted(parts),
            Expr::Value(value) => value_text(&value.value),
            Expr::TypedString(typed) => format!("{} '{}'", typed.data_type, value_text(&typed.value.value)),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::UnaryOp { op, expr } => self.unary(op, expr),
            Expr::IsNull(e) => format!("({} IS NULL)", self.text(e)),
            Expr::IsNotNull(e) => format!("({} IS NOT NULL)", self.text(e)),
            Expr::IsNotDistinctFrom(l, r) => format!("({} <=> {})", self.text(l), self.text(r)),
            Expr::IsDistinctFrom(l, r) => format!("(NOT ({} <=> {}))", self.text(l), self.text(r)),
            Expr::IsTrue(e) => format!("({} IS TRUE)", self.text(e)),
            Expr::IsFalse(e) => format!("({} IS FALSE)", self.text(e)),
            Expr::InList { expr, list, negated } => {
                negate(*negated, format!("({} IN ({}))", self.text(expr), self.list(list)))
            }
            Expr::Between { expr, negated, low, high } => {
                negate(*negated, format!("between({}, {}, {})", self.text(expr), self.text(low), self.text(high)))
            }
            Expr::Like { negated, expr, pattern, .. } => {
                negate(*negated, format!("{} LIKE {}", self.text(expr), self.text(pattern)))
            }
            Expr::ILike { negated, expr, pattern, .. } => {
                negate(*negated, format!("ilike({}, {})", self.text(expr), self.text(pattern)))
            }
            Expr::RLike { negated, expr, pattern, .. } => {
                negate(*negated, format!("RLIKE({}, {})", self.text(expr), self.text(pattern)))
            }
            Expr::Cast { kind, expr, data_type, .. } => {
                let call = if format!("{kind:?}").contains("Try") { "TRY_CAST" } else { "CAST" };
                format!("{call}({} AS {})", self.text(expr), type_text(data_type))
            }
            Expr::Function(function) => self.function(function),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Expr::Case { operand, conditions, else_result, .. } => {
                let mut text = "CASE".to_owned();
                for when in conditions {
                    let condition = match operand {
                        Some(operand) => format!("({} = {})", self.text(operand), self.text(&when.condition)),
                        None => self.text(&when.condition),
                    };
                    text.push_str(&format!(" WHEN {condition} THEN {}", self.text(&when.result)));
                }
                if let Some(otherwise) = else_result {
                    text.push_str(&format!(" ELSE {}", self.text(otherwise)));
                }
                text + " END"
            }
            Expr::Extract { field, expr, .. } => {
                format!("extract({} FROM {})", field.to_string().to_lowercase(), self.text(expr))
            }
            Expr::Ceil { expr, field } => self.rounding("CEIL", expr, field),
            Expr::Floor { expr, field } => self.rounding("FLOOR", expr, field),
            Expr::Position { expr, r#in } => format!("locate({}, {}, 1)", self.text(expr), self.text(r#in)),
            Expr::Substring { expr, substring_from, substring_for, shorthand, .. } => {
                let name = if *shorthand { "substr" } else { "substring" };
                let given = [Some(expr), substring_from.as_ref(), substring_for.as_ref()].into_iter().flatten();
                let mut parts: Vec<String> = given.map(|e| self.text(e)).collect();
                if substring_for.is_none() {
                    parts.push("2147483647".to_owned());
                }
                format!("{name}({})", parts.join(", "))
            }
            Expr::Trim { trim_where, trim_what, expr, .. } => match (trim_where, trim_what) {
                (None, None) => format!("trim({})", self.text(expr)),
                (place, what) => {
                    let place = place.as_ref().map_or("BOTH".to_owned(), ToString::to_string);
                    let what = what.as_ref().map(|w| format!("{} ", self.text(w))).unwrap_or_default();
                    format!("TRIM({place} {what}FROM {})", self.text(expr))
                }
            },
            Expr::Struct { values, .. } => format!("struct({})", self.list(values)),
            Expr::Named { expr, name } => format!("{} AS {}", self.text(expr), name.value),
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let length = overlay_for.as_ref().map_or("-1".to_owned(), |e| self.text(e));
                let (text, what) = (self.text(expr), self.text(overlay_what));
                format!("overlay({text}, {what}, {}, {length})", self.text(overlay_from))
            }
            Expr::Lambda(lambda) => {
                let mut body = lambda.body.as_ref().clone();
                let parameters: Vec<&str> = lambda.params.iter().map(|p| p.name.value.as_str()).collect();
                let _: std::ops::ControlFlow<()> = visit_expressions_mut(&mut body, |expr| {
                    if matches!(expr, Expr::Identifier(id) if parameters.iter().any(|p| p.eq_ignore_ascii_case(&id.value)))
                    {
                        *expr = Expr::Identifier(Ident::new(LAMBDA_VARIABLE));
                    }
                    std::ops::ControlFlow::Continue(())
                });
                let variables = vec![LAMBDA_VARIABLE; parameters.len()].join(", ");
                format!("lambdafunction({}, {variables})", self.text(&body))
            }
            Expr::Subquery(_) => "scalarsubquery()".to_owned(),
            Expr::Tuple(values) => format!("named_struct({})", self.list(values)),
            other => other.to_string(),
        }
    }

    fn list(&self, list: &[Expr]) -> String {
        list.iter().map(|e| self.text(e)).collect::<Vec<_>>().join(", ")
    }

    fn rounding(&self, name: &str, expr: &Expr, field: &CeilFloorKind) -> String {
        match field {
            CeilFloorKind::Scale(scale) => {
                format!("{}({}, {})", name.to_lowercase(), self.text(expr), value_text(&scale.value))
            }
            CeilFloorKind::DateTimeField(_) => format!("{name}({})", self.text(expr)),
        }
    }

    fn dotted(&self, parts: &[Ident]) -> String {
        let skip = usize::from(parts.len() > 1 && (self.is_relation)(&parts[0].value));
        parts[skip..].iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".")
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> String {
        let (l, r) = (self.text(left), self.text(right));
        match op {
            BinaryOperator::NotEq => format!("(NOT ({l} = {r}))"),
            BinaryOperator::StringConcat => format!("concat({l}, {r})"),
            BinaryOperator::MyIntegerDivide => format!("({l} div {r})"),
            BinaryOperator::Spaceship => format!("({l} <=> {r})"),
            BinaryOperator::Plus if is_interval(left) => format!("{r} + {l}"),
            BinaryOperator::Plus | BinaryOperator::Minus if is_interval(right) => {
                format!("{l} {op} {r}")
            }
            _ => format!("({l} {op} {r})"),
        }
    }

    fn unary(&self, op: &UnaryOperator, expr: &Expr) -> String {
        let text = self.text(expr);
        match (op, expr) {
            (UnaryOperator::Minus, Expr::Value(_)) => format!("-{text}"),
            (UnaryOperator::Minus, Expr::Function(f)) if f.name.to_string() == TYPED_CALL => format!("-{text}"),
            (UnaryOperator::Minus, _) => format!("(- {text})"),
            (UnaryOperator::Plus, _) => format!("(+ {text})"),
            (UnaryOperator::Not | UnaryOperator::BangNot, _) => format!("(NOT {text})"),
            _ => format!("{op}{text}"),
        }
    }

    fn access(&self, root: &Expr, chain: &[AccessExpr]) -> String {
        let mut text = self.text(root);
        for access in chain {
            match access {
                AccessExpr::Dot(Expr::Identifier(field)) => text.push_str(&format!(".{}", field.value)),
                AccessExpr::Dot(field) => text.push_str(&format!(".{field}")),
                AccessExpr::Subscript(Subscript::Index { index }) => text.push_str(&format!("[{}]", self.text(index))),
                AccessExpr::Subscript(other) => text.push_str(&format!("[{other}]")),
            }
        }
        text
    }

    fn function(&self, function: &Function) -> String {
        let name = function.name.to_string().replace('`', "").to_lowercase();
        let FunctionArguments::List(list) = &function.args else { return format!("{name}()") };
        match name.as_str() {
            INTERVAL_CALL | WATERMARK_CALL => return string_arguments(function).pop().unwrap_or_default(),
            TYPED_CALL => return string_arguments(function).swap_remove(0),
            "window" | "session_window" => return name,
            _ => {}
        }
        let name = RENAMED.iter().find(|(own, _)| *own == name).map_or(name.as_str(), |(_, shown)| shown);
        let mut arguments: Vec<String> = list.args.iter().map(|argument| self.argument(argument)).collect();
        let distinct = match list.duplicate_treatment {
            Some(DuplicateTreatment::Distinct) => "DISTINCT ",
            _ => "",
        };
        if name == "count" && arguments == ["*"] {
            arguments = vec!["1".to_owned()];
        }
        for (_, count, default) in DEFAULTS.iter().filter(|(own, _, _)| *own == name) {
            if arguments.len() == *count {
                arguments.push((*default).to_owned());
            }
        }
        let all = arguments.join(", ");
        let mut text = match (name, arguments.as_slice()) {
            ("if", _) => format!("(IF({all}))"),
            ("isnull", [value]) => format!("({value} IS NULL)"),
            ("isnotnull", [value]) => format!("({value} IS NOT NULL)"),
            ("dateadd" | "date_add", [_, _, _]) => format!("timestampadd({all})"),
            ("datediff" | "date_diff", [_, _, _]) => format!("timestampdiff({all})"),
            ("ltrim", [what, value]) => format!("TRIM(LEADING {what} FROM {value})"),
            ("rtrim", [what, value]) => format!("TRIM(TRAILING {what} FROM {value})"),
            ("datepart", [part, time]) => format!("datepart({part} FROM {time})"),
            ("from_json", [text, _]) => format!("from_json({text})"),
            ("log", [value]) => format!("LOG(E(), {value})"),
            ("first" | "last" | "any_value", [value, _]) => format!("{name}({value})"),
            ("int" | "bigint" | "double" | "float" | "string" | "boolean" | "timestamp" | "date", [value]) => {
                value.clone()
            }
            _ if UPPER.contains(&name) => format!("{}({all})", name.to_uppercase()),
            _ => format!("{name}({distinct}{all})"),
        };
        if let Some(filter) = &function.filter {
            text.push_str(&format!(" FILTER (WHERE {})", self.text(filter)));
        }
        if let Some(over) = &function.over {
            text.push_str(&format!(" OVER {over}"));
        }
        text
    }

    fn argument(&self, argument: &FunctionArg) -> String {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.text(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => "*".to_owned(),
            other => other.to_string(),
        }
    }
}

/// The string literals among a call's arguments.
pub(crate) fn string_arguments(function: &Function) -> Vec<String> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    list.args
        .iter()
        .filter_map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
                Value::SingleQuotedString(text) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// The text of a type; one with types inside was made a quoted name by the token pass.
pub(crate) fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Custom(name, parameters) if parameters.is_empty() => name.to_string().replace('`', ""),
        other => other.to_string(),
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn is_interval(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(f) if f.name.to_string() == INTERVAL_CALL)
}

fn negate(negated: bool, text: String) -> String {
    if negated { format!("(NOT {text})") } else { text }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::SingleQuotedString(text) => text.clone(),
        Value::Number(digits, _) if digits.contains(['e', 'E']) => match digits.parse() {
            Ok(number) => crate::functions::double_text(number),
            Err(_) => digits.clone(),
        },
        Value::Number(digits, _) => digits.clone(),
        Value::Null => "NULL".to_owned(),
        Value::Boolean(b) => b.to_string(),
        other => other.to_string(),
    }
}
