//! The sentence in which an anomaly explains itself: observed, expected, how unusual, since when.

use std::time::Duration;

use super::anomaly::{Anomaly, Direction};
use super::threshold::Limit;
use super::trend;
use super::verdict::{Manner, Verdict};
use super::watch::{DetectorKind, Watch};
use crate::model::{Labels, METRIC_NAME, Timestamp, unit};

/// What an anomaly ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The values are normal again.
    Normal,
    /// The series has left.
    Absent,
    /// The migration entered another phase, where other values are normal.
    PhaseChange,
    /// It lasted so long that it is what is normal now.
    Accepted,
    /// What to expect is not known any more, so nothing speaks against the values.
    Unknown,
    /// Its watch is gone, or watches something else now.
    Unwatched,
}

/// One sentence about an anomaly that holds.
pub(super) fn describe(
    watch: &Watch,
    labels: &Labels,
    kind: DetectorKind,
    verdict: &Verdict,
    since: Timestamp,
    now: Timestamp,
) -> String {
    let what = match subject(labels) {
        subject if subject.is_empty() => watch.noun.clone(),
        subject => format!("{} of {subject}", watch.noun),
    };
    let since = clock_time(since, now);
    let observed = quantity(verdict.observed, &watch.unit);
    let how_unusual = if verdict.manner == Manner::Novel {
        format!(
            "it had been steady at {}",
            quantity(verdict.expected, &watch.unit)
        )
    } else {
        format!("{} times the usual deviation", figure(verdict.deviations))
    };
    let band = || band(verdict, &watch.unit);
    match (kind, watch.limit) {
        (DetectorKind::Stall, _) => format!(
            "{what} has not moved for {}, pauses of up to {} are usual, since {since}",
            seconds(verdict.observed),
            seconds(verdict.expected),
        ),
        (DetectorKind::Threshold, Some(Limit::OfExpected(part))) => format!(
            "{what} is {observed}, {} of the expected {} (limit {}), since {since}",
            figure(verdict.observed / verdict.expected),
            quantity(verdict.expected, &watch.unit),
            figure(part),
        ),
        (DetectorKind::Threshold, _) => format!(
            "{what} is {observed}, limit {}: {} times the limit, since {since}",
            quantity(limit_of(verdict), &watch.unit),
            figure(verdict.observed / limit_of(verdict)),
        ),
        (DetectorKind::Trend, _) => format!(
            "{what} moved by {observed} within {}, expected {}: {how_unusual}, since {since}",
            unit::human_duration(trend::span(&watch.terms)),
            band(),
        ),
        (
            DetectorKind::Calibrated
            | DetectorKind::Ewma
            | DetectorKind::ZScore
            | DetectorKind::Robust
            | DetectorKind::Seasonal,
            _,
        ) => match verdict.manner {
            Manner::Still => format!(
                "{what} stands at {observed} for {} samples, it had always moved, since {since}",
                figure(verdict.deviations),
            ),
            Manner::Average => format!(
                "{what} has averaged {observed}, expected {}: {how_unusual}, since {since}",
                band(),
            ),
            Manner::Far | Manner::Novel => format!(
                "{what} is {observed}, expected {}: {how_unusual}, since {since}",
                band(),
            ),
        },
    }
}

/// The sentence of an anomaly that is over: what it was at its worst, until when, and why it ended.
pub(super) fn conclude(anomaly: &Anomaly, worst: &str, ending: Ending, now: Timestamp) -> String {
    let until = clock_time(now, now);
    let lasted = unit::human_duration(now.since(anomaly.opened_at));
    match ending {
        Ending::Normal => format!("{worst}, until {until}: over after {lasted}"),
        Ending::Absent => format!("{worst}; the series ended by {until}, after {lasted}"),
        Ending::PhaseChange => format!("{worst}; a new phase began at {until}, after {lasted}"),
        Ending::Accepted => format!("{worst}; the new normal since {until}, after {lasted}"),
        Ending::Unknown => {
            format!("{worst}; what to expect is unknown since {until}, after {lasted}")
        }
        Ending::Unwatched => format!("{worst}; no longer watched since {until}, after {lasted}"),
    }
}

fn limit_of(verdict: &Verdict) -> f64 {
    match verdict.direction {
        Direction::Low => verdict.lower,
        Direction::High => verdict.upper,
    }
}

/// Which one: the values of the labels, each once.
fn subject(labels: &Labels) -> String {
    let mut values: Vec<&str> = Vec::new();
    for label in labels.iter().filter(|label| &*label.name != METRIC_NAME) {
        if !values.contains(&&*label.value) {
            values.push(&label.value);
        }
    }
    values.join(" ")
}

fn band(verdict: &Verdict, unit: &str) -> String {
    match (verdict.lower.is_finite(), verdict.upper.is_finite()) {
        (true, true) => {
            let upper = quantity(verdict.upper, unit);
            format!("{} to {upper}", figure(verdict.lower))
        }
        (true, false) => format!("at least {}", quantity(verdict.lower, unit)),
        (false, true) => format!("at most {}", quantity(verdict.upper, unit)),
        (false, false) => quantity(verdict.expected, unit),
    }
}

fn quantity(value: f64, unit: &str) -> String {
    let figure = figure(value);
    if unit.is_empty() {
        figure
    } else {
        format!("{figure} {unit}")
    }
}

/// Three significant digits without trailing zeros: `0.4`, `184`, `12.3k`; the far small as `2e-5`.
fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 {
        return format!("{value:.0e}");
    }
    let text = unit::human_number(value);
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let prefix = text.strip_prefix(digits).unwrap_or_default();
    if digits.contains('.') {
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}{prefix}")
    } else {
        text
    }
}

fn seconds(seconds: f64) -> String {
    unit::human_duration(Duration::from_secs_f64(seconds.max(0.0)))
}

/// `14:02:10 UTC`, with the date when it is another day than today's.
fn clock_time(at: Timestamp, now: Timestamp) -> String {
    // RFC 3339 in UTC: `2026-03-01T14:02:10.000Z`.
    let (at, now) = (at.to_string(), now.to_string());
    let day = |text: &str| text.split_once('T').map(|(day, _)| day.to_owned());
    match at.split_once('T') {
        Some((date, rest)) => {
            let time = rest.split_once('.').map_or(rest, |(time, _)| time);
            if day(&now).as_deref() == Some(date) {
                format!("{time} UTC")
            } else {
                format!("{date} {time} UTC")
            }
        }
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Config;

    const NOW: Timestamp = Timestamp::from_ms(1_772_373_730_000);

    fn watch(name: &str) -> Watch {
        let watches = Config::default().watches().unwrap();
        watches
            .into_iter()
            .find(|watch| watch.name == name)
            .unwrap()
    }

    fn verdict(observed: f64, expected: f64, lower: f64, upper: f64) -> Verdict {
        Verdict {
            score: 2.0,
            direction: Direction::High,
            observed,
            expected,
            lower,
            upper,
            deviations: 12.0,
            manner: Manner::Far,
        }
    }

    #[test]
    fn a_sentence_has_all_the_numbers() {
        let labels = Labels::of(
            "cdc_replication_lag_seconds",
            &[
                ("source_table", "public.orders"),
                ("target_table", "public.orders"),
            ],
        );
        let sentence = |manner| {
            let verdict = Verdict {
                manner,
                ..verdict(184.0, 1.2, 0.4, 2.1)
            };
            describe(
                &watch("replication_lag"),
                &labels,
                DetectorKind::Calibrated,
                &verdict,
                NOW,
                NOW,
            )
        };
        assert_eq!(
            sentence(Manner::Far),
            "replication lag of public.orders is 184 s, expected 0.4 to 2.1 s: \
             12 times the usual deviation, since 14:02:10 UTC"
        );
        assert!(sentence(Manner::Average).contains("has averaged 184 s, expected"));
        assert_eq!(
            sentence(Manner::Still),
            "replication lag of public.orders stands at 184 s for 12 samples, \
             it had always moved, since 14:02:10 UTC"
        );
    }

    #[test]
    fn a_trend_is_told_for_its_span() {
        let labels = Labels::of("", &[("migration_id", "orders")]);
        let rise = verdict(30.0, 0.0, -4.0, 4.0);
        let sentence = describe(
            &watch("data_lag"),
            &labels,
            DetectorKind::Trend,
            &rise,
            NOW,
            NOW,
        );
        assert_eq!(
            sentence,
            "data lag of orders moved by 30 s within 15m00s, expected -4 to 4 s: \
             12 times the usual deviation, since 14:02:10 UTC"
        );
    }

    #[test]
    fn a_change_of_a_constant_has_no_usual_deviation() {
        let novel = Verdict {
            manner: Manner::Novel,
            ..verdict(0.034, 0.0, 0.0, 0.002)
        };
        let labels = Labels::of("", &[("migration_id", "orders")]);
        assert_eq!(
            describe(
                &watch("error_ratio"),
                &labels,
                DetectorKind::ZScore,
                &novel,
                NOW,
                NOW
            ),
            "error ratio of orders is 0.034, expected 0 to 0.002: it had been steady at 0, \
             since 14:02:10 UTC"
        );
    }

    #[test]
    fn rules_name_their_limit() {
        let labels = Labels::of("", &[("migration_id", "orders")]);
        let low = Verdict {
            direction: Direction::Low,
            ..verdict(120.0, 1_000.0, 500.0, f64::INFINITY)
        };
        assert_eq!(
            describe(
                &watch("low_throughput"),
                &labels,
                DetectorKind::Threshold,
                &low,
                NOW,
                NOW
            ),
            "throughput of orders is 120 rows/s, 0.12 of the expected 1000 rows/s (limit 0.5), \
             since 14:02:10 UTC"
        );
        let high = verdict(0.034, 0.01, f64::NEG_INFINITY, 0.01);
        assert_eq!(
            describe(
                &watch("high_error_rate"),
                &labels,
                DetectorKind::Threshold,
                &high,
                NOW,
                NOW
            ),
            "error rate of orders is 0.034, limit 0.01: 3.4 times the limit, since 14:02:10 UTC"
        );
        let stopped = verdict(95.0, 30.0, 0.0, 90.0);
        assert_eq!(
            describe(
                &watch("stall"),
                &labels,
                DetectorKind::Stall,
                &stopped,
                NOW,
                NOW
            ),
            "row count of orders has not moved for 1m35s, pauses of up to 30s are usual, \
             since 14:02:10 UTC"
        );
    }

    #[test]
    fn another_day_is_named() {
        let tomorrow = NOW.after(Duration::from_secs(86_400));
        assert_eq!(clock_time(NOW, tomorrow), "2026-03-01 14:02:10 UTC");
    }

    #[test]
    fn figures_are_short() {
        let shown: Vec<_> = [0.0, 0.4, 2.10, 184.2, 12_345.0, 0.000_02, 1_500_000.0]
            .into_iter()
            .map(figure)
            .collect();
        assert_eq!(shown, ["0", "0.4", "2.1", "184", "12.3k", "2e-5", "1.5M"]);
    }
}
