//! `/openapi.json` describes what there is: whole, and with what the server really answers.

use crate::harness::app::TestApp;
use crate::harness::rest::names;
use serde_json::Value;
use std::collections::HashSet;

/// Every call of the contract.
const CALLS: [(&str, &str); 41] = [
    ("/auth/register", "post"),
    ("/auth/login", "post"),
    ("/auth/refresh", "post"),
    ("/auth/logout", "post"),
    ("/users/{id}", "get"),
    ("/users/{id}", "put"),
    ("/users", "get"),
    ("/.well-known/jwks.json", "get"),
    ("/posts", "post"),
    ("/posts/{id}", "get"),
    ("/posts/{id}", "delete"),
    ("/posts/batch", "post"),
    ("/users/{id}/posts", "get"),
    ("/users/{id}/follow", "post"),
    ("/users/{id}/follow", "delete"),
    ("/users/{id}/followers", "get"),
    ("/users/{id}/following", "get"),
    ("/posts/{id}/likes", "post"),
    ("/posts/{id}/likes", "delete"),
    ("/timeline", "get"),
    ("/ws", "get"),
    ("/api/chat/conversations", "post"),
    ("/api/chat/conversations", "get"),
    ("/api/chat/conversations/{id}/read", "post"),
    ("/api/chat/send", "post"),
    ("/api/chat/history", "get"),
    ("/api/chat/stream", "get"),
    ("/api/rooms", "post"),
    ("/api/rooms", "get"),
    ("/api/rooms/{room_id}", "get"),
    ("/api/rooms/{room_id}", "delete"),
    ("/api/rooms/{room_id}/events", "post"),
    ("/api/rooms/{room_id}/stats", "get"),
    ("/api/rooms/{room_id}/reset", "post"),
    ("/api/rooms/{room_id}/stream", "get"),
    ("/ws/rooms", "get"),
    ("/ws/rooms/{room_id}", "get"),
    ("/health/live", "get"),
    ("/health/ready", "get"),
    ("/health", "get"),
    ("/metrics", "get"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_has_every_call_and_is_whole() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    assert!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")),
        "{}",
        document["openapi"]
    );
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let paths = document["paths"].as_object().unwrap();
    for (path, method) in CALLS {
        assert!(paths.get(path).is_some_and(|item| item[method].is_object()), "{method} {path}");
    }
    let mut operations = HashSet::new();
    for (path, item) in paths {
        assert!(path.starts_with('/'));
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let named =
                operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no name"));
            assert!(operations.insert(named.to_owned()), "{named} is there twice");
            let answers = operation["responses"].as_object().unwrap();
            assert!(!answers.is_empty());
            for (status, answer) in answers {
                assert!(
                    answer["$ref"].is_string() || answer["description"].is_string(),
                    "{method} {path} {status}"
                );
            }
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let lists = [&operation["parameters"], &item["parameters"]];
                let described = lists.iter().filter_map(|list| list.as_array()).flatten().any(|found| {
                    found["name"] == parameter && found["in"] == "path" && found["required"] == true
                });
                assert!(described, "{method} {path}: {parameter}");
            }
        }
    }
    check_references(&document, &document);
}

/// Every reference leads somewhere.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} leads outside"));
                assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
            }
            members.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_and_shapes_are_those_that_are_answered() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    let schemas = &document["components"]["schemas"];
    let codes = schemas["ProblemCode"]["enum"].as_array().unwrap();
    let problem = &schemas["Problem"];
    let answered = app.get("/nothing").await.refused(404, "not_found");
    assert!(codes.contains(&answered["code"]), "{codes:?}");
    for name in names(&answered) {
        assert!(problem["properties"][name].is_object(), "{name} is not described: {problem}");
    }
    for name in problem["required"].as_array().unwrap() {
        assert!(answered.get(name.as_str().unwrap()).is_some(), "{name} is required");
    }
    // What is answered to the commonest calls has each member described, and each that is required.
    let ann = app.person("ann").await;
    ann.posts("hello").await;
    for (path, described) in
        [("/timeline".to_owned(), "/timeline"), (format!("/users/{}", ann.id), "/users/{id}")]
    {
        let shown = ann.get(&path).await.expect(200);
        let content = &document["paths"][described]["get"]["responses"]["200"]["content"];
        let schema = &content["application/json"]["schema"];
        let target =
            schema["$ref"].as_str().and_then(|target| document.pointer(&target[1..])).unwrap_or(schema);
        for name in names(&shown) {
            assert!(target["properties"][name].is_object(), "{path}: {name} is not described: {target}");
        }
        for name in target["required"].as_array().unwrap() {
            assert!(shown.get(name.as_str().unwrap()).is_some(), "{path}: {name} is required");
        }
    }
}
