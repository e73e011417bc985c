//! Why a socket closes: the codes of the protocol and whether a client should come back.

/// A reason to close a WebSocket, each with its code (RFC 6455, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The client left.
    Normal,
    /// Our fault; come back at once, with jitter, then with backoff.
    Internal,
    /// The node is leaving; come back after the time that `reconnect` told.
    Leaving,
    /// A frame that breaks RFC 6455 itself.
    Protocol,
    /// A text frame that is not UTF-8.
    NotUtf8,
    /// The client reads too slowly; come back at once with the cursor.
    TooSlow,
    /// Ten bad frames in a row.
    BadFrames,
    /// The token expired or was revoked; come back with a new one.
    Unauthorized,
    /// Nothing came from the client for too long.
    Idle,
    /// A newer connection of this user took the place.
    TakenOver,
    /// A message over the limit.
    TooLarge,
    /// More messages a second than allowed; come back after a second.
    TooFast,
}

impl Close {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::Internal => 1011,
            Self::Leaving => 1012,
            Self::TooSlow => 4008,
            Self::BadFrames => 4400,
            Self::Unauthorized => 4401,
            Self::Idle => 4408,
            Self::TakenOver => 4409,
            Self::TooLarge => 4413,
            Self::TooFast => 4429,
        }
    }

    /// The reason that goes with the code, and the label of the metric that counts it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Protocol => "protocol error",
            Self::NotUtf8 => "not utf-8",
            Self::Internal => "internal error",
            Self::Leaving => "node leaving",
            Self::TooSlow => "too slow",
            Self::BadFrames => "bad frames",
            Self::Unauthorized => "token expired or revoked",
            Self::Idle => "idle",
            Self::TakenOver => "taken over",
            Self::TooLarge => "message too large",
            Self::TooFast => "too many messages",
        }
    }
}
