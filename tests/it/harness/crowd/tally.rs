//! What came of a crowd's load.

use std::fmt;
use std::time::Duration;

/// So many of a kind are shown.
const SHOWN: usize = 8;

/// Counts, and everything that should not be.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub posts: usize,
    /// Chat messages that were answered.
    pub messages: usize,
    /// Presses in rooms that were answered, and the effects that hosts were told of.
    pub presses: usize,
    pub effects: usize,
    pub deletions: usize,
    /// Posts shown for the first time to a follower.
    pub deliveries: usize,
    /// Posts without a 201 when all was over: they may be there, or not.
    pub unanswered: usize,
    /// Answers with 503.
    pub refused: usize,
    /// Connections of followers.
    pub connections: usize,
    /// The longest from the first try of a post to its 201.
    pub slowest: Duration,
    /// The longest from a 201 to its first showing to somebody.
    pub latest: Duration,
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub inverted: Vec<String>,
    /// Answers and frames that nobody should get.
    pub odd: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, part: Self) {
        self.messages += part.messages;
        self.presses += part.presses;
        self.effects += part.effects;
        self.deliveries += part.deliveries;
        self.connections += part.connections;
        self.latest = self.latest.max(part.latest);
        self.lost.extend(part.lost);
        self.doubled.extend(part.doubled);
        self.inverted.extend(part.inverted);
        self.odd.extend(part.odd);
    }

    pub fn is_clean(&self) -> bool {
        self.wrongs().iter().all(|(_, what)| what.is_empty()) && self.unanswered == 0
    }

    /// Fails the test where anything was lost, doubled, inverted or odd.
    #[track_caller]
    pub fn must_be_clean(&self) {
        println!("{self}");
        assert!(self.is_clean(), "{self}");
    }

    fn wrongs(&self) -> [(&'static str, &Vec<String>); 4] {
        [("lost", &self.lost), ("doubled", &self.doubled), ("inverted", &self.inverted), ("odd", &self.odd)]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            posts,
            messages,
            presses,
            effects,
            deletions,
            deliveries,
            unanswered,
            refused,
            connections,
            slowest,
            latest,
            ..
        } = self;
        let [lost, doubled, inverted, odd] = self.wrongs().map(|(_, what)| what.len());
        write!(
            to,
            "{posts} posts ({refused} tries refused, {unanswered} unanswered, slowest {slowest:.1?}), \
             {deletions} deletions, {messages} messages, {presses} presses, {effects} effects, {deliveries} deliveries on {connections} connections (latest {latest:.1?}); \
             lost {lost}, doubled {doubled}, inverted {inverted}, odd {odd}"
        )?;
        for (kind, what) in self.wrongs() {
            for one in what.iter().take(SHOWN) {
                write!(to, "\n  {kind}: {}", one.chars().take(300).collect::<String>())?;
            }
        }
        Ok(())
    }
}
