//! A reader that is too slow is closed at its outbox's bound and loses nothing by resuming.

use super::author_and_follower;
use crate::harness::app::TestApp;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::raw::RawSocket;
use serde_json::Value;

/// Bytes that may wait for a reader.
const BOUND: usize = 16_384;
/// Room that the reader asks its system for.
const ROOM: Option<u32> = Some(2048);
/// About the bytes of a frame with the longest post.
const FRAME: usize = 1400;
/// Posts that are made at once.
const BATCH: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_is_closed_with_4008_and_resumes_with_nothing_lost() {
    let app = TestApp::with(|config| config.outbox_bytes = BOUND).await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut fast = eve.connects().await;
    let mut slow = RawSocket::upgrade(&app, &eve.token, ROOM).await;
    let mut cursor = field(&slow.frame().await.unwrap().payload, "cursor");

    // Fills the system's buffers between the two, then the outbox.
    let enough = (RawSocket::buffers(ROOM).await + 8 * BOUND) / FRAME;
    let mut posts = Vec::new();
    while posts.len() < enough {
        posts.extend(batch(&ann, &mut fast).await);
    }

    let mut shown = Vec::new();
    let code = loop {
        let frame = slow.frame().await.expect("a close frame comes in the end");
        match frame.opcode {
            1 => {
                cursor = field(&frame.payload, "cursor");
                let post: Value = serde_json::from_slice(&frame.payload).unwrap();
                shown.push(post["data"]["id"].as_str().unwrap().to_owned());
            }
            8 => break u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
            _ => {}
        }
    };
    assert_eq!(code, 4008);
    assert!(shown.len() < posts.len(), "it was closed before everything was written");

    let last = ann.posts("last").await;
    let mut resumed = eve.resumes(&cursor).await;
    shown.extend(resumed.posts_until(&last).await);
    posts.push(last);
    shown.dedup();
    posts.sort_unstable();
    assert_eq!(shown, posts, "nothing is lost, and all is in order");
}

/// Posts of the greatest length, all of which the fast reader gets.
async fn batch(ann: &Person, fast: &mut TestClient) -> Vec<String> {
    let posting: Vec<_> = (0..BATCH)
        .map(|_| {
            let ann = ann.clone();
            tokio::spawn(async move { ann.posts(&"\u{1F426}".repeat(280)).await })
        })
        .collect();
    let mut posts = Vec::new();
    for post in posting {
        posts.push(post.await.expect("posting goes on"));
    }
    for _ in 0..BATCH {
        fast.expect("newPost").await;
    }
    posts
}

fn field(payload: &[u8], name: &str) -> String {
    let frame: Value = serde_json::from_slice(payload).expect("JSON");
    frame[name].as_str().expect("text").to_owned()
}
