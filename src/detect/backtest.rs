//! Recorded series under the default detector: rows of text in, rows with scores out.
//!
//! Every row is judged before the next is read, as it would have been at the time, and written before
//! anything is waited for, so that it works on a pipe. Bounded: a row at a time.

use std::io::{BufRead, BufReader, Read, Write};

use thiserror::Error;

use super::calibrated::{Calibrated, Scored};
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

const HEADER: &str = "timestamp,value,anomaly_score,expected,lower,upper";

/// A longer line is none of ours.
const LINE_BYTES_MAX: u64 = 4_096;

/// Scores the rows `timestamp,value` of a table, one row for each.
///
/// A first row of names says where the two columns are, if there are others. Times are Unix seconds,
/// milliseconds (from 10^11 on) or `YYYY-MM-DD hh:mm:ss` in UTC; an empty value or `NaN` is a missing
/// one. The texts of both are written as they came.
pub fn score(input: impl Read, mut output: impl Write) -> Result<(), Error> {
    let mut input = BufReader::new(input);
    let mut detector = Calibrated::default();
    let mut columns = None;
    let mut text = String::new();
    writeln!(output, "{HEADER}").map_err(Error::Write)?;
    for line in 1.. {
        if input.buffer().is_empty() {
            output.flush().map_err(Error::Write)?;
        }
        if !read_line(&mut input, &mut text, line)? {
            break;
        }
        let row = text.trim_end_matches(['\n', '\r']);
        if row.trim().is_empty() {
            continue;
        }
        let wrong = |reason| Error::Row { line, reason };
        let fields: Vec<&str> = row.split(',').collect();
        let columns = if let Some(columns) = columns {
            columns
        } else {
            let first = Columns::of_first(&fields).map_err(wrong)?;
            columns = Some(first.columns);
            if first.is_header {
                continue;
            }
            first.columns
        };
        let (timestamp, value) = columns
            .pick(&fields)
            .ok_or_else(|| wrong(format!("expected timestamp,value, got {row:?}")))?;
        let at = parse_time(timestamp).map_err(wrong)?;
        let number = parse_value(value).map_err(wrong)?;
        let Scored { score, expectation } = detector.score(at, number);
        writeln!(
            output,
            "{timestamp},{value},{score:.6},{},{},{}",
            expectation.expected, expectation.lower, expectation.upper
        )
        .map_err(Error::Write)?;
    }
    output.flush().map_err(Error::Write)
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
    if line == 1
        && let Some(rest) = text.strip_prefix('\u{feff}')
    {
        *text = rest.to_owned();
    }
    Ok(read > 0)
}

/// Where timestamp and value are in a row.
#[derive(Clone, Copy)]
struct Columns {
    timestamp: usize,
    value: usize,
}

struct FirstRow {
    columns: Columns,
    is_header: bool,
}

impl Columns {
    /// What the first row says: names, or already a time and a value.
    fn of_first(fields: &[&str]) -> Result<FirstRow, String> {
        let find = |name| fields.iter().position(|field| bare(field) == name);
        let (timestamp, value) = match (find("timestamp"), find("value")) {
            (Some(timestamp), Some(value)) => (timestamp, value),
            (Some(_), None) => return Err("there is no column named \"value\"".to_owned()),
            (None, Some(_)) => return Err("there is no column named \"timestamp\"".to_owned()),
            (None, None) => (0, 1),
        };
        let is_header = fields
            .get(timestamp)
            .is_some_and(|field| bare(field) == "timestamp");
        let is_row = fields
            .first()
            .is_some_and(|field| parse_time(field).is_ok());
        if !is_header && !is_row {
            return Err(format!(
                "expected the names timestamp,value or a first row, got {:?}",
                fields.join(",")
            ));
        }
        Ok(FirstRow {
            columns: Self { timestamp, value },
            is_header,
        })
    }

    fn pick<'a>(self, fields: &[&'a str]) -> Option<(&'a str, &'a str)> {
        Some((fields.get(self.timestamp)?, fields.get(self.value)?))
    }
}

/// A field without what may stand around it.
fn bare(field: &str) -> &str {
    field.trim().trim_matches('"').trim()
}

fn parse_value(field: &str) -> Result<f64, String> {
    let text = bare(field);
    if text.is_empty() {
        return Ok(f64::NAN);
    }
    text.parse()
        .map_err(|_error| format!("{text:?} is not a number"))
}

/// Unix times from here on are in milliseconds: in seconds it would be the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;
/// The last time there is, far beyond all calendars.
const MILLISECONDS_MAX: f64 = 1e17;

fn parse_time(field: &str) -> Result<Timestamp, String> {
    let text = bare(field);
    let wrong = || {
        format!(
            "{text:?} is not a time: expected Unix seconds, milliseconds or YYYY-MM-DD hh:mm:ss"
        )
    };
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number.abs() >= MILLISECONDS_FROM {
            number
        } else {
            number * 1e3
        };
        if ms.abs() < MILLISECONDS_MAX {
            return Ok(Timestamp::from_ms(ms.round() as i64));
        }
        return Err(wrong());
    }
    let civil: jiff::civil::DateTime = text
        .trim_end_matches('Z')
        .parse()
        .map_err(|_error| wrong())?;
    let zoned = civil
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map_err(|_error| wrong())?;
    Ok(Timestamp::from_ms(zoned.timestamp().as_millisecond()))
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
        let rows = scored(
            "\u{feff}timestamp,value\r\n2014-04-01 00:00:00,20.0\r\n1396310700, 21\r\n\
             \r\n1396311000000,\r\n\"1396311300\",NaN\r\n",
        )
        .unwrap();
        let starts = [
            HEADER,
            "2014-04-01 00:00:00,20.0,0.000000,NaN,NaN,NaN",
            "1396310700, 21,0.000000,20,",
            "1396311000000,,0.000000,20.5,",
            "\"1396311300\",NaN,0.000000,20.5,",
        ];
        assert_eq!(rows.len(), starts.len());
        for (row, start) in rows.iter().zip(starts) {
            assert!(row.starts_with(start), "{row} does not start with {start}");
        }
    }

    #[test]
    fn the_three_ways_to_write_a_time_mean_the_same() {
        let expected = Ok(Timestamp::from_ms(1_396_310_700_000));
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
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_in_the_first_row_say_where_the_columns_are() {
        let rows = scored("label,value,timestamp\nx,3,60\n").unwrap();
        assert!(rows[1].starts_with("60,3,"));
        assert!(scored("60,3\n").unwrap()[1].starts_with("60,3,"));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        for (input, error) in [
            (
                "timestamp,count\n60,3\n",
                "line 1: there is no column named \"value\"",
            ),
            (
                "at,count\n60,3\n",
                "line 1: expected the names timestamp,value or a first row, got \"at,count\"",
            ),
            ("60,3\n\n120,x\n", "line 3: \"x\" is not a number"),
            (
                "60,3\n120\n",
                "line 2: expected timestamp,value, got \"120\"",
            ),
            (
                "60,3\n12:00,4\n",
                "line 2: \"12:00\" is not a time: expected Unix seconds, milliseconds or \
                 YYYY-MM-DD hh:mm:ss",
            ),
        ] {
            assert_eq!(scored(input).unwrap_err(), error);
        }
        let long = "1".repeat(5_000);
        assert_eq!(
            scored(&long).unwrap_err(),
            "line 1: it is longer than 4096 bytes"
        );
        let mut output = Vec::new();
        let error = score(&b"60,3\n\xff\n"[..], &mut output).unwrap_err();
        assert_eq!(error.to_string(), "line 2 cannot be read");
    }

    /// Hands out one row at a time, and checks that all before it were written.
    struct Slow<'a> {
        rows: std::vec::IntoIter<&'a str>,
        written: &'a std::cell::RefCell<Vec<u8>>,
        read: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let written = self.written.borrow();
            let lines = String::from_utf8_lossy(&written).lines().count();
            assert_eq!(
                lines,
                self.read + 1,
                "the header and every row that was read"
            );
            let Some(row) = self.rows.next() else {
                return Ok(0);
            };
            self.read += 1;
            into[..row.len()].copy_from_slice(row.as_bytes());
            Ok(row.len())
        }
    }

    struct Shared<'a>(&'a std::cell::RefCell<Vec<u8>>);

    impl Write for Shared<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_row_is_written_before_the_next_is_waited_for() {
        let written = std::cell::RefCell::default();
        let slow = Slow {
            rows: vec!["60,1\n", "120,2\n", "180,3\n"].into_iter(),
            written: &written,
            read: 0,
        };
        score(slow, std::io::BufWriter::new(Shared(&written))).unwrap();
        let written = String::from_utf8(written.into_inner()).unwrap();
        assert_eq!(written.lines().count(), 4);
    }
}
