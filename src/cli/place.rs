//! Where a command finds the store, and what of it is meant: flags that several commands share.

use std::path::PathBuf;

use clap::Args;

use super::ServerArgs;
use crate::app::UsageError;
use crate::model::{TimeRange, Timestamp};

/// A server, or a directory at rest.
#[derive(Args, Clone, Debug)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// Open a data directory at rest instead of asking a server.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(super) data: Option<PathBuf>,
}

/// A span of time, both ends included; all of it by default.
#[derive(Args, Clone, Debug)]
pub(super) struct SpanArgs {
    /// The first time: seconds since 1970, or as 2026-11-25T14:30:00Z [default: the beginning].
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    start: Option<Timestamp>,
    /// The last time, included [default: the end].
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    end: Option<Timestamp>,
}

impl SpanArgs {
    pub(super) fn range(&self) -> anyhow::Result<TimeRange> {
        let start = self.start.unwrap_or(Timestamp::MIN);
        let end = self.end.unwrap_or(Timestamp::MAX);
        TimeRange::new(start, end).ok_or_else(|| {
            let message = format!("--end {end} is before --start {start}");
            UsageError(message).into()
        })
    }
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_seconds(seconds).ok_or_else(|| "is out of range".to_owned());
    }
    let timestamp: jiff::Timestamp = text.parse().map_err(|_error: jiff::Error| {
        "expected seconds since 1970 or a time such as 2026-11-25T14:30:00Z".to_owned()
    })?;
    Ok(Timestamp::from_ms(timestamp.as_millisecond()))
}

pub(super) fn as_texts(selectors: &[String]) -> Vec<&str> {
    selectors.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        assert_eq!(parse_time("1.5"), Ok(Timestamp::from_ms(1500)));
        assert_eq!(
            parse_time("1970-01-01T01:00:00+01:00"),
            Ok(Timestamp::EPOCH)
        );
        assert!(parse_time("yesterday").is_err() && parse_time("1e300").is_err());
    }
}
