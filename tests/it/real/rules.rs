//! Rules against Debian's promtool: it accepts every file shipped, and its unit tests agree with us on when
//! alerts are pending, firing and resolved.
//!
//! Each scenario is evaluated by us step by step; what we found at each step is written into a unit-test
//! file as what is expected. promtool evaluates the same rules on the same samples and fails on any
//! difference: an alert too many or too few, another label, another text.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cutover::alert::rule::{Ground, Group, State, check, vector};
use cutover::model::{Batch, Labels, ManualClock, STALE_NAN, Sample, Timestamp};
use cutover::promql::{Engine, Limits, QueryOptions};
use cutover::store::{Options, Store};
use serde_json::{Value, json};

use super::say;

const PROMTOOL: &str = "/usr/bin/promtool";

/// Not a divisor of five minutes: 2.42 takes a sample that is exactly as old as the lookback.
const STEP_S: i64 = 45;

fn is_real() -> bool {
    if std::env::var_os("CUTOVER_REAL").is_none_or(|value| value != "1") {
        say("skipped: CUTOVER_REAL is not set (tests/real/run sets it)");
        return false;
    }
    if !Path::new(PROMTOOL).exists() {
        say(&format!("skipped: there is no {PROMTOOL}"));
        return false;
    }
    true
}

#[test]
fn promtool_accepts_every_rule_file_that_is_shipped() {
    if !is_real() {
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/rules");
    let files = std::fs::read_dir(dir).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4);
    let ran = Command::new(PROMTOOL)
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .args(&files)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

struct Scenario {
    name: &'static str,
    /// The rules of one group.
    rules: &'static str,
    /// A series, and its value at each step: a number, `_` for none, `stale`.
    series: &'static [(
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
    )],
}

const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "pending for as long as it says, and anew after a miss",
        rules: "
- alert: Lag
  expr: lag > 300
  for: 2m
  labels: {severity: critical}
  annotations: {summary: 'Lag of {{ $labels.table }} is {{ $value }}.'}
- alert: LagNow
  expr: lag > 300
",
        series: &[
            ("lag", &[("table", "orders")], "0 301 302 1 303 304 305 306 307 2 308 308 308 308 308 1 1"),
            ("lag", &[("table", "users")], "1 1 1 400 400 400 400 400 1 1 1 1 1 1 400 1 1"),
        ],
    },
    Scenario {
        name: "kept firing, and taken up again while it is kept",
        rules: "
- alert: Kept
  expr: lag > 300
  keep_firing_for: 2m
- alert: KeptAndHeld
  expr: lag > 300
  for: 1m
  keep_firing_for: 3m
  annotations: {v: '{{ $value }}'}
",
        series: &[(
            "lag",
            &[("table", "orders")],
            "301 302 1 303 1 1 1 1 1 304 305 306 1 1 307 1 1 1 1 1 1 1",
        )],
    },
    Scenario {
        name: "recording feeds alerting in the same evaluation",
        rules: "
- record: job:lag:max
  expr: max by (job) (lag)
  labels: {team: data}
- alert: Recorded
  expr: job:lag:max > 300
  for: 45s
  annotations: {who: '{{ $labels.team }} {{ $labels.job }}'}
- record: alerts:count
  expr: count by (alertstate) (ALERTS{alertname='Recorded'})
- alert: OfAlerts
  expr: alerts:count{alertstate='firing'} > 1
",
        series: &[
            ("lag", &[("job", "a"), ("i", "1")], "1 301 1 1 301 301 301 1 1"),
            ("lag", &[("job", "a"), ("i", "2")], "1 1 301 1 301 301 301 1 1"),
            ("lag", &[("job", "b"), ("i", "1")], "1 1 1 1 301 301 301 301 1"),
        ],
    },
    Scenario {
        name: "gaps, stale markers and the lookback",
        rules: "
- alert: Gap
  expr: lag > 300
  for: 90s
- alert: Missing
  expr: absent(lag{table='orders'})
  for: 45s
- alert: Fresh
  expr: count_over_time(lag[2m]) < 2
",
        series: &[
            (
                "lag",
                &[("table", "orders")],
                "301 301 _ _ 301 stale _ 301 301 301 _ _ _ _ _ _ _ _ _ 301 301",
            ),
            ("lag", &[("table", "users")], "301 _ _ _ _ _ _ _ _ _ _ 301 stale 301"),
        ],
    },
    Scenario {
        name: "labels that change make another alert",
        rules: "
- alert: State
  expr: state == 1
  for: 1m
  labels: {level: '{{ if eq $labels.state \"bad\" }}critical{{ else }}warning{{ end }}', state: ''}
- alert: Value
  expr: lag > 300
  labels: {over: '{{ if gt $value 400.0 }}far{{ else }}near{{ end }}'}
  for: 1m
",
        series: &[
            ("state", &[("state", "bad")], "1 1 1 0 0 0 1 1"),
            ("state", &[("state", "good")], "0 0 0 1 1 1 0 0"),
            ("lag", &[], "301 301 301 401 401 401 301 301 301 1"),
        ],
    },
    Scenario {
        name: "templates",
        rules: "
- alert: Humanized
  expr: v
  annotations:
    plain: '{{ $value }}|{{ $labels.absent }}|{{ $labels.path }}'
    human: '{{ humanize $value }}|{{ humanize1024 $value }}|{{ humanizeDuration $value }}'
    more: '{{ humanizePercentage $value }}|{{ $value | humanizeTimestamp }}'
    printf: '{{ printf \"%.2f|%8.3f|%-8.1f|%08.1f|%e|%g|%x|%v|%d\" $value $value $value $value $value $value $value $value $value }}'
    text: '{{ printf \"%q|%s|%10s|%x\" $labels.path $labels.path \"ab\" \"ab\" }}'
    words: '{{ $labels.path | toUpper }}|{{ title \"some words\" }}|{{ reReplaceAll \"/+\" \".\" $labels.path }}'
    chosen: '{{ if and (ge $value 1.0) (lt $value 1000.0) -}} small {{- else if match \"^/x\" $labels.path }}x{{ else }}other{{ end }}'
    compared: '{{ eq 1 1 }} {{ ne \"a\" \"b\" }} {{ le 2 2 }} {{ or $labels.absent \"none\" }} {{ not true }}'
    integers: '{{ printf \"%d|%5d|%-5d|%05d|%x|%t|%%\" 42 42 42 42 255 true }}'
    index: '{{ index $labels \"path\" }}{{/* a comment */}}'
",
        series: &[
            ("v", &[("path", "/x//y \"q\"")], "0 1 -1 12.5 0.00001234 1234567 1000000000 -0.5 NaN Inf -Inf"),
            ("v", &[("path", "/z")], "99999.5 100000 1000000 123456789 1e-7 3600 90061 59.99 1023.9 1048576"),
        ],
    },
    Scenario {
        name: "scalars, and expressions without labels",
        rules: "
- alert: Scalar
  expr: scalar(lag)
- alert: Vector
  expr: vector(2) > scalar(lag)
  for: 45s
- record: constant
  expr: 7
",
        series: &[("lag", &[], "1 1 3 3 1 1 1")],
    },
    Scenario {
        name: "rates and resets",
        rules: "
- record: table:rows:rate2m
  expr: sum by (table) (rate(rows[2m]))
- alert: Slow
  expr: table:rows:rate2m < 1
  for: 90s
  annotations: {rate: '{{ printf \"%.3f\" $value }} rows/s'}
",
        series: &[
            ("rows", &[("table", "a")], "0 100 200 300 310 320 330 340 350 360 500 700 900"),
            ("rows", &[("table", "b")], "500 600 700 10 110 210 310 310 310 310 310 310 310"),
        ],
    },
];

/// What we find, and in which words promtool is to find it.
struct Found {
    alerts: Vec<Value>,
    series: Vec<Value>,
}

impl Scenario {
    fn steps(&self) -> i64 {
        let lens = self
            .series
            .iter()
            .map(|(.., values)| values.split(' ').count());
        // Long enough for everything to be over.
        lens.max().unwrap_or(0) as i64 + 12
    }

    fn file(&self) -> String {
        let rules = self.rules.replace('\n', "\n  ");
        format!("groups:\n- name: g\n  rules:{rules}\n")
    }

    fn write(&self, store: &Store) {
        let mut batch = Batch::default();
        for (metric, labels, values) in self.series {
            let labels = Labels::of(metric, labels);
            for (step, value) in values.split(' ').enumerate() {
                let value = match value {
                    "_" => continue,
                    "stale" => STALE_NAN,
                    number => number.parse().unwrap(),
                };
                let at = Timestamp::from_ms(step as i64 * STEP_S * 1_000);
                batch.push(labels.clone(), Sample::new(at, value));
            }
        }
        store.writer().write_blocking(batch).unwrap();
    }

    /// Evaluates the rules at every step.
    fn evaluate(&self) -> Found {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(86_400_000)));
        let options = Options {
            retention: None,
            ..Options::default()
        };
        let store = Store::open(dir.path(), options, clock.clone()).unwrap();
        self.write(&store);
        let engine = Engine::new(store.reader(), Limits::default());
        let options = QueryOptions::default();
        let query = |query: &str, at: Timestamp| vector(&engine, query, at, &options);
        let writer = store.writer();
        let write = |batch: Batch| writer.write_blocking(batch);
        let ground = Ground {
            query: &query,
            write: &write,
            clock: &*clock,
            external_url: "",
        };
        let spec = check("rules.yml", &self.file()).unwrap().swap_remove(0);
        let mut group = Group::new(Arc::new(spec), Duration::from_secs(STEP_S as u64));
        let mut found = Found {
            alerts: Vec::new(),
            series: Vec::new(),
        };
        let written = "{__name__=~\"ALERTS|ALERTS_FOR_STATE|.*:.*|constant\"}";
        for step in 0..self.steps() {
            let at = Timestamp::from_ms(step * STEP_S * 1_000);
            let failures = group.evaluate(at, &ground).failures;
            assert_eq!(failures, [], "{}", self.name);
            found.alerts.extend(expected_alerts(&group, step));
            let samples = vector(&engine, written, at, &options).unwrap();
            let samples: Vec<_> = samples
                .iter()
                .map(|it| json!({"labels": it.labels.to_string(), "value": it.sample.value}))
                .collect();
            found.series.push(json!({
                "expr": written,
                "eval_time": format!("{}s", step * STEP_S),
                "exp_samples": samples,
            }));
        }
        found
    }

    fn unit_tests(&self, found: &Found) -> Value {
        let series = self.series.iter().map(|(metric, labels, values)| {
            json!({
                "series": Labels::of(metric, labels).to_string(),
                "values": values,
            })
        });
        json!({
            "rule_files": ["rules.yml"],
            "evaluation_interval": format!("{STEP_S}s"),
            "tests": [{
                "interval": format!("{STEP_S}s"),
                "input_series": series.collect::<Vec<_>>(),
                "alert_rule_test": found.alerts,
                "promql_expr_test": found.series,
            }],
        })
    }
}

/// What fires of each rule at a step, in promtool's words.
fn expected_alerts(group: &Group, step: i64) -> Vec<Value> {
    let alerting = group.rules().filter(|(_, member)| {
        // A recording rule has no alerts ever, and promtool takes no name of one for an alert.
        member.last_evaluation.is_some()
    });
    alerting
        .filter(|(rule, _)| matches!(rule.kind, cutover::alert::rule::Kind::Alerting(_)))
        .map(|(rule, member)| {
            let firing = member.alerts.values();
            let firing = firing.filter(|alert| alert.state == State::Firing);
            let expected: Vec<_> = firing
                .map(|alert| {
                    let mut told = alert.to_alert("").unwrap();
                    told.labels.remove("alertname");
                    json!({"exp_labels": told.labels, "exp_annotations": told.annotations})
                })
                .collect();
            json!({
                "eval_time": format!("{}s", step * STEP_S),
                "alertname": rule.name,
                "exp_alerts": expected,
            })
        })
        .collect()
}

fn promtool(dir: &Path, tests: &Value) -> Result<(), String> {
    std::fs::write(dir.join("tests.yml"), tests.to_string()).unwrap();
    let ran = Command::new(PROMTOOL)
        .current_dir(dir)
        .args(["test", "rules", "tests.yml"])
        .output()
        .unwrap();
    if ran.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(text(&ran.stdout) + &text(&ran.stderr))
}

#[test]
fn promtool_agrees_on_what_is_pending_firing_and_resolved() {
    if !is_real() {
        return;
    }
    for scenario in &SCENARIOS {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rules.yml"), scenario.file()).unwrap();
        let found = scenario.evaluate();
        let fired = found.alerts.iter();
        let fired = fired.filter(|step| step["exp_alerts"].as_array().unwrap().len() > 0);
        let fired = fired.count();
        assert!(fired > 0, "{}: nothing fires", scenario.name);
        if let Err(difference) = promtool(dir.path(), &scenario.unit_tests(&found)) {
            panic!("{}: {difference}", scenario.name);
        }
        say(&format!(
            "promtool agrees: {}: {} steps, alerts fire in {fired} of {} cases",
            scenario.name,
            scenario.steps(),
            found.alerts.len()
        ));
    }
}

#[test]
fn promtool_does_not_agree_with_a_wrong_expectation() {
    if !is_real() {
        return;
    }
    let scenario = &SCENARIOS[0];
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), scenario.file()).unwrap();
    let mut found = scenario.evaluate();
    let firing = found
        .alerts
        .iter_mut()
        .find(|step| step["exp_alerts"].as_array().unwrap().len() > 0)
        .unwrap();
    firing["exp_alerts"] = json!([]);
    let difference = promtool(dir.path(), &scenario.unit_tests(&found)).unwrap_err();
    assert!(difference.contains("FAILED"), "{difference}");
}
