//! Whom one reads, and from where: what `following` says of the authors that are looked at.
//!
//! It owns no table. What is shown needs no answer at LOCAL_SERIAL: a follow or unfollow that was answered is in
//! its row.

use super::Inner;
use super::cql::statements;
use super::entries::KEYS_AT_ONCE;
use super::stamp::from_column;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::StorageError;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// Of more authors than this the whole partition is read.
const MOST_BY_KEY: usize = 300;

statements! {
    /// What finds followees.
    Statements {
        some: Read, "SELECT followee, state, since, sees_from FROM following WHERE follower = ? AND followee IN ?";
        all: Read, "SELECT followee, state, since, sees_from FROM following WHERE follower = ?";
    }
}

/// What one sees of somebody followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    /// What is newer was made after the follow began.
    pub(super) since: Seq,
    /// What is older is not on the timeline.
    pub(super) sees_from: Seq,
}

type Row = (Option<Uuid>, Option<i8>, Option<i64>, Option<i64>);

impl Inner {
    /// Those of `authors` whom a reader follows now.
    pub(super) async fn followed(
        &self,
        reader: UserId,
        authors: impl IntoIterator<Item = UserId>,
    ) -> Result<HashMap<UserId, Followed>, StorageError> {
        let authors: BTreeSet<UserId> = authors.into_iter().collect();
        let Statements { some, all } = &self.sources;
        let rows: Vec<Row> = if authors.is_empty() {
            Vec::new()
        } else if authors.len() > MOST_BY_KEY {
            self.cql.rows(all, (reader.0,)).await?
        } else {
            let keys: Vec<Uuid> = authors.iter().map(|author| author.0).collect();
            let chunks: Vec<Vec<Uuid>> = keys.chunks(KEYS_AT_ONCE).map(<[Uuid]>::to_vec).collect();
            let found: Vec<Vec<Row>> = iter(chunks)
                .map(|keys| async move { self.cql.rows_at_once(some, (reader.0, keys)).await })
                .buffer_unordered(MOST_BY_KEY)
                .try_collect()
                .await?;
            found.into_iter().flatten().collect()
        };
        let followed = rows.into_iter().filter_map(followed);
        Ok(followed.filter(|(followee, _)| authors.contains(followee)).collect())
    }
}

/// Who a row says is followed.
pub(super) fn followed((followee, state, since, sees_from): Row) -> Option<(UserId, Followed)> {
    let seq = |column: Option<i64>| column.map_or(Seq(0), from_column);
    let followee = UserId(followee.filter(|_| state == Some(1))?);
    Some((followee, Followed { since: seq(since), sees_from: seq(sees_from) }))
}
