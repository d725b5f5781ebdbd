//! Numbers for people, in the words of Prometheus' template functions.

use super::{Error, float};
use crate::model::Timestamp;

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

/// Four significant digits.
fn short(value: f64) -> String {
    float::format(value, 'g', Some(4))
}

/// Divides by `base` until the value is below it, as long as there is a prefix for it.
fn scaled_down(value: f64, base: f64, prefixes: [&'static str; 8]) -> (f64, &'static str) {
    let mut scaled = (value, "");
    for prefix in prefixes {
        if scaled.0.abs() < base {
            break;
        }
        scaled = (scaled.0 / base, prefix);
    }
    scaled
}

/// Multiplies by a thousand until the value is at least one.
fn scaled_up(value: f64) -> (f64, &'static str) {
    let mut scaled = (value, "");
    for prefix in SMALL {
        if scaled.0.abs() >= 1.0 {
            break;
        }
        scaled = (scaled.0 * 1000.0, prefix);
    }
    scaled
}

/// `1.235M`, `12.5m`.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return short(value);
    }
    let (scaled, prefix) = if value.abs() >= 1.0 {
        scaled_down(value, 1000.0, LARGE)
    } else {
        scaled_up(value)
    };
    short(scaled) + prefix
}

/// `1.178Mi`.
pub(super) fn binary(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return short(value);
    }
    let (scaled, prefix) = scaled_down(value, 1024.0, BINARY);
    short(scaled) + prefix
}

/// `1d 10h 17m 36s`, `899.9ms`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return short(seconds);
    }
    if seconds == 0.0 {
        return short(seconds) + "s";
    }
    if seconds.abs() < 1.0 {
        let (scaled, prefix) = scaled_up(seconds);
        return format!("{}{prefix}s", short(scaled));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = seconds.abs() as i64;
    let (days, hours) = (whole / 86_400, whole / 3_600 % 24);
    let (minutes, rest) = (whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", short(seconds.abs())),
        (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {rest}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
    }
}

/// `12.35%` of a ratio.
pub(super) fn percentage(ratio: f64) -> String {
    short(ratio * 100.0) + "%"
}

/// `2015-06-23 13:19:44.128 +0000 UTC` of seconds since 1970, as Go prints a time.
pub(super) fn timestamp(seconds: f64) -> Result<String, Error> {
    /// Beyond it Go's nanoseconds overflow.
    const SECONDS_MAX: f64 = 9_223_372_036.854_776;
    if !seconds.is_finite() {
        return Ok(short(seconds));
    }
    let time = (seconds.abs() < SECONDS_MAX)
        .then(|| Timestamp::from_ms((seconds * 1e9) as i64 / 1_000_000))
        .and_then(|at| jiff::Timestamp::from_millisecond(at.ms()).ok());
    let Some(time) = time else {
        let value = float::format(seconds, 'g', None);
        return Err(Error::Values(format!("{value} is not a time")));
    };
    let text = time.to_string();
    Ok(text.trim_end_matches('Z').replace('T', " ") + " +0000 UTC")
}
