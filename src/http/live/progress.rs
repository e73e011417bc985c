//! How far a room's host has come: what it was told, and what of that it has.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long after an effect a ping is sent: a client that has read the effect, and goes, leaves nothing unread.
const PING_BEHIND: Duration = Duration::from_secs(1);

/// How far the host has come.
pub struct Progress {
    /// The newest effect that went into the outbox.
    said: u64,
    /// Whether it acknowledges by itself.
    acknowledges: bool,
    /// The effect behind which a ping was sent that is not answered.
    pinged: Option<u64>,
    /// When the next is due.
    ping_at: Option<Instant>,
    /// What it has, for the home; and whether it said so itself.
    has: watch::Sender<(u64, bool)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            said: 0,
            acknowledges: false,
            pinged: None,
            ping_at: None,
            has: watch::Sender::new((0, false)),
        }
    }

    /// It has what is up to there, and may be one of those who acknowledge; what it has said of that by now stays.
    pub fn begin_behind(&mut self, sent: u64, acknowledges: bool) {
        self.said = sent;
        self.acknowledges |= acknowledges;
        self.has.send_modify(|has| has.0 = sent);
    }

    /// An effect went into the outbox.
    pub fn tell(&mut self, seq: u64) {
        self.said = self.said.max(seq);
    }

    /// What it has, and whether it said so itself.
    #[must_use]
    pub fn has(&self) -> (u64, bool) {
        *self.has.borrow()
    }

    /// Hears what it has.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<(u64, bool)> {
        self.has.subscribe()
    }

    /// When a ping is to be sent, if it is known by now.
    #[must_use]
    pub const fn ping_at(&self) -> Option<Instant> {
        self.ping_at
    }

    /// It acknowledges, by itself.
    pub fn acknowledged(&mut self, seq: u64) {
        self.acknowledges = true;
        self.have(seq.min(self.said), true);
    }

    /// The effect behind which a ping is to be sent now, if one is; where one is to be sent later, it is noted when.
    pub fn ping_due(&mut self, now: Instant) -> Option<u64> {
        let is_wanted = !self.acknowledges && self.pinged.is_none() && self.said > self.has.borrow().0;
        if !is_wanted {
            self.ping_at = None;
            return None;
        }
        let is_due = *self.ping_at.get_or_insert(now + PING_BEHIND) <= now;
        if is_due {
            self.ping_at = None;
            self.pinged = Some(self.said);
        }
        is_due.then_some(self.said)
    }

    /// A ping was answered, perhaps one behind an effect. Of several at once a client may answer the newest alone (RFC 6455,
    /// section 5.5.3): after another's answer the next effect has one again.
    pub fn ponged(&mut self, seq: Option<u64>) {
        let pinged = self.pinged.take();
        if let Some(seq) = seq.filter(|seq| pinged == Some(*seq) && !self.acknowledges) {
            self.have(seq, false);
        }
    }

    /// All that it was told is written.
    pub fn written(&mut self) {
        if !self.acknowledges {
            self.have(self.said, false);
        }
    }

    fn have(&self, seq: u64, by_host: bool) {
        self.has.send_if_modified(|has| {
            let is_news = seq > has.0 || (by_host && !has.1);
            *has = (has.0.max(seq), has.1 || by_host);
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{PING_BEHIND, Progress};
    use tokio::time::Instant;

    fn progress(said: u64) -> Progress {
        let mut progress = Progress::new();
        progress.tell(said);
        progress
    }

    #[test]
    fn what_was_written_counts_once_a_ping_behind_it_is_answered() {
        let (mut progress, now) = (progress(3), Instant::now());
        assert_eq!((progress.ping_due(now), progress.ping_due(now + PING_BEHIND)), (None, Some(3)));
        assert_eq!((progress.ping_due(now + 3 * PING_BEHIND), progress.ping_at), (None, None));
        progress.tell(5);
        progress.ponged(Some(3));
        assert_eq!(progress.has(), (3, false));
        let later = now + 4 * PING_BEHIND;
        assert_eq!((progress.ping_due(later), progress.ping_due(later + PING_BEHIND)), (None, Some(5)));
        progress.written();
        assert_eq!(progress.has(), (5, false));
    }

    #[test]
    fn where_another_ping_was_answered_in_its_place_one_is_sent_again() {
        let (mut progress, now) = (progress(3), Instant::now());
        progress.ping_due(now);
        assert_eq!(progress.ping_due(now + PING_BEHIND), Some(3));
        progress.ponged(None);
        assert_eq!(progress.has(), (0, false));
        let later = now + 2 * PING_BEHIND;
        assert_eq!((progress.ping_due(later), progress.ping_due(later + PING_BEHIND)), (None, Some(3)));
        progress.ponged(Some(9));
        assert_eq!(progress.has(), (0, false), "that was never sent");
    }

    #[test]
    fn one_that_acknowledges_before_it_is_known_what_it_has_stays_one() {
        let mut progress = progress(0);
        progress.acknowledged(0);
        progress.begin_behind(0, false);
        progress.tell(2);
        progress.written();
        assert_eq!(progress.has(), (0, true));
    }

    #[test]
    fn of_a_host_that_acknowledges_only_that_counts_and_no_more_than_it_was_told() {
        let (mut progress, now) = (progress(5), Instant::now());
        progress.ping_due(now);
        assert_eq!(progress.ping_due(now + PING_BEHIND), Some(5));
        progress.acknowledged(2);
        progress.ponged(Some(5));
        progress.written();
        assert_eq!(progress.has(), (2, true));
        assert_eq!(progress.ping_due(now + 3 * PING_BEHIND), None);
        progress.acknowledged(9);
        assert_eq!(progress.has(), (5, true));
    }
}
