use proptest::prelude::*;

use super::score::{ANOMALY, EXPECTED, LOWER, SCORE, UPPER};
use super::*;
use crate::detect::Config;
use crate::detect::watch;
use crate::model::{Column, Sample, SystemClock, is_stale};
use crate::store::{Options, Store};

const WARM: i64 = 150;

fn at(step: i64) -> Timestamp {
    Timestamp::from_ms(step * 15_000)
}

/// The engine of one watch, given as the configuration has it.
fn watches(settings: &str) -> Vec<Watch> {
    let watch: watch::Config =
        toml::from_str(&format!("name = \"w\"\nexpr = \"x\"\n{settings}")).unwrap();
    let config = Config {
        disable: watch::built_in()
            .into_iter()
            .map(|watch| watch.name)
            .collect(),
        watch: vec![watch],
        ..Config::default()
    };
    config.watches().unwrap()
}

fn built_in(name: &str) -> Vec<Watch> {
    let mut all = Config::default().watches().unwrap();
    all.retain(|watch| watch.name == name);
    all
}

fn sample(labels: &Labels, step: i64, value: f64) -> VectorSample {
    VectorSample {
        labels: labels.clone(),
        sample: Sample::new(at(step), value),
    }
}

fn inputs(watch: &str, samples: Vec<VectorSample>) -> Inputs {
    Inputs {
        evaluations: vec![Evaluation {
            watch: watch.into(),
            samples,
            expected: Vec::new(),
        }],
        phases: Vec::new(),
    }
}

/// Steps one series through values from step `from` on; the last outcome.
fn run(engine: &mut Engine, labels: &Labels, from: i64, values: &[f64]) -> Outcome {
    let watch = engine.watches().next().unwrap().name.clone();
    let mut outcome = Outcome::default();
    for (step, value) in (from..).zip(values) {
        outcome = engine.step(
            at(step),
            &inputs(&watch, vec![sample(labels, step, *value)]),
        );
    }
    outcome
}

/// A series that has been around 100 for long enough.
fn steady() -> Vec<f64> {
    (0..WARM).map(|step| 100.0 + (step % 3) as f64).collect()
}

fn series(name: &str) -> Labels {
    Labels::of("x", &[("series", name)])
}

fn written(outcome: &Outcome) -> Vec<(String, f64)> {
    let all = outcome.batch.samples.iter();
    all.map(|series| (series.labels.to_string(), series.samples[0].value))
        .collect()
}

fn open(outcome: &Outcome) -> Option<&Anomaly> {
    match outcome.changes.first() {
        Some(Change::Opened(anomaly) | Change::Updated(anomaly)) => Some(anomaly),
        Some(Change::Closed(_)) | None => None,
    }
}

fn closed(outcome: &Outcome) -> Option<&Anomaly> {
    match outcome.changes.first() {
        Some(Change::Closed(anomaly)) => Some(anomaly),
        _ => None,
    }
}

#[test]
fn scores_and_bands_are_written_under_the_series_labels() {
    let mut engine = Engine::new(watches(""));
    let labels = Labels::of("x", &[("a", "1"), ("watch", "theirs")]);
    let cold = run(&mut engine, &labels, 0, &[100.0]);
    assert_eq!(
        written(&cold),
        [
            (
                r#"cutover_anomaly_score{a="1",exported_watch="theirs",watch="w"}"#.to_owned(),
                0.0
            ),
            (
                r#"cutover_anomaly{a="1",exported_watch="theirs",severity="warning",watch="w"}"#
                    .to_owned(),
                0.0
            ),
        ]
    );
    assert_eq!(cold.batch.metadata.len(), 5);
    let warm = run(&mut engine, &labels, 1, &steady());
    let names: Vec<_> = warm
        .batch
        .samples
        .iter()
        .map(|series| series.labels.metric().to_owned())
        .collect();
    assert_eq!(names, [SCORE, ANOMALY, EXPECTED, LOWER, UPPER]);
    assert!(warm.batch.metadata.is_empty());
    let outcome = run(&mut engine, &labels, WARM + 1, &[500.0, 500.0]);
    let written = written(&outcome);
    assert!(written[0].1 > 10.0 && written[1].1 == 1.0, "{written:?}");
    let anomaly = open(&outcome).unwrap();
    assert_eq!(anomaly.watch, "w");
    assert!(
        anomaly
            .summary
            .starts_with("w of 1 theirs is 500, expected "),
        "{anomaly:?}"
    );
}

#[test]
fn a_series_that_leaves_gets_stale_markers_once_and_its_anomaly_closes_later() {
    let mut engine = Engine::new(watches(""));
    run(&mut engine, &series("a"), 0, &steady());
    run(&mut engine, &series("a"), WARM, &[500.0; 3]);
    let none = |engine: &mut Engine, step| engine.step(at(step), &inputs("w", Vec::new()));
    let left = none(&mut engine, WARM + 3);
    assert_eq!(written(&left).len(), 5);
    assert!(written(&left).iter().all(|(_, value)| is_stale(*value)));
    assert!(left.changes.is_empty());
    assert!(none(&mut engine, WARM + 4).batch.samples.is_empty());
    none(&mut engine, WARM + 5);
    let outcome = none(&mut engine, WARM + 6);
    let anomaly = closed(&outcome).unwrap();
    assert_eq!(anomaly.closed_at, Some(at(WARM + 6)));
    assert!(
        anomaly.summary.contains("the series ended"),
        "{}",
        anomaly.summary
    );
    // What was usual is still known when it comes back.
    let outcome = run(&mut engine, &series("a"), WARM + 500, &[500.0, 500.0]);
    assert!(open(&outcome).is_some());
}

#[test]
fn a_watch_that_was_not_evaluated_has_not_lost_its_series() {
    let mut engine = Engine::new(watches(""));
    run(&mut engine, &series("a"), 0, &steady());
    for step in WARM..WARM + 20 {
        let outcome = engine.step(at(step), &Inputs::default());
        assert!(outcome.batch.samples.is_empty() && outcome.counts.is_empty());
    }
}

#[test]
fn what_is_not_a_number_is_missing() {
    let mut engine = Engine::new(watches(""));
    run(&mut engine, &series("a"), 0, &steady());
    for value in [f64::NAN, f64::INFINITY, f64::MAX] {
        let outcome = run(&mut engine, &series("a"), WARM, &[value]);
        assert!(written(&outcome).iter().all(|(_, value)| is_stale(*value)));
    }
}

#[test]
fn the_states_of_long_gone_series_are_forgotten() {
    let mut engine = Engine::new(watches(""));
    run(&mut engine, &series("a"), 0, &[1.0]);
    engine.step(at(1), &inputs("w", Vec::new()));
    let day_later = 2 + 86_400 / 15;
    let outcome = engine.step(at(day_later), &inputs("w", Vec::new()));
    assert_eq!(outcome.counts[0].series, 0);
    let removed = outcome
        .batch
        .mutations
        .iter()
        .find(|mutation| mutation.value.is_none());
    assert_eq!(removed.unwrap().table, MONITORS.name());
}

#[test]
fn samples_without_a_verdict_are_counted_as_warming_up() {
    let mut engine = Engine::new(watches(""));
    let counts = |outcome: Outcome| {
        let counts = &outcome.counts[0];
        (counts.judged, counts.warming, counts.followed.as_secs())
    };
    assert_eq!(
        counts(run(&mut engine, &series("a"), 0, &[1.0])),
        (1, 1, 15)
    );
    let warm = run(&mut engine, &series("a"), 1, &steady());
    assert_eq!(counts(warm), (1, 0, 15));
    let none = engine.step(at(WARM + 1), &inputs("w", Vec::new()));
    assert_eq!(counts(none), (0, 0, 0));
}

#[test]
fn series_beyond_the_cap_are_counted_and_those_that_left_make_room() {
    let mut engine = Engine::new(watches("series_max = 2"));
    let all = |step| {
        ["a", "b", "c"]
            .map(|name| sample(&series(name), step, 1.0))
            .into_iter()
            .collect()
    };
    let outcome = engine.step(at(0), &inputs("w", all(0)));
    assert_eq!(
        (outcome.counts[0].series, outcome.counts[0].dropped),
        (2, 1)
    );
    engine.step(at(1), &inputs("w", vec![sample(&series("a"), 1, 1.0)]));
    let two = vec![sample(&series("a"), 2, 1.0), sample(&series("c"), 2, 1.0)];
    let outcome = engine.step(at(2), &inputs("w", two));
    assert_eq!(
        (outcome.counts[0].series, outcome.counts[0].dropped),
        (2, 0)
    );
}

#[test]
fn another_phase_starts_over_and_an_unknown_one_does_not() {
    let labels = Labels::of("x", &[("migration_id", "m")]);
    let mut engine = Engine::new(watches(""));
    let mut step = 0;
    let mut feed = |engine: &mut Engine, phase: Option<&str>, value: f64, times: i64| {
        let mut outcome = Outcome::default();
        for _ in 0..times {
            let phase = phase.map(|phase| {
                let labels = Labels::of(
                    "cutover_migration_phase",
                    &[("migration_id", "m"), ("phase", phase)],
                );
                sample(&labels, step, 1.0)
            });
            let inputs = Inputs {
                phases: phase.into_iter().collect(),
                ..inputs("w", vec![sample(&labels, step, value)])
            };
            outcome = engine.step(at(step), &inputs);
            step += 1;
        }
        outcome
    };
    feed(&mut engine, Some("snapshot"), 100.0, WARM);
    assert!(open(&feed(&mut engine, None, 500.0, 3)).is_some());
    let outcome = feed(&mut engine, Some("streaming"), 500.0, 1);
    assert!(
        closed(&outcome)
            .unwrap()
            .summary
            .contains("a new phase began")
    );
    // Warming up anew: what is usual now is 500.
    assert!(
        feed(&mut engine, Some("streaming"), 500.0, WARM)
            .changes
            .is_empty()
    );
    assert!(open(&feed(&mut engine, Some("streaming"), 100.0, 3)).is_some());
}

#[test]
fn steps_never_repeat_a_time() {
    let mut engine = Engine::new(watches(""));
    assert_eq!(engine.next_step(at(5)), at(5));
    engine.step(at(5), &Inputs::default());
    assert_eq!(engine.next_step(at(5)), at(5).offset_ms(1));
    assert_eq!(engine.next_step(at(2)), at(5).offset_ms(1));
    assert_eq!(engine.next_step(at(6)), at(6));
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        dir.path(),
        Options::default(),
        std::sync::Arc::new(SystemClock::default()),
    );
    (dir, store.unwrap())
}

/// An engine all of whose records are in the store, but none of its scores, which lie in 1970.
fn stored_with_an_open_anomaly(store: &Store) -> Engine {
    let mut engine = Engine::new(watches(""));
    let values = steady().into_iter().chain([500.0; 3]);
    let mut records = Batch::default();
    for (step, value) in (0..).zip(values) {
        let inputs = inputs("w", vec![sample(&series("a"), step, value)]);
        records
            .mutations
            .extend(engine.step(at(step), &inputs).batch.mutations);
    }
    store.writer().write_blocking(records).unwrap();
    engine
}

#[test]
fn a_loaded_engine_goes_on_where_the_stored_one_was() {
    let (_dir, store) = store();
    let mut engine = stored_with_an_open_anomaly(&store);
    let mut loaded = Engine::load(watches(""), &store.reader()).unwrap();
    assert_eq!(loaded.last_step(), engine.last_step());
    for step in WARM + 3..WARM + 20 {
        let next = inputs("w", vec![sample(&series("a"), step, 100.0)]);
        let (here, there) = (engine.step(at(step), &next), loaded.step(at(step), &next));
        assert_eq!(here.changes, there.changes);
        assert_eq!(here.batch.mutations, there.batch.mutations);
        assert_eq!(written(&here), written(&there));
    }
    store.close().unwrap();
}

#[test]
fn a_watch_with_another_expression_starts_over_and_its_anomaly_closes() {
    let (_dir, store) = store();
    stored_with_an_open_anomaly(&store);
    let mut changed = watches("");
    changed[0].expr = "y".into();
    let mut loaded = Engine::load(changed, &store.reader()).unwrap();
    assert_eq!(loaded.cold().count(), 1);
    let outcome = loaded.step(at(WARM + 3), &Inputs::default());
    assert!(
        closed(&outcome)
            .unwrap()
            .summary
            .contains("no longer watched")
    );
    let removed = outcome
        .batch
        .mutations
        .iter()
        .filter(|mutation| mutation.value.is_none());
    assert_eq!(removed.count(), 1);
    store.close().unwrap();
}

#[test]
fn replayed_history_leaves_what_stepping_through_it_leaves() {
    let column = |values: &[f64]| Column {
        labels: series("a"),
        timestamps: (0..values.len() as i64).map(at).collect(),
        values: values.to_vec(),
    };
    let mut stepped = Engine::new(watches(""));
    run(&mut stepped, &series("a"), 0, &steady());
    let mut replayed = Engine::new(watches(""));
    let history = History {
        watch: "w".into(),
        columns: vec![column(&steady())],
        expected: Vec::new(),
    };
    replayed.replay(&[history], &[]);
    let outcome = run(&mut replayed, &series("a"), WARM, &[500.0, 500.0]);
    let expected = run(&mut stepped, &series("a"), WARM, &[500.0, 500.0]);
    assert_eq!(outcome.changes, expected.changes);
    assert!(open(&outcome).is_some());
    // Nothing was written of the replayed series, so nothing is to be marked stale.
    let mut replayed = Engine::new(watches(""));
    let history = History {
        watch: "w".into(),
        columns: vec![column(&steady())],
        expected: Vec::new(),
    };
    replayed.replay(&[history], &[]);
    assert!(
        replayed
            .step(at(WARM), &inputs("w", Vec::new()))
            .batch
            .samples
            .is_empty()
    );
}

#[test]
fn low_throughput_holds_two_minutes_against_the_configured_rate() {
    let rate = Labels::of("", &[("migration_id", "orders")]);
    let mut engine = Engine::new(built_in("low_throughput"));
    let mut opened = None;
    for step in 0..20 {
        let value = if step < 5 { 900.0 } else { 120.0 };
        let mut inputs = inputs("low_throughput", vec![sample(&rate, step, value)]);
        let expected =
            |id: &str| Labels::of("cutover_migration_expected_rate", &[("migration_id", id)]);
        inputs.evaluations[0].expected = vec![
            sample(&expected("other"), step, 1.0),
            sample(&expected("orders"), step, 1_000.0),
        ];
        let outcome = engine.step(at(step), &inputs);
        if let Some(Change::Opened(anomaly)) = outcome.changes.into_iter().next() {
            opened = Some((step, anomaly));
        }
    }
    // Low from step 5 on, two minutes are 8 steps.
    let (step, anomaly) = opened.unwrap();
    assert_eq!((step, anomaly.opened_at), (13, at(5)));
    assert_eq!(
        (anomaly.severity.name(), anomaly.detector.as_str()),
        ("warning", "threshold")
    );
    assert_eq!(
        anomaly.summary,
        "throughput of orders is 120 rows/s, 0.12 of the expected 1000 rows/s (limit 0.5), \
         since 00:01:15 UTC"
    );
}

#[test]
fn low_throughput_is_over_when_nothing_is_expected_any_more() {
    let rate = Labels::of("", &[("migration_id", "orders")]);
    let mut engine = Engine::new(built_in("low_throughput"));
    let mut step_with = |step, expected: Option<f64>| {
        let mut inputs = inputs("low_throughput", vec![sample(&rate, step, 120.0)]);
        let expected = expected.map(|expected| sample(&rate, step, expected));
        inputs.evaluations[0].expected = expected.into_iter().collect();
        engine.step(at(step), &inputs)
    };
    let opened: Vec<_> = (0..9).map(|step| step_with(step, Some(1_000.0))).collect();
    assert!(open(&opened[8]).is_some());
    let outcome = step_with(9, None);
    assert!(
        closed(&outcome)
            .unwrap()
            .summary
            .contains("what to expect is unknown")
    );
}

#[test]
fn low_throughput_without_a_configured_rate_learns_one() {
    let rate = Labels::of("", &[("migration_id", "orders")]);
    let mut engine = Engine::new(built_in("low_throughput"));
    run(&mut engine, &rate, 0, &[1_000.0; WARM as usize]);
    assert!(open(&run(&mut engine, &rate, WARM, &[400.0; 9])).is_some());
}

#[test]
fn a_high_error_rate_is_critical_at_once_and_over_below_its_exit() {
    let ratio = Labels::of("", &[("migration_id", "orders")]);
    let mut engine = Engine::new(built_in("high_error_rate"));
    assert!(run(&mut engine, &ratio, 0, &[0.0, 0.01]).changes.is_empty());
    let outcome = run(&mut engine, &ratio, 2, &[0.03]);
    assert_eq!(open(&outcome).unwrap().severity.name(), "critical");
    assert!(open(&run(&mut engine, &ratio, 3, &[0.008; 5])).is_some());
    assert!(closed(&run(&mut engine, &ratio, 8, &[0.006; 2])).is_some());
}

#[test]
fn closed_anomalies_are_kept_up_to_a_number_and_the_oldest_go_first() {
    let mut engine = Engine::new(watches(""));
    let first = b"the oldest".to_vec();
    engine.closed.push_back(first.clone());
    engine
        .closed
        .extend((1..CLOSED_MAX).map(|at| at.to_string().into_bytes()));
    run(&mut engine, &series("a"), 0, &steady());
    run(&mut engine, &series("a"), WARM, &[500.0; 3]);
    let mut removed = Vec::new();
    for step in WARM + 3..WARM + 20 {
        let outcome = run(&mut engine, &series("a"), step, &[100.0]);
        let mutations = outcome.batch.mutations.into_iter();
        removed.extend(mutations.filter(|mutation| mutation.value.is_none()));
    }
    assert_eq!(removed, [ANOMALIES.remove(first)]);
}

#[test]
fn the_state_of_a_series_stays_under_a_kibibyte() {
    let mut engine = Engine::new(watches(""));
    let outcome = run(&mut engine, &series("a"), 0, &vec![1.234_567; 10_000]);
    let state = &outcome.batch.mutations[0];
    assert_eq!(state.table, MONITORS.name());
    let bytes = state.value.as_ref().unwrap().len();
    assert!(bytes < 1_024, "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_comes_scores_stay_in_their_range(
        steps in prop::collection::vec((0_i64..20, 0_u8..8, any::<f64>()), 150..400),
    ) {
        let all = "detectors = [\"zscore\", \"ewma\", \"stall\"]\nrelearn_after = \"10m\"";
        let mut engine = Engine::new(watches(all));
        let mut step = 0;
        for (gap, kind, wild) in steps {
            step += gap;
            // Mostly tame, so that the warm-up is passed and there is something to deviate from.
            let value = match kind {
                0 => wild,
                1 => wild.signum() * 1e150,
                2 => 0.0,
                _ => wild % 10.0,
            };
            let outcome = engine.step(at(step), &inputs("w", vec![sample(&series("a"), step, value)]));
            for series in &outcome.batch.samples {
                let value = series.samples[0].value;
                if series.labels.metric() == SCORE && !is_stale(value) {
                    prop_assert!((0.0..=crate::detect::verdict::SCORE_MAX).contains(&value));
                }
            }
        }
    }
}
