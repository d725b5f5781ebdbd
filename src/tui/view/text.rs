//! Texts as they stand on the screen: cut to a width, padded, numbers with their units.
//!
//! Widths are columns of a terminal, not characters. What comes from outside may hold anything; after
//! [`clean`] it holds nothing that a terminal would obey.

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::style::Style;
use ratatui::text::Span;

use crate::model::Timestamp;
use crate::model::unit::{human_duration, human_number};

/// What stands for a value that is not known.
pub const UNKNOWN: &str = "-";

pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Control characters made visible as a dot, so that no label moves the cursor.
pub fn clean(text: &str) -> String {
    let visible = |character: char| {
        if character.is_control() {
            '·'
        } else {
            character
        }
    };
    text.chars().map(visible).collect()
}

/// The text in at most `room` columns, an ellipsis in its middle when it had to be cut: the ends of a
/// long name tell more than its middle.
pub fn truncate_middle(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let Some(kept) = room.checked_sub(1) else {
        return String::new();
    };
    let span = Span::raw(text);
    let graphemes: Vec<(&str, usize)> = span
        .styled_graphemes(Style::new())
        .map(|grapheme| (grapheme.symbol, width(grapheme.symbol)))
        .collect();
    let fitting = |graphemes: &mut dyn Iterator<Item = &(&str, usize)>, room: usize| {
        let mut used = 0;
        let fits = graphemes.take_while(|(_, columns)| {
            used += columns;
            used <= room
        });
        fits.count()
    };
    let head = fitting(&mut graphemes.iter(), kept.div_ceil(2));
    let tail = fitting(&mut graphemes.iter().rev(), kept / 2);
    let part = |graphemes: &[(&str, usize)]| -> String {
        graphemes.iter().map(|(symbol, _)| *symbol).collect()
    };
    format!(
        "{}…{}",
        part(&graphemes[..head]),
        part(&graphemes[graphemes.len() - tail..])
    )
}

/// The text in at most `room` columns, cut at its end.
pub fn truncate_end(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let Some(kept) = room.checked_sub(1) else {
        return String::new();
    };
    let mut cut = String::new();
    let mut used = 0;
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        used += width(grapheme.symbol);
        if used > kept {
            break;
        }
        cut.push_str(grapheme.symbol);
    }
    cut.push('…');
    cut
}

/// The text broken into lines of at most `room` columns, at spaces where there are any.
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if width(&line) >= room.max(1) {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Three significant digits without trailing zeros: `0.5`, `12.3k`, `1.00e20`.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-3..1e15).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    // Without the addition an empty sum would be -0.
    let text = human_number(value + 0.0);
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    match text.strip_prefix(digits) {
        Some(prefix) if digits.contains('.') => {
            let short = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{short}{prefix}")
        }
        _ => text,
    }
}

/// A number that may not be known.
pub fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), number)
}

/// Seconds for a reader's eye: `0s`, `250ms`, `3.2s`, `42s`, `1m15s`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    if value < 0.0 {
        return format!("-{}", seconds(-value));
    }
    match value {
        v if v < 0.000_5 => "0s".to_owned(),
        v if v < 0.999_5 => format!("{:.0}ms", v * 1e3),
        v if v < 9.95 => format!("{v:.1}s").replace(".0s", "s"),
        v => human_duration(Duration::try_from_secs_f64(v.round()).unwrap_or(Duration::MAX)),
    }
}

/// A time that has passed, in whole seconds: nothing about it is finer than the polls it comes from.
pub fn elapsed(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        "0s".to_owned()
    } else {
        human_duration(span)
    }
}

/// An age that may not be known.
pub fn age(value: Option<f64>) -> String {
    let span = value.and_then(|value| Duration::try_from_secs_f64(value).ok());
    span.map_or_else(|| UNKNOWN.to_owned(), elapsed)
}

/// A span of time as one writes it in a query: `15m`, `6h`.
pub fn span(span: Duration) -> String {
    crate::model::unit::format_duration(span)
}

/// 0 to 1 as a percentage that says 100 % only when it is.
pub fn percent(share: f64) -> String {
    let tenths = (share * 1000.0).floor() / 10.0;
    if tenths >= 100.0 {
        "100%".to_owned()
    } else {
        format!("{:.1}%", tenths.max(0.0))
    }
}

/// The text at the right end of `room` columns.
pub fn pad_left(text: &str, room: usize) -> String {
    format!("{}{text}", " ".repeat(room.saturating_sub(width(text))))
}

/// A time in a zone, written by a strftime pattern; the bare number outside the calendar's years.
pub fn time(at: Timestamp, zone: &TimeZone, pattern: &str) -> String {
    match jiff::Timestamp::from_millisecond(at.ms()) {
        Ok(timestamp) => timestamp
            .to_zoned(zone.clone())
            .strftime(pattern)
            .to_string(),
        Err(_) => format!("{} ms", at.ms()),
    }
}

/// The time of day, with the date before it when it is not the day of `now`.
pub fn moment(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let day = |at| time(at, zone, "%Y-%m-%d");
    let pattern = if day(at) == day(now) {
        "%H:%M:%S"
    } else {
        "%m-%d %H:%M"
    };
    time(at, zone, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_ends() {
        assert_eq!(truncate_middle("orders", 6), "orders");
        assert_eq!(truncate_middle("public.order_lines", 9), "publ…ines");
        assert_eq!(truncate_middle("abc", 0), "");
        assert_eq!(truncate_middle("abc", 1), "…");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        let cut = truncate_middle("注文テーブル", 7);
        assert_eq!((cut.as_str(), width(&cut)), ("注…ル", 5));
        assert_eq!(truncate_end("注文テーブル", 6), "注文…");
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(clean("a\u{1b}[2J\nb"), "a·[2J·b");
    }

    #[test]
    fn numbers_and_seconds_drop_what_says_nothing() {
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(-0.0), "0");
        assert_eq!(number(12_000.0), "12k");
        assert_eq!(number(-0.000_1), "-1.00e-4");
        assert_eq!(number(f64::MAX), "1.80e308");
        assert_eq!(seconds(0.25), "250ms");
        assert_eq!(seconds(0.999_9), "1s");
        assert_eq!(seconds(3.24), "3.2s");
        assert_eq!(seconds(9.96), "10s");
        assert_eq!(seconds(75.4), "1m15s");
        assert_eq!(seconds(f64::INFINITY), "+Inf");
        assert_eq!(age(Some(0.4)), "0s");
    }

    #[test]
    fn nearly_done_is_not_done() {
        assert_eq!(percent(0.999_99), "99.9%");
        assert_eq!(percent(1.0), "100%");
    }

    #[test]
    fn wrapping_breaks_words_only_when_it_must() {
        assert_eq!(wrap("aa bbb cccccccc", 6), ["aa bbb", "cccccc", "cc"]);
        assert_eq!(wrap("  ", 6), Vec::<String>::new());
    }
}
