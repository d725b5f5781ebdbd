//! OTLP metrics over HTTP, in protobuf and JSON: OpenTelemetry's points as Prometheus' series.
//!
//! Names, units and labels become what Prometheus makes of them by default; `target_info` tells what else
//! a resource says of itself. Deltas are added up. A request is stored in one commit; data points that
//! cannot be series are told as a partial success, and the rest is stored.

mod attribute;
mod delta;
mod json;
mod message;
mod name;
mod translate;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use serde::{Deserialize, Serialize};

use self::delta::Deltas;
pub use self::message::Error as DecodeError;
use self::message::{PartialSuccess, Request, Response, Status};
use self::translate::{Translated, translate};
use super::admission::{Admission, Exceeded, Refused};
use crate::model::Sample;
use crate::store::{self, Reader, Writer, Written};

/// The `[otlp]` section. Prometheus' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Attributes of resources that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// Whether `target_info` also has those that `job` and `instance` are made of.
    pub keep_identifying_resource_attributes: bool,
    /// Whether the scope's name, version and attributes become labels.
    pub promote_scope_metadata: bool,
}

/// How a request and its answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Limit(#[from] Exceeded),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a request came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub rejected_data_points: u64,
    /// Why the first of them was; empty when none was.
    pub message: String,
}

/// What was stored and refused, for those who count.
#[derive(Debug)]
pub struct Taken {
    pub answer: Answer,
    pub refused: Refused,
    pub written: Written,
}

/// Takes requests. Cloning is cheap; all clones add deltas up together.
#[derive(Clone, Debug)]
pub struct Receiver {
    config: Arc<Config>,
    reader: Reader,
    writer: Writer,
    /// Held from adding deltas up to having stored what they come to.
    deltas: Arc<Mutex<Deltas>>,
}

impl Receiver {
    pub fn new(config: Config, reader: Reader, writer: Writer) -> Self {
        Self {
            config: Arc::new(config),
            reader,
            writer,
            deltas: Arc::default(),
        }
    }

    /// Takes a request. Blocks: run it off the async runtime.
    pub fn take(&self, encoding: Encoding, body: &[u8]) -> Result<Taken, Error> {
        let request = match encoding {
            Encoding::Protobuf => Request::decode_protobuf(body)?,
            Encoding::Json => Request::decode_json(body)?,
        };
        let mut translated = translate(&request, &self.config);
        drop(request);
        if !translated.has_deltas() {
            return self.store(translated);
        }
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match deltas.add_up(&mut translated, &self.reader) {
            Ok(()) => self.store(translated),
            Err(error) => Err(error.into()),
        };
        // What was not stored is nothing that was added.
        let is_stored = |taken: &Taken| taken.written.rejected + taken.refused.samples == 0;
        if !result.as_ref().is_ok_and(is_stored) {
            deltas.forget();
        }
        result
    }

    fn store(&self, translated: Translated) -> Result<Taken, Error> {
        let mut append = self.writer.append();
        let mut fill = append.fill();
        let mut admission = Admission::new(&mut fill);
        for point in &translated.points {
            point.with_labels(|pairs| admission.series(pairs));
            admission.push(Sample::new(point.at, point.value))?;
        }
        for (metric, metadata) in translated.metadata {
            admission.metadata(&metric, metadata)?;
        }
        let refused = admission.finish();
        drop(fill);
        let written = if append.is_empty() {
            Written::default()
        } else {
            append.commit_blocking()?
        };
        let by_rules = refused.first.as_ref().map(ToString::to_string);
        let by_store = || {
            let first = written.first_rejection.as_ref()?;
            let (labels, at) = (&first.labels, first.sample.timestamp);
            Some(format!("{labels} at {at}: {}", first.reason))
        };
        let samples = refused.samples + written.rejected;
        let message = translated.reason.or(by_rules).or_else(by_store);
        Ok(Taken {
            answer: Answer {
                // A histogram has many samples, but is one data point.
                rejected_data_points: (translated.rejected + samples).min(translated.data_points),
                message: message.unwrap_or_default(),
            },
            refused,
            written,
        })
    }
}

impl Answer {
    /// As the client reads it.
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let is_partial = !self.message.is_empty();
        match encoding {
            Encoding::Protobuf => Response {
                partial_success: is_partial.then(|| PartialSuccess {
                    rejected_data_points: self.rejected_data_points as i64,
                    error_message: self.message.clone(),
                }),
            }
            .encode_to_vec(),
            Encoding::Json if is_partial => {
                let json = serde_json::json!({
                    "partialSuccess": {
                        "rejectedDataPoints": self.rejected_data_points.to_string(),
                        "errorMessage": self.message,
                    }
                });
                json.to_string().into_bytes()
            }
            Encoding::Json => b"{}".to_vec(),
        }
    }
}

/// An error as the client reads it: a `google.rpc.Status`.
pub fn encode_error(encoding: Encoding, code: i32, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => Status {
            code,
            message: message.to_owned(),
        }
        .encode_to_vec(),
        Encoding::Json => serde_json::json!({ "code": code, "message": message })
            .to_string()
            .into_bytes(),
    }
}
