//! Generated queries asked of cutover and of Debian's Prometheus, over HTTP, on the same samples.
//!
//! Debian's is 2.42, whose windows still hold a sample at their left bound. Its lookback is set a
//! millisecond shorter, which is the same as leaving the bound out. Of the generated windows some have
//! samples there; where answers then differ, it is asked again with windows that are a millisecond
//! shorter, and has to agree: so the difference is explained, not assumed. The other explanations are as
//! narrow as they can be stated. Whatever differs without one fails the test.

use std::collections::BTreeMap;
use std::path::Path;

use cutover::model::{Clock, Labels, SystemClock};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::say;
use crate::prometheus::{BINARY, Points, Prometheus, SCRAPE_MS, SCRAPES};
use crate::prometheus::{data, difference, query, remote_write, theirs};
use crate::support::{Server, free_address};

const QUERIES: usize = 600;
/// Rates divide by the length of their window, which the shorter one changes by so little.
const SHORTER_TOLERANCE: f64 = 2e-5;
/// What sums without compensation lose of values up to some 1e6.
const ROUNDING: f64 = 1e-6;

/// Why answers may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Explanation {
    LeftOpenWindows,
    CompensatedSums,
    DeviationOfNan,
    NameAfterAtan2,
    Ties,
    ManyBeforeComparison,
}

impl Explanation {
    fn text(self) -> &'static str {
        match self {
            Self::LeftOpenWindows => {
                "windows are left-open since 3.0: asked with windows 1 ms shorter, 2.42 agrees"
            }
            Self::CompensatedSums => {
                "sums, averages and deviations are compensated since 2.53 and 3.x: rounding only"
            }
            Self::DeviationOfNan => {
                "a deviation of what is not finite is NaN since 3.0; apart from NaNs, 2.42 agrees"
            }
            Self::NameAfterAtan2 => {
                "atan2 takes the metric's name away since 2.46; apart from it, 2.42 agrees"
            }
            Self::Ties => {
                "which of equal values topk and bottomk keep is left open; the values agree"
            }
            Self::ManyBeforeComparison => {
                "many series on the left of a one-to-one comparison are refused since 3.x also where \
                 it drops all but one; asked with bool, which drops none, 2.42 refuses them too"
            }
        }
    }
}

/// Seconds of a window, in marks by which the text is made with it or with a shorter one.
fn window(seconds: u32) -> String {
    format!("\u{27e6}{seconds}\u{27e7}")
}

/// The query as text, each window made shorter by so many milliseconds.
fn text(query: &str, shorter_ms: u32) -> String {
    let mut text = String::new();
    for piece in query.split('\u{27e6}') {
        match piece.split_once('\u{27e7}') {
            None => text.push_str(piece),
            Some((seconds, rest)) => {
                let seconds: u32 = seconds.parse().expect("a window is a number of seconds");
                text.push_str(&format!("{}ms{rest}", seconds * 1000 - shorter_ms));
            }
        }
    }
    text
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(texts).prop_map(str::to_owned)
}

/// A metric with matchers of every kind that its series have.
fn selector() -> BoxedStrategy<String> {
    let events = one_of(&[
        "",
        "{op=\"create\"}",
        "{op!=\"create\"}",
        "{table=~\"t[12]\"}",
        "{table!~\"t1|t3\",op=~\".+\"}",
        "{table=\"none\"}",
        "{missing=\"\"}",
        "{missing!=\"\"}",
    ])
    .prop_map(|matchers| format!("events_total{matchers}"));
    let hosts = one_of(&[
        "",
        "{host=\"h2\"}",
        "{host!~\"h1\"}",
        "{host=~\"h.\",host!=\"h3\"}",
    ]);
    let hosts = (one_of(&["gauge", "resetting_total", "ending"]), hosts)
        .prop_map(|(metric, matchers)| format!("{metric}{matchers}"));
    prop_oneof![4 => events, 4 => hosts, 1 => Just("sparse".to_owned())].boxed()
}

/// `offset` and `@`, where 2.42 has them too.
fn shift() -> BoxedStrategy<String> {
    prop_oneof![
        6 => Just(String::new()),
        2 => one_of(&[" offset 3m", " offset -2m", " offset 8s", " offset 1h"]),
        1 => one_of(&[" @ start()", " @ end()", " @ end() offset 5m"]),
    ]
    .boxed()
}

/// Some windows have samples on their left bound, by an offset of 8 s or as steps of a subquery.
fn range() -> BoxedStrategy<String> {
    let seconds = prop::sample::select(vec![45_u32, 60, 120, 300, 302, 600]).prop_map(window);
    let samples = (selector(), seconds.clone(), shift())
        .prop_map(|(selector, window, shift)| format!("{selector}[{window}]{shift}"));
    let expression = prop_oneof![
        selector(),
        selector().prop_map(|selector| format!("rate({selector}[{}])", window(120))),
        selector().prop_map(|selector| format!("sum({selector})")),
        Just("time() / 60".to_owned()),
    ];
    let step = one_of(&["15s", "30s", "1m"]);
    let subquery = (expression, seconds, step, shift())
        .prop_map(|(inner, window, step, shift)| format!("({inner})[{window}:{step}]{shift}"));
    prop_oneof![3 => samples, 1 => subquery].boxed()
}

fn over_range() -> BoxedStrategy<String> {
    let plain = one_of(&[
        "rate",
        "increase",
        "irate",
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
        "stdvar_over_time",
        "last_over_time",
        "present_over_time",
        "absent_over_time",
    ]);
    prop_oneof![
        12 => (plain, range()).prop_map(|(function, range)| format!("{function}({range})")),
        // With `@` over a range 2.42 loses samples from step to step.
        1 => range().prop_map(|range| {
            let range = range.replace(" @ start()", "").replace(" @ end()", "");
            format!("predict_linear({range}, 600)")
        }),
        1 => range().prop_map(|range| format!("quantile_over_time(0.3, {range})")),
        1 => range().prop_map(|range| format!("holt_winters({range}, 0.3, 0.6)")),
    ]
    .boxed()
}

fn scalar() -> BoxedStrategy<String> {
    prop_oneof![
        one_of(&["0", "1", "2.5", "-7", "1e3", "0.1", "time() % 60", "pi()"]),
        one_of(&[
            "scalar(owner{table=\"t1\"})",
            "scalar(gauge)",
            "scalar(sum(gauge))"
        ]),
    ]
    .boxed()
}

fn grouping() -> BoxedStrategy<String> {
    one_of(&[
        "",
        " by (table)",
        " by (op)",
        " by (host)",
        " by (missing)",
        " without (op)",
        " without (host)",
        " by (table, op)",
    ])
    .boxed()
}

fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => (selector(), shift()).prop_map(|(selector, shift)| format!("{selector}{shift}")),
        5 => over_range(),
        1 => scalar().prop_map(|scalar| format!("vector({scalar})")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let inner = inner.boxed();
        let aggregation = one_of(&[
            "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
        ]);
        let aggregated = (aggregation, grouping(), inner.clone())
            .prop_map(|(op, grouping, inner)| format!("{op}{grouping} ({inner})"));
        let with_parameter = one_of(&["quantile{} (0.4, ", "topk{} (2, ", "bottomk{} (1, "]);
        let ranked = (with_parameter, grouping(), inner.clone())
            .prop_map(|(op, grouping, inner)| format!("{}{inner})", op.replace("{}", &grouping)));
        let function = one_of(&[
            "abs",
            "ceil",
            "floor",
            "exp",
            "ln",
            "log2",
            "log10",
            "sqrt",
            "sgn",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "acosh",
            "atanh",
            "deg",
            "rad",
            "timestamp",
            "absent",
            "sort",
            "sort_desc",
            "minute",
            "hour",
            "day_of_week",
            "days_in_month",
            "round",
            "-",
        ]);
        let mapped =
            (function, inner.clone()).prop_map(|(function, inner)| format!("{function}({inner})"));
        let clamped = (inner.clone(), scalar(), scalar())
            .prop_map(|(inner, low, high)| format!("clamp({inner}, {low}, {high})"));
        let operator = one_of(&[
            "+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "> bool", "== bool",
            "atan2",
        ]);
        let with_scalar = (inner.clone(), operator.clone(), scalar(), any::<bool>()).prop_map(
            |(inner, operator, scalar, is_left)| {
                if is_left {
                    format!("({scalar}) {operator} ({inner})")
                } else {
                    format!("({inner}) {operator} ({scalar})")
                }
            },
        );
        let matching = one_of(&[
            "",
            " on (table)",
            " on (host)",
            " on ()",
            " ignoring (op)",
            " ignoring (host)",
            " on (table) group_left ()",
            " on (table) group_left (team)",
            " on (host) group_right ()",
            " ignoring (op) group_left ()",
        ]);
        let between = (inner.clone(), operator, matching, inner.clone()).prop_map(
            |(left, operator, matching, right)| format!("({left}) {operator}{matching} ({right})"),
        );
        let set = one_of(&["and", "or", "unless"]);
        let on = one_of(&["", " on (host)", " on ()", " ignoring (op)"]);
        let sets = (inner.clone(), set, on, inner.clone())
            .prop_map(|(left, set, on, right)| format!("({left}) {set}{on} ({right})"));
        let replaced = inner.clone().prop_map(|inner| {
            format!("label_replace({inner}, \"node\", \"n$1\", \"host\", \"h(.*)\")")
        });
        let joined = inner
            .prop_map(|inner| format!("label_join({inner}, \"key\", \"-\", \"table\", \"op\")"));
        let histogram = one_of(&[
            "histogram_quantile(0.9, lag_seconds_bucket)",
            "histogram_quantile(0.5, rate(lag_seconds_bucket[4m]))",
            "histogram_quantile(0.2, sum by (le) (increase(lag_seconds_bucket[10m])))",
        ]);
        prop_oneof![
            4 => aggregated, 2 => ranked, 4 => mapped, 1 => clamped,
            3 => with_scalar, 4 => between, 3 => sets, 1 => replaced, 1 => joined, 1 => histogram,
        ]
    })
}

/// The query with comparisons that keep all series.
fn with_bool(query: &str) -> String {
    let mut query = query.to_owned();
    for operator in ["==", "!=", ">=", "<=", ">", "<"] {
        let kept = format!(" {operator} bool ");
        query = query
            .replace(&kept, &format!(" {operator} "))
            .replace(&format!(" {operator} "), &kept);
    }
    query
}

/// Any vector, and what its values are, which is a matter of the last bit unless they are moderate.
fn query_text() -> impl Strategy<Value = String> {
    let counted = vector()
        .prop_map(|inner| format!("count_values(\"value\", round(clamp({inner}, -1e6, 1e6), 10))"));
    prop_oneof![15 => vector(), 1 => counted]
}

/// How a query is asked.
#[derive(Clone, Copy, Debug)]
enum When {
    At(i64),
    Over(i64, i64),
}

/// The points, or the kind of error.
type Outcome = Result<Points, String>;

fn ask(port: u16, text: String, when: When) -> Outcome {
    let seconds = |at_ms: i64| (at_ms / 1000).to_string();
    let (path, mut parameters) = match when {
        When::At(at_ms) => ("/api/v1/query", vec![("time", seconds(at_ms))]),
        When::Over(start_ms, end_ms) => (
            "/api/v1/query_range",
            vec![
                ("start", seconds(start_ms)),
                ("end", seconds(end_ms)),
                ("step", "45".to_owned()),
            ],
        ),
    };
    parameters.push(("query", text));
    let (status, answer) = query(port, path, &parameters);
    if status == 200 {
        Ok(theirs(&answer["data"]))
    } else {
        Err(answer["errorType"].as_str().unwrap_or_default().to_owned())
    }
}

fn differ(here: &Outcome, there: &Outcome) -> Option<String> {
    match (here, there) {
        (Ok(here), Ok(there)) => difference(here, there),
        (Err(here), Err(there)) if here == there => None,
        (Err(here), Err(there)) => Some(format!("{here} here, {there} there")),
        (Err(here), Ok(_)) => Some(format!("refused here as {here}, answered there")),
        (Ok(_), Err(there)) => Some(format!("answered here, refused there as {there}")),
    }
}

/// Whether two answers have the same series and steps, and values closer than so much.
fn is_close(here: &Outcome, there: &Outcome, close: impl Fn(f64, f64) -> bool) -> bool {
    let (Ok(here), Ok(there)) = (here, there) else {
        return differ(here, there).is_none();
    };
    here.keys().eq(there.keys())
        && here.values().zip(there.values()).all(|(here, there)| {
            here.keys().eq(there.keys())
                && here.values().zip(there.values()).all(|(&here, &there)| {
                    here == there || (here.is_nan() && there.is_nan()) || close(here, there)
                })
        })
}

/// The points where none of both is NaN here.
fn without_nan(here: &Outcome, there: &Outcome) -> Option<(Outcome, Outcome)> {
    let (Ok(here), Ok(there)) = (here, there) else {
        return None;
    };
    // `count_values` makes labels of values.
    let is_kept = |labels: &Labels, at_ms: &i64| {
        let value = here.get(labels).and_then(|points| points.get(at_ms));
        value.is_some_and(|value| !value.is_nan())
    };
    let kept = |points: &Points| -> Outcome {
        let named = points.iter();
        let named = named.filter(|(labels, _)| labels.get("value") != Some("NaN"));
        let series = named.map(|(labels, points)| {
            let points = points.iter().filter(|(at_ms, _)| is_kept(labels, at_ms));
            (
                labels.clone(),
                points.map(|(at_ms, value)| (*at_ms, *value)).collect(),
            )
        });
        Ok(series.collect())
    };
    Some((kept(here), kept(there)))
}

fn without_names(outcome: &Outcome) -> Outcome {
    let points = outcome.clone()?;
    let nameless = points.into_iter();
    Ok(nameless
        .map(|(labels, points)| (labels.without_metric(), points))
        .collect())
}

/// The values of each step in order, without the labels that they have.
fn values(outcome: &Outcome) -> Option<BTreeMap<i64, Vec<f64>>> {
    let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (at_ms, value) in outcome.as_ref().ok()?.values().flatten() {
        values.entry(*at_ms).or_default().push(*value);
    }
    for values in values.values_mut() {
        values.sort_by(f64::total_cmp);
    }
    Some(values)
}

/// Why two answers to a query differ, when that is known; `shorter` asks 2.42 with shorter windows, and
/// `keeping` with comparisons that keep all series.
fn explain(
    query: &str,
    ours: &Outcome,
    debian: &Outcome,
    shorter: impl FnOnce() -> Outcome,
    keeping: impl FnOnce() -> Outcome,
) -> Option<Explanation> {
    let rounding = |here: f64, there: f64| (here - there).abs() < ROUNDING;
    let is_near = |here: f64, there: f64| {
        (here - there).abs() <= SHORTER_TOLERANCE * (here.abs() + there.abs())
            || rounding(here, there)
    };
    let has_deviation = ["stddev", "stdvar"].iter().any(|name| {
        let mut after = query.split(name).skip(1);
        after.any(|rest| !rest.starts_with("_over_time"))
    });
    let without_nan = || without_nan(ours, debian);
    let is_ranked = query.contains("topk") || query.contains("bottomk");
    if is_close(ours, debian, rounding) {
        Some(Explanation::CompensatedSums)
    } else if has_deviation
        && without_nan().is_some_and(|(here, there)| is_close(&here, &there, rounding))
    {
        Some(Explanation::DeviationOfNan)
    } else if query.contains("atan2") && is_close(ours, &without_names(debian), rounding) {
        Some(Explanation::NameAfterAtan2)
    } else if is_ranked && values(ours).is_some() && values(ours) == values(debian) {
        Some(Explanation::Ties)
    } else if is_execution(ours) && debian.is_ok() && is_execution(&keeping()) {
        Some(Explanation::ManyBeforeComparison)
    } else if is_close(ours, &shorter(), is_near) {
        Some(Explanation::LeftOpenWindows)
    } else {
        None
    }
}

fn is_execution(outcome: &Outcome) -> bool {
    outcome.as_ref().is_err_and(|kind| kind == "execution")
}

#[test]
fn generated_queries_are_answered_as_by_prometheus() {
    if std::env::var_os("CUTOVER_REAL").is_none_or(|value| value != "1") {
        say("skipped: CUTOVER_REAL is not set (tests/real/run sets it)");
        return;
    }
    if !Path::new(BINARY).exists() {
        say(&format!("skipped: there is no {BINARY}"));
        return;
    }
    let seed: u64 = std::env::var("CUTOVER_SEED")
        .map_or(42, |seed| seed.parse().expect("CUTOVER_SEED is a number"));
    say(&format!("CUTOVER_SEED={seed}"));
    let now = SystemClock::default().now();
    let end_ms = now.ms().div_euclid(60_000) * 60_000;
    let start_ms = end_ms - SCRAPES * SCRAPE_MS;
    let series = data(start_ms);
    let flags = ["--query.lookback-delta=4m59s999ms"];
    let prometheus = Prometheus::start_with(free_address().port(), "global: {}\n", &flags);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cutover = Server::start(dir.path(), None, &[]);
    let (here, there) = (cutover.address.port(), prometheus.port);
    for port in [here, there] {
        remote_write(port, &series);
    }

    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = query_text();
    let mut explained: BTreeMap<Explanation, Vec<String>> = BTreeMap::new();
    let mut unexplained = Vec::new();
    let (mut asked, mut refused, mut empty) = (0, 0, 0);
    for _ in 0..QUERIES {
        let tree = strategy.new_tree(&mut runner);
        let generated = tree.expect("nothing is filtered out").current();
        for when in [
            When::At(start_ms + 1_200_000),
            When::At(end_ms - 300_000),
            When::Over(start_ms, end_ms),
        ] {
            asked += 1;
            let ours = ask(here, text(&generated, 0), when);
            let debian = ask(there, text(&generated, 0), when);
            refused += usize::from(ours.is_err());
            empty += usize::from(ours.as_ref().is_ok_and(Points::is_empty));
            let Some(difference) = differ(&ours, &debian) else {
                continue;
            };
            let case = format!("{} {when:?}: {difference}", text(&generated, 0));
            let shorter = || ask(there, text(&generated, 1), when);
            let keeping = || ask(there, with_bool(&text(&generated, 0)), when);
            match explain(&generated, &ours, &debian, shorter, keeping) {
                Some(explanation) => explained.entry(explanation).or_default().push(case),
                None => unexplained.push(case),
            }
        }
    }
    say(&format!(
        "{QUERIES} queries, {asked} times asked of each; {refused} refused by both, {empty} without data"
    ));
    say("| answers differ | because | for example |\n| --- | --- | --- |");
    for (explanation, cases) in &explained {
        let example = cases.first().map_or("", String::as_str);
        let (count, because) = (cases.len(), explanation.text());
        say(&format!("| {count} | {because} | `{example}` |"));
    }
    say(&format!(
        "| {} | without an explanation | |",
        unexplained.len()
    ));
    assert!(
        refused < asked / 5 && empty < asked / 2,
        "most queries have an answer"
    );
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
}
