//! JSON bodies of our own API, read field by field.
//!
//! A body that does not fit is refused with the name of the field that is wrong, missing or unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::net::body;

use super::error::{ApiError, Kind};
use super::router::Api;

/// The fields of a JSON object that have not been taken yet.
#[derive(Debug)]
pub(super) struct Object {
    fields: BTreeMap<String, Value>,
    /// The names that were asked for, for the message about one that is unknown.
    known: Vec<&'static str>,
}

impl FromRequest<Arc<Api>> for Object {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let limits = &api.state.limits;
        let bytes = body::read(
            request.into_body(),
            limits.body_bytes_max,
            limits.body_timeout,
        )
        .await?;
        Self::parse(&bytes)
    }
}

impl Object {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let fields = serde_json::from_slice(bytes).map_err(|error| {
            ApiError::new(
                Kind::BadData,
                format!("the body is not a JSON object: {error}"),
            )
        })?;
        Ok(Self {
            fields,
            known: Vec::new(),
        })
    }

    /// Takes a field; absent and `null` are the same.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, ApiError> {
        self.known.push(name);
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| bad_field(name, error)),
        }
    }

    /// Takes a field that has to be there.
    pub(super) fn require<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<T, ApiError> {
        self.take(name)?
            .ok_or_else(|| bad_field(name, "it is missing"))
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(bad_field(
                name,
                format!("it is unknown here, known are {}", self.known.join(", ")),
            )),
        }
    }
}

fn bad_field(name: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Kind::BadData, format!("field {name:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    async fn message(error: ApiError) -> String {
        let response = error.into_response();
        let bytes = body::read(
            response.into_body(),
            1 << 16,
            std::time::Duration::from_secs(5),
        )
        .await
        .unwrap();
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        parsed["error"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_wrong_missing_or_unknown_field_is_named() {
        let mut object =
            Object::parse(br#"{"id":"m","rows_total":"many","lag":1,"phase":null}"#).unwrap();
        assert_eq!(object.take("id").unwrap(), Some("m".to_owned()));
        assert_eq!(object.take::<String>("phase").unwrap(), None);
        assert_eq!(
            message(object.take::<u64>("rows_total").unwrap_err()).await,
            r#"field "rows_total": invalid type: string "many", expected u64"#
        );
        assert_eq!(
            message(object.require::<String>("table").unwrap_err()).await,
            r#"field "table": it is missing"#
        );
        assert_eq!(
            message(object.finish().unwrap_err()).await,
            r#"field "lag": it is unknown here, known are id, phase, rows_total, table"#
        );
    }

    #[tokio::test]
    async fn a_body_that_is_no_object_says_where_it_breaks() {
        for body in ["", "[]", "{\"id\":", "\u{0}"] {
            let message = message(Object::parse(body.as_bytes()).unwrap_err()).await;
            assert!(
                message.starts_with("the body is not a JSON object: "),
                "{message}"
            );
        }
    }
}
