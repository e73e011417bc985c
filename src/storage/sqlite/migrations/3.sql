-- Version 3: rooms.

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
