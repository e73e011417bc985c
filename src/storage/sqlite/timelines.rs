//! Timelines are read, not written: the newest living posts of those one follows, merged by index.
//!
//! Two ways lead to the same list. Who follows many first walks the store's newest entries and keeps
//! those of its followees, which finds a page in a few hundred rows where they post their share; what
//! that does not find, and the timeline of who follows few, is merged author by author, each sought only
//! when its newest post may be next. What is missed behind a cursor: see `missed`.

use super::posts::post_at;
use super::statement::{Statements, key_of, number_of, place, post_id, seq, user_id, viewer_key};
use super::{Store, missed};
use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::id::UserId;
use crate::model::post::PostView;
use crate::model::timestamp::Timestamp;
use crate::storage::{
    Missed, Pending, Place, StorageError, TIMELINE_AGE, TIMELINE_ENTRIES, TimelineFrom, Timelines,
};
use rusqlite::{Connection, params};
use std::collections::BinaryHeap;

/// Who follows fewer is served by the merge alone: it costs less than walking.
const MANY_FOLLOWEES: usize = 64;
/// Entries walked for each followee before the merge takes over: about what the merge would cost.
const WALK: usize = 4;
/// Entries that it is worth walking on for each that was found: about what the merge takes to find one.
const WALK_ON: usize = 16;

impl Timelines for Store {
    fn list(&self, user: UserId, from: TimelineFrom, limit: usize) -> Pending<Vec<Place>> {
        self.read(move |store| places(store, list(store, user, from, limit)?))
    }

    fn total(&self, user: UserId) -> Pending<u64> {
        self.read(move |store| total(store, user))
    }

    fn show(&self, user: UserId, places: Vec<Place>) -> Pending<Vec<PostView>> {
        self.read(move |store| {
            let viewer = viewer_key(store, user)?;
            let mut shown = Vec::with_capacity(places.len());
            for place in places {
                shown.extend(post_at(store, place.seq, viewer)?);
            }
            Ok(shown)
        })
    }

    fn since(&self, user: UserId, cursor: Cursor) -> Pending<Missed> {
        let name = self.name;
        self.read(move |store| missed::since(store, name, user, cursor))
    }

    fn store_name(&self) -> StoreName {
        self.name
    }
}

/// What a timeline may hold at all, whoever wrote it.
struct Window {
    /// Entries before this were swept, hence are too old.
    from: Seq,
    /// Posts made before this are too old.
    made_from: Timestamp,
}

impl Window {
    fn now(store: &Connection) -> Result<Self, StorageError> {
        let swept = number_of(store, "swept")?;
        Ok(Self {
            from: Seq(u64::try_from(swept).unwrap_or(0) + 1),
            made_from: Timestamp::now().before(TIMELINE_AGE),
        })
    }
}

/// An author whose posts the timeline holds, from a place on.
#[derive(Clone, Copy)]
struct Source {
    author: i64,
    from: Seq,
}

/// All that one reads, in order of author.
fn sources(store: &Connection, user: i64, window: &Window) -> Result<Vec<Source>, StorageError> {
    let mut sources = store.all(
        "SELECT followee, sees_from FROM following WHERE follower = ?1 ORDER BY followee",
        [user],
        |row| Ok(Source { author: row.get(0)?, from: seq(row, 1)?.max(window.from) }),
    )?;
    let own = sources.partition_point(|source| source.author < user);
    sources.insert(own, Source { author: user, from: window.from });
    Ok(sources)
}

fn list(
    store: &Connection,
    user: UserId,
    from: TimelineFrom,
    limit: usize,
) -> Result<Vec<Seq>, StorageError> {
    let Some(user) = key_of(store, user)? else {
        return Ok(Vec::new());
    };
    let (skip, below) = match from {
        TimelineFrom::Offset(skip) => (skip, Seq(u64::MAX)),
        TimelineFrom::Before(seq) => (0, seq),
    };
    // Behind the last entry of a timeline is nothing, however much was posted.
    let limit = limit.min(TIMELINE_ENTRIES.saturating_sub(skip));
    if limit == 0 {
        return Ok(Vec::new());
    }
    let window = Window::now(store)?;
    let sources = sources(store, user, &window)?;
    let mut found = newest(store, &sources, &window, below, skip + limit)?;
    found.drain(..skip.min(found.len()));
    Ok(found)
}

/// The posts' ids and authors beside their numbers.
fn places(store: &Connection, seqs: Vec<Seq>) -> Result<Vec<Place>, StorageError> {
    let mut places = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let found = store.first(
            "SELECT p.id, u.id FROM posts p JOIN users u ON u.key = p.author WHERE p.seq = ?1",
            [place(seq)],
            |row| Ok(Place { seq, post: post_id(row, 0)?, author: user_id(row, 1)? }),
        )?;
        places.extend(found);
    }
    Ok(places)
}

/// The newest `count` living posts of `sources` below a place.
fn newest(
    store: &Connection,
    sources: &[Source],
    window: &Window,
    below: Seq,
    count: usize,
) -> Result<Vec<Seq>, StorageError> {
    let mut found = Vec::with_capacity(count);
    let below = match sources.len() {
        ..MANY_FOLLOWEES => Some(below),
        many => walk(store, sources, window, below, many * WALK, count, &mut found)?,
    };
    if let Some(below) = below {
        merge(store, sources, window, below, count, &mut found)?;
    }
    Ok(found)
}

/// Walks back over `steps` entries, and on while it finds enough; answers below which place it did not
/// look, if anything is still wanted from there.
fn walk(
    store: &Connection,
    sources: &[Source],
    window: &Window,
    below: Seq,
    steps: usize,
    count: usize,
    found: &mut Vec<Seq>,
) -> Result<Option<Seq>, StorageError> {
    let mut entries = store.prepare_cached(
        "SELECT seq, author, deletes FROM entries WHERE seq < ?1 AND seq >= ?2 ORDER BY seq DESC",
    )?;
    let mut rows = entries.query([place(below), place(window.from)])?;
    let mut last = below;
    let mut walked = 0;
    while walked < steps + found.len() * WALK_ON {
        walked += 1;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        last = seq(row, 0)?;
        let author: i64 = row.get(1)?;
        let source = sources.binary_search_by_key(&author, |source| source.author);
        if row.get::<_, Option<i64>>(2)?.is_some()
            || source.is_ok_and(|at| last < sources[at].from)
            || source.is_err()
        {
            continue;
        }
        let living = store.first(
            "SELECT 1 FROM posts WHERE seq = ?1 AND deleted_at IS NULL AND created_at >= ?2",
            params![place(last), window.made_from.millis()],
            |_| Ok(()),
        )?;
        if living.is_some() {
            found.push(last);
            if found.len() == count {
                return Ok(None);
            }
        }
    }
    Ok(Some(last))
}

/// Merges the sources below a place: the one whose next post may be the newest is sought first, and
/// only those that contribute are sought again.
fn merge(
    store: &Connection,
    sources: &[Source],
    window: &Window,
    below: Seq,
    count: usize,
    found: &mut Vec<Seq>,
) -> Result<(), StorageError> {
    // At most where its next post is, whether that is known, and which source.
    let mut heads: BinaryHeap<(Seq, bool, usize)> = BinaryHeap::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let newest = store.first("SELECT newest_seq FROM users WHERE key = ?1", [source.author], |row| {
            row.get::<_, Option<i64>>(0)
        })?;
        let newest = newest.flatten().and_then(|newest| u64::try_from(newest).ok()).map(Seq);
        if let Some(newest) = newest.filter(|newest| *newest >= source.from) {
            heads.push((newest.min(Seq(below.0.saturating_sub(1))), false, index));
        }
    }
    while found.len() < count
        && let Some((head, known, index)) = heads.pop()
    {
        let upto = if known {
            found.push(head);
            Seq(head.0.saturating_sub(1))
        } else {
            head
        };
        let source = sources[index];
        let next = store.first(
            "SELECT seq FROM posts WHERE author = ?1 AND deleted_at IS NULL AND seq <= ?2 AND seq >= ?3
             AND created_at >= ?4 ORDER BY seq DESC LIMIT 1",
            params![source.author, place(upto), place(source.from), window.made_from.millis()],
            |row| seq(row, 0),
        )?;
        heads.extend(next.map(|next| (next, true, index)));
    }
    Ok(())
}

fn total(store: &Connection, user: UserId) -> Result<u64, StorageError> {
    let Some(user) = key_of(store, user)? else {
        return Ok(0);
    };
    let window = Window::now(store)?;
    let most = TIMELINE_ENTRIES as u64;
    let mut counted = 0;
    for source in sources(store, user, &window)? {
        let posts = store.first(
            "SELECT count(*) FROM (SELECT 1 FROM posts
             WHERE author = ?1 AND deleted_at IS NULL AND seq >= ?2 AND created_at >= ?3 LIMIT ?4)",
            params![source.author, place(source.from), window.made_from.millis(), most as i64],
            |row| super::statement::count(row, 0),
        )?;
        counted += posts.unwrap_or(0);
        if counted >= most {
            return Ok(most);
        }
    }
    Ok(counted)
}
