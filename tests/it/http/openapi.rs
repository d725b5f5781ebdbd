//! The OpenAPI document against the table of routes.

use std::collections::{BTreeMap, BTreeSet};

use cutover::http::{Scope, routes};
use serde_json::{Map, Value, json};

use crate::api::Api;

/// A path as the document writes it.
fn documented(path: &str) -> String {
    path.replace("{*", "{")
}

async fn document() -> Value {
    Api::new().get("/api/v1/openapi.json").await.json()
}

fn operations(document: &Value) -> BTreeMap<(String, String), &Value> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &'_ Value)| {
        let path = path.clone();
        let methods: Vec<String> = methods.as_object().unwrap().keys().cloned().collect();
        methods
            .into_iter()
            .map(move |method| (path.clone(), method))
    };
    let keys: Vec<_> = paths.iter().flat_map(of_path).collect();
    keys.into_iter()
        .map(|(path, method)| {
            let operation = &document["paths"][&path][&method];
            ((path, method), operation)
        })
        .collect()
}

#[tokio::test]
async fn every_route_is_described_with_its_scope_and_nothing_else_is() {
    let document = document().await;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut described = operations(&document);
    let mut names = BTreeSet::new();
    for (path, methods, scope) in routes() {
        for method in methods {
            let path = documented(path);
            let at = format!("{method} {path}");
            let key = (path.clone(), method.as_str().to_ascii_lowercase());
            let operation = described.remove(&key);
            let operation = operation.unwrap_or_else(|| panic!("{at} is not described"));
            let security = match scope.map(Scope::name) {
                Some(scope) => json!([{ "token": [scope] }]),
                None => json!([]),
            };
            assert_eq!(operation["security"], security, "{at}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
            assert!(
                names.insert(operation["operationId"].as_str().unwrap()),
                "{at}"
            );
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{at}");
            assert!(answers.contains_key("default"), "{at}");
            let declared = parameters(&document, operation, "path");
            let open: BTreeSet<String> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .map(str::to_owned)
                .collect();
            assert_eq!(declared, open, "{at}");
        }
    }
    assert!(
        described.is_empty(),
        "no such routes: {:?}",
        described.keys()
    );
}

/// The names of an operation's parameters in a place.
fn parameters(document: &Value, operation: &Value, place: &str) -> BTreeSet<String> {
    let empty = Vec::new();
    let list = operation["parameters"].as_array().unwrap_or(&empty);
    list.iter()
        .map(|parameter| match parameter["$ref"].as_str() {
            Some(reference) => resolve(document, reference),
            None => parameter,
        })
        .filter(|parameter| parameter["in"] == place)
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect()
}

fn resolve<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let pointer = reference.strip_prefix('#').unwrap();
    let found = document.pointer(pointer);
    found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document().await;
    let mut used = BTreeSet::new();
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    resolve(&document, reference);
                    used.insert(reference.to_owned());
                }
                left.extend(fields.values());
            }
            Value::Array(list) => left.extend(list),
            _ => {}
        }
    }
    let components: &Map<String, Value> = document["components"].as_object().unwrap();
    for (kind, entries) in components
        .iter()
        .filter(|(kind, _)| *kind != "securitySchemes")
    {
        for name in entries.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(used.contains(&reference), "{reference} is not used");
        }
    }
}

#[tokio::test]
async fn parameters_that_are_described_are_read() {
    let api = Api::new();
    let document = document().await;
    // A value that no parameter of the kind takes is refused, so the parameter is read.
    let wrong = |name: &str| match name {
        "query" | "match[]" | "match_target" => Some("("),
        "time" | "start" | "end" | "step" | "timeout" | "lookback_delta" | "limit"
        | "group_limit" | "limit_per_metric" | "blocks" | "exclude_alerts" => Some("x"),
        _ => None,
    };
    let mut read = 0;
    for ((path, method), operation) in operations(&document) {
        if method != "get" {
            continue;
        }
        let params = parameters(&document, operation, "query");
        for name in &params {
            let Some(value) = wrong(name) else { continue };
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair(name, value);
            // What else has to be there is right.
            for (other, value) in [
                ("query", "up"),
                ("match[]", "up"),
                ("start", "0"),
                ("end", "1"),
                ("step", "1"),
            ] {
                if other != name && params.contains(other) {
                    query.append_pair(other, value);
                }
            }
            let path = format!("{}?{}", path.replace("{name}", "job"), query.finish());
            let (status, _, message) = api.get(&path).await.error();
            assert_eq!(status, 400, "{path}: {message}");
            read += 1;
        }
    }
    assert!(read > 40, "{read}");
}
