//! `/api/rooms`: rooms made, listed, shown, pressed in, reset and ended. Their stream is [`super::live::room_stream`]'s, their
//! hosts' sockets are [`super::live::host`]'s.
//!
//! Reading and pressing need no token: whoever comes with a good one is known by it, whoever comes with a cookie that is over,
//! or by a page of somebody else, is nobody.

use super::Edge;
use super::address::Address;
use super::body::{Fields, FromFields, Optional, Payload};
use super::caller::Visitor;
use super::listener::Peer;
use super::path::RoomPath;
use super::problem::{Document, Problem};
use super::query::OwnRoomsQuery;
use crate::model::id::RoomId;
use crate::model::room::{EventType, EventTypes, PressId, Room, RoomStats, Viewer, ViewerId};
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::service::room::Press;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{HOST, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

const ID_RULE: &str = "must have 1 to 64 characters, none of them a control character";

/// A room to be made.
#[derive(Default, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRoom, example = json!({"event_types": [{"event_type": "jump", "base": 5}]}))]
pub(super) struct RoomBody {
    /// What can be pressed there, 1 to 64; what the server's settings say where it is missing.
    #[schema(required = false, value_type = Option<Vec<EventTypeShown>>)]
    event_types: Option<EventTypes>,
}

/// A press.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPress, example = json!({"event_type": "skill1", "viewer_id": "7f2c", "press_id": "1"}))]
pub(super) struct PressBody {
    /// What is pressed: one of the room's event types.
    event_type: String,
    /// Who presses, 1 to 64 characters; the user or the address where it is missing.
    #[schema(required = false, value_type = Option<String>)]
    viewer_id: Option<ViewerId>,
    /// Names the press, 1 to 64 characters: with it, it is safe to send again for 10 minutes.
    #[schema(required = false, value_type = Option<String>)]
    press_id: Option<PressId>,
}

/// What can be pressed.
#[derive(Serialize, ToSchema)]
#[schema(as = EventType, example = json!({"event_type": "skill1", "base": 5}))]
pub(super) struct EventTypeShown<'a> {
    event_type: &'a str,
    /// How many presses make an effect where few viewers are there.
    #[schema(minimum = 1, maximum = 1_000_000)]
    base: u32,
}

/// A room that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = MadeRoom, example = json!({"room_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "web_url": "http://127.0.0.1:8080/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV"}))]
pub(super) struct MadeShown {
    /// Its id: a ULID.
    room_id: String,
    /// Where its viewers go.
    web_url: String,
}

/// A room.
#[derive(Serialize, ToSchema)]
#[schema(as = Room, example = json!({"room_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "created_at": "2026-01-03T00:00:00.123Z", "host_connected": true, "event_types": [{"event_type": "skill1", "base": 5}]}))]
pub(super) struct RoomShown<'a> {
    room_id: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Whether a host is connected.
    host_connected: bool,
    event_types: Vec<EventTypeShown<'a>>,
}

/// A room in its owner's list.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnRoom, example = json!({"room_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "web_url": "http://127.0.0.1:8080/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV", "created_at": "2026-01-03T00:00:00.123Z", "event_types": [{"event_type": "skill1", "base": 5}]}))]
pub(super) struct OwnShown<'a> {
    room_id: String,
    /// Where its viewers go.
    web_url: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    event_types: Vec<EventTypeShown<'a>>,
}

/// The caller's rooms.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnRooms, example = json!({"rooms": []}))]
pub(super) struct OwnRoomsShown<'a> {
    /// The newest 100, newest first.
    rooms: Vec<OwnShown<'a>>,
}

/// What a press counted.
#[derive(Serialize, ToSchema)]
#[schema(as = Pressed, example = json!({"event_type": "skill1", "current_count": 5, "required_count": 5, "effect_triggered": true, "viewer_count": 3, "next_threshold": 5}))]
pub(super) struct PressedShown {
    event_type: String,
    /// The count that it reached; with an effect, the next press counts from 0 again.
    current_count: u32,
    /// What it was measured against.
    required_count: u32,
    effect_triggered: bool,
    /// Viewers active in the last 5 minutes.
    viewer_count: u32,
    /// What the next press will be measured against.
    next_threshold: u32,
}

/// How an event type of a room stands.
#[derive(Serialize, ToSchema)]
#[schema(as = EventTypeStats, example = json!({"event_type": "skill1", "current_count": 2, "required_count": 5, "next_threshold": 5, "viewer_count": 3}))]
pub(super) struct StatShown<'a> {
    event_type: &'a str,
    /// Presses since its last effect.
    current_count: u32,
    /// What the next press is measured against.
    required_count: u32,
    /// The same.
    next_threshold: u32,
    viewer_count: u32,
}

/// How a room stands.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomStats, example = json!({"room_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "stats": [{"event_type": "skill1", "current_count": 2, "required_count": 5, "next_threshold": 5, "viewer_count": 3}], "time": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct StatsShown<'a> {
    room_id: String,
    stats: Vec<StatShown<'a>>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
}

/// Make a room.
///
/// Its host connects to `/ws/rooms/{room_id}`; its viewers go to `web_url`.
#[utoipa::path(post, path = "/api/rooms", tag = "rooms", operation_id = "makeRoom",
    request_body = RoomBody,
    security(("bearer" = []), ("cookie" = [])),
    responses((status = 201, description = "The room; `Location` is its path", body = MadeShown)))]
pub(super) async fn make(
    State(edge): State<Edge>,
    caller: Caller,
    base: WebBase,
    Optional(body): Optional<RoomBody>,
) -> Result<Response, Problem> {
    let room = edge.services.rooms.make(&caller, body.event_types).await?;
    let shown = MadeShown { room_id: room.id.to_string(), web_url: base.of(room.id) };
    let location = [(LOCATION, format!("/api/rooms/{}", room.id))];
    Ok((StatusCode::CREATED, location, Json(shown)).into_response())
}

/// Read one's list of rooms.
#[utoipa::path(get, path = "/api/rooms", tag = "rooms", operation_id = "readRooms",
    params(("mine" = bool, Query, description = "`true`: one's own; there is no list of all")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "Newest first", body = OwnRoomsShown),
        (status = 400, description = "`mine` is not `true`", body = Document),
    ))]
pub(super) async fn list(
    State(edge): State<Edge>,
    caller: Caller,
    base: WebBase,
    _: OwnRoomsQuery,
) -> Result<Response, Problem> {
    let rooms = edge.services.rooms.mine(&caller).await?;
    let shown = rooms.iter().map(|room| OwnShown {
        room_id: room.id.to_string(),
        web_url: base.of(room.id),
        created_at: room.created_at,
        event_types: event_types(room),
    });
    Ok(Json(OwnRoomsShown { rooms: shown.collect() }).into_response())
}

/// Read a room.
#[utoipa::path(get, path = "/api/rooms/{room_id}", tag = "rooms", operation_id = "readRoom",
    params(("room_id" = String, Path, description = "The room's id")),
    responses(
        (status = 200, description = "The room", body = RoomShown),
        (status = 404, description = "There is no such room", body = Document),
    ))]
pub(super) async fn read(State(edge): State<Edge>, RoomPath(id): RoomPath) -> Result<Response, Problem> {
    let (room, stats) = edge.services.rooms.stats(id).await?;
    let shown = RoomShown {
        room_id: id.to_string(),
        created_at: room.created_at,
        host_connected: stats.host_connected,
        event_types: event_types(&room),
    };
    Ok(Json(shown).into_response())
}

/// Press.
///
/// Answered when it is durable. With the same `press_id` of the same viewer it is counted once, and answered as it was.
#[utoipa::path(post, path = "/api/rooms/{room_id}/events", tag = "rooms", operation_id = "press",
    params(("room_id" = String, Path, description = "The room's id")),
    request_body = PressBody,
    responses(
        (status = 200, description = "It is counted", body = PressedShown),
        (status = 400, description = "The room has no such event type, or a field breaks its rule", body = Document),
        (status = 404, description = "There is no such room", body = Document),
        (status = 429, description = "Too many presses of this viewer (10 a second), or requests", body = Document),
    ))]
pub(super) async fn press(
    State(edge): State<Edge>,
    Visitor(caller): Visitor,
    Address(address): Address,
    RoomPath(id): RoomPath,
    Payload { value: body, .. }: Payload<PressBody>,
) -> Result<Response, Problem> {
    let PressBody { event_type, viewer_id, press_id } = body;
    let viewer = match (viewer_id, caller) {
        (Some(id), _) => Viewer::Named(id),
        (None, Some(caller)) => Viewer::User(caller.user),
        (None, None) => Viewer::Address(address),
    };
    let press = Press { event_type, viewer, id: press_id };
    let (room, answered) = edge.services.rooms.press(id, press).await?;
    let event_type = room.event_types.at(answered.event_type);
    let shown = PressedShown {
        // Of a press that came before under the same id, what was pressed then.
        event_type: event_type.map(|of| of.name.to_string()).unwrap_or_default(),
        current_count: answered.current_count,
        required_count: answered.required_count,
        effect_triggered: answered.effect_triggered,
        viewer_count: answered.viewer_count,
        next_threshold: answered.next_threshold,
    };
    Ok(Json(shown).into_response())
}

/// Read how a room stands.
#[utoipa::path(get, path = "/api/rooms/{room_id}/stats", tag = "rooms", operation_id = "readRoomStats",
    params(("room_id" = String, Path, description = "The room's id")),
    responses(
        (status = 200, description = "Every event type", body = StatsShown),
        (status = 404, description = "There is no such room", body = Document),
    ))]
pub(super) async fn stats(State(edge): State<Edge>, RoomPath(id): RoomPath) -> Result<Response, Problem> {
    let (room, stats) = edge.services.rooms.stats(id).await?;
    Ok(Json(StatsShown::of(&room, &stats)).into_response())
}

/// Start all counts of a room again.
#[utoipa::path(post, path = "/api/rooms/{room_id}/reset", tag = "rooms", operation_id = "resetRoom",
    params(("room_id" = String, Path, description = "The room's id")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "They are 0"),
        (status = 403, description = "The room is another's", body = Document),
        (status = 404, description = "There is no such room", body = Document),
    ))]
pub(super) async fn reset(
    State(edge): State<Edge>,
    caller: Caller,
    RoomPath(id): RoomPath,
) -> Result<StatusCode, Problem> {
    edge.services.rooms.reset(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a room.
///
/// Its host's socket and its streams end; effects that were not sent go.
#[utoipa::path(delete, path = "/api/rooms/{room_id}", tag = "rooms", operation_id = "endRoom",
    params(("room_id" = String, Path, description = "The room's id")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It has ended"),
        (status = 403, description = "The room is another's", body = Document),
        (status = 404, description = "There is no such room", body = Document),
    ))]
pub(super) async fn end(
    State(edge): State<Edge>,
    caller: Caller,
    RoomPath(id): RoomPath,
) -> Result<StatusCode, Problem> {
    edge.services.rooms.end(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where viewers reach this server: what the settings say, else as the request did.
pub(super) struct WebBase(String);

impl WebBase {
    /// By what a request came with.
    pub(super) fn by(edge: &Edge, headers: &HeaderMap, is_tls: bool) -> Self {
        if let Some(url) = &edge.settings.public_url {
            return Self(url.trim_end_matches('/').to_owned());
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        Self(format!("{}://{host}", if is_tls { "https" } else { "http" }))
    }

    /// Where the viewers of a room go.
    pub(super) fn of(&self, room: RoomId) -> String {
        format!("{}/rooms/{room}", self.0)
    }
}

impl FromRequestParts<Edge> for WebBase {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let is_tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
        let mut headers = parts.headers.clone();
        // HTTP/2 names the host in the URL alone.
        if let Some(host) = parts.uri.authority().and_then(|authority| authority.as_str().parse().ok()) {
            headers.entry(HOST).or_insert(host);
        }
        Ok(Self::by(edge, &headers, is_tls))
    }
}

impl<'a> StatsShown<'a> {
    /// A room, as it stands.
    pub(super) fn of(room: &'a Room, stats: &RoomStats) -> Self {
        let counted = stats.counts.iter().zip(&stats.required);
        let shown = room.event_types.all().iter().zip(counted).map(|(of, (count, required))| StatShown {
            event_type: of.name.as_str(),
            current_count: *count,
            required_count: *required,
            next_threshold: *required,
            viewer_count: stats.viewers,
        });
        Self { room_id: room.id.to_string(), stats: shown.collect(), time: stats.at }
    }
}

impl FromFields for RoomBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let Some(given) = fields.optional("event_types") else { return Some(Self::default()) };
        let Value::Array(items) = given else { return fields.refuse("event_types", "must be a list") };
        let mut listed = Vec::with_capacity(items.len().min(64));
        for (place, item) in items.iter().enumerate() {
            match event_type(item) {
                Ok(event_type) => listed.push(event_type),
                Err(rule) => return fields.refuse(&format!("event_types[{place}]"), &rule),
            }
        }
        match EventTypes::parse(listed) {
            Ok(event_types) => Some(Self { event_types: Some(event_types) }),
            Err(error) => fields.refuse("event_types", &error.to_string()),
        }
    }
}

impl FromFields for PressBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let event_type = fields.text("event_type");
        let viewer_id = id(fields, "viewer_id", |text| ViewerId::parse(text).ok());
        let press_id = id(fields, "press_id", |text| PressId::parse(text).ok());
        Some(Self { event_type: event_type?, viewer_id: viewer_id?, press_id: press_id? })
    }
}

/// An id that may be missing; none where it is wrong, which `fields` has noted.
fn id<T>(fields: &mut Fields, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match fields.optional(name) {
        None => Some(None),
        Some(Value::String(text)) => match parse(&text) {
            Some(id) => Some(Some(id)),
            None => fields.refuse(name, ID_RULE),
        },
        Some(_) => fields.refuse(name, "must be a string"),
    }
}

/// `{event_type, base}` and nothing else.
fn event_type(item: &Value) -> Result<EventType, String> {
    let shape = || "must be an object of event_type (a string) and base (a whole number)".to_owned();
    let fields = item.as_object().filter(|fields| fields.len() == 2).ok_or_else(shape)?;
    let name = fields.get("event_type").and_then(Value::as_str).ok_or_else(shape)?;
    let base = fields.get("base").and_then(Value::as_u64).ok_or_else(shape)?;
    EventType::parse(name, u32::try_from(base).unwrap_or(u32::MAX)).map_err(|error| error.to_string())
}

fn event_types(room: &Room) -> Vec<EventTypeShown<'_>> {
    let all = room.event_types.all().iter();
    all.map(|of| EventTypeShown { event_type: of.name.as_str(), base: of.base }).collect()
}
