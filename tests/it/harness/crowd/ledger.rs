//! What was answered: posts in their order, and deletions.

use super::tally::Tally;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// All that authors know.
pub struct Ledger {
    pages: Mutex<Pages>,
    posted: watch::Sender<usize>,
}

#[derive(Default)]
pub struct Pages {
    /// Answered with 201, by id.
    pub posts: HashMap<String, Posted>,
    /// Asked to be deleted; those that were answered are `true`.
    pub deleted: HashMap<String, bool>,
    unanswered: HashSet<String>,
    refused: usize,
    inverted: Vec<String>,
    doubled: Vec<String>,
    odd: Vec<String>,
}

pub struct Posted {
    pub author: String,
    pub content: String,
    /// When it was first asked for.
    pub asked: Instant,
    /// When it was answered.
    pub answered: Instant,
    /// The same as logs tell it.
    pub when: String,
}

impl Ledger {
    pub fn new() -> Self {
        Self { pages: Mutex::default(), posted: watch::Sender::new(0) }
    }

    pub fn read<T>(&self, read: impl FnOnce(&Pages) -> T) -> T {
        read(&self.pages.lock().expect("the ledger"))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Pages) -> T) -> T {
        write(&mut self.pages.lock().expect("the ledger"))
    }

    /// A 201; `last` is the id of the author's post before it.
    pub fn notes_post(&self, id: &str, post: Posted, last: Option<&str>) {
        self.write(|pages| {
            if last.is_some_and(|last| last >= id) {
                pages.inverted.push(format!("{id} was answered after {last:?}: {}", post.content));
            }
            let content = post.content.clone();
            if pages.posts.insert(id.to_owned(), post).is_some() {
                pages.doubled.push(format!("{id} was answered to two posts: {content}"));
            }
        });
        self.posted.send_modify(|count| *count += 1);
    }

    pub fn notes_deletion(&self, post: &str, is_answered: bool) {
        self.write(|pages| pages.deleted.insert(post.to_owned(), is_answered));
    }

    pub fn notes_unanswered(&self, content: String) {
        self.write(|pages| pages.unanswered.insert(content));
    }

    pub fn notes_refusal(&self) {
        self.write(|pages| pages.refused += 1);
    }

    pub fn notes_odd(&self, what: String) {
        self.write(|pages| pages.odd.push(what));
    }

    pub fn posted(&self) -> usize {
        *self.posted.borrow()
    }

    pub async fn reaches(&self, count: usize) {
        let mut posted = self.posted.subscribe();
        posted.wait_for(|posted| *posted >= count).await.expect("the ledger is here");
    }

    pub fn tally(&self) -> Tally {
        self.read(|pages| Tally {
            posts: pages.posts.len(),
            deletions: pages.deleted.len(),
            unanswered: pages.unanswered.len(),
            refused: pages.refused,
            slowest: pages.posts.values().map(|post| post.answered - post.asked).max().unwrap_or_default(),
            inverted: pages.inverted.clone(),
            doubled: pages.doubled.clone(),
            odd: pages.odd.clone(),
            ..Tally::default()
        })
    }
}
