//! What of a peer is hard to bring about by connections.

use super::super::LinkOptions;
use super::super::wire::{begin_batch, put_frame};
use super::*;
use crate::secret::Secret;
use crate::timing::Timing;
use crate::view::{Member, State, ViewRecord};
use bytes::BytesMut;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

fn node(name: &str) -> Node {
    Node { name: NodeName::parse(name).unwrap(), boot: Boot::new(1) }
}

fn view(number: u64, names: &[&str]) -> ViewRecord {
    let member = |name: &&str| Member { node: node(name), state: State::Up, address: String::new() };
    ViewRecord { number, maker: Boot::new(1), members: names.iter().map(member).collect() }
}

/// The hub of `a`, with `b` as its peer, connected by an end of which nothing is read.
fn connected() -> (Arc<Hub>, Arc<Peer>, Writing, mpsc::UnboundedReceiver<Item>) {
    let (queue, queued) = mpsc::unbounded_channel();
    let options = LinkOptions {
        me: node("a"),
        cluster: "test".to_owned(),
        secret: Secret::new(b"secret"),
        tls: None,
        window: 1 << 20,
        routes: BTreeMap::new(),
        timing: Timing::default(),
    };
    let hub = Arc::new(Hub::new(options, queue));
    let peer = hub.know(&[(node("b"), String::new())]).unwrap().remove(0);
    let theirs = Identity {
        cluster: "test".to_owned(),
        node: node("b"),
        sends: Place { incarnation: 7, number: 1 },
        receives: None,
    };
    let writing = peer.connect(&hub, true, &peer.identity(&hub), &theirs).unwrap();
    (hub, peer, writing, queued)
}

fn batch(first: u64) -> Message {
    let mut bytes = BytesMut::new();
    begin_batch(&mut bytes, first, 1);
    put_frame(&mut bytes, Kind::Plain, b"", b"frame");
    Message::parse(bytes.freeze()).unwrap()
}

fn batches(queued: &mut mpsc::UnboundedReceiver<Item>) -> usize {
    std::iter::from_fn(|| queued.try_recv().ok()).filter(|item| matches!(item, Item::Batch(..))).count()
}

#[tokio::test]
async fn frames_are_taken_while_their_node_is_in_the_view_only() {
    let (hub, peer, writing, mut queued) = connected();
    peer.hear(&hub, writing.line(), batch(1)).unwrap();
    assert_eq!(batches(&mut queued), 0, "there is no view yet");
    hub.adopt(view(1, &["a"]));
    peer.hear(&hub, writing.line(), batch(1)).unwrap();
    assert_eq!(batches(&mut queued), 0, "it is not in the view");
    hub.adopt(view(2, &["a", "b"]));
    peer.hear(&hub, writing.line(), batch(1)).unwrap();
    assert_eq!(batches(&mut queued), 1, "it is in the view");
}

#[tokio::test]
async fn what_comes_on_a_connection_that_was_replaced_is_passed_over() {
    let (hub, peer, writing, mut queued) = connected();
    hub.adopt(view(1, &["a", "b"]));
    peer.hear(&hub, writing.line() + 1, batch(1)).unwrap();
    assert_eq!(batches(&mut queued), 0);
}

#[tokio::test]
async fn with_nobody_who_listens_nothing_is_acknowledged_nor_stuck() {
    let (hub, peer, writing, queued) = connected();
    hub.adopt(view(1, &["a", "b"]));
    drop(queued);
    peer.hear(&hub, writing.line(), batch(1)).unwrap();
    assert_eq!(peer.state().incoming.as_mut().unwrap().acknowledge(), None);
}
