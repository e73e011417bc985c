//! What is shared but need not survive, kept in this process: one node needs nothing else.

pub mod limits;
pub mod presence;
pub mod revocations;
pub mod timeline_cache;

pub use limits::{Buckets, Rates};
pub use presence::Nobody;
pub use revocations::RevokedLogins;
pub use timeline_cache::KeptPages;
