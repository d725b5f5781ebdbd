//! Tokens: every route of the table without one, with one of the wrong scope, with one of the right.

use axum::body::Body;
use cutover::client::{Access, Client, Error};
use cutover::http::{Scope, TokenConfig, Tokens, new_token, routes, serve};
use cutover::net::secret::Secret;
use cutover::shutdown::{GRACE, Shutdown};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request};
use tokio::net::TcpListener;

use crate::api::{Answer, Api, request};

/// An API with a token of each scope, and those tokens in the order of `Scope::ALL`.
fn guarded() -> (Api, [Secret; 3]) {
    let made = Scope::ALL.map(|scope| (scope, new_token()));
    let configs = made.each_ref().map(|(scope, (_, sha256))| TokenConfig {
        name: format!("only {}", scope.name()),
        sha256: sha256.clone(),
        scopes: vec![*scope],
    });
    let api = Api::with(&[], |state| state.tokens = Tokens::new(&configs).unwrap());
    (api, made.map(|(_, (token, _))| token))
}

fn shown(token: &Secret) -> HeaderValue {
    format!("Bearer {}", token.expose()).parse().unwrap()
}

/// A request to a route of the table, with something for what its path leaves open.
async fn ask(api: &Api, method: &Method, path: &str, token: Option<&Secret>) -> Answer {
    let path = path.replace("{name}", "job").replace("{id}", "shop");
    let path = path.replace("{*group}", "YQ");
    let mut request = request(method.clone(), &path, Body::empty());
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, shown(token));
    }
    api.send(request).await
}

#[tokio::test]
async fn no_route_answers_without_its_scope() {
    let (api, tokens) = guarded();
    let mut guarded_routes = 0;
    for (path, methods, scope) in routes() {
        for method in methods {
            let at = format!("{method} {path}");
            let Some(scope) = scope else {
                assert!(path.starts_with("/-/"), "{at} is open");
                assert_eq!(ask(&api, method, path, None).await.status, 200, "{at}");
                continue;
            };
            guarded_routes += 1;
            let nobody = ask(&api, method, path, None).await;
            let (status, kind, message) = nobody.error();
            assert_eq!((status, kind.as_str()), (401, "unauthorized"), "{at}");
            assert!(message.contains(scope.name()), "{at}: {message}");
            let challenge = &nobody.headers[WWW_AUTHENTICATE];
            assert_eq!(challenge, "Bearer realm=\"cutover\"", "{at}");

            let stranger = ask(&api, method, path, Some(&new_token().0)).await;
            assert_eq!(stranger.error().0, 401, "{at}");

            for (holds, token) in Scope::ALL.into_iter().zip(&tokens) {
                let answer = ask(&api, method, path, Some(token)).await;
                if holds == scope {
                    assert!(![401, 403].contains(&answer.status), "{at}: {answer:?}");
                    continue;
                }
                let (status, kind, message) = answer.error();
                assert_eq!((status, kind.as_str()), (403, "forbidden"), "{at}");
                let expected = format!(
                    "the token \"only {}\" lacks the scope \"{}\"",
                    holds.name(),
                    scope.name()
                );
                assert_eq!(message, expected, "{at}");
            }
        }
    }
    assert!(guarded_routes > 30, "{guarded_routes}");
}

#[tokio::test]
async fn head_needs_the_scope_that_get_needs() {
    let (api, tokens) = guarded();
    let head = async |token| ask(&api, &Method::HEAD, "/api/v1/labels", token).await;
    assert_eq!(head(None).await.status, 401);
    assert_eq!(head(Some(&tokens[1])).await.status, 403);
    assert_eq!(head(Some(&tokens[0])).await.status, 200);
}

#[tokio::test]
async fn without_tokens_every_route_is_open() {
    let api = Api::new();
    for (path, methods, _) in routes() {
        for method in methods {
            let answer = ask(&api, method, path, None).await;
            assert!(![401, 403].contains(&answer.status), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn where_tokens_are_asked_for_any_host_will_do_but_no_foreign_page() {
    let (api, tokens) = guarded();
    let ask = async |origin: Option<&str>| {
        let mut request = Request::get("/api/v1/labels")
            .header(HOST, "cutover.example:9490")
            .header(AUTHORIZATION, shown(&tokens[0]));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        api.send(request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(ask(None).await, 200);
    assert_eq!(ask(Some("https://cutover.example:9490")).await, 200);
    assert_eq!(ask(Some("https://evil.example")).await, 403);
}

#[tokio::test]
async fn clients_show_a_token_and_those_in_the_process_need_none() {
    let (api, tokens) = guarded();
    let inside = Client::in_process(api.router.clone());
    inside.health().await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::default();
    let serving = serve(listener, None, api.router.clone(), shutdown.clone());
    shutdown.spawn("http", serving);
    let refused = Client::connect(&url).unwrap().health().await.unwrap_err();
    assert!(
        matches!(refused, Error::Api { status: 401, .. }),
        "{refused}"
    );
    let access = Access {
        token: Some(tokens[0].clone()),
        ..Access::default()
    };
    assert!(!format!("{access:?}").contains(tokens[0].expose()));
    let client = Client::connect_with(&url, &access).unwrap();
    assert!(!format!("{client:?}").contains(tokens[0].expose()));
    client.health().await.unwrap();
    shutdown.begin();
    shutdown.wait(GRACE).await.unwrap();
}
