//! Arithmetic on durations, `[5m * 2]` and `offset (1h - 5m)`, worked out before the parser sees it,
//! which knows single durations only.
//!
//! A number counts as seconds. What depends on the query, such as `step()`, is refused by name.

use super::super::error::Error;
use super::token::{Token, TokenKind};
use super::{is_finite_duration, position};

/// Nesting of brackets and signs; deeper than anybody writes.
const DEPTH_MAX: usize = 64;

/// A piece of the query that stands for one duration.
#[derive(Debug, PartialEq)]
pub(super) struct Folded {
    /// How many tokens it has.
    pub(super) tokens: usize,
    pub(super) milliseconds: i64,
}

/// The arithmetic in brackets that begins with the first of `tokens` and goes up to a colon or the
/// closing bracket; `None` for a single duration, which the parser reads by itself.
pub(super) fn in_brackets(query: &str, tokens: &[Token<'_>]) -> Result<Option<Folded>, Error> {
    let ends = |token: &Token<'_>| token.text == "]" || token.text.starts_with(':');
    let len = tokens.iter().position(ends).unwrap_or(tokens.len());
    match len {
        0 | 1 => Ok(None),
        _ => folded(query, tokens, Some(len)).map(Some),
    }
}

/// The arithmetic in parentheses that follows an `offset`, with the sign before it.
pub(super) fn after_offset(query: &str, tokens: &[Token<'_>]) -> Result<Option<Folded>, Error> {
    let signs = tokens.iter().take_while(|token| is_sign(token)).count();
    match tokens.get(signs) {
        Some(token) if token.text == "(" => folded(query, tokens, None).map(Some),
        _ => Ok(None),
    }
}

fn folded(query: &str, tokens: &[Token<'_>], len: Option<usize>) -> Result<Folded, Error> {
    let mut reading = Reading {
        query,
        tokens: len.map_or(tokens, |len| &tokens[..len]),
        next: 0,
    };
    let seconds = match len {
        Some(_) => reading.sum(0)?,
        None => reading.signed_atom()?,
    };
    if len.is_some_and(|len| reading.next < len) {
        return Err(reading.unexpected());
    }
    let milliseconds = (seconds * 1e3).round();
    /// Some 292,000 years, and exact as a float.
    const MAX: f64 = 9_007_199_254_740_992.0;
    if !(-MAX..MAX).contains(&milliseconds) {
        return Err(reading.error(0, "duration out of range"));
    }
    Ok(Folded {
        tokens: reading.next,
        milliseconds: milliseconds as i64,
    })
}

fn is_sign(token: &Token<'_>) -> bool {
    matches!(token.text, "+" | "-")
}

struct Reading<'a> {
    query: &'a str,
    tokens: &'a [Token<'a>],
    next: usize,
}

impl Reading<'_> {
    fn peek(&self) -> &str {
        self.tokens.get(self.next).map_or("", |token| token.text)
    }

    fn error(&self, token: usize, message: &str) -> Error {
        let at = self.tokens.get(token).map_or(self.query.len(), |it| it.at);
        Error::bad_data(format!(
            "{}: parse error: {message}",
            position(self.query, at)
        ))
    }

    fn unexpected(&self) -> Error {
        let found = match self.peek() {
            "" => "the end".to_owned(),
            text => format!("{text:?}"),
        };
        self.error(
            self.next,
            &format!("unexpected {found} in duration expression"),
        )
    }

    fn sum(&mut self, depth: usize) -> Result<f64, Error> {
        let mut sum = self.product(depth)?;
        loop {
            let sign = match self.peek() {
                "+" => 1.0,
                "-" => -1.0,
                _ => return Ok(sum),
            };
            self.next += 1;
            sum += sign * self.product(depth)?;
        }
    }

    fn product(&mut self, depth: usize) -> Result<f64, Error> {
        let mut product = self.operand(depth)?;
        loop {
            let operator = self.peek().to_owned();
            if !matches!(operator.as_str(), "*" | "/" | "%") {
                return Ok(product);
            }
            self.next += 1;
            let at = self.next;
            let right = self.operand(depth)?;
            match operator.as_str() {
                "*" => product *= right,
                _ if right == 0.0 => return Err(self.error(at, "division by zero")),
                "/" => product /= right,
                _ => product %= right,
            }
        }
    }

    /// What may follow `offset`: a power after it is one of the whole selector.
    fn signed_atom(&mut self) -> Result<f64, Error> {
        let mut sign = 1.0;
        while matches!(self.peek(), "+" | "-") {
            if self.peek() == "-" {
                sign = -sign;
            }
            self.next += 1;
        }
        Ok(sign * self.atom(0)?)
    }

    /// A sign binds less than a power: `-2 ^ 2` is -4.
    fn operand(&mut self, depth: usize) -> Result<f64, Error> {
        if depth > DEPTH_MAX {
            return Err(self.error(self.next, "duration expression is nested too deep"));
        }
        match self.peek() {
            "-" => {
                self.next += 1;
                Ok(-self.operand(depth + 1)?)
            }
            "+" => {
                self.next += 1;
                self.operand(depth + 1)
            }
            _ => {
                let base = self.atom(depth)?;
                if self.peek() != "^" {
                    return Ok(base);
                }
                self.next += 1;
                Ok(base.powf(self.operand(depth + 1)?))
            }
        }
    }

    fn atom(&mut self, depth: usize) -> Result<f64, Error> {
        let Some(token) = self.tokens.get(self.next).copied() else {
            return Err(self.unexpected());
        };
        let is_call = self
            .tokens
            .get(self.next + 1)
            .is_some_and(|next| next.text == "(");
        match token.kind {
            TokenKind::Number => {
                let number = token.text.replace('_', "");
                if !is_finite_duration(&number) {
                    return Err(self.error(self.next, "duration out of range"));
                }
                self.next += 1;
                Ok(seconds(&number))
            }
            TokenKind::Word if is_call => Err(Error::bad_data(format!(
                "{}: parse error: {}() in a duration expression is not supported",
                position(self.query, token.at),
                token.text
            ))),
            _ if token.text == "(" => {
                self.next += 1;
                let inner = self.sum(depth + 1)?;
                if self.peek() != ")" {
                    return Err(self.unexpected());
                }
                self.next += 1;
                Ok(inner)
            }
            _ => Err(self.unexpected()),
        }
    }
}

/// A finite number or duration in seconds.
fn seconds(text: &str) -> f64 {
    if let Ok(seconds) = text.parse() {
        return seconds;
    }
    let hexadecimal = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match hexadecimal {
        Some(seconds) => seconds as f64,
        None => crate::model::unit::parse_duration(text).map_or(0.0, |span| span.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    fn brackets(query: &str) -> Result<Option<i64>, String> {
        let tokens: Vec<_> = tokens(query).collect();
        in_brackets(query, &tokens)
            .map(|folded| folded.map(|it| it.milliseconds))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn durations_are_calculated_with() {
        for (query, milliseconds) in [
            ("26m+4m]", 1_800_000),
            ("2m*(10+5)]", 1_800_000),
            ("-5m+35m]", 1_800_000),
            ("1h30m % 1h]", 1_800_000),
            ("60*30:1m]", 1_800_000),
            ("24m+((1.5*2m)+2m)]", 1_740_000),
            ("1h/2 - 2 ^ 3]", 1_792_000),
            ("-2 ^ 2 + 5]", 1_000),
        ] {
            assert_eq!(brackets(query), Ok(Some(milliseconds)), "{query}");
        }
        assert_eq!(brackets("5m]"), Ok(None));
        assert_eq!(brackets(":1m]"), Ok(None));
    }

    #[test]
    fn what_cannot_be_calculated_is_refused() {
        for (query, message) in [
            (
                "step()+1]",
                "1:1: parse error: step() in a duration expression is not supported",
            ),
            ("5m/(1-1)]", "1:4: parse error: division by zero"),
            (
                "5m 3m]",
                "1:4: parse error: unexpected \"3m\" in duration expression",
            ),
            (
                "5m+]",
                "1:5: parse error: unexpected the end in duration expression",
            ),
            (
                "(5m]",
                "1:5: parse error: unexpected the end in duration expression",
            ),
            ("1e12^9]", "1:1: parse error: duration out of range"),
        ] {
            assert_eq!(brackets(query), Err(message.to_owned()), "{query}");
        }
    }

    #[test]
    fn after_offset_only_parentheses_belong_to_the_duration() {
        let folded = |query: &str| {
            let tokens: Vec<_> = tokens(query).collect();
            after_offset(query, &tokens).unwrap()
        };
        assert_eq!(folded("100 + 2"), None);
        let inside = Folded {
            tokens: 6,
            milliseconds: -102_000,
        };
        assert_eq!(folded("-(100 + 2) ^ 7"), Some(inside));
    }
}
