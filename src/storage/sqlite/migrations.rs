//! From an older schema to this version's, step by step, all or nothing, with a copy of the file made
//! first. There is no way back but that copy.

use super::file::OpenError;
use rusqlite::backup::Backup;
use rusqlite::{Connection, backup};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The schema of this version, whole.
pub(super) const SCHEMA: &str = include_str!("schema.sql");
/// Its number.
pub(super) const VERSION: i64 = 4;

/// `STEPS[n]` makes schema n + 2 of schema n + 1. What it leads to is what [`SCHEMA`] makes at once.
const STEPS: &[&str] =
    &[include_str!("migrations/2.sql"), include_str!("migrations/3.sql"), include_str!("migrations/4.sql")];

/// Brings a store of schema `found` up to [`VERSION`].
pub(super) fn bring_up(connection: &Connection, file: &Path, found: i64) -> Result<(), OpenError> {
    bring_up_by(connection, file, found, STEPS)
}

fn bring_up_by(connection: &Connection, file: &Path, found: i64, steps: &[&str]) -> Result<(), OpenError> {
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX).saturating_add(1);
    if found >= known {
        return Ok(());
    }
    let failed = |why: String| OpenError::Migration { file: file.to_owned(), found, known, why };
    copy_aside(connection, file, found).map_err(failed)?;
    let migrate = || -> rusqlite::Result<()> {
        let changes = connection.unchecked_transaction()?;
        for step in steps.iter().skip(usize::try_from(found - 1).unwrap_or(0)) {
            changes.execute_batch(step)?;
        }
        changes.pragma_update(None, "user_version", known)?;
        changes.commit()
    };
    migrate().map_err(|error| failed(error.to_string()))
}

/// Copies the store to `FILE.before-vN`, N being the schema to come; what an attempt that did not end
/// left there is written anew.
fn copy_aside(connection: &Connection, file: &Path, found: i64) -> Result<(), String> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".before-v{}", found + 1));
    let aside = PathBuf::from(name);
    match OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside) {
        Ok(copy) => copy_all(connection, &aside)
            .map_err(|error| error.to_string())
            .and_then(|()| copy.sync_all().map_err(|error| error.to_string())),
        Err(error) => Err(error.to_string()),
    }
    .map_err(|why| format!("{}: {why}", aside.display()))
}

fn copy_all(from: &Connection, to: &Path) -> rusqlite::Result<()> {
    let mut copy = Connection::open(to)?;
    let copying = Backup::new(from, &mut copy)?;
    while copying.step(1024)? != backup::StepResult::Done {}
    drop(copying);
    // One file that stands alone, without a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    copy.close().map_err(|(_, error)| error)
}

/// What a schema consists of, for comparing: without comments and spaces.
#[cfg(test)]
fn shape(connection: &Connection) -> Vec<String> {
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    let texts = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let words =
        |line: &str| line.split("--").next().unwrap_or_default().split_whitespace().collect::<String>();
    texts.map(|text| text.unwrap().lines().map(words).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::{OpenError, SCHEMA, STEPS, VERSION, bring_up_by, shape};
    use crate::model::chat::ConversationKey;
    use crate::model::cursor::StoreName;
    use crate::model::id::{ConversationId, UserId};
    use crate::model::timestamp::Timestamp;
    use crate::storage::chats::{Chats, Conversing, NewConversation};
    use crate::storage::sqlite::{Options, Store, Unobserved};
    use crate::storage::{Accounts, Timelines, Upkeep};
    use rusqlite::Connection;
    use std::path::PathBuf;
    use std::sync::Arc;

    /// The schema of version 1.
    const FIRST: &str = include_str!("migrations/1.sql");

    fn first_version(folder: &tempfile::TempDir) -> (PathBuf, Connection) {
        let file = folder.path().join("roost.db");
        let connection = Connection::open(&file).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE birds (name TEXT); INSERT INTO birds VALUES ('owl'); PRAGMA user_version = 1",
            )
            .unwrap();
        (file, connection)
    }

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_steps_lead_to_the_version_that_the_schema_is() {
        assert_eq!(STEPS.len() + 1, usize::try_from(VERSION).unwrap());
        let whole = Connection::open_in_memory().unwrap();
        whole.execute_batch(SCHEMA).unwrap();
        assert!(shape(&whole).len() > 10);
        let stepwise = Connection::open_in_memory().unwrap();
        stepwise.execute_batch(FIRST).unwrap();
        STEPS.iter().for_each(|step| stepwise.execute_batch(step).unwrap());
        assert_eq!(shape(&stepwise), shape(&whole));
    }

    #[tokio::test]
    async fn a_store_of_version_1_comes_up_with_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roost.db");
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(FIRST).unwrap();
        let user = UserId::make();
        let made =
            "INSERT INTO users (id, username, username_key, created_at) VALUES (?1, 'Anna', 'anna', 7)";
        connection.execute(made, [user.0.as_bytes()]).unwrap();
        connection
            .execute_batch(
                "INSERT INTO meta (name, value)
                 VALUES ('store_name', 42), ('swept', 0), ('follow_place', 0), ('checked', 0);
                 PRAGMA application_id = 0x526F7374; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;",
            )
            .unwrap();
        connection.close().unwrap();

        let open = || {
            let observer = Arc::new(Unobserved);
            Store::open(Options { file: file.clone(), events: false, observer, readers: 1 }).unwrap()
        };
        let store = open();
        assert_eq!(store.store_name(), StoreName(42));
        assert_eq!(store.user(user).await.unwrap().unwrap().username, "Anna");
        let new = NewConversation {
            id: ConversationId::make(),
            key: ConversationKey::of(&[user]),
            participants: vec![user],
            created_at: Timestamp::now(),
        };
        assert!(matches!(store.converse(new.clone()).await.unwrap(), Conversing::Made(_)));
        store.close().await.unwrap();
        assert!(matches!(open().converse(new).await.unwrap(), Conversing::Found(_)));
        assert_eq!(version(&Connection::open(folder.path().join("roost.db.before-v2")).unwrap()), 1);
    }

    /// Anna has seen one of three that are kept of what was sent to both of her conversations, Ben all but the last. `#NN'` is
    /// an id that ends so.
    const TALKS_OF_VERSION_3: &str = "
        INSERT INTO users (key, id, username, username_key, created_at)
        VALUES (1, #01', 'Anna', 'anna', 7), (2, #02', 'Ben', 'ben', 7);
        INSERT INTO conversations (key, id, set_key, created_at, last_number, last_id)
        VALUES (1, #11', x'01', 100, 3, #24'),
               (2, #12', x'02', 200, 1, #23'),
               (3, #13', x'03', 300, 0, NULL);
        INSERT INTO conversation_members (user, conversation, id, active_at, sent)
        VALUES (1, 1, #11', 1040, 3), (2, 1, #11', 1040, 0),
               (1, 2, #12', 1030, 1), (2, 3, #13', 300, 0);
        INSERT INTO messages (conversation, number, id, sender, sender_count, body, created_at)
        VALUES (1, 1, #21', 1, 1, 'long ago', 1010), (1, 2, #22', 1, 2, 'a', 1020),
               (2, 1, #23', 1, 1, 'b', 1030), (1, 3, #24', 1, 3, 'c', 1040);
        INSERT INTO inboxes (user, newest, at, gone, seen) VALUES (1, 4, 1040, 1, 2), (2, 3, 1040, 1, 2);
        INSERT INTO inbox (user, place, conversation, message, at)
        VALUES (1, 2, 1, #22', 1020), (1, 3, 2, #23', 1030),
               (1, 4, 1, #24', 1040),
               (2, 2, 1, #22', 1020), (2, 3, 1, #24', 1040);";

    #[tokio::test]
    async fn inboxes_of_version_3_are_read_on_where_they_were_seen_and_old_places_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roost.db");
        let connection = Connection::open(&file).unwrap();
        let talks = TALKS_OF_VERSION_3.replace('#', &format!("x'{}", "0".repeat(30)));
        [FIRST, STEPS[0], STEPS[1], &talks].iter().for_each(|batch| connection.execute_batch(batch).unwrap());
        connection
            .execute_batch(
                "INSERT INTO meta (name, value)
                 VALUES ('store_name', 42), ('swept', 0), ('follow_place', 0), ('checked', 0);
                 PRAGMA application_id = 0x526F7374; PRAGMA user_version = 3; PRAGMA journal_mode = WAL;",
            )
            .unwrap();
        connection.close().unwrap();

        let observer = Arc::new(Unobserved);
        let store = Store::open(Options { file, events: false, observer, readers: 1 }).unwrap();
        let [anna, ben] = [1, 2].map(|number| UserId(uuid::Uuid::from_u128(number)));
        for (user, kept, unseen) in
            [(anna, &[0x22, 0x23, 0x24][..], &[0x23, 0x24][..]), (ben, &[0x22, 0x24], &[0x24])]
        {
            let reach = store.reach(user).await.unwrap();
            assert!(reach.gone > 4 && reach.newest == reach.gone + 3, "{reach:?}");
            for (after, expected) in [(reach.gone, kept), (reach.seen, unseen)] {
                let page = store.inbox(user, after, 10).await.unwrap();
                let ids: Vec<_> = page.events.iter().map(|(_, event)| event.message.0.as_u128()).collect();
                assert_eq!(ids, expected);
            }
        }
        let listed = store.conversations(anna, None, 10).await.unwrap();
        let shown: Vec<_> = listed
            .iter()
            .map(|view| (view.conversation.id.0.as_u128(), view.last_message_at.map(Timestamp::millis)))
            .collect();
        assert_eq!(shown, [(0x11, Some(1040)), (0x12, Some(1030))]);
        assert_eq!(store.conversations(ben, None, 10).await.unwrap()[1].last_message_at, None);
    }

    #[test]
    fn an_older_store_is_copied_aside_and_then_brought_up() {
        let folder = tempfile::tempdir().unwrap();
        let (file, connection) = first_version(&folder);
        let steps = ["ALTER TABLE birds ADD COLUMN wings INTEGER", "UPDATE birds SET wings = 2"];
        bring_up_by(&connection, &file, 1, &steps).unwrap();
        assert_eq!(version(&connection), 3);
        let wings: i64 = connection.query_row("SELECT wings FROM birds", [], |row| row.get(0)).unwrap();
        assert_eq!(wings, 2);

        let before = Connection::open(folder.path().join("roost.db.before-v2")).unwrap();
        assert_eq!(version(&before), 1);
        let bird: String = before.query_row("SELECT name FROM birds", [], |row| row.get(0)).unwrap();
        assert_eq!(bird, "owl");
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, connection) = first_version(&folder);
        let steps = ["UPDATE birds SET name = 'wren'", "nonsense"];
        let refused = bring_up_by(&connection, &file, 1, &steps);
        assert!(matches!(refused, Err(OpenError::Migration { found: 1, known: 3, .. })), "{refused:?}");
        assert_eq!(version(&connection), 1);
        let bird: String = connection.query_row("SELECT name FROM birds", [], |row| row.get(0)).unwrap();
        assert_eq!(bird, "owl");
    }
}
