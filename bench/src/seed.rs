//! Fills a stopped server's store with more than REST could bring in reasonable time.
//!
//! It knows the tables of `src/storage/sqlite/schema.sql` and writes what those calls would have left
//! behind: authors, their posts in order, one reader who follows some of them, and the counts of all.
//! It refuses nothing that SQLite does not; a schema that has changed is an error that names the column.

use std::path::{Path, PathBuf};

use crate::board::{Mark, content, now};
use crate::error::{Error, Result, io_error};
use crate::people::Person;
use crate::progress::Progress;
use rusqlite::{Connection, Transaction, params};

/// Posts lie within this long before now: within the 30 days that a timeline holds.
const SPAN_MILLISECONDS: u64 = 20 * 24 * 3_600 * 1_000;

/// What is to be in the store.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Authors.
    pub authors: u64,
    /// Posts, by all of them.
    pub posts: u64,
    /// How many of the authors the reader follows.
    pub followees: u64,
}

/// Fills the store in this data folder for a reader that is registered there. The server must be down.
pub fn fill(folder: &Path, reader: &Person, amount: Amount, progress: &Progress) -> Result<()> {
    let mut store = Connection::open(store_in(folder)?)?;
    // A crash here costs the run, not anybody's data.
    store.pragma_update(None, "synchronous", "OFF")?;
    let filling = store.transaction()?;
    add_authors(&filling, amount.authors)?;
    add_posts(&filling, amount, progress)?;
    let _stage = progress.spinner("counting and committing");
    add_follows(&filling, reader, amount.followees)?;
    filling.execute_batch(
        "UPDATE users SET
             posts = (SELECT count(*) FROM posts WHERE author = key AND deleted_at IS NULL),
             newest_seq = (SELECT max(seq) FROM entries WHERE author = key)
         WHERE username_key LIKE 'seeded-%';
         UPDATE users SET newest_post_id = (SELECT id FROM posts WHERE seq = newest_seq)
         WHERE username_key LIKE 'seeded-%';
         PRAGMA optimize",
    )?;
    filling.commit()?;
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// The one store in a data folder.
pub fn store_in(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(io_error(format!("{}", folder.display())))?;
    let mut stores = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "db"));
    match (stores.next(), stores.next()) {
        (Some(store), None) => Ok(store),
        _ => Err(Error::Refused(format!("{} holds not one store", folder.display()))),
    }
}

fn add_authors(store: &Transaction<'_>, authors: u64) -> Result<()> {
    let mut insert = store
        .prepare("INSERT INTO users (id, username, username_key, created_at) VALUES (?1, ?2, ?2, ?3)")?;
    let made_at = now() / 1_000_000 - SPAN_MILLISECONDS;
    for author in 0..authors {
        let name = format!("seeded-{author:06}");
        insert.execute(params![id(made_at, author), name, made_at as i64])?;
    }
    Ok(())
}

fn add_posts(store: &Transaction<'_>, amount: Amount, progress: &Progress) -> Result<()> {
    let first_author: i64 =
        store.query_row("SELECT min(key) FROM users WHERE username_key LIKE 'seeded-%'", [], |row| {
            row.get(0)
        })?;
    let mut entry = store.prepare("INSERT INTO entries (author, at) VALUES (?1, ?2)")?;
    let mut post = store
        .prepare("INSERT INTO posts (seq, id, author, content, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let bar = progress.bar("posts straight into the store", amount.posts / 1_000);
    let first_at = now() / 1_000_000 - SPAN_MILLISECONDS + 1_000;
    for number in 0..amount.posts {
        let at = first_at + (SPAN_MILLISECONDS - 2_000) * number / amount.posts;
        // A multiplier without a common factor visits all authors, and not in the order of their keys.
        let author = first_author + (number.wrapping_mul(7_919) % amount.authors) as i64;
        let seq = entry.insert(params![author, at as i64])?;
        let text = content(Mark { sent_at: at * 1_000_000, number: number as u32 });
        post.execute(params![seq, id(at, number), author, text, at as i64])?;
        if number % 1_000 == 999 {
            bar.inc(1);
        }
    }
    Ok(())
}

fn add_follows(store: &Transaction<'_>, reader: &Person, followees: u64) -> Result<()> {
    let reader = reader.uuid()?;
    let key: i64 =
        store.query_row("SELECT key FROM users WHERE id = ?1", [reader.as_bytes()], |row| row.get(0))?;
    let place: i64 =
        store.query_row("SELECT value FROM meta WHERE name = 'follow_place'", [], |row| row.get(0))?;
    let mut insert = store.prepare(
        "INSERT INTO following (follower, followee, id, created_at, since, sees_from, place)
         SELECT ?1, key, ?2, ?3, 0, 0, ?4 FROM users WHERE username_key = ?5",
    )?;
    let at = now() / 1_000_000;
    for followee in 0..followees {
        let name = format!("seeded-{followee:06}");
        let place = place + 1 + followee as i64;
        insert.execute(params![key, id(at, followee), at as i64, place, name])?;
    }
    store.execute("UPDATE meta SET value = ?1 WHERE name = 'follow_place'", [place + followees as i64])?;
    store.execute("UPDATE users SET following = ?1 WHERE key = ?2", params![followees as i64, key])?;
    store.execute(
        "UPDATE users SET followers = 1 WHERE key IN (SELECT followee FROM following WHERE follower = ?1)",
        [key],
    )?;
    Ok(())
}

/// A UUID of version 7 whose random part is the number: unique here, and ordered like the numbers.
pub fn id(milliseconds: u64, number: u64) -> [u8; 16] {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    *uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid().as_bytes()
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use uuid::Uuid;

    use super::{Amount, fill, id};
    use crate::people::Person;
    use crate::progress::Progress;

    #[test]
    fn ids_grow_with_time_and_number() {
        let ids = [id(5, 9), id(6, 0), id(6, 1), id(6, 1 << 40), id(7, 0)];
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id[6] >> 4 == 7), "version 7");
    }

    #[test]
    fn the_store_s_own_schema_takes_what_is_written_and_every_count_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let store = Connection::open(folder.path().join("roost.db")).unwrap();
        store.execute_batch(include_str!("../../src/storage/sqlite/schema.sql")).unwrap();
        store.execute("INSERT INTO meta (name, value) VALUES ('follow_place', 7)", []).unwrap();
        let reader = Uuid::from_u128(5);
        store
            .execute(
                "INSERT INTO users (id, username, username_key, created_at) VALUES (?1, 'r', 'r', 0)",
                [reader.as_bytes()],
            )
            .unwrap();
        let person = Person { id: reader.to_string(), token: String::new() };
        let amount = Amount { authors: 10, posts: 1_000, followees: 4 };
        fill(folder.path(), &person, amount, &Progress::quiet()).unwrap();

        let count = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM posts JOIN entries USING (seq, author)"), 1_000);
        assert_eq!(count("SELECT count(*) FROM users WHERE posts = 100"), 10);
        assert_eq!(count("SELECT following FROM users WHERE username_key = 'r'"), 4);
        assert_eq!(count("SELECT sum(followers) FROM users"), 4);
        assert_eq!(count("SELECT value FROM meta WHERE name = 'follow_place'"), 11);
        assert_eq!(count("SELECT max(place) FROM following"), 11);
        let newest = "SELECT count(*) FROM users JOIN posts ON posts.id = newest_post_id AND seq = newest_seq
                      WHERE seq = (SELECT max(seq) FROM posts WHERE author = key)";
        assert_eq!(count(newest), 10);
        let timeline = "SELECT count(*) FROM following JOIN posts ON author = followee AND seq >= sees_from";
        assert_eq!(count(timeline), 400);
    }
}
