//! Who hears of a test store's entries.

use roost::model::cursor::Seq;
use roost::model::id::UserId;
use roost::storage::EntryObserver;
use std::sync::{Condvar, Mutex};
use tokio::sync::watch;

/// What an observer heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An entry is about to be committed.
    Entering(Seq, UserId),
    /// It was not committed.
    Withdrawn(Seq),
}

/// An observer that writes down what it hears and can hold the writer up.
pub struct Observed {
    heard: Mutex<Vec<Heard>>,
    // Shut by a test for as long as the writer is to wait.
    is_shut: Mutex<bool>,
    opened: Condvar,
    count: watch::Sender<usize>,
}

/// Holds the writer up until it is dropped.
pub struct Held<'a>(&'a Observed);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.is_shut.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            heard: Mutex::default(),
            is_shut: Mutex::default(),
            opened: Condvar::new(),
            count: watch::Sender::new(0),
        }
    }
}

impl Observed {
    /// Everything so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Holds the writer up at the next entry, until what is answered is dropped.
    pub fn hold(&self) -> Held<'_> {
        *self.is_shut.lock().unwrap() = true;
        Held(self)
    }

    /// Waits until so many were heard.
    pub async fn wait_for(&self, count: usize) {
        self.count.subscribe().wait_for(|heard| *heard >= count).await.unwrap();
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
        self.count.send_modify(|count| *count += 1);
        let shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }
}

impl EntryObserver for Observed {
    fn entering(&self, seq: Seq, author: UserId) {
        self.hear(Heard::Entering(seq, author));
    }

    fn withdrawn(&self, seq: Seq) {
        self.hear(Heard::Withdrawn(seq));
    }
}
