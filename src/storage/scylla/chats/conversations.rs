//! Who takes part in what: conversations made once, and the list of each user.
//!
//! A conversation is its key's claim; then it is put into everybody's list, then its own row is written, then it is answered.
//! Whoever finds a claim without the row does the rest. A user's list is read whole and put in order here: what is newest
//! changes with every message, and rows that move would leave tombstones.

use super::{AT_ONCE, column, number};
use crate::model::chat::{Conversation, ConversationView};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::chats::{ConversationPlace, Conversing, Marking, NewConversation};
use crate::storage::scylla::Inner;
use crate::storage::scylla::cql::{Decision, statements};
use crate::storage::scylla::tries::Tries;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::DeserializeRow;
use std::cmp::Reverse;
use std::future::ready;
use std::sync::Arc;
use uuid::Uuid;

statements! {
    /// What is asked of conversations.
    Statements {
        show_key: Read, "SELECT id, participants, created_at FROM conversation_keys WHERE set_key = ?";
        key: Decide, "SELECT id, participants, created_at FROM conversation_keys WHERE set_key = ?";
        claim: Claim, "INSERT INTO conversation_keys (set_key, id, participants, created_at) VALUES (?, ?, ?, ?) IF NOT EXISTS";
        conversation: Read, "SELECT id, participants, created_at FROM conversations WHERE id = ?";
        make: Write, "INSERT INTO conversations (id, participants, created_at) VALUES (?, ?, ?)";
        enlist: WriteMany, "INSERT INTO conversations_by_user (user, conversation, created_at) VALUES (?, ?, ?)";
        list: Read, "SELECT conversation, created_at, number, at, sent, read_number, read_own FROM conversations_by_user WHERE user = ?";
        number: Read, "SELECT number FROM conversations_by_user WHERE user = ? AND conversation = ?";
        move_up: WriteMany, "UPDATE conversations_by_user USING TIMESTAMP ? SET number = ?, at = ?, sent = ? WHERE user = ? AND conversation = ?";
        mark: Write, "UPDATE conversations_by_user USING TIMESTAMP ? SET read_number = ?, read_own = ? WHERE user = ? AND conversation = ?";
    }
}

/// A conversation, or its key's claim.
type Row = (Uuid, Vec<Uuid>, i64);

/// A conversation in a user's list.
#[derive(DeserializeRow)]
struct Listed {
    conversation: Uuid,
    created_at: Option<i64>,
    number: Option<i64>,
    at: Option<i64>,
    sent: Option<i64>,
    read_number: Option<i64>,
    read_own: Option<i64>,
}

impl Listed {
    /// When something was last sent there.
    fn last_message_at(&self) -> Option<Timestamp> {
        self.number.and(self.at).map(Timestamp::from_millis)
    }

    /// Where it stands in the list; none where the conversation is only being made.
    fn place(&self) -> Option<(Timestamp, Uuid)> {
        let made_at = Timestamp::from_millis(self.created_at?);
        Some((self.last_message_at().unwrap_or(made_at), self.conversation))
    }

    fn unread(&self) -> u64 {
        let behind = self.number.unwrap_or(0) - self.read_number.unwrap_or(0);
        let own = self.sent.unwrap_or(0) - self.read_own.unwrap_or(0);
        // What is read may not have been placed yet.
        number(behind - own)
    }
}

fn conversation((id, participants, created_at): Row) -> Conversation {
    Conversation {
        id: ConversationId(id),
        participants: participants.into_iter().map(UserId).collect(),
        created_at: Timestamp::from_millis(created_at),
    }
}

impl Inner {
    pub(super) async fn converse(&self, new: &NewConversation) -> Result<Conversing, StorageError> {
        let statements = &self.chats.conversations;
        let shown: Option<Row> = self.cql.first(&statements.show_key, (&new.key.0[..],)).await?;
        if let Some(claimed) = shown {
            return Ok(Conversing::Found(self.made(conversation(claimed)).await?));
        }
        let mut participants = new.participants.clone();
        participants.sort_unstable();
        participants.dedup();
        let names = self.names(participants.iter().copied()).await?;
        let unknown: Vec<UserId> =
            participants.iter().filter(|user| !names.contains_key(user)).copied().collect();
        if !unknown.is_empty() {
            return Ok(Conversing::Unknown(unknown));
        }
        let ids: Vec<Uuid> = participants.iter().map(|user| user.0).collect();
        let mut tries = Tries::begin();
        loop {
            let values = (&new.key.0[..], new.id.0, &ids, new.created_at.millis());
            if self.cql.decide(&statements.claim, values).await? == Decision::Applied {
                let made = Conversation { id: new.id, participants, created_at: new.created_at };
                return Ok(Conversing::Made(self.made(made).await?));
            }
            let claimed: Option<Row> = self.cql.first(&statements.key, (&new.key.0[..],)).await?;
            match claimed.map(conversation) {
                Some(claimed) if claimed.id == new.id => {
                    return Ok(Conversing::Made(self.made(claimed).await?));
                }
                Some(claimed) => return Ok(Conversing::Found(self.made(claimed).await?)),
                None => tries.again().await?,
            }
        }
    }

    /// The conversation of a claim, made where it is not.
    pub(in crate::storage::scylla) async fn made(
        &self,
        claimed: Conversation,
    ) -> Result<Conversation, StorageError> {
        if self.known_conversation(claimed.id).await?.is_none() {
            let (id, created_at) = (claimed.id.0, claimed.created_at.millis());
            let statements = &self.chats.conversations;
            iter(claimed.participants.iter().copied())
                .map(|user| self.cql.write(&statements.enlist, (user.0, id, created_at)))
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
            let participants: Vec<Uuid> = claimed.participants.iter().map(|user| user.0).collect();
            self.cql.write(&statements.make, (id, participants, created_at)).await?;
        }
        Ok(claimed)
    }

    /// A conversation that was made.
    pub(in crate::storage::scylla) async fn known_conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<Arc<Conversation>>, StorageError> {
        match self.chats.known.get(&id) {
            Some(known) => Ok(Some(known)),
            None => self.read_conversation(id).await,
        }
    }

    async fn read_conversation(&self, id: ConversationId) -> Result<Option<Arc<Conversation>>, StorageError> {
        let row: Option<Row> = self.cql.first(&self.chats.conversations.conversation, (id.0,)).await?;
        let known = row.map(|row| Arc::new(conversation(row)));
        if let Some(known) = &known {
            self.chats.known.insert(id, Arc::clone(known));
        }
        Ok(known)
    }

    /// A conversation that a user takes part in.
    pub(super) async fn conversation_of(
        &self,
        id: ConversationId,
        user: UserId,
    ) -> Result<Option<Arc<Conversation>>, StorageError> {
        let takes_part = |known: &Arc<Conversation>| known.participants.binary_search(&user).is_ok();
        if let Some(known) = self.chats.known.get(&id).filter(takes_part) {
            return Ok(Some(known));
        }
        // Whoever takes no part has it read each time, whether it is there or not.
        Ok(self.read_conversation(id).await?.filter(takes_part))
    }

    pub(super) async fn conversations(
        &self,
        user: UserId,
        behind: Option<ConversationPlace>,
        limit: usize,
    ) -> Result<Vec<ConversationView>, StorageError> {
        let rows: Vec<Listed> = self.cql.rows(&self.chats.conversations.list, (user.0,)).await?;
        let behind = behind.map(|place| (place.active_at, place.id.0));
        let placed = rows.into_iter().filter_map(|row| Some((row.place()?, row)));
        let mut listed: Vec<_> =
            placed.filter(|(place, _)| behind.is_none_or(|behind| *place < behind)).collect();
        listed.sort_unstable_by_key(|(place, _)| Reverse(*place));
        let views = iter(listed).map(|(_, row)| async move {
            let known = self.known_conversation(ConversationId(row.conversation)).await?;
            Ok::<_, StorageError>(known.map(|known| ConversationView {
                conversation: Conversation::clone(&known),
                last_message_at: row.last_message_at(),
                unread: row.unread(),
            }))
        });
        // One whose own row is not there yet is only being made.
        let views = views.buffered(AT_ONCE).try_filter_map(|view| ready(Ok(view)));
        views.take(limit).try_collect().await
    }

    pub(super) async fn mark_read(
        &self,
        id: ConversationId,
        user: UserId,
        message: MessageId,
    ) -> Result<Marking, StorageError> {
        let Some(conversation) = self.conversation_of(id, user).await? else {
            return Ok(Marking::Forbidden);
        };
        let Some(written) = self.written(id, message).await? else {
            return Ok(Marking::NoSuchMessage);
        };
        let read = column(written.number);
        let own = column(written.sent_by(&conversation, user));
        let values = (read, read, own, user.0, id.0);
        self.cql.write(&self.chats.conversations.mark, values).await?;
        Ok(Marking::Done)
    }

    /// Puts a conversation where its newest message belongs in a user's list; an older message changes nothing.
    pub(super) async fn move_up(
        &self,
        user: UserId,
        conversation: &Conversation,
        written: &super::Written,
    ) -> Result<(), StorageError> {
        let number = column(written.number);
        let sent = column(written.sent_by(conversation, user));
        let values = (number, number, written.created_at.millis(), sent, user.0, conversation.id.0);
        self.cql.write(&self.chats.conversations.move_up, values).await
    }

    /// The number of the newest message that was placed for a user: there are no fewer.
    pub(super) async fn listed_number(&self, id: ConversationId, user: UserId) -> Result<u64, StorageError> {
        let row: Option<(Option<i64>,)> =
            self.cql.first(&self.chats.conversations.number, (user.0, id.0)).await?;
        Ok(row.and_then(|(number,)| number).map_or(0, number))
    }
}
