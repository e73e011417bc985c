//! A circuit breaker: after five failures in a row a dependency is left alone for a while.
//!
//! It owns the count of failures and the time it was opened; it never sleeps, calls nothing and reads
//! no clock: whoever uses it says what time it is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open a circuit.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long an opened circuit refuses before it lets one call try.
pub const OPEN_FOR: Duration = Duration::from_secs(30);

/// Counts one dependency's failures and says whether it may be called.
#[derive(Debug)]
pub struct Circuit {
    open_for: Duration,
    // A std mutex: it is held for a few instructions, never across an await.
    phase: Mutex<Phase>,
}

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Lets them through.
    Closed,
    /// Refuses them.
    Open,
    /// Lets one through, to see.
    HalfOpen,
}

impl CircuitState {
    /// The state's name in `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed {
        failures: u32,
    },
    Open {
        since: Instant,
    },
    Probing {
        since: Instant,
    },
    /// The last probe said nothing: the next call is one.
    Unclear,
}

impl Default for Circuit {
    fn default() -> Self {
        Self::new(OPEN_FOR)
    }
}

impl Circuit {
    /// A closed circuit that, once opened, refuses for `open_for`.
    #[must_use]
    pub const fn new(open_for: Duration) -> Self {
        Self { open_for, phase: Mutex::new(Phase::Closed { failures: 0 }) }
    }

    /// Whether a call may be made now. Where this answers yes, [`Self::succeeded`], [`Self::failed`]
    /// or [`Self::unclear`] is to follow; a probe that tells none gives way to another after the same time.
    #[must_use]
    pub fn admits(&self, now: Instant) -> bool {
        let mut phase = self.phase();
        match *phase {
            Phase::Closed { .. } => true,
            Phase::Unclear => {
                *phase = Phase::Probing { since: now };
                true
            }
            Phase::Open { since } | Phase::Probing { since } => {
                let over = self.is_over(since, now);
                if over {
                    *phase = Phase::Probing { since: now };
                }
                over
            }
        }
    }

    /// A call came through: all is well again.
    pub fn succeeded(&self) {
        *self.phase() = Phase::Closed { failures: 0 };
    }

    /// A call failed because the dependency was not available.
    pub fn failed(&self, now: Instant) {
        let mut phase = self.phase();
        *phase = match *phase {
            Phase::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                Phase::Closed { failures: failures + 1 }
            }
            // A call that began before the circuit opened says nothing new.
            Phase::Open { since } => Phase::Open { since },
            Phase::Closed { .. } | Phase::Probing { .. } | Phase::Unclear => Phase::Open { since: now },
        };
    }

    /// Of a call it is not known whether it came through: were it the probe, the next call is another.
    pub fn unclear(&self) {
        let mut phase = self.phase();
        if let Phase::Probing { .. } = *phase {
            *phase = Phase::Unclear;
        }
    }

    /// What it does with calls now.
    #[must_use]
    pub fn state(&self, now: Instant) -> CircuitState {
        match *self.phase() {
            Phase::Closed { .. } => CircuitState::Closed,
            Phase::Open { since } if !self.is_over(since, now) => CircuitState::Open,
            Phase::Open { .. } | Phase::Probing { .. } | Phase::Unclear => CircuitState::HalfOpen,
        }
    }

    fn is_over(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.open_for
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Circuit, CircuitState, FAILURES_TO_OPEN, OPEN_FOR};
    use std::time::{Duration, Instant};

    fn opened(now: Instant) -> Circuit {
        let circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(circuit.admits(now));
            circuit.failed(now);
        }
        circuit
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_between_starts_the_count_anew() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..4 {
            circuit.failed(now);
        }
        circuit.succeeded();
        for _ in 0..4 {
            circuit.failed(now);
            assert_eq!(circuit.state(now), CircuitState::Closed);
        }
        circuit.failed(now);
        assert_eq!(circuit.state(now), CircuitState::Open);
        assert!(!circuit.admits(now));
    }

    #[test]
    fn a_probe_that_says_nothing_gives_way_to_the_next_call() {
        let began = Instant::now();
        let circuit = opened(began);
        let later = began + OPEN_FOR;
        circuit.unclear();
        assert!(!circuit.admits(began), "only a probe gives way");
        assert!(circuit.admits(later) && !circuit.admits(later));
        circuit.unclear();
        assert_eq!(circuit.state(later), CircuitState::HalfOpen);
        assert!(circuit.admits(later) && !circuit.admits(later));
        circuit.succeeded();
        assert_eq!(circuit.state(later), CircuitState::Closed);
    }

    #[test]
    fn it_refuses_for_thirty_seconds_and_then_admits_one_call() {
        let now = Instant::now();
        let circuit = opened(now);
        let nearly = now + OPEN_FOR - Duration::from_millis(1);
        assert!(!circuit.admits(nearly));
        let over = now + OPEN_FOR;
        assert_eq!(circuit.state(over), CircuitState::HalfOpen);
        assert!(circuit.admits(over));
        assert!(!circuit.admits(over), "a second call while the first one tries");
    }

    #[test]
    fn the_one_call_decides() {
        let now = Instant::now();
        let over = now + OPEN_FOR;
        let circuit = opened(now);
        assert!(circuit.admits(over));
        circuit.succeeded();
        assert_eq!(circuit.state(over), CircuitState::Closed);

        let circuit = opened(now);
        assert!(circuit.admits(over));
        circuit.failed(over);
        assert!(!circuit.admits(over + OPEN_FOR - Duration::from_millis(1)));
        assert!(circuit.admits(over + OPEN_FOR));
    }

    #[test]
    fn a_call_that_never_tells_gives_way_to_another() {
        let now = Instant::now();
        let circuit = opened(now);
        assert!(circuit.admits(now + OPEN_FOR));
        assert!(circuit.admits(now + OPEN_FOR * 2));
    }

    #[test]
    fn late_failures_do_not_prolong_it() {
        let now = Instant::now();
        let circuit = opened(now);
        circuit.failed(now + OPEN_FOR / 2);
        assert!(circuit.admits(now + OPEN_FOR));
    }
}
