//! `idle-streams`: what a chat stream costs that only waits, by what a session does, in one run.
//!
//! Both by turns on the same accounts, each on a server that was just started: the machine's limit of open files lets only
//! one side be connected at a time, and memory that one left behind would hide the other.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::audience::Audience;
use crate::board::Board;
use crate::client::Caller;
use crate::error::Result;
use crate::people::{Person, converse, register};
use crate::plot::{Axis, Line, Plot};
use crate::progress::Progress;
use crate::publisher::{Lane, publish};
use crate::receipts::join;
use crate::scenario::waiting::Waiting;
use crate::scenario::{Settings, add_faults};
use crate::server::Server;
use crate::stats::{Report, median};
use crate::tally::Tally;
use crate::upgrade::Door;

/// Connections of each kind that come and go before the empty server's memory is read.
const WARM_UP: usize = 50;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Streams that wait, and sessions.
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Users that hold them, 100 each at most; all in one conversation, hence 100 at most.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Seconds over which the processor time is read, once empty and once full.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Rounds of streams and of sessions, in turn.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

/// What the rounds of one kind came to.
#[derive(Debug, Default)]
struct Side {
    name: &'static str,
    memory: Vec<f64>,
    cpu: Vec<f64>,
    empty_cpu: Vec<f64>,
    lost: u64,
    tally: Tally,
    curve: Vec<(f64, f64)>,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("idle-streams");
    let mut server = settings.start_server().await?;
    let users = register(server.address(), "user", arguments.users, &progress).await?;
    let conversation = converse(&mut Caller::new(server.address()), &users).await?;
    let board = Arc::new(Board::new(2 * arguments.rounds as usize));

    let mut streams = Side { name: "stream", ..Side::default() };
    let mut sessions = Side { name: "session", ..Side::default() };
    let by_stream = |user: &Person| Door::Stream { token: user.token.clone() };
    let by_socket = |user: &Person| Door::WebSocket { token: user.token.clone() };
    let scene = Scene { arguments, settings, progress: &progress, users: &users, conversation, board };
    for _ in 0..arguments.rounds {
        scene.wait_by(&mut sessions, by_socket, &mut server).await?;
        scene.wait_by(&mut streams, by_stream, &mut server).await?;
    }
    server.end().await?;

    let mut report = Report::new("idle-streams");
    let by = |ours: &[f64], theirs: &[f64]| median(ours) / median(theirs);
    report.bar("memory, stream by session", by(&streams.memory, &sessions.memory), "×", 1.0);
    report.bar("CPU, stream by session", by(&streams.cpu, &sessions.cpu), "×", 1.0);
    report.plot = Plot::new("idle-streams", Axis::linear("connections"), Axis::linear("MiB (anonymous)"));
    for side in [streams, sessions] {
        side.report(&mut report);
    }
    report.note(format!(
        "{} of each kind, {} a user; each side over the same process, restarted before it, when {WARM_UP} had come and \
         gone; the kernel's socket buffers are in neither figure",
        arguments.streams,
        arguments.streams.div_ceil(arguments.users)
    ));
    report.note(
        "medians of the rounds; CPU is the whole server's, over the connections; heartbeats as by default",
    );
    Ok(report)
}

/// What both sides wait on.
#[derive(Debug)]
struct Scene<'a> {
    arguments: &'a Arguments,
    settings: &'a Settings,
    progress: &'a Progress,
    users: &'a [Person],
    conversation: Uuid,
    board: Arc<Board>,
}

impl Scene<'_> {
    /// One round of one side.
    async fn wait_by(
        &self,
        side: &mut Side,
        door: impl Fn(&Person) -> Door,
        server: &mut Server,
    ) -> Result<()> {
        // Memory that password hashing, or the other side, left behind would be used again, and hide this one.
        server.stop().await?;
        server.start_again().await?;
        let address = server.address();
        let seats = |audience: &mut Audience, count| {
            self.users.iter().cycle().take(count).for_each(|user| audience.add(door(user)));
        };
        {
            let mut warm_up = Audience::new(1, Arc::clone(&self.board), false)?;
            seats(&mut warm_up, WARM_UP);
            warm_up.connect_range(0..WARM_UP, address, self.progress).await?;
            let connected = |tally: &Tally| tally.connected == WARM_UP as u64;
            warm_up.wait_for("the first connections", Duration::from_secs(30), connected).await?;
        }
        let mut audience = Audience::new(self.settings.ears, Arc::clone(&self.board), false)?;
        seats(&mut audience, self.arguments.streams);
        let window = Duration::from_secs(self.arguments.seconds);
        let waiting = Waiting::measure(server, &audience, window, self.progress).await?;

        // Those that wait are worth their memory only if a message still reaches them all.
        audience.forget();
        let mut lanes = [Lane::within(address, &self.users[0], self.conversation)];
        let published = publish(&mut lanes, &self.board, 1.0, 1).await;
        let connections = self.arguments.streams as u64;
        audience.settle(published.answered * connections, Duration::from_secs(10)).await;
        let joined = join(&audience.take_receipts(), &published.messages, &self.board);
        side.lost += connections.saturating_sub(joined.delivered);
        side.tally.add(&audience.tally());
        side.tally.repeated += joined.repeated;
        side.memory.push(waiting.anonymous_each());
        side.cpu.push(waiting.cpu_each());
        side.empty_cpu.push(waiting.empty_cpu());
        side.curve = waiting.curve;
        Ok(())
    }
}

impl Side {
    fn report(self, report: &mut Report) {
        let name = self.name;
        report.figure(format!("memory a {name} (anonymous)"), median(&self.memory), "KiB");
        report.figure(format!("CPU a {name}-second"), median(&self.cpu), "µs");
        report.figure(
            format!("before the {name}s, CPU of the empty server a second"),
            median(&self.empty_cpu),
            "µs",
        );
        report.bar(format!("{name}s that one message afterwards did not reach"), self.lost as f64, "", 0.0);
        add_faults(report, &format!("{name}s"), &self.tally);
        report.plot.lines.push(Line { name: format!("{name}s"), points: self.curve });
    }
}
