//! Requests that ask too much: each is refused by name, soon, and costs little.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::Method;
use hyper::header::CONTENT_TYPE;

use crate::api::{Answer, Api, request};
use crate::support::{Server, percent_encode};

/// No refusal may take longer, on a slow machine in a debug build.
const SOON: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn now() -> Instant {
    Instant::now()
}

/// Asks for a query in a form, and holds the answer to its time.
async fn ask(api: &Api, path: &str, query: &str, more: &str) -> Answer {
    let form = format!("query={}{more}", percent_encode(query));
    let mut request = request(Method::POST, path, Body::from(form));
    let kind = "application/x-www-form-urlencoded".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let asked = now();
    let answer = api.send(request).await;
    let took = asked.elapsed();
    assert!(
        took < SOON,
        "{took:?} for {}",
        &query[..query.len().min(80)]
    );
    answer
}

async fn refused(api: &Api, query: &str) -> String {
    let (status, kind, message) = ask(api, "/api/v1/query", query, "").await.error();
    let start = &query[..query.len().min(80)];
    assert_eq!(
        (status, kind.as_str()),
        (400, "bad_data"),
        "{start}: {message}"
    );
    assert!(
        message.len() < 4096,
        "{start}: a message of {} bytes",
        message.len()
    );
    message
}

#[tokio::test]
async fn texts_that_are_too_long_are_refused() {
    let api = Api::new();
    let mebibyte = "a".repeat((1 << 20) + 1);
    let said = refused(&api, &mebibyte).await;
    assert!(said.contains("query.query_bytes_max"), "{said}");
    let sum = vec!["up"; 600_000].join("+");
    let said = refused(&api, &sum).await;
    assert!(said.contains("query.query_bytes_max"), "{said}");
    let body = format!("query={}", "a".repeat(33 << 20));
    let mut request = request(Method::POST, "/api/v1/query", Body::from(body));
    let kind = "application/x-www-form-urlencoded".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let (status, kind, _) = api.send(request).await.error();
    assert_eq!((status, kind.as_str()), (413, "too_large"));
}

#[tokio::test]
async fn texts_that_nest_too_deep_are_refused() {
    let api = Api::new();
    for (open, close) in [
        ("(", ")"),
        ("-(", ")"),
        ("abs(", ")"),
        ("sum(", ")"),
        ("(", ""),
    ] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let said = refused(&api, &deep).await;
        assert!(said.contains("query.depth_max"), "{open}: {said}");
    }
    let chain = vec!["1"; 10_000].join("+");
    assert!(refused(&api, &chain).await.contains("query.depth_max"));
    for path in ["/api/v1/parse_query", "/api/v1/format_query"] {
        let deep = "(".repeat(10_000);
        assert_eq!(ask(&api, path, &deep, "").await.error().0, 400);
        // As deep as is allowed is answered.
        let allowed = format!("{}1{}", "(".repeat(990), ")".repeat(990));
        assert_eq!(ask(&api, path, &allowed, "").await.status, 200, "{path}");
    }
    let selector = format!("match[]={}", "{".repeat(10_000));
    let answer = api.get(&format!("/api/v1/series?{selector}")).await;
    assert_eq!(answer.error().0, 400);
}

#[tokio::test]
async fn regular_expressions_that_explode_are_refused_or_answered_in_time() {
    let api = Api::new();
    api.write(&[("up", &[("job", &*"a".repeat(5000))], 1.0)]);
    for regex in ["(a{1000}){1000}", "((a{100}){100}){100}", "a{2147483647}"] {
        let said = refused(&api, &format!("up{{job=~\"{regex}\"}}")).await;
        assert!(said.contains("job") || said.contains("regex"), "{said}");
    }
    for regex in ["(a+)+$", "(a|a)*b", "(.*)*(.*)*(.*)*x", "(a?){50}a{50}"] {
        let query = format!("up{{job=~\"{regex}\"}}");
        assert_eq!(
            ask(&api, "/api/v1/query", &query, "").await.status,
            200,
            "{regex}"
        );
        let label = format!("label_replace(up, \"x\", \"$1\", \"job\", \"{regex}\")");
        assert_eq!(
            ask(&api, "/api/v1/query", &label, "").await.status,
            200,
            "{regex}"
        );
    }
}

#[tokio::test]
async fn spans_and_times_beyond_all_bounds_are_refused() {
    let api = Api::new();
    for query in [
        "up[1e308s]",
        "up[1e308]",
        "up offset 1e308",
        "up[1e9y]",
        "up[5m:1e308]",
    ] {
        refused(&api, query).await;
    }
    for (more, name) in [
        ("&time=1e308", "time"),
        ("&time=NaN", "time"),
        ("&time=-Inf", "time"),
        ("&timeout=NaN", "timeout"),
        ("&timeout=1e308", "timeout"),
        ("&lookback_delta=1e308", "lookback delta"),
        ("&limit=1e308", "limit"),
        ("&limit=-1", "limit"),
    ] {
        let (status, _, message) = ask(&api, "/api/v1/query", "up", more).await.error();
        assert_eq!(status, 400, "{more}");
        assert!(message.contains(name), "{more}: {message}");
    }
    for (more, name) in [
        ("&start=NaN&end=1&step=1", "start"),
        ("&start=0&end=Inf&step=1", "end"),
        ("&start=0&end=1e308&step=1", "end"),
        ("&start=2&end=1&step=1", "end"),
        ("&start=0&end=1&step=0", "step"),
        ("&start=0&end=1&step=-15", "step"),
        ("&start=0&end=1&step=NaN", "step"),
        ("&start=0&end=1&step=-1m", "step"),
        ("&start=0&end=11000&step=1", "step"),
        ("&start=-9e12&end=9e12&step=1ms", "step"),
        ("&start=0&end=1", "step"),
    ] {
        let (status, kind, message) = ask(&api, "/api/v1/query_range", "up", more).await.error();
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{more}");
        let named = format!("invalid parameter {name:?}");
        assert!(message.starts_with(&named), "{more}: {message}");
    }
    // The largest that are allowed.
    let all = "&start=0&end=10999&step=1";
    assert_eq!(
        ask(&api, "/api/v1/query_range", "up", all).await.status,
        200
    );
}

#[tokio::test]
async fn a_query_that_reads_or_makes_too_much_names_the_limit() {
    let api = Api::new();
    api.write(&[("up", &[], 1.0)]);
    for query in ["up[1000d:1ms]", "max_over_time(vector(1)[100d:1ms])"] {
        let (status, _, message) = ask(&api, "/api/v1/query", query, "").await.error();
        assert!([400, 422].contains(&status), "{query}: {message}");
        assert!(message.contains("query.samples_max"), "{query}: {message}");
    }
}

/// What a process has held at most, and holds now, in bytes.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    (kib("VmHWM:"), kib("VmRSS:"))
}

fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const WIDE_SERIES: usize = 100_000;

/// A real server with 100,000 series of one metric.
fn wide(dir: &std::path::Path) -> Server {
    let server = Server::start(dir, None, &[]);
    for part in 0..4 {
        let mut text = String::new();
        for at in part * WIDE_SERIES / 4..(part + 1) * WIDE_SERIES / 4 {
            writeln!(
                text,
                "wide{{number=\"{at}\",table=\"public.orders_{at}\"}} {at}"
            )
            .unwrap();
        }
        let answer = post(server.address, "/api/v1/import/prometheus", &text);
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
    server
}

#[test]
fn wide_answers_wait_for_slow_readers_in_bounded_memory() {
    // 256 MiB for the answers that are being sent, one query's own, and what malloc makes of them.
    const MORE_BYTES_MAX: u64 = 512 << 20;
    const READERS_MAX: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let server = wide(dir.path());
    let address = server.address;
    let (_, before) = memory(server.pid());
    // Readers that ask for everything and then take nothing, until there is no room for one more.
    let mut readers = Vec::new();
    let refused = loop {
        assert!(readers.len() < READERS_MAX, "there is room for all of them");
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "GET /api/v1/query?query=wide HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        if &first != b"HTTP/1.1 200" {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            break format!("{}{rest}", String::from_utf8_lossy(&first));
        }
        readers.push(stream);
    };
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("no room within 5s"), "{refused}");
    assert!(readers.len() > 4, "{}", readers.len());
    let (most, _) = memory(server.pid());
    let more = most.saturating_sub(before);
    assert!(more < MORE_BYTES_MAX, "{} MiB more", more >> 20);
    // Small answers need no room.
    let asked = now();
    let (status, _) = server.get("/api/v1/query?query=count(wide)").unwrap();
    assert_eq!(status, 200);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    // One of them goes on, gets everything, and makes room.
    let mut rest = String::new();
    readers.pop().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("\"metric\"").count(), WIDE_SERIES);
    assert!(rest.trim_end().ends_with('0'), "the last chunk is there");
    let (status, _) = server.get("/api/v1/query?query=wide").unwrap();
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let api = Api::with(&[], |state| {
        state.limits.body_timeout = Duration::from_millis(100);
    });
    struct Never;
    impl hyper::body::Body for Never {
        type Data = hyper::body::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }
    for path in [
        "/api/v1/query",
        "/api/v1/write",
        "/api/v1/read",
        "/api/v1/migrations",
    ] {
        let request = request(Method::POST, path, Body::new(Never));
        let answer = api.send(request).await;
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(
            answer.body.contains("did not arrive within 100ms"),
            "{path}: {answer:?}"
        );
    }
}
