//! `Author`: the order of one author's posts and deletions.
//!
//! It gives posts their ids, hands them to the store in the order they came, and hands each entry to
//! its relay in the order of the store. Its caller is answered once the entry is durable *and* on its
//! way, so an author's posts have one order everywhere.
//!
//! One an active author, made by [`super::authors::Authors`] and supervised by the `Node`; retired when
//! idle. What waits for it is bounded there. It does not wait for one write before it begins the next:
//! it begins those that came meanwhile, then settles them one by one, so that they share a commit. One
//! that ends by a panic leaves its unfinished entries in the [`Watermark`]; the next begins with those.

use super::instant::{Instant, Instants};
use super::neighbours::Neighbours;
use super::relays::Relays;
use super::watermark::Watermark;
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::Content;
use crate::model::timestamp::Timestamp;
use crate::storage::{
    Appended, Attempt, Deletion, Entry, IdempotencyKey, NewPost, Pending, Posts, StorageError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::VecDeque;
use std::sync::Arc;

/// What an author is told.
pub enum AuthorMsg {
    /// Post this.
    Publish {
        /// What it says.
        content: Content,
        /// The client's key.
        key: Option<IdempotencyKey>,
        /// By which try it comes, where another node may send it again.
        attempt: Option<Attempt>,
        /// Told what came of it.
        reply: RpcReplyPort<Result<Appended, StorageError>>,
    },
    /// Delete this.
    Delete {
        /// Which post.
        id: PostId,
        /// Told what came of it.
        reply: RpcReplyPort<Result<Deletion, StorageError>>,
    },
    /// Finish the write that was begun first.
    Settle,
    /// Bring what is durable and still on its way to the relay again.
    Redrive,
}

/// The actor.
pub struct Author;

/// What an author is started with.
pub struct AuthorArguments {
    /// Who it is.
    pub author: UserId,
    /// Where posts become durable.
    pub posts: Arc<dyn Posts>,
    /// Where entries go from there.
    pub relays: Arc<Relays>,
    /// The nodes to which they go as well, in a cluster.
    pub neighbours: Option<Arc<Neighbours>>,
    /// What is on its way.
    pub watermark: Arc<Watermark>,
    /// Where tests listen.
    pub instants: Instants,
}

/// What an author knows.
pub struct AuthorState {
    arguments: AuthorArguments,
    newest: Option<PostId>,
    begun: VecDeque<Begun>,
    /// Whether a write failed since the last that did not: it may have been done, and nobody brought it.
    is_behind: bool,
}

/// A write that the store has been handed.
enum Begun {
    Publish(Pending<Appended>, RpcReplyPort<Result<Appended, StorageError>>),
    Delete(Pending<Deletion>, RpcReplyPort<Result<Deletion, StorageError>>),
}

impl Actor for Author {
    type Msg = AuthorMsg;
    type State = AuthorState;
    type Arguments = AuthorArguments;

    async fn pre_start(
        &self,
        _: ActorRef<AuthorMsg>,
        arguments: AuthorArguments,
    ) -> Result<AuthorState, ActorProcessingErr> {
        let newest = arguments.posts.newest_id(arguments.author).await?;
        // Before anything new: what the one before left behind.
        arguments.redrive().await?;
        Ok(AuthorState { arguments, newest, begun: VecDeque::new(), is_behind: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<AuthorMsg>,
        message: AuthorMsg,
        state: &mut AuthorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AuthorMsg::Publish { content, key, attempt, reply } => {
                state.publish(content, key, attempt, reply);
                myself.send_message(AuthorMsg::Settle)?;
            }
            AuthorMsg::Delete { id, reply } => {
                let AuthorArguments { posts, author, .. } = &state.arguments;
                let write = posts.delete(*author, id, Timestamp::now());
                state.begun.push_back(Begun::Delete(write, reply));
                myself.send_message(AuthorMsg::Settle)?;
            }
            AuthorMsg::Settle => state.settle().await,
            // A store that cannot be read now is asked again by the courier.
            AuthorMsg::Redrive => drop(state.arguments.redrive().await),
        }
        Ok(())
    }
}

impl AuthorState {
    fn publish(
        &mut self,
        content: Content,
        key: Option<IdempotencyKey>,
        attempt: Option<Attempt>,
        reply: RpcReplyPort<Result<Appended, StorageError>>,
    ) {
        let created_at = Timestamp::now();
        let id = PostId::after(self.newest, created_at);
        self.newest = Some(id);
        let AuthorArguments { posts, author, .. } = &self.arguments;
        let write = posts.append(NewPost { id, author: *author, content, key, created_at, attempt });
        self.begun.push_back(Begun::Publish(write, reply));
    }

    async fn settle(&mut self) {
        match self.begun.pop_front() {
            Some(Begun::Publish(write, reply)) => {
                let result = write.await;
                let entry = match &result {
                    Ok(Appended::Stored(entry)) => Some(entry.clone()),
                    _ => None,
                };
                self.catch_up(result.is_ok(), entry.as_ref()).await;
                self.arguments.send(entry).await;
                let _ = reply.send(result);
            }
            Some(Begun::Delete(write, reply)) => {
                let result = write.await;
                let entry = match &result {
                    Ok(Deletion::Done(entry)) => Some(entry.clone()),
                    _ => None,
                };
                self.catch_up(result.is_ok(), entry.as_ref()).await;
                self.arguments.send(entry).await;
                let _ = reply.send(result);
            }
            None => {}
        }
    }

    /// A write that failed and was done all the same goes before whatever comes next, and before the answer to who
    /// sent it again.
    async fn catch_up(&mut self, is_done: bool, next: Option<&Entry>) {
        if !is_done {
            self.is_behind = true;
        } else if self.is_behind {
            // Where that fails, too, the courier sees to it.
            self.is_behind = self.arguments.redrive_before(next.map(|entry| entry.seq)).await.is_err();
        }
    }
}

impl AuthorArguments {
    /// A durable entry goes on its way; its caller may be answered afterwards.
    async fn send(&self, entry: Option<Entry>) {
        let Some(entry) = entry else { return };
        let seq = entry.seq;
        self.watermark.to_spread(seq, self.author);
        self.instants.pass(Instant::Committed(self.author)).await;
        self.bring(entry).await;
        self.watermark.answered(seq);
    }

    /// An entry, which is being fanned out, goes to the nodes that are interested and to the relay here.
    async fn bring(&self, entry: Entry) {
        if let Some(neighbours) = &self.neighbours {
            neighbours.tell(&entry);
        }
        self.relays.carry(entry).await;
    }

    async fn redrive(&self) -> Result<(), StorageError> {
        self.redrive_before(None).await
    }

    /// Brings what is durable and still on its way, up to an entry that is brought in its turn.
    async fn redrive_before(&self, next: Option<Seq>) -> Result<(), StorageError> {
        let Self { author, posts, watermark, .. } = self;
        let mut moving = watermark.moving_of(*author);
        moving.retain(|seq| next.is_none_or(|next| *seq < next));
        if moving.is_empty() {
            return Ok(());
        }
        let entries = posts.entries(moving.clone()).await?;
        // A post that was deleted since is told by its deletion alone.
        let gone = |seq: &Seq| !entries.iter().any(|entry| entry.seq == *seq);
        moving.iter().filter(|seq| gone(seq)).for_each(|seq| watermark.forget(*seq, *author));
        // A number whose commit failed may be another author's by now.
        for entry in entries.into_iter().filter(|entry| entry.author() == *author) {
            watermark.to_spread(entry.seq, *author);
            self.bring(entry).await;
        }
        Ok(())
    }
}
