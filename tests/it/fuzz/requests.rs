//! Bodies, headers, paths and queries.

use super::mutator::mutated;
use super::wire::{Request, Wire};
use super::{Target, variable};
use crate::harness::dice::Dice;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;
use std::cell::RefCell;

/// Of what is sent, more than one in so many must be understood far enough to reach a handler's layer.
const UNDERSTOOD: usize = 4;

/// Of a request, so many bytes are read before any answer to it.
const READ_AT_LEAST: usize = 16 * 1024;

impl Target {
    /// Requests that are right, and may be sent any number of times.
    fn requests(&self) -> Vec<Request> {
        let Self { person, other, post, cursor, .. } = self;
        let (token, me, you) = (&person.token, &person.id, &other.id);
        let new = |method, target: String, body: &str| Request::new(method, &target, token, body);
        vec![
            new("POST", "/posts".to_owned(), r#"{"content":"Good morning, \u00e9\r\nworld"}"#),
            new("POST", "/posts/batch".to_owned(), &format!(r#"{{"post_ids":["{post}","{me}"]}}"#)),
            new("PUT", format!("/users/{me}"), r#"{"username":"fay-2"}"#),
            new("POST", "/auth/refresh".to_owned(), r#"{"refresh_token":"never-given-to-anybody"}"#),
            new("POST", format!("/users/{you}/follow"), ""),
            new("DELETE", format!("/users/{you}/follow"), ""),
            new("POST", format!("/posts/{post}/likes"), ""),
            new("DELETE", format!("/posts/{post}/likes"), ""),
            new("GET", format!("/posts/{post}"), ""),
            new("GET", format!("/timeline?limit=2&cursor={cursor}"), ""),
            new("GET", "/timeline?limit=2&offset=1".to_owned(), ""),
            new("GET", format!("/users/{me}/posts?limit=2&cursor={cursor}"), ""),
            new("GET", format!("/users/{you}/followers?limit=2"), ""),
            new("GET", format!("/users/{me}/following?limit=2"), ""),
            new("GET", format!("/users/{you}"), ""),
            new("GET", "/users?username=gil".to_owned(), ""),
            new("GET", "/.well-known/jwks.json".to_owned(), ""),
            new("GET", "/health".to_owned(), ""),
            new("GET", format!("/ws?token={token}&cursor={cursor}"), ""),
        ]
    }

    /// Sends many requests, each chosen and changed by the dice.
    fn bear_requests(&self, what: &str, choose: impl Fn(&Request) -> bool, change: Change) {
        let mut dice = Dice::thrown(what);
        let requests: Vec<_> = self.requests().into_iter().filter(choose).collect();
        let (mut understood, mut sent, mut wire) = (0, 0, None);
        self.bear(|| {
            let mut request = requests[dice.below(requests.len())].clone();
            change(&mut dice, &mut request);
            sent += 1;
            understood += usize::from(self.asks(&mut wire, &request));
        });
        assert!(understood * UNDERSTOOD > sent, "only {understood} of {sent} were understood");
    }

    /// Asks on a connection that is kept where it can be; whether the request was understood.
    fn asks(&self, kept: &mut Option<Wire>, request: &Request) -> bool {
        let bytes = request.bytes();
        let to_head = request.method == b"HEAD";
        let connection = kept.take();
        let was_kept = connection.is_some();
        let mut wire = connection.unwrap_or_else(|| Wire::connect(&self.server.authority()));
        wire.write(&bytes);
        let Some(answer) = wire.answer(to_head) else {
            if bytes.len() > READ_AT_LEAST {
                // The answer may be lost where the connection ends with something unread.
                return false;
            }
            assert!(was_kept, "no answer to {}", shown(&bytes));
            return self.asks(kept, request);
        };
        if let Some(objection) = answer.objection() {
            panic!("{objection}: {answer:?}, to {}", shown(&bytes));
        }
        if !answer.ends_the_connection() {
            *kept = Some(wire);
        }
        answer.is_of_a_handler()
    }
}

type Change = fn(&mut Dice, &mut Request);

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A line's worth of nonsense: where it ends stays where it was.
fn mutated_line(dice: &mut Dice, line: &[u8]) -> Vec<u8> {
    let mut line = mutated(dice, line);
    line.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    line
}

#[test]
fn no_body_is_a_fault_of_the_server() {
    let target = Target::start();
    let has_body = |request: &Request| !request.body.is_empty();
    target.bear_requests("fuzzed bodies", has_body, |dice, request| {
        request.body = mutated(dice, &request.body);
    });
}

#[test]
fn no_path_is_a_fault_of_the_server() {
    let target = Target::start();
    target.bear_requests(
        "fuzzed paths",
        |_| true,
        |dice, request| {
            let (path, query) = split(&request.target);
            let path = [b"/", mutated_line(dice, &path[1..]).as_slice()].concat();
            request.target = [path, query].concat();
            if dice.one_in(10) {
                request.method = mutated_line(dice, &request.method);
            }
        },
    );
}

#[test]
fn no_query_is_a_fault_of_the_server() {
    let target = Target::start();
    let has_query = |request: &Request| request.target.contains(&b'?');
    target.bear_requests("fuzzed queries", has_query, |dice, request| {
        let (path, query) = split(&request.target);
        request.target = [path, b"?".to_vec(), mutated_line(dice, &query[1..])].concat();
    });
}

#[test]
fn no_header_is_a_fault_of_the_server() {
    /// Headers that something here reads, beside those of all requests.
    const MORE: [&str; 14] = [
        "idempotency-key: a-key",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cookie: roost_session=0123456789abcdef; other=1",
        "origin: http://localhost",
        "sec-fetch-site: same-origin",
        "forwarded: for=192.0.2.60;proto=http",
        "x-forwarded-for: 192.0.2.1, 192.0.2.2",
        "x-request-id: 7",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol: bearer, token",
        "accept: */*",
    ];
    let target = Target::start();
    target.bear_requests(
        "fuzzed headers",
        |_| true,
        |dice, request| {
            let mut lines: Vec<Vec<u8>> =
                request.headers.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec()).collect();
            lines.retain(|line| !line.is_empty());
            for _ in 0..dice.below(8) {
                lines.insert(dice.below(lines.len() + 1), dice.pick(&MORE).into());
            }
            for _ in 0..=dice.below(2) {
                let place = dice.below(lines.len());
                lines[place] = mutated_line(dice, &lines[place]);
            }
            // How long the body is stays true: else a request waits for what never comes (see `bounded`).
            lines.retain(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with(b"expect"));
            request.headers = lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect();
        },
    );
}

#[test]
fn no_body_that_is_json_is_a_fault_of_the_server() {
    let target = Target::start();
    let requests: Vec<_> = target.requests().into_iter().filter(|request| !request.body.is_empty()).collect();
    let sampled = (0..requests.len(), json());
    let cases = variable("ROOST_TEST_FUZZ", 10_000);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let wire = RefCell::new(None);
    let outcome = runner.run(&sampled, |(place, body)| {
        let request = Request { body: body.to_string().into_bytes(), ..requests[place].clone() };
        let mut connection =
            wire.borrow_mut().take().unwrap_or_else(|| Wire::connect(&target.server.authority()));
        connection.write(&request.bytes());
        let Some(answer) = connection.answer(false) else {
            return Err(TestCaseError::fail("no answer"));
        };
        if let Some(objection) = answer.objection() {
            return Err(TestCaseError::fail(format!("{objection}: {answer:?}")));
        }
        if !answer.ends_the_connection() {
            *wire.borrow_mut() = Some(connection);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    target.is_well();
}

/// Any JSON, its names and texts more often than not such as a body has.
fn json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("content"),
        Just("post_ids"),
        Just("username"),
        Just("refresh_token"),
        Just("email"),
        Just("password")
    ];
    let name = prop_oneof![4 => names.prop_map(str::to_owned), 1 => any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<u128>().prop_map(|id| Value::from(uuid::Uuid::from_u128(id).to_string())),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            btree_map(name.clone(), inner, 0..4)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

fn split(target: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let query = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    (target[..query].to_vec(), target[query..].to_vec())
}
