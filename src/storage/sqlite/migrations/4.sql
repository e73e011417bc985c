-- Version 4: an inbox is read. Before, each message had a row in the inbox of everybody who took part, and moved its conversation's
-- row in the list of each.

ALTER TABLE conversations ADD COLUMN active_at INTEGER NOT NULL DEFAULT 0;
UPDATE conversations SET active_at = coalesce(
    (SELECT max(active_at) FROM conversation_members WHERE conversation = conversations.key), created_at);

DROP INDEX conversation_members_by_activity;
ALTER TABLE conversation_members DROP COLUMN id;
ALTER TABLE conversation_members DROP COLUMN active_at;

CREATE TABLE chat_events (
    place        INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    message      BLOB    NOT NULL,
    at           INTEGER NOT NULL
) STRICT;
CREATE INDEX chat_events_by_conversation ON chat_events (conversation);

-- Below all of the new places are those of before: a client that comes with one is told that it is of no use.
INSERT INTO meta (name, value) SELECT 'chat_swept', coalesce(max(newest) + 1, 0) FROM inboxes;
-- By id messages stand in the order of their times, and those of one conversation in its own.
INSERT INTO chat_events (place, conversation, message, at)
SELECT (SELECT value FROM meta WHERE name = 'chat_swept') + row_number() OVER (ORDER BY message),
    conversation, message, min(at)
FROM inbox GROUP BY conversation, message;
DELETE FROM sqlite_sequence WHERE name = 'chat_events';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'chat_events', coalesce((SELECT max(place) FROM chat_events), value) FROM meta WHERE name = 'chat_swept';

ALTER TABLE inboxes RENAME TO inboxes_before;
CREATE TABLE inboxes (
    user INTEGER PRIMARY KEY REFERENCES users (key),
    seen INTEGER NOT NULL
) STRICT;
-- Up to the first one that was not written. Where the orders differ, some behind it come again.
CREATE INDEX chat_events_by_message ON chat_events (message);
INSERT INTO inboxes (user, seen)
SELECT user, coalesce(
    (SELECT min(e.place) - 1 FROM inbox i JOIN chat_events e ON e.message = i.message
     WHERE i.user = b.user AND i.place > b.seen),
    (SELECT seq FROM sqlite_sequence WHERE name = 'chat_events'))
FROM inboxes_before b;
DROP INDEX chat_events_by_message;
DROP TABLE inboxes_before;
DROP TABLE inbox;
