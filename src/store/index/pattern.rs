//! What a regular expression says about its matches without being run.

/// What every match looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Exactly one of these.
    Alternatives(Vec<String>),
    /// Begins with this, which may be empty; whether it matches, the expression has to tell.
    Prefix(String),
}

impl Shape {
    pub(super) fn of(pattern: &str) -> Self {
        let inner = grouped(pattern).unwrap_or(pattern);
        if let Some(alternatives) = alternatives(inner) {
            return Self::Alternatives(alternatives);
        }
        Self::Prefix(prefix(pattern))
    }
}

/// What a group around the whole pattern holds, when it is a plain group without another one in it.
fn grouped(pattern: &str) -> Option<&str> {
    let inner = pattern.strip_prefix('(')?.strip_suffix(')')?;
    let inner = inner.strip_prefix("?:").unwrap_or(inner);
    // `(a\)` is no group, and `(?i)..` is none that stands for itself.
    (!inner.contains(['(', ')']) && !inner.starts_with('?') && !inner.ends_with('\\'))
        .then_some(inner)
}

/// The pattern as literals between bars; `None` when it is more than that.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '|' => {
                all.push(String::new());
                continue;
            }
            '\\' => escaped(characters.next())?,
            other if is_special(other) => return None,
            other => other,
        };
        all.last_mut().expect("it begins with one").push(literal);
    }
    Some(all)
}

/// The literal that every match begins with.
fn prefix(pattern: &str) -> String {
    let mut prefix = String::new();
    if has_outer_bar(pattern) {
        return prefix;
    }
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let literal = match character {
            '\\' => match escaped(characters.next()) {
                Some(literal) => literal,
                None => break,
            },
            other if is_special(other) => break,
            other => other,
        };
        // The literal may be repeated no times.
        if matches!(characters.peek(), Some('*' | '?' | '{')) {
            break;
        }
        prefix.push(literal);
    }
    prefix
}

/// Whether a bar may lie outside all groups; yes when in doubt.
fn has_outer_bar(pattern: &str) -> bool {
    let mut depth = 0u32;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            // Brackets may hold parentheses that are none.
            '[' => return pattern.contains('|'),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// The literal that a backslash makes of a character; letters and digits mean something else, and so
/// do the angles, which are bounds of words.
fn escaped(character: Option<char>) -> Option<char> {
    character.filter(|other| other.is_ascii_punctuation() && !matches!(other, '<' | '>'))
}

fn is_special(character: char) -> bool {
    matches!(
        character,
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternatives_of(pattern: &str) -> Vec<String> {
        match Shape::of(pattern) {
            Shape::Alternatives(all) => all,
            Shape::Prefix(prefix) => panic!("{pattern} has the prefix {prefix:?}"),
        }
    }

    fn prefix_of(pattern: &str) -> String {
        match Shape::of(pattern) {
            Shape::Prefix(prefix) => prefix,
            Shape::Alternatives(all) => panic!("{pattern} is one of {all:?}"),
        }
    }

    #[test]
    fn literals_between_bars_are_alternatives() {
        assert_eq!(alternatives_of("a|b-c|d"), ["a", "b-c", "d"]);
        assert_eq!(alternatives_of("(a|b)"), ["a", "b"]);
        assert_eq!(alternatives_of("(?:a|b)"), ["a", "b"]);
        assert_eq!(alternatives_of(r"10\.0\.0\.1|x"), ["10.0.0.1", "x"]);
        assert_eq!(alternatives_of(""), [""]);
        assert_eq!(alternatives_of("a|"), ["a", ""]);
    }

    #[test]
    fn what_every_match_begins_with_is_found() {
        assert_eq!(prefix_of("svc-7.*"), "svc-7");
        assert_eq!(prefix_of("svc-(a|b).*"), "svc-");
        assert_eq!(prefix_of("ab*c"), "a");
        assert_eq!(prefix_of("ab?c"), "a");
        assert_eq!(prefix_of("ab{0,2}c"), "a");
        assert_eq!(prefix_of("ab+c"), "ab");
        assert_eq!(prefix_of(r"a\.b\d"), "a.b");
    }

    #[test]
    fn nothing_is_claimed_in_doubt() {
        assert_eq!(prefix_of("abc|d.*"), "");
        assert_eq!(prefix_of("(?i)abc"), "");
        assert_eq!(prefix_of("(a)|(b)"), "");
        assert_eq!(prefix_of("ab[(]|x"), "");
        assert_eq!(prefix_of(r"(a|b\)"), "");
        assert_eq!(prefix_of(".*a"), "");
        assert_eq!(prefix_of("^a"), "");
        assert_eq!(prefix_of(r"a\<b"), "a");
    }
}
