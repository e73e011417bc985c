//! Nonsense: whatever is sent, the answer is no fault of the server's but says what was wrong, and nothing of
//! it stays in memory. Requests and frames that are right are changed by a seeded mutator, and made up by
//! proptest; they go to a real process. `ROOST_TEST_FUZZ` says how many of each (10,000), `ROOST_TEST_SEED`
//! repeats a run's choices. What is slow, cut off or half closed is in [`bounded`].

mod bounded;
mod frames;
mod mutator;
mod requests;
mod wire;

use crate::harness::child::RealServer;
use crate::harness::dice::variable;
use crate::harness::person::Person;
use serde_json::json;
use tokio::runtime::Runtime;

/// After so many of the first, all that is kept for good (caches, pools) is there.
const WARMING_UP: usize = 4;
/// So much more memory may be taken by 10,000, in KiB: less than half a KiB by each.
const GROWTH: u64 = 4 * 1024;

/// A server with a person, and others to name.
struct Target {
    server: RealServer,
    person: Person,
    other: Person,
    post: String,
    cursor: String,
}

impl Target {
    fn start() -> Self {
        let mut server = RealServer::with(&[("ROOST_HEARTBEAT_SECONDS", "600")]);
        let target = Runtime::new().expect("a runtime").block_on(async {
            let (person, other) = (server.person("fay").await, server.person("gil").await);
            for number in 0..3 {
                person.posts(&format!("post {number}")).await;
            }
            let post = other.posts("to be liked").await;
            person.follows(&other).await;
            let page = person.get("/timeline?limit=1").await.expect(200);
            let cursor = page["next_cursor"].as_str().expect("more than one").to_owned();
            (person, other, post, cursor)
        });
        // What it took to hash passwords would hide what is taken later.
        server.kill();
        server.spawn();
        let (person, other, post, cursor) = target;
        Self { server, person, other, post, cursor }
    }

    /// Sends many; whatever was in memory after the first of them is about all that ever is.
    fn bear(&self, mut send: impl FnMut()) {
        let count = variable("ROOST_TEST_FUZZ", 10_000);
        (0..count / WARMING_UP).for_each(|_| send());
        let warm = self.server.resident_kib();
        (count / WARMING_UP..count).for_each(|_| send());
        let after = self.server.resident_kib();
        println!("{count} sent; memory: {warm} KiB, then {after} KiB");
        let allowed = GROWTH * (count as u64).div_ceil(10_000);
        assert!(after <= warm + allowed, "memory grew from {warm} to {after} KiB");
        self.is_well();
    }

    /// It goes on as if nothing had been.
    fn is_well(&self) {
        assert!(!self.server.log().contains("panicked"), "something panicked");
        assert!(!self.server.log().contains("\"ERROR\""), "something failed");
        Runtime::new().expect("a runtime").block_on(async {
            let batch = json!({"post_ids": [self.post]});
            self.person.post("/posts/batch", batch).await.expect(200);
            let mut listening = self.other.connects().await;
            let post = self.other.posts("all is well").await;
            listening.expect_post(&post).await;
        });
    }
}
