//! Many conversations at once to one user, whose streams come and go: nothing is lost, and order is kept.

use crate::harness::app::TestApp;
use crate::harness::dice::Dice;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::soon;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use tokio::sync::watch;

const CONVERSATIONS: usize = 50;
const MESSAGES: usize = 20;
const STREAMS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_conversations_at_once_lose_nothing_on_streams_that_come_and_go() {
    let mut dice = Dice::thrown("conversations");
    let app = TestApp::start().await;
    let bob = app.person("bob").await;
    let names: Vec<_> = (0..CONVERSATIONS).map(|number| format!("friend-{number}")).collect();
    let mut friends = Vec::new();
    for name in &names {
        let friend = app.person(name).await;
        let conversation = friend.talks_with(&[&bob]).await;
        friends.push((friend, conversation));
    }
    let place = bob.streams().await.cut();
    let (over, is_over) = watch::channel(None);
    let listening: Vec<_> = (0..STREAMS)
        .map(|_| tokio::spawn(listens(bob.clone(), place.clone(), dice.split(), is_over.clone())))
        .collect();

    let talking = friends.iter().map(async |(friend, conversation)| {
        let mut sent = Vec::new();
        for number in 0..MESSAGES {
            sent.push(friend.says(conversation, &number.to_string()).await);
        }
        (conversation.clone(), sent)
    });
    let sent: HashMap<_, _> = soon("everything is sent", join_all(talking)).await.into_iter().collect();
    over.send_replace(Some(sent.values().map(Vec::len).sum()));
    for one in listening {
        let told = soon("everything is told", one).await.expect("it listens");
        for (conversation, sent) in &sent {
            assert_eq!(told.get(conversation), Some(sent), "of {conversation}");
        }
    }
}

/// Listens, on streams that it cuts at random, until it was told of so many; answers what it was told, by conversation.
async fn listens(
    person: Person,
    mut place: String,
    mut dice: Dice,
    mut is_over: watch::Receiver<Option<usize>>,
) -> HashMap<String, Vec<String>> {
    let (mut told, mut known): (HashMap<String, Vec<String>>, HashSet<String>) = Default::default();
    loop {
        let mut stream = person.streams_from(&place).await;
        for _ in 0..dice.below(40) {
            let data = tokio::select! {
                data = stream.expect("message") => data,
                _ = is_over.wait_for(|all| all.is_some_and(|all| known.len() == all)) => return told,
            };
            // One who comes back with its place is told nothing twice, either, while the server lives.
            assert!(known.insert(text(&data, "messageId")), "told before: {data}");
            told.entry(text(&data, "conversationId")).or_default().push(text(&data, "messageId"));
        }
        place = stream.cut();
    }
}
