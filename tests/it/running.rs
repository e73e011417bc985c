//! Running the real program: how it starts, tells of itself, stops, is backed up and looked after.

mod backup;
mod copy;
mod events;
mod logs;
mod start;
mod stop;
mod tls;
mod unread;

use crate::harness::child::RealServer;
use crate::harness::rest::Rest;
use crate::harness::until;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_in_one_line_where_it_listens_and_is_healthy() {
    let server = RealServer::start();
    assert!(server.greeting.contains("http://127.0.0.1:"), "{}", server.greeting);
    assert!(server.more_lines().is_empty(), "one line");
    assert_eq!(server.get("/health/live").await.expect(200)["status"], "ok");
    server.get("/health/ready").await.expect(200);
    let health = server.get("/health").await.expect(200);
    assert_eq!((&health["status"], &health["role"]), (&json!("ok"), &json!("all")));
    assert!(health["dependencies"]["store"]["state"].is_string() && health["version"].is_string());
}

/// The value of a metric's line that begins so.
fn value(metrics: &str, line: &str) -> Option<f64> {
    metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_answer_an_operators_questions() {
    let server = RealServer::start();
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    eve.follows(&ann).await;
    let mut listening = eve.connects().await;
    let post = ann.posts("hello").await;
    listening.expect_post(&post).await;
    let delivered = async || {
        let metrics = server.get("/metrics").await;
        let found = value(&metrics.text, "roost_sessions ") == Some(1.0)
            && value(&metrics.text, "roost_deliveries_total ") == Some(1.0);
        found.then_some(metrics.text)
    };
    let metrics = until("the session and the delivery are counted", delivered).await;
    for name in [
        "roost_delivery_seconds_bucket",
        "roost_jobs_waiting{",
        "roost_job_oldest_seconds",
        "roost_store_seconds_bucket",
        "roost_actors{",
        "roost_queue_length{",
        "roost_http_requests_total{",
        "roost_http_request_seconds_bucket",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let mut described = 0;
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let help = [base, name].iter().any(|name| metrics.contains(&format!("# HELP {name} ")));
        assert!(help, "{name} says what it is");
        // A label never has what a client may invent.
        assert!(!line.contains(&ann.id) && !line.contains(&post) && !line.contains("?"), "{line}");
        described += 1;
    }
    assert!(described > 10);
    drop(listening);
    let closed = async || {
        let metrics = server.get("/metrics").await.text;
        metrics.contains("roost_closes_total{").then_some(())
    };
    until("the end is counted", closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_can_be_served_alone() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = RealServer::with(&[("ROOST_METRICS_LISTEN", &free.to_string())]);
    server.get("/metrics").await.refused(404, "not_found");
    let alone = Rest::to(&format!("http://{free}"));
    let metrics = alone.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.contains("roost_"), "{}", metrics.text);
    assert_eq!(alone.get("/timeline").await.status, 404, "nothing else is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_truncated_and_half_closed_connections_end_in_bounded_time() {
    use crate::harness::raw::RawSocket;
    let server = RealServer::start();
    let ann = server.person("ann").await;
    let began = std::time::Instant::now();
    // Half a head, then nothing; half a body, then the end; an end before anything.
    let mut half_heads = Vec::new();
    for _ in 0..200 {
        let mut half_head = RawSocket::connect(&server).await;
        half_head.write(b"GET /timeline HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        half_heads.push(half_head);
    }
    let mut half_body = RawSocket::connect(&server).await;
    let head = format!(
        "POST /posts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"con",
        ann.token
    );
    half_body.write(head.as_bytes()).await;
    half_body.end_writing().await;
    let mut nothing = RawSocket::connect(&server).await;
    nothing.end_writing().await;

    let answer = String::from_utf8_lossy(&half_body.rest().await).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(nothing.rest().await.is_empty());
    assert!(ann.timeline().await.is_empty(), "others are answered meanwhile");
    for mut half_head in half_heads {
        let answer = String::from_utf8_lossy(&half_head.rest().await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(began.elapsed().as_secs() < 18, "a head has 10 s: {:?}", began.elapsed());
}
