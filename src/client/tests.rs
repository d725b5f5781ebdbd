use axum::http::Uri;
use axum::routing::any;

use super::*;

/// A server that answers everything alike.
fn answering(status: u16, body: &'static str) -> Client {
    let status = StatusCode::from_u16(status).unwrap();
    Client::in_process(Router::new().fallback(any(move || async move { (status, body) })))
}

fn labels(pairs: &[(&str, &str)]) -> LabelMap {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[tokio::test]
async fn every_kind_of_result_is_read() {
    let at = Timestamp::from_ms(1_435_781_451_781);
    let vector = r#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"__name__":"up"},"value":[1435781451.781,"1e+21"]},
        {"metric":{},"value":[1435781451.781,"-Inf"]}]},"warnings":["w"],"infos":["i"]}"#;
    let answer = answering(200, vector).query("up", None).await.unwrap();
    let sample = |labels, value| PromSample { labels, at, value };
    assert_eq!(
        answer,
        QueryAnswer {
            data: PromData::Vector(vec![
                sample(labels(&[("__name__", "up")]), 1e21),
                sample(labels(&[]), f64::NEG_INFINITY),
            ]),
            warnings: vec!["w".into()],
            infos: vec!["i".into()],
        }
    );
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"a":"b"},"values":[[1435781451.781,"1"],[1435781452,"NaN"]]}]}}"#;
    let step = Duration::from_secs(1);
    let answer = answering(200, matrix).query_range("up", at, at, step).await;
    let PromData::Matrix(series) = answer.unwrap().data else {
        panic!("a matrix was sent");
    };
    assert_eq!(series[0].labels, labels(&[("a", "b")]));
    assert_eq!(series[0].points[0], (at, 1.0));
    assert!(series[0].points[1].1.is_nan());
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#;
    let at = Timestamp::from_ms(4_000);
    let answer = answering(200, scalar).query("2", None).await.unwrap();
    assert_eq!(answer.data, PromData::Scalar { at, value: 2.0 });
    let string = r#"{"status":"success","data":{"resultType":"string","result":[4,"x"]}}"#;
    let answer = answering(200, string).query("\"x\"", None).await.unwrap();
    let text = "x".to_owned();
    assert_eq!(answer.data, PromData::String { at, text });
}

#[tokio::test]
async fn an_error_of_the_api_is_passed_on() {
    let body = r#"{"status":"error","errorType":"bad_data","error":"no such function"}"#;
    let error = answering(400, body).query("x()", None).await.unwrap_err();
    assert!(
        matches!(&error, Error::Api { status: 400, error_type, .. } if error_type == "bad_data"),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "no such function");
}

#[tokio::test]
async fn what_is_not_the_api_is_said_to_be_unreadable() {
    for (status, body) in [
        (200, "<html>"),
        (200, "{}"),
        (502, "bad gateway"),
        (
            200,
            r#"{"data":{"resultType":"scalar","result":[4,"two"]}}"#,
        ),
        (
            200,
            r#"{"data":{"resultType":"vector","result":[{"metric":{},"histogram":[4,{}]}]}}"#,
        ),
    ] {
        let error = answering(status, body).query("1", None).await.unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{body} {error:?}");
    }
}

#[tokio::test]
async fn names_are_encoded_into_paths() {
    let echo = any(|uri: Uri| async move {
        format!(r#"{{"data":["{}"]}}"#, uri.path_and_query().unwrap())
    });
    let client = Client::in_process(Router::new().fallback(echo));
    let values = client.label_values("a/b c", &["{x=\"1&2\"}"]).await;
    assert_eq!(
        values.unwrap(),
        ["/api/v1/label/a%2Fb%20c/values?match%5B%5D=%7Bx%3D%221%262%22%7D"]
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_named() {
    // Bound and closed again: nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::connect(&url).unwrap();
    match client.health().await {
        Err(Error::Unreachable { server, .. }) => assert_eq!(server, url),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = any(|| async { std::future::pending::<String>().await });
    let client = Client::in_process(Router::new().fallback(silent));
    let error = client.health().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server in this process is unreachable: no answer within 150s"
    );
}

#[test]
fn an_address_that_cannot_be_used_says_why() {
    for (url, reason) in [
        ("ftp://localhost:9490", "https://HOST:PORT"),
        ("localhost:9490", "http://HOST:PORT"),
        ("http://user:secret@host", "password"),
        ("http://localhost/prefix", "path"),
        ("", "empty"),
    ] {
        let error = Client::connect(url).unwrap_err().to_string();
        assert!(error.contains(reason), "{url}: {error}");
    }
    assert_eq!(
        Client::connect("http://localhost:9490/").unwrap().server(),
        "http://localhost:9490"
    );
}
