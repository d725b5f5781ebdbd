use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::ingest::tests::Fixture;
use crate::model::SystemClock;
use crate::telemetry::Metrics;

/// Answers every request with the next of the answers, then with the last for ever; tells the heads of the
/// requests.
async fn target(answers: Vec<String>) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heads, seen) = sync_channel(100);
    let next = AtomicUsize::new(0);
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.send(String::from_utf8(head).unwrap()).unwrap();
            let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            stream.write_all(answers[at].as_bytes()).await.unwrap();
        }
    };
    Shutdown::default().spawn("target", serve);
    (address, seen)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn text(body: &str) -> String {
    answer(
        "200 OK",
        "Content-Type: text/plain; version=0.0.4\r\n",
        body,
    )
}

fn config(address: &str, more: &str) -> Config {
    toml::from_str(&format!("job = \"j\"\ntargets = [\"{address}\"]\n{more}")).unwrap()
}

async fn fetch(address: &str, more: &str) -> Result<Fetched, String> {
    let config = config(address, more);
    let targets = config.targets().unwrap();
    let client = Client::new(&config, &targets).unwrap();
    let fetched = client.fetch(&config, &targets[0].url).await;
    fetched.map_err(|error| told(&error))
}

#[tokio::test]
async fn a_target_is_asked_as_prometheus_asks() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let (address, seen) = target(vec![text("a 1\n")]).await;
    let more = format!(
        "params = {{ x = \"1\" }}\nusername = \"u\"\npassword_file = {:?}",
        password.display().to_string()
    );
    let fetched = fetch(&address, &more).await.unwrap();
    assert_eq!(fetched.body, b"a 1\n");
    let head = seen.recv().unwrap();
    assert!(head.starts_with("GET /metrics?x=1 HTTP/1.1\r\n"), "{head}");
    // base64 of u:secret
    for line in [
        "accept-encoding: gzip",
        "authorization: Basic dTpzZWNyZXQ=",
        "x-prometheus-scrape-timeout-seconds: 10",
        &format!("host: {address}"),
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} in {head}"
        );
    }
    assert!(head.contains("\r\naccept: application/openmetrics-text;version=1.0.0;"));
}

#[tokio::test]
async fn a_redirect_is_followed_and_secrets_stay_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let (other, seen_there) = target(vec![text("a 1\n")]).await;
    let there = answer("302 Found", &format!("Location: http://{other}/x\r\n"), "");
    let (address, seen_here) = target(vec![there]).await;
    let more = format!("bearer_token_file = {:?}", token.display().to_string());
    assert_eq!(fetch(&address, &more).await.unwrap().body, b"a 1\n");
    assert!(
        seen_here
            .recv()
            .unwrap()
            .contains("authorization: Bearer secret")
    );
    let head = seen_there.recv().unwrap();
    assert!(
        head.starts_with("GET /x ") && !head.contains("authorization"),
        "{head}"
    );
}

#[tokio::test]
async fn why_a_target_has_no_metrics_is_told() {
    let endless = answer("302 Found", "Location: /again\r\n", "");
    for (answer, more, error) in [
        (
            answer("404 Not Found", "", ""),
            "",
            "server returned HTTP status 404 Not Found",
        ),
        (endless, "", "it redirects more than 10 times"),
        (
            text("a 1\n"),
            "body_size_limit = 3",
            "body size limit exceeded: the body is larger than 3 bytes",
        ),
        (
            answer("200 OK", "Content-Type: text/html\r\n", "<html>"),
            "",
            "its Content-Type \"text/html\" is neither text/plain nor application/openmetrics-text, \
             and job \"j\" has no fallback",
        ),
    ] {
        let (address, _seen) = target(vec![answer]).await;
        assert_eq!(fetch(&address, more).await.unwrap_err(), error);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let error = fetch(&silent, "timeout = \"50ms\"").await.unwrap_err();
    assert_eq!(error, "no answer within 50ms");
    drop(listener);
    let error = fetch(&silent, "").await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_target_is_scraped_until_the_shutdown_and_tells_how_it_fares() {
    let fixture = Fixture::new();
    let (address, _seen) = target(vec![
        text("# TYPE a counter\n# HELP a What.\na{job=\"own\"} 1\n"),
        answer("500 Internal Server Error", "", ""),
    ])
    .await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let parts = Parts {
        writer: fixture.store.writer(),
        clock: fixture.clock.clone(),
        counters: Counters::new(&Metrics::default()),
        health: Health::new(clock),
        targets: Targets::default(),
    };
    let config = Arc::new(config(&address, ""));
    let mut targets = config.targets().unwrap();
    let client = Arc::new(Client::new(&config, &targets).unwrap());
    let target = targets.remove(0);
    let mut scraper = Scraper {
        at: parts.targets.add(&config, &target),
        rules: Rules::new(&config, &target.labels),
        schedule: Schedule::new(&target, config.interval),
        series: Series::default(),
        last: None,
        client,
        config: config.clone(),
        parts: parts.clone(),
        target,
    };
    let mut healths = Vec::new();
    for _ in 0..2 {
        let fetched = scraper.client.fetch(&config, &scraper.target.url).await;
        let fetched = fetched.map_err(|error| told(&error));
        let now = scraper.parts.clock.now();
        let at = scraper.time(now);
        scraper.take(fetched, at, now, Duration::ZERO).await;
        healths.push(parts.targets.list()[0].health);
    }
    assert_eq!(healths, [TargetHealth::Up, TargetHealth::Down]);
    let status = parts.targets.list().remove(0);
    assert_eq!(
        status.last_error,
        "server returned HTTP status 500 Internal Server Error"
    );
    let labels = format!("{{instance=\"{address}\",job=\"j\"}}");
    let part = &parts.health.parts()[PART];
    let message = format!(
        "the target is down: job j, http://{address}/metrics: server returned HTTP status 500 \
         Internal Server Error"
    );
    assert_eq!((part.state, &part.message), (State::Degraded, &message));
    let values = |series: &str| -> Vec<f64> {
        let all = fixture.stored();
        let (_, samples) = all.iter().find(|(name, _)| name == series).unwrap();
        samples
            .iter()
            .map(|(_, bits)| f64::from_bits(*bits))
            .collect()
    };
    let a = values(&format!(
        "a{{exported_job=\"own\",instance=\"{address}\",job=\"j\"}}"
    ));
    assert!(a[0] == 1.0 && crate::model::is_stale(a[1]));
    assert_eq!(values(&format!("up{labels}")), [1.0, 0.0]);
    assert_eq!(
        values(&format!("scrape_samples_scraped{labels}")),
        [1.0, 0.0]
    );
    assert_eq!(
        values(&format!("scrape_samples_post_metric_relabeling{labels}")),
        [1.0, 0.0]
    );
    assert_eq!(values(&format!("scrape_series_added{labels}")), [1.0, 0.0]);
    assert_eq!(values(&format!("scrape_duration_seconds{labels}")).len(), 2);
    let metadata = fixture.metadata();
    assert_eq!((&*metadata[0].0, &*metadata[0].1.help), ("a", "What."));
}
