//! `printf` as Go has it: verbs, flags, width and precision, and its way of saying that a verb does not
//! fit its value.

use super::value::Value;
use super::{Error, float};

/// Go's own limit of a width and of a precision.
const WIDTH_MAX: usize = 1_000_000;
/// What of a width is of any use within the longest output.
const WIDTH_USED_MAX: usize = super::OUTPUT_BYTES_MAX;

/// One `%...`.
#[derive(Clone, Debug, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
    verb: char,
}

/// Go's `fmt.Sprintf`.
pub(super) fn sprintf(format: &str, args: &[Value<'_>]) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = format;
    let mut args_left = args.iter();
    while let Some((text, directive)) = rest.split_once('%') {
        out.push_str(text);
        let (spec, tail) = Spec::read(directive)?;
        rest = tail;
        match spec {
            None => out.push_str("%!(NOVERB)"),
            Some(spec) if spec.verb == '%' => out.push('%'),
            Some(spec) => match args_left.next() {
                None => out.push_str(&format!("%!{}(MISSING)", spec.verb)),
                Some(value) => out.push_str(&spec.apply(value)),
            },
        }
        if out.len() > super::OUTPUT_BYTES_MAX {
            return Err(Error::TooLong(super::OUTPUT_BYTES_MAX));
        }
    }
    out.push_str(rest);
    let extra: Vec<_> = args_left
        .map(|value| format!("{}={}", value.kind(), value.print()))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

impl Spec {
    /// What follows a `%`; no spec where nothing does.
    fn read(directive: &str) -> Result<(Option<Self>, &str), Error> {
        let mut spec = Self::default();
        let mut rest = directive;
        loop {
            let (flag, tail) = match rest.chars().next() {
                Some('+') => (&mut spec.plus, '+'),
                Some('-') => (&mut spec.minus, '-'),
                Some(' ') => (&mut spec.space, ' '),
                Some('0') => (&mut spec.zero, '0'),
                Some(flag @ ('#' | '*' | '[')) => {
                    return Err(Error::Unsupported(format!("%{flag}")));
                }
                _ => break,
            };
            *flag = true;
            rest = rest.strip_prefix(tail).unwrap_or("");
        }
        (spec.width, rest) = number(rest)?;
        if let Some(tail) = rest.strip_prefix('.') {
            let (precision, tail) = number(tail)?;
            spec.precision = Some(precision.unwrap_or(0));
            rest = tail;
        }
        // Zeros to the right would be other digits.
        spec.zero &= !spec.minus;
        let mut characters = rest.chars();
        Ok(match characters.next() {
            None => (None, ""),
            Some(flag @ ('*' | '[')) => return Err(Error::Unsupported(format!("%{flag}"))),
            Some(verb) => {
                spec.verb = verb;
                (Some(spec), characters.as_str())
            }
        })
    }

    fn apply(&self, value: &Value<'_>) -> String {
        let text = match (value, self.verb) {
            (Value::Text(text), 's' | 'v') => Some(self.pad(&self.cut(text))),
            (Value::Text(text), 'q') => Some(self.pad(&quote(&self.cut(text), '"'))),
            (Value::Text(text), 'x') => Some(self.pad(&self.hexadecimal(text))),
            (Value::Text(text), 'X') => Some(self.pad(&self.hexadecimal(text).to_uppercase())),
            (Value::Int(int), verb) => self.int(*int, verb),
            (Value::Float(value), verb) => self.float(*value, verb),
            (Value::Bool(bool), 't' | 'v') => Some(self.pad(&bool.to_string())),
            (Value::Labels(_), 'v' | 's') => Some(value.print()),
            _ => None,
        };
        text.unwrap_or_else(|| {
            let plain = Self {
                verb: 'v',
                ..self.clone()
            };
            format!("%!{}({}={})", self.verb, value.kind(), plain.apply(value))
        })
    }

    fn cut(&self, text: &str) -> String {
        text.chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect()
    }

    fn hexadecimal(&self, text: &str) -> String {
        let bytes = text.bytes().take(self.precision.unwrap_or(usize::MAX));
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    fn int(&self, int: i64, verb: char) -> Option<String> {
        let magnitude = int.unsigned_abs();
        let digits = match verb {
            'd' | 'v' => magnitude.to_string(),
            'x' => format!("{magnitude:x}"),
            'X' => format!("{magnitude:X}"),
            'o' => format!("{magnitude:o}"),
            'b' => format!("{magnitude:b}"),
            'c' | 'q' => {
                let character = u32::try_from(int)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or(char::REPLACEMENT_CHARACTER);
                let text = character.to_string();
                let text = if verb == 'q' {
                    quote(&text, '\'')
                } else {
                    text
                };
                return Some(self.pad(&text));
            }
            _ => return None,
        };
        let digits = match self.precision {
            Some(precision) => format!(
                "{digits:0>precision$}",
                precision = precision.min(WIDTH_USED_MAX)
            ),
            None => digits,
        };
        let zeros = self.zero && self.precision.is_none();
        Some(self.signed(int < 0, &digits, zeros))
    }

    fn float(&self, value: f64, verb: char) -> Option<String> {
        let lower = verb.to_ascii_lowercase();
        let text = match (verb, self.precision) {
            ('v', precision) => float::format(value, 'g', precision),
            ('e' | 'E' | 'f' | 'F', precision) => {
                float::format(value, lower, Some(precision.unwrap_or(6)))
            }
            ('g' | 'G' | 'x' | 'X', precision) => float::format(value, lower, precision),
            _ => return None,
        };
        let text = match verb {
            'E' | 'G' | 'X' if value.is_finite() => text.to_uppercase(),
            _ => text,
        };
        if value.is_nan() {
            let sign = match (self.plus, self.space) {
                (true, _) => "+",
                (false, true) => " ",
                (false, false) => "",
            };
            return Some(self.pad(&format!("{sign}{text}")));
        }
        if value.is_infinite() {
            let is_spaced = self.space && !self.plus && value > 0.0;
            return Some(self.pad(&if is_spaced {
                text.replace('+', " ")
            } else {
                text
            }));
        }
        let digits = text.strip_prefix('-');
        Some(self.signed(digits.is_some(), digits.unwrap_or(&text), self.zero))
    }

    /// Digits with their sign, filled up by zeros between the two or by spaces around them.
    fn signed(&self, is_negative: bool, digits: &str, zeros: bool) -> String {
        let sign = match (is_negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        if !zeros {
            return self.pad(&format!("{sign}{digits}"));
        }
        let width = self.width.unwrap_or(0).saturating_sub(sign.len());
        let width = width.min(WIDTH_USED_MAX);
        format!("{sign}{digits:0>width$}")
    }

    fn pad(&self, text: &str) -> String {
        let width = self.width.unwrap_or(0).min(WIDTH_USED_MAX);
        if self.minus {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        }
    }
}

fn number(rest: &str) -> Result<(Option<usize>, &str), Error> {
    let end = rest.find(|it: char| !it.is_ascii_digit());
    let (digits, tail) = rest.split_at(end.unwrap_or(rest.len()));
    if digits.is_empty() {
        return Ok((None, tail));
    }
    match digits.parse() {
        Ok(number) if number <= WIDTH_MAX => Ok((Some(number), tail)),
        _ => Err(Error::Syntax(format!("a width or precision of {digits}"))),
    }
}

/// Go's `strconv.Quote`.
fn quote(text: &str, mark: char) -> String {
    let mut quoted = String::from(mark);
    for character in text.chars() {
        match character {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            _ if character == mark => quoted.extend(['\\', mark]),
            _ if character.is_control() && character.is_ascii() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            _ if character.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push(mark);
    quoted
}
