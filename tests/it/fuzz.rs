//! Bad input: mutated requests and frames bring no 5xx, no panic and no growth of memory, and each refusal
//! is a problem+json or an `error` frame. `ROOST_TEST_FUZZ` of each (10,000); `ROOST_TEST_SEED` repeats.

mod mutation;
mod request;

use crate::harness::chance::{Chance, number};
use crate::harness::child::RealServer;
use crate::harness::person::Person;
use crate::harness::raw::{RawSocket, masked};
use crate::harness::rest::Rest;
use mutation::{mutate_bytes, mutate_text};
use request::{Reply, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What memory may grow by between the first quarter of a run and its end.
const GROWTH_KIB: u64 = 24 * 1024;
/// Connections that send at once.
const AT_ONCE: usize = 4;

/// Runs `part` for each quarter of the tries, several at once, and holds memory and the log to the promise.
/// Answers how many requests were answered with each status.
async fn run<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    part: impl Fn(Rest, Person, usize, Chance) -> F,
) -> BTreeMap<String, u64> {
    let mut chance = Chance::for_test(name);
    let server = RealServer::with(&[("ROOST_OUTBOX_BYTES", "65536")]);
    let ann = server.person("ann").await;
    let mut warm = 0;
    for quarter in 0..4 {
        let tries = number("ROOST_TEST_FUZZ", 10_000).div_ceil(4 * AT_ONCE);
        let parts: Vec<_> = (0..AT_ONCE)
            .map(|_| tokio::spawn(part(Rest::clone(&server), ann.clone(), tries, chance.split())))
            .collect();
        for part in parts {
            part.await.expect("no try failed");
        }
        if quarter == 0 {
            warm = server.resident_kib();
        }
    }
    let end = server.resident_kib();
    println!("{name}: {warm} KiB after a quarter, {end} KiB in the end");
    assert!(end < warm + GROWTH_KIB, "memory grew from {warm} KiB to {end} KiB");
    let log = server.log();
    assert!(!log.contains("panic"), "{log}");

    // It is as good as before.
    let eve = server.person("eve").await;
    let mut listening = eve.connects().await;
    let post = eve.posts("still here").await;
    listening.expect_post(&post).await;
    let metrics = server.get("/metrics").await.text;
    let answered = metrics.lines().filter(|line| line.starts_with("roost_http_requests_total{"));
    let mut by_status = BTreeMap::<String, u64>::new();
    for line in answered {
        let status = line.split("status=\"").nth(1).and_then(|rest| rest.split('"').next());
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        *by_status.entry(status.unwrap_or_default().to_owned()).or_default() += count.unwrap_or(0);
    }
    println!("{name}: answers by status: {by_status:?}");
    assert!(by_status.keys().all(|status| ("100".."500").contains(&status.as_str())), "{by_status:?}");
    by_status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_requests_are_refused_in_words_and_break_nothing() {
    let by_status = run("fuzz requests", |rest, ann, tries, mut chance| async move {
        let post = ann.posts("a post to be asked for").await;
        let mut socket = None;
        for _ in 0..tries {
            let mut request = Request::seed(&ann, &post, &mut chance);
            request.mutate(&mut chance);
            if chance.once_in(20) {
                // The bytes themselves: it need not be a request any more.
                let bytes = mutate_bytes(request.bytes(&rest.authority()), &mut chance);
                let mut raw = RawSocket::connect(&rest).await;
                raw.write_lossy(&bytes).await;
                raw.end_writing().await;
                for status in request::statuses(&raw.rest().await) {
                    assert!(status < 500, "{status} to {:?}", String::from_utf8_lossy(&bytes));
                }
                continue;
            }
            let mut raw = match socket.take() {
                Some(raw) => raw,
                None => RawSocket::connect(&rest).await,
            };
            raw.write_lossy(&request.bytes(&rest.authority())).await;
            let reply = Reply::read(&mut raw, &request).await;
            check(&request, &reply);
            if reply.goes_on {
                socket = Some(raw);
            }
        }
    })
    .await;
    // It was no monologue: much was refused, for many reasons, and much was still fine.
    for status in ["200", "201", "204", "400", "401", "404", "405", "413", "415", "426"] {
        assert!(by_status.contains_key(status), "never {status}: {by_status:?}");
    }
}

/// Refusals that are made below the level of requests that could be parsed.
const UNPARSED: [u16; 4] = [400, 408, 414, 431];

fn check(request: &Request, reply: &Reply) {
    let said = || format!("{} {:?} to {request:?}", reply.status, String::from_utf8_lossy(&reply.body));
    assert!((200..500).contains(&reply.status), "{}", said());
    if reply.status < 400 || request.is_head() {
        return;
    }
    if reply.content_type.is_empty() {
        assert!(reply.body.is_empty() && UNPARSED.contains(&reply.status), "{}", said());
        return;
    }
    assert_eq!(reply.content_type, "application/problem+json", "{}", said());
    let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{}", said()));
    assert_eq!(problem["status"], reply.status, "{}", said());
    for name in ["type", "title", "detail", "instance", "code", "trace_id"] {
        assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {}", said());
    }
    let told = problem["detail"].as_str().unwrap_or_default().to_lowercase();
    for inside in ["sqlite", "select ", "panicked", ".rs:", "127.0.0.1"] {
        assert!(!told.contains(inside), "{}", said());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_frames_get_an_error_frame_or_a_close_and_break_nothing() {
    run("fuzz frames", |rest, ann, tries, mut chance| async move {
        let mut socket = None;
        for _ in 0..tries {
            let mut raw = match socket.take() {
                Some(raw) => raw,
                None => begun(&rest, &ann).await,
            };
            let seeds = [
                json!({"type": "ping"}).to_string(),
                json!({"type": "auth", "data": {"token": ann.token}}).to_string(),
                json!({"type": "newPost", "data": {"id": ann.id, "content": "x"}}).to_string(),
            ];
            let seed = &seeds[chance.below(seeds.len())];
            let payload = mutate_text(seed, &mut chance).into_bytes();
            if chance.once_in(10) {
                // Frames that break the protocol itself, or end in their middle.
                let whole = masked(!chance.once_in(4), *chance.pick(&[0, 1, 2, 3, 8, 9, 10, 15]), &payload);
                raw.write_lossy(&mutate_bytes(whole, &mut chance)).await;
                raw.end_writing().await;
                while let Some(frame) = raw.frame().await {
                    check_said(frame.opcode, &frame.payload);
                }
                continue;
            }
            let payload = if chance.once_in(4) { mutate_bytes(payload, &mut chance) } else { payload };
            let opcode = if chance.once_in(8) { 2 } else { 1 };
            raw.write_lossy(&masked(true, opcode, &payload)).await;
            raw.write_lossy(&masked(true, 1, br#"{"type":"ping"}"#)).await;
            if answered(&mut raw, &payload).await {
                socket = Some(raw);
            }
        }
    })
    .await;
}

/// A connection that has said its first frame.
async fn begun(rest: &Rest, ann: &Person) -> RawSocket {
    let mut raw = RawSocket::upgrade(rest, &ann.token, None).await;
    let first = raw.frame().await.expect("the first frame");
    assert!(first.payload.starts_with(br#"{"type":"connected""#));
    raw
}

/// Reads the answer to a frame and to the ping behind it; whether the connection goes on.
async fn answered(raw: &mut RawSocket, payload: &[u8]) -> bool {
    let mut answers = 0;
    while answers < 2 {
        let Some(frame) = raw.frame().await else { return false };
        check_said(frame.opcode, &frame.payload);
        match frame.opcode {
            1 => answers += 1,
            8 => {
                // Only what is not UTF-8, or too long, is not answered by a frame.
                let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                let fitting = match code {
                    1007 => std::str::from_utf8(payload).is_err(),
                    4413 => payload.len() > 16 * 1024,
                    _ => false,
                };
                assert!(fitting, "{code} after {:?}", String::from_utf8_lossy(payload));
                return false;
            }
            _ => {}
        }
    }
    true
}

fn check_said(opcode: u8, payload: &[u8]) {
    match opcode {
        1 => {
            let frame: Value = serde_json::from_slice(payload).expect("frames are JSON");
            let kind = frame["type"].as_str().expect("with a type");
            assert!(["pong", "error", "authenticated", "newPost"].contains(&kind), "{frame}");
            if kind == "error" {
                assert!(frame["data"]["code"].is_string() && frame["data"]["detail"].is_string(), "{frame}");
            }
        }
        8 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            assert_ne!(code, 1011, "our fault");
        }
        9 | 10 => {}
        other => panic!("a frame of kind {other}"),
    }
}
