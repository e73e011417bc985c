//! x
pub mod live;
