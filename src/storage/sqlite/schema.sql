-- The whole schema, version 4. A new store is made from this file; older ones come here step by step
-- (migrations.rs). Ids on the wire are UUIDs (16 bytes here); inside, rows refer to each other by
-- integers. Times are milliseconds since 1970. Every table is STRICT.
--
-- Set beside it, by the code: auto_vacuum = INCREMENTAL (before the first table), application_id,
-- user_version, journal_mode = WAL.

-- Single numbers: `store_name` (the StoreName's bits), `swept` (every entry up to there was removed for
-- its age), `chat_swept` (the same of chat events), `follow_place` (the place of the newest follow), `checked` (written to see
-- whether one can).
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

-- Who takes part does not change. Messages are numbered from 1 without a gap.
CREATE TABLE conversations (
    key         INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL UNIQUE,
    set_key     BLOB    NOT NULL UNIQUE,      -- SHA-256: the same set is the same conversation
    created_at  INTEGER NOT NULL,
    last_number INTEGER NOT NULL DEFAULT 0,
    last_id     BLOB,                         -- of that message
    active_at   INTEGER NOT NULL DEFAULT 0    -- of that message, or when it was made
) STRICT;

-- `unread` is not stored: of the messages behind `read_number` those that others sent, which is
-- (last_number - read_number) - (sent - read_own).
CREATE TABLE conversation_members (
    user         INTEGER NOT NULL REFERENCES users (key),
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    sent         INTEGER NOT NULL DEFAULT 0,  -- by this user
    read_number  INTEGER NOT NULL DEFAULT 0,  -- all up to there is read
    read_own     INTEGER NOT NULL DEFAULT 0,  -- how many of those this user sent
    PRIMARY KEY (user, conversation),
    CHECK (read_own <= read_number AND read_own <= sent)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_members_by_conversation ON conversation_members (conversation);

CREATE TABLE messages (
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    number       INTEGER NOT NULL,
    id           BLOB    NOT NULL,            -- its last 32 bits are the number's
    sender       INTEGER NOT NULL REFERENCES users (key),
    sender_count INTEGER NOT NULL,            -- how many its sender has sent here, this one included
    body         TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (conversation, number)
) STRICT;
CREATE INDEX messages_by_sender ON messages (conversation, sender, number, sender_count);

CREATE TABLE chat_keys (
    user         INTEGER NOT NULL REFERENCES users (key),
    key          TEXT    NOT NULL,
    digest       BLOB    NOT NULL,            -- SHA-256 of what it came with
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    number       INTEGER NOT NULL,            -- of the message that was made
    at           INTEGER NOT NULL,
    PRIMARY KEY (user, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX chat_keys_by_age ON chat_keys (at);

-- Every message of the last 30 days, in the order in which they were committed, which is the order of inboxes: one is read, the
-- events of its user's conversations. Older ones are swept; meta's `chat_swept` tells up to where.
CREATE TABLE chat_events (
    place        INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    message      BLOB    NOT NULL,
    at           INTEGER NOT NULL
) STRICT;
CREATE INDEX chat_events_by_conversation ON chat_events (conversation);   -- and by place

-- Up to which place a user's inbox was written to a live stream; without a row nothing was.
CREATE TABLE inboxes (
    user INTEGER PRIMARY KEY REFERENCES users (key),
    seen INTEGER NOT NULL
) STRICT;

-- What does not change of a room, and beside it what each group of presses does; epoch, version: who may write the next group.
-- An ended room stays for a day, so that its id is not given again by somebody who makes it late.
CREATE TABLE rooms (
    key          INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE,     -- a ULID
    owner        BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    event_types  TEXT    NOT NULL,            -- a name, a space and a base a line
    epoch        INTEGER NOT NULL DEFAULT 0,  -- how often it was taken
    version      INTEGER NOT NULL DEFAULT 0,  -- how many groups were written
    counts       BLOB    NOT NULL,            -- 4 bytes an event type
    next_seq     INTEGER NOT NULL DEFAULT 1,  -- of the next effect
    sent         INTEGER NOT NULL DEFAULT 0,  -- effects up to there are gone
    acknowledges INTEGER NOT NULL DEFAULT 0,  -- whether a host of it has acknowledged
    presses_from INTEGER NOT NULL DEFAULT 0,  -- presses of versions below are gone
    active_at    INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;
CREATE INDEX rooms_by_owner ON rooms (owner, id) WHERE ended_at IS NULL;
CREATE INDEX rooms_by_activity ON rooms (active_at) WHERE ended_at IS NULL;
CREATE INDEX rooms_by_end ON rooms (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE room_effects (
    room          INTEGER NOT NULL REFERENCES rooms (key),
    seq           INTEGER NOT NULL,
    event_type    INTEGER NOT NULL,           -- its place among the room's
    trigger_count INTEGER NOT NULL,
    viewer_count  INTEGER NOT NULL,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;

-- A row a group: 27 bytes a press.
CREATE TABLE room_presses (
    room    INTEGER NOT NULL REFERENCES rooms (key),
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    presses BLOB    NOT NULL,
    PRIMARY KEY (room, version)
) STRICT;
CREATE INDEX room_presses_by_age ON room_presses (at);
