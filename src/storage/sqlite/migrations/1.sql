-- The whole schema as version 1 had it, for the test of the step from there. It does not change any more.
--
-- Set beside it, by the code: auto_vacuum = INCREMENTAL (before the first table), application_id,
-- user_version, journal_mode = WAL.

-- Single numbers: `store_name` (the StoreName's bits), `swept` (every entry up to there was removed for
-- its age), `follow_place` (the place of the newest follow), `checked` (written to see whether one can).
CREATE TABLE meta (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    key            INTEGER PRIMARY KEY,
    id             BLOB    NOT NULL UNIQUE,
    email          TEXT,
    email_key      TEXT    UNIQUE,            -- in lower case
    username       TEXT    NOT NULL,
    username_key   TEXT    NOT NULL UNIQUE,   -- in lower case
    password_hash  TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER,
    posts          INTEGER NOT NULL DEFAULT 0 CHECK (posts >= 0),      -- not deleted
    followers      INTEGER NOT NULL DEFAULT 0 CHECK (followers >= 0),
    following      INTEGER NOT NULL DEFAULT 0 CHECK (following >= 0),
    newest_post_id BLOB,                      -- deleted ones included: ids of an author only grow
    newest_seq     INTEGER                    -- of that post
) STRICT;

-- Users of outside issuers.
CREATE TABLE outside_users (
    issuer  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    user    INTEGER NOT NULL REFERENCES users (key),
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

-- A login begun here has a user; one of an outside issuer is here only once it is revoked.
CREATE TABLE logins (
    id         BLOB    PRIMARY KEY,
    user       INTEGER REFERENCES users (key),
    created_at INTEGER,
    expires_at INTEGER NOT NULL,
    revoked    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_by_expiry ON logins (expires_at);
CREATE INDEX logins_revoked ON logins (expires_at) WHERE revoked = 1;

CREATE TABLE refresh_tokens (
    hash       BLOB    PRIMARY KEY,           -- SHA-256
    login      BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    spent      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Every post and every deletion, in the order in which they were committed. AUTOINCREMENT: a number is
-- never given twice, and sqlite_sequence tells the newest one even when all rows are swept.
CREATE TABLE entries (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    author  INTEGER NOT NULL REFERENCES users (key),
    deletes INTEGER,                          -- the posts.seq that it deletes; NULL: it makes the post `seq`
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX entries_by_author ON entries (author);   -- and by seq: an index ends with the row's key

-- A post keeps the number of its entry. A deleted one is a row without content until its deletion is
-- swept; its likes go sooner, a slice at a time, `likes` counting what is left of them.
CREATE TABLE posts (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    author     INTEGER NOT NULL REFERENCES users (key),
    content    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    likes      INTEGER NOT NULL DEFAULT 0 CHECK (likes >= 0)
) STRICT;
CREATE INDEX posts_living ON posts (author, seq, created_at) WHERE deleted_at IS NULL;
CREATE INDEX posts_deleted_with_likes ON posts (seq) WHERE deleted_at IS NOT NULL AND likes > 0;

CREATE TABLE likes (
    post       INTEGER NOT NULL REFERENCES posts (seq) ON DELETE CASCADE,
    user       INTEGER NOT NULL REFERENCES users (key),
    id         BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (post, user)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    user       INTEGER NOT NULL REFERENCES users (key),
    key        TEXT    NOT NULL,
    body       BLOB    NOT NULL,              -- SHA-256
    post       BLOB    NOT NULL,              -- the post as it was answered, whatever became of it
    content    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- The follower's timeline shows the followee's posts from `sees_from` on; what lies behind `since` was
-- made after the follow. `place` grows with every follow: lists go by it.
CREATE TABLE following (
    follower   INTEGER NOT NULL REFERENCES users (key),
    followee   INTEGER NOT NULL REFERENCES users (key),
    id         BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    sees_from  INTEGER NOT NULL,
    place      INTEGER NOT NULL,
    PRIMARY KEY (follower, followee),
    CHECK (follower <> followee)
) STRICT, WITHOUT ROWID;
CREATE INDEX following_by_follower ON following (follower, place);
CREATE INDEX following_by_followee ON following (followee, place);

-- Deliveries that are not done, by the number of their entry.
CREATE TABLE deliveries (
    seq     INTEGER PRIMARY KEY,
    author  INTEGER NOT NULL REFERENCES users (key),
    made_at INTEGER NOT NULL
) STRICT;

-- Events that are not sent.
CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    event    TEXT    NOT NULL,                -- a CloudEvent as JSON
    attempts INTEGER NOT NULL DEFAULT 0,
    made_at  INTEGER NOT NULL,
    due_at   INTEGER NOT NULL
) STRICT;

-- Events that were given up.
CREATE TABLE dead_letters (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    event     TEXT    NOT NULL,
    error     TEXT    NOT NULL,
    attempts  INTEGER NOT NULL,
    buried_at INTEGER NOT NULL
) STRICT;
