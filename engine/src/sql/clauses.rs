//! Rewrites, token by token, what Spark's SQL has and sqlparser's lacks, before the parser sees it.
//!
//! ```text
//! STREAM t, STREAM(t)                         -> `__stream.t`                          (stream_relation_name)
//! rel WATERMARK e [AS n] DELAY OF INTERVAL i a -> (SELECT * FROM rel WHERE __watermark(e, 'ms', 'n')) AS a
//! INTERVAL 10 SECONDS, INTERVAL '1' HOUR ...  -> __interval('months days micros', 'INTERVAL ''10'' SECOND')
//! 5S, 5Y, 1.5D, 1.5F, 5BD                     -> __typed('5', 'SMALLINT') ...
//! exists(array, x -> ...)                      -> array_any_match(...)
//! "text"                                      -> 'text'
//! ```
//! Every token keeps the place of the text it stands for, so that errors point into what the user wrote.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::cursor::{Cursor, is_word, string_value, syntax_error};
use super::duration::watermark_delay_of;
use super::interval_literal::parse_interval_literal;
use super::types::parse_type_at;
use super::{INTERVAL_CALL, TYPED_CALL, WATERMARK_CALL, stream_relation_name};
use crate::error::Result;

/// Words that end a relation or begin the next clause: never an alias, never the name after `STREAM`.
const CLAUSE_WORDS: [&str; 27] = [
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "MINUS",
    "ON",
    "USING",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "NATURAL",
    "LATERAL",
    "WINDOW",
    "WATERMARK",
    "AS",
    "SORT",
    "CLUSTER",
    "DISTRIBUTE",
    "QUALIFY",
];

/// Words after which commas no longer separate relations.
const END_OF_FROM: [&str; 14] = [
    "SELECT",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "MINUS",
    "SORT",
    "QUALIFY",
    "WINDOW",
];

/// The tokens of a query as sqlparser can read them.
pub(crate) fn rewrite_clauses(cursor: &mut Cursor) -> Result<Vec<TokenWithSpan>> {
    Rewrite { cursor, out: Vec::new(), depth: vec![Depth::default()] }.run(None)
}

/// What is known of the query (or parenthesis) that the cursor is in.
#[derive(Clone, Copy, Debug, Default)]
struct Depth {
    /// A `SELECT` was seen: `FROM` begins relations (and is not that of `EXTRACT(.. FROM ..)`).
    select: bool,
    /// Inside the parentheses of `CAST(value AS type)`.
    cast: bool,
    /// Inside `FROM`: where in the output the current relation begins.
    relation: Option<usize>,
}

struct Rewrite<'a> {
    cursor: &'a mut Cursor,
    out: Vec<TokenWithSpan>,
    depth: Vec<Depth>,
}

impl Rewrite<'_> {
    /// Rewrites up to the end, or up to (without) the given words at this depth.
    fn run(mut self, until: Option<[&str; 2]>) -> Result<Vec<TokenWithSpan>> {
        let outermost = self.depth.len();
        while !self.cursor.at_end() {
            if let Some(words) = until
                && self.depth.len() == outermost
            {
                let here = self.cursor.position();
                if self.cursor.take_words(&words) {
                    self.cursor.seek(here);
                    break;
                }
            }
            self.step()?;
        }
        Ok(self.out)
    }

    fn step(&mut self) -> Result<()> {
        let span = self.cursor.span();
        let level = *self.depth.last().expect("at least one depth");
        if level.relation == Some(self.out.len()) && self.stream_relation(span)? {
            return Ok(());
        }
        if level.relation.is_some() && self.cursor.at_word("WATERMARK") && self.watermark(level, span)? {
            return Ok(());
        }
        if self.at_nested_type(level) {
            let start = self.cursor.position();
            parse_type_at(self.cursor)?;
            let text = self.cursor.text_between(start, self.cursor.position()).to_uppercase();
            self.word(&text, true, span);
            return Ok(());
        }
        if self.cursor.at_word("INTERVAL")
            && let Some(literal) = parse_interval_literal(self.cursor)?
        {
            let parts = format!("{} {} {}", literal.interval.months, literal.interval.days, literal.interval.micros);
            self.call(INTERVAL_CALL, &[parts, literal.name], span);
            return Ok(());
        }
        if self.number_with_suffix(span) {
            return Ok(());
        }
        if self.lambda_exists() {
            self.cursor.advance();
            self.word("exists", true, span);
            return Ok(());
        }
        let token = self.cursor.advance();
        self.track(&token);
        let token = match string_value(&token) {
            Some(text) => Token::SingleQuotedString(text.to_owned()),
            None => token,
        };
        self.out.push(TokenWithSpan::new(token, span));
        if let Some(top) = self.depth.last_mut()
            && top.relation == Some(usize::MAX)
        {
            top.relation = Some(self.out.len());
        }
        Ok(())
    }

    /// `exists(array, x -> ..)`, which is no subquery: quoted, it is a function for sqlparser too.
    fn lambda_exists(&self) -> bool {
        let subquery = ["SELECT", "WITH", "VALUES", "FROM"].iter().any(|word| is_word(self.cursor.peek_at(2), word));
        self.cursor.at_word("EXISTS")
            && *self.cursor.peek_at(1) == Token::LParen
            && !subquery
            && *self.cursor.peek_at(2) != Token::LParen
    }

    /// A type with types inside, which sqlparser does not read in Spark's SQL: it becomes a quoted name.
    fn at_nested_type(&self, level: Depth) -> bool {
        let before = self.out.last().map_or(&Token::EOF, |t| &t.token);
        let place = level.cast && is_word(before, "AS") || *before == Token::DoubleColon;
        place && ["ARRAY", "MAP", "STRUCT", "INTERVAL"].iter().any(|word| self.cursor.at_word(word))
    }

    /// Keeps the state of `FROM` up to date. A relation that begins after this token is marked with `usize::MAX`.
    fn track(&mut self, token: &Token) {
        match token {
            Token::LParen => {
                let before = self.out.last().map_or(&Token::EOF, |t| &t.token);
                let cast = is_word(before, "CAST") || is_word(before, "TRY_CAST");
                self.depth.push(Depth { cast, ..Depth::default() });
            }
            Token::RParen if self.depth.len() > 1 => {
                self.depth.pop();
            }
            Token::Comma => {
                let top = self.depth.last_mut().expect("at least one depth");
                top.relation = top.relation.map(|_| usize::MAX);
            }
            Token::Word(Word { value, quote_style: None, .. }) => {
                let top = self.depth.last_mut().expect("at least one depth");
                let is = |word: &str| value.eq_ignore_ascii_case(word);
                let from = is("FROM") && (top.select || self.out.is_empty());
                if from || is("JOIN") && top.relation.is_some() {
                    top.relation = Some(usize::MAX);
                } else if END_OF_FROM.iter().any(|word| is(word)) {
                    top.relation = None;
                    top.select |= is("SELECT");
                }
            }
            _ => {}
        }
    }

    /// `STREAM t` and `STREAM(t)` where a relation begins.
    fn stream_relation(&mut self, span: Span) -> Result<bool> {
        if !self.cursor.at_word("STREAM") {
            return Ok(false);
        }
        let parenthesis = *self.cursor.peek_at(1) == Token::LParen;
        let name_follows = match self.cursor.peek_at(if parenthesis { 2 } else { 1 }) {
            Token::Word(word) => word.quote_style.is_some() || !is_one_of(&word.value, &CLAUSE_WORDS),
            _ => false,
        };
        if !name_follows {
            return Ok(false);
        }
        self.cursor.advance();
        if parenthesis {
            self.cursor.advance();
        }
        let name = self.cursor.expect_dotted_name("the name of a table or view")?;
        if parenthesis {
            self.cursor.expect(&Token::RParen)?;
        }
        self.word(&stream_relation_name(&name), true, span);
        Ok(true)
    }

    /// `WATERMARK expr [AS name] DELAY OF INTERVAL i [AS alias]` after a relation.
    fn watermark(&mut self, level: Depth, span: Span) -> Result<bool> {
        let Some(start) = level.relation.filter(|start| *start < self.out.len()) else { return Ok(false) };
        let here = self.cursor.position();
        self.cursor.advance();
        if matches!(self.cursor.peek(), Token::EOF | Token::Comma | Token::RParen)
            || matches!(self.cursor.peek(), Token::Word(w) if w.quote_style.is_none() && is_one_of(&w.value, &CLAUSE_WORDS))
        {
            // An alias that happens to be called watermark.
            self.cursor.seek(here);
            return Ok(false);
        }
        let relation = self.out.split_off(start);
        self.refuse_early_alias(&relation, span)?;
        let inner = Rewrite { cursor: &mut *self.cursor, out: Vec::new(), depth: vec![Depth::default()] };
        let (expr, name) = split_name(inner.run(Some(["DELAY", "OF"]))?);
        self.cursor.expect_word("DELAY")?;
        self.cursor.expect_word("OF")?;
        let Some(delay) = parse_interval_literal(self.cursor)? else {
            return Err(self.cursor.unexpected(&["INTERVAL", "an interval such as INTERVAL 10 SECONDS"]));
        };
        let delay_ms = watermark_delay_of(delay.interval, &delay.name)?;
        let alias = self.take_alias()?.or_else(|| relation_name(&relation));

        self.punctuation(&[Token::LParen], span);
        for word in ["SELECT", "*", "FROM"] {
            if word == "*" { self.punctuation(&[Token::Mul], span) } else { self.word(word, false, span) }
        }
        self.out.extend(relation);
        self.word("WHERE", false, span);
        self.word(WATERMARK_CALL, false, span);
        self.punctuation(&[Token::LParen], span);
        self.out.extend(expr);
        let mut arguments = vec![Token::Comma, Token::SingleQuotedString(delay_ms.to_string())];
        if let Some(name) = name {
            arguments.extend([Token::Comma, Token::SingleQuotedString(name)]);
        }
        arguments.extend([Token::RParen, Token::RParen]);
        self.punctuation(&arguments, span);
        if let Some(alias) = alias {
            self.word("AS", false, span);
            self.word(&alias, true, span);
        }
        Ok(true)
    }

    fn refuse_early_alias(&self, relation: &[TokenWithSpan], at: Span) -> Result<()> {
        let two = relation.len() >= 2 && matches!(relation[relation.len() - 1].token, Token::Word(_));
        let early = two && matches!(relation[relation.len() - 2].token, Token::Word(_) | Token::RParen);
        if early {
            return Err(syntax_error(
                at.start,
                "Syntax error at or near 'WATERMARK': the alias of a relation stands after its WATERMARK clause, as in FROM t \
                 WATERMARK ts DELAY OF INTERVAL 10 SECONDS AS a",
            ));
        }
        Ok(())
    }

    /// The alias after a `WATERMARK` clause, with or without `AS`.
    fn take_alias(&mut self) -> Result<Option<String>> {
        if self.cursor.take_word("AS") {
            return self.cursor.expect_name("an alias").map(Some);
        }
        match self.cursor.peek() {
            Token::Word(word) if word.quote_style.is_some() || !is_one_of(&word.value, &CLAUSE_WORDS) => {
                self.cursor.expect_name("an alias").map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `5L`, `1.5D` and the like: a number with a type letter glued to it.
    fn number_with_suffix(&mut self, span: Span) -> bool {
        let (Token::Number(digits, long), Token::Word(word)) = (self.cursor.peek(), self.cursor.peek_at(1)) else {
            return false;
        };
        let glued = self.cursor.span_at(1).is_some_and(|next| next.start == span.end);
        let data_type = match word.value.to_ascii_uppercase().as_str() {
            _ if *long || !glued => return false,
            "L" => "BIGINT".to_owned(),
            "S" => "SMALLINT".to_owned(),
            "Y" => "TINYINT".to_owned(),
            "D" => "DOUBLE".to_owned(),
            "F" => "FLOAT".to_owned(),
            "BD" => {
                let scale = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                let precision = digits.bytes().filter(u8::is_ascii_digit).count();
                format!("DECIMAL({precision},{scale})")
            }
            _ => return false,
        };
        let digits = digits.clone();
        self.cursor.advance();
        self.cursor.advance();
        self.call(TYPED_CALL, &[digits, data_type], span);
        true
    }

    fn call(&mut self, function: &str, texts: &[String], span: Span) {
        self.word(function, false, span);
        let mut tokens = vec![Token::LParen];
        for (i, text) in texts.iter().enumerate() {
            if i > 0 {
                tokens.push(Token::Comma);
            }
            tokens.push(Token::SingleQuotedString(text.clone()));
        }
        tokens.push(Token::RParen);
        self.punctuation(&tokens, span);
    }

    fn word(&mut self, value: &str, quoted: bool, span: Span) {
        self.out.push(TokenWithSpan::new(Token::make_word(value, quoted.then_some('`')), span));
    }

    fn punctuation(&mut self, tokens: &[Token], span: Span) {
        self.out.extend(tokens.iter().map(|token| TokenWithSpan::new(token.clone(), span)));
    }
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Splits `expr AS name` and `expr name`; a lone name is an expression.
fn split_name(mut tokens: Vec<TokenWithSpan>) -> (Vec<TokenWithSpan>, Option<String>) {
    let n = tokens.len();
    let Some(Token::Word(last)) = tokens.last().map(|t| &t.token) else { return (tokens, None) };
    let name = last.value.clone();
    if n < 2 || matches!(last.keyword, Keyword::END | Keyword::NULL | Keyword::TRUE | Keyword::FALSE) {
        return (tokens, None);
    }
    match &tokens[n - 2].token {
        Token::Word(word) if word.keyword == Keyword::AS => {
            tokens.truncate(n - 2);
            (tokens, Some(name))
        }
        Token::Word(_) | Token::RParen | Token::Number(..) | Token::SingleQuotedString(_) | Token::RBracket => {
            tokens.truncate(n - 1);
            (tokens, Some(name))
        }
        _ => (tokens, None),
    }
}

/// The name under which a relation's columns are known when it has no alias: that of a table is its last part.
fn relation_name(tokens: &[TokenWithSpan]) -> Option<String> {
    let all_names = tokens.iter().all(|t| matches!(t.token, Token::Word(_) | Token::Period));
    match tokens.last().map(|t| &t.token) {
        Some(Token::Word(word)) if all_names => {
            let name = word.value.strip_prefix(super::STREAM_PREFIX).unwrap_or(&word.value);
            Some(name.rsplit('.').next().unwrap_or(name).to_owned())
        }
        _ => None,
    }
}
