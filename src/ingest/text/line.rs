//! One line of text, taken apart from left to right; every error knows its line and column.

use std::borrow::Cow;

/// A body that is not in the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct Error {
    /// Both counted from 1, the column in characters.
    pub line: usize,
    pub column: usize,
    pub fault: Fault,
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the text is not UTF-8")]
    Utf8,
    #[error("expected {expected}")]
    Expected { expected: &'static str },
    #[error("a quoted text does not end in its line")]
    Unclosed,
    #[error("the metric has no name")]
    NoName,
    #[error("the metric has two names")]
    TwoNames,
    #[error("{text:?} is not a number")]
    Number { text: String },
    #[error("{text:?} is not a timestamp in {unit}")]
    Timestamp { text: String, unit: &'static str },
    #[error("{text:?} is not a type of metric")]
    Kind { text: String },
    #[error("there is text after # EOF")]
    AfterEnd,
    #[error("the text does not end with # EOF")]
    NoEnd,
}

/// How much of a wrong piece is shown.
const SHOWN_CHARS_MAX: usize = 60;

pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// A body as text.
pub(in crate::ingest) fn text_of(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|error| {
        let (valid, _) = body.split_at(error.valid_up_to());
        let valid = String::from_utf8_lossy(valid);
        let last = valid.rsplit('\n').next().unwrap_or_default();
        Error {
            line: valid.matches('\n').count() + 1,
            column: last.chars().count() + 1,
            fault: Fault::Utf8,
        }
    })
}

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) number: usize,
    whole: &'a str,
    rest: &'a str,
}

/// A text between quotes, as it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a> {
    pub(super) raw: &'a str,
    pub(super) has_escapes: bool,
}

impl<'a> Line<'a> {
    pub(super) fn new(number: usize, whole: &'a str) -> Self {
        Self {
            number,
            whole,
            rest: whole,
        }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    /// An error at the place that was reached.
    pub(super) fn error(&self, fault: Fault) -> Error {
        let (before, _) = self.whole.split_at(self.whole.len() - self.rest.len());
        Error {
            line: self.number,
            column: before.chars().count() + 1,
            fault,
        }
    }

    pub(super) fn expected(&self, expected: &'static str) -> Error {
        self.error(Fault::Expected { expected })
    }

    pub(super) fn skip_blanks(&mut self) -> &mut Self {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        self
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_blanks().rest.is_empty()
    }

    pub(super) fn eat(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// The longest beginning made of ASCII characters that pass.
    fn take_while(&mut self, passes: impl Fn(u8) -> bool) -> &'a str {
        let bytes = self.rest.bytes();
        let count = bytes
            .take_while(|&byte| byte.is_ascii() && passes(byte))
            .count();
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        head
    }

    /// A name without quotes; empty where there is none.
    pub(super) fn name(&mut self, may_hold_colons: bool) -> &'a str {
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return "";
        }
        self.take_while(|byte| {
            byte.is_ascii_alphanumeric() || byte == b'_' || (may_hold_colons && byte == b':')
        })
    }

    /// What stands before the next blank.
    pub(super) fn word(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (head, rest) = self.rest.split_at(end);
        self.rest = rest;
        head
    }

    /// A text in quotes; `None` where none begins.
    pub(super) fn quoted(&mut self) -> Result<Option<Quoted<'a>>, Error> {
        let begin = *self;
        if !self.eat('"') {
            return Ok(None);
        }
        let mut has_escapes = false;
        let mut is_escaped = false;
        for (at, byte) in self.rest.bytes().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => (is_escaped, has_escapes) = (true, true),
                b'"' => {
                    let (raw, rest) = self.rest.split_at(at);
                    self.rest = rest;
                    self.eat('"');
                    return Ok(Some(Quoted { raw, has_escapes }));
                }
                _ => {}
            }
        }
        Err(begin.error(Fault::Unclosed))
    }
}

/// Puts `\\`, `\n` and, where asked for, `\"` back; any other backslash stands for itself.
pub(super) fn unescape(raw: &str, with_quotes: bool) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut characters = raw.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = match characters.peek() {
            Some('\\') if character == '\\' => '\\',
            Some('n') if character == '\\' => '\n',
            Some('"') if character == '\\' && with_quotes => '"',
            _ => {
                text.push(character);
                continue;
            }
        };
        characters.next();
        text.push(escaped);
    }
    Cow::Owned(text)
}

impl<'a> Quoted<'a> {
    pub(super) fn text(self) -> Cow<'a, str> {
        unescape(self.raw, true)
    }
}
