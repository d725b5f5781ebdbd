//! A change as the ExtractNewRecordState transform leaves it: the row itself, with `__op`, `__table`,
//! `__source_ts_ms` and `__deleted` beside its columns (`add.fields=op,table,source.ts_ms`).
//!
//! There is no source block: connector and schema come from the topic's name, `prefix.schema.table`,
//! whose prefix may itself hold dots. The transform drops truncates; everything that is not a row passes
//! through it unchanged and never comes here.

use std::borrow::Cow;

use super::envelope::{
    Change, Fields, Operation, Reason, Unparsable, known_time, operation, qualified, text, typed,
};

pub(super) fn change<'a>(topic: &'a str, fields: &Fields<'a>) -> Result<Change<'a>, Unparsable> {
    let operation = match (fields.flat_op, fields.flat_deleted) {
        (Some(op), _) => operation("__op", op)?,
        (None, Some(deleted)) if matches!(deleted.get(), "\"true\"" | "true") => Operation::Delete,
        _ => {
            let detail = "a flattened record without `__op`: set add.fields=op,table,source.ts_ms";
            return Err(Unparsable::new(Reason::MissingField, detail));
        }
    };
    let table = match fields.flat_table {
        Some(table) => text("__table", table)?,
        None => Cow::Borrowed(topic.rsplit_once('.').map_or(topic, |(_, table)| table)),
    };
    let (source, schema) = split_topic(topic, &table);
    Ok(Change {
        source: Cow::Borrowed(source),
        table: Cow::Owned(qualified(schema, &table)),
        operation,
        committed_at: match fields.flat_committed_at {
            Some(committed_at) => known_time(typed("__source_ts_ms", committed_at)?),
            None => None,
        },
        captured_at: None,
        snapshot: operation == Operation::Read,
    })
}

/// The prefix and the schema of `prefix.schema.table`.
///
/// The table's own name is cut off first where the topic ends with it, because it may hold dots. A
/// topic that some router renamed to fewer parts has no schema.
fn split_topic<'a>(topic: &'a str, table: &str) -> (&'a str, &'a str) {
    let named: String = table.chars().map(topic_character).collect();
    let outer = topic
        .strip_suffix(&*named)
        .and_then(|outer| outer.strip_suffix('.'))
        .or_else(|| topic.rsplit_once('.').map(|(outer, _)| outer))
        .unwrap_or(topic);
    outer.rsplit_once('.').unwrap_or((outer, ""))
}

/// How Debezium makes a topic's name of a table's.
fn topic_character(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_schema_come_from_the_topic() {
        let cases = [
            ("shop.public.orders", "orders", ("shop", "public")),
            (
                "eu.west.shop.public.orders",
                "orders",
                ("eu.west.shop", "public"),
            ),
            ("shop.public.Price_List", "Price List", ("shop", "public")),
            ("shop.public.a.b", "a.b", ("shop", "public")),
            // Renamed by a router: the last part stands for the table.
            ("shop.public.renamed", "orders", ("shop", "public")),
            ("shop.orders", "orders", ("shop", "")),
            ("orders", "orders", ("orders", "")),
        ];
        for (topic, table, expected) in cases {
            assert_eq!(split_topic(topic, table), expected, "{topic} {table}");
        }
    }
}
