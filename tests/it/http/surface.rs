//! The whole surface under arbitrary requests: whatever comes, a clear answer comes back.

use std::time::Duration;

use axum::body::Body;
use cutover::http::{Scope, TokenConfig, Tokens, new_token, routes};
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::api::{Answer, Api};

/// Requests of a run; `CUTOVER_SURFACE_CASES` asks for more.
const CASES: u32 = 1500;

#[derive(Clone, Debug)]
struct Wild {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(usize, String)>,
    token: Option<usize>,
    body: Vec<u8>,
}

const PARAMS: [&str; 24] = [
    "query",
    "time",
    "start",
    "end",
    "step",
    "timeout",
    "lookback_delta",
    "limit",
    "stats",
    "match[]",
    "metric",
    "state",
    "type",
    "blocks",
    "dir",
    "skip_head",
    "scrapePool",
    "match_target",
    "exclude_alerts",
    "group_limit",
    "group_next_token",
    "limit_per_metric",
    "file[]",
    "x",
];

const VALUES: [&str; 36] = [
    "",
    "0",
    "1",
    "-1",
    "1.5",
    "NaN",
    "Inf",
    "-Inf",
    "1e308",
    "9223372036854775807",
    "1700000000",
    "2023-11-14T22:13:20Z",
    "5m",
    "1ms",
    "1e308s",
    "up",
    "rate(up[5m])",
    "up + ",
    "((((",
    "{}",
    "{__name__=~\".+\"}",
    "{a=~\"(\"}",
    "sum by (a) (up) / on (a) group_left up",
    "up[1d:1ms]",
    "topk(1e308, up)",
    "count_values(\"x\", up)",
    "label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\")",
    "histogram_quantile(2, up)",
    "up @ 1e308",
    "up offset -1e9s",
    "\"text\"",
    "true",
    "all",
    "open",
    "up{job=\"\u{e9}\"}",
    "absent(up)",
];

const HEADERS: [(&str, &[&str]); 6] = [
    (
        "content-type",
        &[
            "application/x-www-form-urlencoded",
            "application/json",
            "text/plain",
            "application/x-protobuf",
            "application/openmetrics-text",
            "image/png",
        ],
    ),
    (
        "content-encoding",
        &["snappy", "gzip", "zstd", "identity", "br"],
    ),
    (
        "accept-encoding",
        &["gzip", "zstd", "*;q=0", "gzip;q=2,,;q"],
    ),
    (
        "host",
        &["localhost", "127.0.0.1:1", "evil.example", "[::1]"],
    ),
    (
        "origin",
        &["null", "http://localhost", "https://evil.example"],
    ),
    (
        "authorization",
        &["Bearer x", "Basic x", "Basic eDp5", "Bearer ", "x"],
    ),
];

const BODIES: [&str; 8] = [
    "query=up&time=1",
    "match%5B%5D=up&limit=1",
    "up 1\n",
    "up{a=\"b\"} 1 1700000000000\n# EOF\n",
    "{\"id\":\"m\"}",
    "{\"rows_total\":1,\"table\":\"t\"}",
    "{\"status\":\"done\"}",
    "{",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(&VALUES[..]).prop_map(str::to_owned),
        1 => "\\PC{0,40}",
        1 => "[a-z_(){}\\[\\]=~\"!<>+*/,.0-9 @-]{0,60}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let paths: Vec<&str> = routes().into_iter().map(|(path, _, _)| path).collect();
    let known = (prop::sample::select(paths), "[a-zA-Z0-9_%.-]{1,12}").prop_map(|(path, part)| {
        // An escape that is none is not a URI.
        let part = part.replace('%', "%25");
        path.replace("{name}", &part)
            .replace("{id}", &part)
            .replace("{*group}", &format!("{part}/a/b"))
    });
    prop_oneof![9 => known, 1 => "/[a-z0-9/._-]{0,20}"]
}

fn pairs() -> impl Strategy<Value = String> {
    prop::collection::vec((prop::sample::select(&PARAMS[..]), value()), 0..5).prop_map(|pairs| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in pairs {
            query.append_pair(name, &value);
        }
        query.finish()
    })
}

fn headers() -> impl Strategy<Value = Vec<(usize, String)>> {
    let one = (0..HEADERS.len()).prop_flat_map(|at| {
        let texts = HEADERS[at].1;
        prop::sample::select(texts).prop_map(move |text| (at, text.to_owned()))
    });
    prop::collection::vec(one, 0..3)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(Vec::new()),
        2 => pairs().prop_map(String::into_bytes),
        2 => prop::sample::select(&BODIES[..]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(|bytes| snap::raw::Encoder::new().compress_vec(&bytes).unwrap()),
    ]
}

fn wild() -> impl Strategy<Value = Wild> {
    let method = prop_oneof![
        5 => Just(Method::GET),
        4 => Just(Method::POST),
        1 => prop::sample::select(vec![
            Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS, Method::PATCH,
        ]),
    ];
    let token = prop::option::weighted(0.9, 0..Scope::ALL.len());
    (method, path(), pairs(), headers(), token, body()).prop_map(
        |(method, path, query, headers, token, body)| Wild {
            method,
            path,
            query,
            headers,
            token,
            body,
        },
    )
}

impl Wild {
    fn request(&self, tokens: &[String]) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = format!("{}?{}", self.path, self.query).parse().unwrap();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        if let Some(token) = self.token.and_then(|at| tokens.get(at)) {
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        for (at, text) in &self.headers {
            headers.insert(HEADERS[*at].0, text.parse().unwrap());
        }
        request
    }
}

/// Whether an answer is one that this API gives.
fn check(wild: &Wild, answer: &Answer) -> Result<(), TestCaseError> {
    let status = answer.status;
    prop_assert!(
        status != 500 && (200..=504).contains(&status),
        "{status} {}",
        answer.body
    );
    // What speaks Prometheus' protocols, whose errors are plain text.
    let is_plain = [
        "/api/v1/write",
        "/api/v1/read",
        "/api/v1/otlp/",
        "/metrics/job",
    ]
    .iter()
    .any(|prefix| wild.path.starts_with(prefix));
    if wild.method == Method::HEAD
        || status == 204
        || (is_plain && ![401, 403, 405].contains(&status))
    {
        return Ok(());
    }
    if status >= 400 {
        if status == 503 && wild.path == "/-/ready" {
            return Ok(());
        }
        let json: Result<Value, _> = serde_json::from_str(&answer.body);
        let error = json.ok().filter(|json| json["status"] == "error");
        prop_assert!(
            error.is_some(),
            "{status} without the envelope: {}",
            answer.body
        );
        let error = error.unwrap();
        prop_assert!(
            error["error"].as_str().is_some_and(|text| !text.is_empty()),
            "{error}"
        );
        prop_assert!(error["errorType"].is_string(), "{error}");
    } else if wild.path.starts_with("/api/v1/") && wild.path != "/api/v1/export" && !is_plain {
        let json: Result<Value, _> = serde_json::from_str(&answer.body);
        prop_assert!(json.is_ok(), "{status} {}", answer.body);
    }
    Ok(())
}

#[test]
fn whatever_is_asked_a_clear_answer_comes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let cases = std::env::var("CUTOVER_SURFACE_CASES").ok();
    let mut runner = TestRunner::new(Config {
        cases: cases.map_or(CASES, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let apis = [populated(false), populated(true)];
    let result = runner.run(&wild(), |wild| {
        for (api, tokens) in &apis {
            // Not compressed, to be read.
            let mut request = wild.request(tokens);
            request.headers_mut().remove(ACCEPT_ENCODING);
            let answer = runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), api.send_lossy(request)).await
            });
            let Ok(answer) = answer else {
                return Err(TestCaseError::fail("no answer within 20 s"));
            };
            check(&wild, &answer)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let [(open, _), (guarded, tokens)] = &apis;
    for (api, token) in [(open, None), (guarded, tokens.first())] {
        let mut request = Request::get("/api/v1/query?query=1").header(HOST, "localhost");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        assert_eq!(runtime.block_on(api.send(request)).status, 200);
    }
}

/// An API with something in it, open or with a token of each scope.
fn populated(is_guarded: bool) -> (Api, Vec<String>) {
    let made = Scope::ALL.map(|scope| (scope, new_token()));
    let configs = made.each_ref().map(|(scope, (_, sha256))| TokenConfig {
        name: scope.name().to_owned(),
        sha256: sha256.clone(),
        scopes: vec![*scope],
    });
    let api = Api::with(&[], |state| {
        state.limits.body_timeout = Duration::from_secs(2);
        if is_guarded {
            state.tokens = Tokens::new(&configs).unwrap();
        }
    });
    api.write(&[
        ("up", &[("job", "a"), ("le", "1")], 1.0),
        ("up", &[("job", "b"), ("le", "+Inf")], f64::NAN),
        ("rows_total", &[("migration_id", "m")], 7.0),
    ]);
    let tokens = made.map(|(_, (token, _))| token.expose().to_owned());
    (api, tokens.to_vec())
}
