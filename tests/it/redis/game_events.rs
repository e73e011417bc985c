//! Effects of rooms on the channel `game_events`, for other programs; nothing depends on it.

use super::{app_on, mends};
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::rest::Rest;
use crate::harness::room::number;
use crate::harness::{soon, until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tokio::sync::mpsc;

/// `redis-cli SUBSCRIBE game_events`; ends with this.
struct Subscriber {
    lines: mpsc::UnboundedReceiver<String>,
    program: Child,
}

impl Subscriber {
    async fn on(redis: &RedisServer) -> Self {
        let mut program = Command::new("redis-cli")
            .args(["-u", &redis.url(), "SUBSCRIBE", "game_events"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-cli");
        let words = BufReader::new(program.stdout.take().expect("its words"));
        let (line, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            words.lines().map_while(Result::ok).try_for_each(|words| line.send(words))
        });
        let mut subscriber = Self { lines, program };
        for word in ["subscribe", "game_events", "1"] {
            assert!(subscriber.line().await.ends_with(word));
        }
        subscriber
    }

    async fn line(&mut self) -> String {
        soon("a line", self.lines.recv()).await.expect("another line")
    }

    /// The effect of that number; those before it may come late where Redis was away.
    async fn event_of(&mut self, seq: u64) -> Value {
        loop {
            let event = self.event().await;
            if number(&event, "seq") >= seq {
                return event;
            }
        }
    }

    async fn event(&mut self) -> Value {
        assert_eq!(self.line().await, "message");
        assert_eq!(self.line().await, "game_events");
        serde_json::from_str(&self.line().await).expect("JSON")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have ended with its Redis.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

async fn effect(app: &Rest, room: &str) {
    for _ in 0..3 {
        app.presses(room, "jump", "one").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_effect_is_published_and_again_after_redis_was_gone() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let app = app_on(&redis.url(), |_| {}).await;
    let ann = app.person("ann").await;
    let room = ann.makes_room_of(&[("jump", 3)]).await;
    let mut host = ann.hosts(&room).await;
    let mut subscriber = Subscriber::on(&redis).await;
    for _ in 0..2 {
        effect(&app, &room).await;
        assert_eq!(subscriber.event().await, host.frame().await);
    }
    redis.kill();
    effect(&app, &room).await;
    assert_eq!(number(&host.frame().await, "seq"), 3, "the host needs no Redis");
    redis.start_again().await;
    mends(&app).await;
    let mut subscriber = Subscriber::on(&redis).await;
    effect(&app, &room).await;
    assert_eq!(subscriber.event_of(4).await, host.frame().await);
    // The server's own subscription came back, too.
    let heard = until("the server hears it itself", async || {
        effect(&app, &room).await;
        let metrics = app.get("/metrics").await.text;
        let line =
            metrics.lines().find(|line| line.starts_with("roost_game_events_total{outcome=\"heard\"}"))?;
        let heard: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (heard > 2).then_some(heard)
    })
    .await;
    assert!(heard > 2);
}
