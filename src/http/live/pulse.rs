//! The clock of one connection: when to ping, when it is dead, idle or expired.

use crate::actors::outbox::Outbox;
use crate::model::close::Close;
use crate::model::frame;
use crate::model::timestamp::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Pings without an answer after which a connection is dead.
const UNANSWERED: u32 = 2;

/// Pings of all connections are sent at these moments: one wake-up of the process sends many, and their
/// answers come together too. Pinging each at a moment of its own cost three times the CPU.
const BEAT: Duration = Duration::from_millis(500);

/// When a connection is due for what.
pub struct Pulse {
    heartbeat: Duration,
    idle_timeout: Duration,
    next_ping: Instant,
    unanswered: u32,
    heard_at: Instant,
    expires_at: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A ping.
    Ping,
    /// The end.
    Close(Close),
    /// Nothing yet.
    Nothing,
}

impl Pulse {
    /// A connection that begins now. Its first ping comes early by chance, so that connections that came
    /// together do not beat together.
    #[must_use]
    pub fn new(heartbeat: Duration, idle_timeout: Duration, expires_at: Timestamp) -> Self {
        let now = Instant::now();
        let chance = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 512.0;
        let next_ping = on_a_beat(heartbeat.mul_f64(1.0 - chance));
        let mut pulse =
            Self { heartbeat, idle_timeout, next_ping, unanswered: 0, heard_at: now, expires_at: now };
        pulse.expire_at(expires_at);
        pulse
    }

    /// When something may be due.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next_ping.min(self.heard_at + self.idle_timeout).min(self.expires_at)
    }

    /// Does what is due now.
    pub fn beat(&mut self, outbox: &Outbox) {
        match self.due() {
            Due::Ping => outbox.say(frame::ping()),
            Due::Close(reason) => outbox.close(reason),
            Due::Nothing => {}
        }
    }

    /// What is due now; a ping counts as sent.
    fn due(&mut self) -> Due {
        let now = Instant::now();
        if now >= self.expires_at {
            return Due::Close(Close::Unauthorized);
        }
        if now >= self.heard_at + self.idle_timeout {
            return Due::Close(Close::Idle);
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        if self.unanswered == UNANSWERED {
            return Due::Close(Close::Idle);
        }
        self.unanswered += 1;
        self.next_ping = on_a_beat(self.heartbeat);
        Due::Ping
    }

    /// The client said something of its own: a text frame or a ping.
    pub fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.unanswered = 0;
    }

    /// The client answered a ping.
    pub fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// The connection's token now expires then.
    pub fn expire_at(&mut self, moment: Timestamp) {
        let left = moment.millis().saturating_sub(Timestamp::now().millis());
        self.expires_at = Instant::now() + Duration::from_millis(u64::try_from(left).unwrap_or(0));
    }
}

/// The last beat before that time is over; beats are whole multiples by the clock on the wall.
fn on_a_beat(span: Duration) -> Instant {
    let then = Timestamp::now().after(span).millis().unsigned_abs();
    let early = Duration::from_millis(then % BEAT.as_millis() as u64);
    Instant::now() + span.saturating_sub(early)
}

#[cfg(test)]
mod tests {
    use super::{Due, Pulse};
    use crate::model::close::Close;
    use crate::model::timestamp::Timestamp;
    use std::time::Duration;
    use tokio::time::advance;

    const HOUR: Duration = Duration::from_secs(3600);

    fn pulse() -> Pulse {
        Pulse::new(Duration::from_secs(30), Duration::from_secs(600), Timestamp::now().after(HOUR))
    }

    #[tokio::test(start_paused = true)]
    async fn two_unanswered_pings_end_it() {
        let mut pulse = pulse();
        for due in [Due::Ping, Due::Ping, Due::Close(Close::Idle)] {
            advance(Duration::from_secs(30)).await;
            assert_eq!(pulse.due(), due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_keep_it_alive_but_do_not_count_as_a_word() {
        let mut pulse = pulse();
        for _ in 0..19 {
            advance(Duration::from_secs(30)).await;
            assert_eq!(pulse.due(), Due::Ping);
            pulse.answered();
        }
        advance(Duration::from_secs(30)).await;
        assert_eq!(pulse.due(), Due::Close(Close::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_starts_the_idle_time_anew() {
        let mut pulse = pulse();
        for _ in 0..40 {
            advance(Duration::from_secs(30)).await;
            assert_eq!(pulse.due(), Due::Ping);
            pulse.heard();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_token_unless_that_was_renewed() {
        let mut pulse = pulse();
        pulse.expire_at(Timestamp::now().after(Duration::from_secs(5)));
        advance(Duration::from_secs(4)).await;
        assert_eq!(pulse.due(), Due::Nothing);
        advance(Duration::from_secs(2)).await;
        assert_eq!(pulse.due(), Due::Close(Close::Unauthorized));
        pulse.expire_at(Timestamp::now().after(HOUR));
        assert_eq!(pulse.due(), Due::Nothing);
    }
}
