//! `impl Posts`: each call goes to the file that knows how.

use super::Store;
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::PostView;
use crate::model::social::Like;
use crate::model::timestamp::Timestamp;
use crate::storage::{
    Appended, Deletion, Entry, KEY_AGE, KeyUse, Liking, Listed, NewPost, Page, Pending, Posts,
};

impl Posts for Store {
    fn newest_id(&self, author: UserId) -> Pending<Option<PostId>> {
        self.0.clone().newest_id(author)
    }

    fn append(&self, post: NewPost) -> Pending<Appended> {
        self.0.clone().append(post)
    }

    fn keyed(&self, user: UserId, key: String, now: Timestamp) -> Pending<Option<KeyUse>> {
        self.read(move |inner| async move {
            let used = inner.key_use(user, &key).await?;
            Ok(used.filter(|used| used.post.created_at >= now.before(KEY_AGE)))
        })
    }

    fn delete(&self, author: UserId, id: PostId, now: Timestamp) -> Pending<Deletion> {
        self.0.clone().delete(author, id, now)
    }

    fn post(&self, id: PostId, viewer: UserId) -> Pending<Option<PostView>> {
        self.read(move |inner| async move { Ok(inner.post_views(&[id], viewer).await?.into_iter().next()) })
    }

    fn posts(&self, ids: Vec<PostId>, viewer: UserId) -> Pending<Vec<PostView>> {
        self.read(move |inner| async move { inner.post_views(&ids, viewer).await })
    }

    fn by_author(&self, author: UserId, viewer: UserId, page: Page) -> Pending<Option<Listed<PostView>>> {
        self.read(move |inner| async move { inner.by_author(author, viewer, page).await })
    }

    fn like(&self, like: Like) -> Pending<Liking> {
        self.change(move |inner| inner.like(like))
    }

    fn unlike(&self, user: UserId, post: PostId, now: Timestamp) -> Pending<bool> {
        self.change(move |inner| inner.unlike(user, post, now))
    }

    fn entries(&self, seqs: Vec<Seq>) -> Pending<Vec<Entry>> {
        self.read(move |inner| async move { inner.entries(seqs).await })
    }
}
