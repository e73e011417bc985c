//! Published changes: where they are sent. What they say is in [`crate::model::event`], when they are
//! sent is the business of the courier.

pub mod sink;
