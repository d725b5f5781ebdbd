//! Parameters of a request: from the query string, and from the form body of a POST.
//!
//! They are read as Prometheus reads them: a form's parameter comes before the query string's, an empty
//! one counts as absent, times are seconds or RFC 3339, durations are seconds or PromQL's form.

use std::num::IntErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;

use crate::model::unit::parse_duration;
use crate::model::{TimeRange, Timestamp};
use crate::net::body;

use super::error::{ApiError, Kind};
use super::router::Api;

const FORM: &str = "application/x-www-form-urlencoded";

/// All parameters of a request in their order.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl FromRequest<Arc<Api>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (head, request_body) = request.into_parts();
        let limits = &api.state.limits;
        let form = body::read(request_body, limits.body_bytes_max, limits.body_timeout).await?;
        let mut params = Vec::new();
        if !form.is_empty() {
            let content_type = head
                .headers
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if !content_type.starts_with(FORM) {
                return Err(ApiError::new(
                    Kind::BadData,
                    format!("content type {content_type:?} is not {FORM}"),
                ));
            }
            params.extend(form_urlencoded::parse(&form).into_owned());
        }
        let query = head.uri.query().unwrap_or_default();
        params.extend(form_urlencoded::parse(query.as_bytes()).into_owned());
        Ok(Self(params))
    }
}

impl Params {
    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// Every value of a repeated parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        self.parsed(name, |text| {
            parse_time(text).ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"))
        })
    }

    /// The same of a parameter that has a default, in the words that Prometheus has for those.
    pub(super) fn optional_time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        self.parsed(name, |text| {
            parse_time(text).ok_or_else(|| {
                format!(
                    "Invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"
                )
            })
        })
    }

    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        self.time(name)?
            .ok_or_else(|| ApiError::bad_param(name, "cannot parse \"\" to a valid timestamp"))
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        self.parsed(name, |text| {
            parse_step(text).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
        })
    }

    /// The distance of a range's points, more than nothing.
    pub(super) fn step(&self) -> Result<Duration, ApiError> {
        let text = self.get("step").unwrap_or_default();
        let is_negative = text.parse::<f64>().is_ok_and(|seconds| seconds < 0.0);
        let step = if is_negative {
            Some(Duration::ZERO)
        } else {
            parse_step(text)
        };
        let why = match step {
            None => format!("cannot parse {text:?} to a valid duration"),
            Some(step) if step.as_millis() > 0 => return Ok(step),
            Some(_) => "zero or negative query resolution step widths are not accepted. \
                        Try a positive integer"
                .to_owned(),
        };
        Err(ApiError::bad_param("step", why))
    }

    pub(super) fn lookback(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get("lookback_delta") else {
            return Ok(None);
        };
        parse_step(text).map(Some).ok_or_else(|| {
            let message = format!(
                "error parsing lookback delta duration: cannot parse {text:?} to a valid duration"
            );
            ApiError::new(Kind::BadData, message)
        })
    }

    /// A count of things to answer; 0 asks for all, as without the parameter.
    pub(super) fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let limit = self.parsed(name, |text| match text.parse::<i64>() {
            Ok(limit) => {
                usize::try_from(limit).map_err(|_negative| "limit must be non-negative".to_owned())
            }
            Err(error) => Err(format!(
                "strconv.Atoi: parsing {text:?}: {}",
                match error.kind() {
                    IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                    _ => "invalid syntax",
                }
            )),
        })?;
        Ok(limit.filter(|limit| *limit > 0))
    }

    /// `start` to `end`, both included, all of time by default.
    pub(super) fn range(&self) -> Result<TimeRange, ApiError> {
        let start = self.optional_time("start")?.unwrap_or(Timestamp::MIN);
        let end = self.optional_time("end")?.unwrap_or(Timestamp::MAX);
        TimeRange::new(start, end).ok_or_else(|| {
            ApiError::bad_param("end", "end timestamp must not be before start time")
        })
    }

    /// A switch, as Go writes it; off by default.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        let flag = self.parsed(name, |text| match text {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            _ => Err(format!("unable to parse boolean {text:?}")),
        })?;
        Ok(flag.unwrap_or(false))
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ApiError> {
        self.get(name)
            .map(|text| parse(text).map_err(|why| ApiError::bad_param(name, why)))
            .transpose()
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_seconds(seconds);
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_ms(timestamp.as_millisecond()))
}

/// Seconds, or a duration as PromQL writes it.
fn parse_step(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => parse_duration(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,40}") {
            let _read = (parse_time(&text), parse_step(&text));
        }

        #[test]
        fn every_float_is_a_time_and_a_step_or_refused(bits: u64) {
            let text = f64::from_bits(bits).to_string();
            let _read = (parse_time(&text), parse_step(&text));
        }
    }

    fn params(query: &str) -> Params {
        Params(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, timestamp_ms) in [
            ("1435781451.781", 1_435_781_451_781),
            ("1.4357814517e9", 1_435_781_451_700),
            ("-1.5", -1_500),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T22:10:51.781+02:00", 1_435_781_451_781),
        ] {
            assert_eq!(
                parse_time(text),
                Some(Timestamp::from_ms(timestamp_ms)),
                "{text}"
            );
        }
        for text in ["now", "NaN", "inf", "1e300", "2015-07-01"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        assert_eq!(parse_step("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(parse_step("1h30m"), Some(Duration::from_secs(5400)));
        for text in ["-1", "NaN", "1e300", "abc", "5x"] {
            assert_eq!(parse_step(text), None, "{text}");
        }
    }

    #[test]
    fn an_empty_parameter_is_an_absent_one() {
        let params = params("time=&limit=0&match[]=a&match%5B%5D=b");
        assert_eq!(params.time("time").unwrap(), None);
        assert_eq!(params.limit("limit").unwrap(), None);
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_refused() {
        assert!(params("start=2&end=1").range().is_err());
        assert_eq!(params("").range().unwrap(), TimeRange::ALL);
    }
}
