//! From text to syntax tree: promql-parser behind checks of our own.
//!
//! The parser gives no positions, reads some escapes other than Prometheus does, panics on durations
//! that are no finite number, and recurses as deep as a query nests. So the text is cut into tokens
//! first: they bound the nesting before anything recurses, carry the positions of remarks, and are
//! checked and rewritten where the parser would go wrong.

mod depth;
mod duration;
mod token;

use std::borrow::Cow;

use promql_parser::parser::Expr;

use super::annotation::line_and_column;
use super::error::Error;
pub(super) use depth::depth;
use token::{StringError, tokens, unquote};
pub(super) use token::{Token, TokenKind};

/// A parsed query with the tokens that its positions are found by.
pub(super) struct Parsed<'a> {
    pub(super) expr: Expr,
    pub(super) tokens: Vec<Token<'a>>,
}

/// Parses a query whose nesting has been bounded by [`depth()`].
pub(super) fn parse(query: &str) -> Result<Parsed<'_>, Error> {
    let tokens: Vec<_> = tokens(query).collect();
    let rewritten = rewrite(query, &tokens)?;
    let expr = promql_parser::parser::parse(&rewritten)
        .map_err(|message| Error::bad_data(format!("parse error: {message}")))?;
    Ok(Parsed { expr, tokens })
}

/// The text that the parser reads as Prometheus reads the query.
fn rewrite(query: &str, tokens: &[Token<'_>]) -> Result<String, Error> {
    let mut rewritten = String::with_capacity(query.len());
    let mut rest_at = 0;
    let mut in_brackets = false;
    let mut in_offset = false;
    let mut skipped_to = 0;
    let mut calls = Calls::default();
    for (index, token) in tokens.iter().enumerate() {
        if index < skipped_to {
            continue;
        }
        let begins = in_brackets && index > 0 && is_duration_start(tokens[index - 1].text);
        let folded = if begins {
            duration::in_brackets(query, &tokens[index..])?
        } else if index > 0 && is_offset(tokens[index - 1].text) {
            duration::after_offset(query, &tokens[index..])?
        } else {
            None
        };
        if let Some(folded) = folded {
            let last = tokens[index + folded.tokens - 1];
            rewritten.push_str(&format!(" {}ms", folded.milliseconds));
            rest_at = last.at + last.text.len();
            skipped_to = index + folded.tokens;
            in_offset = false;
            continue;
        }
        // What lies between tokens stays: the parser tells an `or` from a name by the space after.
        rewritten.push_str(query.get(rest_at..token.at).unwrap_or(" "));
        rest_at = token.at + token.text.len();
        match token.text {
            "[" => in_brackets = true,
            "]" => in_brackets = false,
            _ => {}
        }
        if is_zero_offset(tokens, index) {
            continue;
        }
        check_at_modifier(query, tokens, index)?;
        let is_called = tokens.get(index + 1).is_some_and(|next| next.text == "(");
        if is_called && token.text == "holt_winters" {
            // Its name until Prometheus 3.
            rewritten.push_str("double_exponential_smoothing");
        } else {
            rewritten.push_str(&rewrite_token(query, token, in_brackets || in_offset)?);
        }
        if calls.begins_labels_of_info(tokens, index) {
            rewritten.push_str(INFO_LABELS);
        }
        in_offset = is_offset(token.text) || (in_offset && is_sign(token.text));
    }
    Ok(rewritten)
}

/// What the second argument of `info` is given, so that the parser takes it for a selector also when
/// series without any of its labels pass.
const INFO_LABELS: &str = "__info__!=\"\",";

/// Whether a matcher is the one that [`INFO_LABELS`] is.
pub(super) fn is_info_mark(matcher: &crate::model::Matcher) -> bool {
    matcher.name == "__info__"
        && matcher.op == crate::model::MatchOp::NotEqual
        && matcher.value.is_empty()
}

/// The open parentheses, and whether each is that of a call of `info`.
#[derive(Default)]
struct Calls(Vec<bool>);

impl Calls {
    /// Whether a token opens the second argument of `info`; to be asked for every token in turn.
    fn begins_labels_of_info(&mut self, tokens: &[Token<'_>], index: usize) -> bool {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let before = before.map_or("", |token| token.text);
        match tokens[index].text {
            "(" => self.0.push(before == "info"),
            ")" => {
                self.0.pop();
            }
            "{" => return before == "," && self.0.last() == Some(&true),
            _ => {}
        }
        false
    }
}

fn is_duration_start(text: &str) -> bool {
    matches!(text, "[" | ":")
}

fn position(query: &str, at: usize) -> String {
    line_and_column(query, at)
}

fn is_offset(word: &str) -> bool {
    word.eq_ignore_ascii_case("offset")
}

fn is_sign(text: &str) -> bool {
    matches!(text, "+" | "-")
}

/// Refuses an `@` whose time no clock can show; the parser would take it for the last that one can.
fn check_at_modifier(query: &str, tokens: &[Token<'_>], index: usize) -> Result<(), Error> {
    const SECONDS_MAX: f64 = i64::MAX as f64;
    let before = |back: usize| index.checked_sub(back).and_then(|at| tokens.get(at));
    let has_sign = before(1).is_some_and(|token| is_sign(token.text));
    let is_time = before(1 + usize::from(has_sign)).is_some_and(|token| token.text == "@");
    let token = &tokens[index];
    let number = token.text.replace('_', "").parse::<f64>();
    match number {
        Ok(seconds) if is_time && (seconds.is_nan() || seconds >= SECONDS_MAX) => {
            Err(Error::bad_data(format!(
                "{}: parse error: timestamp out of bounds for @ modifier: {}",
                position(query, token.at),
                token.text
            )))
        }
        _ => Ok(()),
    }
}

fn is_zero_duration(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Number
        && (token.text == "0"
            || crate::model::unit::parse_duration(token.text).is_ok_and(|span| span.is_zero()))
}

/// Whether a token belongs to an `offset 0s`, which the parser refuses and which means nothing.
fn is_zero_offset(tokens: &[Token<'_>], index: usize) -> bool {
    // The offset is this token or one of the two before: `offset - 0s`.
    (index.saturating_sub(2)..=index).any(|start| {
        let Some((word, rest)) = tokens.get(start..).and_then(<[_]>::split_first) else {
            return false;
        };
        let sign = rest.first().is_some_and(|token| is_sign(token.text));
        let zero_at = start + 1 + usize::from(sign);
        start > 0
            && is_offset(word.text)
            && index <= zero_at
            && tokens.get(zero_at).is_some_and(is_zero_duration)
    })
}

/// A token as the parser has to see it.
fn rewrite_token<'a>(
    query: &str,
    token: &Token<'a>,
    is_duration: bool,
) -> Result<Cow<'a, str>, Error> {
    let at = || line_and_column(query, token.at);
    match token.kind {
        TokenKind::Text if token.text.contains(['\\', '`']) => {
            let text = unquote(token.text).map_err(|error| match error {
                // Prometheus takes any bytes here and refuses them where they are used.
                StringError::NotUtf8 => {
                    Error::execution(format!("{}: string is not valid UTF-8", at()))
                }
                StringError::Syntax => {
                    Error::bad_data(format!("{}: parse error: invalid string", at()))
                }
            })?;
            Ok(quoted(&text).into())
        }
        TokenKind::Number if is_duration => {
            let number = token.text.replace('_', "");
            if is_finite_duration(&number) {
                Ok(number.into())
            } else {
                Err(Error::bad_data(format!(
                    "{}: parse error: duration {:?} is out of range",
                    at(),
                    token.text
                )))
            }
        }
        TokenKind::Number if is_zero_duration(token) => Ok("0".into()),
        TokenKind::Number => Ok(token.text.replace('_', "").into()),
        TokenKind::Word if is_duration && is_not_finite(token.text) => Err(Error::bad_data(
            format!("{}: parse error: duration out of range", at()),
        )),
        _ => Ok(token.text.into()),
    }
}

fn is_not_finite(word: &str) -> bool {
    word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan")
}

/// Whether a duration, with units or a number of seconds, is one that every layer can hold.
fn is_finite_duration(text: &str) -> bool {
    const SECONDS_MAX: f64 = 1e13;
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite() && (0.0..SECONDS_MAX).contains(&seconds);
    }
    if text.starts_with("0x") || text.starts_with("0X") {
        return text.len() <= 12;
    }
    crate::model::unit::parse_duration(text).is_ok_and(|span| span.as_secs_f64() < SECONDS_MAX)
}

/// A string literal in the one form that the parser reads as Prometheus does.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(query: &str) -> String {
        match parse(query) {
            Ok(_) => panic!("{query} was parsed"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn durations_that_are_no_finite_number_are_refused() {
        for query in [
            "x[1e400]",
            "x[NaN]",
            "x[1e30]",
            "x[5m:inf]",
            "x offset 1e300",
            "x offset -inf",
            "x[99999999999999y]",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
        assert!(parse("x[300]").is_ok() && parse("x[1h30m:0x1F] offset -5").is_ok());
    }

    #[test]
    fn times_that_no_clock_can_show_are_refused() {
        for query in ["x @ 1e308", "x @ -1e19", "x[5m] @ inf", "x @ NaN"] {
            let error = refusal(query);
            assert!(error.contains("out of bounds for @ modifier"), "{error}");
        }
        assert!(parse("x @ 1700000000.5 + x @ -5 + 1e308").is_ok());
    }

    #[test]
    fn strings_are_read_as_prometheus_reads_them() {
        let text = |query: &str| match parse(query).map(|parsed| parsed.expr) {
            Ok(Expr::StringLiteral(literal)) => literal.val,
            other => panic!("{query}: {:?}", other.err()),
        };
        assert_eq!(text(r"`a\d+`"), r"a\d+");
        assert_eq!(text(r#""\xc3\xa9\u00e9\101\n""#), "ééA\n");
        assert_eq!(text(r"'it\'s'"), "it's");
        assert_eq!(refusal(r#""\xff""#), "1:1: string is not valid UTF-8");
        assert_eq!(refusal(r#"x + "\q""#), "1:5: parse error: invalid string");
    }

    #[test]
    fn an_offset_of_nothing_is_left_out() {
        for query in [
            "x offset 0s",
            "x offset -0s + 1",
            "rate(x[5m] offset 0)",
            "x offset +0h0m @ 5",
        ] {
            assert!(parse(query).is_ok(), "{query}");
        }
        assert!(parse("x[0s]").is_err());
        let zero = parse("0s").map(|parsed| parsed.expr);
        assert!(matches!(zero, Ok(Expr::NumberLiteral(number)) if number.val == 0.0));
    }

    #[test]
    fn digits_may_be_grouped() {
        let parsed = parse("1_000_000").map(|parsed| parsed.expr);
        assert!(matches!(parsed, Ok(Expr::NumberLiteral(number)) if number.val == 1e6));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(query in "\\PC{0,60}") {
            if depth(&query) < 30 {
                let _parsed = parse(&query).is_ok();
            }
        }

        #[test]
        fn pieces_of_the_language_never_panic(pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "x", "rate", "sum", "by", "(", ")", "[", "]", "{", "}", "5m", "1e9", "inf", "NaN",
                "offset", "@", "-", "+", "start()", ":", ",", "=~", "\"a\"", "0x", "bool", "==",
                "on", "group_left", "1e400", "fill", "topk", "^", "or", "'", "`", "\\", "#", "é",
            ]), 0..14)) {
            let query = pieces.join(" ");
            let _parsed = parse(&query).is_ok();
            let _parsed = parse(&pieces.concat()).is_ok();
        }
    }
}
