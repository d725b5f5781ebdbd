//! Groups on a store: what they write, what comes back after a restart, what a reload changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record;
use super::*;
use crate::alert::{Posted, inbox};
use crate::model::{
    Batch, Clock as _, Labels, METRIC_NAME, ManualClock, STALE_NAN, Sample, TimeRange, Timestamp,
};
use crate::promql::{Engine, Limits, QueryOptions};
use crate::shutdown::Shutdown;
use crate::store::{Options, Store};
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health as PartsHealth, State as PartState};

const START: Timestamp = Timestamp::from_ms(1_767_225_600_000);

/// A metric, its labels, a value.
type Series<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// A store with a clock, and groups that are evaluated on it.
struct Bench {
    store: Store,
    clock: Arc<ManualClock>,
    engine: Engine,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let store = Store::open(dir.path(), Options::default(), clock.clone()).unwrap();
        Self {
            engine: Engine::new(store.reader(), Limits::default()),
            store,
            clock,
            _dir: dir,
        }
    }

    fn write(&self, samples: &[Series<'_>]) {
        let mut batch = Batch::default();
        for (metric, labels, value) in samples {
            batch.push(
                Labels::of(metric, labels),
                Sample::new(self.clock.now(), *value),
            );
        }
        self.store.writer().write_blocking(batch).unwrap();
    }

    fn evaluate(&self, group: &mut Group) -> Evaluation {
        let options = QueryOptions::default();
        let query = |query: &str, at: Timestamp| vector(&self.engine, query, at, &options);
        let writer = self.store.writer();
        let write = |batch: Batch| writer.write_blocking(batch);
        let ground = Ground {
            query: &query,
            write: &write,
            clock: &*self.clock,
            external_url: "",
        };
        group.evaluate(self.clock.now(), &ground)
    }

    /// Every series of a metric at this moment, as text.
    fn values(&self, expr: &str) -> Vec<String> {
        let at = self.clock.now();
        let samples = vector(&self.engine, expr, at, &QueryOptions::default()).unwrap();
        samples
            .iter()
            .map(|it| format!("{} {}", it.labels, it.sample.value))
            .collect()
    }

    fn minute(&self) {
        self.clock.advance(Duration::from_secs(60));
    }

    fn restored(&self, spec: &Arc<Spec>) -> Group {
        let kept = record::load(&self.store.reader().snapshot().unwrap()).unwrap();
        let mut by_rule: BTreeMap<u64, Vec<record::Kept>> = BTreeMap::new();
        for kept in kept {
            by_rule.entry(kept.rule).or_default().push(kept);
        }
        let mut group = Group::new(spec.clone(), Duration::from_secs(60));
        group.restore(&mut by_rule, self.clock.now());
        assert!(by_rule.is_empty());
        group
    }
}

fn spec(rules: &str) -> Arc<Spec> {
    let text = format!("groups:\n- name: g\n  rules:\n{rules}");
    let mut groups = check("a.yml", &text).unwrap();
    Arc::new(groups.swap_remove(0))
}

fn group(rules: &str) -> Group {
    Group::new(spec(rules), Duration::from_secs(60))
}

#[test]
fn a_rule_sees_what_those_before_it_have_written() {
    let bench = Bench::new();
    let mut group = group(
        "  - {record: 'lag:max', expr: max(lag), labels: {from: rule}}\n\
         \x20 - {alert: Lag, expr: 'lag:max > 5', annotations: {summary: '{{ $value }} {{ $labels.from }}'}}\n",
    );
    bench.write(&[("lag", &[("t", "a")], 3.0), ("lag", &[("t", "b")], 7.0)]);
    let evaluation = bench.evaluate(&mut group);
    assert_eq!((evaluation.rules, evaluation.samples), (2, 3));
    assert_eq!(evaluation.failures, []);
    assert_eq!(bench.values("lag:max"), [r#"lag:max{from="rule"} 7"#]);
    assert_eq!(
        bench.values("ALERTS"),
        [r#"ALERTS{alertname="Lag",alertstate="firing",from="rule"} 1"#]
    );
    assert_eq!(
        bench.values("ALERTS_FOR_STATE"),
        [r#"ALERTS_FOR_STATE{alertname="Lag",from="rule"} 1767225600"#]
    );
    let alert = group.members[1].alerts.values().next().unwrap();
    assert_eq!(alert.annotations["summary"], "7 rule");
}

#[test]
fn series_that_leave_get_a_stale_marker() {
    let bench = Bench::new();
    let mut group =
        group("  - {record: copy, expr: lag}\n  - {alert: Lag, expr: lag > 5, for: 1m}\n");
    bench.write(&[("lag", &[("t", "a")], 9.0)]);
    bench.evaluate(&mut group);
    assert_eq!(
        bench.values("ALERTS"),
        [r#"ALERTS{alertname="Lag",alertstate="pending",t="a"} 1"#]
    );
    bench.minute();
    bench.write(&[("lag", &[("t", "a")], 9.0)]);
    bench.evaluate(&mut group);
    // Pending has become firing, and what told of it has ended.
    assert_eq!(
        bench.values("ALERTS"),
        [r#"ALERTS{alertname="Lag",alertstate="firing",t="a"} 1"#]
    );
    bench.minute();
    bench.write(&[("lag", &[("t", "a")], STALE_NAN)]);
    bench.evaluate(&mut group);
    for expr in ["copy", "ALERTS", "ALERTS_FOR_STATE"] {
        assert_eq!(bench.values(expr), Vec::<String>::new(), "{expr}");
    }
}

#[test]
fn what_cannot_become_series_or_alerts_is_an_error_and_changes_nothing() {
    let bench = Bench::new();
    let mut group = group(
        "  - {record: r, expr: lag, labels: {t: same}}\n\
         \x20 - {alert: A, expr: lag, labels: {t: ''}}\n\
         \x20 - {alert: B, expr: 'lag * on () group_left up'}\n",
    );
    bench.write(&[
        ("lag", &[("t", "a")], 1.0),
        ("lag", &[("t", "b")], 2.0),
        ("up", &[("i", "1")], 1.0),
        ("up", &[("i", "2")], 1.0),
    ]);
    let failures = bench.evaluate(&mut group).failures;
    let reasons: Vec<_> = failures.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(
        reasons[0],
        r#"two series have the same labels once those of the rule are applied: r{t="same"}"#
    );
    assert_eq!(
        reasons[1],
        r#"two alerts have the same labels once those of the rule are applied: {alertname="A"}"#
    );
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(matches!(group.members[2].health, Health::Failed(_)));
    assert_eq!(
        bench.values("{__name__=~\"r|ALERTS\"}"),
        Vec::<String>::new()
    );
}

#[test]
fn a_limit_ends_the_alerts_that_fired() {
    let bench = Bench::new();
    let text = "groups: [{name: g, limit: 1, rules: [{alert: A, expr: lag > 5}]}]";
    let spec = check("a.yml", text).unwrap().swap_remove(0);
    let mut group = Group::new(Arc::new(spec), Duration::from_secs(60));
    bench.write(&[("lag", &[("t", "a")], 9.0), ("lag", &[("t", "b")], 1.0)]);
    assert_eq!(bench.evaluate(&mut group).failures, []);
    bench.minute();
    bench.write(&[("lag", &[("t", "a")], 9.0), ("lag", &[("t", "b")], 9.0)]);
    assert_eq!(
        bench.evaluate(&mut group).failures,
        [(
            "A".to_owned(),
            "exceeded limit of 1 with 2 alerts".to_owned()
        )]
    );
    let states: Vec<_> = group.members[0]
        .alerts
        .values()
        .map(|alert| alert.state)
        .collect();
    assert_eq!(states, [State::Resolved]);
}

#[test]
fn the_time_of_pending_goes_on_after_a_restart() {
    let bench = Bench::new();
    let rules = "  - {alert: Lag, expr: lag > 5, for: 3m}\n";
    let spec = spec(rules);
    let mut group = Group::new(spec.clone(), Duration::from_secs(60));
    let evaluate = |group: &mut Group| {
        bench.write(&[("lag", &[], 9.0)]);
        bench.evaluate(group);
        group.members[0]
            .alerts
            .values()
            .next()
            .map(|alert| alert.state)
    };
    assert_eq!(evaluate(&mut group), Some(State::Pending));
    bench.minute();
    assert_eq!(evaluate(&mut group), Some(State::Pending));
    // A minute was pending. The restart takes no longer than an interval.
    bench.minute();
    let mut group = bench.restored(&spec);
    assert_eq!(group.members[0].state(), Some(State::Pending));
    assert_eq!(evaluate(&mut group), Some(State::Pending));
    bench.minute();
    assert_eq!(evaluate(&mut group), Some(State::Firing));
    let fired_at = bench.clock.now();
    bench.minute();
    // What fires comes back firing, and since when.
    let mut group = bench.restored(&spec);
    let alert = group.members[0].alerts.values().next().unwrap();
    assert_eq!(
        (alert.state, alert.fired_at),
        (State::Firing, Some(fired_at))
    );
    bench.write(&[("lag", &[], 1.0)]);
    bench.evaluate(&mut group);
    assert_eq!(
        bench.values("ALERTS"),
        Vec::<String>::new(),
        "ended by a stale marker"
    );
    let group = bench.restored(&spec);
    let alert = group.members[0].alerts.values().next().unwrap();
    assert_eq!(
        (alert.state, alert.resolved_at),
        (State::Resolved, Some(bench.clock.now()))
    );
}

#[test]
fn the_time_of_an_outage_does_not_count_as_pending() {
    let bench = Bench::new();
    let spec = spec("  - {alert: Lag, expr: lag > 5, for: 5m}\n");
    let mut group = Group::new(spec.clone(), Duration::from_secs(60));
    bench.write(&[("lag", &[], 9.0)]);
    bench.evaluate(&mut group);
    bench.clock.advance(Duration::from_secs(11 * 60));
    let group = bench.restored(&spec);
    let alert = group.members[0].alerts.values().next().unwrap();
    // Ten minutes more than the interval went by.
    assert_eq!(alert.active_at, START.after(Duration::from_secs(600)));
    bench.clock.advance(Duration::from_secs(3_600));
    assert_eq!(
        bench.restored(&spec).members[0].alerts.len(),
        0,
        "nobody knows"
    );
}

/// The loop over rule files of a folder.
struct Running {
    bench: Bench,
    dir: tempfile::TempDir,
    rules: Rules,
    health: PartsHealth,
    posted: tokio::sync::mpsc::Receiver<Posted>,
    shutdown: Shutdown,
}

impl Running {
    fn start(text: &str) -> Self {
        let bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yml"), text).unwrap();
        let config = Config {
            files: vec!["*.yml".into()],
            built_in: false,
            every: Duration::from_secs(60),
        };
        let set = Set::load(&config, dir.path(), Told::ByAnomalies).unwrap();
        let (inbox, posted) = inbox();
        let health = PartsHealth::new(bench.clock.clone());
        let parts = Parts {
            promql: bench.engine.clone(),
            reader: bench.store.reader(),
            writer: bench.store.writer(),
            clock: bench.clock.clone(),
            metrics: Metrics::default(),
            health: health.clone(),
            inbox,
            external_url: "https://cutover.example".to_owned(),
        };
        let (rules, shutdown) = (Rules::default(), Shutdown::default());
        shutdown.spawn("rules", run(rules.clone(), set, parts, shutdown.clone()));
        Self {
            bench,
            dir,
            rules,
            health,
            posted,
            shutdown,
        }
    }

    /// Lets the clock and the paused time of the runtime go on together.
    async fn pass(&mut self, seconds: u64) -> Vec<crate::alert::Alert> {
        let mut latest = Vec::new();
        for _ in 0..seconds {
            self.bench.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
            // Blocking work is outside the paused time, and is given some of the real one.
            std::thread::sleep(Duration::from_millis(2));
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            while let Ok(posted) = self.posted.try_recv() {
                latest = posted;
            }
        }
        latest
    }

    /// Waits for an evaluation that says these alerts, and whether each is over.
    async fn pass_until(&mut self, expected: &[(&str, bool)]) -> Vec<crate::alert::Alert> {
        let mut latest = Vec::new();
        for _ in 0..3_600 {
            let posted = self.pass(1).await;
            let told = posted
                .iter()
                .map(|alert| (alert.name(), alert.ends_at.is_some()));
            if told.eq(expected.iter().copied()) {
                return posted;
            }
            if !posted.is_empty() {
                latest = posted;
            }
        }
        panic!("expected {expected:?}, was said {latest:?}");
    }

    fn names(&self) -> Vec<String> {
        let groups = self.rules.groups();
        let rules = groups.iter().flat_map(|group| group.spec.rules.clone());
        rules.map(|rule| rule.name).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_changes_nothing_and_the_part_says_why() {
    let good = "groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]\n";
    let mut running = Running::start(good);
    running.pass(1).await;
    assert_eq!(running.names(), ["A"]);
    let bad =
        "groups:\n- name: g\n  rules:\n  - {alert: B, expr: up}\n  - {alert: C, expr: up ==}\n";
    std::fs::write(running.dir.path().join("a.yml"), bad).unwrap();
    running.pass(60).await;
    assert_eq!(running.names(), ["A"], "refused whole");
    let part = running.health.parts()["rules"].clone();
    assert_eq!(part.state, PartState::Degraded);
    assert!(part.message.contains("a.yml:5: expr: "), "{}", part.message);
    std::fs::write(
        running.dir.path().join("a.yml"),
        good.replace('A', "Better"),
    )
    .unwrap();
    running.pass(60).await;
    assert_eq!(running.names(), ["Better"]);
    assert_eq!(running.health.parts()["rules"].state, PartState::Ok);
    running.shutdown.begin();
}

#[tokio::test(start_paused = true)]
async fn alerts_are_said_again_and_end_with_their_rule() {
    let rules = |first: &str| {
        format!(
            "groups: [{{name: g, rules: [{{alert: {first}, expr: vector(1)}}, {{alert: Stays, expr: vector(2)}}]}}]\n"
        )
    };
    let mut running = Running::start(&rules("Goes"));
    let posted = running
        .pass_until(&[("Goes", false), ("Stays", false)])
        .await;
    assert_eq!(
        posted[0].generator_url,
        "https://cutover.example/api/v1/query?query=vector%281%29"
    );
    let starts_at = posted[1].starts_at;
    std::fs::write(running.dir.path().join("a.yml"), rules("Comes")).unwrap();
    let posted = running
        .pass_until(&[("Comes", false), ("Goes", true), ("Stays", false)])
        .await;
    assert_eq!(posted[2].starts_at, starts_at, "its state was handed on");
    assert_eq!(
        running.bench.values("ALERTS{alertname=\"Goes\"}"),
        Vec::<String>::new()
    );
    running
        .pass_until(&[("Comes", false), ("Stays", false)])
        .await;
    running.shutdown.begin();
}

#[test]
fn a_store_without_alerts_has_no_records_of_them() {
    let bench = Bench::new();
    let mut group = group("  - {alert: Lag, expr: lag > 5}\n");
    bench.write(&[("lag", &[], 9.0)]);
    bench.evaluate(&mut group);
    for _ in 0..17 {
        bench.minute();
        bench.write(&[("lag", &[], 1.0)]);
        bench.evaluate(&mut group);
    }
    let snapshot = bench.store.reader().snapshot().unwrap();
    assert!(record::load(&snapshot).unwrap().is_empty());
    let series = snapshot
        .series(
            &[crate::model::Matcher::equal(METRIC_NAME, "ALERTS")],
            TimeRange::ALL,
        )
        .unwrap();
    assert_eq!(series.len(), 1);
}
