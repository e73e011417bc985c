//! Posts as a viewer sees them: the post, its likes, its author's name, and whether the viewer likes it.
//!
//! It owns no table. Posts that are deleted are left out here, whoever asked for them.

use super::cql::statements;
use super::entries::KEYS_AT_ONCE;
use super::stamp::{self, column, from_column};
use super::{Inner, likes};
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Content, Post, PostView};
use crate::model::timestamp::Timestamp;
use crate::storage::{Listed, Page, Place, StorageError};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// Reads that are under way at once.
const AT_ONCE: usize = 16;
/// Days with posts that are looked at together.
const DAYS: i32 = 31;
/// Rows asked for beyond those that are wanted: so many may be deleted without another round.
const SPARE: usize = 4;

statements! {
    /// What shows posts.
    Statements {
        posts: Read, "SELECT id, author, content, created_at, deleted_at, likes FROM posts WHERE id IN ?";
        names: Read, "SELECT id, username FROM users WHERE id IN ?";
        author: Read, "SELECT posts FROM authors WHERE id = ?";
        days: Read, "SELECT day FROM days_by_author WHERE author = ? AND day <= ? LIMIT ?";
        of_author: Read, "SELECT seq, post, deleted_at FROM posts_by_author WHERE author = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
    }
}

/// A post that is not deleted.
#[derive(Clone, Debug)]
pub(super) struct Living {
    pub(super) post: Post,
    /// How many like it, by shard.
    likes: HashMap<i32, i64>,
}

impl Living {
    /// Whether somebody of the viewer's shard likes it.
    fn may_be_liked_by(&self, viewer: UserId) -> bool {
        self.likes.get(&likes::shard_of(viewer)).is_some_and(|total| *total > 0)
    }
}

type PostRow = (Uuid, Option<Uuid>, Option<String>, Option<i64>, Option<i64>, Option<HashMap<i32, i64>>);

impl Inner {
    /// Posts by id, without those that are deleted or never were.
    pub(super) async fn living(&self, ids: &[PostId]) -> Result<HashMap<PostId, Post>, StorageError> {
        let rows = self.living_rows(ids).await?;
        Ok(rows.into_iter().map(|(id, living)| (id, living.post)).collect())
    }

    /// The same, with where they are liked.
    pub(super) async fn living_rows(&self, ids: &[PostId]) -> Result<HashMap<PostId, Living>, StorageError> {
        let rows: Vec<Vec<PostRow>> = iter(keys(ids.iter().map(|id| id.0)))
            .map(|ids| async move { self.cql.rows_at_once(&self.shown.posts, (ids,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let living = rows.into_iter().flatten().filter_map(|row| match row {
            (id, Some(author), Some(content), Some(created_at), None, likes) => {
                let likes = likes.unwrap_or_default();
                let post = Post {
                    id: PostId(id),
                    author: UserId(author),
                    content: Content::stored(content),
                    likes: u64::try_from(likes.values().sum::<i64>()).unwrap_or(0),
                    created_at: Timestamp::from_millis(created_at),
                };
                Some((post.id, Living { post, likes }))
            }
            _ => None,
        });
        Ok(living.collect())
    }

    /// The names of users.
    pub(super) async fn names(
        &self,
        users: impl IntoIterator<Item = UserId>,
    ) -> Result<HashMap<UserId, String>, StorageError> {
        let users: BTreeSet<Uuid> = users.into_iter().map(|user| user.0).collect();
        let rows: Vec<Vec<(Uuid, Option<String>)>> = iter(keys(users))
            .map(|users| async move { self.cql.rows_at_once(&self.shown.names, (users,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let named = rows.into_iter().flatten().filter_map(|(user, name)| Some((UserId(user), name?)));
        Ok(named.collect())
    }

    /// Posts as `viewer` sees them, in the order of `ids`.
    pub(super) async fn post_views(
        &self,
        ids: &[PostId],
        viewer: UserId,
    ) -> Result<Vec<PostView>, StorageError> {
        let (posts, liked) = tokio::try_join!(self.living(ids), self.liked(viewer, ids))?;
        let names = self.names(posts.values().map(|post| post.author)).await?;
        Ok(ids.iter().filter_map(|id| view(posts.get(id)?, &names, liked.contains(id))).collect())
    }

    /// Posts at places as `viewer` sees them, in that order, in one round. What the list of these places has read a
    /// moment ago is not asked for again.
    pub(super) async fn show(&self, places: &[Place], viewer: UserId) -> Result<Vec<PostView>, StorageError> {
        let ids: Vec<PostId> = places.iter().map(|place| place.post).collect();
        let mut posts = self.readers.take_noted(viewer);
        posts.retain(|id, _| ids.contains(id));
        let unread: Vec<PostId> = ids.iter().filter(|id| !posts.contains_key(id)).copied().collect();
        let may_be_liked = |id: &&PostId| posts.get(id).is_none_or(|living| living.may_be_liked_by(viewer));
        let asked: Vec<PostId> = ids.iter().filter(may_be_liked).copied().collect();
        let (read, liked, names) = tokio::try_join!(
            self.living_rows(&unread),
            self.liked(viewer, &asked),
            self.names(places.iter().map(|place| place.author)),
        )?;
        posts.extend(read);
        let shown = ids.iter().filter_map(|id| view(&posts.get(id)?.post, &names, liked.contains(id)));
        Ok(shown.collect())
    }

    /// A page of an author's posts.
    pub(super) async fn by_author(
        &self,
        author: UserId,
        viewer: UserId,
        page: Page,
    ) -> Result<Option<Listed<PostView>>, StorageError> {
        let mut before = Seq(page.before.unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs()));
        let (names, total, mut days) = tokio::try_join!(
            self.names([author]),
            self.cql.first::<(Option<i64>,)>(&self.shown.author, (author.0,)),
            self.days(author, stamp::day(before)),
        )?;
        if names.is_empty() {
            return Ok(None);
        }
        let total = total.and_then(|(posts,)| posts).unwrap_or(0);
        let mut items = Vec::with_capacity(page.limit);
        while let Some(oldest) = days.last().copied()
            && items.len() < page.limit
        {
            let ask = page.limit - items.len() + SPARE;
            let rows = i32::try_from(ask).unwrap_or(i32::MAX);
            let values = (author.0, &days, column(before), rows, rows);
            let found: Vec<(i64, Uuid, Option<i64>)> =
                self.cql.rows_at_once(&self.shown.of_author, values).await?;
            if found.len() < ask {
                days = self.days(author, oldest - 1).await?;
            }
            let Some((last, ..)) = found.last() else { continue };
            before = from_column(*last);
            let living: Vec<_> =
                found.into_iter().filter(|(_, _, deleted_at)| deleted_at.is_none()).collect();
            let ids: Vec<PostId> = living.iter().map(|(_, post, _)| PostId(*post)).collect();
            let (posts, liked) = tokio::try_join!(self.living(&ids), self.liked(viewer, &ids))?;
            items.extend(living.iter().zip(&ids).filter_map(|((seq, ..), id)| {
                let view = view(posts.get(id)?, &names, liked.contains(id))?;
                Some((from_column(*seq).0, view))
            }));
        }
        items.truncate(page.limit);
        Ok(Some(Listed { items, total: u64::try_from(total).unwrap_or(0) }))
    }

    /// Some days on which an author posted, the newest first, from `newest` back.
    async fn days(&self, author: UserId, newest: i32) -> Result<Vec<i32>, StorageError> {
        let days: Vec<(i32,)> = self.cql.rows_at_once(&self.shown.days, (author.0, newest, DAYS)).await?;
        Ok(days.into_iter().map(|(day,)| day).collect())
    }
}

/// A post whose author is known.
fn view(post: &Post, names: &HashMap<UserId, String>, is_liked: bool) -> Option<PostView> {
    let author_name = names.get(&post.author)?.clone();
    Some(PostView { post: post.clone(), author_name, is_liked })
}

/// Keys as one statement takes them.
fn keys(ids: impl IntoIterator<Item = Uuid>) -> Vec<Vec<Uuid>> {
    let ids: Vec<Uuid> = ids.into_iter().collect();
    ids.chunks(KEYS_AT_ONCE).map(<[Uuid]>::to_vec).collect()
}
