//! Keyspaces that an older version made.

use super::{Keyspace, RUNTIME, session};
use crate::harness::engines::cql_nodes;
use crate::storage::fixture::TestStore;
use crate::storage::talk::a_message;
use roost::model::id::RoomId;
use roost::model::timestamp::Timestamp;

/// What versions 2 and 3 added.
const TABLES: [&str; 12] = [
    "conversation_keys",
    "conversations",
    "conversations_by_user",
    "messages",
    "chat_keys",
    "conversations_unplaced",
    "conversation_placed",
    "inbox",
    "inboxes",
    "rooms",
    "rooms_by_owner",
    "rooms_by_shard",
];

#[test]
fn a_keyspace_of_version_1_comes_up_with_what_it_had() {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let keyspace = Keyspace::new(&nodes);
        let name = keyspace.access.keyspace.clone();
        let mut store: TestStore = super::alone(keyspace).await;
        let (anna, ben) = (store.user("anna").await, store.user("ben").await);
        let post = store.post(anna, "of version 1").await;
        store.engine.close().await.unwrap();
        let rows = session(&nodes).await;
        for table in TABLES {
            rows.query_unpaged(format!("DROP TABLE {name}.{table}"), ()).await.unwrap();
        }
        let version = format!("UPDATE {name}.schema_version SET version = 1 WHERE id = 0 IF version = 3");
        rows.query_unpaged(version, ()).await.unwrap();

        store.engine = store.open_again().await.engine;
        assert_eq!(store.engine.post(post.id, ben).await.unwrap().unwrap().post.author, anna);
        let conversation = store.converse(&[anna, ben]).await;
        let (message, _) = store.deliver(a_message(conversation.id, anna, "of version 2")).await;
        assert_eq!(store.history(conversation.id, ben).await, [message]);
        let nobodys = store.engine.take_room(RoomId::make(), Timestamp::now()).await.unwrap();
        assert_eq!(nobodys, None);
    });
}
