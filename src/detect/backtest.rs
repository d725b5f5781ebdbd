//! Recorded series under the default detector: rows of text in, rows with scores out.
//!
//! Every row is judged before the next is read, as it would have been at the time.

use std::io::{BufRead, Read, Write};

use thiserror::Error;

use super::calibrated::Calibrated;
use crate::model::Timestamp;

#[derive(Debug, Error)]
pub enum Error {
    #[error("line {line}: {reason}")]
    Row { line: usize, reason: String },
    #[error("line {line} cannot be read")]
    Read {
        line: usize,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Write(std::io::Error),
}

/// What the rows came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub rows: usize,
    /// Rows with a score above 1.
    pub anomalous: usize,
}

const HEADER: &str = "timestamp,value,anomaly_score,expected,lower,upper";

/// A longer line is none of ours.
const LINE_BYTES_MAX: u64 = 4096;

/// Scores the rows `timestamp,value` of a table, one row for each. A first row of names says where the
/// two columns are, if there are others. Times are Unix seconds, milliseconds (from 10^11 on) or
/// `YYYY-MM-DD hh:mm:ss` in UTC.
pub fn score(mut input: impl BufRead, mut output: impl Write) -> Result<Summary, Error> {
    let mut detector = Calibrated::default();
    let mut summary = Summary::default();
    let mut columns = Columns::default();
    let mut text = String::new();
    writeln!(output, "{HEADER}").map_err(Error::Write)?;
    for line in 1.. {
        if !read_line(&mut input, &mut text, line)? {
            break;
        }
        let row = text.trim_end_matches(['\n', '\r']);
        if row.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = row
            .split(',')
            .map(|field| field.trim().trim_matches('"'))
            .collect();
        if summary.rows == 0 && fields.contains(&"timestamp") {
            columns = Columns::of(&fields).ok_or_else(|| Error::Row {
                line,
                reason: "there is no column named \"value\"".to_owned(),
            })?;
            continue;
        }
        let (timestamp, value) = columns.pick(&fields).ok_or_else(|| Error::Row {
            line,
            reason: format!("expected timestamp,value, got {row:?}"),
        })?;
        let (at, number) = parse(timestamp, value).map_err(|reason| Error::Row { line, reason })?;
        let scored = detector.score(at, number);
        summary.rows += 1;
        summary.anomalous += usize::from(scored.score > 1.0);
        writeln!(
            output,
            "{timestamp},{value},{:.6},{},{},{}",
            scored.score, scored.expected, scored.lower, scored.upper
        )
        .map_err(Error::Write)?;
    }
    output.flush().map_err(Error::Write)?;
    Ok(summary)
}

/// Reads a line; `false` at the end.
fn read_line(input: &mut impl BufRead, text: &mut String, line: usize) -> Result<bool, Error> {
    text.clear();
    let read = input
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_line(text)
        .map_err(|source| Error::Read { line, source })?;
    if read as u64 == LINE_BYTES_MAX && !text.ends_with('\n') {
        let reason = format!("it is longer than {LINE_BYTES_MAX} bytes");
        return Err(Error::Row { line, reason });
    }
    Ok(read > 0)
}

/// Where timestamp and value are in a row.
#[derive(Clone, Copy)]
struct Columns {
    timestamp: usize,
    value: usize,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            timestamp: 0,
            value: 1,
        }
    }
}

impl Columns {
    fn of(names: &[&str]) -> Option<Self> {
        let find = |name| names.iter().position(|found| *found == name);
        Some(Self {
            timestamp: find("timestamp")?,
            value: find("value")?,
        })
    }

    fn pick<'a>(self, fields: &[&'a str]) -> Option<(&'a str, &'a str)> {
        Some((fields.get(self.timestamp)?, fields.get(self.value)?))
    }
}

fn parse(timestamp: &str, value: &str) -> Result<(Timestamp, f64), String> {
    let at = parse_time(timestamp).ok_or_else(|| {
        format!(
            "{timestamp:?} is no time: expected Unix seconds, milliseconds or YYYY-MM-DD hh:mm:ss"
        )
    })?;
    // A missing value is a gap, not an error.
    if value.is_empty() {
        return Ok((at, f64::NAN));
    }
    let number = value
        .parse()
        .map_err(|_error| format!("{value:?} is no number"))?;
    Ok((at, number))
}

/// Unix times from here on are in milliseconds: in seconds it would be the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number.abs() >= MILLISECONDS_FROM {
            number
        } else {
            number * 1e3
        };
        return (ms.abs() < 1e17).then(|| Timestamp::from_ms(ms.round() as i64));
    }
    let civil: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_ms(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(input: &str) -> Result<Vec<String>, String> {
        let mut output = Vec::new();
        score(input.as_bytes(), &mut output).map_err(|error| error.to_string())?;
        let text = String::from_utf8(output).unwrap();
        Ok(text.lines().map(str::to_owned).collect())
    }

    #[test]
    fn every_row_gets_its_scores_and_keeps_its_text() {
        let rows =
            scored("timestamp,value\n2014-04-01 00:00:00,20.0\n1396310700,21\n1396311000000,\n")
                .unwrap();
        assert_eq!(rows[0], HEADER);
        assert!(
            rows[1].starts_with("2014-04-01 00:00:00,20.0,0.000000,"),
            "{}",
            rows[1]
        );
        assert!(rows[2].starts_with("1396310700,21,"));
        assert!(rows[3].starts_with("1396311000000,,0.000000,"));
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn the_three_ways_to_write_a_time_mean_the_same() {
        let expected = Some(Timestamp::from_ms(1_396_310_700_000));
        for text in [
            "2014-04-01 00:05:00",
            "1396310700",
            "1396310700000",
            "2014-04-01T00:05:00Z",
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2014-13-01 00:00:00",
            "1e300",
            "nan",
            "inf",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn names_in_the_first_row_say_where_the_columns_are() {
        let rows = scored("label,value,timestamp\nx,3,60\n").unwrap();
        assert!(rows[1].starts_with("60,3,"));
        assert_eq!(
            scored("timestamp,count\n60,3\n").unwrap_err(),
            "line 1: there is no column named \"value\""
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        assert_eq!(
            scored("60,3\n120,x\n").unwrap_err(),
            "line 2: \"x\" is no number"
        );
        assert!(
            scored("60\n")
                .unwrap_err()
                .starts_with("line 1: expected timestamp,value")
        );
        let long = "1".repeat(5_000);
        assert_eq!(
            scored(&long).unwrap_err(),
            "line 1: it is longer than 4096 bytes"
        );
    }
}
