//! `/api/chat/…`: conversations, messages and how far they are read; the stream is in [`super::live::stream`]. A message
//! is checked in `model::chat` and made by its conversation's actor; here is what it looks like on the wire.

use super::Edge;
use super::body::{Fields, FromFields, Payload};
use super::headers::RequestId;
use super::problem::{Document, Problem};
use super::query::{ConversationsQuery, HistoryQuery};
use crate::model::cursor::PageCursor;
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::service::converse::ConversationName;
use axum::extract::{Extension, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestPartsExt};
use serde::Serialize;
use utoipa::ToSchema;

/// An idempotency key has at most so many characters.
const MAX_KEY: usize = 128;
/// A conversation to be opened names so many users at most, repeats counted.
const MAX_NAMED: usize = 200;
/// What names a conversation.
const NAME_RULE: &str = "must be a UUID or support-demo";

/// A conversation to be opened.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewConversation, example = json!({"participants": ["019b8a7e-7c00-7000-8000-00000000000b"]}))]
pub(super) struct ConversationBody {
    /// Who takes part, 2 to 100 with the caller, who always does.
    #[schema(value_type = Vec<Uuid>)]
    participants: Vec<UserId>,
}

/// A message to be sent.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMessage, rename_all = "camelCase", example = json!({"conversationId": "019b8a7e-7c04-7000-8000-000000000004", "body": "Hello", "idempotencyKey": "5f0c9c0e"}))]
pub(super) struct MessageBody {
    /// The conversation's id, or `support-demo`.
    #[schema(value_type = String)]
    conversation_id: ConversationName,
    /// 1 to 4,000 characters, by the rules of posts.
    body: String,
    /// 1 to 128 visible ASCII characters, kept 24 hours: with it the message is safe to send again.
    idempotency_key: String,
}

/// Up to where a conversation is read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReadMark, rename_all = "camelCase", example = json!({"messageId": "019b8a7e-7c05-7000-8000-000000000001"}))]
pub(super) struct ReadBody {
    /// The newest message that was read.
    #[schema(value_type = Uuid)]
    message_id: MessageId,
}

/// A conversation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Conversation, example = json!({"conversationId": "019b8a7e-7c04-7000-8000-000000000004", "participants": ["019b8a7e-7c00-7000-8000-00000000000a", "019b8a7e-7c00-7000-8000-00000000000b"], "createdAt": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct ConversationShown<'a> {
    #[schema(value_type = Uuid)]
    conversation_id: ConversationId,
    /// Who takes part, by id.
    #[schema(value_type = Vec<Uuid>)]
    participants: &'a [UserId],
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A conversation in the caller's list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConversationView, example = json!({"conversationId": "019b8a7e-7c04-7000-8000-000000000004", "participants": ["019b8a7e-7c00-7000-8000-00000000000a", "019b8a7e-7c00-7000-8000-00000000000b"], "lastMessageAt": "2026-01-03T00:00:00.123Z", "unread": 1}))]
pub(super) struct ViewShown<'a> {
    #[schema(value_type = Uuid)]
    conversation_id: ConversationId,
    /// Who takes part, by id.
    #[schema(value_type = Vec<Uuid>)]
    participants: &'a [UserId],
    /// When its newest message was sent; null while there is none.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_message_at: Option<Timestamp>,
    /// Messages of others behind the one up to which the caller has read.
    unread: u64,
}

/// The caller's conversations.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Conversations, example = json!({"conversations": [{"conversationId": "019b8a7e-7c04-7000-8000-000000000004", "participants": ["019b8a7e-7c00-7000-8000-00000000000a", "019b8a7e-7c00-7000-8000-00000000000b"], "lastMessageAt": null, "unread": 0}], "nextCursor": null}))]
pub(super) struct ConversationsShown<'a> {
    /// Newest activity first.
    conversations: Vec<ViewShown<'a>>,
    /// Where the list goes on; null at its end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// That a message was sent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SentMessage, example = json!({"messageId": "019b8a7e-7c05-7000-8000-000000000001", "conversationId": "019b8a7e-7c04-7000-8000-000000000004", "createdAt": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct SentShown {
    #[schema(value_type = Uuid)]
    message_id: MessageId,
    #[schema(value_type = Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Message, example = json!({"messageId": "019b8a7e-7c05-7000-8000-000000000001", "conversationId": "019b8a7e-7c04-7000-8000-000000000004", "senderId": "019b8a7e-7c00-7000-8000-00000000000a", "body": "Hello", "createdAt": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct MessageShown<'a> {
    #[schema(value_type = Uuid)]
    message_id: MessageId,
    #[schema(value_type = Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = Uuid)]
    sender_id: UserId,
    body: &'a str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A page of a conversation's messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = History, example = json!({"messages": [{"messageId": "019b8a7e-7c05-7000-8000-000000000001", "conversationId": "019b8a7e-7c04-7000-8000-000000000004", "senderId": "019b8a7e-7c00-7000-8000-00000000000a", "body": "Hello", "createdAt": "2026-01-03T00:00:00.123Z"}], "nextCursor": null}))]
pub(super) struct HistoryShown<'a> {
    /// Newest first.
    messages: Vec<MessageShown<'a>>,
    /// Where older ones are; null where there are none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Open a conversation.
///
/// The same users again are the same conversation, whoever of them asks.
#[utoipa::path(post, path = "/api/chat/conversations", tag = "chat", operation_id = "openConversation",
    request_body = ConversationBody,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 201, description = "The conversation, which is new", body = ConversationShown),
        (status = 200, description = "The conversation, which was there", body = ConversationShown),
        (status = 400, description = "Fewer than 2 users or more than 100, or one that is not there", body = Document),
    ))]
pub(super) async fn open(
    State(edge): State<Edge>,
    caller: Caller,
    Payload { value: body, .. }: Payload<ConversationBody>,
) -> Result<Response, Problem> {
    let opened = edge.services.converse.open(&caller, body.participants).await?;
    let status = if opened.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let conversation = &opened.conversation;
    let shown = ConversationShown {
        conversation_id: conversation.id,
        participants: &conversation.participants,
        created_at: conversation.created_at,
    };
    Ok((status, Json(shown)).into_response())
}

/// Read one's list of conversations.
#[utoipa::path(get, path = "/api/chat/conversations", tag = "chat", operation_id = "readConversations",
    params(
        ("limit" = Option<u32>, Query, description = "At most so many, 100 if not given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the page before"),
    ),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "Newest activity first", body = ConversationsShown),
        (status = 400, description = "A parameter breaks its rule", body = Document),
    ))]
pub(super) async fn list(
    State(edge): State<Edge>,
    caller: Caller,
    ConversationsQuery { limit, cursor }: ConversationsQuery,
) -> Result<Response, Problem> {
    let part = edge.services.converse.list(&caller, limit, cursor).await?;
    let shown = part.items.iter().map(|view| ViewShown {
        conversation_id: view.conversation.id,
        participants: &view.conversation.participants,
        last_message_at: view.last_message_at,
        unread: view.unread,
    });
    let next_cursor = part.next.map(|cursor| cursor.to_string());
    Ok(Json(ConversationsShown { conversations: shown.collect(), next_cursor }).into_response())
}

/// Mark a conversation as read.
///
/// Up to that message all of it is; a mark never goes back.
#[utoipa::path(post, path = "/api/chat/conversations/{id}/read", tag = "chat", operation_id = "markRead",
    params(("id" = String, Path, description = "The conversation's id, or `support-demo`")),
    request_body = ReadBody,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It is marked"),
        (status = 400, description = "The id is none, or the message is not one of the conversation", body = Document),
        (status = 403, description = "The caller does not take part, or there is no such conversation", body = Document),
    ))]
pub(super) async fn mark_read(
    State(edge): State<Edge>,
    caller: Caller,
    Name(conversation): Name,
    Payload { value: body, .. }: Payload<ReadBody>,
) -> Result<StatusCode, Problem> {
    edge.services.converse.mark_read(&caller, conversation, body.message_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a message.
///
/// Answered when it is durable; its event reaches every stream and socket of everybody who takes part, and waits in
/// their inboxes for 30 days. With the same key it is safe to send again.
#[utoipa::path(post, path = "/api/chat/send", tag = "chat", operation_id = "sendMessage",
    request_body = MessageBody,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 201, description = "It is sent", body = SentShown),
        (status = 200, description = "It was sent before, by the same key", body = SentShown),
        (status = 400, description = "The text, the key or the conversation's id breaks its rule", body = Document),
        (status = 403, description = "The caller does not take part, or there is no such conversation", body = Document),
        (status = 422, description = "The key was used for another text or conversation", body = Document),
    ))]
pub(super) async fn send(
    State(edge): State<Edge>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    Payload { value: body, .. }: Payload<MessageBody>,
) -> Result<Response, Problem> {
    let MessageBody { conversation_id, body, idempotency_key } = body;
    let sent = edge.services.converse.send(&caller, conversation_id, &body, idempotency_key).await?;
    let message = &sent.message;
    tracing::info!(
        target: "roost::chat::sent",
        requestId = %request.0, userId = %caller.user, conversationId = %message.conversation,
        messageId = %message.id, repeat = sent.is_repeat, "message {} sent", message.id
    );
    let status = if sent.is_repeat { StatusCode::OK } else { StatusCode::CREATED };
    let shown = SentShown {
        message_id: message.id,
        conversation_id: message.conversation,
        created_at: message.created_at,
    };
    Ok((status, Json(shown)).into_response())
}

/// Read a conversation's messages.
///
/// Walking with cursors while messages come shows every message that was there at first exactly once.
#[utoipa::path(get, path = "/api/chat/history", tag = "chat", operation_id = "readHistory",
    params(
        ("conversationId" = String, Query, description = "The conversation's id, or `support-demo`"),
        ("limit" = Option<u32>, Query, description = "At most so many, 20 if not given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the page before"),
    ),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "Newest first", body = HistoryShown),
        (status = 400, description = "A parameter breaks its rule", body = Document),
        (status = 403, description = "The caller does not take part, or there is no such conversation", body = Document),
    ))]
pub(super) async fn history(
    State(edge): State<Edge>,
    caller: Caller,
    HistoryQuery { conversation, page }: HistoryQuery,
) -> Result<Response, Problem> {
    let before = page.cursor.map(|cursor| cursor.before);
    let part = edge.services.converse.history(&caller, conversation, page.limit, before).await?;
    let shown = part.items.iter().map(|message| MessageShown {
        message_id: message.id,
        conversation_id: message.conversation,
        sender_id: message.sender,
        body: message.body.as_str(),
        created_at: message.created_at,
    });
    let shown_before = page.cursor.map_or(0, |cursor| cursor.shown);
    let next_cursor = part
        .next
        .map(|before| PageCursor { before, shown: shown_before + part.items.len() as u64 }.to_string());
    Ok(Json(HistoryShown { messages: shown.collect(), next_cursor }).into_response())
}

/// The conversation that a path names.
pub(super) struct Name(ConversationName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = parts.extract::<Path<String>>().await;
        let name = text.ok().and_then(|Path(text)| text.parse().ok());
        name.map(Self).ok_or_else(|| Problem::field("id", NAME_RULE))
    }
}

impl FromFields for ConversationBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let participants: Vec<UserId> =
            fields.list("participants", "must be a UUID", |text| text.parse().ok())?;
        if participants.len() > MAX_NAMED {
            return fields.refuse("participants", "must name 2 to 100 different users, the caller counted");
        }
        Some(Self { participants })
    }
}

impl FromFields for MessageBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let conversation_id = fields.text("conversationId").and_then(|text| match text.parse() {
            Ok(name) => Some(name),
            Err(()) => fields.refuse("conversationId", NAME_RULE),
        });
        let body = fields.text("body");
        let idempotency_key = fields.text("idempotencyKey").and_then(|key| {
            let fits = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
            match fits {
                true => Some(key),
                false => fields.refuse("idempotencyKey", "must be 1 to 128 visible ASCII characters"),
            }
        });
        Some(Self { conversation_id: conversation_id?, body: body?, idempotency_key: idempotency_key? })
    }
}

impl FromFields for ReadBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let text = fields.text("messageId")?;
        match text.parse() {
            Ok(message_id) => Some(Self { message_id }),
            Err(_) => fields.refuse("messageId", "must be a UUID"),
        }
    }
}
