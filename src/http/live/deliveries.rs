//! What is told of each chat event that a connection was given: a log line, and metrics.

use crate::actors::inboxes::Delivery;
use crate::model::id::UserId;
use crate::telemetry::{DELIVERIES, metric};
use metrics::{Counter, Histogram};
use uuid::Uuid;

/// The deliveries by one way. It holds its metrics, which are not looked up for each.
pub struct Deliveries {
    way: &'static str,
    given: Counter,
    seconds: Histogram,
}

impl Deliveries {
    /// Those by that way.
    #[must_use]
    pub fn by(way: &'static str) -> Self {
        let given = metrics::counter!(metric::CHAT_DELIVERIES, "way" => way);
        Self { way, given, seconds: metrics::histogram!(metric::CHAT_DELIVERY_SECONDS) }
    }

    /// An event was given to a connection of that user, in answer to that request.
    pub fn note(&self, request_id: &str, user: UserId, delivery: &Delivery) {
        // As texts: what is displayed is taken apart and checked for what JSON escapes, piece by piece.
        let mut texts = [Uuid::encode_buffer(); 3];
        let [message, conversation, reader] = &mut texts;
        let text = |id: Uuid, into| &*id.hyphenated().encode_lower(into);
        tracing::info!(
            target: DELIVERIES,
            requestId = request_id,
            userId = text(user.0, reader),
            conversationId = text(delivery.event.conversation.0, conversation),
            messageId = text(delivery.event.message.0, message),
            way = self.way,
            "delivered"
        );
        self.given.increment(1);
        if let Some(told_at) = delivery.told_at {
            self.seconds.record(told_at.elapsed());
        }
    }
}
