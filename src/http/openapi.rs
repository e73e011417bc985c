//! `/openapi.json`: the API, for programs.
//!
//! Owns what the handlers' annotations leave out because it is the same everywhere: what any call may be
//! refused with, the shape of a problem, the security schemes, and `/ws` and the stream, which are not one answer but
//! many.
//! Refuses to repeat what an annotation says: that is told beside its handler.

use super::problem::{Code, Problem};
use super::{problem, router};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// What holds everywhere, told once.
const ABOUT: &str = "An actor-based realtime server: posts, timelines, chat, rooms and live delivery.\n\n\
    Every error is `application/problem+json` (RFC 9457) with a stable `code`. Unknown fields and \
    parameters are refused with 400, as is an id that is no UUID; an unknown path is 404, a method that a \
    path does not take 405 with `Allow`. Every answer carries `x-request-id`, which is taken over from the \
    request if it is up to 64 of `[A-Za-z0-9._-]`. A call takes `Authorization: Bearer` or the cookie \
    `roost_session`; a write by cookie must come from the server's own or an allowed origin. A user may make \
    100 requests a second (bursts of 200), an address without a token as many.";

/// The document as text.
#[must_use]
pub fn openapi_json() -> String {
    // Text, numbers and maps with text for keys: nothing that could fail to serialise.
    serde_json::to_string_pretty(&document()).unwrap_or_default()
}

/// Answers `/openapi.json`.
pub(super) async fn serve() -> ([(HeaderName, HeaderValue); 2], Bytes) {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, DOCUMENT.get_or_init(|| openapi_json().into()).clone())
}

fn document() -> Value {
    let described = router::documented().into_openapi();
    let mut document = serde_json::to_value(described).unwrap_or_default();
    document["info"] = json!({
        "title": "Roost",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
        "license": {"name": "MIT OR Apache-2.0"},
    });
    document["paths"]["/ws"] = json!({"get": upgrade()});
    document["paths"]["/api/chat/stream"] = json!({"get": stream()});
    document["paths"]["/ws/rooms"] = json!({"get": host(false)});
    document["paths"]["/ws/rooms/{room_id}"] = json!({"get": host(true)});
    document["paths"]["/api/rooms/{room_id}/stream"] = json!({"get": room_stream()});
    document["paths"]["/openapi.json"] = json!({"get": itself()});
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                complete(path, method, operation);
            }
        }
    }
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "An access token, of this server or of an issuer that it trusts",
        },
        "cookie": {
            "type": "apiKey", "in": "cookie", "name": super::cookies::NAME,
            "description": "Set by register, login and refresh; writes need an `Origin` or `Sec-Fetch-Site` of ours",
        },
    });
    document
}

/// Adds what a call may be refused with for reasons that are not its own.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let is_probe = path == "/metrics" || path.starts_with("/health");
    let is_everywhere = is_probe || path == "/openapi.json" || path.starts_with("/.well-known/");
    let needs_token = operation.get("security").is_some();
    let has_body = operation.get("requestBody").is_some();
    let own = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let Some(answers) = operation["responses"].as_object_mut() else { return };

    let mut add = |status: &str, description: &str| {
        answers.entry(status).or_insert_with(|| json!({"description": description}));
    };
    if needs_token {
        add("401", "There is no token, or it is not valid, expired or revoked");
        if method != "get" {
            add("403", "A write by cookie that did not come from an allowed origin");
        }
    }
    if has_body {
        add("400", "The body is malformed, or a field is missing, wrong or not known");
        add("408", "The body was not whole after 30 s");
        add("413", "The body has more than 64 KiB");
        add("415", "The body is not declared as JSON");
    }
    if !is_everywhere {
        add("421", "Nodes of another role take this call");
    }
    if !is_probe {
        add("429", "Too many requests");
        add("503", "What is needed does not answer now");
    }
    add("500", "A fault of the server");
    for (status, answer) in answers {
        if let Some(code) = example_code(status, &own) {
            let problem = if code == Code::Invalid { invalid(&own) } else { Problem::new(code) };
            describe_problem(path, &problem, answer);
        }
    }
}

/// What a call's 400 is shown with.
fn invalid(operation: &str) -> Problem {
    let (field, rule) = match operation {
        "register" => ("username", "is missing"),
        "login" => ("password", "is missing"),
        "refresh" => ("refresh_token", "must be a string"),
        "findUser" => ("username", "is given more than once"),
        "publish" => ("content", "must not be empty"),
        "readPosts" => ("post_ids[3]", "must be a UUID"),
        "readTimeline" => ("limit", "must be a whole number from 1 to 100"),
        "listen" => ("cursor", "is not a cursor of this server"),
        "openConversation" => ("participants", "must name 2 to 100 different users, the caller counted"),
        "readConversations" => ("cursor", "is not a cursor that this list gave out"),
        "markRead" => ("messageId", "must be a message of this conversation"),
        "sendMessage" => ("body", "must not be empty"),
        "readHistory" => ("conversationId", "must be a UUID or support-demo"),
        "makeRoom" => ("event_types", "two event types have one name"),
        "readRooms" => ("mine", "is missing: there is no list of all rooms"),
        "press" => ("event_type", "must be one that this room has: skill1, skill2"),
        _ => ("id", "must be a UUID"),
    };
    Problem::field(field, rule)
}

/// Gives an answer the shape of a problem, an example and its headers.
fn describe_problem(path: &str, problem: &Problem, answer: &mut Value) {
    let path = path.replace("{id}", "019b8a7e-7c01-7000-8000-000000000001");
    let path = path.replace("{room_id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let example = problem.document(&path, "4bf92f3577b34da6a3ce929d0e0e4736");
    let mut content = Map::new();
    content.insert(
        problem::MEDIA_TYPE.to_owned(),
        json!({"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}),
    );
    answer["content"] = Value::Object(content);
    match problem.code() {
        Code::RateLimited | Code::Unavailable | Code::NotReady => {
            answer["headers"]["Retry-After"] = json!({"description": "Whole seconds, at least 1", "schema": {"type": "integer", "minimum": 1}});
        }
        Code::Unauthorized => {
            answer["headers"]["WWW-Authenticate"] =
                json!({"description": "`Bearer`", "schema": {"type": "string"}});
        }
        _ => {}
    }
}

/// The code that a call's status is shown with; none where it is no refusal.
fn example_code(status: &str, operation: &str) -> Option<Code> {
    let code = match (status, operation) {
        ("409", "register") => Code::EmailTaken,
        ("409", "renameUser") => Code::UsernameTaken,
        ("409", "follow") => Code::AlreadyFollowing,
        ("409", "like") => Code::AlreadyLiked,
        ("503", "ready") => Code::NotReady,
        (
            "403",
            "renameUser" | "deletePost" | "markRead" | "sendMessage" | "readHistory" | "resetRoom"
            | "endRoom" | "hostRoom",
        ) => Code::Forbidden,
        ("403", _) => Code::ForeignOrigin,
        _ => *Code::ALL.iter().find(|code| code.status().as_str() == status)?,
    };
    Some(code)
}

/// `/ws`, whose answers after the upgrade OpenAPI has no words for.
fn upgrade() -> Value {
    let query = |name: &str, description: &str| json!({"name": name, "in": "query", "required": false, "description": description, "schema": {"type": "string"}});
    json!({
        "tags": ["live"],
        "operationId": "listen",
        "summary": "Listen.",
        "description": "Upgrades to a WebSocket (RFC 6455). Frames are JSON text: `{\"type\", \"data\", \"cursor\"?, \
            \"chat_cursor\"?}`. The server says `connected`, `newPost`, `postDeleted`, `chatMessage`, `resync`, `reconnect`, \
            `pong`, `authenticated`, `error`; the client says `ping` and `auth`. The token is taken from `Authorization: Bearer`, from `?token=`, or from the \
            subprotocol pair `bearer, {jwt}`.",
        "parameters": [
            query("token", "The access token, where no header can be set"),
            query("cursor", "The last cursor that was seen: what was missed since comes first"),
            query("chat_cursor", "The last chat_cursor that was seen: chat events since come first"),
        ],
        "security": [{"bearer": []}, {"cookie": []}],
        "responses": {
            "101": {"description": "The socket is open; its first frame is `connected`"},
            "400": {"description": "The cursor is malformed"},
            "426": {"description": "The request asks for no upgrade"},
        },
    })
}

/// The stream, whose events OpenAPI has no words for.
fn stream() -> Value {
    let place =
        "Where the client stands: the `id` of the last event that it saw; what came since comes first";
    let text = |name: &str, place: &str, description: &str| json!({"name": name, "in": place, "required": false, "description": description, "schema": {"type": "string"}});
    json!({
        "tags": ["chat"],
        "operationId": "streamChats",
        "summary": "Listen to one's chats.",
        "description": "Server-Sent Events (`EventSource`). It begins with a bare `id:`, where the stream stands; then \
            `event: message` with `data: {\"messageId\", \"conversationId\"}` for each message of each conversation of the \
            user, at least once; what it says is in the history. `event: resync` with `{\"reason\"}` says that the place \
            that the client came with is of no use; `expired`, `taken_over` and `reconnect` (`{\"after_ms\"}`) come before \
            the end. Without a place it begins after the last event that was written to any stream or socket of the user.",
        "parameters": [
            text("token", "query", "The access token, where no header can be set"),
            text("Last-Event-ID", "header", place),
            text("lastEventId", "query", place),
        ],
        "security": [{"bearer": []}, {"cookie": []}],
        "responses": {
            "200": {
                "description": "The stream is open",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": "retry: 2000\nid: aQ\n\n"}},
            },
            "403": {"description": "A read by cookie from a page of another origin"},
        },
    })
}

/// A host's socket, whose answers after the upgrade OpenAPI has no words for.
fn host(takes_up: bool) -> Value {
    let token = json!({
        "name": "token", "in": "query", "required": false, "schema": {"type": "string"},
        "description": "The access token, where no header can be set",
    });
    let room = json!({
        "name": "room_id", "in": "path", "required": true, "schema": {"type": "string"},
        "description": "The room's id",
    });
    let (operation, summary, parameters) = match takes_up {
        false => ("hostNewRoom", "Make a room and be its host.", json!([token])),
        true => ("hostRoom", "Be the host of one's room.", json!([room, token])),
    };
    let mut described = json!({
        "tags": ["rooms"],
        "operationId": operation,
        "summary": summary,
        "description": "Upgrades to a WebSocket (RFC 6455). The first frame is `{\"type\":\"room_created\", \"room_id\", \
            \"web_url\"}`; then `{\"type\":\"game_event\", \"room_id\", \"event_type\", \"trigger_count\", \"viewer_count\", \
            \"seq\"}` for each effect, in order of `seq`, those from before first that the host does not have. The host may \
            say `{\"type\":\"ack\", \"seq\"}`, `ping` and `auth`. A newer host's socket closes an older one with 4409.",
        "parameters": parameters,
        "security": [{"bearer": []}, {"cookie": []}],
        "responses": {
            "101": {"description": "The socket is open; its first frame is `room_created`"},
            "400": {"description": "The header `Sec-WebSocket-Key` is missing"},
            "426": {"description": "The request asks for no upgrade"},
        },
    });
    if takes_up {
        described["responses"]["403"] = json!({"description": "The room is another's"});
        described["responses"]["404"] = json!({"description": "There is no such room"});
    }
    described
}

/// A room's stream, whose events OpenAPI has no words for.
fn room_stream() -> Value {
    json!({
        "tags": ["rooms"],
        "operationId": "streamRoom",
        "summary": "See how a room stands.",
        "description": "Server-Sent Events (`EventSource`), without a token: `event: stats` with `data` as `GET \
            /api/rooms/{room_id}/stats` answers, at the beginning and whenever it changed, four times a second at most. `ended` \
            and `reconnect` (`{\"after_ms\"}`) come before the end.",
        "parameters": [{
            "name": "room_id", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "The room's id",
        }],
        "responses": {
            "200": {
                "description": "The stream is open",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": "retry: 2000\n\n"}},
            },
            "404": {"description": "There is no such room"},
        },
    })
}

/// The document describes itself, too.
fn itself() -> Value {
    json!({
        "tags": ["operation"],
        "operationId": "openapi",
        "summary": "This document.",
        "responses": {"200": {"description": "OpenAPI", "content": {"application/json": {"schema": {"type": "object"}}}}},
    })
}

#[cfg(test)]
mod tests {
    use super::document;
    use crate::http::problem::Code;
    use serde_json::Value;

    /// Every call with the statuses that it may answer by the contract.
    const CONTRACT: &[(&str, &str, &[u16])] = &[
        ("post", "/auth/register", &[201, 400, 409, 413, 415, 429]),
        ("post", "/auth/login", &[200, 400, 401, 413, 415, 429]),
        ("post", "/auth/refresh", &[200, 400, 401, 413, 415, 429]),
        ("post", "/auth/logout", &[204, 401, 403, 429]),
        ("get", "/users/{id}", &[200, 400, 401, 404, 429]),
        ("get", "/users", &[200, 400, 401, 404, 429]),
        ("put", "/users/{id}", &[200, 400, 401, 403, 409, 413, 415, 429]),
        ("get", "/.well-known/jwks.json", &[200, 429]),
        ("post", "/posts", &[201, 400, 401, 403, 413, 415, 422, 429, 503]),
        ("get", "/posts/{id}", &[200, 400, 401, 404, 429]),
        ("delete", "/posts/{id}", &[204, 401, 403, 404, 429, 503]),
        ("post", "/posts/batch", &[200, 400, 401, 413, 415, 429]),
        ("get", "/users/{id}/posts", &[200, 400, 401, 404, 429]),
        ("post", "/users/{id}/follow", &[201, 400, 401, 403, 404, 409, 429]),
        ("delete", "/users/{id}/follow", &[204, 401, 403, 404, 429]),
        ("get", "/users/{id}/followers", &[200, 400, 401, 404, 429]),
        ("get", "/users/{id}/following", &[200, 400, 401, 404, 429]),
        ("post", "/posts/{id}/likes", &[201, 401, 403, 404, 409, 429]),
        ("delete", "/posts/{id}/likes", &[204, 401, 403, 404, 429]),
        ("get", "/timeline", &[200, 400, 401, 421, 429, 503]),
        ("get", "/ws", &[101, 400, 401, 421, 426, 429, 503]),
        ("post", "/api/chat/conversations", &[200, 201, 400, 401, 403, 413, 415, 421, 429, 503]),
        ("get", "/api/chat/conversations", &[200, 400, 401, 421, 429, 503]),
        ("post", "/api/chat/conversations/{id}/read", &[204, 400, 401, 403, 413, 415, 421, 429, 503]),
        ("post", "/api/chat/send", &[200, 201, 400, 401, 403, 413, 415, 421, 422, 429, 503]),
        ("get", "/api/chat/history", &[200, 400, 401, 403, 421, 429, 503]),
        ("get", "/api/chat/stream", &[200, 401, 403, 421, 429, 503]),
        ("post", "/api/rooms", &[201, 400, 401, 403, 413, 415, 421, 429, 503]),
        ("get", "/api/rooms", &[200, 400, 401, 421, 429, 503]),
        ("get", "/api/rooms/{room_id}", &[200, 404, 421, 429, 503]),
        ("delete", "/api/rooms/{room_id}", &[204, 401, 403, 404, 421, 429, 503]),
        ("post", "/api/rooms/{room_id}/events", &[200, 400, 404, 413, 415, 421, 429, 503]),
        ("get", "/api/rooms/{room_id}/stats", &[200, 404, 421, 429, 503]),
        ("post", "/api/rooms/{room_id}/reset", &[204, 401, 403, 404, 421, 429, 503]),
        ("get", "/api/rooms/{room_id}/stream", &[200, 404, 421, 429, 503]),
        ("get", "/ws/rooms", &[101, 401, 421, 426, 429, 503]),
        ("get", "/ws/rooms/{room_id}", &[101, 401, 403, 404, 421, 426, 429, 503]),
        ("get", "/health/live", &[200]),
        ("get", "/health/ready", &[200, 503]),
        ("get", "/health", &[200]),
        ("get", "/metrics", &[200]),
        ("get", "/openapi.json", &[200]),
    ];

    #[test]
    fn every_call_and_status_of_the_contract_is_described() {
        let document = document();
        for (method, path, statuses) in CONTRACT {
            let answers = &document["paths"][path][method]["responses"];
            for status in *statuses {
                assert!(answers.get(status.to_string()).is_some(), "{method} {path} {status}: {answers}");
            }
        }
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(described, CONTRACT.len(), "a call is described that the contract does not know");
    }

    #[test]
    fn every_refusal_is_a_problem_with_an_example() {
        let document = document();
        let mut seen = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    if status.parse::<u16>().unwrap() < 400 {
                        continue;
                    }
                    let problem = &answer["content"]["application/problem+json"];
                    assert_eq!(
                        problem["example"]["status"].to_string(),
                        *status,
                        "{method} {path}: {answer}"
                    );
                    seen += 1;
                }
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn codes_are_an_enum_and_every_reference_leads_somewhere() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let codes = schemas["ProblemCode"]["enum"].as_array().unwrap();
        let names: Vec<Value> = Code::ALL.iter().map(|code| code.name().into()).collect();
        assert_eq!(*codes, names);
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let target = reference.split('"').next().unwrap();
            let name = target.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{target}");
        }
    }

    #[test]
    fn every_body_that_is_sent_or_answered_has_an_example() {
        let document = document();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let is_part =
                matches!(name.as_str(), "Problem" | "ProblemCode" | "FieldProblem" | "Author" | "NamedUser");
            let has_example = schema.get("example").is_some() || schema.get("examples").is_some();
            assert!(is_part || has_example, "{name}: {schema}");
        }
    }
}
