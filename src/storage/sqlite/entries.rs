//! Entries as others read them: what a number stands for now.

use super::statement::{Statements, count, place, post_id, time, time_or_none, user_id};
use crate::model::cursor::Seq;
use crate::model::post::{Content, Post};
use crate::storage::{Entry, EntryChange, StorageError};
use rusqlite::{Connection, Row};

/// The entry of that number; none where it is swept, or is a post that was deleted since.
pub(super) fn entry(store: &Connection, seq: Seq) -> Result<Option<Entry>, StorageError> {
    let change = store.first(
        "SELECT e.deletes IS NOT NULL, u.id, u.username, p.id, p.content, p.likes, p.created_at, p.deleted_at
         FROM entries e JOIN posts p ON p.seq = coalesce(e.deletes, e.seq) JOIN users u ON u.key = e.author
         WHERE e.seq = ?1",
        [place(seq)],
        change,
    )?;
    Ok(change.flatten().map(|change| Entry { seq, change }))
}

fn change(row: &Row<'_>) -> rusqlite::Result<Option<EntryChange>> {
    let deletes: bool = row.get(0)?;
    let (author, id) = (user_id(row, 1)?, post_id(row, 3)?);
    Ok(match time_or_none(row, 7)? {
        Some(deleted_at) if deletes => Some(EntryChange::Deleted { id, author, deleted_at }),
        Some(_) => None,
        None => Some(EntryChange::Posted {
            author_name: row.get(2)?,
            post: Post {
                id,
                author,
                content: Content::stored(row.get(4)?),
                likes: count(row, 5)?,
                created_at: time(row, 6)?,
            },
        }),
    })
}
