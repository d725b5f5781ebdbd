//! Clients of others, as they are: promtool, Prometheus, and the libraries of three projects.
//!
//! Each test has a server of its own. Python and Node come from the folder that `tests/real/run` made.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::say;
use crate::support::{Server, file, free_address, output, percent_encode, wait_for};

const WITHIN: Duration = Duration::from_secs(30);
/// 2023-11-14 22:13:20, within no retention but "0".
const START: i64 = 1_700_000_000;

/// The folder with the clients; `None`, after one line on standard error, when nobody has made it.
fn clients() -> Option<PathBuf> {
    let folder = env::var_os("CUTOVER_REAL_CLIENTS").map(PathBuf::from);
    if folder.is_none() {
        say("skipped: CUTOVER_REAL_CLIENTS is not set (tests/real/run sets it)");
    }
    folder
}

fn script(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/clients");
    folder.join(name)
}

/// Runs a client to its end and answers what it printed.
fn run(command: &mut Command) -> String {
    let output = output(command);
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text.into_owned()
}

fn python(clients: &Path, name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(clients.join("venv/bin/python"));
    run(command.arg(script(name)).args(arguments))
}

/// A server that keeps everything, with what else is configured.
fn server(dir: &Path, more: &str) -> Server {
    let config = file(
        dir,
        "cutover.toml",
        format!("[store]\nretention = \"0\"\n{more}"),
    );
    Server::start(&dir.join("data"), Some(&config), &[])
}

/// The values of the series that an instant query finds, in the order of their labels.
fn values(server: &Server, query: &str) -> Vec<f64> {
    let found = server.query(query, &[]).expect("the server answers");
    found.into_iter().map(|(_, value)| value).collect()
}

fn value(server: &Server, query: &str) -> Option<f64> {
    let found = values(server, query);
    assert!(found.len() < 2, "{query}: {found:?}");
    found.first().copied()
}

/// Fails when a query finds anything but one series with this value.
#[track_caller]
fn expect(server: &Server, query: &str, expected: f64) {
    assert_eq!(value(server, query), Some(expected), "{query}");
}

/// Two series with a sample every 30 s from [`START`] on, 5 of them.
fn import_rows(server: &Server) {
    let mut text = String::from("# TYPE rows gauge\n");
    for step in 0..5 {
        let at = (START + 30 * step) * 1000;
        text.push_str(&format!("rows{{table=\"orders\"}} {step} {at}\n"));
        text.push_str(&format!("rows{{table=\"users\"}} {} {at}\n", 10 * step));
    }
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail-with-body", "--data-binary", &text]);
    run(command.arg(format!(
        "http://{}/api/v1/import/prometheus",
        server.address
    )));
}

#[test]
fn promtool_queries() {
    if clients().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let server = server(dir.path(), "");
    import_rows(&server);
    let url = format!("http://{}", server.address);
    let (start, end) = (START.to_string(), (START + 60).to_string());
    let promtool = |arguments: &[&str]| run(Command::new("promtool").arg("query").args(arguments));
    let instant = promtool(&["instant", "--time", &end, &url, "rows"]);
    assert_eq!(
        instant,
        format!("rows{{table=\"orders\"}} => 2 @[{end}]\nrows{{table=\"users\"}} => 20 @[{end}]\n")
    );
    let range = promtool(&[
        "range",
        "--start",
        &start,
        "--end",
        &end,
        "--step",
        "30s",
        &url,
        "sum(rows)",
    ]);
    let middle = START + 30;
    assert_eq!(
        range,
        format!("{{}} =>\n0 @[{start}]\n11 @[{middle}]\n22 @[{end}]\n")
    );
    let matching = "--match=rows{table=~\"o.*\"}";
    let series = promtool(&["series", matching, "--start", &start, "--end", &end, &url]);
    assert_eq!(series, "{__name__=\"rows\", table=\"orders\"}\n");
    let labels = promtool(&["labels", "--start", &start, "--end", &end, &url, "table"]);
    assert_eq!(labels, "orders\nusers\n");
}

#[test]
fn prometheus_api_client_reads() {
    let Some(clients) = clients() else { return };
    let dir = tempfile::tempdir().expect("a folder can be made");
    let server = server(dir.path(), "");
    import_rows(&server);
    let url = format!("http://{}", server.address);
    let (start, end) = (START.to_string(), (START + 60).to_string());
    let text = python(&clients, "read.py", &[&url, &start, &end]);
    let found: Value = serde_json::from_str(&text).expect("it prints JSON");
    let metrics = found["metrics"].as_array().expect("a list");
    assert!(metrics.contains(&json!("rows")), "{metrics:?}");
    let labels = found["labels"].as_array().expect("a list");
    assert!(labels.contains(&json!("table")), "{labels:?}");
    assert_eq!(found["values"], json!(["orders", "users"]));
    assert_eq!(found["instant"][0]["value"], json!([START + 60, "22"]));
    let points = json!([[START, "0"], [START + 30, "1"], [START + 60, "2"]]);
    assert_eq!(found["range"][0]["values"], points);
    let points = json!([[START, "0"], [START + 30, "10"], [START + 60, "20"]]);
    assert_eq!(found["raw"][0]["values"], points);
}

#[test]
fn prometheus_client_pushes() {
    let Some(clients) = clients() else { return };
    let dir = tempfile::tempdir().expect("a folder can be made");
    let server = server(dir.path(), "");
    let gateway = server.address.to_string();
    let push = |step| python(&clients, "push.py", &[&gateway, step]);
    push("push");
    let group = "job=\"backfill\",path=\"a/b\",empty=\"\"";
    expect(
        &server,
        &format!("rows_left{{{group},table=\"orders\"}}"),
        12.5,
    );
    expect(&server, &format!("rows_copied_total{{{group}}}"), 41.0);
    expect(
        &server,
        &format!("batch_seconds_bucket{{{group},le=\"1.0\"}}"),
        2.0,
    );
    expect(
        &server,
        &format!("batch_seconds_bucket{{{group},le=\"+Inf\"}}"),
        3.0,
    );
    expect(&server, &format!("batch_seconds_sum{{{group}}}"), 4.0);
    expect(
        &server,
        &format!("push_failure_time_seconds{{{group}}}"),
        0.0,
    );
    let age = format!("time() - push_time_seconds{{{group}}}");
    assert!(value(&server, &age).is_some_and(|age| age < 60.0));
    push("add");
    expect(&server, &format!("rows_left{{{group}}}"), 1.0);
    expect(&server, &format!("rows_copied_total{{{group}}}"), 41.0);
    push("replace");
    expect(
        &server,
        "count({job=\"backfill\",__name__!~\"push_.*\"})",
        1.0,
    );
    expect(&server, &format!("done{{{group}}}"), 1.0);
    push("delete");
    assert!(values(&server, "{job=\"backfill\"}").is_empty());
}

/// A child that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn prom_client_is_scraped() {
    let Some(clients) = clients() else { return };
    let dir = tempfile::tempdir().expect("a folder can be made");
    let port = free_address().port();
    let mut node = Command::new("node");
    node.arg(script("scraped.js")).arg(port.to_string());
    node.env("NODE_PATH", clients.join("node_modules"));
    let node = node.stdin(Stdio::piped()).spawn().expect("there is node");
    let node = Killed(node);
    let scrape = format!(
        "[[scrape]]\njob = \"node\"\ntargets = [\"127.0.0.1:{port}\"]\ninterval = \"1s\"\n\
         timeout = \"1s\"\n"
    );
    let server = server(dir.path(), &scrape);
    wait_for("prom-client is up", WITHIN, || {
        value(&server, "up{job=\"node\"}").filter(|up| *up == 1.0)
    });
    let target = format!("job=\"node\",instance=\"127.0.0.1:{port}\"");
    expect(
        &server,
        &format!("orders_total{{{target},exported_job=\"own\"}}"),
        7.0,
    );
    expect(&server, &format!("queue{{{target}}}"), -1.5);
    // It writes le="1" and le="5"; these are the names that Prometheus 3 gives them.
    expect(
        &server,
        &format!("seconds_bucket{{{target},le=\"1.0\"}}"),
        1.0,
    );
    expect(
        &server,
        &format!("seconds_bucket{{{target},le=\"5.0\"}}"),
        2.0,
    );
    expect(&server, &format!("seconds_count{{{target}}}"), 3.0);
    expect(&server, &format!("bytes{{{target},quantile=\"0.5\"}}"), 2.0);
    expect(&server, &format!("bytes_sum{{{target}}}"), 6.0);
    expect(&server, "scrape_samples_scraped{job=\"node\"}", 10.0);
    drop(node);
    wait_for("prom-client is down", WITHIN, || {
        value(&server, "up{job=\"node\"}").filter(|up| *up == 0.0)
    });
    assert!(values(&server, &format!("queue{{{target}}}")).is_empty());
}

#[test]
fn an_otlp_exporter_sends() {
    let Some(clients) = clients() else { return };
    let dir = tempfile::tempdir().expect("a folder can be made");
    let server = server(dir.path(), "");
    let endpoint = format!("http://{}/api/v1/otlp/v1/metrics", server.address);
    for temporality in ["CUMULATIVE", "DELTA"] {
        python(&clients, "otlp.py", &[&endpoint, temporality]);
        let target = format!(
            "job=\"shop/{}\",instance=\"i1\"",
            temporality.to_lowercase()
        );
        // Whether they come as what there is or as what is new, they come to the same.
        let rows = format!("rows_copied_total{{{target},table_name=\"orders\"}}");
        expect(&server, &rows, 42.0);
        expect(&server, &format!("buffer_size_bytes{{{target}}}"), 1024.0);
        let bucket = |le| format!("batch_duration_seconds_bucket{{{target},le=\"{le}\"}}");
        expect(&server, &bucket("0.5"), 1.0);
        expect(&server, &bucket("1"), 2.0);
        expect(&server, &bucket("+Inf"), 3.0);
        expect(
            &server,
            &format!("batch_duration_seconds_sum{{{target}}}"),
            4.0,
        );
        expect(
            &server,
            &format!("batch_duration_seconds_count{{{target}}}"),
            3.0,
        );
        expect(
            &server,
            &format!("target_info{{{target},host_name=\"db1\"}}"),
            1.0,
        );
    }
    let (_, metadata) = server
        .get("/api/v1/metadata?metric=rows_copied_total")
        .expect("the server answers");
    assert!(metadata.contains("\"type\":\"counter\"") && metadata.contains("Rows copied."));
}

/// A Debian Prometheus of this configuration, and how to ask it.
fn prometheus(yaml: &str) -> (crate::prometheus::Prometheus, impl Fn(&str) -> Option<f64>) {
    let address = free_address();
    let prometheus = crate::prometheus::Prometheus::start_at(address.port(), yaml);
    let ask = move |query: &str| {
        let path = format!("/api/v1/query?query={}", percent_encode(query));
        let (_, body) = crate::support::request(address, "GET", &path, "")?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        answer["data"]["result"][0]["value"][1]
            .as_str()?
            .parse()
            .ok()
    };
    (prometheus, ask)
}

#[test]
fn a_prometheus_scrapes_and_federates() {
    if clients().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let server = server(dir.path(), "");
    let has_federation = server
        .get("/federate?match[]=up")
        .is_some_and(|(status, _)| status == 200);
    let mut push = Command::new("curl");
    push.args([
        "-sS",
        "--fail-with-body",
        "--data-binary",
        "pushed{a=\"b\"} 5\n",
    ]);
    run(push.arg(format!("http://{}/metrics/job/batch", server.address)));
    let address = server.address;
    let yaml = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: own\n  static_configs: [{{targets: ['{address}']}}]\n\
         - job_name: federation\n  honor_labels: true\n  metrics_path: /federate\n  \
           params: {{'match[]': ['pushed']}}\n  static_configs: [{{targets: ['{address}']}}]\n"
    );
    let (_prometheus, ask) = prometheus(&yaml);
    wait_for("it scrapes /metrics", WITHIN, || {
        ask("up{job=\"own\"}").filter(|up| *up == 1.0)
    });
    let samples = ask("scrape_samples_scraped{job=\"own\"}");
    assert!(samples.is_some_and(|samples| samples > 20.0), "{samples:?}");
    if !has_federation {
        return say("skipped: there is no /federate yet");
    }
    wait_for("it federates", WITHIN, || {
        ask("pushed{job=\"batch\",a=\"b\"}").filter(|value| *value == 5.0)
    });
}

#[test]
fn a_prometheus_reads_remotely() {
    if clients().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let server = server(dir.path(), "");
    let has_read = crate::support::request(server.address, "POST", "/api/v1/read", "")
        .is_some_and(|(status, _)| status != 404 && status != 405);
    if !has_read {
        return say("skipped: there is no /api/v1/read yet");
    }
    import_rows(&server);
    let yaml = format!(
        "remote_read:\n- url: http://{}/api/v1/read\n  read_recent: true\n",
        server.address
    );
    let (_prometheus, ask) = prometheus(&yaml);
    let at = START + 60;
    let query = format!("sum(rows @ {at})");
    wait_for("it reads", WITHIN, || {
        ask(&query).filter(|sum| *sum == 22.0)
    });
    let query = format!(
        "sum(increase(rows{{table=\"users\"}}[2m] @ {}))",
        START + 120
    );
    // From 0 to 40 within 120 s that are covered whole.
    assert_eq!(ask(&query), Some(40.0));
}
