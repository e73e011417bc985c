//! What messages between nodes mean here: entries, orders and answers made from them, and they from those. What makes no
//! sense is [`Garbled`].

use super::{
    Answer, Delete, EntryText, Failed, Garbled, NotDeleted, Nothing, PostText, Publish, Repeated, id_bytes,
    user_of,
};
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Content, Post};
use crate::model::timestamp::Timestamp;
use crate::storage::{
    Appended, Attempt, Deletion, Entry, EntryChange, IdempotencyKey, KeyUse, StorageError, TokenHash,
};
use bytes::Bytes;
use uuid::Uuid;

impl From<&Entry> for EntryText {
    fn from(entry: &Entry) -> Self {
        let (author, post, at, text) = match &entry.change {
            EntryChange::Posted { post, author_name } => {
                let text =
                    PostText { content: post.content.as_str().to_owned(), author_name: author_name.clone() };
                (post.author, post.id, post.created_at, Some(text))
            }
            EntryChange::Deleted { id, author, deleted_at } => (*author, *id, *deleted_at, None),
        };
        Self { seq: entry.seq.0, author: id_bytes(author.0), post: id_bytes(post.0), at: at.millis(), text }
    }
}

impl TryFrom<EntryText> for Entry {
    type Error = Garbled;

    fn try_from(entry: EntryText) -> Result<Self, Garbled> {
        let (author, id) = (user_of(&entry.author)?, PostId(uuid_of(&entry.post)?));
        let at = Timestamp::from_millis(entry.at);
        let change = match entry.text {
            Some(text) => EntryChange::Posted {
                post: Post { id, author, content: Content::stored(text.content), likes: 0, created_at: at },
                author_name: text.author_name,
            },
            None => EntryChange::Deleted { id, author, deleted_at: at },
        };
        Ok(Self { seq: Seq(entry.seq), change })
    }
}

impl Publish {
    /// What the home is to store.
    ///
    /// # Errors
    /// Where something is missing.
    pub fn read(self) -> Result<(UserId, Content, Option<IdempotencyKey>, Attempt), Garbled> {
        let key = self.key.map(|key| Ok(IdempotencyKey { key: key.key, body: hash_of(&key.body)? }));
        let attempt = Attempt { request: uuid_of(&self.request)?, is_repeat: self.is_repeat };
        Ok((user_of(&self.author)?, Content::stored(self.content), key.transpose()?, attempt))
    }
}

impl Delete {
    /// What the home is to delete.
    ///
    /// # Errors
    /// Where something is missing.
    pub fn read(&self) -> Result<(UserId, PostId), Garbled> {
        Ok((user_of(&self.author)?, PostId(uuid_of(&self.post)?)))
    }
}

impl From<Result<Appended, StorageError>> for Answer {
    fn from(outcome: Result<Appended, StorageError>) -> Self {
        match outcome {
            Ok(Appended::Stored(entry)) => Self::Stored(EntryText::from(&entry)),
            Ok(Appended::Repeated(KeyUse { body, post })) => {
                let change = EntryChange::Posted { post, author_name: String::new() };
                let post = EntryText::from(&Entry { seq: Seq(0), change });
                Self::Repeated(Repeated { post: Some(post), body: Bytes::copy_from_slice(&body) })
            }
            Ok(Appended::NoAuthor) => Self::NoAuthor(Nothing {}),
            Err(error) => error.into(),
        }
    }
}

impl From<Result<Deletion, StorageError>> for Answer {
    fn from(outcome: Result<Deletion, StorageError>) -> Self {
        match outcome {
            Ok(Deletion::Done(entry)) => Self::Deleted(EntryText::from(&entry)),
            Ok(Deletion::Missing) => Self::NotDeleted(NotDeleted { is_anothers: false }),
            Ok(Deletion::Forbidden) => Self::NotDeleted(NotDeleted { is_anothers: true }),
            Err(error) => error.into(),
        }
    }
}

impl From<StorageError> for Answer {
    fn from(error: StorageError) -> Self {
        let (why, is_for_now) = match error {
            StorageError::Unavailable(why) => (why, true),
            StorageError::Refused(why) => (why, false),
        };
        Self::Failed(Failed { why, is_for_now })
    }
}

impl From<Failed> for StorageError {
    fn from(failed: Failed) -> Self {
        if failed.is_for_now { Self::Unavailable(failed.why) } else { Self::Refused(failed.why) }
    }
}

impl Answer {
    /// As the answer to a post.
    ///
    /// # Errors
    /// Where it is none.
    pub fn appended(self) -> Result<Result<Appended, StorageError>, Garbled> {
        Ok(match self {
            Self::Stored(entry) => Ok(Appended::Stored(entry.try_into()?)),
            Self::Repeated(Repeated { post, body }) => match Entry::try_from(post.ok_or(Garbled)?)?.change {
                EntryChange::Posted { post, .. } => {
                    Ok(Appended::Repeated(KeyUse { body: hash_of(&body)?, post }))
                }
                EntryChange::Deleted { .. } => return Err(Garbled),
            },
            Self::NoAuthor(_) => Ok(Appended::NoAuthor),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }

    /// As the answer to a deletion.
    ///
    /// # Errors
    /// Where it is none.
    pub fn deleted(self) -> Result<Result<Deletion, StorageError>, Garbled> {
        Ok(match self {
            Self::Deleted(entry) => Ok(Deletion::Done(entry.try_into()?)),
            Self::NotDeleted(NotDeleted { is_anothers: true }) => Ok(Deletion::Forbidden),
            Self::NotDeleted(NotDeleted { is_anothers: false }) => Ok(Deletion::Missing),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }
}

pub(super) fn uuid_of(bytes: &[u8]) -> Result<Uuid, Garbled> {
    Uuid::from_slice(bytes).map_err(|_| Garbled)
}

pub(super) fn hash_of(bytes: &[u8]) -> Result<TokenHash, Garbled> {
    bytes.try_into().map_err(|_| Garbled)
}
