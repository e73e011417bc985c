//! Changes that are published, as CloudEvents 1.0 in structured mode.

use super::id::{EventId, PostId, UserId};
use super::post::Post;
use super::social::{Follow, Like};
use super::timestamp::Timestamp;
use super::user::User;
use serde_json::{Value, json};

/// Something that happened and is durable.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// An account was made.
    UserRegistered(&'a User),
    /// A name was changed.
    ProfileUpdated(&'a User),
    /// A post was made.
    PostCreated(&'a Post),
    /// A post was deleted.
    PostDeleted {
        /// The post.
        id: PostId,
        /// Its author.
        author: UserId,
    },
    /// Somebody follows.
    FollowCreated(&'a Follow),
    /// Somebody no longer follows.
    FollowDeleted(&'a Follow),
    /// Somebody likes.
    LikeCreated(&'a Like),
    /// Somebody no longer likes.
    LikeDeleted(&'a Like),
}

impl Change<'_> {
    /// The CloudEvents `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UserRegistered(_) => "com.mini-sns.user.registered",
            Self::ProfileUpdated(_) => "com.mini-sns.user.profile-updated",
            Self::PostCreated(_) => "com.mini-sns.post.created",
            Self::PostDeleted { .. } => "com.mini-sns.post.deleted",
            Self::FollowCreated(_) => "com.mini-sns.social.follow.created",
            Self::FollowDeleted(_) => "com.mini-sns.social.follow.deleted",
            Self::LikeCreated(_) => "com.mini-sns.social.like.created",
            Self::LikeDeleted(_) => "com.mini-sns.social.like.deleted",
        }
    }

    /// The change as a CloudEvent with a new id, `at` being its time.
    #[must_use]
    pub fn event(&self, at: Timestamp) -> Value {
        json!({
            "specversion": "1.0",
            "id": EventId::make(),
            "source": "/roost",
            "type": self.kind(),
            "time": at,
            "datacontenttype": "application/json",
            "data": self.data(at),
        })
    }

    fn data(&self, at: Timestamp) -> Value {
        match self {
            Self::UserRegistered(user) => {
                json!({"userId": user.id, "username": user.username, "registeredAt": user.created_at})
            }
            Self::ProfileUpdated(user) => {
                json!({"userId": user.id, "username": user.username, "updatedAt": at})
            }
            Self::PostCreated(post) => json!({
                "postId": post.id, "userId": post.author,
                "content": post.content.as_str(), "createdAt": post.created_at,
            }),
            Self::PostDeleted { id, author } => {
                json!({"postId": id, "userId": author, "deletedAt": at})
            }
            Self::FollowCreated(follow) => follow_data(follow, "createdAt", follow.created_at),
            Self::FollowDeleted(follow) => follow_data(follow, "deletedAt", at),
            Self::LikeCreated(like) => like_data(like, "createdAt", like.created_at),
            Self::LikeDeleted(like) => like_data(like, "deletedAt", at),
        }
    }
}

fn follow_data(follow: &Follow, when: &str, at: Timestamp) -> Value {
    json!({"followId": follow.id, "followerId": follow.follower, "followeeId": follow.followee, when: at})
}

fn like_data(like: &Like, when: &str, at: Timestamp) -> Value {
    json!({"likeId": like.id, "userId": like.user, "postId": like.post, when: at})
}

#[cfg(test)]
mod tests {
    use super::Change;
    use crate::model::id::{PostId, UserId};
    use crate::model::timestamp::Timestamp;

    #[test]
    fn an_event_has_the_attributes_that_cloudevents_requires() {
        let (id, author) = (PostId::make(), UserId::make());
        let event = Change::PostDeleted { id, author }.event(Timestamp::from_millis(0));
        for attribute in ["specversion", "id", "source", "type", "time"] {
            assert!(event[attribute].is_string(), "{attribute}");
        }
        assert_eq!(event["type"], "com.mini-sns.post.deleted");
        assert_eq!(event["data"]["postId"], id.to_string());
        assert_eq!(event["data"]["deletedAt"], "1970-01-01T00:00:00.000Z");
    }
}
