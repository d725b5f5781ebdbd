//! Reads scripts in the form of Prometheus' `promqltest`: load series, evaluate, compare.

use cutover::model::{Labels, METRIC_NAME, STALE_NAN};

/// One command of a script.
pub(super) enum Command {
    Load(Vec<Series>),
    Clear,
    Eval(Box<Eval>),
}

/// A series to load, its values by time in milliseconds.
pub(super) struct Series {
    pub labels: Labels,
    pub samples: Vec<(i64, f64)>,
}

/// A query with what it should answer.
pub(super) struct Eval {
    pub line: usize,
    pub query: String,
    pub when: When,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Instant(i64),
    Range {
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    },
}

#[derive(Default)]
pub(super) struct Expect {
    pub fail: Option<Text>,
    pub warn: Option<Text>,
    pub info: Option<Text>,
    pub no_warn: bool,
    pub no_info: bool,
    pub ordered: bool,
    pub string: Option<String>,
    /// One value for each step.
    pub rows: Vec<(Labels, Vec<Option<f64>>)>,
    pub scalar: Option<f64>,
}

/// What a message has to be.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Any,
    Exactly(String),
    Matching(String),
}

impl Text {
    fn parse(rest: &str) -> Self {
        let rest = rest.trim();
        if let Some(text) = rest.strip_prefix("msg:") {
            Self::Exactly(text.trim().to_owned())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Self::Matching(pattern.trim().to_owned())
        } else {
            Self::Any
        }
    }

    pub(super) fn accepts(&self, message: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(text) => message == text,
            Self::Matching(pattern) => regex::Regex::new(pattern)
                .expect("a script's pattern compiles")
                .is_match(message),
        }
    }
}

/// Reads a whole script; a line that is not understood is a fault of the script.
pub(super) fn parse(script: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = script
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.starts_with('#'))
        .peekable();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut body = Vec::new();
        while let Some((_, next)) = lines.next_if(|(_, next)| !next.is_empty() && !starts(next)) {
            body.push(next);
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        commands.push(match word {
            "clear" => Command::Clear,
            "load" | "load_with_nhcb" => Command::Load(load(duration(rest.trim()), &body)),
            _ if word.starts_with("eval") => {
                Command::Eval(Box::new(eval(number, word, rest, &body)))
            }
            _ => panic!("line {number}: no command: {line}"),
        });
    }
    commands
}

fn starts(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    matches!(
        word,
        "clear"
            | "load"
            | "load_with_nhcb"
            | "eval"
            | "eval_fail"
            | "eval_warn"
            | "eval_info"
            | "eval_ordered"
    )
}

fn eval(line: usize, word: &str, rest: &str, body: &[&str]) -> Eval {
    let mut expect = Expect {
        ordered: word == "eval_ordered",
        fail: (word == "eval_fail").then_some(Text::Any),
        warn: (word == "eval_warn").then_some(Text::Any),
        info: (word == "eval_info").then_some(Text::Any),
        ..Expect::default()
    };
    let mut rest = rest;
    let mut next = || {
        let (word, tail) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .unwrap_or((rest, ""));
        rest = tail;
        word
    };
    let when = match next() {
        "instant" => {
            assert_eq!(next(), "at", "line {line}");
            When::Instant(duration(next()))
        }
        "range" => {
            let mut named = |name| {
                assert_eq!(next(), name, "line {line}");
                duration(next())
            };
            When::Range {
                start_ms: named("from"),
                end_ms: named("to"),
                step_ms: named("step"),
            }
        }
        other => panic!("line {line}: neither instant nor range: {other}"),
    };
    let query = rest.trim().to_owned();
    for row in body {
        if let Some(what) = row.strip_prefix("expect ") {
            expectation(&mut expect, line, what.trim());
        } else if let Some(message) = row
            .strip_prefix("expected_fail_message ")
            .map(|text| text.trim().to_owned())
        {
            expect.fail = Some(Text::Exactly(message));
        } else if let Ok(scalar) = row.parse() {
            expect.scalar = Some(scalar);
        } else {
            let (labels, values) = series(row);
            let values = expand(values).into_iter().map(|value| match value {
                Notation::Value(value) => Some(value),
                Notation::Gap => None,
            });
            expect.rows.push((labels, values.collect()));
        }
    }
    Eval {
        line,
        query,
        when,
        expect,
    }
}

fn expectation(expect: &mut Expect, line: usize, what: &str) {
    let (word, rest) = what.split_once(char::is_whitespace).unwrap_or((what, ""));
    match word {
        "fail" => expect.fail = Some(Text::parse(rest)),
        "warn" => expect.warn = Some(Text::parse(rest)),
        "info" => expect.info = Some(Text::parse(rest)),
        "no_warn" => expect.no_warn = true,
        "no_info" => expect.no_info = true,
        "ordered" => expect.ordered = true,
        "string" => {
            let text = rest.trim();
            let quoted = text.get(1..text.len().saturating_sub(1));
            expect.string = quoted.map(str::to_owned);
        }
        _ => panic!("line {line}: no expectation: {what}"),
    }
}

/// The series of a load; of two with the same labels the later stands.
fn load(step_ms: i64, body: &[&str]) -> Vec<Series> {
    let mut loaded: Vec<Series> = Vec::new();
    for row in body {
        let (labels, values) = series(row);
        let samples = expand(values)
            .into_iter()
            .enumerate()
            .filter_map(|(index, value)| match value {
                Notation::Value(value) => Some((index as i64 * step_ms, value)),
                Notation::Gap => None,
            })
            .collect();
        loaded.retain(|series| series.labels != labels);
        loaded.push(Series { labels, samples });
    }
    loaded
}

/// Milliseconds; a bare number is seconds.
fn duration(text: &str) -> i64 {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let span_ms = match text.parse::<f64>() {
        Ok(seconds) => (seconds * 1e3).round() as i64,
        Err(_) => cutover::model::unit::parse_duration(text)
            .unwrap_or_else(|error| panic!("{error}"))
            .as_millis() as i64,
    };
    sign * span_ms
}

/// Parts `name{label="value"} values`.
fn series(row: &str) -> (Labels, &str) {
    let name_end = row
        .find(|character: char| character == '{' || character.is_whitespace())
        .unwrap_or(row.len());
    let (name, mut rest) = row.split_at(name_end);
    let mut pairs = Vec::new();
    if !name.is_empty() {
        pairs.push((METRIC_NAME.to_owned(), name.to_owned()));
    }
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if let Some(values) = rest.strip_prefix('}') {
                rest = values;
                break;
            }
            let key;
            (key, rest) = if let Some(quoted) = rest.strip_prefix('"') {
                text(quoted)
            } else {
                let end = rest
                    .find(['=', ' '])
                    .unwrap_or_else(|| panic!("no label in {row}"));
                let (key, tail) = rest.split_at(end);
                (key.to_owned(), tail)
            };
            rest = rest.trim_start();
            let Some(value) = rest.strip_prefix('=') else {
                // A quoted name alone is the metric's.
                pairs.push((METRIC_NAME.to_owned(), key));
                continue;
            };
            let value = value.trim_start();
            let value = value
                .strip_prefix('"')
                .unwrap_or_else(|| panic!("no quoted value in {row}"));
            let value_text;
            (value_text, rest) = text(value);
            pairs.push((key, value_text));
        }
    }
    let labels = Labels::try_from_pairs(pairs).unwrap_or_else(|error| panic!("{row}: {error}"));
    (labels, rest.trim())
}

/// A quoted text up to its closing quote, and what follows.
fn text(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => break,
            },
            other => text.push(other),
        }
    }
    (text, characters.as_str())
}

enum Notation {
    Value(f64),
    Gap,
}

/// Expands `1 2+3x4 _ stale`. Native histograms, which are not stored, leave gaps.
fn expand(values: &str) -> Vec<Notation> {
    let mut expanded = Vec::new();
    let mut rest = values.trim();
    while !rest.is_empty() {
        let (token, tail) = rest.split_at(token_len(rest));
        rest = tail.trim_start();
        if token.starts_with("{{") {
            let times = token
                .rsplit_once("}}x")
                .and_then(|(_, times)| times.parse::<usize>().ok());
            expanded.extend((0..=times.unwrap_or(0)).map(|_| Notation::Gap));
        } else {
            expand_token(token, &mut expanded);
        }
    }
    expanded
}

/// Up to the next space outside of braces.
fn token_len(text: &str) -> usize {
    let mut open = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' => open -= 1,
            _ if open == 0 && character.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

fn expand_token(token: &str, expanded: &mut Vec<Notation>) {
    let number = |text: &str| -> f64 {
        match text {
            "stale" => STALE_NAN,
            _ => text.parse().unwrap_or_else(|_| panic!("no value: {token}")),
        }
    };
    if token == "_" {
        expanded.push(Notation::Gap);
        return;
    }
    let Some((pattern, times)) = token.rsplit_once('x') else {
        expanded.push(Notation::Value(number(token)));
        return;
    };
    let times: usize = times
        .parse()
        .unwrap_or_else(|_| panic!("no count: {token}"));
    if pattern == "_" {
        expanded.extend((0..times).map(|_| Notation::Gap));
        return;
    }
    // The sign between start and slope is neither the first character nor an exponent's.
    let (start, slope) = pattern
        .char_indices()
        .skip(1)
        .filter(|(_, sign)| matches!(sign, '+' | '-'))
        .map(|(at, _)| pattern.split_at(at))
        .find(|(start, _)| !start.ends_with(['e', 'E']))
        .map_or_else(
            || (number(pattern), 0.0),
            |(start, slope)| (number(start), number(slope)),
        );
    let mut value = start;
    for _ in 0..=times {
        expanded.push(Notation::Value(value));
        value += slope;
    }
}

mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let show = |value: &Notation| match value {
            Notation::Value(value) if cutover::model::is_stale(*value) => "stale".to_owned(),
            Notation::Value(value) => value.to_string(),
            Notation::Gap => "_".to_owned(),
        };
        expand(text).iter().map(show).collect()
    }

    #[test]
    fn series_notation_is_expanded() {
        assert_eq!(
            values("1 _ 2x2 _x2 stale"),
            ["1", "_", "2", "2", "2", "_", "_", "stale"]
        );
        assert_eq!(
            values("0+10x2 -2-1x1 1e-3x1"),
            ["0", "10", "20", "-2", "-3", "0.001", "0.001"]
        );
        assert_eq!(values("{{schema:0 sum:1 count:1}}x1 5"), ["_", "_", "5"]);
        assert_eq!(values("{{sum:1}}+{{sum:2}}x2"), ["_", "_", "_"]);
    }

    #[test]
    fn a_script_is_read_command_by_command() {
        let commands = parse(
            "load 5m\n  m{a=\"b c\",d=\"\\\"\"} 1+1x1\n\n# remark\neval range from 0 to 10m step 5m m\n  expect no_warn\n  {a=\"b\"} 1 _ 3\n\neval_fail instant at 1h m\nclear\n",
        );
        let [
            Command::Load(series),
            Command::Eval(range),
            Command::Eval(fail),
            Command::Clear,
        ] = commands.as_slice()
        else {
            panic!("four commands");
        };
        assert_eq!(series[0].labels.to_string(), "m{a=\"b c\",d=\"\\\"\"}");
        assert_eq!(series[0].samples, [(0, 1.0), (300_000, 2.0)]);
        assert_eq!((range.query.as_str(), range.line), ("m", 5));
        assert!(range.expect.no_warn);
        assert_eq!(range.expect.rows[0].1, [Some(1.0), None, Some(3.0)]);
        assert!(fail.expect.fail.is_some());
        assert!(matches!(fail.when, When::Instant(3_600_000)));
    }
}
