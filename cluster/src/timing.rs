//! Every time that a cluster goes by, in one place, so that tests and trials may shorten them all.

use std::time::Duration;

/// The times of a cluster; all its nodes should have the same. `Timing::default()` says what they are for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lasts that is not renewed (6 s).
    pub lease: Duration,
    /// Between two renewals (2 s).
    pub renew: Duration,
    /// Between two looks at leases and the view (500 ms).
    pub look: Duration,
    /// Between two heartbeats on a link (500 ms).
    pub heartbeat: Duration,
    /// A peer of which nothing was heard for so long is silent (4 s).
    pub silence: Duration,
    /// How long after its renewal, or the others' answers, was sent for a node may act as home (4 s). Never more than
    /// `silence`, and less than `lease`: a node has to stop before others may take its place.
    pub fence: Duration,
    /// How long a joining node must have seen nobody before it makes a cluster alone (4 s): whoever lives has shown
    /// its lease again by then, or has stopped acting.
    pub alone: Duration,
    /// How far our clock may be from that of Redis (3 s).
    pub skew: Duration,
    /// How long a connection may take to prove that it is a node's (3 s).
    pub handshake: Duration,
    /// The least and the most between two tries to connect (100 ms, 2 s).
    pub reconnect: (Duration, Duration),
    /// How long one command of Redis may take (1 s).
    pub command: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            lease: ms(6_000),
            renew: ms(2_000),
            look: ms(500),
            heartbeat: ms(500),
            silence: ms(4_000),
            fence: ms(4_000),
            alone: ms(4_000),
            skew: ms(3_000),
            handshake: ms(3_000),
            reconnect: (ms(100), ms(2_000)),
            command: ms(1_000),
        }
    }
}

impl Timing {
    /// The default times so many times shorter, but for the skew of clocks.
    #[must_use]
    pub fn shortened(by: u32) -> Self {
        let whole = Self::default();
        let by = by.max(1);
        Self {
            lease: whole.lease / by,
            renew: whole.renew / by,
            look: whole.look / by,
            heartbeat: whole.heartbeat / by,
            silence: whole.silence / by,
            fence: whole.fence / by,
            alone: whole.alone / by,
            skew: whole.skew,
            handshake: whole.handshake / by,
            reconnect: (whole.reconnect.0 / by, whole.reconnect.1 / by),
            command: whole.command / by,
        }
    }

    /// The times of a cluster whose leases last so long, all in proportion, but for the skew of clocks.
    #[must_use]
    pub fn by_lease(lease: Duration) -> Self {
        let whole = Self::default();
        let of = |time: Duration| time.mul_f64(lease.as_secs_f64() / whole.lease.as_secs_f64());
        Self {
            lease,
            renew: of(whole.renew),
            look: of(whole.look),
            heartbeat: of(whole.heartbeat),
            silence: of(whole.silence),
            fence: of(whole.fence),
            alone: of(whole.alone),
            skew: whole.skew,
            handshake: whole.handshake,
            reconnect: (of(whole.reconnect.0), of(whole.reconnect.1)),
            command: of(whole.command),
        }
    }

    /// Whether a node that has stopped by these times has done so before another may take its place.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.fence <= self.silence
            && self.fence < self.lease
            && self.renew < self.fence
            && self.heartbeat < self.fence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_safe_however_much_shorter() {
        assert!(Timing::default().is_safe());
        assert!(Timing::shortened(8).is_safe());
        assert!([2, 3, 60].map(Duration::from_secs).map(Timing::by_lease).iter().all(Timing::is_safe));
        assert_eq!(Timing::by_lease(Timing::default().lease), Timing::default());
        assert!(!Timing { fence: Duration::from_secs(5), ..Timing::default() }.is_safe());
        assert!(!Timing { lease: Duration::from_secs(4), ..Timing::default() }.is_safe());
    }
}
