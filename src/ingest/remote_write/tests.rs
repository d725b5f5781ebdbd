use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::ingest::admission::{LABELS_MAX, Refused};
use crate::ingest::tests::{Fixture, NOW_MS};
use crate::model::STALE_NAN;
use crate::store::Written;

mod message {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub(super) metadata: Vec<Metadata>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) exemplars: Vec<Exemplar>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
    }

    /// Some of its fields, of every wire type.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) count: u64,
        #[prost(double, tag = "3")]
        pub(super) sum: f64,
        #[prost(fixed32, tag = "99")]
        pub(super) unknown: u32,
        #[prost(int64, tag = "15")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(super) kind: i32,
        #[prost(string, tag = "2")]
        pub(super) metric: String,
        #[prost(string, tag = "4")]
        pub(super) help: String,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Request {
        #[prost(string, repeated, tag = "4")]
        pub(super) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(super) timeseries: Vec<Series>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Series {
        #[prost(uint32, repeated, tag = "1")]
        pub(super) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) histograms: Vec<Histogram>,
        #[prost(message, optional, tag = "5")]
        pub(super) metadata: Option<Described>,
        #[prost(int64, tag = "6")]
        pub(super) created: i64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Described {
        #[prost(int32, tag = "1")]
        pub(super) kind: i32,
        #[prost(uint32, tag = "3")]
        pub(super) help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub(super) unit_ref: u32,
    }
}

fn point(value: f64, after_ms: i64) -> message::Sample {
    message::Sample {
        value,
        timestamp: NOW_MS + after_ms,
    }
}

fn series(pairs: &[(&str, &str)], samples: &[message::Sample]) -> message::TimeSeries {
    let label = |(name, value): &(&str, &str)| message::Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    message::TimeSeries {
        labels: pairs.iter().map(label).collect(),
        samples: samples.to_vec(),
        ..message::TimeSeries::default()
    }
}

fn v1(timeseries: Vec<message::TimeSeries>) -> Vec<u8> {
    let metadata = Vec::new();
    message::WriteRequest {
        timeseries,
        metadata,
    }
    .encode_to_vec()
}

fn take(fixture: &Fixture, version: Version, body: &[u8]) -> Result<(Refused, Written), Error> {
    fixture.take(|admission| decode(version, body, admission))
}

fn error(version: Version, body: &[u8]) -> String {
    let fixture = Fixture::new();
    let error = take(&fixture, version, body).unwrap_err();
    assert_eq!(fixture.stored(), []);
    error.to_string()
}

#[test]
fn samples_arrive_with_every_bit_in_both_versions() {
    let stale = STALE_NAN.to_bits();
    let other_nan = 0xfff8_dead_beef_0001_u64;
    let samples = [
        point(1.5, 0),
        point(f64::from_bits(other_nan), 1),
        point(STALE_NAN, 2),
        point(-1.0, -NOW_MS - 5),
    ];
    let expected = [(
        "up{job=\"\u{e9}\"}".to_owned(),
        vec![
            (-5, (-1.0_f64).to_bits()),
            (NOW_MS, 1.5_f64.to_bits()),
            (NOW_MS + 1, other_nan),
            (NOW_MS + 2, stale),
        ],
    )];
    let first = v1(vec![series(
        &[("__name__", "up"), ("job", "\u{e9}")],
        &samples,
    )]);
    let second = message::Request {
        symbols: ["", "__name__", "up", "job", "\u{e9}"]
            .map(str::to_owned)
            .to_vec(),
        timeseries: vec![message::Series {
            labels_refs: vec![1, 2, 3, 4],
            samples: samples.to_vec(),
            created: NOW_MS,
            ..message::Series::default()
        }],
    }
    .encode_to_vec();
    for (version, body) in [(Version::V1, first), (Version::V2, second)] {
        let fixture = Fixture::new();
        let (refused, written) = take(&fixture, version, &body).unwrap();
        assert_eq!((refused, written.accepted), (Refused::default(), 4));
        assert_eq!(fixture.stored(), expected);
        // The series is known now: the same again is the same.
        let (_, again) = take(&fixture, version, &body).unwrap();
        assert_eq!((again.accepted, again.rejected), (4, 0));
    }
}

#[test]
fn native_histograms_are_refused_by_name_and_the_rest_is_kept() {
    let histogram = message::Histogram {
        count: 3,
        sum: 1.0,
        unknown: 7,
        timestamp: NOW_MS,
    };
    let mut mixed = series(&[("__name__", "latency")], &[point(1.0, 0)]);
    mixed.histograms = vec![histogram; 2];
    mixed.exemplars = vec![message::Exemplar {
        labels: Vec::new(),
        value: 2.0,
    }];
    let body = v1(vec![mixed, series(&[("__name__", "up")], &[point(2.0, 0)])]);
    let fixture = Fixture::new();
    let (refused, written) = take(&fixture, Version::V1, &body).unwrap();
    assert_eq!((refused.samples, written.accepted), (2, 2));
    assert_eq!(
        refused.first.unwrap().to_string(),
        "{__name__=\"latency\"}: native histograms are not stored"
    );
}

#[test]
fn metadata_are_kept_in_both_versions() {
    let first = message::WriteRequest {
        timeseries: Vec::new(),
        metadata: vec![
            message::Metadata {
                kind: 1,
                metric: "a_total".into(),
                help: "All a.".into(),
                unit: "things".into(),
            },
            message::Metadata::default(),
        ],
    }
    .encode_to_vec();
    let described = message::Series {
        labels_refs: vec![1, 2],
        metadata: Some(message::Described {
            kind: 1,
            help_ref: 3,
            unit_ref: 4,
        }),
        ..message::Series::default()
    };
    let second = message::Request {
        symbols: ["", "__name__", "a_total", "All a.", "things"]
            .map(str::to_owned)
            .to_vec(),
        timeseries: vec![described.clone(), described],
    }
    .encode_to_vec();
    for (version, body) in [(Version::V1, first), (Version::V2, second)] {
        let fixture = Fixture::new();
        take(&fixture, version, &body).unwrap();
        let metadata = fixture.metadata();
        assert_eq!(metadata.len(), 1);
        let (metric, metadata) = &metadata[0];
        assert_eq!((&**metric, metadata.kind), ("a_total", MetricKind::Counter));
        assert_eq!((&*metadata.help, &*metadata.unit), ("All a.", "things"));
    }
}

/// A field of bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, content.len() as u8];
    field.extend(content);
    field
}

#[test]
fn the_parts_of_a_message_may_come_in_any_order() {
    let name = [bytes(1, b"__name__"), bytes(2, b"up")].concat();
    let sample = point(1.0, 0).encode_to_vec();
    let job = [bytes(2, b"a"), bytes(1, b"job")].concat();
    let parts = [bytes(2, &sample), bytes(1, &name), bytes(1, &job)];
    let fixture = Fixture::new();
    take(&fixture, Version::V1, &bytes(1, &parts.concat())).unwrap();
    assert_eq!(fixture.stored()[0].0, "up{job=\"a\"}");

    // The table of symbols last, and the references one by one.
    let parts = [bytes(2, &sample), vec![0x08, 0], vec![0x08, 1]];
    let request = [
        bytes(5, &parts.concat()),
        bytes(4, b"__name__"),
        bytes(4, b"down"),
    ];
    take(&fixture, Version::V2, &request.concat()).unwrap();
    assert_eq!(fixture.stored()[0].0, "down");
}

#[test]
fn a_malformed_body_is_refused_whole_with_byte_and_series() {
    let good = v1(vec![series(&[("__name__", "up")], &[point(1.0, 0)])]);
    let mut cut = good.clone();
    cut.extend([0x0a, 5, 0x0a, 9, b'x']);
    let at = good.len() + 1;
    assert_eq!(
        error(Version::V1, &cut),
        format!("malformed protobuf at byte {at}: a length of 5 goes beyond the end")
    );
    let mut nested = good.clone();
    nested.extend(bytes(1, &[0x0a, 9, b'x']));
    let at = good.len() + 3;
    assert_eq!(
        error(Version::V1, &nested),
        format!("malformed protobuf at byte {at} in series 1: a length of 9 goes beyond the end")
    );
    let mut no_text = good;
    no_text.extend(bytes(1, &bytes(1, &bytes(2, &[b'a', 0xff]))));
    let at = no_text.len() - 1;
    assert_eq!(
        error(Version::V1, &no_text),
        format!("malformed protobuf at byte {at} in series 1: text is not UTF-8")
    );
    let number_for_text = bytes(1, &bytes(1, &[0x08, 1]));
    assert_eq!(
        error(Version::V1, &number_for_text),
        "malformed protobuf at byte 4 in series 0: a field has wire type 0, which it cannot have"
    );
}

#[test]
fn references_have_to_fit_the_table() {
    let request = |labels_refs| message::Request {
        symbols: vec![String::new(), "__name__".into()],
        timeseries: vec![message::Series {
            labels_refs,
            samples: vec![point(1.0, 0)],
            ..message::Series::default()
        }],
    };
    let outside = request(vec![1, u32::MAX]).encode_to_vec();
    let message = error(Version::V2, &outside);
    assert!(
        message.ends_with("in series 0: reference 4294967295 into a table of 2 symbols"),
        "{message}"
    );
    let odd = request(vec![1]).encode_to_vec();
    let message = error(Version::V2, &odd);
    assert!(
        message.ends_with("a label name without a value in labels_refs"),
        "{message}"
    );
}

#[test]
fn many_small_things_in_a_short_body_meet_a_limit() {
    // Empty samples, two bytes each.
    let name = [bytes(1, b"__name__"), bytes(2, b"up")].concat();
    let mut body = Vec::new();
    let samples = [0x12, 0].repeat((1 << 20) + 1);
    let length = bytes(1, &name).len() + samples.len();
    body.push(0x0a);
    prost::encoding::encode_varint(length as u64, &mut body);
    body.extend(bytes(1, &name));
    body.extend(&samples);
    assert!(error(Version::V1, &body).starts_with("more than 1048576 samples"));
    // Empty symbols.
    let symbols = [0x22, 0].repeat((1 << 20) + 1);
    assert!(error(Version::V2, &symbols).starts_with("more than 1048576 symbols"));
    // Empty labels: the series is refused, and the list of its labels stays short.
    let labels = [0x0a, 0].repeat(1 << 20);
    let mut body = vec![0x0a];
    prost::encoding::encode_varint(labels.len() as u64 + 2, &mut body);
    body.extend(labels);
    body.extend([0x12, 0]);
    let (refused, _) = take(&Fixture::new(), Version::V1, &body).unwrap();
    assert_eq!(refused.by_reason, [("too_many_labels", 1)]);
    const { assert!(LABELS_MAX < 1 << 20) };
    // Empty series and messages that are passed over hold nothing at all.
    let empty = [0x0a, 0, 0x1a, 0, 0x52, 0].repeat(1 << 18);
    let (refused, written) = take(&Fixture::new(), Version::V1, &empty).unwrap();
    assert_eq!((refused.samples, written.accepted), (0, 0));
}

fn any_sample() -> impl Strategy<Value = message::Sample> {
    (any::<u64>(), -NOW_MS..NOW_MS).prop_map(|(bits, timestamp)| message::Sample {
        value: f64::from_bits(bits),
        timestamp,
    })
}

/// Distinct series with labels of any text, each sorted, with samples at distinct times.
fn any_series() -> impl Strategy<Value = Vec<message::TimeSeries>> {
    let labels = prop::collection::btree_map("[a-z\u{e9}]{1,9}", "\\PC{1,200}", 0..5);
    let samples = prop::collection::vec(any_sample(), 1..4);
    let one = (labels, samples);
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(number, (labels, mut samples))| {
                samples.sort_by_key(|sample| sample.timestamp);
                samples.dedup_by_key(|sample| sample.timestamp);
                let metric = format!("m{number}");
                let name = std::iter::once(("__name__", &*metric));
                let labels = labels.iter().map(|(name, value)| (&**name, &**value));
                let pairs: Vec<_> = name.chain(labels).collect();
                series(&pairs, &samples)
            })
            .collect()
    })
}

/// The same as a request of version 2.0.
fn v2(all: &[message::TimeSeries]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut number = |text: &String| {
        let found = symbols.iter().position(|symbol| symbol == text);
        found.unwrap_or_else(|| {
            symbols.push(text.clone());
            symbols.len() - 1
        }) as u32
    };
    let timeseries = all
        .iter()
        .map(|series| message::Series {
            labels_refs: series
                .labels
                .iter()
                .flat_map(|label| [number(&label.name), number(&label.value)])
                .collect(),
            samples: series.samples.clone(),
            ..message::Series::default()
        })
        .collect();
    message::Request {
        symbols,
        timeseries,
    }
    .encode_to_vec()
}

/// What a store with exactly these series holds.
fn expected(all: &[message::TimeSeries]) -> Vec<(String, Vec<(i64, u64)>)> {
    let mut expected: Vec<_> = all
        .iter()
        .map(|series| {
            let pairs = series.labels.iter();
            let pairs = pairs.map(|label| (label.name.as_str(), label.value.as_str()));
            let labels = crate::model::Labels::try_from_pairs(pairs).unwrap();
            let samples = series.samples.iter();
            let samples = samples.map(|sample| (sample.timestamp, sample.value.to_bits()));
            (labels.to_string(), samples.collect())
        })
        .collect();
    expected.sort();
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_encoded_is_what_is_stored(all in any_series()) {
        for (version, body) in [(Version::V1, v1(all.clone())), (Version::V2, v2(&all))] {
            let fixture = Fixture::new();
            let (refused, written) = take(&fixture, version, &body).unwrap();
            prop_assert_eq!(refused.samples + written.rejected, 0);
            prop_assert_eq!(fixture.stored(), expected(&all));
        }
    }

    #[test]
    fn a_request_with_wrong_bytes_is_refused_or_taken_but_never_breaks(
        all in any_series(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let fixture = Fixture::new();
        for (version, mut body) in [(Version::V1, v1(all.clone())), (Version::V2, v2(&all))] {
            if body.is_empty() {
                continue;
            }
            for (at, byte) in &changes {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            drop(take(&fixture, version, &body));
            body.truncate(cut.index(body.len()));
            drop(take(&fixture, version, &body));
        }
    }
}

#[test]
fn arbitrary_bytes_never_break() {
    let fixture = Fixture::new();
    let arbitrary = prop::collection::vec(any::<u8>(), 0..200);
    proptest!(|(body in arbitrary)| {
        for version in [Version::V1, Version::V2] {
            drop(take(&fixture, version, &body));
        }
    });
}
