//! The names of all metrics, with what each tells. Code names a metric by its constant, so that no name
//! is spelled twice.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Times in seconds, counted by bucket.
    Seconds,
}

/// A metric's name, kind and meaning.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it tells, for `# HELP`.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident = $name:literal, $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: &str = concat!("roost_", $name);)+

        /// All metrics.
        pub const ALL: &[Metric] = &[$(Metric { name: $constant, kind: Kind::$kind, help: $help }),+];
    };
}

metrics! {
    SESSIONS: Gauge = "sessions", "WebSockets that are open.";
    DELIVERIES: Counter = "deliveries_total", "Frames of posts and deletions put on WebSockets, live.";
    DELIVERY_SECONDS: Seconds = "delivery_seconds", "Time from the commit of a post to its frame on a WebSocket.";
    CLOSES: Counter = "closes_total", "WebSockets that ended, by reason.";
    STREAMS: Gauge = "streams", "Chat streams that are open.";
    CHAT_DELIVERIES: Counter = "chat_deliveries_total", "Chat events given to a listener, by way (stream, socket).";
    CHAT_DELIVERY_SECONDS: Seconds = "chat_delivery_seconds", "Time from a message's place in an inbox to a listener that waits for it.";
    PRESSES: Counter = "presses_total", "Presses that were answered.";
    ROOM_EFFECTS: Counter = "room_effects_total", "Effects that presses made.";
    GAME_EVENTS: Counter = "game_events_total", "Effects on the channel of Redis, by what became of them (published, lost, heard).";
    INBOX_LAG_SECONDS: Gauge = "inbox_lag_seconds", "Age of the oldest message that is not in every inbox yet; 0 without one.";
    JOBS_WAITING: Gauge = "jobs_waiting", "Jobs that are not done, by kind (delivery, event).";
    JOB_OLDEST_SECONDS: Gauge = "job_oldest_seconds", "Age of the oldest job that is not done; 0 without one.";
    MOVING_SECONDS: Gauge = "moving_seconds", "Age of the oldest entry between its commit and the last outbox; 0 without one.";
    STORE_SECONDS: Seconds = "store_seconds", "Time of a call of the store, by operation (read, write).";
    ACTORS: Gauge = "actors", "Actors that live, by kind.";
    QUEUE_LENGTH: Gauge = "queue_length", "What waits in a bounded queue, by queue.";
    HTTP_REQUESTS: Counter = "http_requests_total", "Requests answered, by route, method and status.";
    HTTP_REQUEST_SECONDS: Seconds = "http_request_seconds", "Time from a request's head to its answer's, by route.";
    DEAD_LETTERS: Gauge = "dead_letters", "Events that were given up and wait for an operator.";
    EVENTS_SENT: Counter = "events_sent_total", "Tries to send an event, by outcome (accepted, failed, buried).";
    LINK_FRAMES: Counter = "link_frames_total", "Entries sent to other nodes: one for each node that is interested.";
    CLUSTER_VIEW: Gauge = "cluster_view", "Number of the view that this node goes by; 0 while it has none.";
    CLUSTER_HOMES: Gauge = "cluster_homes", "Shards that this node is home to and has begun, of 256.";
    MARK_LAG_SECONDS: Gauge = "mark_lag_seconds", "How far the cursors that are handed out are behind now.";
    CIRCUIT_OPEN: Gauge = "circuit_open", "1 while a dependency is not asked because it failed, by dependency.";
}
