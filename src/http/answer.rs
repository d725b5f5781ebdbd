//! A query's value in Prometheus' JSON, byte for byte.
//!
//! Values are texts in Go's shortest form, timestamps are seconds with as many digits as they need.

use std::io::Write as _;

use crate::model::{Column, Labels, Timestamp};
use crate::promql::{Answer, Value, VectorSample};

use super::json::{self, Pieces};

/// Points written in one piece.
const POINTS_PER_PIECE: usize = 256;

/// Writes an [`Answer`].
pub(super) struct AnswerPieces {
    answer: Answer,
    /// What the query cost, as JSON, where that was asked for.
    stats: Option<String>,
    at: Position,
}

#[derive(Clone, Copy)]
enum Position {
    Head,
    /// The next point of the next series; a vector's series have one point each.
    Series {
        series: usize,
        point: usize,
    },
    Tail,
    Done,
}

impl AnswerPieces {
    pub(super) fn new(answer: Answer, stats: Option<String>) -> Self {
        Self {
            answer,
            stats,
            at: Position::Head,
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) -> Position {
        let (kind, open) = match &self.answer.value {
            Value::Scalar(_) => ("scalar", ""),
            Value::String { .. } => ("string", ""),
            Value::Vector(_) => ("vector", "["),
            Value::Matrix(_) => ("matrix", "["),
        };
        put(
            out,
            format_args!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{open}"#),
        );
        match &self.answer.value {
            Value::Scalar(sample) => {
                out.push(b'[');
                write_timestamp(out, sample.timestamp);
                put(out, format_args!(",\"{}\"]", PlainFloat(sample.value)));
                Position::Tail
            }
            Value::String { at, text } => {
                out.push(b'[');
                write_timestamp(out, *at);
                out.push(b',');
                json::text(out, text);
                out.push(b']');
                Position::Tail
            }
            Value::Vector(_) | Value::Matrix(_) => Position::Series {
                series: 0,
                point: 0,
            },
        }
    }

    /// Writes a bit of the list of series and says where to go on.
    fn write_series(&self, out: &mut Vec<u8>, series: usize, point: usize) -> Position {
        match &self.answer.value {
            Value::Vector(samples) => match samples.get(series) {
                Some(sample) => {
                    write_vector_sample(out, series, sample);
                    Position::Series {
                        series: series + 1,
                        point: 0,
                    }
                }
                None => Position::Tail,
            },
            Value::Matrix(columns) => match columns.get(series) {
                Some(column) => write_column(out, column, series, point),
                None => Position::Tail,
            },
            Value::Scalar(_) | Value::String { .. } => Position::Tail,
        }
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        if matches!(self.answer.value, Value::Vector(_) | Value::Matrix(_)) {
            out.push(b']');
        }
        if let Some(stats) = &self.stats {
            out.extend(br#","stats":"#);
            out.extend(stats.as_bytes());
        }
        out.push(b'}');
        json::end(out, &self.answer.warnings, &self.answer.infos);
    }
}

impl Pieces for AnswerPieces {
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        self.at = match self.at {
            Position::Head => self.write_head(out),
            Position::Series { series, point } => self.write_series(out, series, point),
            Position::Tail => {
                self.write_tail(out);
                Position::Done
            }
            Position::Done => Position::Done,
        };
        !matches!(self.at, Position::Done)
    }
}

fn write_metric(out: &mut Vec<u8>, series: usize, labels: &Labels) {
    if series > 0 {
        out.push(b',');
    }
    out.extend(br#"{"metric":"#);
    json::labels(out, labels);
}

fn write_vector_sample(out: &mut Vec<u8>, series: usize, item: &VectorSample) {
    write_metric(out, series, &item.labels);
    out.extend(br#","value":"#);
    write_point(out, item.sample.timestamp, item.sample.value);
    out.push(b'}');
}

fn write_column(out: &mut Vec<u8>, column: &Column, series: usize, first: usize) -> Position {
    if first == 0 {
        write_metric(out, series, &column.labels);
        out.extend(br#","values":["#);
    }
    let points = column.timestamps.iter().zip(&column.values);
    for (at, (timestamp, value)) in points.enumerate().skip(first).take(POINTS_PER_PIECE) {
        if at > 0 {
            out.push(b',');
        }
        write_point(out, *timestamp, *value);
    }
    let next = first + POINTS_PER_PIECE;
    if next < column.timestamps.len() {
        return Position::Series {
            series,
            point: next,
        };
    }
    out.extend(b"]}");
    Position::Series {
        series: series + 1,
        point: 0,
    }
}

fn write_point(out: &mut Vec<u8>, timestamp: Timestamp, value: f64) {
    out.push(b'[');
    write_timestamp(out, timestamp);
    put(out, format_args!(",\"{}\"]", ShortFloat(value)));
}

/// Seconds, with three decimals when there are any.
fn write_timestamp(out: &mut Vec<u8>, timestamp: Timestamp) {
    if timestamp.ms() < 0 {
        out.push(b'-');
    }
    let ms = timestamp.ms().unsigned_abs();
    put(out, format_args!("{}", ms / 1000));
    if !ms.is_multiple_of(1000) {
        put(out, format_args!(".{:03}", ms % 1000));
    }
}

/// Go's `strconv.FormatFloat(value, 'f', -1, 64)`, which Prometheus uses for scalars.
struct PlainFloat(f64);

impl std::fmt::Display for PlainFloat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => formatter.write_str("NaN"),
            f64::INFINITY => formatter.write_str("+Inf"),
            f64::NEG_INFINITY => formatter.write_str("-Inf"),
            value => write!(formatter, "{value}"),
        }
    }
}

/// The same, but with an exponent of two digits at least for the very small and the very large, which
/// Prometheus uses for samples.
struct ShortFloat(f64);

impl std::fmt::Display for ShortFloat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let magnitude = self.0.abs();
        let plain = magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) || !magnitude.is_finite();
        if plain {
            return PlainFloat(self.0).fmt(formatter);
        }
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').expect("{:e} writes an exponent");
        let exponent: i32 = exponent.parse().expect("{:e} writes a whole exponent");
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(formatter, "{digits}e{sign}{:02}", exponent.abs())
    }
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("memory takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sample;

    fn written(value: Value) -> String {
        let answer = Answer {
            value,
            warnings: vec![],
            infos: vec![],
        };
        written_answer(answer)
    }

    fn written_answer(answer: Answer) -> String {
        let mut pieces = AnswerPieces::new(answer, None);
        let mut out = Vec::new();
        while pieces.write_next(&mut out) {}
        String::from_utf8(out).unwrap()
    }

    fn sample(timestamp_ms: i64, value: f64) -> Sample {
        Sample::new(Timestamp::from_ms(timestamp_ms), value)
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5e-3, "-0.0025"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-07"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, text) in cases {
            assert_eq!(ShortFloat(value).to_string(), text);
        }
        assert_eq!(PlainFloat(1e21).to_string(), "1000000000000000000000");
        assert_eq!(PlainFloat(1e-7).to_string(), "0.0000001");
    }

    #[test]
    fn timestamps_have_the_digits_they_need() {
        for (timestamp_ms, text) in [
            (4_000, "4"),
            (1_435_781_451_781, "1435781451.781"),
            (1_050, "1.050"),
            (1_007, "1.007"),
            (-500, "-0.500"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            let mut out = Vec::new();
            write_timestamp(&mut out, Timestamp::from_ms(timestamp_ms));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_scalar_and_a_string_are_bare_pairs() {
        assert_eq!(
            written(Value::Scalar(sample(4_000, 2.0))),
            r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#
        );
        let text = Value::String {
            at: Timestamp::from_ms(1_500),
            text: "a \"quoted\" text".into(),
        };
        assert_eq!(
            written(text),
            r#"{"status":"success","data":{"resultType":"string","result":[1.500,"a \"quoted\" text"]}}"#
        );
    }

    #[test]
    fn a_vector_lists_metrics_with_one_value() {
        let item = |labels, value| VectorSample {
            labels,
            sample: sample(1_435_781_451_781, value),
        };
        let vector = Value::Vector(vec![
            item(Labels::of("up", &[("job", "node"), ("quote", "a\"b")]), 1.0),
            item(Labels::empty(), f64::NAN),
        ]);
        assert_eq!(
            written(vector),
            concat!(
                r#"{"status":"success","data":{"resultType":"vector","result":["#,
                r#"{"metric":{"__name__":"up","job":"node","quote":"a\"b"},"value":[1435781451.781,"1"]},"#,
                r#"{"metric":{},"value":[1435781451.781,"NaN"]}]}}"#
            )
        );
        assert_eq!(
            written(Value::Vector(vec![])),
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
        );
    }

    #[test]
    fn a_matrix_lists_metrics_with_their_values() {
        let column = |name: &str, points: &[(i64, f64)]| Column {
            labels: Labels::of(name, &[]),
            timestamps: points
                .iter()
                .map(|(at, _)| Timestamp::from_ms(*at))
                .collect(),
            values: points.iter().map(|(_, value)| *value).collect(),
        };
        let matrix = Value::Matrix(vec![
            column("a", &[(0, 1.0), (15_000, f64::INFINITY)]),
            column("b", &[(0, 2.0)]),
        ]);
        assert_eq!(
            written(matrix),
            concat!(
                r#"{"status":"success","data":{"resultType":"matrix","result":["#,
                r#"{"metric":{"__name__":"a"},"values":[[0,"1"],[15,"+Inf"]]},"#,
                r#"{"metric":{"__name__":"b"},"values":[[0,"2"]]}]}}"#
            )
        );
    }

    #[test]
    fn a_long_column_in_pieces_is_the_same_text() {
        for length in [POINTS_PER_PIECE, POINTS_PER_PIECE + 1, 3 * POINTS_PER_PIECE] {
            let column = Column {
                labels: Labels::empty(),
                timestamps: (0..length as i64).map(Timestamp::from_ms).collect(),
                values: vec![1.0; length],
            };
            let text = written(Value::Matrix(vec![column]));
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let values = parsed["data"]["result"][0]["values"].as_array().unwrap();
            assert_eq!(values.len(), length);
        }
    }

    #[test]
    fn warnings_and_infos_follow_the_data() {
        let answer = Answer {
            value: Value::Vector(vec![]),
            warnings: vec!["w".into()],
            infos: vec!["i".into()],
        };
        assert_eq!(
            written_answer(answer),
            r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["w"],"infos":["i"]}"#
        );
    }
}
