//! Nodes of which some only answer calls and some only hold sockets: homes are on all of them.

use crate::harness::cluster::TestCluster;
use crate::harness::rest::text;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_different_roles_are_one_server() {
    let Some(mut cluster) = TestCluster::prepare(3).await else { return };
    for (node, role) in ["api", "realtime", "all"].into_iter().enumerate() {
        cluster.set_on(node, "ROOST_ROLE", role);
    }
    cluster.spawn_all();
    // Homes are where the view is, whatever the role.
    cluster.is_whole().await;
    let (api, realtime) = (0, 1);
    let ann = cluster.person(api, "ann").await;
    let bob = cluster.person(api, "bob").await;
    let there = bob.at(&cluster.node(realtime).server);
    let mut hears = there.connects().await;
    bob.follows(&ann).await;
    let posts = [ann.posts("first").await, ann.at(&cluster.node(2).server).posts("second").await];
    for post in &posts {
        assert_eq!(text(&hears.expect("newPost").await, "id"), *post);
    }
    bob.refused_upgrade("").await.refused(421, "wrong_role");
    there.asks_to_post("no").await.refused(421, "wrong_role");
}
