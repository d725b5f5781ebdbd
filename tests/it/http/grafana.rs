//! Grafana's own sequence of calls, byte for byte on a socket: what its Prometheus data source sends when it
//! is saved, when a dashboard is opened, and when somebody edits a query.

use std::io::Read;

use cutover::http::serve;
use cutover::model::{Batch, Labels, MetricKind, MetricMetadata, Sample};
use cutover::shutdown::{GRACE, Shutdown};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::api::{Api, START};

/// One connection to a server, kept alive as Grafana's proxy keeps it.
struct Grafana {
    stream: TcpStream,
    _api: Api,
    shutdown: Shutdown,
}

struct Reply {
    status: u16,
    head: String,
    json: Value,
}

impl Grafana {
    async fn connect(api: Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let serving = serve(listener, None, api.router.clone(), shutdown.clone());
        shutdown.spawn("http", serving);
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            _api: api,
            shutdown,
        }
    }

    /// `GET`, with the headers of Grafana's proxy.
    async fn get(&mut self, path: &str) -> Reply {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:9490\r\nUser-Agent: Grafana/12.1.0\r\n\
             Accept: application/json, text/plain, */*\r\nAccept-Encoding: gzip\r\n\
             X-Grafana-Org-Id: 1\r\n\r\n"
        );
        self.exchange(&request).await
    }

    /// `POST` of a form, as Go's client writes it.
    async fn post(&mut self, path: &str, form: &str) -> Reply {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:9490\r\nUser-Agent: Grafana/12.1.0\r\n\
             Content-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Fromalert: false\r\nAccept-Encoding: gzip\r\n\r\n{form}",
            form.len()
        );
        self.exchange(&request).await
    }

    async fn exchange(&mut self, request: &str) -> Reply {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        let mut body = Vec::new();
        if let Some(length) = header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).await.unwrap();
        } else {
            assert_eq!(header("transfer-encoding").as_deref(), Some("chunked"));
            self.read_chunks(&mut body).await;
        }
        if header("content-encoding").as_deref() == Some("gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
            body = plain;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(header("content-type").as_deref(), Some("application/json"));
        let json = serde_json::from_slice(&body).unwrap();
        Reply { status, head, json }
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(self.stream.read_u8().await.unwrap());
            }
            let length = std::str::from_utf8(&line).unwrap().trim();
            let length = usize::from_str_radix(length, 16).unwrap();
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).await.unwrap();
            if length == 0 {
                return;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    async fn leave(self) {
        drop(self.stream);
        self.shutdown.begin();
        self.shutdown.wait(GRACE).await.unwrap();
    }
}

impl Reply {
    fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{} {}", self.head, self.json);
        assert_eq!(self.json["status"], "success", "{}", self.json);
        &self.json["data"]
    }
}

/// Two migrations with a counter each, 21 samples 15 s apart from the start on.
fn migrating() -> Api {
    let api = Api::new();
    let mut batch = Batch::default();
    for (migration, rate) in [("legacy", 1.0), ("shop", 2.0)] {
        let labels = [("migration_id", migration), ("table_name", "public.orders")];
        let labels = Labels::of("migration_rows_total", &labels);
        for at in 0..=20 {
            let value = f64::from(at) * 15.0 * rate;
            let time = START.offset_ms(i64::from(at) * 15_000);
            batch.push(labels.clone(), Sample::new(time, value));
        }
    }
    let metadata = MetricMetadata {
        kind: MetricKind::Counter,
        help: "Rows migrated.".into(),
        unit: String::new(),
    };
    batch.metadata = vec![("migration_rows_total".into(), metadata)];
    api.store.writer().write_blocking(batch).unwrap();
    api.clock.step_to(START.offset_ms(300_000));
    api
}

#[tokio::test]
async fn a_data_source_is_saved_and_tested() {
    let mut grafana = Grafana::connect(migrating()).await;
    let test = grafana.post("/api/v1/query", "query=1%2B1&time=4").await;
    assert_eq!(
        test.data(),
        &json!({ "resultType": "scalar", "result": [4, "2"] })
    );
    let build = grafana.get("/api/v1/status/buildinfo").await;
    let version = build.data()["version"].as_str().unwrap();
    assert!(version.starts_with("3."), "{version}");
    assert!(build.data().get("features").is_none(), "{}", build.json);
    assert_eq!(
        build.data()["application_version"],
        env!("CARGO_PKG_VERSION")
    );
    let exemplars = grafana
        .get("/api/v1/query_exemplars?query=test&start=1699999700&end=1700000300")
        .await;
    assert_eq!(exemplars.data(), &json!([]));
    let rules = grafana.get("/api/v1/rules").await;
    assert_eq!(rules.data(), &json!({ "groups": [] }));
    grafana.leave().await;
}

#[tokio::test]
async fn a_dashboard_is_opened() {
    let mut grafana = Grafana::connect(migrating()).await;
    // A variable: label_values(migration_rows_total, migration_id).
    let values = grafana
        .get(
            "/api/v1/label/migration_id/values?end=1700000300&match%5B%5D=migration_rows_total\
             &start=1699999700",
        )
        .await;
    assert_eq!(values.data(), &json!(["legacy", "shop"]));
    // A time series, with float times.
    let form = "end=1700000300.000&query=sum+by+%28migration_id%29+%28rate%28migration_rows_total\
                %7Bmigration_id%3D~%22shop%7Clegacy%22%7D%5B1m0s%5D%29%29\
                &start=1700000240.000&step=15";
    let panel = grafana.post("/api/v1/query_range", form).await;
    assert_eq!(panel.data()["resultType"], "matrix");
    let series = panel.data()["result"].as_array().unwrap();
    assert_eq!(series.len(), 2);
    assert_eq!(series[1]["metric"], json!({ "migration_id": "shop" }));
    let values = series[1]["values"].as_array().unwrap();
    let times: Vec<_> = values
        .iter()
        .map(|point| point[0].as_i64().unwrap())
        .collect();
    assert_eq!(
        times,
        [
            1_700_000_240,
            1_700_000_255,
            1_700_000_270,
            1_700_000_285,
            1_700_000_300
        ]
    );
    let is_two = |point: &Value| {
        let rate: f64 = point[1].as_str().unwrap().parse().unwrap();
        (rate - 2.0).abs() < 1e-9
    };
    assert!(values.iter().all(is_two), "{}", panel.json);
    // A stat panel: an instant with a fraction of a second.
    let form = "query=migration_rows_total%7Bmigration_id%3D%22shop%22%7D&time=1700000299.5";
    let stat = grafana.post("/api/v1/query", form).await;
    assert_eq!(
        stat.data(),
        &json!({
            "resultType": "vector",
            "result": [{
                "metric": {
                    "__name__": "migration_rows_total",
                    "migration_id": "shop",
                    "table_name": "public.orders",
                },
                "value": [1_700_000_299.5, "570"],
            }],
        })
    );
    grafana.leave().await;
}

#[tokio::test]
async fn a_query_is_built() {
    let mut grafana = Grafana::connect(migrating()).await;
    let metrics = grafana
        .get("/api/v1/label/__name__/values?end=1700000300&limit=40000&start=1699999700")
        .await;
    assert_eq!(metrics.data(), &json!(["migration_rows_total"]));
    let metadata = grafana.get("/api/v1/metadata?limit=10000").await;
    let rows = &metadata.data()["migration_rows_total"];
    assert_eq!(rows[0]["type"], "counter", "{}", metadata.json);
    assert!(!rows[0]["help"].as_str().unwrap().is_empty());
    let form = "end=1700000300&limit=40000&match%5B%5D=%7B__name__%3D%22migration_rows_total%22%7D\
                &start=1699999700";
    let labels = grafana.post("/api/v1/labels", form).await;
    assert_eq!(
        labels.data(),
        &json!(["__name__", "migration_id", "table_name"])
    );
    let series = grafana.post("/api/v1/series", form).await;
    assert_eq!(series.data().as_array().unwrap().len(), 2);
    let formatted = grafana
        .post(
            "/api/v1/format_query",
            "query=sum%28rate%28x%5B5m%5D%29%29by%28a%29",
        )
        .await;
    assert_eq!(formatted.data(), "sum by (a) (rate(x[5m]))");
    let tree = grafana
        .post("/api/v1/parse_query", "query=rate%28x%5B5m%5D%29")
        .await;
    assert_eq!(tree.data()["func"]["name"], "rate");
    // While it is typed it is often wrong.
    let wrong = grafana
        .post(
            "/api/v1/query_range",
            "end=1700000300&query=sum%28&start=1700000000&step=15",
        )
        .await;
    assert_eq!(
        (wrong.status, &wrong.json["errorType"]),
        (400, &json!("bad_data"))
    );
    let none = grafana
        .post(
            "/api/v1/query_range",
            "end=1700000300&query=none&start=1700000000&step=15",
        )
        .await;
    assert_eq!(
        none.data(),
        &json!({ "resultType": "matrix", "result": [] })
    );
    grafana.leave().await;
}

#[tokio::test]
async fn alerting_of_the_data_source_is_shown() {
    let mut grafana = Grafana::connect(migrating()).await;
    let alerts = grafana.get("/api/v1/alerts").await;
    assert_eq!(alerts.data(), &json!({ "alerts": [] }));
    let rules = grafana
        .get("/api/v1/rules?limit_alerts=16&group_limit=40")
        .await;
    assert_eq!(rules.data(), &json!({ "groups": [] }));
    grafana.leave().await;
}
