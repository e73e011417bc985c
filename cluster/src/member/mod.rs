//! Who is in the cluster: leases and the view in Redis, and what follows from them and from the links.
//!
//! | module | what |
//! |---|---|
//! | `lease` | what a node writes of itself |
//! | `decide` | who makes which view: pure |
//! | `fence` | until when this node may act: pure |
//! | `redis` | leases and views in Redis; the only module that names fred |
//! | `standing` | what this node knows of itself, and whether it may act: asked often, by anybody |
//! | `keeper` | the two tasks that keep all that going |
//!
//! In Redis there are `node:{name}`, a lease in JSON; `cluster:nodes`, the names that had one; `cluster:view`.

pub(crate) mod decide;
pub(crate) mod fence;
pub(crate) mod keeper;
pub(crate) mod lease;
pub(crate) mod redis;
pub(crate) mod standing;
