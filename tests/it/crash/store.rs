//! What a killed server left, looked at with SQLite itself.

use crate::harness::child::RealServer;
use rusqlite::Connection;
use std::fs;

/// Rows that would be half of something; each query finds none.
const HALVES: [&str; 14] = [
    "SELECT 'posts of ' || username FROM users WHERE posts <>
        (SELECT count(*) FROM posts WHERE author = users.key AND deleted_at IS NULL)",
    "SELECT 'followers of ' || username FROM users WHERE followers <>
        (SELECT count(*) FROM following WHERE followee = users.key)",
    "SELECT 'followed by ' || username FROM users WHERE following <>
        (SELECT count(*) FROM following WHERE follower = users.key)",
    "SELECT 'newest post of ' || username FROM users WHERE newest_seq IS NOT
        (SELECT max(seq) FROM posts WHERE author = users.key)",
    "SELECT 'likes of post ' || seq FROM posts WHERE likes <>
        (SELECT count(*) FROM likes WHERE post = posts.seq)",
    "SELECT 'post without an entry ' || seq FROM posts WHERE NOT EXISTS
        (SELECT 1 FROM entries WHERE seq = posts.seq AND author = posts.author AND deletes IS NULL)",
    "SELECT 'deletion without an entry ' || seq FROM posts WHERE (deleted_at IS NOT NULL) <> EXISTS
        (SELECT 1 FROM entries WHERE deletes = posts.seq)",
    "SELECT 'key without a post ' || key FROM idempotency_keys WHERE NOT EXISTS
        (SELECT 1 FROM posts WHERE author = user AND content = idempotency_keys.content)
        AND NOT EXISTS (SELECT 1 FROM posts WHERE author = user AND deleted_at IS NOT NULL)",
    "SELECT 'delivery without an entry ' || seq FROM deliveries WHERE NOT EXISTS
        (SELECT 1 FROM entries WHERE seq = deliveries.seq)",
    "SELECT 'messages of conversation ' || key FROM conversations WHERE last_number <>
        (SELECT count(*) FROM messages WHERE conversation = conversations.key)",
    "SELECT 'events of conversation ' || key FROM conversations WHERE last_number <>
        (SELECT count(*) FROM chat_events WHERE conversation = conversations.key)",
    "SELECT 'event without its message ' || place FROM chat_events
        WHERE (conversation, message) NOT IN (SELECT conversation, id FROM messages)",
    "SELECT 'seen of user ' || user FROM inboxes WHERE seen >
        (SELECT coalesce(max(place), 0) FROM chat_events)",
    "SELECT 'message without a key ' || number FROM messages WHERE NOT EXISTS
        (SELECT 1 FROM chat_keys WHERE user = sender AND conversation = messages.conversation
            AND number = messages.number)",
];

/// Checks a copy of the database, where there is one, so that the server finds what it left and recovers it by
/// itself.
pub fn is_whole(server: &RealServer) {
    if !server.stands_alone() {
        return;
    }
    let data_dir = server.data_dir();
    let copy = tempfile::tempdir().expect("a folder");
    for name in ["roost.db", "roost.db-wal"] {
        if data_dir.join(name).exists() {
            fs::copy(data_dir.join(name), copy.path().join(name)).expect("a copy");
        }
    }
    let database = Connection::open(copy.path().join("roost.db")).expect("a database");
    let integrity: String =
        database.pragma_query_value(None, "integrity_check", |row| row.get(0)).expect("its integrity");
    assert_eq!(integrity, "ok");
    let mut foreign = database.prepare("PRAGMA foreign_key_check").expect("a query");
    assert!(!foreign.exists([]).expect("rows"), "a row refers to one that is not there");
    for query in HALVES {
        let mut statement = database.prepare(query).expect("a query");
        let halves: Vec<String> =
            statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("text")).collect();
        assert!(halves.is_empty(), "{halves:?}");
    }
}
