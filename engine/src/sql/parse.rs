//! From tokens to sqlparser's tree, with its complaints in Spark's form.

use datafusion::sql::sqlparser::ast::{Query, SelectItem, SetExpr, TableWithJoins};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::chains::shallow_chains;
use super::clauses::rewrite_clauses;
use super::cursor::{Cursor, syntax_error};
use super::dialect::SparkDialect;
use crate::error::{Error, Result};
use crate::options::did_you_mean;

/// How deep expressions and subqueries may nest.
const MAX_DEPTH: usize = 200;

/// Words that are often misspelled where sqlparser finds something it cannot use.
const KEYWORDS: [&str; 20] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "UNION",
    "JOIN",
    "LEFT",
    "RIGHT",
    "INNER",
    "ON",
    "USING",
    "WATERMARK",
    "DELAY",
    "INTERVAL",
    "BETWEEN",
    "DISTINCT",
    "STREAM",
];

/// Parses one query.
pub(crate) fn parse_query(sql: &str) -> Result<Query> {
    let mut cursor = Cursor::new(sql)?;
    let first = ["SELECT", "WITH", "VALUES", "FROM", "TABLE"].iter().any(|word| cursor.at_word(word));
    if !first && *cursor.peek() != Token::LParen {
        return Err(cursor.unexpected(&["SELECT", "WITH", "VALUES"]));
    }
    let tokens = rewrite_clauses(&mut cursor)?;
    let trailing_comma = trailing_comma(&tokens);
    let mut parser = Parser::new(&SparkDialect).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(tokens);
    let mut query = parser.parse_query().map_err(|error| trailing_comma.unwrap_or_else(|| parser_error(error)))?;
    shallow_chains(&mut query)?;
    let _ = parser.consume_token(&Token::SemiColon);
    finished(&parser)?;
    Ok(*query)
}

/// Parses one expression, with the alias after it if there is one: `sum(v) AS s`.
pub(crate) fn parse_select_item(sql: &str) -> Result<SelectItem> {
    let mut cursor = Cursor::new(sql)?;
    let tokens = rewrite_clauses(&mut cursor)?;
    let mut parser = Parser::new(&SparkDialect).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(tokens);
    let item = parser.parse_select_item().map_err(parser_error)?;
    finished(&parser)?;
    Ok(item)
}

fn finished(parser: &Parser) -> Result<()> {
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(());
    }
    let near = match &next.token {
        Token::Word(word) => did_you_mean(&word.value, KEYWORDS),
        _ => String::new(),
    };
    // A misspelled keyword reads as an alias, so the place is one word late.
    let hint = if near.is_empty() { " or a keyword misspelled before it" } else { "" };
    Err(syntax_error(next.span.start, &format!("Syntax error at or near '{}': extra input{hint}.{near}", next.token)))
}

/// `SELECT items FROM from`.
pub(crate) fn select_query(items: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Result<Query> {
    let mut query = parse_query("SELECT 1")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        select.from = from;
    }
    Ok(query)
}

/// What to say about `SELECT a, FROM t`, if that is why the text does not parse.
fn trailing_comma(tokens: &[TokenWithSpan]) -> Option<Error> {
    let mut words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    while let Some(token) = words.next() {
        let from = |next: &&TokenWithSpan| matches!(&next.token, Token::Word(word) if word.keyword == Keyword::FROM);
        if token.token == Token::Comma && words.peek().is_some_and(from) {
            let at = token.span.start;
            return Some(Error::analysis_class(
                "TRAILING_COMMA_IN_SELECT",
                format!(
                    "Trailing comma detected in SELECT clause (line {}, pos {}). Remove the trailing comma before the FROM \
                     clause.",
                    at.line,
                    at.column.saturating_sub(1)
                ),
            ));
        }
    }
    None
}

fn parser_error(error: ParserError) -> Error {
    match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
            let (text, at) = split_location(&message);
            let message = match text.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: ")) {
                Some((expected, "EOF")) => format!("Syntax error at or near end of input: expected {expected}"),
                Some((expected, found)) => {
                    let near = did_you_mean(found, KEYWORDS);
                    format!("Syntax error at or near '{found}': expected {expected}.{near}")
                }
                None => format!("Syntax error: {text}"),
            };
            syntax_error(at, &message)
        }
        ParserError::RecursionLimitExceeded => Error::analysis_class(
            "FAILED_TO_PARSE_TOO_COMPLEX",
            format!("The statement nests deeper than {MAX_DEPTH} levels. Divide it with views."),
        ),
    }
}

/// Takes ` at Line: 1, Column: 5` off the end of sqlparser's message.
fn split_location(message: &str) -> (&str, Location) {
    let start = Location { line: 1, column: 1 };
    let Some((text, place)) = message.rsplit_once(" at Line: ") else { return (message, start) };
    let numbers = place.split_once(", Column: ").and_then(|(l, c)| Some((l.parse().ok()?, c.trim().parse().ok()?)));
    match numbers {
        Some((line, column)) => (text, Location { line, column }),
        None => (text, start),
    }
}
