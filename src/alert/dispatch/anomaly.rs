//! Open anomalies of severity warning or critical as alerts.
//!
//! They are read from the store, where they are before anybody hears of them: nothing is lost between
//! detection and here, whatever stops. The alert is named after the watch and has the labels of its
//! series, so that an anomaly that closes and opens again is the same alert.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::{Alert, Inbox, Pairs};
use crate::detect::anomaly::{ANOMALIES, Anomaly, Direction, Severity};
use crate::model::{Clock, Timestamp};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader};

/// How often the anomalies are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// How long it is said that an anomaly is closed.
const SAID: Duration = Duration::from_secs(15 * 60);

/// An anomaly is recorded when its verdict has held for a while, with the time at which it began: so far
/// back of what was read one may still appear.
const BACKDATED_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Records read at once.
const PAGE: usize = 1_000;

/// Says all open anomalies, and those closed a short while ago, until shutdown begins.
pub async fn run(reader: Reader, inbox: Inbox, clock: Arc<dyn Clock>, shutdown: Shutdown) {
    let mut feed = Feed::default();
    let mut fails = false;
    loop {
        let (reader, now) = (reader.clone(), clock.now());
        let read = tokio::task::spawn_blocking(move || {
            let alerts = feed.read(&reader, now);
            (feed, alerts)
        });
        match read.await {
            Ok((next, Ok(alerts))) => {
                feed = next;
                fails = false;
                if !inbox.post(alerts) {
                    tracing::debug!("the dispatcher is busy: anomalies are said again later");
                }
            }
            Ok((next, Err(error))) => {
                feed = next;
                if !std::mem::replace(&mut fails, true) {
                    tracing::error!(%error, "anomalies are not read, so nobody is alerted of them");
                }
            }
            Err(panicked) => {
                feed = Feed::default();
                tracing::error!(%panicked, "reading anomalies");
            }
        }
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Reads anomalies in the order of their opening, past those that have long been settled.
#[derive(Debug, Default)]
struct Feed {
    /// Up to here every anomaly is closed and said to be.
    settled: Option<Vec<u8>>,
}

impl Feed {
    /// The alerts of the open anomalies and of those that closed lately. Of one series that is the latest.
    fn read(&mut self, reader: &Reader, now: Timestamp) -> Result<Vec<Alert>, store::Error> {
        let snapshot = reader.snapshot()?;
        let mut latest: BTreeMap<u64, Alert> = BTreeMap::new();
        let mut after = self.settled.clone();
        let mut all_settled = true;
        loop {
            let page = snapshot.records(&ANOMALIES, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (key, anomaly) in page {
                let is_said = anomaly.closed_at.is_some_and(|at| now.since(at) > SAID);
                all_settled &= is_said && now.since(anomaly.opened_at) > BACKDATED_MAX;
                if all_settled {
                    self.settled = Some(key.clone());
                }
                if !is_said && anomaly.severity >= Severity::Warning {
                    let alert = alert(anomaly);
                    latest.insert(alert.fingerprint(), alert);
                }
                after = Some(key);
            }
            if is_last {
                return Ok(latest.into_values().collect());
            }
        }
    }
}

fn alert(anomaly: Anomaly) -> Alert {
    let mut labels = anomaly.labels;
    for (name, value) in [
        ("alertname", &*anomaly.watch),
        ("watch", &*anomaly.watch),
        ("severity", anomaly.severity.name()),
    ] {
        labels.insert(name.to_owned(), value.to_owned());
    }
    let description = format!(
        "An anomaly of the watch {:?}, found by {}: {} than usual, with a score of {:.2} where above 1 is \
         unusual.",
        anomaly.watch,
        anomaly.detector,
        match anomaly.direction {
            Direction::Low => "lower",
            Direction::High => "higher",
        },
        anomaly.score_max,
    );
    Alert {
        labels,
        annotations: Pairs::from([
            ("summary".to_owned(), anomaly.summary),
            ("description".to_owned(), description),
        ]),
        starts_at: anomaly.opened_at,
        ends_at: anomaly.closed_at,
        generator_url: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, ManualClock};
    use crate::store::{Options, Store};

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_ms(minutes * 60_000)
    }

    fn anomaly(table: &str, severity: Severity, opened: i64, closed: Option<i64>) -> Anomaly {
        Anomaly {
            watch: "lag".into(),
            labels: [("table".to_owned(), table.to_owned())].into(),
            detector: "ewma".into(),
            direction: Direction::High,
            severity,
            opened_at: at(opened),
            updated_at: at(opened),
            closed_at: closed.map(at),
            score: 2.0,
            score_max: 2.5,
            observed: 9.0,
            expected: 1.0,
            lower: 0.0,
            upper: 3.0,
            summary: "lag is 9, expected 1".into(),
        }
    }

    struct Fixture {
        store: Store,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(at(0)));
            let store = Store::open(dir.path(), Options::default(), clock).unwrap();
            Self { store, _dir: dir }
        }

        fn record(&self, anomalies: &[Anomaly]) {
            let put = |anomaly: &Anomaly| ANOMALIES.put(anomaly.key(), anomaly);
            let batch = Batch {
                mutations: anomalies.iter().map(put).collect(),
                ..Batch::default()
            };
            self.store.writer().write_blocking(batch).unwrap();
        }
    }

    #[test]
    fn open_anomalies_and_those_closed_lately_are_said() {
        let fixture = Fixture::new();
        fixture.record(&[
            anomaly("a", Severity::Warning, 1, None),
            anomaly("b", Severity::Critical, 2, Some(50)),
            anomaly("c", Severity::Critical, 3, Some(40)),
            anomaly("d", Severity::Info, 4, None),
        ]);
        let mut feed = Feed::default();
        let said = feed.read(&fixture.store.reader(), at(60)).unwrap();
        let mut said: Vec<_> = said
            .iter()
            .map(|alert| (&*alert.labels["table"], alert.severity(), alert.ends_at))
            .collect();
        said.sort_unstable();
        let expected = [("a", "warning", None), ("b", "critical", Some(at(50)))];
        assert_eq!(said, expected);
    }

    #[test]
    fn an_alert_has_the_series_labels_and_says_the_numbers() {
        let alert = alert(anomaly("a", Severity::Warning, 1, None));
        let labels: Vec<_> = alert
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let expected = [
            ("alertname", "lag"),
            ("severity", "warning"),
            ("table", "a"),
            ("watch", "lag"),
        ];
        assert_eq!(labels, expected);
        assert_eq!(alert.annotations["summary"], "lag is 9, expected 1");
        assert!(
            alert.annotations["description"].contains("higher than usual, with a score of 2.50")
        );
    }

    #[test]
    fn of_one_series_the_latest_anomaly_counts() {
        let fixture = Fixture::new();
        fixture.record(&[
            anomaly("a", Severity::Warning, 1, Some(58)),
            anomaly("a", Severity::Warning, 59, None),
        ]);
        let said = Feed::default()
            .read(&fixture.store.reader(), at(60))
            .unwrap();
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].starts_at, said[0].ends_at), (at(59), None));
    }

    #[test]
    fn what_is_long_settled_is_not_read_again_and_what_is_open_before_it_is() {
        let day = 24 * 60;
        let fixture = Fixture::new();
        fixture.record(&[
            anomaly("a", Severity::Warning, 1, Some(2)),
            anomaly("b", Severity::Warning, 3, None),
            anomaly("c", Severity::Warning, 4, Some(5)),
        ]);
        let mut feed = Feed::default();
        let now = at(2 * day);
        assert_eq!(feed.read(&fixture.store.reader(), now).unwrap().len(), 1);
        let first = anomaly("a", Severity::Warning, 1, Some(2)).key();
        assert_eq!(feed.settled, Some(first));
        let said = feed.read(&fixture.store.reader(), now).unwrap();
        assert_eq!(said[0].labels["table"], "b");
    }
}
