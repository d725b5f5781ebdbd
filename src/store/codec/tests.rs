use proptest::prelude::*;

use super::*;
use crate::model::STALE_NAN;

fn round_trip_values(values: &[f64]) -> usize {
    let mut bytes = Vec::new();
    encode_values(values, &mut bytes);
    let mut decoded = Vec::new();
    Decoder::default()
        .values(&bytes, values.len(), &mut decoded)
        .unwrap();
    let bits = |values: &[f64]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(&decoded), bits(values));
    bytes.len()
}

fn round_trip_timestamps(timestamps: &[i64]) -> usize {
    let mut bytes = Vec::new();
    encode_timestamps(timestamps, &mut bytes);
    let mut decoded = Vec::new();
    Decoder::default()
        .timestamps(&bytes, timestamps.len(), &mut decoded)
        .unwrap();
    assert_eq!(decoded, timestamps);
    bytes.len()
}

/// Every class of bit pattern that a float can be of.
fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000i64..1000).prop_map(|integer| integer as f64),
        any::<i64>().prop_map(|integer| integer as f64),
        (-1_000_000i64..1_000_000, 0usize..12)
            .prop_map(|(mantissa, exponent)| mantissa as f64 / 10f64.powi(exponent as i32)),
        Just(STALE_NAN),
        Just(f64::NAN),
        Just(f64::from_bits(0xfff8_0000_0000_0001)),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
        Just(0.0),
        Just(f64::MIN_POSITIVE),
        Just(f64::from_bits(1)),
        Just(f64::MAX),
        Just(9e15),
        Just(9_007_199_254_740_993.0),
    ]
}

/// A column of one nature with a few strangers, as real series are, or of anything.
fn any_values() -> impl Strategy<Value = Vec<f64>> {
    let walk = (
        -1_000_000i64..1_000_000,
        prop::collection::vec((-50i64..50, 0u8..40, any_value()), 1..CHUNK_SAMPLES_MAX),
        0usize..4,
        1i64..5000,
    )
        .prop_map(|(start, steps, exponent, scale)| {
            let mut level = start;
            steps
                .into_iter()
                .map(|(step, odd, stranger)| {
                    level += step * scale;
                    match odd {
                        0 => stranger,
                        _ => level as f64 / POWERS[exponent],
                    }
                })
                .collect()
        });
    prop_oneof![
        walk,
        prop::collection::vec(any_value(), 1..200),
        (any_value(), 1usize..=CHUNK_SAMPLES_MAX).prop_map(|(value, count)| vec![value; count]),
    ]
}

fn any_timestamps() -> impl Strategy<Value = Vec<i64>> {
    let grid = (
        any::<i32>(),
        1i64..100_000,
        prop::collection::vec((-40i64..40, 0u32..30), 1..CHUNK_SAMPLES_MAX),
    )
        .prop_map(|(start, step, points)| {
            let mut at = i64::from(start);
            let mut timestamps: Vec<i64> = points
                .into_iter()
                .map(|(jitter, gap)| {
                    at += step * if gap == 0 { 1000 } else { 1 };
                    at + jitter
                })
                .collect();
            timestamps.sort_unstable();
            timestamps.dedup();
            timestamps
        });
    let anything = prop::collection::btree_set(
        prop_oneof![
            any::<i64>(),
            -1000i64..1000,
            Just(i64::MIN),
            Just(i64::MAX),
            Just(i64::MAX - 1)
        ],
        1..300,
    )
    .prop_map(|set| set.into_iter().collect());
    prop_oneof![grid, anything]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn values_round_trip_to_the_bit(values in any_values()) {
        round_trip_values(&values);
    }

    #[test]
    fn timestamps_round_trip(timestamps in any_timestamps()) {
        round_trip_timestamps(&timestamps);
    }

    #[test]
    fn timestamps_in_any_order_round_trip(timestamps in prop::collection::vec(any::<i64>(), 1..100)) {
        round_trip_timestamps(&timestamps);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 1usize..2000) {
        let (mut decoder, mut values, mut timestamps) = (Decoder::default(), Vec::new(), Vec::new());
        if decoder.values(&bytes, count, &mut values).is_ok() {
            prop_assert_eq!(values.len(), count);
        }
        if decoder.timestamps(&bytes, count, &mut timestamps).is_ok() {
            prop_assert_eq!(timestamps.len(), count);
        }
    }
}

#[test]
fn a_constant_takes_a_handful_of_bytes() {
    assert_eq!(round_trip_values(&[42.0; 1024]), 3);
}

#[test]
fn a_stale_marker_does_not_spoil_integers() {
    // Steps of 8 and less than 13 more or less; the marker adds a run of five bytes.
    let mut values: Vec<f64> = (0..120u32)
        .map(|at| f64::from(at * 8 + at * at * 7919 % 13))
        .collect();
    let without = round_trip_values(&values);
    values[60] = STALE_NAN;
    let with = round_trip_values(&values);
    assert!(with < without + 10, "{with} and {without} bytes");
    assert!(without < 120, "{without} bytes");
}

#[test]
fn three_decimals_are_scaled() {
    // 10 bits of residual each at most, against 64 of a raw float.
    let values: Vec<f64> = (0..120)
        .map(|at| f64::from(at * 37 % 1000) / 1000.0)
        .collect();
    assert!(round_trip_values(&values) < 160);
}

#[test]
fn full_precision_floats_take_no_more_than_they_are() {
    let values: Vec<f64> = (1..=500).map(|at| f64::from(at).sqrt()).collect();
    assert!(round_trip_values(&values) < 500 * 8);
}

#[test]
fn an_exact_grid_takes_a_handful_of_bytes() {
    let timestamps: Vec<i64> = (0..1024)
        .map(|at| 1_700_000_000_000 + at * 15_000)
        .collect();
    assert!(round_trip_timestamps(&timestamps) < 20);
}

#[test]
fn a_grid_with_jitter_takes_the_bits_of_the_jitter() {
    // 11 residuals: 4 bits each.
    let timestamps: Vec<i64> = (0..1024)
        .map(|at| 1_700_000_000_000 + at * 15_000 + at * at * 7919 % 11 - 5)
        .collect();
    assert!(round_trip_timestamps(&timestamps) < 1024 / 2 + 24);
}

#[test]
fn a_gap_in_the_grid_costs_a_few_bytes() {
    let at = |at: i64| 1_700_000_000_000 + at * 15_000 + at * at * 7919 % 11;
    let whole: Vec<i64> = (0..500).map(at).collect();
    let gap: Vec<i64> = (0..250).chain(900..1150).map(at).collect();
    let (gap, whole) = (round_trip_timestamps(&gap), round_trip_timestamps(&whole));
    assert!(gap < whole + 8, "{gap} and {whole} bytes");
}
