//! Keys from the environment: `CUTOVER_KAFKA__BROKERS` is `brokers` in `[kafka]`.

use toml::{Table, Value};

use super::Error;

pub(super) const PREFIX: &str = "CUTOVER_";
/// Between the parts of a nested key; a variable without it is not a key (`CUTOVER_DATA`).
const NESTING: &str = "__";

/// The file's keys with the environment's on top; `None` when the environment has none.
///
/// A value is read as TOML where it is TOML (numbers, booleans, lists), else as text.
pub(super) fn apply(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Option<Table>, Error> {
    let mut overrides: Vec<_> = variables
        .filter(|(name, _)| name.contains(NESTING))
        .collect();
    if overrides.is_empty() {
        return Ok(None);
    }
    overrides.sort();
    let mut table: Table = text.parse().expect("the same text was parsed before");
    for (name, value) in overrides {
        let path = name
            .strip_prefix(PREFIX)
            .unwrap_or(&name)
            .to_ascii_lowercase();
        set(&mut table, &path, read(&value)).ok_or_else(|| Error::Environment {
            reason: format!("{name} is not the name of a key"),
        })?;
    }
    Ok(Some(table))
}

fn set(table: &mut Table, path: &str, value: Value) -> Option<()> {
    match path.split_once(NESTING) {
        None => {
            table.insert(path.to_owned(), value);
            Some(())
        }
        Some((section, rest)) => {
            let section = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            set(section.as_table_mut()?, rest, value)
        }
    }
}

fn read(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}
