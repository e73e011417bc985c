//! Chat over the real edge: REST, the streams and the sockets.

mod crowd;
mod ending;
mod places;
mod rest;
mod sockets;
mod streams;

use crate::harness::app::TestApp;
use crate::harness::person::Person;

/// Two who talk, and their conversation.
async fn pair(app: &TestApp) -> (Person, Person, String) {
    let (ann, bob) = (app.person("ann").await, app.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    (ann, bob, conversation)
}
