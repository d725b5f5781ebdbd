//! From text to pieces: what is copied, and the tokens of each `{{ action }}`.

use super::Error;

/// What stands between two actions, or the tokens of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// A token, and whether there is space before it: `$labels.x` is one operand, `$labels .x` are two.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) is_apart: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Text(String),
    Int(i64),
    Float(f64),
    Word(String),
    /// `.name`, without the point.
    Field(String),
    /// `$name`, with its sign.
    Variable(String),
    Dot,
    Pipe,
    Open,
    Close,
    /// `=`, `:=` or `,`: what only variables of one's own are written with.
    Assign(&'static str),
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Cuts a template into pieces, with trimming done and comments left out.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    while !rest.is_empty() {
        let Some((text, action)) = rest.split_once(OPEN) else {
            push_text(&mut pieces, rest, trim_next, false);
            break;
        };
        let inner = action
            .strip_prefix('-')
            .filter(|after| after.starts_with(is_space));
        push_text(&mut pieces, text, trim_next, inner.is_some());
        let action = inner.unwrap_or(action);
        let after = match action.trim_start_matches(is_space).strip_prefix("/*") {
            Some(comment) => skip_comment(comment)?,
            None => {
                let (tokens, after) = tokens(action)?;
                pieces.push(Piece::Action(tokens));
                after
            }
        };
        (rest, trim_next) = after;
    }
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start {
        text.trim_start_matches(is_space)
    } else {
        text
    };
    let text = if trim_end {
        text.trim_end_matches(is_space)
    } else {
        text
    };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// What follows an action, and whether the space that it begins with is left out.
type After<'a> = (&'a str, bool);

/// The rest after `}}` or ` -}}`, where an action ends here.
fn end_of_action(rest: &str) -> Option<After<'_>> {
    if let Some(after) = rest.strip_prefix(CLOSE) {
        return Some((after, false));
    }
    let trimmed = rest.strip_prefix(is_space)?;
    Some((trimmed.strip_prefix("-}}")?, true))
}

fn skip_comment(comment: &str) -> Result<After<'_>, Error> {
    let (_, rest) = comment
        .split_once("*/")
        .ok_or_else(|| syntax("a comment does not end"))?;
    end_of_action(rest).ok_or_else(|| syntax("a comment does not end right before the \"}}\""))
}

/// The tokens of an action up to its end.
fn tokens(action: &str) -> Result<(Vec<Token>, After<'_>), Error> {
    let mut tokens = Vec::new();
    let mut rest = action;
    let mut is_apart = false;
    loop {
        if let Some(after) = end_of_action(rest) {
            return Ok((tokens, after));
        }
        let Some(first) = rest.chars().next() else {
            return Err(syntax("an action does not end: \"}}\" is missing"));
        };
        if is_space(first) {
            rest = rest.trim_start_matches(first);
            is_apart = true;
            continue;
        }
        let (kind, tail) = token(rest, first)?;
        tokens.push(Token { kind, is_apart });
        is_apart = false;
        rest = tail;
    }
}

fn token(rest: &str, first: char) -> Result<(TokenKind, &str), Error> {
    let tail = rest.strip_prefix(first).unwrap_or("");
    let second = tail.chars().next();
    let is_number = first.is_ascii_digit()
        || (matches!(first, '+' | '-' | '.') && second.is_some_and(|it| it.is_ascii_digit()))
        || (matches!(first, '+' | '-') && second == Some('.'));
    if is_number {
        return number(rest);
    }
    Ok(match first {
        '"' => quoted(tail)?,
        '`' => {
            let (text, tail) = tail
                .split_once('`')
                .ok_or_else(|| syntax("a text in ` does not end"))?;
            (TokenKind::Text(text.replace('\r', "")), tail)
        }
        '\'' => character(tail)?,
        '|' => (TokenKind::Pipe, tail),
        '(' => (TokenKind::Open, tail),
        ')' => (TokenKind::Close, tail),
        '=' => (TokenKind::Assign("="), tail),
        ',' => (TokenKind::Assign(","), tail),
        ':' if second == Some('=') => (TokenKind::Assign(":="), tail.trim_start_matches('=')),
        '.' if second.is_some_and(is_word) => {
            let (name, tail) = word(tail);
            (TokenKind::Field(name.to_owned()), tail)
        }
        '.' => (TokenKind::Dot, tail),
        '$' => {
            let (name, tail) = word(tail);
            (TokenKind::Variable(format!("${name}")), tail)
        }
        _ if is_word(first) => {
            let (name, tail) = word(rest);
            (TokenKind::Word(name.to_owned()), tail)
        }
        other => return Err(syntax(&format!("unexpected {other:?} in an action"))),
    })
}

fn word(rest: &str) -> (&str, &str) {
    let end = rest.find(|it: char| !is_word(it)).unwrap_or(rest.len());
    rest.split_at(end)
}

fn number(rest: &str) -> Result<(TokenKind, &str), Error> {
    let mut previous = ' ';
    let end = rest.find(|it: char| {
        let is_sign = matches!(it, '+' | '-')
            && (previous == ' ' || matches!(previous, 'e' | 'E' | 'p' | 'P'));
        previous = it;
        !(is_sign || it == '.' || is_word(it))
    });
    let (text, tail) = rest.split_at(end.unwrap_or(rest.len()));
    let bad = || syntax(&format!("bad number {text:?}"));
    let digits = text.replace('_', "");
    if let Some(int) = int(&digits) {
        return Ok((TokenKind::Int(int), tail));
    }
    let is_decimal = digits
        .chars()
        .all(|it| it.is_ascii_digit() || matches!(it, '.' | 'e' | 'E' | '+' | '-'));
    let is_float = is_decimal && digits.contains(['.', 'e', 'E']);
    let float: f64 = is_float
        .then(|| digits.parse().ok())
        .flatten()
        .ok_or_else(bad)?;
    Ok((TokenKind::Float(float), tail))
}

/// A whole number as Go writes them: decimal, or with `0x`, `0o`, `0b` or a leading 0.
fn int(digits: &str) -> Option<i64> {
    let (sign, magnitude) = match digits.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", digits.strip_prefix('+').unwrap_or(digits)),
    };
    let lower = magnitude.to_ascii_lowercase();
    let (base, magnitude) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.trim_start_matches('0'))
    } else {
        (10, lower.as_str())
    };
    if magnitude.is_empty() && base == 8 {
        return Some(0);
    }
    if magnitude.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{magnitude}"), base).ok()
}

/// A text in double quotes, from after the first of them.
fn quoted(rest: &str) -> Result<(TokenKind, &str), Error> {
    let mut text = String::new();
    let mut tail = rest;
    loop {
        match tail.chars().next() {
            None | Some('\n') => return Err(syntax("a text in quotes does not end")),
            Some('"') => return Ok((TokenKind::Text(text), tail.strip_prefix('"').unwrap_or(""))),
            Some(_) => {
                let (character, after) = unescape(tail, '"')?;
                text.push(character);
                tail = after;
            }
        }
    }
}

/// A character in single quotes is its number, as in Go.
fn character(rest: &str) -> Result<(TokenKind, &str), Error> {
    let bad = || syntax("a character in ' is not one character");
    if rest.starts_with('\'') || rest.is_empty() {
        return Err(bad());
    }
    let (character, tail) = unescape(rest, '\'')?;
    let tail = tail.strip_prefix('\'').ok_or_else(bad)?;
    Ok((TokenKind::Int(i64::from(u32::from(character))), tail))
}

/// The character that a text begins with, an escape read, and what follows.
fn unescape(rest: &str, quote: char) -> Result<(char, &str), Error> {
    let mut characters = rest.chars();
    let first = characters.next().unwrap_or('\\');
    if first != '\\' {
        return Ok((first, characters.as_str()));
    }
    let bad = || syntax("a text has an escape that is none");
    let escape = characters.next().ok_or_else(bad)?;
    let plain = match escape {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        _ if escape == quote => quote,
        'x' | 'u' | 'U' | '0'..='7' => {
            let tail = characters.as_str();
            let (digits, base, from) = match escape {
                'x' => (2, 16, tail),
                'u' => (4, 16, tail),
                'U' => (8, 16, tail),
                _ => (3, 8, rest.strip_prefix('\\').unwrap_or("")),
            };
            let code = from.get(..digits).ok_or_else(bad)?;
            let number = u32::from_str_radix(code, base).ok().ok_or_else(bad)?;
            // A byte of a longer character cannot be told from a character: only ASCII is taken.
            let is_byte = matches!(escape, 'x' | '0'..='7');
            let character = char::from_u32(number)
                .filter(|it| !is_byte || it.is_ascii())
                .ok_or_else(bad)?;
            return Ok((character, from.get(digits..).unwrap_or("")));
        }
        _ => return Err(bad()),
    };
    Ok((plain, characters.as_str()))
}

fn is_space(it: char) -> bool {
    matches!(it, ' ' | '\t' | '\r' | '\n')
}

fn is_word(it: char) -> bool {
    it == '_' || it.is_alphanumeric()
}

fn syntax(reason: &str) -> Error {
    Error::Syntax(reason.to_owned())
}
