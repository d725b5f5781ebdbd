//! The messages of OTLP metrics, as far as they become series: one set of types for protobuf and JSON.
//!
//! Exemplars, schemas and what exponential histograms hold are not declared, and so are skipped
//! without being kept. What is declared may take a hundred times the room of its bytes (an empty
//! message has two); so the messages of a body are counted before any is made.

use prost::Message;
use serde::Deserialize;

use super::json;
use crate::ingest::remote_write::protobuf;

/// Messages in one request.
const MESSAGES_MAX: usize = 1 << 20;
/// How deep the values of attributes may be nested.
const DEPTH_MAX: usize = 32;

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) attributes: Vec<KeyValue>,
}

/// One metric; of its kinds exactly one is there.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
    #[prost(string, tag = "3")]
    pub(super) unit: String,
    #[prost(message, optional, tag = "5")]
    pub(super) gauge: Option<Gauge>,
    #[prost(message, optional, tag = "7")]
    pub(super) sum: Option<Sum>,
    #[prost(message, optional, tag = "9")]
    pub(super) histogram: Option<Histogram>,
    #[prost(message, optional, tag = "10")]
    pub(super) exponential_histogram: Option<ExponentialHistogram>,
    #[prost(message, optional, tag = "11")]
    pub(super) summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<NumberPoint>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Sum {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<NumberPoint>,
    /// 1 for deltas, 2 for cumulative values.
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "json::temporality")]
    pub(super) aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    pub(super) is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Histogram {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "json::temporality")]
    pub(super) aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExponentialHistogram {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<Skipped>,
}

/// A message of which only its being there matters.
#[derive(Clone, PartialEq, Message, Deserialize)]
pub(super) struct Skipped {}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<SummaryPoint>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NumberPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "json::optional_double")]
    pub(super) as_double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(deserialize_with = "json::optional_signed")]
    pub(super) as_int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HistogramPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "json::optional_double")]
    pub(super) sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    #[serde(deserialize_with = "json::unsigned_list")]
    pub(super) bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    #[serde(deserialize_with = "json::double_list")]
    pub(super) explicit_bounds: Vec<f64>,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "10")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SummaryPoint {
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "json::unsigned")]
    pub(super) count: u64,
    #[prost(double, tag = "5")]
    #[serde(deserialize_with = "json::double")]
    pub(super) sum: f64,
    #[prost(message, repeated, tag = "6")]
    pub(super) quantile_values: Vec<QuantileValue>,
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QuantileValue {
    #[prost(double, tag = "1")]
    #[serde(deserialize_with = "json::double")]
    pub(super) quantile: f64,
    #[prost(double, tag = "2")]
    #[serde(deserialize_with = "json::double")]
    pub(super) value: f64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

/// The value of an attribute; at most one of its kinds is there.
#[expect(clippy::struct_field_names, reason = "so they are called in JSON")]
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub(super) string_value: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub(super) bool_value: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    #[serde(deserialize_with = "json::optional_signed")]
    pub(super) int_value: Option<i64>,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "json::optional_double")]
    pub(super) double_value: Option<f64>,
    #[prost(message, optional, tag = "5")]
    pub(super) array_value: Option<ArrayValue>,
    #[prost(message, optional, tag = "6")]
    pub(super) kvlist_value: Option<KeyValueList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    #[serde(deserialize_with = "json::optional_bytes")]
    pub(super) bytes_value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<KeyValue>,
}

/// Why a body is not a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("malformed protobuf")]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Wire(#[from] crate::ingest::remote_write::Error),
    #[error("malformed JSON")]
    Json(#[from] serde_json::Error),
    #[error("more than {MESSAGES_MAX} messages in one request: send fewer metrics at once")]
    TooManyMessages,
    #[error("the values of attributes are nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

impl Request {
    pub(super) fn decode_protobuf(body: &[u8]) -> Result<Self, Error> {
        Count::default().messages(Level::Request, protobuf::Message::new(body), 0)?;
        Ok(Self::decode(body)?)
    }

    pub(super) fn decode_json(body: &[u8]) -> Result<Self, Error> {
        // Every message begins with a brace; braces within texts are few beside so many.
        if body.split(|&byte| byte == b'{').count() > MESSAGES_MAX {
            return Err(Error::TooManyMessages);
        }
        Ok(serde_json::from_slice(body)?)
    }
}

/// Where in a request a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Request,
    ResourceMetrics,
    Resource,
    ScopeMetrics,
    Scope,
    Metric,
    Numbers,
    Histograms,
    Summaries,
    /// Exponential histograms, whose points are not looked into.
    Exponentials,
    NumberPoint,
    HistogramPoint,
    SummaryPoint,
    Attribute,
    Value,
    Values,
    Attributes,
    /// Without messages of its own that are kept.
    Leaf,
}

impl Level {
    /// The level of the messages in a field.
    fn below(self, field: u32) -> Option<Self> {
        Some(match (self, field) {
            (Self::Request, 1) => Self::ResourceMetrics,
            (Self::ResourceMetrics, 1) => Self::Resource,
            (Self::ResourceMetrics, 2) => Self::ScopeMetrics,
            (Self::ScopeMetrics, 1) => Self::Scope,
            (Self::ScopeMetrics, 2) => Self::Metric,
            (Self::Metric, 5 | 7) => Self::Numbers,
            (Self::Metric, 9) => Self::Histograms,
            (Self::Metric, 10) => Self::Exponentials,
            (Self::Metric, 11) => Self::Summaries,
            (Self::Numbers, 1) => Self::NumberPoint,
            (Self::Histograms, 1) => Self::HistogramPoint,
            (Self::Summaries, 1) => Self::SummaryPoint,
            (Self::Exponentials, 1) | (Self::SummaryPoint, 6) => Self::Leaf,
            (Self::Resource | Self::Attributes, 1)
            | (Self::Scope, 3)
            | (Self::NumberPoint | Self::SummaryPoint, 7)
            | (Self::HistogramPoint, 9) => Self::Attribute,
            (Self::Attribute, 2) | (Self::Values, 1) => Self::Value,
            (Self::Value, 5) => Self::Values,
            (Self::Value, 6) => Self::Attributes,
            _ => return None,
        })
    }
}

/// Counts the messages that would be made of a body.
#[derive(Default)]
struct Count(usize);

impl Count {
    fn messages(
        &mut self,
        level: Level,
        mut message: protobuf::Message<'_>,
        depth: usize,
    ) -> Result<(), Error> {
        self.0 += 1;
        if self.0 > MESSAGES_MAX {
            return Err(Error::TooManyMessages);
        }
        if level == Level::Leaf {
            return Ok(());
        }
        let depth = depth + usize::from(level == Level::Value);
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        while let Some(field) = message.next()? {
            if let Some(below) = level.below(field.number) {
                self.messages(below, field.message()?, depth)?;
            }
        }
        Ok(())
    }
}

/// What is answered; see [`super::Answer`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_data_points: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// `google.rpc.Status`, in which errors are told.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> AnyValue {
        let mut value = AnyValue {
            int_value: Some(1),
            ..AnyValue::default()
        };
        for _ in 1..depth {
            value = AnyValue {
                array_value: Some(ArrayValue {
                    values: vec![value],
                }),
                ..AnyValue::default()
            };
        }
        value
    }

    fn with_attribute(value: AnyValue) -> Request {
        let attribute = KeyValue {
            key: "a".to_owned(),
            value: Some(value),
        };
        Request {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: vec![attribute],
                }),
                scope_metrics: vec![],
            }],
        }
    }

    #[test]
    fn attributes_may_be_nested_to_a_depth() {
        let fits = with_attribute(nested(DEPTH_MAX));
        assert_eq!(
            Request::decode_protobuf(&fits.encode_to_vec()).unwrap(),
            fits
        );
        let deep = with_attribute(nested(DEPTH_MAX + 1)).encode_to_vec();
        let error = Request::decode_protobuf(&deep).unwrap_err();
        assert!(matches!(error, Error::TooDeep));
    }

    #[test]
    fn a_body_of_very_many_empty_messages_makes_none() {
        // Data points of one gauge, each a tag and a length of zero.
        let mut body = [0x0a, 0].repeat(MESSAGES_MAX);
        // The gauge in a metric, in the metrics of a scope, of a resource, of the request.
        for field in [5_u8, 2, 2, 1] {
            let mut outer = vec![field << 3 | 2];
            prost::encoding::encode_varint(body.len() as u64, &mut outer);
            outer.append(&mut body);
            body = outer;
        }
        let error = Request::decode_protobuf(&body).unwrap_err();
        assert!(matches!(error, Error::TooManyMessages), "{error}");
        let json = "[{}".repeat(MESSAGES_MAX + 1);
        let error = Request::decode_json(json.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::TooManyMessages), "{error}");
    }
}
