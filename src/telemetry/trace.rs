//! The ids of a request: taken from `traceparent` where the caller sent a good one, else made here.

use std::fmt;
use tracing::Span;

/// A trace's id (W3C Trace Context, section 3.2.2.3): 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// A new id, by chance.
    #[must_use]
    pub fn make() -> Self {
        // The bits that tell a UUID's version keep it from being zero.
        Self(*uuid::Uuid::new_v4().as_bytes())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The trace that a request belongs to: that of its `traceparent` header, or a new one where there is
/// none or it breaks W3C Trace Context (section 3.2).
#[must_use]
pub fn trace_id_of(traceparent: Option<&str>) -> TraceId {
    traceparent.and_then(parse).unwrap_or_else(TraceId::make)
}

/// `version-trace-parent-flags` in lower-case hex; a version after 00 may have more behind the flags.
fn parse(text: &str) -> Option<TraceId> {
    let mut parts = text.split('-');
    let version = hex::<1>(parts.next()?)?;
    let trace = hex::<16>(parts.next()?)?;
    let parent = hex::<8>(parts.next()?)?;
    hex::<1>(parts.next()?)?;
    let more = parts.next().is_some();
    let refused = version == [0xff] || trace == [0; 16] || parent == [0; 8] || (version == [0] && more);
    (!refused).then_some(TraceId(trace))
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The span of a request; `route` is the pattern that it matched, never its path or query. Whoever
/// learns whose request it is records `user`.
#[must_use]
pub fn request_span(request_id: &str, trace_id: TraceId, method: &str, route: &str) -> Span {
    tracing::info_span!("request", request_id, %trace_id, method, route, user = tracing::field::Empty)
}

#[cfg(test)]
mod tests {
    use super::{TraceId, trace_id_of};

    #[test]
    fn a_good_traceparent_is_honoured() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in [
            format!("00-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-00f067aa0ba902b7-00"),
            format!("cc-{id}-00f067aa0ba902b7-01"),
            format!("cc-{id}-00f067aa0ba902b7-01-what-will-be"),
        ] {
            assert_eq!(trace_id_of(Some(&text)).to_string(), id, "{text}");
        }
    }

    #[test]
    fn without_a_good_one_there_is_a_new_id() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in [
            String::new(),
            id.to_owned(),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", "g".repeat(32)),
            format!("00-{id}é-00f067aa0ba902b7-01"),
        ] {
            let made = trace_id_of(Some(&text));
            assert_ne!(made.to_string(), id, "{text}");
            assert_ne!(made.to_string(), "0".repeat(32), "{text}");
        }
        assert_ne!(trace_id_of(None), trace_id_of(None));
        assert_eq!(TraceId::make().to_string().len(), 32);
    }
}
