//! Random presses, viewers, repeats, resets, hosts that come, go and acknowledge, and restarts, against a model that is a few
//! numbers: every answer and every effect is the model's.

use crate::harness::app::TestApp;
use crate::harness::dice::Dice;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::room::number;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// What can be pressed.
const TYPES: [(&str, u64); 3] = [("skill1", 5), ("enemy1", 9), ("enemy2", 1)];
/// Steps of a run.
const STEPS: usize = 400;

/// The room as it must be.
#[derive(Default)]
struct Model {
    counts: [u64; 3],
    /// Who pressed since the room was taken.
    viewers: BTreeSet<usize>,
    /// Effects that the host has not acknowledged, oldest first.
    effects: VecDeque<Value>,
    seq: u64,
    /// Up to here the host has acknowledged.
    acknowledged: u64,
    /// Presses under an id, and what they were answered.
    answered: Vec<(Value, Value)>,
}

impl Model {
    fn required(&self, place: usize) -> u64 {
        let hundredths = match self.viewers.len() {
            0..=5 => 100,
            6..=10 => 120,
            11..=20 => 150,
            _ => 200,
        };
        (TYPES[place].1 * hundredths).div_ceil(100).clamp(3, 100)
    }

    fn press(&mut self, room: &str, place: usize, viewer: usize) -> Value {
        let required = self.required(place);
        self.viewers.insert(viewer);
        self.counts[place] += 1;
        let (count, viewers) = (self.counts[place], self.viewers.len());
        let is_effect = count >= required;
        if is_effect {
            self.counts[place] = 0;
            self.seq += 1;
            self.effects.push_back(json!({
                "type": "game_event", "room_id": room, "event_type": TYPES[place].0, "trigger_count": count,
                "viewer_count": viewers, "seq": self.seq,
            }));
        }
        json!({
            "event_type": TYPES[place].0, "current_count": count, "required_count": required,
            "effect_triggered": is_effect, "viewer_count": viewers, "next_threshold": self.required(place),
        })
    }

    fn acknowledge(&mut self, seq: u64) {
        self.acknowledged = self.acknowledged.max(seq);
        self.effects.retain(|effect| number(effect, "seq") > seq);
    }
}

/// The room's host, one that acknowledges, which it says when it comes.
struct Host {
    client: TestClient,
    /// The newest that it heard on this connection.
    heard: u64,
}

impl Host {
    async fn comes(ann: &Person, room: &str) -> Self {
        let mut client = ann.hosts(room).await;
        client.says(json!({"type": "ack", "seq": 0})).await;
        Self { client, heard: 0 }
    }

    /// Hears what it has not on this connection. What it acknowledged before a restart may come again.
    async fn hears(&mut self, model: &Model) {
        for effect in &model.effects {
            while self.heard < number(effect, "seq") {
                let frame = self.client.frame().await;
                self.heard = number(&frame, "seq");
                if self.heard > model.acknowledged {
                    assert_eq!(frame, *effect);
                }
            }
        }
    }

    async fn acknowledges(&mut self, model: &mut Model, seq: u64) {
        self.client.says(json!({"type": "ack", "seq": seq})).await;
        self.client.pings().await;
        model.acknowledge(seq);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_every_answer_and_every_effect_is_the_models() {
    let mut dice = Dice::thrown("a room and its model");
    let mut app = TestApp::start().await;
    let ann = app.person("ann").await;
    let bases: Vec<_> = TYPES.iter().map(|(name, base)| (*name, *base as u32)).collect();
    let room = ann.makes_room_of(&bases).await;
    let (mut model, mut host) = (Model::default(), None);
    for step in 0..STEPS {
        match dice.below(100) {
            0..=74 => {
                let (place, viewer) = (dice.below(TYPES.len()), dice.below(24));
                let mut press =
                    json!({"event_type": TYPES[place].0, "viewer_id": format!("viewer {viewer}")});
                let is_named = dice.one_in(3);
                if is_named {
                    press["press_id"] = json!(format!("press {step}"));
                }
                let expected = model.press(&room, place, viewer);
                assert_eq!(
                    app.asks_to_press(&room, press.clone()).await.expect(200),
                    expected,
                    "step {step}"
                );
                if is_named {
                    model.answered.push((press, expected));
                }
            }
            75..=84 if !model.answered.is_empty() => {
                let (press, expected) = &model.answered[dice.below(model.answered.len())];
                let answer = app.asks_to_press(&room, press.clone()).await.expect(200);
                assert_eq!(answer, *expected, "sent again at step {step}");
            }
            85..=87 => {
                ann.call("POST", &format!("/api/rooms/{room}/reset")).await.expect(204);
                model.counts = [0; 3];
            }
            88..=90 => drop(host.take()),
            91..=95 => {
                let host = match &mut host {
                    Some(host) => host,
                    none => none.insert(Host::comes(&ann, &room).await),
                };
                host.hears(&model).await;
                let first = model.effects.front().map(|effect| number(effect, "seq"));
                if let Some(first) = first {
                    let seq = first + dice.below((model.seq - first + 1) as usize) as u64;
                    host.acknowledges(&mut model, seq).await;
                }
            }
            96..=97 => {
                drop(host.take());
                app.restart().await;
                model.viewers.clear();
            }
            _ => {
                let counts: Vec<u64> = app.counts(&room).await.into_iter().map(|(_, count)| count).collect();
                assert_eq!(counts, model.counts, "step {step}");
            }
        }
    }
    // Whoever comes last hears all that is left.
    drop(host.take());
    let mut host = Host::comes(&ann, &room).await;
    host.hears(&model).await;
    assert_eq!(app.counts(&room).await.into_iter().map(|(_, count)| count).collect::<Vec<_>>(), model.counts);
}
