//! x
pub mod node;
pub mod ring;
pub mod timing;
pub mod view;
