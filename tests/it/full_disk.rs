//! A disk that is full, and one that cannot be written: posts are refused, all else goes on, and when there
//! is room it recovers by itself. The disk is a small one in memory that only the server sees; where such a
//! one cannot be made, the tests say that they were skipped.

use crate::harness::child::RealServer;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::rest::Answer;
use crate::harness::{skip, soon};
use rusqlite::Connection;
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A store that failed five times is left alone for 30 s; then it must have recovered.
const RECOVERY: Duration = Duration::from_secs(50);

/// A server whose data folder is a file system of its own; none where that is not allowed.
fn on_a_small_disk(test: &str, options: &str) -> Option<RealServer> {
    let probe = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            skip(test, String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Err(error) => {
            skip(test, &format!("unshare: {error}"));
            return None;
        }
    }
    let mut server = RealServer::prepare(&[]);
    let mount =
        format!("mkdir -p \"$0\" && mount -t tmpfs -o {options},mode=700 tmpfs \"$0\" && exec \"$@\"");
    let data_dir = server.data_dir().display().to_string();
    server.set_within(&["unshare", "-Urm", "sh", "-c", &mount, &data_dir]);
    Some(server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_posts_get_503_all_else_goes_on_and_room_is_taken_up_by_itself() {
    let test = "on_a_full_disk_posts_get_503_all_else_goes_on_and_room_is_taken_up_by_itself";
    let Some(mut server) = on_a_small_disk(test, "size=2m") else { return };
    server.spawn();
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    eve.follows(&ann).await;
    let mut listening = eve.connects().await;
    let mut answered = vec![ann.posts("while there is room").await];
    listening.expect_post(&answered[0]).await;

    let ballast = server.data_dir_inside().join("ballast");
    fill(&mut File::create(&ballast).expect("a file on the small disk"));
    // What the database has taken already it may still use up.
    let mut refused = 0;
    while refused < 6 {
        let answer = ann.asks_to_post(&"no room ".repeat(30)).await;
        match answer.status {
            201 => answered.push(made(&mut listening, answer).await),
            _ => {
                answer.refused(503, "unavailable");
                refused += 1;
            }
        }
    }

    // It has failed often enough to be left alone for a while, which its probes say ...
    server.get("/health/ready").await.refused(503, "not_ready");
    server.get("/health/live").await.expect(200);
    assert_eq!(server.get("/health").await.expect(200)["status"], "degraded");
    // ... and which nobody else notices who only reads or listens.
    listening.pings().await;
    reads(&eve, &answered).await;
    let cursor = eve.connects().await.cut();
    let mut resumed = eve.resumes(&cursor).await;
    resumed.pings().await;

    fs::remove_file(&ballast).expect("the ballast is there");
    let recovered = async {
        loop {
            let answer = ann.asks_to_post("room again").await;
            if answer.status == 201 {
                return answer;
            }
            answer.refused(503, "unavailable");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let answer = tokio::time::timeout(RECOVERY, recovered).await.expect("it recovers by itself");
    answered.push(made(&mut listening, answer).await);
    resumed.expect_post(answered.last().expect("posts")).await;
    server.get("/health/ready").await.expect(200);
    assert_eq!(server.get("/health").await.expect(200)["status"], "ok");
    reads(&eve, &answered).await;

    let database = Connection::open(server.data_dir_inside().join("roost.db")).expect("the database");
    let integrity: String =
        database.pragma_query_value(None, "integrity_check", |row| row.get(0)).expect("its integrity");
    assert_eq!(integrity, "ok");
}

#[test]
fn on_a_disk_that_cannot_be_written_it_does_not_start_and_says_so_in_one_line() {
    let test = "on_a_disk_that_cannot_be_written_it_does_not_start_and_says_so_in_one_line";
    let Some(server) = on_a_small_disk(test, "size=1m,ro") else { return };
    let mut child =
        server.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let status = child.wait().expect("it ends");
    let mut said = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&server.data_dir().display().to_string()), "{said}");
}

/// Takes what room there is.
fn fill(file: &mut File) {
    for size in [4096, 1] {
        while file.write(&vec![b'.'; size]).is_ok_and(|written| written > 0) {}
    }
}

/// The id of a post that was made, and heard of.
async fn made(listening: &mut TestClient, answer: Answer) -> String {
    let post = answer.expect(201)["id"].as_str().expect("an id").to_owned();
    listening.expect_post(&post).await;
    post
}

/// All that was answered can be read, and no more.
async fn reads(person: &Person, answered: &[String]) {
    let newest_first: Vec<_> = answered.iter().rev().cloned().collect();
    assert_eq!(soon("a timeline", person.timeline()).await, newest_first);
    let batch = person.post("/posts/batch", json!({"post_ids": answered})).await.expect(200);
    assert_eq!(batch["not_found"], json!([]));
}
