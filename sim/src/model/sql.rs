//! SQL text to a syntax tree: the parts of Spark's grammar that `sqlparser` does not know are cut out of the tokens first.

use sqlparser::ast::{Query, Statement};
use sqlparser::dialect::DatabricksDialect;
use sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

use super::refusal::Refusal;

/// `relation WATERMARK column DELAY OF INTERVAL ..`, cut out of a FROM clause; the syntax tree has a
/// table called [`clause_name`] of its index in its place.
#[derive(Debug, Clone)]
pub struct WatermarkClause {
    /// The relation as SQL: a name, or a query in parentheses.
    pub relation: String,
    /// The name by which columns may be qualified when no alias follows.
    pub qualifier: Option<String>,
    /// The expression between WATERMARK and DELAY.
    pub expression: String,
    /// Its alias, if it has one.
    pub alias: Option<String>,
    /// The interval as text.
    pub delay: String,
}

/// The table name that stands for a cut-out clause.
pub fn clause_name(index: usize) -> String {
    format!("__watermark_clause_{index}")
}

/// Parses one query.
pub fn parse(sql: &str) -> Result<(Query, Vec<WatermarkClause>), Refusal> {
    let dialect = DatabricksDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize().map_err(|e| syntax_error(&e.to_string()))?;
    let mut tokens: Vec<Token> =
        tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_) | Token::SemiColon)).collect();
    let mut clauses = Vec::new();
    while let Some(at) = find_clause(&tokens) {
        let clause = cut_clause(&mut tokens, at, clauses.len())?;
        clauses.push(clause);
    }
    drop_stream_keyword(&mut tokens);
    let mut parser = Parser::new(&dialect).with_tokens(tokens);
    let statements = parser.parse_statements().map_err(|e| syntax_error(&e.to_string()))?;
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => Ok((*query, clauses)),
        _ => Err(syntax_error("not one query")),
    }
}

fn syntax_error(detail: &str) -> Refusal {
    Refusal::start("PARSE_SYNTAX_ERROR", format!("[PARSE_SYNTAX_ERROR] Syntax error: {detail}"))
}

fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// The last WATERMARK that is followed by DELAY OF (a column may be called watermark). From the right, because the
/// relation to the left of a clause may itself contain one, which is then found when that relation is parsed.
fn find_clause(tokens: &[Token]) -> Option<usize> {
    let starts = |at: usize| {
        is_word(tokens.get(at), "WATERMARK")
            && tokens[at..]
                .iter()
                .take(12)
                .enumerate()
                .any(|(i, _)| is_word(tokens.get(at + i), "DELAY") && is_word(tokens.get(at + i + 1), "OF"))
    };
    (1..tokens.len()).rev().find(|at| starts(*at))
}

fn cut_clause(tokens: &mut Vec<Token>, at: usize, index: usize) -> Result<WatermarkClause, Refusal> {
    let delay_at = (at..tokens.len()).find(|i| is_word(tokens.get(*i), "DELAY")).unwrap_or(at);
    let (delay, end) = interval_text(tokens, delay_at + 2)?;
    let start = relation_start(tokens, at)?;
    let relation: Vec<Token> = tokens[start..at].to_vec();
    let start = if start > 0 && is_word(tokens.get(start - 1), "STREAM") { start - 1 } else { start };
    let expression = &tokens[at + 1..delay_at];
    let (expression, alias) = match expression {
        [inner @ .., as_word, Token::Word(alias)] if is_word(Some(as_word), "AS") => (inner, Some(alias.value.clone())),
        all => (all, None),
    };
    let qualifier = match relation.last() {
        Some(Token::Word(word)) => Some(word.value.clone()),
        _ => None,
    };
    let clause = WatermarkClause { relation: text(&relation), qualifier, expression: text(expression), alias, delay };
    let name = Token::Word(Word { value: clause_name(index), quote_style: Some('`'), keyword: Keyword::NoKeyword });
    tokens.splice(start..end, [name]);
    Ok(clause)
}

/// Where the relation that ends before `at` begins: at the matching parenthesis, or at a dotted name.
fn relation_start(tokens: &[Token], at: usize) -> Result<usize, Refusal> {
    let mut start = at - 1;
    if tokens[start] == Token::RParen {
        let mut depth = 0;
        loop {
            match tokens[start] {
                Token::RParen => depth += 1,
                Token::LParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(start);
            }
            start = start.checked_sub(1).ok_or_else(|| syntax_error("unbalanced parentheses"))?;
        }
    }
    while start >= 2 && tokens[start - 1] == Token::Period {
        start -= 2;
    }
    Ok(start)
}

/// `INTERVAL 10 SECONDS`, `INTERVAL '10' SECONDS`, `INTERVAL '10 seconds'`, several pairs: text and end.
fn interval_text(tokens: &[Token], at: usize) -> Result<(String, usize), Refusal> {
    if !is_word(tokens.get(at), "INTERVAL") {
        return Err(syntax_error("INTERVAL expected after DELAY OF"));
    }
    let mut at = at + 1;
    let mut all = String::new();
    loop {
        let mut sign = "";
        if tokens.get(at) == Some(&Token::Minus) {
            sign = "-";
            at += 1;
        }
        let number = match tokens.get(at) {
            Some(Token::Number(number, _)) => number.clone(),
            Some(Token::SingleQuotedString(quoted)) => quoted.clone(),
            _ => break,
        };
        at += 1;
        all.push_str(&format!("{sign}{number} "));
        // A quoted interval may carry its units itself.
        if !number.contains(' ') {
            let Some(Token::Word(unit)) = tokens.get(at) else {
                return Err(syntax_error("a unit expected in INTERVAL"));
            };
            all.push_str(&format!("{} ", unit.value));
            at += 1;
        }
    }
    Ok((all.trim().to_string(), at))
}

fn text(tokens: &[Token]) -> String {
    tokens.iter().map(Token::to_string).collect::<Vec<_>>().join(" ")
}

/// `FROM STREAM t`, `JOIN STREAM t`, `, STREAM t`: streaming or not is already known from the relation.
fn drop_stream_keyword(tokens: &mut Vec<Token>) {
    let mut at = 1;
    while at + 1 < tokens.len() {
        let before = &tokens[at - 1];
        let opens = is_word(Some(before), "FROM") || is_word(Some(before), "JOIN") || *before == Token::Comma;
        let names = match &tokens[at + 1] {
            Token::LParen => true,
            Token::Word(w) => !RESERVED_FOR_TABLE_ALIAS.contains(&w.keyword) && w.keyword != Keyword::AS,
            _ => false,
        };
        if opens && names && is_word(tokens.get(at), "STREAM") {
            tokens.remove(at);
        }
        at += 1;
    }
}

/// Parses one expression.
pub fn parse_expression(text: &str) -> Result<sqlparser::ast::Expr, Refusal> {
    let dialect = DatabricksDialect {};
    Parser::new(&dialect)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|e| syntax_error(&e.to_string()))
}
