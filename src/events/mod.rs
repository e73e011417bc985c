//! Published changes: where they are sent. What they say is in [`crate::model::event`], when they are
//! sent is the business of the courier.

pub mod outlets;
pub mod sink;

use std::future::Future;
use std::pin::Pin;

/// One place that events are sent to.
pub trait Outlet: Send + Sync {
    /// Sends one event, a CloudEvent as JSON; answers why it was not accepted, in words for an operator. It
    /// may have been accepted all the same.
    fn send<'a>(&'a self, event: &'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}
