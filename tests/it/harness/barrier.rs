//! Holds and breaks what passes a named instant of the delivery.

use super::soon;
use roost::actors::instant::{Instant, Instants};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// What is to happen at instants; each rule once.
#[derive(Clone, Default)]
pub struct Barriers(Arc<Mutex<Vec<(Instant, Rule)>>>);

enum Rule {
    Hold(oneshot::Sender<()>, oneshot::Receiver<()>),
    Panic,
}

/// One who will be held, or is.
pub struct Held {
    at: Instant,
    reached: Option<oneshot::Receiver<()>>,
    release: Option<oneshot::Sender<()>>,
}

impl Barriers {
    pub fn instants(&self) -> Instants {
        let barriers = self.clone();
        Instants::heard_by(move |instant| {
            let rule = barriers.take(instant);
            async move {
                match rule {
                    Some(Rule::Hold(reached, released)) => {
                        let _ = reached.send(());
                        let _ = released.await;
                    }
                    Some(Rule::Panic) => panic!("broken by a test at {instant:?}"),
                    None => {}
                }
            }
        })
    }

    /// The next to pass this instant is held there.
    pub fn hold(&self, at: Instant) -> Held {
        let (reached, is_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.0.lock().expect("rules").push((at, Rule::Hold(reached, released)));
        Held { at, reached: Some(is_reached), release: Some(release) }
    }

    /// The next to pass this instant panics there.
    pub fn panic(&self, at: Instant) {
        self.0.lock().expect("rules").push((at, Rule::Panic));
    }

    fn take(&self, at: Instant) -> Option<Rule> {
        let mut rules = self.0.lock().expect("rules");
        let place = rules.iter().position(|(instant, _)| *instant == at)?;
        Some(rules.remove(place).1)
    }
}

impl Held {
    /// Waits until somebody is held.
    pub async fn reached(&mut self) {
        if let Some(reached) = self.reached.take() {
            soon(&format!("{:?}", self.at), reached).await.expect("the server is there");
        }
    }

    pub fn release(mut self) {
        if let Some(release) = self.release.take() {
            let _ = release.send(());
        }
    }
}
