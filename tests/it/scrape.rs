//! Scraping by the real binary: another one is the target, in the clear and over TLS.

use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use crate::support::{Server, cutover, file, output, wait_for};

fn targets(server: &Server) -> Value {
    let (_, body) = server.get("/api/v1/targets").unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["data"]["droppedTargets"], json!([]));
    answer["data"]["activeTargets"].clone()
}

#[test]
fn a_target_is_scraped_and_its_end_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let target = Server::start(&dir.path().join("target"), None, &[]);
    let toml = format!(
        "[[scrape]]\njob = \"other\"\ntargets = [\"{}\"]\ninterval = \"1s\"\ntimeout = \"1s\"\n\
         labels = {{ site = \"lab\" }}\n",
        target.address
    );
    let config = file(dir.path(), "cutover.toml", toml);
    let server = Server::start(&dir.path().join("data"), Some(&config), &[]);
    let value = |query: &str| {
        let found = server.query(query, &["instance", "site"])?;
        let (labels, value) = found.into_iter().next()?;
        assert_eq!(labels, [target.address.to_string(), "lab".to_owned()]);
        Some(value)
    };
    let within = Duration::from_secs(30);
    wait_for("the target is up", within, || {
        value("up{job=\"other\"}").filter(|up| *up == 1.0)
    });
    let series = wait_for("its series are there", within, || {
        value("scrape_samples_scraped{job=\"other\"}")
    });
    let stored = server
        .query("count({job=\"other\",__name__=~\"cutover_.*\"})", &[])
        .unwrap();
    assert!(
        series > 20.0 && stored[0].1 > 20.0,
        "{series} and {stored:?}"
    );
    wait_for("its metrics are described", within, || {
        let path = "/api/v1/metadata?metric=cutover_http_requests_total";
        let (_, body) = server.get(path)?;
        body.contains("\"type\":\"counter\"").then_some(())
    });
    let (_, health) = server.get("/api/v1/health").unwrap();
    assert!(health.contains("\"scrape\""), "{health}");
    let listed = targets(&server);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let address = target.address.to_string();
    let url = format!("http://{address}/metrics");
    let expected = json!({
        "discoveredLabels": {
            "__address__": address, "__metrics_path__": "/metrics", "__scheme__": "http",
            "__scrape_interval__": "1s", "__scrape_timeout__": "1s", "job": "other",
        },
        "labels": {"instance": address, "job": "other", "site": "lab"},
        "scrapePool": "other", "scrapeUrl": url, "globalUrl": url,
        "lastError": "", "health": "up", "scrapeInterval": "1s", "scrapeTimeout": "1s",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(listed[0][name], *value, "{name}");
    }
    assert!(listed[0]["lastScrapeDuration"].as_f64().unwrap() > 0.0);
    assert!(listed[0]["lastScrape"].as_str().unwrap().starts_with("20"));

    let address = target.address;
    target.kill();
    let up = |query: &str| Some(server.query(query, &[])?.first()?.1);
    wait_for("the target is down", within, || {
        up("up{job=\"other\"}").filter(|up| *up == 0.0)
    });
    let gone = server
        .query("{job=\"other\",__name__=~\"cutover_.*\"}", &[])
        .unwrap();
    assert!(gone.is_empty(), "{gone:?}");
    let listed = targets(&server);
    assert_eq!(listed[0]["health"], "down");
    assert_ne!(listed[0]["lastError"], "");
    let (_, health) = server.get("/api/v1/health").unwrap();
    let complaint = format!("the target is down: job other, http://{address}/metrics: ");
    assert!(health.contains(&complaint), "{health}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_target_is_scraped_over_tls_with_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let cert = file(dir, "cert.pem", cert.pem());
    let key = file(dir, "key.pem", signing_key.serialize_pem());
    let (cert, key) = (cert.display(), key.display());
    let token = dir.join("token");
    let mut command = cutover();
    command.args(["token", "new", "--name", "scraper", "--scope", "read"]);
    let made = output(command.arg("--out").arg(&token));
    let lines = String::from_utf8(made.stdout).unwrap();
    let toml = format!("[server]\ntls_cert_file = '{cert}'\ntls_key_file = '{key}'\n{lines}");
    let config = file(dir, "target.toml", toml);
    let target = Server::start_unready(&dir.join("target"), Some(&config), &[]);

    let token = token.display();
    let common = format!(
        "targets = ['https://localhost:{}']\ninterval = '1s'\ntimeout = '1s'\n",
        target.address.port()
    );
    let toml = format!(
        "[[scrape]]\njob = 'good'\nca_file = '{cert}'\nbearer_token_file = '{token}'\n{common}\
         [[scrape]]\njob = 'unverified'\ninsecure_skip_verify = true\n\
         bearer_token_file = '{token}'\n{common}\
         [[scrape]]\njob = 'without a token'\nca_file = '{cert}'\n{common}"
    );
    let config = file(dir, "cutover.toml", toml);
    let server = Server::start(&dir.join("data"), Some(&config), &[]);
    wait_for("both are up", Duration::from_secs(30), || {
        let found = server.query("up == 1", &["job"])?;
        let jobs: Vec<_> = found.iter().map(|(labels, _)| &*labels[0]).collect();
        (jobs == ["good", "unverified"]).then_some(())
    });
    wait_for(
        "who has no token is refused",
        Duration::from_secs(30),
        || {
            let (_, health) = server.get("/api/v1/health")?;
            health
                .contains("server returned HTTP status 401 Unauthorized")
                .then_some(())
        },
    );
}
