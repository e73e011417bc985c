//! What can be done, one file a subject: check, then store or tell the home. No HTTP, no SQL.

pub mod account;
pub mod cluster;
pub mod converse;
pub mod follow;
pub mod like;
pub mod page;
pub mod publish;
pub mod room;
pub mod timeline;

pub use page::{Listing, PageRequest};

use crate::identity::IdentityError;
use crate::storage::StorageError;
use crate::storage::volatile::Limits;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

/// All that can be done.
pub struct Services {
    /// With accounts.
    pub account: Arc<account::Account>,
    /// With posts.
    pub publish: publish::Publish,
    /// With follows.
    pub follows: follow::Follows,
    /// With likes.
    pub likes: like::Likes,
    /// With timelines.
    pub timeline: timeline::Timeline,
    /// With conversations.
    pub converse: converse::Converse,
    /// With rooms.
    pub rooms: room::Rooms,
    /// How often.
    pub limits: Arc<dyn Limits>,
}

const NO_USER: ServiceError = ServiceError::NotFound("there is no such user");

/// After so long it is worth asking a store again that is busy, or an argon2 queue that is full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request is not done. One table at the edge turns it into a status and a `code`.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Fields that break their rules, all of them at once.
    #[error("the request is not valid: {}", fields(.0))]
    Invalid(Vec<FieldError>),
    /// Who asks is not known: no token, or none that is good.
    #[error("unauthorized: {0}")]
    Unauthorized(&'static str),
    /// Who asks is known and may not.
    #[error("forbidden: {0}")]
    Forbidden(&'static str),
    /// There is no such thing, or none that the one who asks may see.
    #[error("not found: {0}")]
    NotFound(&'static str),
    /// It contradicts what is there.
    #[error("conflict: {detail}")]
    Conflict {
        /// The stable code of this conflict.
        code: &'static str,
        /// The same for a reader.
        detail: &'static str,
    },
    /// An idempotency key that was used for something else.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// More often than is allowed.
    #[error("too many {what}")]
    Limited {
        /// When the next one is allowed.
        retry_after: Duration,
        /// What there were too many of.
        what: &'static str,
    },
    /// It cannot be done now; trying again later is right.
    #[error("unavailable")]
    Unavailable {
        /// When that is.
        retry_after: Duration,
    },
    /// A fault of ours; the text is for the log alone.
    #[error("internal: {0}")]
    Internal(String),
}

/// A field that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field, as the request names it.
    pub field: &'static str,
    /// The rule, never the value.
    pub detail: String,
}

impl ServiceError {
    /// One field that broke its rule.
    pub fn invalid(field: &'static str, rule: impl std::fmt::Display) -> Self {
        Self::Invalid(vec![FieldError::new(field, rule)])
    }
}

impl FieldError {
    /// The field that broke a rule, and the rule.
    pub fn new(field: &'static str, rule: impl std::fmt::Display) -> Self {
        Self { field, detail: rule.to_string() }
    }
}

impl From<StorageError> for ServiceError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(_) => Self::Unavailable { retry_after: RETRY_AFTER },
            StorageError::Refused(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<IdentityError> for ServiceError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Busy => Self::Unavailable { retry_after: RETRY_AFTER },
            IdentityError::KeysUnreachable { retry_after } => Self::Unavailable { retry_after },
            IdentityError::Invalid => Self::Unauthorized("the token is not valid"),
            IdentityError::Expired => Self::Unauthorized("the token has expired"),
            IdentityError::Setup(text) | IdentityError::Failed(text) => Self::Internal(text),
        }
    }
}

fn fields(errors: &[FieldError]) -> String {
    errors.iter().map(|error| error.field).collect::<Vec<_>>().join(", ")
}

/// Does a change to its end, though the client hangs up: what the store took must be followed by what this
/// process makes of it.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    // In the request's span: what it logs belongs to it.
    tokio::spawn(change.in_current_span()).await.map_err(|error| ServiceError::Internal(error.to_string()))?
}
