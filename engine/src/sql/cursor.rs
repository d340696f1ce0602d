//! A position in a list of tokens, and the sentence a user reads when the next token is not the right one.

use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::dialect::SparkDialect;
use crate::error::{Error, Result};
use crate::options::did_you_mean;

/// The tokens of one text without white space and comments, and how far they were read.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    lines: Vec<usize>,
    text: String,
    tokens: Vec<TokenWithSpan>,
    next: usize,
}

impl Cursor {
    /// Splits a text into tokens. `line` and the text's own lines give the positions in errors.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let tokens = Tokenizer::new(&SparkDialect, text).tokenize_with_location().map_err(|error| {
            syntax_error(
                error.location,
                &format!("{}. Check that every quote, backtick and comment is closed", error.message),
            )
        })?;
        refuse_hint_out_of_place(&tokens)?;
        let tokens = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
        let mut lines = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        Ok(Self { lines, text: text.to_owned(), tokens, next: 0 })
    }

    /// The next token; `EOF` at the end.
    pub(crate) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    /// The token `ahead` places after the next one.
    pub(crate) fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens.get(self.next + ahead).map_or(&Token::EOF, |t| &t.token)
    }

    /// Takes the next token.
    pub(crate) fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len());
        token
    }

    /// Whether everything was read.
    pub(crate) fn at_end(&self) -> bool {
        self.next >= self.tokens.len()
    }

    /// How many tokens were read.
    pub(crate) fn position(&self) -> usize {
        self.next
    }

    /// Goes back (or on) to a position that [`Cursor::position`] gave.
    pub(crate) fn seek(&mut self, position: usize) {
        self.next = position;
    }

    /// Where the next token begins: line and column, from 1; the end of the text when there is none.
    pub(crate) fn location(&self) -> Location {
        match self.tokens.get(self.next) {
            Some(token) => token.span.start,
            None => self.tokens.last().map_or(Location { line: 1, column: 1 }, |t| t.span.end),
        }
    }

    /// The place of the next token; empty at the end.
    pub(crate) fn span(&self) -> Span {
        self.span_at(0).unwrap_or(Span::empty())
    }

    /// The place of the token `ahead` places after the next one.
    pub(crate) fn span_at(&self, ahead: usize) -> Option<Span> {
        self.tokens.get(self.next + ahead).map(|t| t.span)
    }

    /// The text as written between two positions, without what surrounds it.
    pub(crate) fn text_between(&self, from: usize, to: usize) -> &str {
        if from >= to {
            return "";
        }
        self.text[self.byte_of(self.tokens[from].span.start)..self.byte_of(self.tokens[to - 1].span.end)].trim()
    }

    fn byte_of(&self, location: Location) -> usize {
        let start = self.lines[(location.line as usize - 1).min(self.lines.len() - 1)];
        let rest = &self.text[start..];
        rest.char_indices().nth(location.column as usize - 1).map_or(self.text.len(), |(at, _)| start + at)
    }

    /// Whether the next token is this word, in any case and without quotes.
    pub(crate) fn at_word(&self, word: &str) -> bool {
        is_word(self.peek(), word)
    }

    /// Takes the next token when it is this word.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.next += 1;
        }
        found
    }

    /// Takes these words when they all follow, else nothing.
    pub(crate) fn take_words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(i, word)| is_word(self.peek_at(i), word));
        if found {
            self.next += words.len();
        }
        found
    }

    /// Takes the next token when it equals this one.
    pub(crate) fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.next += 1;
        }
        found
    }

    /// Takes this word or fails, naming it.
    pub(crate) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&[word])) }
    }

    /// Takes this token or fails, naming it.
    pub(crate) fn expect(&mut self, token: &Token) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(&[&format!("'{token}'")])) }
    }

    /// Takes a closing angle bracket, of which the tokenizer may have glued two together.
    pub(crate) fn expect_gt(&mut self) -> Result<()> {
        if *self.peek() == Token::ShiftRight {
            self.tokens[self.next].token = Token::Gt;
            return Ok(());
        }
        self.expect(&Token::Gt)
    }

    /// Takes an identifier, plain or in backticks.
    pub(crate) fn expect_name(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Token::Word(word) => {
                let name = word.value.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(&[what])),
        }
    }

    /// Takes a name of parts joined by dots and gives it joined by dots.
    pub(crate) fn expect_dotted_name(&mut self, what: &str) -> Result<String> {
        let mut name = self.expect_name(what)?;
        while self.take(&Token::Period) {
            name.push('.');
            name.push_str(&self.expect_name(what)?);
        }
        Ok(name)
    }

    /// Takes a string in single or double quotes.
    pub(crate) fn take_string(&mut self) -> Option<String> {
        let text = string_value(self.peek())?.to_owned();
        self.next += 1;
        Some(text)
    }

    /// Takes a string or fails.
    pub(crate) fn expect_string(&mut self, what: &str) -> Result<String> {
        self.take_string().ok_or_else(|| self.unexpected(&[what]))
    }

    /// The error for a next token that is none of `expected`, with the nearest of them.
    pub(crate) fn unexpected(&self, expected: &[&str]) -> Error {
        let found = match self.peek() {
            Token::EOF => "end of input".to_owned(),
            token => format!("'{}'", self.token_text(token)),
        };
        let near = match self.peek() {
            Token::Word(word) => did_you_mean(&word.value, expected.iter().copied().filter(|e| is_upper(e))),
            _ => String::new(),
        };
        syntax_error(
            self.location(),
            &format!("Syntax error at or near {found}: expected {}.{near}", expected.join(" or ")),
        )
    }

    fn token_text(&self, token: &Token) -> String {
        match self.tokens.get(self.next) {
            Some(_) => self.text_between(self.next, self.next + 1).chars().take(40).collect(),
            None => token.to_string(),
        }
    }
}

/// A hint is a comment that stands after SELECT.
fn refuse_hint_out_of_place(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut before = &Token::EOF;
    for token in tokens {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with('+') => {
                if !is_word(before, "SELECT") {
                    return Err(syntax_error(
                        token.span.start,
                        "Syntax error at or near '/*+': a hint stands after SELECT. Move it there",
                    ));
                }
            }
            Token::Whitespace(_) => {}
            other => before = other,
        }
    }
    Ok(())
}

/// Spark's `PARSE_SYNTAX_ERROR` at a place in the text.
pub(crate) fn syntax_error(at: Location, message: &str) -> Error {
    let message = message.trim_end_matches(['.', ' ']);
    let dot = if message.ends_with('?') { "" } else { "." };
    Error::analysis_class(
        "PARSE_SYNTAX_ERROR",
        format!("{message}{dot} (line {}, pos {})", at.line, at.column.saturating_sub(1)),
    )
}

/// Whether a token is this word, in any case and without quotes.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// The value of a string token.
pub(crate) fn string_value(token: &Token) -> Option<&str> {
    match token {
        Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::SingleQuotedRawStringLiteral(text)
        | Token::DoubleQuotedRawStringLiteral(text)
        | Token::EscapedStringLiteral(text) => Some(text),
        _ => None,
    }
}

fn is_upper(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == ' ')
}
