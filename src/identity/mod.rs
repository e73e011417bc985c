//! Who somebody is: passwords, our own tokens and keys, and the tokens of outside issuers.
//!
//! | file | owns |
//! |---|---|
//! | [`passwords`] | argon2id, on threads of its own with a bounded queue |
//! | [`keys`] | the key that signs our tokens, and its public half |
//! | [`tokens`] | access tokens, the cookie's tokens, refresh tokens: made and checked |
//! | [`issuers`] | tokens made elsewhere: whose they are and until when |
//! | `key_set` | the key sets that those are checked by: read, fetched, kept |
//!
//! Nothing here knows of a store: which login was ended, and whose subject is which user, is asked
//! elsewhere. A token that this layer takes for good is genuine and not expired, no more.

pub mod issuers;
mod key_set;
pub mod keys;
pub mod passwords;
pub mod tokens;

use std::time::Duration;

/// All that says who somebody is.
pub struct Identity {
    /// Hashes and verifies passwords.
    pub passwords: passwords::Passwords,
    /// Makes and verifies our own tokens.
    pub mint: tokens::Mint,
    /// Verifies the tokens of others.
    pub issuers: issuers::Issuers,
}

/// Why this layer does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// More passwords wait than may.
    #[error("too many passwords wait to be checked")]
    Busy,
    /// Not a token of ours or of a known issuer: malformed, forged, or meant for something else.
    #[error("the token is not valid")]
    Invalid,
    /// A genuine token whose time is over.
    #[error("the token has expired")]
    Expired,
    /// The keys of an outside issuer were never had and cannot be had now.
    #[error("the keys of the token's issuer cannot be read")]
    KeysUnreachable {
        /// When the next attempt is made.
        retry_after: Duration,
    },
    /// A setting or a key file that cannot be used.
    #[error("{0}")]
    Setup(String),
    /// A fault of ours.
    #[error("{0}")]
    Failed(String),
}
