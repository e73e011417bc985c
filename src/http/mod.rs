//! The edge: what comes in over the network and what goes out again.
//!
//! # Codemap
//!
//! A connection is accepted in [`listener`] (under TLS by [`tls`]) and its requests go to the router of
//! [`router`], which is the whole API on one page. On its way in a request is dressed ([`headers`]: its
//! id, its span, its metrics), admitted ([`limits`], by the [`caller`] or the client's [`address`]) and
//! taken apart ([`body`], [`query`], [`path`]); what nobody read of it is read away by [`leftover`]. Then
//! one file a resource hands it to `service`: [`accounts`], [`posts`], [`social`], [`timeline`], [`chat`],
//! [`rooms`], [`health`]; [`room_page`] is for people. Whatever is refused, and wherever, is a [`problem::Problem`]. [`openapi`] tells all of it
//! to programs. [`live`] upgrades `/ws` and answers with streams.
//!
//! **Invariant:** nothing here knows SQL or an actor; nothing behind here knows HTTP.

pub mod accounts;
pub mod address;
pub mod admin;
pub mod body;
pub mod caller;
pub mod chat;
pub mod cookies;
pub mod headers;
pub mod health;
pub mod leftover;
pub mod limits;
pub mod listener;
pub mod live;
pub mod openapi;
pub mod path;
pub mod posts;
pub mod problem;
pub mod query;
pub mod room_page;
pub mod rooms;
pub mod router;
pub mod social;
pub mod timeline;
pub mod tls;

pub use openapi::openapi_json;

use crate::config::Role;
use crate::service::Services;
use health::HealthSource;
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use std::ops::Deref;
use std::sync::Arc;

/// What every handler is given: the services and what the edge was told about itself.
#[derive(Clone)]
pub struct Edge(Arc<EdgeState>);

/// What [`Edge`] shares.
pub struct EdgeState {
    /// What can be done.
    pub services: Services,
    /// What the edge was told.
    pub settings: Settings,
    /// How the node is.
    pub health: Arc<dyn HealthSource>,
    /// The sockets' part of the edge.
    pub live: live::Live,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
}

/// What the edge is told at its start; it never changes while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which calls this node takes.
    pub serves: Role,
    /// Where clients reach the server, if it was said: `https://roost.example`.
    pub public_url: Option<String>,
    /// Origins whose pages may call, such as `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether this listener speaks TLS.
    pub tls: bool,
    /// Whether the metrics are served beside the API, and not on an address of their own.
    pub metrics_here: bool,
}

impl Edge {
    /// Shares `state`.
    #[must_use]
    pub fn new(state: EdgeState) -> Self {
        Self(Arc::new(state))
    }
}

impl Deref for Edge {
    type Target = EdgeState;

    fn deref(&self) -> &EdgeState {
        &self.0
    }
}
