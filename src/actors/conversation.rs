//! `Conversation`: the order of one conversation's messages.
//!
//! It hands messages to the store one after the other, in the order they came; so the store numbers them without a gap,
//! and they have one order everywhere. A message's caller is answered once it is durable. Its event is in every
//! participant's inbox then, where the store places it in the same write; elsewhere [`Placing`] sees to that, behind the
//! answer.
//!
//! One an active conversation, made by [`super::conversations::Conversations`] and supervised by the `Node`; retired when
//! idle. What waits for it is bounded there. What one that ends by a panic left unplaced, the next reads from the store.

use super::chat_homes::InboxHomes;
use super::placing::Placing;
use crate::storage::StorageError;
use crate::storage::chats::{Chats, MessageAppended, NewMessage};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a conversation is told.
pub enum ConversationMsg {
    /// Send this.
    Send(Box<NewMessage>, RpcReplyPort<Result<MessageAppended, StorageError>>),
    /// There may be messages that were stored and not placed.
    Redrive,
}

/// The actor.
pub struct Conversation;

/// What a conversation is started with.
pub struct ConversationArguments {
    /// Where messages become durable.
    pub chats: Arc<dyn Chats>,
    /// Where their events go from there.
    pub inboxes: Arc<InboxHomes>,
    /// Those that the store does not place.
    pub placing: Arc<Placing>,
}

/// What a conversation knows.
pub struct ConversationState {
    arguments: ConversationArguments,
    /// Ends with the actor.
    _placing: JoinSet<()>,
}

impl Actor for Conversation {
    type Msg = ConversationMsg;
    type State = ConversationState;
    type Arguments = ConversationArguments;

    async fn pre_start(
        &self,
        _: ActorRef<ConversationMsg>,
        arguments: ConversationArguments,
    ) -> Result<ConversationState, ActorProcessingErr> {
        let mut placing = JoinSet::new();
        placing.spawn(arguments.placing.clone().run());
        Ok(ConversationState { arguments, _placing: placing })
    }

    async fn handle(
        &self,
        _: ActorRef<ConversationMsg>,
        message: ConversationMsg,
        state: &mut ConversationState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // Whoever asked has given up: a repeat of the key comes behind it.
            ConversationMsg::Send(_, reply) if reply.is_closed() => {}
            ConversationMsg::Send(message, reply) => {
                let result = Box::pin(state.arguments.append(*message)).await;
                let _ = reply.send(result);
            }
            ConversationMsg::Redrive => state.arguments.placing.fall_behind(),
        }
        Ok(())
    }
}

impl ConversationArguments {
    async fn append(&self, message: NewMessage) -> Result<MessageAppended, StorageError> {
        let result = self.chats.append_message(message).await;
        match &result {
            Ok(MessageAppended::Stored { message, place: None }) => self.placing.add(message),
            // Whoever stored it may have died before it was placed.
            Ok(MessageAppended::Repeated(_)) => self.placing.fall_behind(),
            Ok(_) => {}
            // It may be stored all the same.
            Err(_) => {
                self.placing.fall_behind();
                self.inboxes.doubt();
            }
        }
        result
    }
}
