//! Conversations whose participants are at different nodes, with streams there and sockets, while nodes die, leave and
//! hang: everybody is told of every message, in one order.

use crate::harness::cluster::TestCluster;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::soon;
use crate::harness::stream::message_ids;
use crate::harness::talk::Talk;
use futures_util::future::join_all;
use std::time::Duration;

/// Messages of each who talks.
const MESSAGES: usize = 30;
/// Between two of them.
const PACE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_streams_and_sockets_at_every_node_in_one_order() {
    let Some(cluster) = TestCluster::start(3).await else { return };
    let people = people(&cluster, "together").await;
    let conversation = people[0].talks_with(&[&people[1], &people[2]]).await;
    let mut streams = join_all(people.iter().map(Person::streams)).await;
    // A second tab, at another node.
    streams.push(people[0].at(&cluster.doors()[1]).streams().await);
    let mut socket = people[1].at(&cluster.doors()[2]).connects().await;
    // It answers pings only while it is read.
    let on_socket = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() <= 3 * MESSAGES {
            heard.push(text(&socket.expect("chatMessage").await, "messageId"));
        }
        heard
    });
    let talking = people.iter().map(async |person| {
        for number in 0..MESSAGES {
            person.says(&conversation, &format!("number {number}")).await;
        }
    });
    join_all(talking).await;
    let last = people[0].says(&conversation, "the last").await;
    let all = message_ids(&people[2].reads_history(&conversation, 100).await);
    assert_eq!((all.len(), all.last()), (3 * MESSAGES + 1, Some(&last)));
    for stream in &mut streams {
        assert_eq!(soon("all messages", stream.messages_until(&last)).await, all);
    }
    assert_eq!(soon("all messages on the socket", on_socket).await.expect("it listens"), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_a_message_while_nodes_die_hang_and_leave() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    for (node, fault) in ["killed", "hangs", "leaves"].into_iter().enumerate() {
        let talk = Talk::begins(cluster.doors(), fault, PACE).await;
        talk.says(MESSAGES).await;
        match fault {
            "killed" => cluster.kill9(node),
            "hangs" => cluster.stop(node),
            _ => cluster.asks_to_leave(node),
        }
        talk.says(MESSAGES).await;
        cluster.heal().await;
        cluster.is_whole().await;
        println!("{fault}:");
        talk.settle().await.must_be_clean();
    }
}

/// One at each node.
async fn people(cluster: &TestCluster, name: &str) -> Vec<Person> {
    let people = (0..3).map(|node| (node, format!("{name}-{node}")));
    let mut made = Vec::new();
    for (node, name) in people {
        made.push(cluster.person(node, &name).await);
    }
    made
}
