//! A full disk: posts are 503, reads and sessions go on, and it recovers by itself when there is room.
//! The data folder is a small tmpfs in a mount namespace of the server's own.

use crate::harness::child::RealServer;
use crate::harness::rest::text;
use crate::harness::soon;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Mounts the folder, leaves a file in the way of the data, and becomes the server.
const SCRIPT: &str = r#"mount -t tmpfs -o size=6m tmpfs "$ROOST_DATA_DIR" \
    && head -c 2m /dev/zero >"$ROOST_DATA_DIR/filler" && exec "$0" "$@""#;
/// A circuit that opened over the failures stays open for 30 s.
const RECOVERY: Duration = Duration::from_secs(60);

/// Whether this system lets us mount; where it must, a test that cannot run fails.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let refused = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("CI").is_none(), "a full disk cannot be tested here: {refused}");
    eprintln!("skipped: full_disk: unshare -Urm is not permitted here: {}", refused.trim());
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_posts_with_503_and_nothing_else_until_there_is_room() {
    if !can_mount() {
        return;
    }
    let mut server = RealServer::prepare(&[]);
    std::fs::create_dir(server.data_dir()).unwrap();
    server.begins_with(SCRIPT);
    server.spawn();
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    eve.follows(&ann).await;
    let mut listening = eve.connects().await;

    let long = "\u{1F426}".repeat(280);
    let mut posts = Vec::new();
    let refused = loop {
        let answer = ann.asks_to_post(&long).await;
        if answer.status != 201 {
            break answer;
        }
        posts.push(text(&answer.json, "id"));
        listening.expect_post(posts.last().unwrap()).await;
        assert!(posts.len() < 20_000, "6 MiB hold no 20 MB");
    };
    let problem = refused.refused(503, "unavailable");
    assert_eq!(problem["retryable"], true);
    assert!(posts.len() > 100, "it was full at once: {}", posts.len());
    for _ in 0..6 {
        ann.asks_to_post(&long).await.refused(503, "unavailable");
    }

    // Reads and sessions go on, new ones too.
    listening.pings().await;
    assert_eq!(eve.timeline().await[0], *posts.last().unwrap());
    eve.get(&format!("/posts/{}", posts[0])).await.expect(200);
    let mut resumed = eve.resumes(&listening.cursor).await;
    resumed.pings().await;
    let health = server.get("/health").await.expect(200);
    assert_ne!(health["status"], "ok", "{health}");
    server.get("/health/live").await.expect(200);

    // Room is made.
    let path = server.data_dir().join("filler");
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), path.display()));
    std::fs::remove_file(inside).unwrap();
    let began = Instant::now();
    let recovered = loop {
        let answer = ann.asks_to_post("there is room").await;
        match answer.status {
            201 => break text(&answer.json, "id"),
            status => assert_eq!(status, 503, "{}", answer.text),
        }
        assert!(began.elapsed() < RECOVERY, "it did not recover");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    listening.expect_post(&recovered).await;
    resumed.expect_post(&recovered).await;
    server.get("/health/ready").await.expect(200);

    // What was answered is all there; what was refused is not.
    let profile = ann.get(&format!("/users/{}", ann.id)).await.expect(200);
    assert_eq!(profile["posts_count"], posts.len() + 1);
    for some in posts.chunks(100) {
        let found = ann.post("/posts/batch", serde_json::json!({"post_ids": some})).await.expect(200);
        assert_eq!(found["not_found"], serde_json::json!([]));
    }
    server.signal(rustix::process::Signal::TERM);
    let left = soon("the clients are sent away", listening.closed()).await;
    assert_eq!(left, 1012);
}
