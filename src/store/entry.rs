//! Write-ahead entries: what one commit accepted, as bytes that explain themselves.
//!
//! An entry holds the definitions of the series it uses for the first time and needs nothing else to
//! be replayed but the entries before it. The bytes are described in `format.md`.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::{
    Bytes, Malformed, checked, put_checksum, put_slice, put_varint, put_zigzag, unzigzag, zigzag,
};
use super::codec::{from_decimal, to_decimal};
use crate::model::{Label, Labels, Mutation, Sample, SeriesId, Timestamp};

/// An entry of float samples, definitions and records.
const KIND_FLOAT: u8 = 1;
/// An entry of series that are forgotten.
const KIND_FORGET: u8 = 2;

/// A sample on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) series: SeriesId,
    pub(crate) timestamp_ms: i64,
    pub(crate) value: f64,
}

impl Point {
    pub(crate) fn new(series: SeriesId, sample: Sample) -> Self {
        Self {
            series,
            timestamp_ms: sample.timestamp.ms(),
            value: sample.value,
        }
    }

    pub(crate) fn sample(self) -> Sample {
        Sample::new(Timestamp::from_ms(self.timestamp_ms), self.value)
    }
}

/// What one commit makes durable.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// In the order of their ids, without a gap to those known before.
    pub(crate) definitions: Vec<(SeriesId, Labels)>,
    pub(crate) points: Vec<Point>,
    pub(crate) mutations: Vec<Mutation>,
    /// Series that nothing refers to, rising; an entry with any has nothing else.
    pub(crate) forgotten: Vec<SeriesId>,
}

impl Entry {
    pub(crate) fn is_empty(&self) -> bool {
        self.definitions.is_empty()
            && self.points.is_empty()
            && self.mutations.is_empty()
            && self.forgotten.is_empty()
    }

    pub(crate) fn encode(&self, seq: u64) -> Vec<u8> {
        if !self.forgotten.is_empty() {
            return self.encode_forgotten(seq);
        }
        let mut out = Vec::with_capacity(64 + self.points.len() * 6);
        out.push(KIND_FLOAT);
        out.extend_from_slice(&seq.to_le_bytes());
        self.put_definitions(&mut out);
        self.put_points(&mut out);
        self.put_mutations(&mut out);
        put_checksum(&mut out);
        out
    }

    fn encode_forgotten(&self, seq: u64) -> Vec<u8> {
        let mut out = vec![KIND_FORGET];
        out.extend_from_slice(&seq.to_le_bytes());
        put_varint(&mut out, self.forgotten.len() as u64);
        let mut previous = 0;
        for series in &self.forgotten {
            put_varint(&mut out, (series.0 - previous).into());
            previous = series.0;
        }
        put_checksum(&mut out);
        out
    }

    fn put_definitions(&self, out: &mut Vec<u8>) {
        let mut strings = Strings::default();
        let mut pairs = Vec::new();
        for (_, labels) in &self.definitions {
            put_varint(&mut pairs, labels.len() as u64);
            for label in labels {
                put_varint(&mut pairs, strings.number(&label.name));
                put_varint(&mut pairs, strings.number(&label.value));
            }
        }
        put_varint(out, strings.list.len() as u64);
        for string in strings.list {
            put_slice(out, string.as_bytes());
        }
        put_varint(out, self.definitions.len() as u64);
        let first = self.definitions.first().map_or(0, |(series, _)| series.0);
        put_varint(out, first.into());
        out.extend_from_slice(&pairs);
    }

    /// Runs of one timestamp, in the order in which samples came: most sources send many series at one
    /// time, and neighbours have neighbouring ids.
    fn put_points(&self, out: &mut Vec<u8>) {
        put_varint(out, self.points.len() as u64);
        let mut previous_ms = 0i64;
        let mut previous = 0i64;
        for run in self
            .points
            .chunk_by(|left, right| left.timestamp_ms == right.timestamp_ms)
        {
            let timestamp_ms = run[0].timestamp_ms;
            put_zigzag(out, timestamp_ms.wrapping_sub(previous_ms));
            previous_ms = timestamp_ms;
            put_varint(out, run.len() as u64);
            for point in run {
                let series = i64::from(point.series.0);
                put_zigzag(out, series - previous);
                previous = series;
            }
            for point in run {
                put_value(out, point.value);
            }
        }
    }

    fn put_mutations(&self, out: &mut Vec<u8>) {
        put_varint(out, self.mutations.len() as u64);
        for mutation in &self.mutations {
            put_slice(out, mutation.table.as_bytes());
            put_slice(out, &mutation.key);
            match &mutation.value {
                Some(value) => {
                    out.push(1);
                    put_slice(out, value);
                }
                None => out.push(0),
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8], seq: u64) -> Result<Self, Malformed> {
        let (body, _) = checked(bytes)?;
        let mut bytes = Bytes::new(body);
        let kind = bytes.u8()?;
        if bytes.u64()? != seq {
            return Err(Malformed("does not repeat its sequence number"));
        }
        let entry = match kind {
            KIND_FLOAT => Self {
                definitions: take_definitions(&mut bytes)?,
                points: take_points(&mut bytes)?,
                mutations: take_mutations(&mut bytes)?,
                forgotten: Vec::new(),
            },
            KIND_FORGET => Self {
                forgotten: take_forgotten(&mut bytes)?,
                ..Self::default()
            },
            _ => return Err(Malformed("is of an unknown kind")),
        };
        if !bytes.is_empty() {
            return Err(Malformed("goes on after its end"));
        }
        Ok(entry)
    }
}

fn take_definitions(bytes: &mut Bytes<'_>) -> Result<Vec<(SeriesId, Labels)>, Malformed> {
    let mut strings: Vec<Arc<str>> = Vec::new();
    for _ in 0..bytes.count(bytes.rest().len())? {
        strings.push(text(bytes.slice()?)?.into());
    }
    let count = bytes.count(bytes.rest().len())?;
    let first = bytes.varint_u32()?;
    let string = |bytes: &mut Bytes<'_>| {
        let number = bytes.varint()? as usize;
        let string = strings.get(number).cloned();
        string.ok_or(Malformed("names a string that is not there"))
    };
    let mut definitions = Vec::with_capacity(count);
    for at in 0..count as u32 {
        let mut labels = Vec::new();
        for _ in 0..bytes.count(bytes.rest().len())? {
            labels.push(Label {
                name: string(bytes)?,
                value: string(bytes)?,
            });
        }
        let series = first
            .checked_add(at)
            .ok_or(Malformed("has a series id over 32 bits"))?;
        let labels = Labels::try_from_labels(labels)
            .map_err(|_cause: crate::model::label::Error| Malformed("has labels that are none"))?;
        definitions.push((SeriesId(series), labels));
    }
    Ok(definitions)
}

fn take_forgotten(bytes: &mut Bytes<'_>) -> Result<Vec<SeriesId>, Malformed> {
    let count = bytes.count(bytes.rest().len())?;
    let mut forgotten: Vec<SeriesId> = Vec::with_capacity(count);
    for _ in 0..count {
        let more = bytes.varint_u32()?;
        let series = match forgotten.last() {
            None => Some(more),
            Some(_) if more == 0 => return Err(Malformed("forgets a series twice")),
            Some(previous) => previous.0.checked_add(more),
        };
        let series = series.ok_or(Malformed("has a series id over 32 bits"))?;
        forgotten.push(SeriesId(series));
    }
    Ok(forgotten)
}

fn take_points(bytes: &mut Bytes<'_>) -> Result<Vec<Point>, Malformed> {
    let count = bytes.count(bytes.rest().len())?;
    let mut points = Vec::with_capacity(count);
    let mut timestamp_ms = 0i64;
    let mut series = 0i64;
    while points.len() < count {
        timestamp_ms = timestamp_ms.wrapping_add(bytes.zigzag()?);
        let start = points.len();
        let run = bytes.count(count - start)?;
        if run == 0 {
            return Err(Malformed("has an empty run of samples"));
        }
        for _ in 0..run {
            series = series.wrapping_add(bytes.zigzag()?);
            let id = u32::try_from(series).map_err(|_cause: std::num::TryFromIntError| {
                Malformed("has a series id over 32 bits")
            })?;
            points.push(Point {
                series: SeriesId(id),
                timestamp_ms,
                value: 0.0,
            });
        }
        for point in &mut points[start..] {
            point.value = take_value(bytes)?;
        }
    }
    Ok(points)
}

fn take_mutations(bytes: &mut Bytes<'_>) -> Result<Vec<Mutation>, Malformed> {
    let count = bytes.count(bytes.rest().len())?;
    let mut mutations = Vec::with_capacity(count);
    for _ in 0..count {
        mutations.push(Mutation {
            table: text(bytes.slice()?)?.to_owned(),
            key: bytes.slice()?.to_vec(),
            value: match bytes.u8()? {
                0 => None,
                _ => Some(bytes.slice()?.to_vec()),
            },
        });
    }
    Ok(mutations)
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes)
        .map_err(|_cause: std::str::Utf8Error| Malformed("has text that is not UTF-8"))
}

/// The low three bits of a value: its decimal exponent, or this before the float itself.
const RAW: u64 = 7;

fn put_value(out: &mut Vec<u8>, value: f64) {
    for exponent in 0..RAW {
        if let Some(mantissa) = to_decimal(value, exponent as usize) {
            put_varint(out, zigzag(mantissa) << 3 | exponent);
            return;
        }
    }
    put_varint(out, RAW);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn take_value(bytes: &mut Bytes<'_>) -> Result<f64, Malformed> {
    let head = bytes.varint()?;
    match head & 7 {
        RAW => bytes.u64().map(f64::from_bits),
        exponent => Ok(from_decimal(unzigzag(head >> 3), exponent as usize)),
    }
}

/// The distinct strings of an entry, numbered as they come.
#[derive(Default)]
struct Strings {
    numbers: HashMap<Arc<str>, u64>,
    list: Vec<Arc<str>>,
}

impl Strings {
    fn number(&mut self, string: &Arc<str>) -> u64 {
        if let Some(&number) = self.numbers.get(string) {
            return number;
        }
        let number = self.list.len() as u64;
        self.numbers.insert(string.clone(), number);
        self.list.push(string.clone());
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points() -> impl Strategy<Value = Vec<Point>> {
        let point = (
            0u32..50,
            prop_oneof![0i64..5000, any::<i64>()],
            prop_oneof![
                any::<u64>().prop_map(f64::from_bits),
                (-5000i64..5000).prop_map(|mantissa| mantissa as f64 / 1000.0),
            ],
        );
        prop::collection::vec(
            point.prop_map(|(series, timestamp_ms, value)| Point {
                series: SeriesId(series),
                timestamp_ms,
                value,
            }),
            0..100,
        )
    }

    proptest! {
        #[test]
        fn entries_round_trip(points in points(), seq in any::<u64>()) {
            let entry = Entry {
                definitions: vec![
                    (SeriesId(7), Labels::of("up", &[("job", "a"), ("up", "job")])),
                    (SeriesId(8), Labels::empty()),
                ],
                points,
                mutations: vec![
                    Mutation { table: "t".into(), key: vec![0, 255], value: Some(vec![]) },
                    Mutation { table: "t".into(), key: vec![], value: None },
                ],
                forgotten: Vec::new(),
            };
            let bytes = entry.encode(seq);
            let decoded = Entry::decode(&bytes, seq).unwrap();
            prop_assert_eq!(&decoded.definitions, &entry.definitions);
            prop_assert_eq!(&decoded.mutations, &entry.mutations);
            let bits = |points: &[Point]| -> Vec<_> {
                points.iter().map(|point| (point.series, point.timestamp_ms, point.value.to_bits())).collect()
            };
            prop_assert_eq!(bits(&decoded.points), bits(&entry.points));
            prop_assert!(Entry::decode(&bytes, seq.wrapping_add(1)).is_err());
        }

        #[test]
        fn forgotten_series_round_trip(
            forgotten in prop::collection::btree_set(any::<u32>(), 1..50),
            seq in any::<u64>(),
        ) {
            let forgotten: Vec<_> = forgotten.into_iter().map(SeriesId).collect();
            let entry = Entry { forgotten: forgotten.clone(), ..Entry::default() };
            let decoded = Entry::decode(&entry.encode(seq), seq).unwrap();
            prop_assert_eq!(decoded.forgotten, forgotten);
            prop_assert!(decoded.points.is_empty() && decoded.definitions.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            put_checksum(&mut bytes);
            drop(Entry::decode(&bytes, 0));
        }
    }

    #[test]
    fn a_scrape_takes_about_four_bytes_a_sample() {
        let entry = Entry {
            points: (0..1000)
                .map(|at| Point {
                    series: SeriesId(at * 3),
                    timestamp_ms: 1_700_000_000_000,
                    value: f64::from(at * 7919 % 100_000),
                })
                .collect(),
            ..Entry::default()
        };
        assert!(entry.encode(1).len() < 4100);
    }
}
