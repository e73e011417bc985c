-- From version 1: chat. Version 1 had none.

-- Who takes part does not change. Messages are numbered from 1 without a gap.
CREATE TABLE conversations (
    key         INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL UNIQUE,
    set_key     BLOB    NOT NULL UNIQUE,      -- SHA-256: the same set is the same conversation
    created_at  INTEGER NOT NULL,
    last_number INTEGER NOT NULL DEFAULT 0,
    last_id     BLOB                          -- of that message
) STRICT;

-- `unread` is not stored: of the messages behind `read_number` those that others sent, which is
-- (last_number - read_number) - (sent - read_own).
CREATE TABLE conversation_members (
    user         INTEGER NOT NULL REFERENCES users (key),
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    id           BLOB    NOT NULL,            -- the conversation's: lists go by it where times are the same
    active_at    INTEGER NOT NULL,            -- of the newest message, or when it was made
    sent         INTEGER NOT NULL DEFAULT 0,  -- by this user
    read_number  INTEGER NOT NULL DEFAULT 0,  -- all up to there is read
    read_own     INTEGER NOT NULL DEFAULT 0,  -- how many of those this user sent
    PRIMARY KEY (user, conversation),
    CHECK (read_own <= read_number AND read_own <= sent)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_members_by_activity ON conversation_members (user, active_at, id);
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

-- An inbox for everybody who takes part in something. Events are numbered from 1 without a gap; those up
-- to `gone` were removed for their age, those up to `seen` were written to a live stream.
CREATE TABLE inboxes (
    user   INTEGER PRIMARY KEY REFERENCES users (key),
    newest INTEGER NOT NULL DEFAULT 0,
    at     INTEGER NOT NULL DEFAULT 0,        -- of the newest
    gone   INTEGER NOT NULL DEFAULT 0,
    seen   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The events. In one inbox `at` never goes back, whatever the clock does: what is oldest is first there too.
CREATE TABLE inbox (
    user         INTEGER NOT NULL REFERENCES users (key),
    place        INTEGER NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    message      BLOB    NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (user, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_by_age ON inbox (at);      -- and by user and place
