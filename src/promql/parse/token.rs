//! Tokens of a query, and what its string literals mean.

/// One token: its text lies in the query from byte `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::promql) struct Token<'a> {
    pub(in crate::promql) kind: TokenKind,
    pub(in crate::promql) text: &'a str,
    pub(in crate::promql) at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::promql) enum TokenKind {
    /// A name or keyword.
    Word,
    /// A number or a duration.
    Number,
    /// A string literal with its quotes.
    Text,
    Operator,
    /// Brackets, commas and whatever else.
    Mark,
}

/// Cuts a query into tokens, leaving out space and comments. Never fails: what is no token of the
/// language comes as a mark or word for the parser to refuse.
pub(super) fn tokens(query: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = query;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|character: char| character.is_ascii_whitespace());
            match rest.strip_prefix('#') {
                Some(comment) => {
                    let end = comment.find(['\r', '\n']).unwrap_or(comment.len());
                    rest = comment.split_at(end).1;
                }
                None => break,
            }
        }
        let first = rest.chars().next()?;
        let (kind, len) = measure(rest, first);
        let at = query.len() - rest.len();
        let (text, tail) = rest.split_at(len);
        rest = tail;
        Some(Token { kind, text, at })
    })
}

/// The kind and the length in bytes of the token that `rest` begins with.
fn measure(rest: &str, first: char) -> (TokenKind, usize) {
    let second = rest.chars().nth(1);
    match first {
        '"' | '\'' | '`' => (TokenKind::Text, string_len(rest, first)),
        '0'..='9' => (TokenKind::Number, number_len(rest)),
        '.' if second.is_some_and(|digit| digit.is_ascii_digit()) => {
            (TokenKind::Number, number_len(rest))
        }
        '=' | '!' if second == Some('~') => (TokenKind::Mark, 2),
        '=' | '!' | '<' | '>' if second == Some('=') => (TokenKind::Operator, 2),
        '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' => (TokenKind::Operator, 1),
        ':' if second.is_some_and(is_word) => (TokenKind::Word, word_len(rest)),
        _ if is_word(first) => (TokenKind::Word, word_len(rest)),
        other => (TokenKind::Mark, other.len_utf8()),
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

fn word_len(rest: &str) -> usize {
    rest.find(|character: char| {
        !(is_word(character) || character.is_ascii_digit() || character == ':')
    })
    .unwrap_or(rest.len())
}

fn string_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if character == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Digits, units and exponents; a sign only right after the exponent of a decimal number.
fn number_len(rest: &str) -> usize {
    let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
    let mut previous = '0';
    for (at, character) in rest.char_indices() {
        let is_exponent_sign =
            !is_hex && matches!(character, '+' | '-') && matches!(previous, 'e' | 'E');
        if !(character.is_ascii_alphanumeric()
            || matches!(character, '.' | '_')
            || is_exponent_sign)
        {
            return at;
        }
        previous = character;
    }
    rest.len()
}

/// Why a string literal has no meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StringError {
    Syntax,
    NotUtf8,
}

/// The meaning of a string literal by Go's rules, which are Prometheus': raw between backquotes,
/// else with escapes, of which `\x` and octal ones stand for bytes.
pub(super) fn unquote(literal: &str) -> Result<String, StringError> {
    let mut characters = literal.chars();
    let quote = characters.next().ok_or(StringError::Syntax)?;
    if characters.next_back() != Some(quote) {
        return Err(StringError::Syntax);
    }
    if quote == '`' {
        return Ok(characters.collect());
    }
    let mut bytes = Vec::with_capacity(literal.len());
    let push = |bytes: &mut Vec<u8>, character: char| {
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    };
    while let Some(character) = characters.next() {
        if character == '\n' {
            return Err(StringError::Syntax);
        }
        if character != '\\' {
            push(&mut bytes, character);
            continue;
        }
        match characters.next().ok_or(StringError::Syntax)? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            'x' => bytes.push(code(&mut characters, 0, 2, 16)? as u8),
            'u' => push(&mut bytes, character_of(code(&mut characters, 0, 4, 16)?)?),
            'U' => push(&mut bytes, character_of(code(&mut characters, 0, 8, 16)?)?),
            digit @ '0'..='7' => {
                let first = digit.to_digit(8).ok_or(StringError::Syntax)?;
                let byte = code(&mut characters, first, 2, 8)?;
                bytes.push(u8::try_from(byte).ok().ok_or(StringError::Syntax)?);
            }
            other if other == quote => push(&mut bytes, quote),
            _ => return Err(StringError::Syntax),
        }
    }
    String::from_utf8(bytes).ok().ok_or(StringError::NotUtf8)
}

/// The next `digits` digits as a number that begins with `first`.
fn code(
    characters: &mut std::str::Chars<'_>,
    first: u32,
    digits: usize,
    radix: u32,
) -> Result<u32, StringError> {
    let mut code = first;
    for _ in 0..digits {
        let digit = characters.next().and_then(|digit| digit.to_digit(radix));
        code = code
            .checked_mul(radix)
            .zip(digit)
            .and_then(|(shifted, digit)| shifted.checked_add(digit))
            .ok_or(StringError::Syntax)?;
    }
    Ok(code)
}

fn character_of(code: u32) -> Result<char, StringError> {
    char::from_u32(code).ok_or(StringError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(query: &str) -> Vec<&str> {
        tokens(query).map(|token| token.text).collect()
    }

    #[test]
    fn a_query_is_cut_into_its_tokens() {
        assert_eq!(
            texts("rate(a:b{c=~\"d\\\"e\"}[5m:1m] offset -1h)>=2e-3+.5"),
            [
                "rate",
                "(",
                "a:b",
                "{",
                "c",
                "=~",
                "\"d\\\"e\"",
                "}",
                "[",
                "5m",
                ":",
                "1m",
                "]",
                "offset",
                "-",
                "1h",
                ")",
                ">=",
                "2e-3",
                "+",
                ".5"
            ]
        );
    }

    #[test]
    fn comments_and_space_are_left_out() {
        assert_eq!(texts("x # y\n + # z"), ["x", "+"]);
        assert_eq!(tokens("x # y\n + z").last().map(|token| token.at), Some(9));
    }

    #[test]
    fn a_string_without_end_is_a_token_to_the_end() {
        assert_eq!(texts("x{a=\"b}"), ["x", "{", "a", "=", "\"b}"]);
        assert_eq!(unquote("\"b}"), Err(StringError::Syntax));
        assert_eq!(unquote("\""), Err(StringError::Syntax));
    }
}
