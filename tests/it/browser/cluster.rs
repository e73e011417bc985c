//! Three nodes behind one address, of which the one that serves the tabs leaves.

use super::page::Tabs;
use super::talk::{Talker, are_heard_elsewhere, end};
use crate::harness::browser::Browser;
use crate::harness::cluster::TestCluster;
use crate::harness::fault_proxy::{FaultProxy, Mode};

/// What is seen in so many messages.
const SOME: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_keep_a_conversation_while_their_node_leaves() {
    let Some(browser) = Browser::start().await else { return };
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let (ann, bob) = (cluster.person(1, "ann").await, cluster.person(2, "bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let way = FaultProxy::to(&cluster.doors()[0].authority()).await;
    let tabs = Tabs::open(browser, &format!("http://{}", way.address())).await;
    tabs.listen(Some(&bob.token)).await;
    let doors = cluster.doors();
    let talkers = [&ann, &bob].map(|person| Talker::begins(person, &doors, &conversation));
    tabs.show(SOME).await;

    cluster.asks_to_leave(0);
    tabs.until_one("a tab is sent away", |page| page["kinds"]["reconnect"] == 1).await;
    // From here on another node is behind the address. Who comes meanwhile is not let in.
    way.leads_to(&doors[1].authority());
    tabs.until("both were sent away", |page| page["kinds"]["reconnect"] == 1).await;
    way.set(Mode::Cut).await;
    let mut elsewhere = bob.streams().await;
    are_heard_elsewhere(&bob, &mut elsewhere, SOME).await;
    way.set(Mode::Pass).await;
    let seen = bob.reads_history(&conversation, 100).await.len();
    tabs.show(seen + SOME).await;

    cluster.heal().await;
    cluster.is_whole().await;
    let seen = bob.reads_history(&conversation, 100).await.len();
    tabs.show(seen + SOME).await;
    end(talkers.into(), &bob, &conversation).await;
    tabs.show_all(&bob, &conversation).await;
    for page in tabs.report().await {
        println!("came {} times, of that anew {}", page["opened"], page["reopened"]);
    }
}
