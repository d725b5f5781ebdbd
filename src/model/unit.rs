//! Durations and quantities as people write and read them.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write it as in PromQL, such as 30s, 5m or 1h30m")]
pub struct BadDuration {
    pub text: String,
}

/// Units from the longest to the shortest, in milliseconds, as PromQL has them.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration as PromQL writes it: `1h30m`, each unit once, from the longest to the shortest;
/// `0` alone needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration {
        text: text.to_owned(),
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (name, tail) = tail.split_at(letters);
        let count: u64 = number.parse().ok().ok_or_else(bad)?;
        let (_, unit_ms) = units.find(|(unit, _)| *unit == name).ok_or_else(bad)?;
        total_ms = count
            .checked_mul(*unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(bad)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Ok(Duration::from_millis(total_ms))
    }
}

/// Writes a duration so that [`parse_duration`] reads the same; zero is `0s`.
pub fn format_duration(span: Duration) -> String {
    let mut rest_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        // Years and weeks only where nothing is left over: people read 400d better than 1y5w.
        let exact = matches!(unit, "y" | "w");
        if rest_ms >= unit_ms && (!exact || rest_ms.is_multiple_of(unit_ms)) {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    text
}

/// A span for a reader's eye: two units at most, `850ms`, `12s`, `3m20s`, `2h05m`, `4d3h`.
pub fn human_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A number for a reader's eye, three significant digits and an SI prefix: `1.23k`, `45.6M`.
pub fn human_number(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else {
            format!("{value:+}").replace("inf", "Inf")
        };
    }
    let magnitude = value.abs();
    let (scaled, prefix) = match magnitude {
        m if m >= 1e12 => (value / 1e12, "T"),
        m if m >= 1e9 => (value / 1e9, "G"),
        m if m >= 1e6 => (value / 1e6, "M"),
        m if m >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        s if s.fract() == 0.0 => 0,
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    format!("{scaled:.digits$}{prefix}")
}

/// Bytes with binary prefixes: `512 B`, `1.5 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const PREFIXES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut prefix = 0;
    while scaled >= 1024.0 && prefix + 1 < PREFIXES.len() {
        scaled /= 1024.0;
        prefix += 1;
    }
    if prefix == 0 {
        format!("{bytes} B")
    } else {
        format!("{scaled:.1} {}", PREFIXES[prefix])
    }
}

/// A duration in a configuration file: `#[serde(with = "unit::duration_text")]`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_promql() {
        let seconds = |text| parse_duration(text).map(|span| span.as_secs());
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("90d"), Ok(90 * 86_400));
        assert_eq!(parse_duration("1s500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("0"), Ok(0));
        for bad in [
            "",
            "5",
            "m",
            "5 m",
            "30m1h",
            "5m5m",
            "-5m",
            "1.5h",
            "99999999999999y",
        ] {
            assert_eq!(seconds(bad), Err(BadDuration { text: bad.into() }), "{bad}");
        }
    }

    #[test]
    fn a_written_duration_reads_the_same() {
        for ms in [
            0,
            1,
            999,
            1_500,
            60_000,
            5_400_000,
            90 * 86_400_000,
            31_536_000_000,
        ] {
            let span = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(span)), Ok(span), "{ms}");
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m");
    }

    #[test]
    fn numbers_fit_a_readers_eye() {
        assert_eq!(human_number(0.0), "0");
        assert_eq!(human_number(1234.0), "1234");
        assert_eq!(human_number(12_345.6), "12.3k");
        assert_eq!(human_number(-0.1234), "-0.123");
        assert_eq!(human_number(f64::NEG_INFINITY), "-Inf");
        assert_eq!(human_bytes(1_572_864), "1.5 MiB");
        assert_eq!(human_duration(Duration::from_secs(7500)), "2h05m");
    }
}
