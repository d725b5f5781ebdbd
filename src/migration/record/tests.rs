use super::*;

const NOW: Timestamp = Timestamp::from_ms(1_000_000);
const LATER: Timestamp = Timestamp::from_ms(1_005_000);

fn migration() -> Migration {
    let config = Config {
        id: "users".into(),
        ..Config::default()
    };
    Migration::new(config, NOW).0
}

fn total(table: &str, rows: u64) -> Report {
    Report {
        table: Some(table.into()),
        rows_total: Some(rows),
        ..Report::default()
    }
}

fn delta(table: &str, rows: u64, key: &str) -> Report {
    Report {
        table: Some(table.into()),
        rows_delta: Some(rows),
        key: Some(key.into()),
        ..Report::default()
    }
}

fn errors(kind: &str, count: u64, key: Option<&str>) -> Report {
    Report {
        errors: BTreeMap::from([(kind.to_owned(), count)]),
        key: key.map(str::to_owned),
        ..Report::default()
    }
}

#[test]
fn a_running_total_counts_once_however_often_it_comes() {
    let mut users = migration();
    for rows in [10, 10, 25, 25] {
        users.apply(&total("a", rows), LATER).unwrap();
    }
    users.apply(&total("b", 5), LATER).unwrap();
    assert_eq!(users.rows(), 30);
    assert_eq!(users.updated_at, LATER);
}

#[test]
fn a_total_that_falls_is_refused_and_changes_nothing() {
    let mut users = migration();
    users.apply(&total("a", 10), NOW).unwrap();
    let before = users.clone();
    let report = Report {
        errors: BTreeMap::from([("io".into(), 3)]),
        lag_seconds: Some(1.0),
        ..total("a", 9)
    };
    let error = users.apply(&report, LATER).unwrap_err();
    assert!(matches!(
        error,
        Error::TotalFell {
            known: 10,
            reported: 9,
            ..
        }
    ));
    assert_eq!(users, before);
}

#[test]
fn an_increment_counts_once_for_each_key() {
    let mut users = migration();
    for (rows, key) in [(10, "1"), (10, "1"), (10, "2")] {
        users.apply(&delta("a", rows, key), NOW).unwrap();
    }
    assert_eq!(users.rows(), 20);
    let again = users.apply(&delta("a", 10, "2"), LATER).unwrap();
    assert_eq!(again, Applied::Unchanged);
    assert_eq!(users.updated_at, NOW);
}

#[test]
fn the_oldest_keys_are_forgotten_first() {
    let mut users = migration();
    for key in 0..=KEYS_MAX {
        users.apply(&delta("a", 1, &key.to_string()), NOW).unwrap();
    }
    assert_eq!(users.keys.len(), KEYS_MAX);
    assert_eq!(users.keys.front().map(String::as_str), Some("1"));
}

#[test]
fn errors_are_totals_without_a_key_and_increments_with_one() {
    let mut users = migration();
    for report in [
        errors("io", 2, None),
        errors("io", 2, None),
        errors("io", 1, Some("k")),
        errors("io", 1, Some("k")),
    ] {
        users.apply(&report, NOW).unwrap();
    }
    assert_eq!(users.errors["io"], 3);
    assert!(users.apply(&errors("io", 2, None), NOW).is_err());
}

#[test]
fn a_report_that_does_not_hold_together_names_its_field() {
    let cases = [
        (
            Report {
                rows_delta: Some(1),
                ..total("a", 1)
            },
            "rows_delta",
        ),
        (
            Report {
                key: None,
                ..delta("a", 1, "k")
            },
            "key",
        ),
        (
            Report {
                table: None,
                ..total("a", 1)
            },
            "table",
        ),
        (
            Report {
                rows_total: None,
                ..total("a", 1)
            },
            "rows_total",
        ),
        (total("", 1), "table"),
        (total("a\nb", 1), "table"),
        (total(&"a".repeat(256), 1), "table"),
        (total("a", COUNT_MAX + 1), "rows_total"),
        (delta("a", u64::MAX, "k"), "rows_delta"),
        (errors("", 1, None), "errors"),
        (
            Report {
                lag_seconds: Some(-1.0),
                ..Report::default()
            },
            "lag_seconds",
        ),
        (
            Report {
                lag_seconds: Some(f64::NAN),
                ..Report::default()
            },
            "lag_seconds",
        ),
    ];
    for (report, expected) in cases {
        let mut users = migration();
        match users.apply(&report, NOW) {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected, "{report:?}"),
            other => panic!("{report:?} came to {other:?}"),
        }
        assert_eq!(users, migration());
    }
}

#[test]
fn phases_go_forward_and_a_cutover_may_be_called_off() {
    use Phase::{Cutover, Done, Failed, Snapshot, Streaming};
    let allowed = [
        (Snapshot, Streaming),
        (Snapshot, Cutover),
        (Snapshot, Done),
        (Snapshot, Failed),
        (Streaming, Cutover),
        (Streaming, Done),
        (Streaming, Failed),
        (Cutover, Streaming),
        (Cutover, Done),
        (Cutover, Failed),
    ];
    for from in Phase::ALL {
        for to in Phase::ALL {
            let mut users = migration();
            users.phase = from;
            let event = users.enter(to, LATER);
            if from == to {
                assert_eq!(event.unwrap(), None);
            } else {
                assert_eq!(
                    event.is_ok(),
                    allowed.contains(&(from, to)),
                    "{from:?} {to:?}"
                );
            }
        }
    }
}

#[test]
fn a_finished_migration_takes_its_last_report_again_and_nothing_new() {
    let mut users = migration();
    users.apply(&total("a", 10), NOW).unwrap();
    users.enter(Phase::Done, LATER).unwrap();
    assert_eq!(users.finished_at, Some(LATER));
    assert_eq!(
        users.apply(&total("a", 10), LATER).unwrap(),
        Applied::Unchanged
    );
    let error = users.apply(&total("a", 11), LATER).unwrap_err();
    assert_eq!(
        error.to_string(),
        "migration \"users\" is done and takes no further reports"
    );
}

#[test]
fn who_counted_a_table_first_goes_on_counting_it() {
    let mut users = migration();
    assert!(users.count_cdc("public.a", 10, 8, NOW).unwrap());
    assert!(!users.count_cdc("public.a", 10, 8, LATER).unwrap());
    assert!(matches!(
        users.apply(&total("public.a", 50), NOW),
        Err(Error::CountedByCdc { .. })
    ));
    users.apply(&total("public.b", 5), NOW).unwrap();
    assert!(!users.count_cdc("public.b", 99, 99, NOW).unwrap());
    assert_eq!((users.rows(), users.copied()), (15, 13));
}

#[test]
fn a_cdc_count_that_falls_is_not_believed() {
    let mut users = migration();
    users.count_cdc("public.a", 10, 8, NOW).unwrap();
    assert!(!users.count_cdc("public.a", 3, 3, LATER).unwrap());
    assert_eq!(users.rows(), 10);
}

#[test]
fn a_config_that_cannot_be_tracked_names_its_field() {
    let config = |id: &str| Config {
        id: id.into(),
        ..Config::default()
    };
    let cases = [
        (config(""), "id"),
        (config("a/b"), "id"),
        (config(".."), "id"),
        (config("a\u{0}"), "id"),
        (
            Config {
                expected_rows: Some(0),
                ..config("a")
            },
            "expected_rows",
        ),
        (
            Config {
                expected_rate: Some(f64::INFINITY),
                ..config("a")
            },
            "expected_rate",
        ),
        (
            Config {
                tables: vec![String::new()],
                ..config("a")
            },
            "tables",
        ),
    ];
    for (config, expected) in cases {
        match config.check() {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected, "{config:?}"),
            other => panic!("{config:?} came to {other:?}"),
        }
    }
    config("2026-11 users (eu)").check().unwrap();
}
