//! Attributes as labels: their values as text, and names that become the same.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::message::{AnyValue, KeyValue};
use super::name;

/// An attribute whose name cannot be that of a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {name:?} cannot be a label")]
pub(super) struct BadName {
    name: String,
}

/// Labels by name.
pub(super) type LabelMap = BTreeMap<String, String>;

/// The labels of attributes. Where names become the same, so do the labels: their values are joined, in
/// the order of the names.
pub(super) fn labels<'a>(
    attributes: impl Iterator<Item = &'a KeyValue>,
) -> Result<LabelMap, BadName> {
    let mut sorted: Vec<&KeyValue> = attributes.collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels = LabelMap::new();
    for attribute in sorted {
        let label = name::label(&attribute.key).ok_or_else(|| BadName {
            name: attribute.key.clone(),
        })?;
        let value = text(attribute.value.as_ref());
        labels
            .entry(label)
            .and_modify(|known| {
                known.push(';');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    Ok(labels)
}

/// A value as the text that a label has; lists and maps are JSON.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.array_value.is_some() || value.kvlist_value.is_some() => {
            let mut json = String::new();
            write_json(value, &mut json);
            json
        }
        Some(AnyValue {
            string_value: Some(text),
            ..
        }) => text.clone(),
        Some(value) => scalar(value).unwrap_or_default(),
    }
}

/// What is neither text nor nested.
fn scalar(value: &AnyValue) -> Option<String> {
    let bool = value.bool_value.map(|value| value.to_string());
    let int = || value.int_value.map(|value| value.to_string());
    let double = || value.double_value.map(double);
    let bytes = || {
        value
            .bytes_value
            .as_ref()
            .map(|bytes| STANDARD.encode(bytes))
    };
    bool.or_else(int).or_else(double).or_else(bytes)
}

/// A float as JSON has it: without an exponent where it is of a usual size.
fn double(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        let name = match value {
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "+Inf",
            _ => "-Inf",
        };
        return format!("json: unsupported value: {name}");
    }
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        };
    }
    value.to_string()
}

fn write_json(value: &AnyValue, json: &mut String) {
    if let Some(array) = &value.array_value {
        json.push('[');
        for (at, value) in array.values.iter().enumerate() {
            json.push_str(if at > 0 { "," } else { "" });
            write_json(value, json);
        }
        json.push(']');
    } else if let Some(list) = &value.kvlist_value {
        // The last of a name counts.
        let pairs: BTreeMap<_, _> = list
            .values
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.as_ref()))
            .collect();
        json.push('{');
        for (at, (key, value)) in pairs.into_iter().enumerate() {
            json.push_str(if at > 0 { "," } else { "" });
            write_json_text(key, json);
            json.push(':');
            match value {
                Some(value) => write_json(value, json),
                None => json.push_str("null"),
            }
        }
        json.push('}');
    } else if let Some(text) = &value.string_value {
        write_json_text(text, json);
    } else if let Some(bytes) = &value.bytes_value {
        write_json_text(&STANDARD.encode(bytes), json);
    } else {
        json.push_str(&scalar(value).unwrap_or_else(|| "null".to_owned()));
    }
}

/// As Go writes a text: also safe within HTML.
fn write_json_text(text: &str, json: &mut String) {
    let quoted = serde_json::to_string(text).expect("a text becomes JSON");
    for character in quoted.chars() {
        match character {
            '<' | '>' | '&' => json.push_str(&format!("\\u{:04x}", character as u32)),
            other => json.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::otlp::message::{ArrayValue, KeyValueList};

    fn string(text: &str) -> AnyValue {
        AnyValue {
            string_value: Some(text.to_owned()),
            ..AnyValue::default()
        }
    }

    fn pair(key: &str, value: AnyValue) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(value),
        }
    }

    fn of_double(value: f64) -> String {
        text(Some(&AnyValue {
            double_value: Some(value),
            ..AnyValue::default()
        }))
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        assert_eq!(text(None), "");
        assert_eq!(text(Some(&AnyValue::default())), "");
        assert_eq!(text(Some(&string("a \"b\""))), "a \"b\"");
        assert_eq!(of_double(1.0), "1");
        assert_eq!(of_double(0.5), "0.5");
        assert_eq!(of_double(1e20), "100000000000000000000");
        assert_eq!(of_double(1.5e21), "1.5e+21");
        assert_eq!(of_double(1e-7), "1e-7");
        assert_eq!(of_double(0.0), "0");
        assert_eq!(of_double(f64::INFINITY), "json: unsupported value: +Inf");
        let bytes = AnyValue {
            bytes_value: Some(vec![1, 2, 3]),
            ..AnyValue::default()
        };
        assert_eq!(text(Some(&bytes)), "AQID");
    }

    #[test]
    fn lists_and_maps_are_json() {
        let int = AnyValue {
            int_value: Some(-1),
            ..AnyValue::default()
        };
        let list = AnyValue {
            array_value: Some(ArrayValue {
                values: vec![string("<a>"), int, AnyValue::default()],
            }),
            ..AnyValue::default()
        };
        assert_eq!(text(Some(&list)), r#"["\u003ca\u003e",-1,null]"#);
        let map = AnyValue {
            kvlist_value: Some(KeyValueList {
                values: vec![pair("b", list), pair("a", string("x"))],
            }),
            ..AnyValue::default()
        };
        let json = r#"{"a":"x","b":["\u003ca\u003e",-1,null]}"#;
        assert_eq!(text(Some(&map)), json);
    }

    #[test]
    fn names_that_become_the_same_are_joined_in_order() {
        let attributes = [
            pair("a_b", string("2")),
            pair("a.b", string("1")),
            pair("c", string("3")),
        ];
        let labels = labels(attributes.iter()).unwrap();
        let labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(labels, ["a_b=1;2", "c=3"]);
        let error = super::labels([pair("", string("x"))].iter()).unwrap_err();
        assert_eq!(error.to_string(), "attribute \"\" cannot be a label");
    }
}
