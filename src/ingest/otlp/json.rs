//! Numbers in JSON as protobuf's mapping has them: 64 bits as text or number, floats also as names.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

/// A number in any of its forms; `null` is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(String),
}

impl Number {
    fn unsigned<E: Error>(self) -> Result<u64, E> {
        match self {
            Self::Unsigned(number) => Ok(number),
            Self::Signed(number) => Err(E::invalid_value(
                Unexpected::Signed(number),
                &"a number of 64 bits without a sign",
            )),
            // As some write large numbers.
            Self::Double(number) if number.fract() == 0.0 && (0.0..1.8e19).contains(&number) => {
                Ok(number as u64)
            }
            Self::Double(number) => Err(E::invalid_value(
                Unexpected::Float(number),
                &"a number of 64 bits without a sign",
            )),
            Self::Text(text) => text.parse().map_err(|_unparsable| {
                E::invalid_value(
                    Unexpected::Str(&text),
                    &"a number of 64 bits without a sign",
                )
            }),
        }
    }

    fn signed<E: Error>(self) -> Result<i64, E> {
        const EXPECTED: &str = "a number of 64 bits";
        match self {
            Self::Unsigned(number) => i64::try_from(number)
                .map_err(|_large| E::invalid_value(Unexpected::Unsigned(number), &EXPECTED)),
            Self::Signed(number) => Ok(number),
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 9.2e18 => {
                Ok(number as i64)
            }
            Self::Double(number) => Err(E::invalid_value(Unexpected::Float(number), &EXPECTED)),
            Self::Text(text) => text
                .parse()
                .map_err(|_unparsable| E::invalid_value(Unexpected::Str(&text), &EXPECTED)),
        }
    }

    fn double<E: Error>(self) -> Result<f64, E> {
        match self {
            Self::Unsigned(number) => Ok(number as f64),
            Self::Signed(number) => Ok(number as f64),
            Self::Double(number) => Ok(number),
            Self::Text(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                text => text
                    .parse()
                    .map_err(|_unparsable| E::invalid_value(Unexpected::Str(text), &"a number")),
            },
        }
    }
}

pub(super) fn unsigned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Number::deserialize(deserializer)?.unsigned()
}

pub(super) fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Number::deserialize(deserializer)?.double()
}

pub(super) fn optional_double<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer)?;
    number.map(Number::double).transpose()
}

pub(super) fn optional_signed<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<i64>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer)?;
    number.map(Number::signed).transpose()
}

pub(super) fn unsigned_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<u64>, D::Error> {
    let numbers = Vec::<Number>::deserialize(deserializer)?;
    numbers.into_iter().map(Number::unsigned).collect()
}

pub(super) fn double_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Number>::deserialize(deserializer)?;
    numbers.into_iter().map(Number::double).collect()
}

/// A temporality by its number; by its name too, as protobuf's own mapping would have it.
pub(super) fn temporality<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    match Number::deserialize(deserializer)? {
        Number::Text(text) => match text.as_str() {
            "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(0),
            "AGGREGATION_TEMPORALITY_DELTA" => Ok(1),
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(2),
            text => Err(D::Error::invalid_value(
                Unexpected::Str(text),
                &"an aggregation temporality",
            )),
        },
        number => {
            let number: i64 = number.signed()?;
            i32::try_from(number).map_err(|_large| {
                D::Error::invalid_value(Unexpected::Signed(number), &"an aggregation temporality")
            })
        }
    }
}

pub(super) fn optional_bytes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| {
        let decoded = STANDARD
            .decode(&text)
            .or_else(|_other| URL_SAFE.decode(&text));
        decoded.map_err(|_neither| D::Error::invalid_value(Unexpected::Str(&text), &"base64"))
    })
    .transpose()
}
