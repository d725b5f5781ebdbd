//! A store that decoded requests go into, and the rules of admission.

use std::sync::Arc;

use super::admission::{Admission, Reason, Refused, TEXT_BYTES_MAX};
use crate::model::{
    METRIC_NAME, ManualClock, MatchOp, Matcher, MetricKind, MetricMetadata, Sample, TimeRange,
    Timestamp,
};
use crate::store::{Options, Store, Written};

pub(super) const NOW_MS: i64 = 1_700_000_000_000;

pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)));
        let options = Options {
            retention: None,
            ..Options::default()
        };
        let store = Store::open(dir.path(), options, clock.clone()).unwrap();
        Self {
            store,
            clock,
            _dir: dir,
        }
    }

    /// Decodes and stores, as a request is taken.
    pub(super) fn take<E>(
        &self,
        decode: impl FnOnce(&mut Admission<'_, '_>) -> Result<(), E>,
    ) -> Result<(Refused, Written), E> {
        let mut append = self.store.writer().append();
        let mut fill = append.fill();
        let mut admission = Admission::new(&mut fill);
        decode(&mut admission)?;
        let refused = admission.finish();
        drop(fill);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let written = runtime.unwrap().block_on(append.commit()).unwrap();
        Ok((refused, written))
    }

    /// Every series with the milliseconds and bits of its samples.
    pub(super) fn stored(&self) -> Vec<(String, Vec<(i64, u64)>)> {
        let snapshot = self.store.reader().snapshot().unwrap();
        let all = Matcher::new(METRIC_NAME, MatchOp::NotEqual, "").unwrap();
        let columns = snapshot.select(&[all], TimeRange::ALL, 1 << 20).unwrap();
        let mut stored: Vec<_> = columns
            .into_iter()
            .map(|column| {
                let times = column.timestamps.iter().map(|at| at.ms());
                let bits = column.values.iter().map(|value| value.to_bits());
                (column.labels.to_string(), times.zip(bits).collect())
            })
            .collect();
        stored.sort();
        stored
    }

    pub(super) fn metadata(&self) -> Vec<(String, MetricMetadata)> {
        self.store.reader().snapshot().unwrap().metadata().unwrap()
    }
}

fn sample(value: f64) -> Sample {
    Sample::new(Timestamp::from_ms(NOW_MS), value)
}

/// Why a series is refused, and that one beside it is stored.
fn refusal(pairs: &[(&str, &str)]) -> (String, &'static str) {
    let fixture = Fixture::new();
    let (refused, written) = fixture
        .take(|admission| {
            admission.series(pairs);
            admission.push(sample(1.0))?;
            admission.push(sample(1.0))?;
            admission.series(&[(METRIC_NAME, "good")]);
            admission.push(sample(2.0))
        })
        .unwrap();
    assert_eq!((refused.samples, written.accepted), (2, 1));
    assert_eq!(refused.by_reason.len(), 1);
    let (name, count) = refused.by_reason[0];
    assert_eq!(count, 2);
    (refused.first.unwrap().to_string(), name)
}

#[test]
fn a_series_that_breaks_a_rule_is_refused_alone_and_named() {
    assert_eq!(
        refusal(&[("job", "a")]),
        (
            "{job=\"a\"}: there is no metric name (label __name__)".into(),
            "no_metric_name"
        )
    );
    assert_eq!(refusal(&[(METRIC_NAME, "")]).1, "no_metric_name");
    assert_eq!(
        refusal(&[(METRIC_NAME, "up"), ("a", "1"), ("a", "2")]),
        (
            "{__name__=\"up\",a=\"1\",a=\"2\"}: label \"a\" occurs twice".into(),
            "duplicate_label"
        )
    );
    assert_eq!(
        refusal(&[(METRIC_NAME, "up"), ("", "1")]),
        (
            "{__name__=\"up\",=\"1\"}: a label has an empty name".into(),
            "empty_label_name"
        )
    );
}

#[test]
fn labels_have_limits_and_are_shown_shortened() {
    let names: Vec<String> = (0..600).map(|number| format!("l{number:04}")).collect();
    let mut pairs: Vec<_> = names.iter().map(|name| (&**name, "x")).collect();
    pairs.insert(0, (METRIC_NAME, "up"));
    let (shown, reason) = refusal(&pairs);
    assert_eq!(reason, "too_many_labels");
    assert!(shown.len() < 600, "{shown}");
    let long = "x".repeat(TEXT_BYTES_MAX);
    let (shown, reason) = refusal(&[(METRIC_NAME, "up"), ("l", &long)]);
    assert_eq!(reason, "labels_too_long");
    assert!(shown.len() < 600, "{shown}");
}

#[test]
fn labels_may_come_in_any_order_and_without_values() {
    let fixture = Fixture::new();
    let taken = fixture.take(|admission| {
        admission.series(&[("b", "2"), ("c", ""), (METRIC_NAME, "a.b"), ("a", "1")]);
        admission.push(sample(1.0))
    });
    assert_eq!(taken.unwrap().0, Refused::default());
    let bits = 1_f64.to_bits();
    assert_eq!(
        fixture.stored(),
        [("a.b{a=\"1\",b=\"2\"}".to_owned(), vec![(NOW_MS, bits)])]
    );
}

#[test]
fn metadata_that_are_too_long_are_refused() {
    let fixture = Fixture::new();
    let help = "x".repeat(TEXT_BYTES_MAX);
    let metadata = MetricMetadata {
        kind: MetricKind::Gauge,
        help,
        unit: String::new(),
    };
    let taken = fixture.take(|admission| admission.metadata("up", metadata));
    let first = taken.unwrap().0.first.unwrap();
    assert_eq!(
        (&*first.subject, first.reason),
        ("up", Reason::MetadataTooLong)
    );
    assert!(fixture.metadata().is_empty());
}
