//! A Spark SQL script as a list of statements: split at `;`, options and schemas read, queries left as text.
//!
//! Statements: `SET`, `CREATE TABLE ... USING`, `CREATE VIEW ... AS`, `CREATE STREAMING TABLE ... AS`, `DROP`,
//! `EXPLAIN` and queries. What a query says is read by [`super::query`] when it is planned; `INSERT`, `UPDATE`,
//! `DELETE`, `MERGE`, `ALTER` and catalogs are absent and refused by name.

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::sync::Arc;

use super::cursor::Cursor;
use super::types::parse_columns;
use crate::error::{Error, Result};
use crate::options::Options;

/// The text of a query and the line of the script on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryText {
    /// The query, without the `;` after it.
    pub sql: String,
    /// Its first line in the script, from 1.
    pub line: u64,
}

impl From<&str> for QueryText {
    fn from(sql: &str) -> Self {
        Self { sql: sql.to_owned(), line: 1 }
    }
}

/// One statement of a script, with the line on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The first line of the statement, from 1.
    pub line: u64,
    /// The statement as it stands in the script, without the `;` after it.
    pub text: String,
    /// What it says.
    pub statement: Statement,
}

/// What a script can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `SET key = value`, `SET key` (ask), `SET` (ask for all).
    Set {
        /// The name of the setting.
        key: Option<String>,
        /// The value; outer quotes are taken off.
        value: Option<String>,
    },
    /// `CREATE [TEMPORARY] TABLE name (...) USING format OPTIONS (...)`: something to read, as a stream or statically.
    CreateTable(CreateTable),
    /// `CREATE [OR REPLACE] [TEMPORARY] VIEW name AS query`.
    CreateView(CreateView),
    /// `CREATE STREAMING TABLE name USING format OPTIONS (...) AS query`: a query that writes to a sink.
    CreateStreamingTable(CreateStreamingTable),
    /// A query whose result is shown.
    Query(QueryText),
    /// `DROP TABLE|VIEW [IF EXISTS] name`.
    Drop {
        /// Whether the statement says `VIEW`.
        view: bool,
        /// The name to drop.
        name: String,
        /// Whether a name that is not there is fine.
        if_exists: bool,
    },
    /// `EXPLAIN [mode] query`.
    Explain {
        /// `EXTENDED`, `FORMATTED`, `CODEGEN` or `COST`, in upper case, when given.
        mode: Option<String>,
        /// The query to explain.
        query: QueryText,
    },
}

/// The parts of `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// The table's name.
    pub name: String,
    /// The columns, when given.
    pub columns: Option<SchemaRef>,
    /// The format after `USING`, in lower case; `None` when there is no `USING`.
    pub using: Option<String>,
    /// The options; `LOCATION 'x'` is the option `path`.
    pub options: Options,
    /// The columns after `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
    /// The comment.
    pub comment: Option<String>,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `OR REPLACE`.
    pub replace: bool,
}

/// The parts of `CREATE VIEW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateView {
    /// The view's name.
    pub name: String,
    /// New names for the query's columns; empty when not given.
    pub columns: Vec<String>,
    /// `OR REPLACE`.
    pub replace: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The query.
    pub query: QueryText,
}

/// The parts of `CREATE STREAMING TABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateStreamingTable {
    /// The table's name, which is the query's name too.
    pub name: String,
    /// The sink's format after `USING`, in lower case; `None` when there is no `USING`.
    pub using: Option<String>,
    /// The options of the sink and of the query (`outputMode`, `trigger`, `checkpointLocation`).
    pub options: Options,
    /// The columns after `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
    /// The comment.
    pub comment: Option<String>,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The query.
    pub query: QueryText,
}

const STATEMENTS: [&str; 7] = ["SELECT", "CREATE", "SET", "DROP", "EXPLAIN", "WITH", "VALUES"];

/// Reads a whole script. Errors have class `PARSE_SYNTAX_ERROR` and say line, place and what was expected.
pub fn parse_script(text: &str) -> Result<Vec<Located>> {
    let mut cursor = Cursor::new(text)?;
    let mut statements = Vec::new();
    loop {
        while cursor.take(&Token::SemiColon) {}
        if cursor.at_end() {
            return Ok(statements);
        }
        let line = cursor.location().line;
        let from = cursor.position();
        let statement = parse_statement(&mut cursor)?;
        let text = cursor.text_between(from, cursor.position()).to_owned();
        if !cursor.at_end() && *cursor.peek() != Token::SemiColon {
            return Err(cursor.unexpected(&["';'"]));
        }
        statements.push(Located { line, text, statement });
    }
}

fn parse_statement(cursor: &mut Cursor) -> Result<Statement> {
    if cursor.take_word("SET") {
        return parse_set(cursor);
    }
    if cursor.take_word("CREATE") {
        return parse_create(cursor);
    }
    if cursor.take_word("DROP") {
        return parse_drop(cursor);
    }
    if cursor.take_word("EXPLAIN") || cursor.take_word("DESCRIBE") && cursor.take_word("QUERY") {
        let mode = ["EXTENDED", "FORMATTED", "CODEGEN", "COST"].into_iter().find(|mode| cursor.take_word(mode));
        return Ok(Statement::Explain { mode: mode.map(str::to_owned), query: parse_query_text(cursor)? });
    }
    for word in ["INSERT", "UPDATE", "DELETE", "MERGE", "ALTER", "TRUNCATE", "CACHE", "REFRESH"] {
        if cursor.at_word(word) {
            return Err(Error::analysis_class(
                "UNSUPPORTED_FEATURE",
                format!(
                    "{word} (line {}) is not a statement of a pipeline. Write the result of a query with CREATE STREAMING \
                     TABLE name USING format OPTIONS (...) AS SELECT ...",
                    cursor.location().line
                ),
            ));
        }
    }
    parse_query_text(cursor).map(Statement::Query)
}

/// `SET k = v` takes the text up to the next `;` as it stands, as Spark does.
fn parse_set(cursor: &mut Cursor) -> Result<Statement> {
    let start = cursor.position();
    while !cursor.at_end() && !matches!(cursor.peek(), Token::SemiColon | Token::Eq) {
        cursor.advance();
    }
    let key = cursor.text_between(start, cursor.position()).trim_matches('`').to_owned();
    if !cursor.take(&Token::Eq) {
        return Ok(Statement::Set { key: (!key.is_empty()).then_some(key), value: None });
    }
    if key.is_empty() {
        cursor.seek(start);
        return Err(cursor.unexpected(&["the name of a setting"]));
    }
    let start = cursor.position();
    while !cursor.at_end() && *cursor.peek() != Token::SemiColon {
        cursor.advance();
    }
    let end = cursor.position();
    cursor.seek(start);
    let quoted = (end == start + 1).then(|| cursor.take_string()).flatten();
    cursor.seek(end);
    let value = quoted.unwrap_or_else(|| cursor.text_between(start, end).to_owned());
    Ok(Statement::Set { key: Some(key), value: Some(value) })
}

fn parse_create(cursor: &mut Cursor) -> Result<Statement> {
    let replace = cursor.take_words(&["OR", "REPLACE"]);
    let refresh = !replace && cursor.take_words(&["OR", "REFRESH"]);
    if cursor.take_words(&["STREAMING", "TABLE"]) || cursor.take_words(&["STREAMING", "LIVE", "TABLE"]) {
        return parse_streaming_table(cursor);
    }
    if refresh {
        return Err(cursor.unexpected(&["STREAMING TABLE"]));
    }
    let global = cursor.take_word("GLOBAL");
    let temporary = cursor.take_word("TEMPORARY") || cursor.take_word("TEMP") || cursor.take_word("EXTERNAL");
    if cursor.take_word("VIEW") {
        return parse_view(cursor, replace);
    }
    if !global && cursor.take_word("TABLE") {
        return parse_table(cursor, replace);
    }
    if temporary { Err(cursor.unexpected(&["VIEW", "TABLE"])) } else { Err(cursor.unexpected(&CREATABLE)) }
}

const CREATABLE: [&str; 6] = ["TABLE", "VIEW", "STREAMING TABLE", "TEMPORARY VIEW", "STREAMING", "TEMPORARY"];

fn parse_view(cursor: &mut Cursor, replace: bool) -> Result<Statement> {
    let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.expect_dotted_name("a name for the view")?;
    let mut columns = Vec::new();
    if *cursor.peek() == Token::LParen {
        columns = parse_name_list(cursor)?;
    }
    if cursor.at_word("USING") {
        // `CREATE TEMPORARY VIEW v USING json OPTIONS (...)` is Spark's other spelling of a table to read.
        let clauses = Clauses::parse(cursor)?;
        return Ok(Statement::CreateTable(clauses.into_table(name, None, if_not_exists, replace)));
    }
    if cursor.take_word("COMMENT") {
        cursor.expect_string("the comment in quotes")?;
    }
    cursor.expect_word("AS")?;
    let query = parse_query_text(cursor)?;
    Ok(Statement::CreateView(CreateView { name, columns, replace, if_not_exists, query }))
}

fn parse_table(cursor: &mut Cursor, replace: bool) -> Result<Statement> {
    let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.expect_dotted_name("a name for the table")?;
    let columns = parse_optional_columns(cursor)?;
    let clauses = Clauses::parse(cursor)?;
    if cursor.at_word("AS") || cursor.at_word("SELECT") {
        return Err(Error::analysis_class(
            "UNSUPPORTED_FEATURE",
            format!(
                "CREATE TABLE {name} ... AS SELECT (line {}) is not possible. Write CREATE STREAMING TABLE to run the query \
                 as a stream, or CREATE VIEW to give it a name.",
                cursor.location().line
            ),
        ));
    }
    if !cursor.at_end() && *cursor.peek() != Token::SemiColon {
        return Err(cursor.unexpected(&CLAUSES));
    }
    Ok(Statement::CreateTable(clauses.into_table(name, columns, if_not_exists, replace)))
}

fn parse_streaming_table(cursor: &mut Cursor) -> Result<Statement> {
    let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.expect_dotted_name("a name for the streaming table")?;
    if *cursor.peek() == Token::LParen {
        return Err(Error::analysis(format!(
            "The columns of streaming table {name} (line {}) come from its query. Leave the list in parentheses out, and \
             name the columns with AS in the query.",
            cursor.location().line
        )));
    }
    let clauses = Clauses::parse(cursor)?;
    if !cursor.take_word("AS") {
        return Err(cursor.unexpected(&["AS", "USING", "OPTIONS", "PARTITIONED BY", "LOCATION", "COMMENT"]));
    }
    let Clauses { using, options, partitioned_by, comment, .. } = clauses;
    let query = parse_query_text(cursor)?;
    let partitioned_by = partitioned_by.unwrap_or_default();
    Ok(Statement::CreateStreamingTable(CreateStreamingTable {
        name,
        using,
        options,
        partitioned_by,
        comment,
        if_not_exists,
        query,
    }))
}

fn parse_drop(cursor: &mut Cursor) -> Result<Statement> {
    cursor.take_word("TEMPORARY");
    cursor.take_word("STREAMING");
    let view = cursor.take_word("VIEW");
    if !view && !cursor.take_word("TABLE") {
        return Err(cursor.unexpected(&["VIEW", "TABLE"]));
    }
    let if_exists = cursor.take_words(&["IF", "EXISTS"]);
    Ok(Statement::Drop { view, name: cursor.expect_dotted_name("the name to drop")?, if_exists })
}

fn parse_optional_columns(cursor: &mut Cursor) -> Result<Option<SchemaRef>> {
    if !cursor.take(&Token::LParen) {
        return Ok(None);
    }
    let fields = parse_columns(cursor)?;
    if !cursor.take(&Token::RParen) {
        return Err(cursor.unexpected(&["','", "')'", "NOT NULL", "COMMENT"]));
    }
    Ok(Some(Arc::new(Schema::new(fields))))
}

fn parse_name_list(cursor: &mut Cursor) -> Result<Vec<String>> {
    cursor.expect(&Token::LParen)?;
    let mut names = vec![cursor.expect_name("a column name")?];
    while cursor.take(&Token::Comma) {
        names.push(cursor.expect_name("a column name")?);
    }
    cursor.expect(&Token::RParen)?;
    Ok(names)
}

/// Takes a query up to the next `;` as text. Only its first word is looked at here.
fn parse_query_text(cursor: &mut Cursor) -> Result<QueryText> {
    let begins = ["SELECT", "WITH", "VALUES", "FROM", "TABLE"].iter().any(|word| cursor.at_word(word));
    if !begins && *cursor.peek() != Token::LParen {
        return Err(cursor.unexpected(&STATEMENTS));
    }
    let (start, line) = (cursor.position(), cursor.location().line);
    while !cursor.at_end() && *cursor.peek() != Token::SemiColon {
        cursor.advance();
    }
    Ok(QueryText { sql: cursor.text_between(start, cursor.position()).to_owned(), line })
}

const CLAUSES: [&str; 6] = ["USING", "OPTIONS", "PARTITIONED BY", "LOCATION", "COMMENT", "TBLPROPERTIES"];

/// The clauses after a table's name and columns, in any order, each once.
#[derive(Debug, Default)]
struct Clauses {
    using: Option<String>,
    options: Options,
    has_options: bool,
    partitioned_by: Option<Vec<String>>,
    location: Option<String>,
    comment: Option<String>,
    properties: Option<Options>,
}

impl Clauses {
    fn parse(cursor: &mut Cursor) -> Result<Self> {
        let mut clauses = Self::default();
        loop {
            let at = cursor.position();
            let (clause, first) = if cursor.take_word("USING") {
                let format = match cursor.take_string() {
                    Some(format) => format,
                    None => cursor.expect_dotted_name("a format such as json, kafka or console")?,
                };
                ("USING", clauses.using.replace(format.to_lowercase()).is_none())
            } else if cursor.take_word("OPTIONS") {
                let first = !std::mem::replace(&mut clauses.has_options, true);
                for (name, value) in parse_options(cursor)?.iter() {
                    clauses.options.set(name, value);
                }
                ("OPTIONS", first)
            } else if cursor.take_words(&["PARTITIONED", "BY"]) {
                ("PARTITIONED BY", clauses.partitioned_by.replace(parse_name_list(cursor)?).is_none())
            } else if cursor.take_word("LOCATION") {
                ("LOCATION", clauses.location.replace(cursor.expect_string("a path in quotes")?).is_none())
            } else if cursor.take_word("COMMENT") {
                ("COMMENT", clauses.comment.replace(cursor.expect_string("the comment in quotes")?).is_none())
            } else if cursor.take_word("TBLPROPERTIES") {
                ("TBLPROPERTIES", clauses.properties.replace(parse_options(cursor)?).is_none())
            } else {
                break;
            };
            if !first {
                cursor.seek(at);
                return Err(Error::analysis_class(
                    "DUPLICATE_CLAUSES",
                    format!(
                        "Found duplicate clauses: {clause} (line {}). Please, remove one of them.",
                        cursor.location().line
                    ),
                ));
            }
        }
        if let Some(path) = clauses.location.take() {
            if clauses.options.get("path").is_some() {
                return Err(Error::analysis(
                    "Duplicated table paths found: LOCATION and the option path. Leave one of them out.",
                ));
            }
            clauses.options.set("path", path);
        }
        Ok(clauses)
    }

    fn into_table(self, name: String, columns: Option<SchemaRef>, if_not_exists: bool, replace: bool) -> CreateTable {
        let Self { using, options, partitioned_by, comment, .. } = self;
        let partitioned_by = partitioned_by.unwrap_or_default();
        CreateTable { name, columns, using, options, partitioned_by, comment, if_not_exists, replace }
    }
}

/// Reads `(k 'v', k = v, a.b.c 1, 'x.y' = true)`.
fn parse_options(cursor: &mut Cursor) -> Result<Options> {
    cursor.expect(&Token::LParen)?;
    let mut options = Options::new();
    if cursor.take(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let line = cursor.location().line;
        let key = match cursor.take_string() {
            Some(key) => key,
            None => cursor.expect_dotted_name("the name of an option")?,
        };
        cursor.take(&Token::Eq);
        let value = parse_option_value(cursor, &key)?;
        if options.get(&key).is_some() {
            return Err(Error::analysis_class(
                "DUPLICATE_KEY",
                format!("Found duplicate keys `{key}` (line {line}). Leave one of them out."),
            ));
        }
        options.set(key, value);
        if cursor.take(&Token::RParen) {
            return Ok(options);
        }
        if !cursor.take(&Token::Comma) {
            return Err(cursor.unexpected(&["','", "')'"]));
        }
    }
}

fn parse_option_value(cursor: &mut Cursor, key: &str) -> Result<String> {
    if let Some(text) = cursor.take_string() {
        return Ok(text);
    }
    let at = cursor.position();
    let sign = if cursor.take(&Token::Minus) { "-" } else { "" };
    if let Token::Number(digits, _) = cursor.peek() {
        let value = format!("{sign}{digits}");
        cursor.advance();
        return Ok(value);
    }
    cursor.seek(at);
    for word in ["true", "false"] {
        if cursor.take_word(word) {
            return Ok(word.to_owned());
        }
    }
    Err(cursor.unexpected(&[&format!("the value of option '{key}' (text in quotes, a number, true or false)")]))
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
