//! Whatever is done through one node is so on all of them.

use crate::harness::cluster::TestCluster;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_one_server() {
    let Some(cluster) = TestCluster::start(3).await else { return };
    a_post_through_any_node_reaches_everybody_in_order(&cluster).await;
    a_follow_through_one_node_is_live_on_the_others(&cluster).await;
    a_deletion_is_told_everywhere(&cluster).await;
    a_key_is_known_everywhere(&cluster).await;
    a_cursor_resumes_anywhere(&cluster).await;
    a_logout_closes_sockets_everywhere(&cluster).await;
}

/// Somebody, at each node.
fn everywhere(cluster: &TestCluster, person: &Person) -> Vec<Person> {
    cluster.doors().iter().map(|door| person.at(door)).collect()
}

async fn on_all(people: &[Person]) -> Vec<TestClient> {
    let mut all = Vec::new();
    for person in people {
        all.push(person.connects().await);
    }
    all
}

async fn has(person: &Person, expected: &[String]) {
    until("the timeline", async || (person.timeline().await == expected).then_some(())).await;
}

async fn a_post_through_any_node_reaches_everybody_in_order(cluster: &TestCluster) {
    let ann = everywhere(cluster, &cluster.person(0, "ann").await);
    let bob = everywhere(cluster, &cluster.person(1, "bob").await);
    bob[2].follows(&ann[0]).await;
    let mut sockets = on_all(&bob).await;
    let mut posts = Vec::new();
    for count in 0..30 {
        posts.push(ann[count % 3].posts(&format!("post {count}")).await);
    }
    assert!(posts.is_sorted(), "an author's ids grow, whichever node takes the post");
    for socket in &mut sockets {
        for post in &posts {
            socket.expect_post(post).await;
        }
    }
    posts.reverse();
    for there in bob.iter().chain(&ann) {
        has(there, &posts).await;
    }
}

async fn a_follow_through_one_node_is_live_on_the_others(cluster: &TestCluster) {
    let cid = everywhere(cluster, &cluster.person(2, "cid").await);
    let dan = everywhere(cluster, &cluster.person(0, "dan").await);
    let mut sockets = on_all(&dan).await;
    cid[0].posts("before").await;
    dan[1].follows(&cid[2]).await;
    for there in &cid {
        let post = there.posts("after").await;
        for socket in &mut sockets {
            socket.expect_post(&post).await;
        }
    }
    dan[2].unfollows(&cid[0]).await;
    cid[1].posts("unheard").await;
    for socket in &mut sockets {
        socket.pings().await;
    }
}

async fn a_deletion_is_told_everywhere(cluster: &TestCluster) {
    let eve = everywhere(cluster, &cluster.person(0, "eve").await);
    let fay = everywhere(cluster, &cluster.person(1, "fay").await);
    fay[0].follows(&eve[1]).await;
    let mut sockets = on_all(&fay).await;
    let post = eve[2].posts("not for long").await;
    eve[0].deletes(&post).await;
    for socket in &mut sockets {
        socket.expect_post(&post).await;
        socket.expect_deleted(&post).await;
    }
    for there in &fay {
        has(there, &[]).await;
    }
}

async fn a_key_is_known_everywhere(cluster: &TestCluster) {
    let gil = everywhere(cluster, &cluster.person(0, "gil").await);
    let asks = |there: &Person| there.asks_to_post("once").header("idempotency-key", "a-key");
    let first = text(&asks(&gil[0]).await.expect(201), "id");
    for there in &gil {
        assert_eq!(text(&asks(there).await.expect(201), "id"), first);
    }
}

async fn a_cursor_resumes_anywhere(cluster: &TestCluster) {
    let hal = everywhere(cluster, &cluster.person(0, "hal").await);
    let ida = everywhere(cluster, &cluster.person(1, "ida").await);
    ida[0].follows(&hal[0]).await;
    let mut cursor = ida[0].connects().await.cut();
    for round in 0..3 {
        let posts = [hal[0].posts("missed").await, hal[1].posts("missed too").await];
        let mut socket = ida[(round + 1) % 3].resumes(&cursor).await;
        // Repeats come first, if any do.
        let mut heard = socket.posts_until(&posts[1]).await;
        heard.retain(|post| posts.contains(post));
        assert_eq!(heard, posts);
        cursor = socket.cut();
    }
}

async fn a_logout_closes_sockets_everywhere(cluster: &TestCluster) {
    let jim = everywhere(cluster, &cluster.person(0, "jim").await);
    let sockets = on_all(&jim).await;
    jim[1].call("POST", "/auth/logout").await.expect(204);
    for mut socket in sockets {
        assert_eq!(socket.closed().await, 4401);
    }
    for there in &jim {
        there.get("/timeline").await.refused(401, "unauthorized");
    }
}
