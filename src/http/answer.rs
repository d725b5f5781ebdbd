//! A query's value in Prometheus' JSON, byte for byte.
//!
//! Values are texts in Go's shortest form, timestamps are seconds with as many digits as they need.

use crate::model::{Column, Labels, Timestamp};
use crate::promql::{Answer, Value, VectorSample};

use super::json::{self, Pieces};
use super::number::{put_plain, put_seconds, put_short};

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
        let head =
            format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{open}"#);
        out.extend(head.as_bytes());
        match &self.answer.value {
            Value::Scalar(sample) => {
                out.push(b'[');
                put_seconds(out, sample.timestamp);
                out.extend(b",\"");
                put_plain(out, sample.value);
                out.extend(b"\"]");
                Position::Tail
            }
            Value::String { at, text } => {
                out.push(b'[');
                put_seconds(out, *at);
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
    put_seconds(out, timestamp);
    out.extend(b",\"");
    put_short(out, value);
    out.extend(b"\"]");
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
