//! The user's chat inbox on a WebSocket: `chatMessage` frames, given to the outbox by the socket's own task, which reads
//! the next events only while the outbox has room.

use super::deliveries::Deliveries;
use crate::actors::inboxes::{Delivery, Feed};
use crate::actors::outbox::Outbox;
use crate::model::frame::ServerFrame;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A socket's way to the inbox.
pub struct Inbox(Stage);

enum Stage {
    /// The session has not begun.
    Awaited(oneshot::Receiver<Feed>, Arc<str>, Arc<Deliveries>),
    /// Boxed: most of a socket's life nothing comes.
    Open(Box<Open>),
    /// The session could not begin.
    Closed,
}

struct Open {
    feed: Feed,
    /// Of the upgrade.
    request_id: Arc<str>,
    deliveries: Arc<Deliveries>,
    /// The place of the newest event that is in the outbox and may not be written.
    unwritten: Option<u64>,
}

impl Inbox {
    /// That which the session opens when it begins; `request_id` is that of the upgrade.
    #[must_use]
    pub fn awaited(feed: oneshot::Receiver<Feed>, request_id: Arc<str>, deliveries: Arc<Deliveries>) -> Self {
        Self(Stage::Awaited(feed, request_id, deliveries))
    }

    /// The next events. May be dropped at any await and called anew.
    pub async fn next(&mut self) -> Vec<Delivery> {
        if let Stage::Awaited(feed, request_id, deliveries) = &mut self.0 {
            self.0 = match feed.await {
                Ok(feed) => Stage::Open(Box::new(Open {
                    feed,
                    request_id: request_id.clone(),
                    deliveries: deliveries.clone(),
                    unwritten: None,
                })),
                Err(_) => Stage::Closed,
            };
        }
        match &mut self.0 {
            Stage::Open(open) => open.feed.next().await,
            _ => std::future::pending().await,
        }
    }

    /// Puts events into the outbox.
    pub fn tell(&mut self, deliveries: &[Delivery], outbox: &Outbox) {
        let Stage::Open(open) = &mut self.0 else { return };
        for delivery in deliveries {
            let position = open.feed.position_of(delivery.place);
            open.deliveries.note(&open.request_id, position.user, delivery);
            let frame = ServerFrame::ChatMessage {
                message_id: delivery.event.message,
                conversation_id: delivery.event.conversation,
            };
            outbox.say(frame.encode_with(None, Some(position)));
            open.unwritten = Some(delivery.place);
        }
    }

    /// Notes what is written by now.
    pub fn note_written(&mut self, outbox: &Outbox) {
        if let Stage::Open(open) = &mut self.0
            && open.unwritten.is_some()
            && outbox.is_written()
            && let Some(place) = open.unwritten.take()
        {
            open.feed.hand(place);
        }
    }
}
