//! wip
/// wip
pub struct Issuers;
