//! A server that is killed while a crowd presses: no press that was answered is lost, none is counted twice.

use crate::harness::child::RealServer;
use crate::harness::game::Game;
use crate::harness::room::number;
use rusqlite::Connection;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_press_is_lost_or_counted_twice_when_its_server_is_killed() {
    let mut server = RealServer::start();
    let ann = server.person("ann").await;
    let game = Game::begins(vec![(*server).clone()], ann, 24, Duration::ZERO).await;
    for _ in 0..3 {
        game.presses(200).await;
        server.kill();
        server.spawn();
    }
    game.presses(100).await;
    game.settle().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_press_is_answered_before_it_is_stored() {
    /// A press that waits for nothing is answered by then.
    const SOON: Duration = Duration::from_secs(1);
    let mut server = RealServer::start();
    if !server.stands_alone() {
        return;
    }
    let room = server.person("ann").await.makes_room_of(&[("jump", 7)]).await;
    server.presses(&room, "jump", "one").await;
    let store = Connection::open(server.data_dir().join("roost.db")).expect("the database");
    store.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes from now on");
    let press = json!({"event_type": "jump", "viewer_id": "one", "press_id": "a"});
    let answer = timeout(SOON, server.asks_to_press(&room, press.clone()).attempt()).await;
    assert!(!matches!(&answer, Ok(Ok(answer)) if answer.status == 200), "{answer:?}");
    server.kill();
    store.execute_batch("ROLLBACK").expect("it goes on");
    server.spawn();
    let answered = server.asks_to_press(&room, press).await.expect(200);
    assert_eq!(number(&answered, "current_count"), 2);
    assert_eq!(server.counts(&room).await, [("jump".to_owned(), 2)]);
}
