//! What HTTP alone costs: a route of axum that reads a press as JSON, does nothing, and answers one, in a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use axum::Router;
use axum::extract::{Json, Path as Segment};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::error::{Error, Result, io_error};
use crate::process::{Process, Usage};

/// An answer of a room's length.
const ANSWER: &str = r#"{"event_type":"e0","current_count":5,"required_count":100,"effect_triggered":false,"viewer_count":1000,"next_threshold":100}"#;

/// The route's process.
#[derive(Debug)]
pub struct BareRoute {
    process: Process,
    address: SocketAddr,
}

impl BareRoute {
    /// Starts our own executable as the route.
    pub fn start(folder: &Path) -> Result<Self> {
        let program = std::env::current_exe().map_err(io_error("our own executable"))?;
        let mut process = Process::start(&program, ["bare-route"], &[], &folder.join("route.log"), true)?;
        let (_, answers) = process.pipes().ok_or_else(|| process.failed("has no pipes"))?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(answers), &mut line)
            .map_err(io_error("hearing the route"))?;
        let address = line.trim_end().parse().map_err(|_| process.failed("named no address"))?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }
}

/// A press, as the contract has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read and dropped: that is what it measures")]
struct Press {
    event_type: String,
    viewer_id: Option<String>,
    press_id: Option<String>,
}

/// The process itself: prints its address, and answers until it is killed.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io_error("listening"))?;
    println!("{}", listener.local_addr().map_err(io_error("listening"))?);
    let route = async |Segment(_): Segment<String>, Json(_): Json<Press>| {
        ([(CONTENT_TYPE, "application/json")], ANSWER).into_response()
    };
    let router = Router::new().route("/api/rooms/{room_id}/events", post(route));
    let listener = axum::serve::ListenerExt::tap_io(listener, |tcp| {
        // Without it answers may wait for the client's system.
        let _set = tcp.set_nodelay(true);
    });
    axum::serve(listener, router).await.map_err(|source| Error::Io { what: "serving".to_owned(), source })
}
