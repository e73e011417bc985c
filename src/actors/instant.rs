//! Named instants of the delivery at which a test may hold or break what passes.
//!
//! In a running server nobody listens, and passing one costs a branch.

use crate::model::id::UserId;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An instant between two steps whose order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    /// An author's entry is durable, no relay has it.
    Committed(UserId),
    /// A relay has taken an author's entry, no follower has it.
    Carried(UserId),
    /// A session is about to stand in the relays' index.
    Entering(UserId),
    /// A session stands in the index and has not read what it missed.
    Entered(UserId),
    /// A session has read what it missed and has not written it.
    Read(UserId),
    /// A session has written a part of its replay.
    Replaying(UserId),
    /// A session has been told something by its client.
    Heard(UserId),
    /// Relays expect a follow; it is not stored.
    FollowExpected(UserId),
    /// A follow is stored; relays have not been told.
    FollowStored(UserId),
    /// One who begins to listen to chats knows how far the inbox reached.
    InboxRead(UserId),
}

type Listener = dyn Fn(Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// Who listens at the instants; nobody by default.
#[derive(Clone, Default)]
pub struct Instants(Option<Arc<Listener>>);

impl Instants {
    /// Every instant waits for what `listener` answers.
    pub fn heard_by<F, A>(listener: F) -> Self
    where
        F: Fn(Instant) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self(Some(Arc::new(move |instant| Box::pin(listener(instant)))))
    }

    /// Passes an instant.
    pub async fn pass(&self, instant: Instant) {
        if let Some(listener) = &self.0 {
            listener(instant).await;
        }
    }
}

impl fmt::Debug for Instants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Instants(heard)" } else { "Instants" })
    }
}
