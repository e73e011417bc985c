//! Taking turns: changes of one partition come one after the other, and those that wait may go together.
//!
//! It owns who waits for what, within this process, and for how long; it knows no table. Between processes
//! the conditions of the lightweight transactions decide.

use super::cql::jittered;
use crate::storage::{Pending, StorageError};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a caller waits; the change itself goes on until it is known what became of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Keys share so many locks; two that share one only wait for each other.
const LOCKS: usize = 1_024;
/// Of one key so many may wait.
const WAITING: usize = 4_096;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One at a time for each key.
pub(super) struct Turns {
    // Held across awaits: that is what they are for.
    locks: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        let locks = (0..LOCKS).map(|_| tokio::sync::Mutex::new(())).collect();
        Self { locks, hasher: RandomState::new() }
    }
}

impl Turns {
    /// Waits for a key's turn; it lasts as long as the guard.
    pub(super) async fn of(&self, key: impl Hash) -> tokio::sync::MutexGuard<'_, ()> {
        let number = self.hasher.hash_one(key) as usize % LOCKS;
        self.locks[number].lock().await
    }
}

/// Changes that wait for their key's turn, to be done in groups.
pub(super) struct Groups<K, T> {
    /// A key is here while its groups are being done.
    // A std mutex: it is held for a few instructions, never across an await.
    waiting: Mutex<HashMap<K, VecDeque<T>>>,
}

/// The doing of one key's groups. Where it ends too early (a panic), those who wait are let go.
pub(super) struct Running<'a, K: Copy + Eq + Hash, T> {
    groups: &'a Groups<K, T>,
    key: K,
    is_over: bool,
}

impl<K, T> Default for Groups<K, T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K: Copy + Eq + Hash, T> Groups<K, T> {
    /// Has a change wait; answers whether the caller is to begin doing the key's groups.
    pub(super) fn join(&self, key: K, change: T) -> Result<bool, StorageError> {
        let mut waiting = self.lock();
        let is_first = !waiting.contains_key(&key);
        let queue = waiting.entry(key).or_default();
        if queue.len() >= WAITING {
            return Err(StorageError::Unavailable("too many changes wait for their turn".to_owned()));
        }
        queue.push_back(change);
        Ok(is_first)
    }

    /// Begins doing a key's groups.
    pub(super) fn run(&self, key: K) -> Running<'_, K, T> {
        Running { groups: self, key, is_over: false }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, VecDeque<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash, T> Running<'_, K, T> {
    /// The next group: at most so many, in their order, up to the first that does not go with those before it.
    /// An empty one is the end.
    pub(super) fn next(&mut self, most: usize, goes_with: impl Fn(&[T], &T) -> bool) -> Vec<T> {
        let mut waiting = self.groups.lock();
        let mut group = Vec::new();
        if let Some(queue) = waiting.get_mut(&self.key) {
            while group.len() < most && queue.front().is_some_and(|next| goes_with(&group, next)) {
                group.extend(queue.pop_front());
            }
        }
        if group.is_empty() {
            waiting.remove(&self.key);
            self.is_over = true;
        }
        group
    }
}

impl<K: Copy + Eq + Hash, T> Drop for Running<'_, K, T> {
    fn drop(&mut self) {
        if !self.is_over {
            self.groups.lock().remove(&self.key);
        }
    }
}

/// Pauses between tries, each about twice as long as the one before.
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSE)
    }
}

impl Pauses {
    /// The next pause.
    pub(super) async fn next(&mut self) {
        tokio::time::sleep(jittered(self.0)).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// Does what must be done, as often as it takes.
///
/// # Errors
/// [`StorageError::Refused`] alone: trying again would not help.
pub(super) async fn until_done<T, F>(what: &str, mut work: impl FnMut() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let mut pauses = Pauses::default();
    loop {
        match work().await {
            Err(error @ StorageError::Unavailable(_)) => {
                tracing::debug!(%error, "{what} is not done yet: {error}");
                pauses.next().await;
            }
            outcome => return outcome,
        }
    }
}

/// A change that its caller waits for no longer than [`PATIENCE`]; it goes on without.
pub(super) fn patiently<T: Send + 'static>(change: Pending<T>) -> Pending<T> {
    Box::pin(async move {
        let outcome = tokio::time::timeout(PATIENCE, change).await;
        outcome.unwrap_or_else(|_| Err(late()))
    })
}

/// It may have been done, or be done yet.
pub(super) fn late() -> StorageError {
    StorageError::Unavailable("a change takes too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn one_caller_does_the_groups_of_a_key_until_nobody_waits() {
        let groups = Groups::default();
        assert!(groups.join(1, 'a').unwrap());
        assert!(!groups.join(1, 'b').unwrap());
        assert!(groups.join(2, 'x').unwrap(), "another key is another turn");
        let mut running = groups.run(1);
        assert_eq!(running.next(1, |_, _| true), ['a']);
        assert!(!groups.join(1, 'c').unwrap());
        assert_eq!(running.next(9, |_, _| true), ['b', 'c']);
        assert!(running.next(9, |_, _| true).is_empty());
        assert!(groups.join(1, 'd').unwrap());
    }

    #[test]
    fn what_does_not_go_with_a_group_waits_for_the_next() {
        let groups = Groups::default();
        for change in ['a', 'b', 'a', 'c'] {
            groups.join(1, change).unwrap();
        }
        let mut running = groups.run(1);
        let is_new = |group: &[char], next: &char| !group.contains(next);
        assert_eq!(running.next(9, is_new), ['a', 'b']);
        assert_eq!(running.next(9, is_new), ['a', 'c']);
    }

    #[test]
    fn who_waits_is_let_go_when_the_doing_ends_too_early() {
        let groups = Groups::default();
        groups.join(1, 'a').unwrap();
        drop(groups.run(1));
        assert!(groups.join(1, 'b').unwrap());
    }
}
