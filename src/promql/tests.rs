//! The engine as its callers see it: values, limits, cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::model::{Batch, ManualClock};
use crate::store::{Options, Store};

/// `m{i="0"}` = 0, 1, 2, ... and `m{i="1"}` = 0, 2, 4, ... every 10 s from 0 on.
fn engine(limits: Limits) -> (Engine, Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: None,
        ..Options::default()
    };
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1_000_000)));
    let store = Store::open(dir.path(), options, clock).unwrap();
    let mut batch = Batch::default();
    for step in 0..60 {
        for (index, slope) in [("0", 1.0), ("1", 2.0)] {
            let value = f64::from(step) * slope;
            let sample = Sample::new(Timestamp::from_ms(i64::from(step) * 10_000), value);
            batch.push(Labels::of("m", &[("i", index)]), sample);
        }
    }
    store.writer().write_blocking(batch).unwrap();
    (Engine::new(store.reader(), limits), store, dir)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(seconds * 1000)
}

fn steps(start: i64, end: i64, step: u64) -> Steps {
    Steps {
        start: at(start),
        end: at(end),
        step: Duration::from_secs(step),
    }
}

fn instant(limits: Limits, query: &str) -> Result<Answer, Error> {
    let (engine, _store, _dir) = engine(limits);
    engine.instant(query, at(100), &QueryOptions::default())
}

#[test]
fn an_instant_query_answers_by_the_type_of_its_expression() {
    let value = |query: &str| instant(Limits::default(), query).unwrap().value;
    assert!(matches!(value("1 + 1"), Value::Scalar(sample) if sample.value == 2.0));
    assert!(matches!(value("\"a\""), Value::String { text, .. } if text == "a"));
    let Value::Vector(samples) = value("m") else {
        panic!("a selector gives a vector");
    };
    assert_eq!(samples[1].labels.to_string(), "m{i=\"1\"}");
    assert_eq!(samples[1].sample, Sample::new(at(100), 20.0));
    let Value::Matrix(columns) = value("m{i=\"0\"}[30s]") else {
        panic!("a range selector gives a matrix");
    };
    assert_eq!(*columns[0].timestamps, [at(80), at(90), at(100)]);
    assert_eq!(columns[0].values, [8.0, 9.0, 10.0]);
}

#[test]
fn a_range_query_has_both_ends() {
    let (engine, _store, _dir) = engine(Limits::default());
    let answer = engine
        .range("sum(m)", steps(10, 40, 15), &QueryOptions::default())
        .unwrap();
    let Value::Matrix(columns) = answer.value else {
        panic!("a range query gives a matrix");
    };
    assert_eq!(*columns[0].timestamps, [at(10), at(25), at(40)]);
    assert_eq!(columns[0].values, [3.0, 6.0, 12.0]);
    let scalar = engine
        .range("time()", steps(10, 11, 1), &QueryOptions::default())
        .unwrap();
    assert!(matches!(scalar.value, Value::Matrix(columns) if columns[0].values == [10.0, 11.0]));
}

#[test]
fn a_range_query_needs_steps_and_an_expression_with_a_value_at_each() {
    let (engine, _store, _dir) = engine(Limits::default());
    for (query, steps) in [
        ("m[5m]", steps(0, 10, 1)),
        ("\"a\"", steps(0, 10, 1)),
        ("m", steps(10, 0, 1)),
        ("m", steps(0, 10, 0)),
    ] {
        let error = engine.range(query, steps, &QueryOptions::default());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::BadData, "{query}");
    }
}

#[test]
fn each_limit_is_an_error_that_names_its_setting() {
    let limits = Limits {
        query_bytes_max: 100,
        depth_max: 10,
        samples_max: 50,
        points_max: 20,
        ..Limits::default()
    };
    let (engine, _store, _dir) = engine(limits);
    let options = QueryOptions::default();
    let long = format!("m{{a=\"{}\"}}", "x".repeat(100));
    let deep = format!("{}1{}", "(".repeat(20), ")".repeat(20));
    let cases = [
        (
            engine.instant(&long, at(0), &options),
            "query.query_bytes_max",
        ),
        (engine.instant(&deep, at(0), &options), "query.depth_max"),
        (
            engine.instant("m[10m]", at(600), &options),
            "query.samples_max",
        ),
        (
            engine.instant("count_over_time(vector(1)[1h:1s])", at(600), &options),
            "query.samples_max",
        ),
        (
            engine.range("m", steps(0, 20, 1), &options),
            "query.points_max",
        ),
    ];
    for (answer, setting) in cases {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error}");
        assert!(error.to_string().contains(setting), "{error}");
    }
    assert!(engine.range("m", steps(0, 19, 1), &options).is_ok());
}

#[test]
fn a_query_of_many_terms_is_refused_or_answered() {
    let sum = |terms: usize| vec!["1"; terms].join("+");
    let refused = instant(Limits::default(), &sum(50_000)).unwrap_err();
    assert!(matches!(
        refused,
        Error::Limit(Exceeded::Depth { depth: 50_000, .. })
    ));
    let nested = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(matches!(
        instant(Limits::default(), &nested).unwrap_err(),
        Error::Limit(Exceeded::Depth { .. })
    ));
    let answered = instant(Limits::default(), &sum(1000)).unwrap();
    assert!(matches!(answered.value, Value::Scalar(sample) if sample.value == 1000.0));
    let deepest = format!("{}m{}", "-abs(".repeat(332), ")".repeat(332));
    assert!(instant(Limits::default(), &deepest).is_ok());
}

#[test]
fn a_cancelled_query_stops() {
    let (engine, _store, _dir) = engine(Limits::default());
    let cancel = Arc::new(AtomicBool::new(false));
    let options = QueryOptions {
        cancel: Some(cancel.clone()),
        ..QueryOptions::default()
    };
    assert!(engine.instant("m", at(0), &options).is_ok());
    cancel.store(true, Ordering::Relaxed);
    let error = engine.instant("m", at(0), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Canceled);
}

#[test]
fn a_query_out_of_time_stops() {
    let (engine, _store, _dir) = engine(Limits::default());
    let options = QueryOptions {
        timeout: Some(Duration::ZERO),
        ..QueryOptions::default()
    };
    let error = engine.instant("m", at(0), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "query timed out after 0ns (query.timeout)"
    );
}

#[test]
fn the_lookback_can_be_set_for_one_query() {
    let (engine, _store, _dir) = engine(Limits::default());
    let samples = |lookback: u64| {
        let options = QueryOptions {
            lookback: Some(Duration::from_secs(lookback)),
            ..QueryOptions::default()
        };
        match engine.instant("m", at(700), &options).unwrap().value {
            Value::Vector(samples) => samples.len(),
            other => panic!("{other:?}"),
        }
    };
    // The last samples are from 590 s.
    assert_eq!((samples(110), samples(111)), (0, 2));
}

#[test]
fn remarks_point_into_the_text() {
    let answer = instant(Limits::default(), "rate(m[1m]) +\n quantile(2, m)").unwrap();
    assert_eq!(
        answer.infos,
        [
            "PromQL info: metric might not be a counter, name does not end in \
          _total/_sum/_count/_bucket: \"m\" (1:6)"
        ]
    );
    assert_eq!(
        answer.warnings,
        ["PromQL warning: quantile value should be between 0 and 1, got 2 (2:11)"]
    );
}

#[test]
fn a_sorted_vector_keeps_its_order() {
    let order = |query: &str| match instant(Limits::default(), query).unwrap().value {
        Value::Vector(samples) => samples
            .iter()
            .map(|one| one.labels.value("i").to_owned())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(order("sort_desc(m)"), ["1", "0"]);
    assert_eq!(order("topk(2, m) * 2 > 0"), ["1", "0"]);
    assert_eq!(order("sum by (i) (sort_desc(m))"), ["0", "1"]);
}

#[test]
fn a_selector_alone_gives_its_matchers() {
    let limits = Limits::default();
    let branches = parse_selector("m{a=\"1\",b!~\"2|3\"}", &limits).unwrap();
    assert_eq!(branches.len(), 1);
    let shown: Vec<_> = branches[0].iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["__name__=\"m\"", "a=\"1\"", "b!~\"2|3\""]);
    for other in ["m offset 5m", "m[5m]", "sum(m)", "1", "", "{}", "m @ 5"] {
        let error = parse_selector(other, &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadData, "{other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Anything that the language can say is answered or refused, at any time.
    #[test]
    fn arbitrary_queries_never_panic(
        seed in proptest::collection::vec(0_usize..1000, 40),
        at in prop_oneof![Just(i64::MIN), Just(i64::MAX), -1_000_000_i64..1_000_000],
    ) {
        let query = Grammar { choices: seed.into_iter(), knows_its_step_only: false }.vector(0);
        let limits = Limits { samples_max: 100_000, ..Limits::default() };
        ENGINE.with(|(engine, _store, _dir)| {
            let engine = Engine { limits: Arc::new(limits), ..engine.clone() };
            let options = QueryOptions::default();
            let at = Timestamp::from_ms(at);
            let instant = engine.instant(&query, at, &options);
            if let Err(Error::BadData { message }) = &instant {
                panic!("{query}: {message}");
            }
            let steps = Steps { start: at, end: at.offset_ms(95_000), step: Duration::from_secs(30) };
            let range = engine.range(&query, steps, &options);
            if let Err(Error::BadData { message }) = &range {
                panic!("{query}: {message}");
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What a range query answers for a step is what an instant query answers for that time.
    #[test]
    fn each_step_of_a_range_is_an_instant(
        seed in proptest::collection::vec(0_usize..1000, 40),
        start in -100_000_i64..700_000,
        step in 1_i64..100_000,
    ) {
        let query = Grammar { choices: seed.into_iter(), knows_its_step_only: true }.vector(0);
        ENGINE.with(|(engine, _store, _dir)| {
            let options = QueryOptions::default();
            let steps = Steps {
                start: Timestamp::from_ms(start),
                end: Timestamp::from_ms(start + 4 * step),
                step: Duration::from_millis(step.unsigned_abs()),
            };
            // A range fails as a whole when one of its steps does.
            let Ok(Answer { value: Value::Matrix(columns), .. }) = engine.range(&query, steps, &options) else {
                return;
            };
            for index in 0..5 {
                let at = Timestamp::from_ms(start + index * step);
                let Value::Vector(samples) = engine.instant(&query, at, &options).unwrap().value else {
                    panic!("{query} is a vector");
                };
                let found: Vec<_> = columns
                    .iter()
                    .filter_map(|column| {
                        let index = column.timestamps.binary_search(&at).ok()?;
                        Some((column.labels.clone(), column.values[index]))
                    })
                    .collect();
                let mut expected: Vec<_> = samples
                    .into_iter()
                    .map(|one| (one.labels, one.sample.value))
                    .collect();
                expected.sort_by(|left, right| left.0.cmp(&right.0));
                let agree = found.len() == expected.len()
                    && found.iter().zip(&expected).all(|(found, expected)| {
                        found.0 == expected.0 && is_close(found.1, expected.1)
                    });
                assert!(agree, "{query} at {at}: {found:?} in the range, {expected:?} alone");
            }
        });
    }
}

/// Equal up to the order of sums.
fn is_close(left: f64, right: f64) -> bool {
    left == right
        || (left.is_nan() && right.is_nan())
        || (left - right).abs() <= 1e-9 * left.abs().max(right.abs())
}

thread_local! {
    static ENGINE: (Engine, Store, tempfile::TempDir) = engine(Limits::default());
}

/// Writes queries by the language's grammar; what it writes parses.
struct Grammar {
    choices: std::vec::IntoIter<usize>,
    /// Leaves out what depends on the whole range, or on the order of equals.
    knows_its_step_only: bool,
}

impl Grammar {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.choices.next().unwrap_or(0) % from.len()]
    }

    fn shift(&mut self) -> &'static str {
        let shifts = [
            "",
            " offset 1m",
            " offset -1m",
            " @ 100",
            " @ -9e18",
            " offset 0s",
            " @ start()",
            " @ end() offset 1w",
        ];
        let count = if self.knows_its_step_only { 6 } else { 8 };
        self.pick(&shifts[..count])
    }

    fn scalar(&mut self) -> &'static str {
        self.pick(&[
            "2",
            "-1",
            "0",
            "NaN",
            "Inf",
            "-Inf",
            "time()",
            "1e300",
            "scalar(m)",
            "0.5",
        ])
    }

    fn range(&mut self, depth: usize) -> String {
        let window = self.pick(&["1m", "10s", "1ms", "5m"]);
        if self.pick(&["plain", "sub"]) == "plain" || depth > 3 {
            format!("m[{window}]{}", self.shift())
        } else {
            let step = self.pick(&["", "7s", "1m"]);
            format!(
                "({})[{window}:{step}]{}",
                self.vector(depth + 1),
                self.shift()
            )
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth > 4 {
            return format!("m{}", self.shift());
        }
        let next = depth + 1;
        match self.pick(&[
            "select",
            "window",
            "param",
            "map",
            "clamp",
            "binary",
            "match",
            "scalar",
            "aggregate",
            "rank",
            "label",
            "histogram",
            "other",
        ]) {
            "window" => {
                let function = self.pick(&[
                    "rate",
                    "irate",
                    "increase",
                    "delta",
                    "idelta",
                    "deriv",
                    "changes",
                    "resets",
                    "avg_over_time",
                    "min_over_time",
                    "max_over_time",
                    "sum_over_time",
                    "count_over_time",
                    "stddev_over_time",
                    "last_over_time",
                    "first_over_time",
                    "mad_over_time",
                    "absent_over_time",
                    "ts_of_max_over_time",
                ]);
                format!("{function}({})", self.range(next))
            }
            "param" => match self.pick(&["quantile", "predict", "smooth"]) {
                "quantile" => format!(
                    "quantile_over_time({}, {})",
                    self.scalar(),
                    self.range(next)
                ),
                "predict" => format!("predict_linear({}, {})", self.range(next), self.scalar()),
                _ => format!("holt_winters({}, 0.5, 0.5)", self.range(next)),
            },
            "map" => {
                let function = self.pick(&[
                    "abs",
                    "-",
                    "ceil",
                    "ln",
                    "sgn",
                    "acosh",
                    "year",
                    "days_in_month",
                    "day_of_week",
                    "timestamp",
                    "sort",
                    "absent",
                    "round",
                ]);
                format!("{function}({})", self.vector(next))
            }
            "clamp" => format!(
                "clamp({}, {}, {})",
                self.vector(next),
                self.scalar(),
                self.scalar()
            ),
            "binary" | "match" => {
                let op = self.pick(&[
                    "+", "/", "^", "atan2", ">", "== bool", "and", "or", "unless",
                ]);
                let on = match op {
                    "and" | "or" | "unless" => self.pick(&["", "on(i)", "ignoring(i)"]),
                    _ => self.pick(&[
                        "",
                        "on(i)",
                        "ignoring(i)",
                        "on(i) group_left ()",
                        "on(i) group_right(x)",
                        "fill(0)",
                        "ignoring(i) fill_left(1)",
                    ]),
                };
                format!("({} {op} {on} {})", self.vector(next), self.vector(next))
            }
            "scalar" => format!("({} * {})", self.scalar(), self.vector(next)),
            "aggregate" => {
                let op = self.pick(&[
                    "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
                ]);
                let by = self.pick(&["", "by (i)", "without (i)", "by (__name__)"]);
                format!("{op} {by} ({})", self.vector(next))
            }
            "rank" if !self.knows_its_step_only => {
                let op = self.pick(&["topk", "bottomk", "quantile", "limitk", "limit_ratio"]);
                format!("{op}({}, {})", self.scalar(), self.vector(next))
            }
            "label" => match self.pick(&["replace", "join", "count"]) {
                "replace" => format!(
                    "label_replace({}, \"i\", \"$1\", \"i\", \"(.*)\")",
                    self.vector(next)
                ),
                "join" => format!(
                    "label_join({}, \"__name__\", \"-\", \"i\")",
                    self.vector(next)
                ),
                _ => format!("count_values(\"i\", {})", self.vector(next)),
            },
            "histogram" => format!(
                "histogram_quantile({}, label_replace({}, \"le\", \"$1\", \"i\", \"(.*)\"))",
                self.scalar(),
                self.vector(next)
            ),
            "other" => format!("vector({})", self.scalar()),
            _ => format!("m{}", self.shift()),
        }
    }
}
