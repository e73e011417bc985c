//! How far inboxes were written to live streams and sockets, which is where who comes without a place begins.
//!
//! What was handed to a connection counts as written when the connection has outlived that by a second: one whose client
//! is gone takes a first write all the same, and ends by it. Stored in groups; a crash forgets what was not, and then some
//! events come again.

use crate::model::id::UserId;
use crate::storage::chats::Chats;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Marks that are stored at once.
const MARKS: usize = 1_000;

/// What was written. Its mutexes are std ones: nothing awaits under them.
pub struct Seen {
    chats: Arc<dyn Chats>,
    feeds: AtomicU64,
    /// Those that are open, by number.
    open: Mutex<HashMap<u64, Open>>,
    /// What counts, until it is stored.
    marks: Mutex<HashMap<UserId, u64>>,
}

/// How far a feed's connection was handed its inbox; 0 before the first event.
#[derive(Default)]
pub struct Handed(AtomicU64);

/// An open feed.
struct Open {
    user: UserId,
    handed: Arc<Handed>,
    /// How far that was at the last look.
    before: u64,
    /// How far it counts.
    counted: u64,
}

impl Handed {
    /// The inbox up to there.
    pub fn note(&self, place: u64) {
        self.0.store(place, Ordering::Relaxed);
    }

    fn place(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Seen {
    /// Nothing yet.
    #[must_use]
    pub fn new(chats: Arc<dyn Chats>) -> Self {
        Self { chats, feeds: AtomicU64::new(0), open: Mutex::default(), marks: Mutex::default() }
    }

    /// Another feed of a user's inbox: its number, and where it notes what its connection is handed.
    pub fn enter(&self, user: UserId) -> (u64, Arc<Handed>) {
        let (number, handed) = (self.feeds.fetch_add(1, Ordering::Relaxed), Arc::<Handed>::default());
        let open = Open { user, handed: handed.clone(), before: 0, counted: 0 };
        lock(&self.open).insert(number, open);
        (number, handed)
    }

    /// A feed's connection ends in order: what it was handed counts.
    pub fn settle(&self, feed: u64) {
        let open = lock(&self.open).remove(&feed);
        if let Some(open) = open
            && open.handed.place() > open.counted
        {
            raise(&mut lock(&self.marks), open.user, open.handed.place());
        }
    }

    /// A feed's connection is gone: what it was handed lately may never have arrived.
    pub fn forget(&self, feed: u64) {
        lock(&self.open).remove(&feed);
    }

    /// Looks who has outlived what was handed before the last look.
    pub fn mark_outlived(&self) {
        let mut marks = lock(&self.marks);
        for open in lock(&self.open).values_mut() {
            if open.before > open.counted {
                raise(&mut marks, open.user, open.before);
                open.counted = open.before;
            }
            open.before = open.handed.place();
        }
    }

    /// How far an inbox was written, as far as the store does not know it; 0 where it does.
    #[must_use]
    pub fn mark(&self, user: UserId) -> u64 {
        lock(&self.marks).get(&user).copied().unwrap_or_default()
    }

    /// Stores what counts; what the store does not take waits for the next time.
    pub async fn store(&self) {
        let marks: Vec<_> = lock(&self.marks).iter().map(|(user, place)| (*user, *place)).collect();
        for marks in marks.chunks(MARKS) {
            if let Err(error) = self.chats.seen(marks.to_vec()).await {
                tracing::warn!(%error, "how far inboxes were written is stored later: {error}");
                return;
            }
            let mut kept = lock(&self.marks);
            for (user, place) in marks {
                if kept.get(user) == Some(place) {
                    kept.remove(user);
                }
            }
        }
    }
}

fn raise(marks: &mut HashMap<UserId, u64>, user: UserId, place: u64) {
    let mark = marks.entry(user).or_default();
    *mark = place.max(*mark);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Seen;
    use crate::actors::watermark::Watermark;
    use crate::model::id::UserId;
    use crate::storage::sqlite::{Options, Store};
    use std::sync::Arc;

    fn seen(folder: &tempfile::TempDir) -> Seen {
        let (file, observer) = (folder.path().join("roost.db"), Arc::new(Watermark::default()));
        Seen::new(Arc::new(Store::open(Options { file, events: false, observer, readers: 1 }).unwrap()))
    }

    #[tokio::test]
    async fn what_was_handed_counts_when_its_connection_outlived_it_or_ended_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (seen, user) = (seen(&folder), UserId::make());
        let (first, handed) = seen.enter(user);
        handed.note(5);
        seen.mark_outlived();
        assert_eq!(seen.mark(user), 0, "a look has to come between");
        handed.note(6);
        seen.mark_outlived();
        assert_eq!(seen.mark(user), 5);
        seen.forget(first);
        seen.mark_outlived();
        assert_eq!(seen.mark(user), 5, "its connection is gone");
        for (place, expected, why) in [(3, 5, "a mark never goes back"), (9, 9, "it ended in order")] {
            let (feed, handed) = seen.enter(user);
            handed.note(place);
            seen.settle(feed);
            assert_eq!(seen.mark(user), expected, "{why}");
        }
    }
}
