//! Names of OpenTelemetry as names of Prometheus: `UnderscoreEscapingWithSuffixes`, Prometheus' default.
//!
//! `http.server.duration` in `s` is `http_server_duration_seconds`; a counter ends with `_total`, a gauge
//! in the unit 1 with `_ratio`. What is said already is not said twice.

/// What of a metric's kind shows in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Other,
}

/// The name of a metric; `None` when nothing of it could be in a name.
pub(super) fn metric(name: &str, unit: &str, kind: Kind) -> Option<String> {
    let mut words: Vec<&str> = name
        .split(|c| !is_plain(c))
        .filter(|word| !word.is_empty())
        .collect();
    let (unit_word, per_word) = unit_words(unit);
    let per_word = per_word.trim_end_matches('_');
    let mut unit_word = unit_word.as_str();
    if words.contains(&unit_word) {
        unit_word = "";
    }
    let per_word = if words.contains(&per_word) {
        ""
    } else {
        per_word
    };
    if !per_word.is_empty() {
        unit_word = unit_word.trim_end_matches('_');
    }
    words.extend([unit_word, per_word].iter().filter(|word| !word.is_empty()));
    let suffix = match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        Kind::Gauge | Kind::Other => None,
    };
    if let Some(suffix) = suffix {
        words.retain(|word| *word != suffix);
        words.push(suffix);
    }
    let mut joined = words.join("_");
    if joined.starts_with(|first: char| first.is_ascii_digit()) {
        joined.insert(0, '_');
    }
    let says_something = joined.chars().any(|character| character != '_');
    says_something.then_some(joined)
}

/// The unit as metadata have it, such as `bytes_per_second`.
pub(super) fn unit(unit: &str) -> String {
    let (unit, per) = unit_words(unit);
    let joined = match (unit.as_str(), per.as_str()) {
        ("", per) => per.to_owned(),
        (unit, "") => unit.to_owned(),
        (unit, per) => format!("{unit}_{per}"),
    };
    joined.trim_matches('_').to_owned()
}

/// The name of an attribute as that of a label; `None` when nothing of it could be in a name.
pub(super) fn label(name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let label: String = name.chars().map(plain).collect();
    let prefix = if label.starts_with(|first: char| first.is_ascii_digit()) {
        "key_"
    } else if label.starts_with('_') && !label.starts_with("__") {
        "key"
    } else {
        ""
    };
    let is_as_it_was = label == name;
    let label = format!("{prefix}{label}");
    let says_something = label.chars().any(|character| character != '_');
    (!label.is_empty() && (is_as_it_was || says_something)).then_some(label)
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == ':'
}

/// The words for what is measured and for what it is measured by, which begins with `per_`.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    // What stands in braces is for people.
    let is_unit = |unit: &&str| !unit.is_empty() && !unit.contains(['{', '}']);
    let main = Some(main.trim()).filter(is_unit).map(unit_word);
    let per = Some(per.trim()).filter(is_unit).map(per_word);
    let per = per.map(|per| clean(&format!("per_{per}")));
    (
        main.map(clean).unwrap_or_default(),
        per.filter(|per| per != "per_").unwrap_or_default(),
    )
}

/// Underscores for what cannot be in a name, one at once and none at the beginning.
fn clean(unit: &str) -> String {
    let mut word = String::with_capacity(unit.len());
    for character in unit.chars() {
        let character = if is_plain(character) { character } else { '_' };
        if character != '_' || !(word.is_empty() || word.ends_with('_')) {
            word.push(character);
        }
    }
    word
}

fn unit_word(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        // So in Prometheus, whose names these are.
        "TiBy" => "tibibytes",
        "KBy" | "kBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_word(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gauge(name: &str, unit: &str) -> String {
        metric(name, unit, Kind::Gauge).unwrap()
    }

    fn counter(name: &str, unit: &str) -> String {
        metric(name, unit, Kind::Counter).unwrap()
    }

    #[test]
    fn names_have_their_unit_and_their_kind_at_the_end() {
        assert_eq!(
            gauge("system.memory.usage", "By"),
            "system_memory_usage_bytes"
        );
        assert_eq!(gauge("memory.bytes", "By"), "memory_bytes");
        assert_eq!(gauge("disk.utilization", "1"), "disk_utilization_ratio");
        assert_eq!(gauge("ratio.of.x", "1"), "of_x_ratio");
        assert_eq!(counter("requests", "1"), "requests_total");
        assert_eq!(counter("total.requests", ""), "requests_total");
        assert_eq!(counter("io", "By"), "io_bytes_total");
        assert_eq!(
            metric("http.server.duration", "ms", Kind::Other).unwrap(),
            "http_server_duration_milliseconds"
        );
        assert_eq!(gauge("net.rate", "By/s"), "net_rate_bytes_per_second");
        assert_eq!(gauge("rate", "{packet}/s"), "rate_per_second");
        assert_eq!(gauge("speed", "m/{lap}"), "speed_meters");
        assert_eq!(gauge("speed", "/m"), "speed_per_minute");
        assert_eq!(gauge("x", "{thing}"), "x");
        assert_eq!(gauge("x", "2 m/2s"), "x_2_m_per_2s");
        assert_eq!(gauge("x", "%"), "x_percent");
    }

    #[test]
    fn names_hold_what_a_name_may_hold() {
        assert_eq!(gauge("a..b--c__d", ""), "a_b_c_d");
        assert_eq!(gauge("rule:a", ""), "rule:a");
        assert_eq!(gauge("5xx", ""), "_5xx");
        assert_eq!(gauge("\u{e9}t\u{e9}", ""), "t");
        assert_eq!(metric("", "", Kind::Gauge), None);
        assert_eq!(metric("...", "", Kind::Gauge), None);
    }

    #[test]
    fn units_are_words() {
        assert_eq!(unit("By/s"), "bytes_per_second");
        assert_eq!(unit("1"), "");
        assert_eq!(unit("{x}"), "");
        assert_eq!(unit("{x}/s"), "per_second");
    }

    #[test]
    fn labels_hold_what_a_label_may_hold() {
        assert_eq!(label("http.method").unwrap(), "http_method");
        assert_eq!(label("a..b").unwrap(), "a__b");
        assert_eq!(label("1st").unwrap(), "key_1st");
        assert_eq!(label("_x").unwrap(), "key_x");
        assert_eq!(label("__x").unwrap(), "__x");
        assert_eq!(label(""), None);
        assert_eq!(label("...."), None);
    }

    proptest! {
        #[test]
        fn names_are_names(name in "\\PC*", unit_text in "\\PC*") {
            let is_name = |name: &str| {
                !name.is_empty()
                    && !name.starts_with(|first: char| first.is_ascii_digit())
                    && name.chars().all(|c| is_plain(c) || c == '_')
            };
            for kind in [Kind::Gauge, Kind::Counter, Kind::Other] {
                if let Some(name) = metric(&name, &unit_text, kind) {
                    prop_assert!(is_name(&name), "{name}");
                }
            }
            if let Some(label) = label(&name) {
                prop_assert!(is_name(&label) && !label.contains(':'), "{label}");
            }
        }
    }
}
