//! `cutover demo` on recorded events: exactly the counts that the recording is known to hold.

use std::collections::BTreeMap;
use std::path::Path;

use crate::corpus::{self, Truth};
use crate::support::{Server, cutover, output};

/// Counts by source, table and operation.
type Counts = BTreeMap<(String, String, String), u64>;

/// What the recordings' README says of one of them, in the form in which counts are printed.
fn counts(truth: &Truth) -> Counts {
    let schema = match truth.file.split(['.', '-']).next().unwrap() {
        "postgres" => "shop",
        "mariadb" => "shop_legacy",
        "mongodb" => "shopdocs",
        other => panic!("a recording of {other}"),
    };
    let operation = |code: &char| match code {
        'r' => "read",
        'c' => "create",
        'u' => "update",
        'd' => "delete",
        't' => "truncate",
        'm' => "message",
        other => panic!("operation {other}"),
    };
    let row = |((table, code), count): (&(String, char), &u64)| {
        let table = if table.is_empty() {
            String::new()
        } else {
            format!("{schema}.{table}")
        };
        (
            (truth.source().to_owned(), table, operation(code).to_owned()),
            *count,
        )
    };
    truth.changes.iter().map(row).collect()
}

fn play(events: &Path, data: &Path) -> std::process::Output {
    output(
        cutover()
            .args([
                "demo",
                "--headless",
                "--listen",
                "127.0.0.1:0",
                "--exit-when-done",
                "--events",
            ])
            .arg(events)
            .arg("--data")
            .arg(data),
    )
}

/// The printed table: source, table, operation, count; an empty table is shown as a dash.
fn printed(stdout: &str) -> Counts {
    stdout
        .lines()
        .skip_while(|line| !line.starts_with("source"))
        .skip(1)
        .filter_map(|line| {
            let mut cells = line
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty());
            let source = cells.next()?.to_owned();
            let table = cells.next()?.replace('—', "");
            let operation = cells.next()?.to_owned();
            Some(((source, table, operation), cells.next()?.parse().ok()?))
        })
        .collect()
}

#[test]
fn every_recording_gives_exactly_its_counts() {
    let Some(recordings) = corpus::folder("debezium") else {
        return;
    };
    let truths = corpus::debezium_truths(&recordings);
    assert_eq!(truths.len(), 8);
    for truth in truths {
        let file = &truth.file;
        let truth = counts(&truth);
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let output = play(&recordings.join(file), &data);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file}: {stderr}");
        assert_eq!(
            printed(&String::from_utf8_lossy(&output.stdout)),
            truth,
            "{file}: {stderr}"
        );

        let server = Server::start(&data, None, &[]);
        let labels = ["source", "table", "operation"];
        let expr = "sum by (source,table,operation)(cdc_events_processed_total)";
        let series = server.query(expr, &labels).unwrap();
        let served: Counts = series
            .into_iter()
            .map(|(labels, value)| {
                (
                    (labels[0].clone(), labels[1].clone(), labels[2].clone()),
                    value as u64,
                )
            })
            .collect();
        assert_eq!(served, truth, "{file}, first query after serve");
    }
}

#[test]
fn a_directory_used_with_other_events_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let event = |table: &str| {
        format!(
            r#"{{"topic":"s.public.{table}","key":null,"value":{{"before":null,"after":{{"id":1}},"source":{{"connector":"postgresql","name":"s","ts_ms":1,"schema":"public","table":"{table}"}},"op":"c","ts_ms":2}},"headers":[]}}"#
        ) + "\n"
    };
    let first = crate::support::file(dir.path(), "first.ndjson", event("a"));
    let second = crate::support::file(dir.path(), "second.ndjson", event("b"));
    for _ in 0..2 {
        let output = play(&first, &data);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let counts = printed(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(
            counts.values().sum::<u64>(),
            1,
            "played twice, counted once"
        );
    }
    let output = play(&second, &data);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("other events"), "{stderr}");
}

#[test]
fn an_events_file_with_a_bad_line_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let events = crate::support::file(dir.path(), "bad.ndjson", "{\"topic\":\"a\"}\n{oops\n");
    let output = play(&events, &dir.path().join("data"));
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("bad.ndjson:"), "{stderr}");
}
