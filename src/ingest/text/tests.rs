use proptest::prelude::*;

use super::*;
use crate::ingest::admission;
use crate::ingest::tests::{Fixture, NOW_MS};
use crate::store::Written;

fn take(
    fixture: &Fixture,
    format: Format,
    text: &str,
) -> Result<(admission::Refused, Written), Refused> {
    let received = Timestamp::from_ms(NOW_MS);
    fixture.take(|admission| decode(format, text.as_bytes(), received, admission))
}

/// What is stored of a text that is taken whole: series, milliseconds, value.
fn stored(format: Format, text: &str) -> Vec<(String, i64, f64)> {
    let fixture = Fixture::new();
    let (refused, written) = take(&fixture, format, text).unwrap();
    assert_eq!((refused.first, written.rejected), (None, 0));
    let series = fixture.stored().into_iter();
    series
        .flat_map(|(series, points)| {
            let points = points.into_iter();
            points.map(move |(at, bits)| (series.clone(), at, f64::from_bits(bits)))
        })
        .collect()
}

fn one(format: Format, text: &str) -> (String, i64, f64) {
    let all = stored(format, text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

fn error(format: Format, text: &str) -> String {
    let fixture = Fixture::new();
    let error = take(&fixture, format, text).unwrap_err();
    assert_eq!(fixture.stored(), []);
    error.to_string()
}

fn at(series: &str, at_ms: i64, value: f64) -> (String, i64, f64) {
    (series.to_owned(), at_ms, value)
}

#[test]
fn samples_have_the_time_that_is_written_or_that_of_the_receipt() {
    let text = "a 1\nb -2.5e3 1600000000123\nc{} .5 -7\n";
    assert_eq!(
        stored(Format::Text, text),
        [
            at("a", NOW_MS, 1.0),
            at("b", 1_600_000_000_123, -2500.0),
            at("c", -7, 0.5)
        ]
    );
    let text = "a 1\nb 2 1600000000.123\nc 3 1.001\nd 4 1e3\n# EOF\n";
    assert_eq!(
        stored(Format::OpenMetrics, text),
        [
            at("a", NOW_MS, 1.0),
            at("b", 1_600_000_000_123, 2.0),
            at("c", 1001, 3.0),
            at("d", 1_000_000, 4.0)
        ]
    );
}

#[test]
fn values_are_those_that_go_writes() {
    let value = |text: &str| one(Format::Text, &format!("a {text}")).2;
    assert_eq!(value("+Inf"), f64::INFINITY);
    assert_eq!(value("-Inf"), f64::NEG_INFINITY);
    assert_eq!(value("NaN").to_bits(), 0x7ff8_0000_0000_0001);
    assert_eq!(value("1.7976931348623157e+308"), f64::MAX);
    assert_eq!(
        error(Format::Text, "a 0x1p3"),
        "line 1, column 3: \"0x1p3\" is not a number"
    );
}

#[test]
fn labels_are_escaped_quoted_and_spaced_in_every_allowed_way() {
    let series = |text: &str| one(Format::Text, text).0;
    assert_eq!(series(r#"a{b="1",c="2",} 1"#), r#"a{b="1",c="2"}"#);
    assert_eq!(
        series("a\t{ b = \"1\" , c=\"2\" }\t1 \t5 "),
        r#"a{b="1",c="2"}"#
    );
    assert_eq!(series(r#"a{le="1",job="x"} 1"#), r#"a{job="x",le="1"}"#);
    assert_eq!(series(r#"a{b="\"\\\n\d"} 1"#), r#"a{b="\"\\\n\\d"}"#);
    assert_eq!(
        series(r#"{"a.b","c.d"="1",e="}#,"} 1"#),
        r#"a.b{c.d="1",e="}#,"}"#
    );
    assert_eq!(series(r#"{"a\"b"} 1"#), r#"a"b"#);
    assert_eq!(series(r#"{__name__="a"} 1"#), "a");
    assert_eq!(series("job:rate5m 1"), "job:rate5m");
    assert_eq!(series("a{b=\"\u{fc}\"} 1\r\n"), "a{b=\"\u{fc}\"}");
}

#[test]
fn help_type_and_unit_describe_a_metric_wherever_they_stand() {
    let text = concat!(
        "# HELP a_seconds How long.\\nAnd \\\\ why \\\"so\\\".\n",
        "# TYPE \"b.c\" gauge\n",
        "# a comment, # TYPE of nothing\n#\n",
        "# TYPE a_seconds counter\n",
        "# UNIT a_seconds seconds\n",
        "a_seconds_total 1\n",
        "# EOF\n",
    );
    let described = |format| {
        let fixture = Fixture::new();
        take(&fixture, format, text).unwrap();
        let metadata = fixture.metadata().into_iter();
        metadata
            .map(|(metric, found)| (metric, found.kind, found.help, found.unit))
            .collect::<Vec<_>>()
    };
    let (a, b) = ("a_seconds".to_owned(), "b.c".to_owned());
    let none = String::new;
    assert_eq!(
        described(Format::OpenMetrics),
        [
            (
                a.clone(),
                MetricKind::Counter,
                "How long.\nAnd \\ why \"so\".".to_owned(),
                "seconds".to_owned()
            ),
            (b.clone(), MetricKind::Gauge, none(), none())
        ]
    );
    // There is no unit in the older format, and quotes are not escaped.
    let help = "How long.\nAnd \\ why \\\"so\\\".".to_owned();
    assert_eq!(
        described(Format::Text),
        [
            (a, MetricKind::Counter, help, none()),
            (b, MetricKind::Gauge, none(), none())
        ]
    );
}

#[test]
fn exemplars_are_passed_over_where_they_may_stand() {
    let text = "a_total 5 # {trace=\"x y\"} 0.5\nb_total 6 2 # {} 1 1.5\n# EOF\n";
    assert_eq!(
        stored(Format::OpenMetrics, text),
        [at("a_total", NOW_MS, 5.0), at("b_total", 2000, 6.0)]
    );
    assert_eq!(
        error(Format::Text, "a_total 5 # {} 1"),
        "line 1, column 11: expected the end of the line"
    );
    assert_eq!(
        error(Format::OpenMetrics, "a_total 5 # 7\n# EOF"),
        "line 1, column 13: expected the labels of an exemplar in braces"
    );
}

#[test]
fn open_metrics_ends_with_its_mark() {
    let format = Format::OpenMetrics;
    assert_eq!(
        error(format, "a 1\n"),
        "line 2, column 1: the text does not end with # EOF"
    );
    assert_eq!(
        error(format, "# EOF\n\na 1\n"),
        "line 3, column 1: there is text after # EOF"
    );
    assert_eq!(stored(format, "# EOF"), []);
    assert_eq!(stored(Format::Text, "# EOF\na 1\n").len(), 1);
}

#[test]
fn an_error_names_line_and_column_and_nothing_is_stored() {
    for (text, message) in [
        (
            "a 1\n9b 2",
            "line 2, column 1: expected a metric's name or a brace",
        ),
        (
            "a 1\n  \u{e9}",
            "line 2, column 3: expected a metric's name or a brace",
        ),
        ("a", "line 1, column 2: expected a value"),
        (
            "a{b=\"\u{e9}\"} x",
            "line 1, column 10: \"x\" is not a number",
        ),
        ("a{b=1} 1", "line 1, column 5: expected a value in quotes"),
        ("a{b} 1", "line 1, column 4: expected an equals sign"),
        (
            "a{b=\"1\" c=\"2\"} 1",
            "line 1, column 9: expected a comma or a closing brace",
        ),
        ("a{,} 1", "line 1, column 3: expected a label's name"),
        (
            "a{b=\"1} 1\n",
            "line 1, column 5: a quoted text does not end in its line",
        ),
        ("a{\"b\"} 1", "line 1, column 3: the metric has two names"),
        ("{b=\"1\"} 1", "line 1, column 1: the metric has no name"),
        ("{\"\"} 1", "line 1, column 1: the metric has no name"),
        (
            "a 1 1.5",
            "line 1, column 5: \"1.5\" is not a timestamp in milliseconds",
        ),
        (
            "a 1 9223372036854775808",
            "line 1, column 5: \"9223372036854775808\" is not a timestamp in milliseconds",
        ),
        ("a 1 2 3", "line 1, column 7: expected the end of the line"),
        (
            "# TYPE a thing",
            "line 1, column 10: \"thing\" is not a type of metric",
        ),
        ("# HELP", "line 1, column 7: expected a metric's name"),
    ] {
        assert_eq!(error(Format::Text, text), message, "{text}");
    }
    assert_eq!(
        error(Format::OpenMetrics, "a 1 NaN\n# EOF"),
        "line 1, column 5: \"NaN\" is not a timestamp in seconds"
    );
    let received = Timestamp::from_ms(NOW_MS);
    let not_text = Fixture::new()
        .take(|admission| decode(Format::Text, b"a 1\nb \xff", received, admission))
        .unwrap_err();
    assert_eq!(
        not_text.to_string(),
        "line 2, column 3: the text is not UTF-8"
    );
}

#[test]
fn a_series_with_a_label_twice_is_refused_alone() {
    let fixture = Fixture::new();
    let text = "a{b=\"1\",b=\"2\"} 1\nc 2\n";
    let (refused, written) = take(&fixture, Format::Text, text).unwrap();
    assert_eq!((refused.samples, written.accepted), (1, 1));
    let first = refused.first.unwrap().to_string();
    assert!(first.ends_with("label \"b\" occurs twice"), "{first}");
}

#[test]
fn what_our_own_registry_renders_is_read() {
    let metrics = crate::telemetry::Metrics::default();
    let counter = metrics.counter("x_total", "What \"it\" is.\nMore.", &["a"]);
    counter.with_label_values(&["\\ \" \n"]).inc();
    let all = stored(Format::Text, &metrics.render());
    assert_eq!(all, [at("x_total{a=\"\\\\ \\\" \\n\"}", NOW_MS, 1.0)]);
}

/// Pieces of which texts that are nearly right are made.
fn nearly_right() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b_total",
        "{",
        "}",
        "\"",
        "\\",
        "=",
        ",",
        " ",
        "\n",
        "#",
        "# TYPE ",
        "# HELP ",
        "# EOF",
        "1",
        "-2.5e3",
        "NaN",
        "counter",
        "\t",
        "\r",
        "\u{e9}",
        "1600000000",
        ".",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn arbitrary_text_never_breaks() {
    let fixture = Fixture::new();
    let bytes = prop::collection::vec(any::<u8>(), 0..100);
    let received = Timestamp::from_ms(NOW_MS);
    proptest!(|(text in prop_oneof![nearly_right(), "\\PC*"], bytes in bytes)| {
        for format in [Format::Text, Format::OpenMetrics] {
            drop(take(&fixture, format, &text));
            drop(fixture.take(|admission| decode(format, &bytes, received, admission)));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_series_that_is_written_is_read(
        labels in prop::collection::btree_map("[a-z]{1,5}", "[^\r]{1,12}", 0..5),
        bits in any::<u64>(),
        at_ms in -NOW_MS..NOW_MS,
    ) {
        let value = f64::from_bits(bits);
        let pairs: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let series = crate::model::Labels::of("m", &pairs).to_string();
        let (found, found_at, found_value) = one(Format::Text, &format!("{series} {value} {at_ms}"));
        prop_assert_eq!(found, series);
        prop_assert_eq!(found_at, at_ms);
        prop_assert!(found_value == value || (found_value.is_nan() && value.is_nan()));
    }
}
