use std::time::Duration;

use super::*;
use crate::ingest::tests::{Fixture, NOW_MS};

const T0: i64 = NOW_MS;

fn groups(fixture: &Fixture) -> Groups {
    let (reader, writer) = (fixture.store.reader(), fixture.store.writer());
    Groups::open(reader, writer, fixture.clock.clone()).unwrap()
}

fn key(path: &str) -> GroupKey {
    parse_path(path).unwrap()
}

fn push(groups: &Groups, method: Method, path: &str, text: &str) -> Result<Written, Error> {
    groups.push(method, key(path), Format::Text, text.as_bytes())
}

fn refusal(pushed: Result<Written, Error>) -> String {
    let text = pushed.unwrap_err().to_string();
    let (_, reason) = text.split_once("existing metrics: ").unwrap();
    reason.to_owned()
}

/// Milliseconds after the beginning, and the value; `None` is the end.
type AtValue = (i64, Option<f64>);

/// The samples of each series but those that tell the times of pushes.
fn samples(fixture: &Fixture) -> Vec<(String, Vec<AtValue>)> {
    let all = fixture.stored().into_iter();
    all.filter(|(series, _)| !series.starts_with("push_"))
        .map(|(series, samples)| {
            let samples = samples.into_iter().map(|(at, bits)| {
                let value = f64::from_bits(bits);
                (at - T0, (!crate::model::is_stale(value)).then_some(value))
            });
            (series, samples.collect())
        })
        .collect()
}

fn last(fixture: &Fixture, series: &str) -> (i64, f64) {
    let all = fixture.stored();
    let (_, samples) = all.iter().find(|(name, _)| name == series).unwrap();
    let (at, bits) = samples.last().unwrap();
    (at - T0, f64::from_bits(*bits))
}

#[test]
fn what_is_pushed_is_written_on_the_grid_until_it_is_deleted() {
    let fixture = Fixture::new();
    let groups = groups(&fixture);
    push(&groups, Method::Replace, "/metrics/job/a", "x 1\n").unwrap();
    fixture.clock.advance(Duration::from_secs(15));
    groups.tick().unwrap();
    fixture.clock.advance(Duration::from_secs(15));
    groups.delete(key("/metrics/job/a")).unwrap();
    groups.delete(key("/metrics/job/a")).unwrap();
    fixture.clock.advance(Duration::from_secs(15));
    groups.tick().unwrap();
    assert_eq!(
        samples(&fixture),
        [(
            "x{job=\"a\"}".to_owned(),
            vec![(0, Some(1.0)), (15_000, Some(1.0)), (30_000, None)]
        )]
    );
    let (at, value) = last(&fixture, "push_time_seconds{job=\"a\"}");
    assert!(at == 30_000 && crate::model::is_stale(value));
}

#[test]
fn put_replaces_the_group_and_post_metrics_of_the_same_name() {
    let fixture = Fixture::new();
    let groups = groups(&fixture);
    let path = "/metrics/job/a";
    push(
        &groups,
        Method::Replace,
        path,
        "x{l=\"1\"} 1\nx{l=\"2\"} 1\ny 1\n",
    )
    .unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    push(&groups, Method::Merge, path, "x{l=\"1\"} 2\n").unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    push(&groups, Method::Replace, path, "z 3\n").unwrap();
    let expected = [
        (
            "x{job=\"a\",l=\"1\"}",
            vec![(0, Some(1.0)), (1000, Some(2.0)), (2000, None)],
        ),
        ("x{job=\"a\",l=\"2\"}", vec![(0, Some(1.0)), (1000, None)]),
        // Not pushed by POST, but still in the group, whose values are written with it.
        (
            "y{job=\"a\"}",
            vec![(0, Some(1.0)), (1000, Some(1.0)), (2000, None)],
        ),
        ("z{job=\"a\"}", vec![(2000, Some(3.0))]),
    ];
    let expected = expected.map(|(series, samples)| (series.to_owned(), samples));
    assert_eq!(samples(&fixture), expected);
}

#[test]
fn an_empty_push_keeps_the_group_and_its_time() {
    let fixture = Fixture::new();
    let groups = groups(&fixture);
    push(&groups, Method::Replace, "/metrics/job/a", "x 1\n").unwrap();
    fixture.clock.advance(Duration::from_secs(5));
    push(&groups, Method::Replace, "/metrics/job/a", "").unwrap();
    let seconds = (T0 + 5000) as f64 / 1e3;
    let time = "push_time_seconds{job=\"a\"}";
    assert_eq!(last(&fixture, time), (5000, seconds));
    assert_eq!(samples(&fixture)[0].1.last(), Some(&(5000, None)));
}

#[test]
fn groups_are_held_over_a_restart_and_two_pushes_of_one_moment_are_two_samples() {
    let fixture = Fixture::new();
    let before = groups(&fixture);
    push(&before, Method::Replace, "/metrics/job/a", "x 1\n").unwrap();
    push(&before, Method::Replace, "/metrics/job/a", "x 2\n").unwrap();
    fixture.clock.advance(Duration::from_secs(15));
    let after = groups(&fixture);
    after.tick().unwrap();
    let expected = vec![(0, Some(1.0)), (1, Some(2.0)), (15_000, Some(2.0))];
    assert_eq!(samples(&fixture), [("x{job=\"a\"}".to_owned(), expected)]);
}

#[test]
fn a_push_that_contradicts_another_group_is_refused_and_the_group_says_when() {
    let fixture = Fixture::new();
    let groups = groups(&fixture);
    let gauge = "# TYPE x gauge\nx{l=\"1\"} 1\n";
    push(&groups, Method::Replace, "/metrics/job/a", gauge).unwrap();
    fixture.clock.advance(Duration::from_secs(2));
    let counter = "# TYPE x counter\nx 1\ny 1\n";
    assert_eq!(
        refusal(push(&groups, Method::Merge, "/metrics/job/b", counter)),
        "metric \"x\" is a counter here and a gauge in group {job=\"a\"}"
    );
    let same = push(
        &groups,
        Method::Merge,
        "/metrics/job/a/l/1",
        "# TYPE x gauge\nx 5\n",
    );
    assert_eq!(
        refusal(same),
        "x{job=\"a\",l=\"1\"} is in group {job=\"a\"} already"
    );
    // Nothing of it is there, and the group that it would have made says that it failed.
    let seconds = (T0 + 2000) as f64 / 1e3;
    let failure = "push_failure_time_seconds{job=\"b\"}";
    assert_eq!(last(&fixture, failure), (2000, seconds));
    assert_eq!(last(&fixture, "push_time_seconds{job=\"b\"}"), (2000, 0.0));
    assert_eq!(samples(&fixture).len(), 1);
    // A group may change its own mind.
    push(&groups, Method::Merge, "/metrics/job/a", counter).unwrap();
}

#[test]
fn a_text_that_cannot_be_read_leaves_no_trace() {
    let fixture = Fixture::new();
    let groups = groups(&fixture);
    let error = push(&groups, Method::Replace, "/metrics/job/a", "x{ 1").unwrap_err();
    assert!(error.to_string().contains("line 1, column 4"), "{error}");
    assert_eq!(fixture.stored(), []);
}

#[test]
fn metrics_that_are_pushed_are_described() {
    let fixture = Fixture::new();
    let groups = groups(&fixture);
    let text = "# HELP x_total What it is.\n# TYPE x_total counter\nx_total 1\n";
    push(&groups, Method::Replace, "/metrics/job/a", text).unwrap();
    let metadata = fixture.metadata();
    let (_, x) = metadata.iter().find(|(name, _)| name == "x_total").unwrap();
    assert_eq!((x.kind, &*x.help), (MetricKind::Counter, "What it is."));
}
