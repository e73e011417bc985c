//! `idle`: what a session costs that only waits, in memory and in heartbeats.

use std::sync::Arc;
use std::time::Duration;

use crate::audience::Audience;
use crate::board::Board;
use crate::error::Result;
use crate::people::{follow, register};
use crate::plot::{Axis, Line, Plot};
use crate::progress::Progress;
use crate::publisher::{Lane, publish};
use crate::scenario::waiting::Waiting;
use crate::scenario::{Settings, add_faults};
use crate::stats::{Report, mebibytes};
use crate::upgrade::Door;

/// Connections that come and go before the empty server's memory is read.
const WARM_UP: usize = 50;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Sockets that wait.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Users that hold them, 100 sockets each at most.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Authors whom each of those users follows.
    #[arg(long, default_value_t = 100)]
    followees: usize,
    /// Seconds over which the processor time is read, once empty and once full.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("idle");
    let mut report = Report::new("idle");
    let mut server = settings.start_server().await?;
    let address = server.address();
    let authors = register(address, "author", arguments.followees, &progress).await?;
    let users = register(address, "user", arguments.users, &progress).await?;
    follow(address, &users, &authors, &progress).await?;
    // Memory that password hashing left behind would be used again by sessions, and hide them.
    server.stop().await?;
    server.start_again().await?;

    let board = Arc::new(Board::new(2));
    let mut audience = Audience::new(settings.ears, Arc::clone(&board), false)?;
    {
        let mut warm_up = Audience::new(1, Arc::clone(&board), false)?;
        for user in users.iter().cycle().take(WARM_UP) {
            warm_up.add(Door::WebSocket { token: user.token.clone() });
        }
        warm_up.connect_range(0..WARM_UP, address, &progress).await?;
        let connected = |tally: &crate::tally::Tally| tally.connected == WARM_UP as u64;
        warm_up.wait_for("the first connections", Duration::from_secs(30), connected).await?;
    }
    for user in users.iter().cycle().take(arguments.sessions) {
        audience.add(Door::WebSocket { token: user.token.clone() });
    }

    let window = Duration::from_secs(arguments.seconds);
    let waiting = Waiting::measure(&server, &audience, window, &progress).await?;

    // Sessions that wait are worth their memory only if a post still reaches them all.
    let mut lanes = [Lane::new(address, &authors[0])];
    let published = publish(&mut lanes, &board, 1.0, 1).await;
    audience.settle(published.answered * arguments.sessions as u64, Duration::from_secs(10)).await;
    let tally = audience.tally();

    report.figure("sessions", arguments.sessions as f64, "");
    report.bar("memory a session (anonymous)", waiting.anonymous_each(), "KiB", 12.0);
    report.figure("memory a session (proportional)", waiting.proportional_each(), "KiB");
    report.figure("memory of the empty server (anonymous)", mebibytes(waiting.empty.anonymous), "MiB");
    report.bar("CPU a session-second", waiting.cpu_each(), "µs", 1.0);
    report.figure("CPU of the empty server a second", waiting.empty_cpu(), "µs");
    let lost = (arguments.sessions as u64).saturating_sub(tally.delivered);
    report.bar("sessions that one post afterwards did not reach", lost as f64, "", 0.0);
    add_faults(&mut report, "sessions", &tally);
    report.note(format!(
        "{} users hold the sessions, {} each, and follow {} authors each",
        arguments.users,
        arguments.sessions.div_ceil(arguments.users),
        arguments.followees
    ));
    report.note(format!(
        "over the same process, restarted after its accounts were made, when {WARM_UP} connections had \
         come and gone; the kernel's socket buffers are in neither figure"
    ));
    report.note("CPU is the whole server's, over the sessions; heartbeats as by default");
    report.plot = Plot::new("idle", Axis::linear("sessions"), Axis::linear("MiB (anonymous)"));
    report.plot.lines.push(Line { name: "memory".to_owned(), points: waiting.curve });
    Ok(report)
}
