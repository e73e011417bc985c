//! Whether and when to come back, by how a connection ended: the table of close codes in
//! docs/protocol.md.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// How a connection, or the try to make one, ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// In words, for the person who listens.
    pub why: String,
    /// What to do about it.
    pub comeback: Comeback,
    /// Whether it was a connection: its `connected` frame had come.
    pub greeted: bool,
}

/// Whether to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comeback {
    /// At once, with jitter, then with backoff.
    Soon,
    /// After that time.
    After(Duration),
    /// With a new token.
    WithNewToken,
    /// Not at all: it would end in the same way.
    Never,
}

impl Ended {
    /// Before or without a connection.
    pub fn unconnected(why: String, comeback: Comeback) -> Self {
        Self { why, comeback, greeted: false }
    }
}

pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits that double from 0.2 s to [`LONGEST_WAIT`], each with up to as much again by chance, so that not
/// all clients of a server that was gone come at once.
pub(super) fn waits() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .with_jitter()
        .build()
}

/// After a close frame; `told` is what a `reconnect` frame said before it.
pub(super) fn after_close(code: u16, told: Option<Duration>) -> Comeback {
    match code {
        1012 => told.map_or(Comeback::Soon, Comeback::After),
        4400 | 4409 | 4413 => Comeback::Never,
        4401 => Comeback::WithNewToken,
        4429 => Comeback::After(Duration::from_secs(1)),
        _ => Comeback::Soon,
    }
}

/// After an HTTP answer that is a refusal; `told` is its `Retry-After`.
pub(super) fn after_refusal(status: u16, told: Option<Duration>) -> Comeback {
    match status {
        401 => Comeback::WithNewToken,
        408 | 425 | 429 | 500.. => told.map_or(Comeback::Soon, Comeback::After),
        _ => Comeback::Never,
    }
}

/// A `Retry-After` in seconds, an hour at most; its other form, a date, is not sent by ours.
pub(super) fn retry_after(header: Option<&str>) -> Option<Duration> {
    header?.trim().parse().ok().map(|seconds: u64| Duration::from_secs(seconds.min(3600)))
}

/// What a refusal says of itself: the `detail` of problem+json, else its status.
pub(super) fn told(status: u16, body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    detail.map_or_else(
        || format!("the server answered {status}"),
        |detail| format!("the server answered {status}: {detail}"),
    )
}

#[cfg(test)]
mod tests {
    use super::{Comeback, LONGEST_WAIT, after_close, after_refusal, waits};
    use std::time::Duration;

    #[test]
    fn close_codes_are_followed_as_the_protocol_says() {
        let told = Some(Duration::from_millis(700));
        for (code, comeback) in [
            (1001, Comeback::Soon),
            (1006, Comeback::Soon),
            (1011, Comeback::Soon),
            (1012, Comeback::After(Duration::from_millis(700))),
            (4008, Comeback::Soon),
            (4400, Comeback::Never),
            (4401, Comeback::WithNewToken),
            (4408, Comeback::Soon),
            (4409, Comeback::Never),
            (4413, Comeback::Never),
            (4429, Comeback::After(Duration::from_secs(1))),
        ] {
            assert_eq!(after_close(code, told), comeback, "{code}");
        }
        assert_eq!(after_close(1012, None), Comeback::Soon);
    }

    #[test]
    fn refusals_are_waited_out_only_where_waiting_helps() {
        let told = Some(Duration::from_secs(3));
        assert_eq!(after_refusal(401, None), Comeback::WithNewToken);
        assert_eq!(after_refusal(503, told), Comeback::After(Duration::from_secs(3)));
        assert_eq!(after_refusal(429, None), Comeback::Soon);
        for status in [400, 403, 404, 421, 426] {
            assert_eq!(after_refusal(status, told), Comeback::Never, "{status}");
        }
    }

    #[test]
    fn waits_begin_short_grow_and_stay_bounded() {
        let waits: Vec<_> = waits().take(20).collect();
        assert!(waits[0] >= Duration::from_millis(200) && waits[0] <= Duration::from_millis(400));
        assert!(waits[19] >= LONGEST_WAIT && waits[19] <= 2 * LONGEST_WAIT);
        assert_eq!(waits.len(), 20);
    }
}
