//! Points and spans of time, and the clock they come from.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 00:00 UTC; negative before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[repr(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);
    pub const EPOCH: Self = Self(0);

    pub const fn from_ms(timestamp_ms: i64) -> Self {
        Self(timestamp_ms)
    }

    /// From seconds as the HTTP API has them, rounded to a millisecond; `None` when out of range.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        let timestamp_ms = (seconds * 1e3).round();
        // The bounds are exact powers of two: i64::MAX itself is not a float.
        (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
            .contains(&timestamp_ms)
            .then_some(Self(timestamp_ms as i64))
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// Later by a span; stops at the end of time.
    pub fn after(self, span: Duration) -> Self {
        self.offset_ms(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
    }

    /// Earlier by a span; stops at the beginning of time.
    pub fn before(self, span: Duration) -> Self {
        self.offset_ms(-i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
    }

    pub const fn offset_ms(self, offset_ms: i64) -> Self {
        Self(self.0.saturating_add(offset_ms))
    }

    /// The time from `earlier` to here; zero when it is the other way round.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Milliseconds from `earlier` to here, negative when it is the other way round.
    pub const fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(span) => Self(ms(span)),
            Err(error) => Self(-ms(error.duration())),
        }
    }
}

/// RFC 3339 in UTC with milliseconds; the bare number outside the calendar's years.
impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(formatter, "{timestamp:.3}"),
            Err(_) => write!(formatter, "{} ms", self.0),
        }
    }
}

/// A span of time, both ends included.
///
/// Never empty: `start <= end`, checked when it is made. Copying is free. A PromQL window is another
/// thing: it is open on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    start: Timestamp,
    end: Timestamp,
}

impl TimeRange {
    pub const ALL: Self = Self {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
    };

    /// `None` when the end is before the start.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    pub const fn start(self) -> Timestamp {
        self.start
    }

    pub const fn end(self) -> Timestamp {
        self.end
    }

    pub fn contains(self, timestamp: Timestamp) -> bool {
        self.start <= timestamp && timestamp <= self.end
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Where the time comes from: the one seam that lets tests own it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall clock, which may step.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start, which never steps back.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self {
            now_ms: AtomicI64::new(now.ms()),
            monotonic_ms: AtomicI64::new(0),
        }
    }

    pub fn advance(&self, span: Duration) {
        let span_ms = i64::try_from(span.as_millis()).expect("a test's span fits");
        self.now_ms.fetch_add(span_ms, Ordering::Relaxed);
        self.monotonic_ms.fetch_add(span_ms, Ordering::Relaxed);
    }

    /// Steps the wall clock alone, as an operator or NTP would.
    pub fn step_to(&self, now: Timestamp) {
        self.now_ms.store(now.ms(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Timestamp::MAX.after(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(
            Timestamp::MIN.before(Duration::from_secs(1)),
            Timestamp::MIN
        );
        assert_eq!(Timestamp::MIN.ms_since(Timestamp::MAX), i64::MIN);
    }

    #[test]
    fn seconds_are_rounded_to_milliseconds_and_checked() {
        assert_eq!(
            Timestamp::from_seconds(1.0004),
            Some(Timestamp::from_ms(1000))
        );
        assert_eq!(
            Timestamp::from_seconds(-0.001),
            Some(Timestamp::from_ms(-1))
        );
        assert_eq!(Timestamp::from_seconds(1e300), None);
        assert_eq!(Timestamp::from_seconds(f64::NAN), None);
    }

    #[test]
    fn display_is_rfc_3339() {
        assert_eq!(
            Timestamp::from_ms(1_500).to_string(),
            "1970-01-01T00:00:01.500Z"
        );
        assert_eq!(Timestamp::MAX.to_string(), "9223372036854775807 ms");
    }

    #[test]
    fn a_range_is_never_empty() {
        assert!(TimeRange::new(Timestamp::from_ms(2), Timestamp::from_ms(1)).is_none());
        let range = TimeRange::new(Timestamp::from_ms(1), Timestamp::from_ms(1)).unwrap();
        assert!(range.contains(Timestamp::from_ms(1)));
    }
}
