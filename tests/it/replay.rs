//! `cutover replay`: what rules would have told over a directory's history.

use std::path::Path;

use serde_json::Value;

use crate::support::{cutover, file, output};

/// 2026-01-01 00:00:00 UTC.
const START: i64 = 1_767_225_600;

/// Ten minutes of a lag every 15 s: above 300 from minute 2 up to and including minute 5.
fn history(dir: &Path) -> std::path::PathBuf {
    let mut text = "# TYPE lag gauge\n".to_owned();
    for step in 0..40 {
        let lag = match step {
            8..=20 => 300 + step,
            _ => 1,
        };
        text.push_str(&format!(
            "lag{{table=\"orders\"}} {lag} {}\n",
            START + step * 15
        ));
    }
    text.push_str("# EOF\n");
    file(dir, "history.om", text)
}

fn replay(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let data = dir.join("data");
    let mut command = cutover();
    command.arg("replay").arg("--data").arg(&data).args(more);
    let ran = output(&mut command);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let imported = output(
        cutover()
            .arg("import")
            .arg("--data")
            .arg(dir.path().join("data"))
            .arg(history(dir.path())),
    );
    assert!(imported.status.success(), "{imported:?}");
    dir
}

const RULES: &str = "\
groups:
  - name: lag
    rules:
      - record: lag:max
        expr: max by (table) (lag)
      - alert: LagHigh
        expr: lag:max > 300
        for: 1m
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.table }} is {{ humanizeDuration $value }} behind.'}
      - alert: NeverFires
        expr: lag:max > 300
        for: 1h
";

#[test]
fn what_would_have_paged_is_told_with_its_times() {
    let dir = prepared();
    let rules = file(dir.path(), "rules.yml", RULES);
    let rules = rules.to_str().unwrap();
    let (from, to) = (START.to_string(), (START + 600).to_string());
    let range = ["--rules", rules, "--from", &from, "--to", &to];
    let (code, stdout, stderr) = replay(dir.path(), &[&range[..], &["--json"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let alerts = told["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1, "{told}");
    let alert = &alerts[0];
    assert_eq!(alert["alert"], "LagHigh");
    assert_eq!(alert["labels"]["table"], "orders");
    assert_eq!(alert["summary"], "orders is 5m 12s behind.");
    // Above the bound from 00:02:00 to 00:05:00, and pending for a minute of that.
    assert_eq!(alert["from"], "2026-01-01T00:03:00.000Z");
    assert_eq!(alert["to"], "2026-01-01T00:05:15.000Z");
    assert_eq!(
        (&alert["seconds"], &alert["peak"]),
        (&135.0.into(), &320.0.into())
    );
    // 41 steps of three rules.
    assert_eq!(
        (&told["evaluations"], &told["rules"]),
        (&123.into(), &3.into())
    );
    assert_eq!(told["failures"], serde_json::json!([]));

    let (_, table, _) = replay(dir.path(), &range);
    let line = table.lines().nth(1).unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        cells,
        [
            "LagHigh",
            "critical",
            "2026-01-01T00:03:00.000Z",
            "2026-01-01T00:05:15.000Z",
            "2m15s",
            "320",
            "table=\"orders\""
        ]
    );
}

#[test]
fn what_still_fires_at_the_end_has_no_end_and_nothing_is_changed() {
    let dir = prepared();
    let rules = file(dir.path(), "rules.yml", RULES);
    let rules = rules.to_str().unwrap();
    let (from, to) = (START.to_string(), (START + 240).to_string());
    let range = ["--rules", rules, "--from", &from, "--to", &to, "--json"];
    let (_, first, _) = replay(dir.path(), &range);
    let told: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(told["alerts"][0]["to"], Value::Null);
    assert_eq!(told["alerts"][0]["seconds"], 60.0);
    let (_, again, _) = replay(dir.path(), &range);
    assert_eq!(first, again);
    let exported = output(
        cutover()
            .args([
                "export",
                "--match",
                "{__name__=~\"ALERTS.*|lag:max\"}",
                "--data",
            ])
            .arg(dir.path().join("data")),
    );
    assert_eq!(String::from_utf8(exported.stdout).unwrap(), "# EOF\n");
}

#[test]
fn a_wrong_range_or_file_is_a_usage_error() {
    let dir = prepared();
    let (code, _, stderr) = replay(dir.path(), &["--from", "100", "--to", "50"]);
    assert_eq!(code, Some(2), "{stderr}");
    let bad = file(
        dir.path(),
        "bad.yml",
        "groups: [{name: g, rules: [{alert: A, expr: up >}]}]\n",
    );
    let bad = bad.to_str().unwrap();
    let (code, _, stderr) = replay(dir.path(), &["--from", "50", "--to", "100", "--rules", bad]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("bad.yml:1: expr: "), "{stderr}");
}
