//! The whole surface under arbitrary requests: whatever comes, a clear answer comes back.

use std::cell::Cell;
use std::time::Duration;

use axum::body::Body;
use cutover::http::{Scope, TokenConfig, Tokens, new_token, routes};
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::api::{Answer, Api};

/// Requests of a run; `CUTOVER_SURFACE_CASES` asks for more.
const CASES: u32 = 20_000;

#[derive(Clone, Debug)]
struct Wild {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(usize, String)>,
    token: Option<usize>,
    body: Vec<u8>,
    body_type: Option<&'static str>,
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

/// Bodies that fit some route, with what they are said to be.
const BODIES: [(&str, &str); 9] = [
    (FORM, "query=up&time=1"),
    (FORM, "match%5B%5D=up&limit=1"),
    ("text/plain", "up 1\n"),
    (
        "application/openmetrics-text",
        "up{a=\"b\"} 1 1700000000\n# EOF\n",
    ),
    ("application/json", "{\"id\":\"m\"}"),
    ("application/json", "{\"rows_total\":1,\"table\":\"t\"}"),
    ("application/json", "{\"status\":\"done\"}"),
    ("application/json", "{\"resourceMetrics\":[]}"),
    ("application/json", "{"),
];

const FORM: &str = "application/x-www-form-urlencoded";

/// Queries that can be answered.
const QUERIES: [&str; 12] = [
    "up",
    "rate(up[5m])",
    "sum by (job) (up)",
    "up / on (job) group_left up",
    "max_over_time(up[1h:1m])",
    "topk(1, up)",
    "histogram_quantile(0.5, up)",
    "label_replace(up, \"a\", \"$1\", \"job\", \"(.*)\")",
    "absent(none)",
    "up offset -5m or up @ end()",
    "count_values(\"v\", up)",
    "{__name__=~\".+\"}",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(&VALUES[..]).prop_map(str::to_owned),
        1 => "\\PC{0,40}",
        1 => "[a-z_(){}\\[\\]=~\"!<>+*/,.0-9 @-]{0,60}",
    ]
}

/// A route of the table or none, with a method and a token: mostly those that it takes.
fn target() -> impl Strategy<Value = (Method, String, Option<usize>)> {
    let known = (prop::sample::select(routes()), "[a-zA-Z0-9_%.-]{1,12}");
    let known = known.prop_flat_map(|((path, methods, scope), part)| {
        // An escape that is none is not a URI.
        let part = part.replace('%', "%25");
        let path = path
            .replace("{name}", &part)
            .replace("{id}", &part)
            .replace("{*group}", &format!("{part}/a/b"));
        let right = Scope::ALL.iter().position(|one| Some(*one) == scope);
        let method = prop_oneof![9 => prop::sample::select(methods), 1 => method()];
        let token = prop_oneof![9 => Just(right), 1 => prop::option::of(0..Scope::ALL.len())];
        (method, Just(path), token)
    });
    let unknown = (
        method(),
        "/[a-z0-9/._-]{0,20}",
        prop::option::of(0..Scope::ALL.len()),
    );
    prop_oneof![19 => known, 1 => unknown]
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
    ])
}

/// Wild parameters, and mostly behind them those that routes ask for: of two the first counts.
fn pairs() -> impl Strategy<Value = String> {
    let wild = prop::collection::vec((prop::sample::select(&PARAMS[..]), value()), 0..4);
    let asked = prop::option::weighted(0.8, prop::sample::select(&QUERIES[..]));
    (wild, asked).prop_map(|(wild, asked)| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in wild {
            query.append_pair(name, &value);
        }
        if let Some(asked) = asked {
            query.append_pair("query", asked);
            for (name, value) in [
                ("match[]", "up"),
                ("start", "1700000000"),
                ("end", "1700000060"),
                ("step", "15"),
            ] {
                query.append_pair(name, value);
            }
        }
        query.finish()
    })
}

fn headers() -> impl Strategy<Value = Vec<(usize, String)>> {
    let one = (0..HEADERS.len()).prop_flat_map(|at| {
        let texts = HEADERS[at].1;
        prop::sample::select(texts).prop_map(move |text| (at, text.to_owned()))
    });
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(one, 1..3)]
}

fn body() -> impl Strategy<Value = (Option<&'static str>, Vec<u8>)> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        3 => Just((None, Vec::new())),
        2 => pairs().prop_map(|pairs| (Some(FORM), pairs.into_bytes())),
        3 => prop::sample::select(&BODIES[..])
            .prop_map(|(kind, text)| (Some(kind), text.as_bytes().to_vec())),
        1 => bytes().prop_map(|bytes| (None, bytes)),
        1 => bytes().prop_map(|bytes| {
            let block = snap::raw::Encoder::new().compress_vec(&bytes);
            (Some("application/x-protobuf"), block.unwrap())
        }),
    ]
}

fn wild() -> impl Strategy<Value = Wild> {
    (target(), pairs(), headers(), body()).prop_map(
        |((method, path, token), query, headers, (body_type, body))| Wild {
            method,
            path,
            query,
            headers,
            token,
            body,
            body_type,
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
        if let Some(kind) = self.body_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
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
    let cases = cases.map_or(CASES, |cases| cases.parse().unwrap());
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let apis = [populated(false), populated(true)];
    let (done, evaluated) = (Cell::new(0), Cell::new(0));
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
            done.set(done.get() + u32::from((200..300).contains(&answer.status)));
            let has_value = answer.body.contains("\"resultType\"");
            evaluated.set(evaluated.get() + u32::from(has_value));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Wild as they are, they have to get past the door to show anything.
    let (done, evaluated) = (done.get(), evaluated.get());
    println!("{cases} requests to two servers: {done} done, {evaluated} of them queries");
    assert!(done > cases / 2, "{done} of {cases} requests were done");
    assert!(
        evaluated > cases / 50,
        "{evaluated} of {cases} were queries"
    );
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
