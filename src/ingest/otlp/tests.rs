use proptest::prelude::*;

use super::message::*;
use super::*;
use crate::ingest::tests::{Fixture, NOW_MS};
use crate::model::{MetricKind, is_stale};

fn receiver(fixture: &Fixture, config: Config) -> Receiver {
    Receiver::new(config, fixture.store.reader(), fixture.store.writer())
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            string_value: Some(value.to_owned()),
            ..AnyValue::default()
        }),
    }
}

/// So many seconds after the beginning.
fn nanos(after_s: i64) -> u64 {
    ((NOW_MS + 1000 * after_s) as u64) * 1_000_000
}

fn number(after_s: i64, value: f64, attributes: &[(&str, &str)]) -> NumberPoint {
    let attributes = attributes.iter();
    NumberPoint {
        time_unix_nano: nanos(after_s),
        as_double: Some(value),
        attributes: attributes
            .map(|(key, value)| attribute(key, value))
            .collect(),
        ..NumberPoint::default()
    }
}

fn gauge(name: &str, unit: &str, points: Vec<NumberPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: format!("What {name} is."),
        gauge: Some(Gauge {
            data_points: points,
        }),
        ..Metric::default()
    }
}

fn sum(name: &str, temporality: i32, is_monotonic: bool, points: Vec<NumberPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        sum: Some(Sum {
            data_points: points,
            aggregation_temporality: temporality,
            is_monotonic,
        }),
        ..Metric::default()
    }
}

fn histogram(temporality: i32, points: Vec<HistogramPoint>) -> Metric {
    Metric {
        name: "d".to_owned(),
        unit: "s".to_owned(),
        histogram: Some(Histogram {
            data_points: points,
            aggregation_temporality: temporality,
        }),
        ..Metric::default()
    }
}

fn buckets(after_s: i64, counts: &[u64], sum: f64) -> HistogramPoint {
    HistogramPoint {
        time_unix_nano: nanos(after_s),
        start_time_unix_nano: nanos(0),
        count: counts.iter().sum(),
        sum: Some(sum),
        bucket_counts: counts.to_vec(),
        explicit_bounds: vec![0.5, 1.0],
        ..HistogramPoint::default()
    }
}

const SERVICE: [(&str, &str); 3] = [
    ("service.name", "shop"),
    ("service.namespace", "prod"),
    ("service.instance.id", "i1"),
];

fn request(resource: &[(&str, &str)], metrics: Vec<Metric>) -> Request {
    let attributes = resource.iter();
    Request {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: attributes
                    .map(|(key, value)| attribute(key, value))
                    .collect(),
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(Scope {
                    name: "lib".to_owned(),
                    version: "1.2".to_owned(),
                    attributes: vec![attribute("x.y", "z")],
                }),
                metrics,
                schema_url: String::new(),
            }],
        }],
    }
}

fn take(receiver: &Receiver, request: &Request) -> Answer {
    let body = request.encode_to_vec();
    receiver.take(Encoding::Protobuf, &body).unwrap().answer
}

/// Seconds after the beginning, and the value; `None` is the end.
type AtValue = (f64, Option<f64>);

/// Every series with its samples.
fn stored(fixture: &Fixture) -> Vec<(String, Vec<AtValue>)> {
    let all = fixture.stored().into_iter();
    all.map(|(series, samples)| {
        let samples = samples.into_iter().map(|(at, bits)| {
            let value = f64::from_bits(bits);
            let after = (at - NOW_MS) as f64 / 1e3;
            (after, (!is_stale(value)).then_some(value))
        });
        (series, samples.collect())
    })
    .collect()
}

/// What is stored of one request, each series with one sample of the beginning.
fn values(config: Config, request: &Request) -> Vec<(String, f64)> {
    let fixture = Fixture::new();
    let answer = take(&receiver(&fixture, config), request);
    assert_eq!(answer, Answer::default());
    let all = stored(&fixture).into_iter();
    all.map(|(series, samples)| {
        assert_eq!((samples.len(), samples[0].0), (1, 0.0), "{series}");
        (series, samples[0].1.unwrap())
    })
    .collect()
}

fn expect(values: &[(String, f64)], expected: &[(&str, f64)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(series, value)| ((*series).to_owned(), *value))
        .collect();
    assert_eq!(values, expected);
}

#[test]
fn gauges_and_sums_become_gauges_and_counters_of_their_service() {
    let mut int = number(0, 0.0, &[("http.method", "GET"), ("job", "own")]);
    (int.as_double, int.as_int) = (None, Some(7));
    let metrics = vec![
        gauge(
            "memory.usage",
            "By",
            vec![number(0, 1.5, &[("state", "used")])],
        ),
        sum("requests", 2, true, vec![int]),
        sum("queue.size", 2, false, vec![number(0, -1.0, &[])]),
    ];
    let request = request(&SERVICE, metrics);
    expect(
        &values(Config::default(), &request),
        &[
            (
                "memory_usage_bytes{instance=\"i1\",job=\"prod/shop\",state=\"used\"}",
                1.5,
            ),
            ("queue_size{instance=\"i1\",job=\"prod/shop\"}", -1.0),
            (
                "requests_total{http_method=\"GET\",instance=\"i1\",job=\"prod/shop\"}",
                7.0,
            ),
        ],
    );
}

#[test]
fn what_else_a_resource_says_is_target_info() {
    let resource = [
        ("service.name", "shop"),
        ("host.name", "h"),
        ("telemetry.sdk.language", "python"),
    ];
    let request = request(&resource, vec![gauge("x", "1", vec![number(0, 1.0, &[])])]);
    let info = "target_info{host_name=\"h\",job=\"shop\",telemetry_sdk_language=\"python\"}";
    expect(
        &values(Config::default(), &request),
        &[(info, 1.0), ("x_ratio{job=\"shop\"}", 1.0)],
    );
    let config = Config {
        promote_resource_attributes: vec!["host.name".to_owned()],
        keep_identifying_resource_attributes: true,
        promote_scope_metadata: true,
    };
    let found = values(config, &request);
    assert_eq!(
        found[0].0,
        "target_info{host_name=\"h\",job=\"shop\",service_name=\"shop\",\
         telemetry_sdk_language=\"python\"}"
    );
    assert_eq!(
        found[1].0,
        "x_ratio{host_name=\"h\",job=\"shop\",otel_scope_name=\"lib\",otel_scope_version=\"1.2\",\
         otel_scope_x_y=\"z\"}"
    );
}

#[test]
fn target_info_is_there_all_the_time_that_a_resource_sends() {
    let fixture = Fixture::new();
    let resource = [("service.name", "shop"), ("host.name", "h")];
    let points = vec![number(-400, 1.0, &[]), number(0, 2.0, &[])];
    take(
        &receiver(&fixture, Config::default()),
        &request(&resource, vec![gauge("x", "", points)]),
    );
    let all = stored(&fixture);
    let times: Vec<_> = all[0].1.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [-400.0, -250.0, -100.0, 0.0]);
}

#[test]
fn histograms_have_cumulative_buckets() {
    let request = request(&[], vec![histogram(2, vec![buckets(0, &[1, 2, 4], 9.5)])]);
    expect(
        &values(Config::default(), &request),
        &[
            ("d_seconds_bucket{le=\"+Inf\"}", 7.0),
            ("d_seconds_bucket{le=\"0.5\"}", 1.0),
            ("d_seconds_bucket{le=\"1\"}", 3.0),
            ("d_seconds_count", 7.0),
            ("d_seconds_sum", 9.5),
        ],
    );
}

#[test]
fn summaries_have_quantiles() {
    let point = SummaryPoint {
        time_unix_nano: nanos(0),
        count: 3,
        sum: 6.0,
        quantile_values: vec![QuantileValue {
            quantile: 0.5,
            value: 2.0,
        }],
        ..SummaryPoint::default()
    };
    let metric = Metric {
        name: "s".to_owned(),
        summary: Some(Summary {
            data_points: vec![point],
        }),
        ..Metric::default()
    };
    expect(
        &values(Config::default(), &request(&[], vec![metric])),
        &[
            ("s_count", 3.0),
            ("s_sum", 6.0),
            ("s{quantile=\"0.5\"}", 2.0),
        ],
    );
}

#[test]
fn what_cannot_be_series_is_told_and_the_rest_is_stored() {
    let fixture = Fixture::new();
    let receiver = receiver(&fixture, Config::default());
    let exponential = Metric {
        name: "e".to_owned(),
        exponential_histogram: Some(ExponentialHistogram {
            data_points: vec![Skipped {}, Skipped {}],
        }),
        ..Metric::default()
    };
    let good = gauge("x", "", vec![number(0, 1.0, &[])]);
    let answer = take(&receiver, &request(&[], vec![exponential, good]));
    let message = "metric \"e\": exponential histograms are not stored: use explicit buckets";
    assert_eq!(
        answer,
        Answer {
            rejected_data_points: 2,
            message: message.to_owned()
        }
    );
    assert_eq!(stored(&fixture).len(), 1);

    for (metric, message) in [
        (
            sum("s", 0, true, vec![number(0, 1.0, &[])]),
            "metric \"s\": 0 is not an aggregation temporality",
        ),
        (
            gauge("...", "", vec![number(0, 1.0, &[])]),
            "metric \"...\": its name holds nothing that a name may hold",
        ),
        (
            gauge("y", "", vec![NumberPoint::default()]),
            "metric \"y\": a data point has no value",
        ),
        (
            gauge("y", "", vec![number(0, 1.0, &[("", "z")])]),
            "metric \"y\": attribute \"\" cannot be a label",
        ),
        (
            histogram(2, vec![buckets(0, &[1, 2], 1.0)]),
            "metric \"d\": a histogram has 2 buckets and 2 bounds between them",
        ),
        (
            gauge("y", "", vec![number(7200, 1.0, &[])]),
            "y at 2023-11-15T00:13:20.000Z: more than 10 minutes ahead of the clock",
        ),
    ] {
        let answer = take(&receiver, &request(&[], vec![metric]));
        assert_eq!(
            (answer.rejected_data_points, &*answer.message),
            (1, message)
        );
    }
    assert_eq!(stored(&fixture).len(), 1);
}

#[test]
fn a_point_without_a_value_ends_its_series() {
    let fixture = Fixture::new();
    let receiver = receiver(&fixture, Config::default());
    take(
        &receiver,
        &request(&[], vec![gauge("x", "", vec![number(0, 1.0, &[])])]),
    );
    let mut end = NumberPoint {
        flags: 1,
        ..number(1, 0.0, &[])
    };
    end.as_double = None;
    take(&receiver, &request(&[], vec![gauge("x", "", vec![end])]));
    let samples = vec![(0.0, Some(1.0)), (1.0, None)];
    assert_eq!(stored(&fixture), [("x".to_owned(), samples)]);
}

fn delta(after_s: i64, value: f64) -> Request {
    request(
        &[],
        vec![sum("x", 1, true, vec![number(after_s, value, &[])])],
    )
}

#[test]
fn deltas_are_added_up_over_restarts_and_count_once_when_they_are_repeated() {
    let fixture = Fixture::new();
    let before = receiver(&fixture, Config::default());
    assert_eq!(take(&before, &delta(0, 5.0)), Answer::default());
    assert_eq!(take(&before, &delta(10, 2.0)), Answer::default());
    assert_eq!(take(&before, &delta(10, 2.0)), Answer::default());
    // What is known of the series is what the store has.
    let after = receiver(&fixture, Config::default());
    assert_eq!(take(&after, &delta(10, 2.0)), Answer::default());
    assert_eq!(take(&after, &delta(20, 1.0)), Answer::default());
    let late = take(&after, &delta(15, 4.0));
    assert_eq!(late.rejected_data_points, 1);
    assert!(late.message.contains("is older than one"), "{late:?}");
    let samples = vec![(0.0, Some(5.0)), (10.0, Some(7.0)), (20.0, Some(8.0))];
    assert_eq!(stored(&fixture), [("x_total".to_owned(), samples)]);
}

#[test]
fn a_delta_series_begins_at_zero_where_its_start_is_known() {
    let fixture = Fixture::new();
    let receiver = receiver(&fixture, Config::default());
    let points = vec![buckets(10, &[1, 0, 2], 3.0), buckets(20, &[0, 1, 0], 0.5)];
    assert_eq!(
        take(&receiver, &request(&[], vec![histogram(1, points)])),
        Answer::default()
    );
    let all = stored(&fixture);
    let of = |series: &str| {
        let found = all.iter().find(|(name, _)| name == series);
        found.unwrap().1.clone()
    };
    let three = |a, b, c| vec![(0.0, Some(a)), (10.0, Some(b)), (20.0, Some(c))];
    assert_eq!(of("d_seconds_count"), three(0.0, 3.0, 4.0));
    assert_eq!(of("d_seconds_sum"), three(0.0, 3.0, 3.5));
    assert_eq!(of("d_seconds_bucket{le=\"0.5\"}"), three(0.0, 1.0, 1.0));
    assert_eq!(of("d_seconds_bucket{le=\"1\"}"), three(0.0, 1.0, 2.0));
    assert_eq!(of("d_seconds_bucket{le=\"+Inf\"}"), three(0.0, 3.0, 4.0));
}

#[test]
fn metrics_are_described() {
    let fixture = Fixture::new();
    let receiver = receiver(&fixture, Config::default());
    take(
        &receiver,
        &request(&[], vec![gauge("x", "By/s", vec![number(0, 1.0, &[])])]),
    );
    let (name, metadata) = fixture.metadata().remove(0);
    assert_eq!(name, "x_bytes_per_second");
    assert_eq!(metadata.kind, MetricKind::Gauge);
    assert_eq!(metadata.help, "What x is.");
    assert_eq!(metadata.unit, "bytes_per_second");
}

#[test]
fn json_is_read_as_protobuf_is() {
    let json = format!(
        r#"{{"resourceMetrics": [{{
            "resource": {{"attributes": [
                {{"key": "service.name", "value": {{"stringValue": "shop"}}}}
            ], "droppedAttributesCount": 1}},
            "scopeMetrics": [{{"scope": {{"name": "lib"}}, "metrics": [
                {{"name": "requests", "sum": {{
                    "aggregationTemporality": 2, "isMonotonic": true,
                    "dataPoints": [{{
                        "timeUnixNano": "{time}", "startTimeUnixNano": {time}, "asInt": "3",
                        "attributes": [{{"key": "n", "value": {{"intValue": "4"}}}}],
                        "exemplars": [{{"traceId": "00ff", "asDouble": 1}}]
                    }}]
                }}}},
                {{"name": "d", "unit": "s", "histogram": {{
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                    "dataPoints": [{{
                        "timeUnixNano": "{time}", "count": "3", "sum": 1.5,
                        "bucketCounts": ["1", 2], "explicitBounds": [0.25], "flags": 0
                    }}]
                }}}},
                {{"name": "g", "gauge": {{"dataPoints": [
                    {{"timeUnixNano": "{time}", "asDouble": "Infinity"}}
                ]}}}}
            ]}}]
        }}], "unknown": null}}"#,
        time = nanos(0)
    );
    let fixture = Fixture::new();
    let receiver = receiver(&fixture, Config::default());
    let taken = receiver.take(Encoding::Json, json.as_bytes()).unwrap();
    assert_eq!(taken.answer, Answer::default());
    let all = stored(&fixture).into_iter();
    let found: Vec<_> = all
        .map(|(name, samples)| (name, samples[0].1.unwrap()))
        .collect();
    expect(
        &found,
        &[
            ("d_seconds_bucket{job=\"shop\",le=\"+Inf\"}", 3.0),
            ("d_seconds_bucket{job=\"shop\",le=\"0.25\"}", 1.0),
            ("d_seconds_count{job=\"shop\"}", 3.0),
            ("d_seconds_sum{job=\"shop\"}", 1.5),
            ("g{job=\"shop\"}", f64::INFINITY),
            ("requests_total{job=\"shop\",n=\"4\"}", 3.0),
        ],
    );
    for bad in ["{", "[1]", r#"{"resourceMetrics": [{"scopeMetrics": 1}]}"#] {
        assert!(
            receiver.take(Encoding::Json, bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn an_answer_says_what_was_not_stored() {
    assert_eq!(Answer::default().encode(Encoding::Protobuf), b"");
    assert_eq!(Answer::default().encode(Encoding::Json), b"{}");
    let partial = Answer {
        rejected_data_points: 2,
        message: "why".to_owned(),
    };
    // Field 1 of seven bytes: field 1 is 2, field 2 is a text.
    let bytes = [&[0x0a, 7, 0x08, 2, 0x12, 3][..], b"why"].concat();
    assert_eq!(partial.encode(Encoding::Protobuf), bytes);
    let json: serde_json::Value = serde_json::from_slice(&partial.encode(Encoding::Json)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "why"}})
    );
}

/// Pieces of which bodies are made that are nearly right.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"resourceMetrics\":[",
        "\"scopeMetrics\":[",
        "\"metrics\":[",
        "\"gauge\":{\"dataPoints\":[",
        "\"asInt\":",
        "\"1\"",
        "1e300",
        "-1",
        "null",
        "\"attributes\":[",
        "{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[",
        "\"name\":\"x\"",
        "\"timeUnixNano\":\"18446744073709551615\"",
        "]}}]}]}]}",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

#[test]
fn arbitrary_bodies_never_break() {
    let fixture = Fixture::new();
    let receiver = receiver(&fixture, Config::default());
    let whole = request(
        &SERVICE,
        vec![
            gauge("x", "By", vec![number(0, 1.0, &[("a", "b")])]),
            sum("y", 1, true, vec![number(0, 1.0, &[])]),
            histogram(1, vec![buckets(0, &[1, 2, 3], 1.0)]),
        ],
    )
    .encode_to_vec();
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let changes = prop::collection::vec((0..whole.len(), any::<u8>()), 0..6);
    proptest!(ProptestConfig::with_cases(200), |(
        bytes in bytes, changes in changes, json in nearly_json(),
    )| {
        drop(receiver.take(Encoding::Protobuf, &bytes));
        drop(receiver.take(Encoding::Json, &bytes));
        drop(receiver.take(Encoding::Json, json.as_bytes()));
        let mut damaged = whole.clone();
        for (at, byte) in changes {
            damaged[at] = byte;
        }
        drop(receiver.take(Encoding::Protobuf, &damaged));
    });
}
