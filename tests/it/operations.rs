//! Operating the store: each command against the real binary, and the API behind it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use cutover::model::{Clock, STALE_NAN, SystemClock};

use crate::api::Api;
use crate::support::{
    Server, cutover, file, free_address, output, percent_encode, request, wait_for,
};

const ADMIN: &str = "[server]\nadmin_api = true\n";

/// Runs a command; answers its exit code and what it printed to both.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = output(cutover().args(args));
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// The same where it has to go well.
fn done(args: &[&str]) -> String {
    let (code, out, said) = run(args);
    assert_eq!(code, 0, "{args:?}: {out}{said}");
    out
}

/// A minute ago, in whole seconds; the same for all that a test writes and expects.
fn seconds() -> i64 {
    static SECONDS: LazyLock<i64> = LazyLock::new(|| SystemClock::default().now().ms() / 1000 - 60);
    *SECONDS
}

/// A text with everything that is hard to write, as it is exported.
fn text() -> String {
    let at = seconds();
    format!(
        "# TYPE depth gauge\n\
         # HELP depth How deep, in \\\"metres\\\"\\nand \\\\ more.\n\
         depth{{place=\"a \\\"b\\\"\\\\c\\nd\"}} NaN {at}\n\
         depth{{place=\"a \\\"b\\\"\\\\c\\nd\"}} +Inf {at}.001\n\
         depth{{place=\"a \\\"b\\\"\\\\c\\nd\"}} -1.5 {at}.250\n\
         # TYPE rows counter\n\
         rows_total{{\"table.name\"=\"o\"}} 1e300 {at}\n\
         rows_total{{\"table.name\"=\"o\"}} 0.1 {at}.500\n\
         {{\"with.dot\",job=\"x\"}} -0 {at}\n\
         # EOF\n"
    )
}

const SELECTOR: &str = r#"{__name__=~"depth|rows_total|with.dot"}"#;

/// A directory at rest with the text and some more in it.
fn filled(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    let path = file(dir, "text.om", text());
    done(&[
        "import",
        path.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ]);
    data
}

#[test]
fn what_is_imported_is_exported_the_same_by_server_and_at_rest() {
    let dir = tempfile::tempdir().unwrap();
    let text = text();
    let path = file(dir.path(), "text.om", &text);
    let path = path.to_str().unwrap();
    let data = dir.path().join("a");
    let server = Server::start(&data, None, &[]);
    let url = format!("http://{}", server.address);
    let said = done(&["import", path, "--server", &url]);
    assert_eq!(said, "6 samples imported\n");
    // Once more is no error.
    done(&["import", path, "--server", &url]);
    assert_eq!(
        done(&["export", "--match", SELECTOR, "--server", &url]),
        text
    );
    let (status, all) = server
        .get("/api/v1/export?match[]=up&match[]=depth")
        .unwrap();
    assert!(status == 200 && all.ends_with("# EOF\n"), "{status} {all}");
    assert_eq!(server.stop(), Some(0));

    let data = data.to_str().unwrap();
    assert_eq!(done(&["export", "--match", SELECTOR, "--data", data]), text);
    let whole = dir.path().join("whole.om");
    let whole = whole.to_str().unwrap();
    assert_eq!(done(&["export", "--data", data, "--output", whole]), "");
    let other = dir.path().join("b");
    let other = other.to_str().unwrap();
    done(&["import", whole, "--data", other]);
    assert_eq!(
        done(&["export", "--match", SELECTOR, "--data", other]),
        text
    );
    assert_eq!(
        done(&["export", "--data", other]),
        std::fs::read_to_string(whole).unwrap()
    );
    // A piece of time, both ends included.
    let (start, end) = (format!("{}.001", seconds() - 30), seconds() + 30);
    let piece = done(&[
        "export",
        "--match",
        "{\"with.dot\"}",
        "--data",
        data,
        "--start",
        "0",
        "--end",
        "1",
    ]);
    assert_eq!(piece, "# EOF\n");
    let end = end.to_string();
    let args = ["export", "--match", "depth", "--data", data];
    let piece = done(&[&args[..], &["--start", &start, "--end", &end]].concat());
    assert_eq!(piece.matches("depth{").count(), 3, "{piece}");
}

#[test]
fn a_wrong_import_names_the_line_and_refused_samples_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let wrong = file(dir.path(), "wrong.txt", "a 1\nb{ 2\n");
    let (code, _, said) = run(&["import", wrong.to_str().unwrap(), "--data", data]);
    assert_eq!(code, 1);
    assert!(
        said.contains("wrong.txt") && said.contains("line 2, column"),
        "{said}"
    );
    let at = seconds() * 1000;
    let first = file(dir.path(), "first.txt", format!("a 1 {at}\n"));
    done(&["import", first.to_str().unwrap(), "--data", data]);
    let second = file(
        dir.path(),
        "second.txt",
        format!("a 1 {at}\na 2 {at}\nb 1 {at}\n"),
    );
    let (code, out, said) = run(&["import", second.to_str().unwrap(), "--data", data]);
    assert_eq!(code, 1);
    assert!(
        out.contains("a at ") && out.contains("refused: 1, stored: 2"),
        "{out}"
    );
    assert!(said.contains("not all of the 3 samples"), "{said}");
    let server = Server::start(Path::new(data), None, &[]);
    let url = format!("http://{}", server.address);
    let (code, out, _) = run(&["import", second.to_str().unwrap(), "--server", &url]);
    assert!(
        code == 1 && out.contains("refused: 1, stored: 2"),
        "{code} {out}"
    );
    let (code, _, said) = run(&["import", "/nonexistent.txt", "--server", &url]);
    assert!(
        code == 1 && said.contains("/nonexistent.txt"),
        "{code} {said}"
    );
}

#[test]
fn a_directory_in_use_is_left_alone_and_its_holder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, None, &[]);
    let (data, copy) = (data.to_str().unwrap(), dir.path().join("copy"));
    let text = file(dir.path(), "text.txt", "a 1\n");
    let commands: [&[&str]; 7] = [
        &["verify", data],
        &["compact", data],
        &["stats", "--data", data],
        &["export", "--data", data],
        &["import", text.to_str().unwrap(), "--data", data],
        &["delete", "--match", "up", "--yes", "--data", data],
        &["backup", copy.to_str().unwrap(), "--data", data],
    ];
    for command in commands {
        let (code, _, said) = run(command);
        assert_eq!(code, 1, "{command:?}: {said}");
        assert!(
            said.contains(&format!("pid {}", server.pid())),
            "{command:?}: {said}"
        );
        assert!(said.contains(&server.address.to_string()), "{said}");
    }
}

#[test]
fn commands_say_what_they_do_not_find() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, nowhere) = (dir.path().to_str().unwrap(), "/nonexistent/data");
    for dir in [empty, nowhere] {
        let commands: [&[&str]; 5] = [
            &["verify", dir],
            &["compact", dir],
            &["stats", "--data", dir],
            &["export", "--data", dir],
            &["backup", "/tmp/never-made", "--data", dir],
        ];
        for command in commands {
            let (code, _, said) = run(command);
            assert_eq!(code, 1, "{command:?}");
            assert!(
                said.contains("is not a data directory of cutover"),
                "{said}"
            );
        }
    }
    assert_eq!(
        std::fs::read_dir(empty).unwrap().count(),
        0,
        "nothing is made"
    );
    let server = format!("http://{}", free_address());
    let commands: [&[&str]; 4] = [
        &["stats"],
        &["export"],
        &["delete", "--match", "up"],
        &["backup", "/tmp/never-made"],
    ];
    for command in commands {
        let (code, _, said) = run(&[command, &["--server", &server]].concat());
        assert_eq!(code, 3, "{command:?}: {said}");
    }
}

#[test]
fn verify_is_content_with_a_whole_store_and_lists_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let data = filled(dir.path());
    let path = data.to_str().unwrap();
    let said = done(&["verify", path]);
    assert!(said.contains("0 write-ahead rows"), "{said}");
    let said = done(&["compact", path]);
    assert!(
        said.starts_with("6 samples: ") && said.contains(" after"),
        "{said}"
    );
    let said = done(&["verify", path]);
    assert!(said.contains("3 series, 6 samples in 3 blocks"), "{said}");

    let name = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("data-0"))
        .unwrap();
    let mut bytes = std::fs::read(&name).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        for byte in page.iter_mut().skip(100).take(60) {
            *byte ^= 0x55;
        }
    }
    std::fs::write(&name, &bytes).unwrap();
    let (code, out, said) = run(&["verify", path]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains(name.to_str().unwrap()), "{out}");
    assert!(
        said.contains("fault") && !said.contains("panicked"),
        "{said}"
    );
    assert_eq!(std::fs::read(&name).unwrap(), bytes, "it changed the file");
    // Missing files are named.
    std::fs::remove_file(&name).unwrap();
    let (code, out, _) = run(&["verify", path]);
    assert!(code == 1 && out.contains("is missing"), "{out}");
}

#[test]
fn compact_keeps_every_sample() {
    let dir = tempfile::tempdir().unwrap();
    let data = filled(dir.path());
    let path = data.to_str().unwrap();
    done(&["compact", path]);
    done(&["compact", path]);
    assert_eq!(done(&["export", "--data", path]), text());
    let json = done(&["stats", "--data", path, "--json", "--blocks"]);
    let stats: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&stats["head_samples"], &stats["sealed_samples"]),
        (&0.into(), &6.into())
    );
    let values = stats["encoding"]["values"].as_array().unwrap();
    assert!(
        values.iter().any(|codec| codec["exceptions"] == true),
        "{json}"
    );
}

#[test]
fn stats_are_told_by_server_and_at_rest() {
    let dir = tempfile::tempdir().unwrap();
    let data = filled(dir.path());
    let at_rest = done(&["stats", "--data", data.to_str().unwrap(), "--blocks"]);
    assert!(at_rest.contains("series       3\n"), "{at_rest}");
    let server = Server::start(&data, None, &[]);
    let url = format!("http://{}", server.address);
    let said = done(&["stats", "--server", &url, "--blocks"]);
    for part in ["head ", "data file ", "% dead", "column"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // Own metrics come with the first tick.
    let shown = wait_for("own metrics", Duration::from_secs(20), || {
        let (_, text) = server.get("/metrics")?;
        text.contains("cutover_store_series ").then_some(text)
    });
    for name in [
        "cutover_store_samples{place=\"head\"}",
        "cutover_store_samples{place=\"sealed\"}",
        "cutover_store_file_bytes{file=\"wal\"}",
        "cutover_store_file_bytes{file=\"data\"}",
        "cutover_store_commit_seconds_total",
        "cutover_store_rejected_samples_total{reason=\"too_old\"}",
    ] {
        assert!(shown.contains(name), "{name} in {shown}");
    }
}

#[test]
fn delete_asks_and_deletes_only_what_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = filled(dir.path());
    let path = data.to_str().unwrap();
    let args = ["delete", "--match", "depth", "--match", "rows_total"];
    let at_rest = [&args[..], &["--data", path]].concat();
    let (code, _, said) = run(&at_rest);
    assert_eq!(code, 2);
    assert!(
        said.contains("2 series") && said.contains("--yes"),
        "{said}"
    );
    let (code, _, said) = run(&["delete", "--match", "sum(up)", "--data", path]);
    assert!(code == 2 && said.contains("sum(up)"), "{code} {said}");

    let server = Server::start(&data, None, &[]);
    let url = format!("http://{}", server.address);
    let through_server = [&args[..], &["--yes", "--server", &url]].concat();
    let (code, _, said) = run(&through_server);
    assert_eq!(code, 1);
    assert!(said.contains("[server] admin_api = true"), "{said}");
    server.stop();

    let config = file(dir.path(), "cutover.toml", ADMIN);
    let server = Server::start(&data, Some(&config), &[]);
    let url = format!("http://{}", server.address);
    let through_server = [&args[..], &["--yes", "--server", &url]].concat();
    assert_eq!(done(&through_server), "Samples of 2 series deleted.\n");
    let said = done(&through_server);
    assert!(said.contains("nothing is deleted"), "{said}");
    let left = done(&["export", "--match", SELECTOR, "--server", &url]);
    assert!(left.starts_with("{\"with.dot\""), "{left}");
    server.stop();
    done(&["delete", "--match", "{job=\"x\"}", "--yes", "--data", path]);
    assert_eq!(
        done(&["export", "--match", SELECTOR, "--data", path]),
        "# EOF\n"
    );
}

#[test]
fn a_backup_of_a_running_server_is_served_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = filled(dir.path());
    let config = file(dir.path(), "cutover.toml", ADMIN);
    let server = Server::start(&data, Some(&config), &[]);
    let url = format!("http://{}", server.address);
    let copy = dir.path().join("copy");
    let copy_path = copy.to_str().unwrap();
    let said = done(&["backup", copy_path, "--server", &url]);
    assert!(said.starts_with(&format!("{copy_path}: ")), "{said}");
    let (code, _, said) = run(&["backup", copy_path, "--server", &url]);
    assert!(code == 1 && said.contains("is not empty"), "{said}");
    done(&["verify", copy_path]);
    let restored = Server::start(&copy, None, &[]);
    let rows = restored.query("rows_total", &["table.name"]).unwrap();
    assert_eq!(rows, [(vec!["o".to_owned()], 0.1)]);

    // As Prometheus: named by its time, among the snapshots.
    let order = |method: &str, path: &str| request(server.address, method, path, "").unwrap();
    let (status, body) = order("POST", "/api/v1/admin/tsdb/snapshot");
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let name = answer["data"]["name"].as_str().unwrap();
    let snapshot = data.join("snapshots").join(name);
    done(&["verify", snapshot.to_str().unwrap()]);
    let (status, body) = order("POST", "/api/v1/admin/tsdb/snapshot?dir=relative");
    assert!(status == 400 && body.contains("absolute"), "{body}");
    let (status, body) = order("PUT", "/api/v1/admin/tsdb/snapshot?skip_head=maybe");
    assert!(status == 400 && body.contains("skip_head"), "{body}");
    assert_eq!(order("PUT", "/api/v1/admin/tsdb/clean_tombstones").0, 204);
    server.stop();
    // At rest, too; the snapshots inside do no harm.
    let second = dir.path().join("second");
    let path = data.to_str().unwrap();
    done(&["backup", second.to_str().unwrap(), "--data", path]);
    let exported = |path: &str| done(&["export", "--match", SELECTOR, "--data", path]);
    assert_eq!(exported(second.to_str().unwrap()), exported(path));
}

#[tokio::test]
async fn the_index_is_told_in_prometheus_shape() {
    let api = Api::new();
    api.write(&[
        ("up", &[("job", "a")], 1.0),
        ("up", &[("job", "b")], 1.0),
        ("load", &[("job", "a")], 1.0),
    ]);
    let answer = api.get("/api/v1/status/tsdb?limit=1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = &answer.json()["data"];
    assert_eq!(data["headStats"]["numSeries"], 3);
    assert_eq!(data["headStats"]["numLabelPairs"], 4);
    assert_eq!(data["headStats"]["minTime"], crate::api::START.ms());
    let metrics = serde_json::json!([{"name": "up", "value": 2}]);
    assert_eq!(data["seriesCountByMetricName"], metrics);
    let pairs = data["seriesCountByLabelValuePair"].as_array().unwrap();
    assert_eq!(pairs.len(), 1);
    for key in ["labelValueCountByLabelName", "memoryInBytesByLabelName"] {
        assert!(data[key].is_array(), "{key} in {data}");
    }
    for limit in ["0", "-1", "x"] {
        let answer = api.get(&format!("/api/v1/status/tsdb?limit={limit}")).await;
        let (status, kind, message) = answer.error();
        assert_eq!((status, kind.as_str()), (400, "bad_data"));
        assert_eq!(message, "limit must be a positive number");
    }
    let answer = api.get("/api/v1/status/store?blocks=true").await;
    let data = &answer.json()["data"];
    assert_eq!(
        (&data["series"], &data["head_samples"]),
        (&3.into(), &3.into())
    );
    assert_eq!(data["encoding"]["blocks"], 0);
    assert_eq!(api.get("/api/v1/status/store?blocks=2").await.status, 400);
}

#[tokio::test]
async fn what_deletes_is_off_unless_it_is_allowed() {
    let api = Api::new();
    for path in ["delete_series?match[]=up", "clean_tombstones", "snapshot"] {
        let answer = api.post(&format!("/api/v1/admin/tsdb/{path}"), "").await;
        let (status, kind, message) = answer.error();
        assert_eq!((status, kind.as_str()), (503, "unavailable"), "{path}");
        assert!(message.contains("admin_api"), "{message}");
    }
    let snapshots = tempfile::tempdir().unwrap();
    let dir = snapshots.path().to_owned();
    let api = Api::with(&[], |state| state.snapshots = Some(dir));
    api.write(&[
        ("up", &[("job", "a")], 1.0),
        ("up", &[("job", "b")], STALE_NAN),
    ]);
    let answer = api.post("/api/v1/admin/tsdb/delete_series", "").await;
    let (status, _, message) = answer.error();
    assert_eq!(
        (status, message.as_str()),
        (400, "no match[] parameter provided")
    );
    let wrong = "/api/v1/admin/tsdb/delete_series?match[]=up&start=x";
    assert_eq!(api.post(wrong, "").await.status, 400);
    // A stale marker is not exported, and a series of nothing else not at all.
    let answer = api.get("/api/v1/export?match[]=up").await;
    assert_eq!(answer.body, "up{job=\"a\"} 1 1700000000\n# EOF\n");
    let answer = api.get("/api/v1/export").await;
    assert_eq!(answer.error().2, "no match[] parameter provided");
    let selector = percent_encode("up{job=\"a\"}");
    let path = format!("/api/v1/admin/tsdb/delete_series?match[]={selector}&match[]=none");
    assert_eq!(api.post(&path, "").await.status, 204);
    let answer = api.get("/api/v1/export?match[]=up").await;
    assert_eq!(answer.body, "# EOF\n");
}
