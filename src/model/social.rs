//! Follows and likes.

use super::id::{FollowId, LikeId, PostId, UserId};
use super::timestamp::Timestamp;

/// One user's following of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Its id.
    pub id: FollowId,
    /// Who reads.
    pub follower: UserId,
    /// Who is read.
    pub followee: UserId,
    /// Since when.
    pub created_at: Timestamp,
}

/// One user's like of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Like {
    /// Its id.
    pub id: LikeId,
    /// Who likes.
    pub user: UserId,
    /// What is liked.
    pub post: PostId,
    /// Since when.
    pub created_at: Timestamp,
}
