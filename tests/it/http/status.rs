//! What tells about queries, rules, targets and the server, in Prometheus' shapes.

use std::sync::Arc;

use axum::body::Body;
use cutover::http::{Settings, wire};
use cutover::model::{Batch, MetricKind, MetricMetadata};
use hyper::Method;
use serde_json::json;

use crate::api::{Api, request};

#[tokio::test]
async fn queries_are_formatted_and_parsed() {
    let api = Api::new();
    let formatted = api
        .get("/api/v1/format_query?query=sum(rate(up{job=%22a%22}%5B5m%5D))by(x)")
        .await;
    assert_eq!(
        formatted.body,
        r#"{"status":"success","data":"sum by (x) (rate(up{job=\"a\"}[5m]))"}"#
    );
    let tree = api.post_form("/api/v1/parse_query", "query=up+%2B+1").await;
    let tree = tree.json();
    assert_eq!(tree["data"]["type"], "binaryExpr");
    assert_eq!(
        tree["data"]["lhs"],
        json!({
            "type": "vectorSelector",
            "name": "up",
            "offset": 0,
            "matchers": [{ "name": "__name__", "type": "=", "value": "up" }],
            "timestamp": null,
            "startOrEnd": null,
            "anchored": false,
            "smoothed": false,
        })
    );
    for path in ["format_query", "parse_query", "query_exemplars"] {
        let bad = api.get(&format!("/api/v1/{path}?query=up%20%2B")).await;
        let (status, kind, message) = bad.error();
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{path}");
        assert!(
            message.starts_with(r#"invalid parameter "query": "#),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_query_tells_its_cost_when_asked() {
    let api = Api::new();
    api.write(&[("up", &[("job", "a")], 1.0), ("up", &[("job", "b")], 0.0)]);
    let told = api.get("/api/v1/query?query=up&stats=all").await.json();
    let stats = &told["data"]["stats"];
    for (name, read) in [("totalQueryableSamples", 2), ("peakSamples", 2)] {
        assert_eq!(stats["samples"][name], read, "{told}");
    }
    for name in [
        "evalTotalTime",
        "resultSortTime",
        "queryPreparationTime",
        "innerEvalTime",
        "execQueueTime",
        "execTotalTime",
    ] {
        assert!(stats["timings"][name].is_f64(), "{name} in {told}");
    }
    let silent = api.get("/api/v1/query?query=up").await.json();
    assert!(silent["data"].get("stats").is_none(), "{silent}");
    let range = "/api/v1/query_range?query=up&start=1700000000&end=1700000030&step=15&stats=true";
    let told = api.get(range).await.json();
    assert_eq!(told["data"]["stats"]["samples"]["samplesRead"], 2, "{told}");
}

#[tokio::test]
async fn there_are_no_rules_and_what_is_asked_about_them_is_checked() {
    let api = Api::new();
    for (path, data) in [
        ("/api/v1/rules", r#"{"groups":[]}"#),
        (
            "/api/v1/rules?type=alert&rule_name[]=a&rule_group[]=b&file[]=c&match[]=%7Ba=%22b%22%7D\
             &exclude_alerts=true&group_limit=10",
            r#"{"groups":[]}"#,
        ),
        ("/api/v1/alerts", r#"{"alerts":[]}"#),
        (
            "/api/v1/alertmanagers",
            r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#,
        ),
    ] {
        let answer = api.get(path).await;
        assert_eq!(
            answer.body,
            format!(r#"{{"status":"success","data":{data}}}"#),
            "{path}"
        );
    }
    for (query, error) in [
        (
            "type=both",
            r#"invalid parameter "type": not supported value "both""#,
        ),
        (
            "exclude_alerts=perhaps",
            r#"invalid parameter "exclude_alerts": unable to parse boolean "perhaps""#,
        ),
        (
            "group_limit=0",
            r#"invalid parameter "group_limit": group_limit needs to be a valid number greater than zero"#,
        ),
        (
            "group_next_token=x",
            r#"invalid parameter "group_limit": group_limit needs to be present in order to paginate over the groups"#,
        ),
    ] {
        let refused = api.get(&format!("/api/v1/rules?{query}")).await.error();
        assert_eq!(refused, (400, "bad_data".into(), error.into()));
    }
}

/// An API with a target that is up and one that is not.
fn scraping() -> Api {
    let api = Api::with(&[], |state| {
        let target = |instance: &str, health: &str| wire::Target {
            labels: [("instance", instance), ("job", "db")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            scrape_pool: "db".into(),
            scrape_url: format!("http://{instance}/metrics"),
            health: health.into(),
            ..wire::Target::default()
        };
        let targets = vec![target("a:1", "up"), target("b:1", "down")];
        state.targets = Arc::new(move || targets.clone());
    });
    api.write(&[
        ("rows_total", &[("job", "db"), ("instance", "a:1")], 1.0),
        ("other", &[("job", "else"), ("instance", "a:1")], 1.0),
    ]);
    let metadata = |help: &str| MetricMetadata {
        kind: MetricKind::Counter,
        help: help.into(),
        unit: String::new(),
    };
    let batch = Batch {
        metadata: vec![
            ("rows_total".into(), metadata("Rows.")),
            ("other".into(), metadata("Other.")),
        ],
        ..Batch::default()
    };
    api.store.writer().write_blocking(batch).unwrap();
    api
}

#[tokio::test]
async fn targets_are_listed_by_state_and_job() {
    let api = scraping();
    let all = api.get("/api/v1/targets").await.json();
    let active = all["data"]["activeTargets"].as_array().unwrap();
    assert_eq!(active.len(), 2);
    assert_eq!(active[0]["scrapeUrl"], "http://a:1/metrics");
    assert_eq!(active[1]["health"], "down");
    for name in [
        "discoveredLabels",
        "labels",
        "scrapePool",
        "globalUrl",
        "lastError",
        "lastScrape",
        "lastScrapeDuration",
        "scrapeInterval",
        "scrapeTimeout",
    ] {
        assert!(active[0].get(name).is_some(), "{name} in {all}");
    }
    assert_eq!(all["data"]["droppedTargets"], json!([]));
    assert_eq!(all["data"]["droppedTargetCounts"], json!({}));
    for (query, targets) in [
        ("state=dropped", 0),
        ("state=active&scrapePool=db", 2),
        ("scrapePool=none", 0),
    ] {
        let some = api.get(&format!("/api/v1/targets?{query}")).await.json();
        let active = some["data"]["activeTargets"].as_array().unwrap();
        assert_eq!(active.len(), targets, "{query}");
    }
}

#[tokio::test]
async fn the_metadata_of_a_target_is_that_of_its_metrics() {
    let api = scraping();
    let of = async |query: &str| {
        let path = format!("/api/v1/targets/metadata?{query}");
        api.get(&path).await.json()["data"].clone()
    };
    let target = json!({ "instance": "a:1", "job": "db" });
    assert_eq!(
        of("").await,
        json!([{
            "target": target, "metric": "rows_total", "type": "counter", "help": "Rows.", "unit": ""
        }])
    );
    assert_eq!(
        of("metric=rows_total&match_target=%7Binstance=%22a:1%22%7D").await,
        json!([{ "target": target, "type": "counter", "help": "Rows.", "unit": "" }])
    );
    assert_eq!(of("match_target=%7Binstance=%22b:1%22%7D").await, json!([]));
    assert_eq!(of("limit=0").await, json!([]));
    let bad = api.get("/api/v1/targets/metadata?limit=some").await;
    assert_eq!(bad.error().2, "limit must be a number");
}

#[tokio::test]
async fn the_server_tells_how_it_runs() {
    let api = Api::with(&[], |state| {
        state.settings = Arc::new(Settings {
            config: "[server]\n".into(),
            flags: [("web.enable-admin-api".to_owned(), "false".to_owned())].into(),
            retention: "90d".into(),
        });
    });
    let data = async |path: &str| {
        let path = format!("/api/v1/status/{path}");
        api.get(&path).await.json()["data"].clone()
    };
    assert_eq!(data("config").await, json!({ "yaml": "[server]\n" }));
    assert_eq!(
        data("flags").await,
        json!({ "web.enable-admin-api": "false" })
    );
    assert_eq!(
        data("walreplay").await,
        json!({ "min": 0, "max": 0, "current": 0 })
    );
    let runtime = data("runtimeinfo").await;
    assert_eq!(runtime["startTime"], "2023-11-14T22:13:20.000Z");
    assert_eq!(runtime["storageRetention"], "90d");
    assert_eq!(runtime["reloadConfigSuccess"], true);
    assert!(runtime["GOMAXPROCS"].as_u64().unwrap() > 0, "{runtime}");
}

#[tokio::test]
async fn a_browser_may_ask_what_it_may_do() {
    let api = Api::new();
    let options = api
        .send(request(Method::OPTIONS, "/api/v1/query", Body::empty()))
        .await;
    assert_eq!(options.status, 204);
    let allowed = options.headers["allow"].to_str().unwrap();
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
    let wrong = api
        .send(request(Method::DELETE, "/api/v1/query", Body::empty()))
        .await;
    assert_eq!(wrong.error().0, 405);
    assert!(wrong.headers.contains_key("allow"));
    let head = api
        .send(request(Method::HEAD, "/api/v1/labels", Body::empty()))
        .await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
