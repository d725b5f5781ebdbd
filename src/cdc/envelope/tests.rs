use proptest::prelude::*;

use super::*;

const HEARTBEATS: &str = "__debezium-heartbeat";

fn classify<'a>(topic: &'a str, value: &'a str) -> Result<Record<'a>, Unparsable> {
    Classifier::new(HEARTBEATS).classify(topic, Some(value.as_bytes()))
}

fn change_of<'a>(topic: &'a str, value: &'a str) -> Change<'a> {
    match classify(topic, value) {
        Ok(Record::Change(change)) => change,
        other => panic!("not a change: {other:?}"),
    }
}

fn reason(value: &str) -> Reason {
    classify("srv.shop.orders", value).unwrap_err().reason
}

const ENVELOPE: &str = r#"{"before":null,"after":{"id":18446744073709551616},
    "source":{"connector":"postgresql","name":"srv","ts_ms":1000,"snapshot":"first",
              "db":"d","schema":"shop","table":"or\"ders"},
    "op":"r","ts_ms":1500}"#;

#[test]
fn an_envelope_gives_source_table_operation_and_times() {
    let expected = Change {
        source: "srv".into(),
        table: "shop.or\"ders".into(),
        operation: Operation::Read,
        committed_at: Some(Timestamp::from_ms(1000)),
        captured_at: Some(Timestamp::from_ms(1500)),
        snapshot: true,
    };
    assert_eq!(change_of("any", ENVELOPE), expected);
    let wrapped = format!(r#"{{"schema":{{"type":"struct"}},"payload":{ENVELOPE}}}"#);
    assert_eq!(change_of("any", &wrapped), expected);
}

#[test]
fn snapshot_is_told_from_streaming_in_every_spelling() {
    for (snapshot, expected) in [
        ("\"true\"", true),
        ("\"last\"", true),
        ("\"incremental\"", true),
        ("true", true),
        ("\"false\"", false),
        ("false", false),
        ("null", false),
    ] {
        let value = format!(
            r#"{{"op":"c","source":{{"connector":"mysql","name":"s","db":"d","table":"t",
                 "snapshot":{snapshot}}}}}"#
        );
        assert_eq!(change_of("t", &value).snapshot, expected, "{snapshot}");
    }
}

#[test]
fn an_unknown_connector_is_named_by_schema_or_database() {
    let value = |naming: &str| {
        format!(r#"{{"op":"c","source":{{"connector":"other","name":"s",{naming}}}}}"#)
    };
    let with_schema = value(r#""db":"d","schema":"sc","table":"t""#);
    assert_eq!(change_of("t", &with_schema).table, "sc.t");
    let without = value(r#""db":"d","table":"t""#);
    assert_eq!(change_of("t", &without).table, "d.t");
}

#[test]
fn a_message_of_the_log_belongs_to_no_table() {
    let value = r#"{"op":"m","ts_ms":5,"source":{"connector":"postgresql","name":"srv","ts_ms":4,
                    "schema":"","table":""},"message":{"prefix":"p","content":""}}"#;
    let change = change_of("srv.message", value);
    assert_eq!((&*change.source, &*change.table), ("srv", ""));
    assert_eq!(change.operation, Operation::Message);
}

#[test]
fn a_flattened_record_may_use_our_field_names_for_its_columns() {
    let value = r#"{"op":[1],"source":"web","ts_ms":"x","schema":1,"payload":null,"status":"END",
                    "id":7,"ddl":"","aggregate_type":0,
                    "__op":"u","__table":"orders","__source_ts_ms":9,"__deleted":"false"}"#;
    let change = change_of("eu.srv.shop.orders", value);
    assert_eq!((&*change.source, &*change.table), ("eu.srv", "shop.orders"));
    assert_eq!(change.operation, Operation::Update);
    assert_eq!(change.committed_at, Some(Timestamp::from_ms(9)));
}

#[test]
fn a_rewritten_delete_is_known_without_its_operation() {
    let deleted = change_of("s.d.t", r#"{"id":1,"__deleted":"true"}"#);
    assert_eq!(
        (&*deleted.table, deleted.operation),
        ("d.t", Operation::Delete)
    );
    assert_eq!(
        reason(r#"{"id":1,"__deleted":"false"}"#),
        Reason::MissingField
    );
}

#[test]
fn records_beside_changes_are_told_apart() {
    let heartbeat = Record::Heartbeat {
        source: "eu.srv",
        at: Timestamp::from_ms(5),
    };
    let cases = [
        (
            "__debezium-heartbeat.eu.srv",
            r#"{"ts_ms":5}"#,
            heartbeat.clone(),
        ),
        (
            "__debezium-heartbeat.eu.srv",
            r#"{"schema":null,"payload":{"ts_ms":5}}"#,
            heartbeat,
        ),
        (
            "srv.transaction",
            r#"{"status":"BEGIN","id":"7","event_count":null,"ts_ms":1}"#,
            Record::Transaction(Boundary::Begin),
        ),
        (
            "srv.transaction",
            r#"{"status":"END","id":"7","event_count":2,"ts_ms":1}"#,
            Record::Transaction(Boundary::End),
        ),
        (
            "srv.notifications",
            r#"{"id":"u","type":"STARTED","aggregate_type":"Initial Snapshot"}"#,
            Record::Notification,
        ),
        (
            "srv",
            r#"{"source":{"name":"srv"},"ddl":"CREATE TABLE t","tableChanges":[]}"#,
            Record::SchemaChange,
        ),
        (
            "srv.a.b",
            r#"{"schema":null,"payload":null}"#,
            Record::Tombstone,
        ),
    ];
    for (topic, value, expected) in cases {
        assert_eq!(classify(topic, value), Ok(expected), "{value}");
    }
    let classifier = Classifier::new(HEARTBEATS);
    assert_eq!(classifier.classify("srv.a.b", None), Ok(Record::Tombstone));
}

#[test]
fn what_is_not_understood_has_a_reason() {
    assert_eq!(reason(""), Reason::TruncatedJson);
    assert_eq!(reason(ENVELOPE.split_at(120).0), Reason::TruncatedJson);
    assert_eq!(reason("{,}"), Reason::InvalidJson);
    assert_eq!(reason("{} x"), Reason::InvalidJson);
    assert_eq!(reason("\0\0\0\0\u{1}"), Reason::InvalidJson);
    assert_eq!(reason("7"), Reason::WrongType);
    assert_eq!(
        reason(r#"{"op":5,"source":{"name":"s"}}"#),
        Reason::WrongType
    );
    assert_eq!(reason(r#"{"op":"c","source":7}"#), Reason::WrongType);
    assert_eq!(reason(r#"{"op":"x","source":{}}"#), Reason::UnknownOp);
    assert_eq!(reason(r#"{"source":{"name":"s"}}"#), Reason::MissingField);
    assert_eq!(reason(r#"{"op":"c"}"#), Reason::MissingField);
    assert_eq!(
        reason(r#"{"op":"c","source":{"connector":"mysql","db":"d","table":"t"}}"#),
        Reason::MissingField
    );
    assert_eq!(reason(r#"{"id":1,"name":"row"}"#), Reason::UnknownEnvelope);
}

#[test]
fn invalid_utf8_is_found_in_fields_that_are_not_read() {
    let mut value = br#"{"op":"c","after":{"x":"y"},"source":{}}"#.to_vec();
    let at = value.iter().position(|byte| *byte == b'y').unwrap();
    value[at] = 0xff;
    let error = Classifier::new(HEARTBEATS)
        .classify("t", Some(&value))
        .unwrap_err();
    assert_eq!(error.reason, Reason::InvalidUtf8);
    assert!(error.detail.contains(&at.to_string()), "{}", error.detail);
}

#[test]
fn a_message_over_the_limit_is_not_parsed() {
    let value = vec![b' '; MESSAGE_BYTES_MAX + 1];
    let error = Classifier::new(HEARTBEATS)
        .classify("t", Some(&value))
        .unwrap_err();
    assert_eq!(error.reason, Reason::TooLarge);
}

#[test]
fn a_detail_stays_short_whatever_the_message_holds() {
    let value = format!(r#"{{"op":"{}","source":{{}}}}"#, "é".repeat(5000));
    let detail = classify("t", &value).unwrap_err().detail;
    assert_eq!(detail.chars().count(), DETAIL_CHARS_MAX + 1);
}

#[test]
fn deep_nesting_in_a_row_is_skipped() {
    let depth = 100_000;
    let row = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let value = format!(
        r#"{{"after":{row},"op":"c","source":{{"connector":"mysql","name":"s","db":"d","table":"t"}}}}"#
    );
    assert_eq!(change_of("t", &value).table, "d.t");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        topic in "[a-z._-]{0,40}",
        value in proptest::collection::vec(any::<u8>(), 0..512),
    ) {
        let classifier = Classifier::new(HEARTBEATS);
        if let Err(error) = classifier.classify(&topic, Some(&value)) {
            prop_assert!(!error.detail.is_empty());
        }
    }

    /// Bytes that are nearly right: an envelope with one span overwritten.
    #[test]
    fn a_damaged_envelope_never_panics(
        at in 0..ENVELOPE.len(),
        noise in proptest::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut value = ENVELOPE.as_bytes().to_vec();
        let end = (at + noise.len()).min(value.len());
        value.splice(at..end, noise);
        let classifier = Classifier::new(HEARTBEATS);
        if let Ok(Record::Change(change)) = classifier.classify("a.b.c", Some(&value)) {
            prop_assert!(!change.table.is_empty() || change.operation == Operation::Message);
        }
    }
}
