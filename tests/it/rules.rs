//! Rule files and the real binary: what is checked, what is evaluated, what survives.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Server, cutover, file, output, request, wait_for};

const RULES: &str = "\
groups:
  - name: fast
    interval: 1s
    rules:
      - record: answer
        expr: vector(42)
      - alert: Always
        expr: answer > 5
        labels: {severity: warning}
        annotations: {summary: 'It is {{ $value }}.'}
      - alert: Later
        expr: answer > 6
        for: 1h
";

fn check_rules(paths: &[&Path]) -> (Option<i32>, String, String) {
    let ran = output(cutover().arg("check-rules").args(paths));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn check_rules_counts_rules_or_names_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good.yml", RULES);
    let bad = file(
        dir.path(),
        "bad.yml",
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    fro: 5m\n",
    );
    let (code, stdout, _) = check_rules(&[&good]);
    assert_eq!(code, Some(0));
    let name = good.display();
    assert_eq!(
        stdout,
        format!("Checking {name}\n  SUCCESS: 3 rules found\n")
    );
    let (code, stdout, stderr) = check_rules(&[&good, &bad]);
    assert_eq!(code, Some(1));
    let line = format!(
        "{}:6: unknown key `fro`, did you mean `for`?\n",
        bad.display()
    );
    assert!(stdout.contains(&line), "{stdout}");
    assert!(stdout.contains("SUCCESS: 3 rules found"), "{stdout}");
    assert_eq!(stderr, "cutover: 1 of 2 files cannot be used\n");
    let (code, stdout, _) = check_rules(&[&dir.path().join("none.yml")]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("none.yml: cannot be read"), "{stdout}");
}

#[test]
fn check_rules_reads_standard_input() {
    let mut child = cutover()
        .args(["check-rules", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, RULES.as_bytes()).unwrap();
    drop(stdin);
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success());
    assert_eq!(
        String::from_utf8(ran.stdout).unwrap(),
        "Checking -\n  SUCCESS: 3 rules found\n"
    );
}

#[test]
fn the_shipped_rules_are_right() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/rules");
    let paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(paths.len() >= 4);
    let paths: Vec<_> = paths.iter().map(std::path::PathBuf::as_path).collect();
    let (code, stdout, _) = check_rules(&paths);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(!stdout.contains("note"), "{stdout}");
}

fn config(dir: &Path) -> std::path::PathBuf {
    file(
        dir,
        "cutover.toml",
        "[rules]\nfiles = [\"rules/*.yml\"]\nbuilt_in = false\n[anomaly]\nenabled = false\n",
    )
}

fn data(server: &Server, path: &str) -> Value {
    let (status, body) = server.get(path).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["data"].clone()
}

/// The alerts of the API by name, once there are as many as expected.
fn alerts(server: &Server, count: usize) -> Vec<Value> {
    wait_for("alerts", Duration::from_secs(30), || {
        let alerts = data(server, "/api/v1/alerts")["alerts"]
            .as_array()
            .unwrap()
            .clone();
        (alerts.len() == count).then_some(alerts)
    })
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    file(&dir.path().join("rules"), "a.yml", RULES);
    dir
}

#[test]
fn rules_and_alerts_have_prometheus_shapes() {
    let dir = folder();
    let server = Server::start(&dir.path().join("data"), Some(&config(dir.path())), &[]);
    let alerts = alerts(&server, 2);
    assert_eq!(
        alerts[0]["labels"],
        serde_json::json!({"alertname": "Always", "severity": "warning"})
    );
    assert_eq!(alerts[0]["annotations"]["summary"], "It is 42.");
    assert_eq!(
        (&alerts[0]["state"], &alerts[0]["value"]),
        (&"firing".into(), &"4.2e+01".into())
    );
    assert!(alerts[0]["activeAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(alerts[1]["state"], "pending");

    let groups = data(&server, "/api/v1/rules")["groups"].clone();
    let group = &groups[0];
    assert_eq!(
        (&group["name"], &group["interval"], &group["limit"]),
        (&"fast".into(), &1.into(), &0.into())
    );
    assert!(group["file"].as_str().unwrap().ends_with("rules/a.yml"));
    let [record, always, later] = &group["rules"].as_array().unwrap()[..] else {
        panic!("{group}");
    };
    assert_eq!(
        keys(record),
        [
            "evaluationTime",
            "health",
            "lastEvaluation",
            "name",
            "query",
            "type"
        ]
    );
    assert_eq!(
        (&record["type"], &record["query"]),
        (&"recording".into(), &"vector(42)".into())
    );
    assert_eq!(
        keys(always),
        [
            "alerts",
            "annotations",
            "duration",
            "evaluationTime",
            "health",
            "keepFiringFor",
            "labels",
            "lastEvaluation",
            "name",
            "query",
            "state",
            "type"
        ]
    );
    assert_eq!(
        (&always["state"], &always["health"]),
        (&"firing".into(), &"ok".into())
    );
    assert_eq!(always["annotations"]["summary"], "It is {{ $value }}.");
    assert_eq!(
        (&later["state"], &later["duration"]),
        (&"pending".into(), &3600.into())
    );

    let names = |query: &str| -> Vec<String> {
        let groups = data(&server, &format!("/api/v1/rules?{query}"))["groups"].clone();
        let rules = groups.as_array().unwrap().iter();
        rules
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .map(|rule| rule["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("type=record"), ["answer"]);
    assert_eq!(
        names("rule_name[]=Later&rule_name[]=answer"),
        ["answer", "Later"]
    );
    assert_eq!(names("match[]=%7Bseverity=%22warning%22%7D"), ["Always"]);
    assert_eq!(names("rule_group[]=other"), Vec::<String>::new());
    let without = data(&server, "/api/v1/rules?exclude_alerts=true&type=alert");
    assert_eq!(without["groups"][0]["rules"][0]["alerts"], Value::Null);
    // Evaluated once a second: what an alert says is a series too.
    let states = server
        .query("ALERTS", &["alertname", "alertstate"])
        .unwrap();
    let states: Vec<_> = states
        .into_iter()
        .map(|(labels, _)| labels.join(" "))
        .collect();
    assert_eq!(states, ["Always firing", "Later pending"]);
    assert_eq!(server.stop(), Some(0));
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn groups_come_page_by_page() {
    let dir = folder();
    let more = RULES.replace("fast", "second");
    file(&dir.path().join("rules"), "b.yml", more);
    let server = Server::start(&dir.path().join("data"), Some(&config(dir.path())), &[]);
    let first = data(&server, "/api/v1/rules?group_limit=1");
    assert_eq!(first["groups"].as_array().unwrap().len(), 1);
    let token = first["groupNextToken"].as_str().unwrap();
    let second = data(
        &server,
        &format!("/api/v1/rules?group_limit=1&group_next_token={token}"),
    );
    assert_eq!(second["groups"][0]["name"], "second");
    assert!(second.get("groupNextToken").is_none(), "{second}");
    let (status, _) = server
        .get("/api/v1/rules?group_limit=1&group_next_token=no")
        .unwrap();
    assert_eq!(status, 400);
}

#[test]
fn alerts_come_back_after_a_kill_as_they_were() {
    let dir = folder();
    let config = config(dir.path());
    let data_dir = dir.path().join("data");
    let server = Server::start(&data_dir, Some(&config), &[]);
    let before = alerts(&server, 2);
    server.kill();
    let server = Server::start(&data_dir, Some(&config), &[]);
    // Also before anything is evaluated again.
    let after = alerts(&server, 2);
    assert_eq!(
        after[0]["activeAt"], before[0]["activeAt"],
        "it fires since then"
    );
    assert_eq!(after[0]["state"], "firing");
    assert_eq!(after[1]["state"], "pending");
}

#[test]
fn a_bad_file_ends_the_start_and_is_refused_whole_afterwards() {
    let dir = folder();
    let config = config(dir.path());
    let rules = dir.path().join("rules/a.yml");
    let bad = RULES.replace("answer > 5", "answer >");
    std::fs::write(&rules, &bad).unwrap();
    let ran = output(
        cutover()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.path().join("data"))
            .arg("--config")
            .arg(&config),
    );
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("rules/a.yml:8: expr: "), "{stderr}");

    let check_config = || output(cutover().arg("check-config").arg(&config));
    let ran = check_config();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("rules/a.yml:8: expr: "), "{stderr}");

    std::fs::write(&rules, RULES).unwrap();
    assert!(check_config().status.success());
    let server = Server::start(&dir.path().join("data"), Some(&config), &[]);
    alerts(&server, 2);
    std::fs::write(&rules, &bad).unwrap();
    let hangup = || {
        let pid = server.pid().to_string();
        assert!(
            Command::new("kill")
                .args(["-HUP", &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    hangup();
    let part = wait_for("the part is degraded", Duration::from_secs(30), || {
        let (_, body) = request(server.address, "GET", "/api/v1/health", "")?;
        let health: Value = serde_json::from_str(&body).unwrap();
        let parts = health["data"]["parts"].as_array()?;
        let part = parts.iter().find(|part| part["name"] == "rules")?.clone();
        (part["state"] == "degraded").then_some(part)
    });
    assert!(
        part["message"]
            .as_str()
            .unwrap()
            .contains("rules/a.yml:8: expr: "),
        "{part}"
    );
    assert_eq!(
        alerts(&server, 2)[0]["state"],
        "firing",
        "the rules before stay in force"
    );
    std::fs::write(&rules, RULES.replace("Later", "Sooner")).unwrap();
    hangup();
    wait_for("the new rule", Duration::from_secs(30), || {
        let alerts = data(&server, "/api/v1/alerts")["alerts"].clone();
        (alerts[1]["labels"]["alertname"] == "Sooner").then_some(())
    });
}
