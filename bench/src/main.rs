//! `roost-bench`: the load generator and the benchmarks of Roost.
//!
//! It runs the real binary as another process, speaks to it as any client would, and reads its
//! processor time and memory from `/proc`. Codemap: `scenario/` says what is measured, `server`,
//! `cluster`, `engines`, `floor`, `bare_route`, `process` and `processors` what it is measured on, `client`, `publisher`,
//! `audience` and `listener` the load (`crowd` presses in rooms, `poster` posts on while nodes go), `board` and `receipts`
//! which post is whose, `stats` and `plot` what is shown.
//!
//! It asserts nothing: a bar that is missed is a line in a table, never a failed test.

mod audience;
mod bare_route;
mod board;
mod client;
mod cluster;
mod crowd;
mod engines;
mod error;
mod events;
mod floor;
mod frame;
mod listener;
mod people;
mod plot;
mod poster;
mod process;
mod processors;
mod progress;
mod publisher;
mod receipts;
mod remainder;
mod scenario;
mod seed;
mod seed_chat;
mod server;
mod stats;
mod tally;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use crate::engines::Engines;
use crate::error::{Error, Result, io_error};
use crate::scenario::{
    Settings, celebrity, chat, failover, fanout, game, history, idle, idle_streams, nodes, pages, publish,
    reconnect, rest, rolling, rooms, saturate, spread, stalled, timeline,
};
use crate::stats::{Report, markdown_head};

/// Load generator and benchmarks of Roost.
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    /// The server's binary; by default `roost` beside this one.
    #[arg(long, global = true)]
    server: Option<PathBuf>,
    /// Where the server's data, the JSON files and the plots go.
    #[arg(long, global = true, default_value = "bench/out")]
    out: PathBuf,
    /// Threads that read the listeners' sockets.
    #[arg(long, global = true, default_value_t = 1)]
    ears: usize,
    /// Servers run on one half of the processors, what measures them on the other.
    #[arg(long, global = true)]
    apart: bool,
    #[command(flatten)]
    engines: Engines,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Clone, Subcommand)]
enum Scenario {
    /// One author to 1,000 followers: CPU a delivery, by that of bare sockets.
    Fanout(fanout::Arguments),
    /// 400 posts a second from 64 publishers to 1,000 followers.
    Saturate(saturate::Arguments),
    /// 10,000 sessions that wait: memory and CPU of each.
    Idle(idle::Arguments),
    /// 15,000 clients that come back after `kill -9`.
    Reconnect(reconnect::Arguments),
    /// 1,000 durable posts a second from 200 authors.
    Publish(publish::Arguments),
    /// 80 % timelines, 15 % reads, 5 % posts at 1,000 calls a second.
    Rest(rest::Arguments),
    /// A page of a timeline out of 1,000,000 posts, warm and cold.
    Timeline(timeline::Arguments),
    /// Ten conversations of 100 to 1,000 streams: CPU an event, by that of bare sockets.
    Chat(chat::Arguments),
    /// 10,000 chat streams that wait, by as many sessions.
    IdleStreams(idle_streams::Arguments),
    /// A conversation of 1,000,000 messages: its history, and what does not grow with its age.
    History(history::Arguments),
    /// A crowd presses in one room: presses a second, by a route that does nothing, and what rooms weigh.
    Rooms(rooms::Arguments),
    /// A page of a timeline on CQL, cached and not, by a bare read of the same rows.
    Pages(pages::Arguments),
    /// One post into 10,000 timelines on CQL, by a bare loop of inserts.
    Spread(spread::Arguments),
    /// Three nodes by one: CPU a delivery, and frames from node to node for each post.
    Nodes(nodes::Arguments),
    /// A node of three is killed, or stopped: how long authors wait, and what is lost.
    Failover(failover::Arguments),
    /// A host and 200 viewers over three nodes, one of which is killed: what became of every press.
    Game(game::Arguments),
    /// Five nodes restarted one after the other under 10,000 deliveries a second.
    Rolling(rolling::Arguments),
    /// An author with 200,000 followers, 10,000 of them online on three nodes.
    Celebrity(celebrity::Arguments),
    /// The memory of a node whose neighbour is stopped for a minute at full load.
    Stalled(stalled::Arguments),
    /// All of them that need no engine, with their defaults, then one table in Markdown.
    All,
    /// The bare sockets that `fanout` and `chat` compare with; they start them themselves.
    #[command(hide = true)]
    FloorServer(floor::Arguments),
    /// The route that `rooms` compares with; it starts it itself.
    #[command(hide = true)]
    BareRoute,
}

/// The order in which `all` runs them.
const ALL: [&str; 11] = [
    "fanout",
    "saturate",
    "idle",
    "reconnect",
    "publish",
    "rest",
    "timeline",
    "chat",
    "idle-streams",
    "history",
    "rooms",
];

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let served = matches!(command_line.scenario, Scenario::FloorServer(_) | Scenario::BareRoute);
    // The floor has the threads that Roost has. The scenarios publish from one thread; who listens has
    // threads of its own.
    let mut builder = if served { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let outcome = builder
        .enable_all()
        .build()
        .map_err(io_error("the runtime"))
        .and_then(|runtime| runtime.block_on(dispatch(command_line)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roost-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command_line: CommandLine) -> Result<()> {
    if let Scenario::FloorServer(arguments) = &command_line.scenario {
        return floor::serve(arguments).await;
    }
    if matches!(command_line.scenario, Scenario::BareRoute) {
        return bare_route::serve().await;
    }
    let settings = settle(&command_line)?;
    if matches!(command_line.scenario, Scenario::All) {
        return all(&settings).await;
    }
    let command: Vec<String> = std::env::args().skip(1).collect();
    measure(&command_line.scenario, &settings, command.join(" ")).await?;
    Ok(())
}

async fn all(settings: &Settings) -> Result<()> {
    let mut rows = String::new();
    let mut commands = String::new();
    let mut failed = Vec::new();
    for name in ALL {
        let scenario = CommandLine::parse_from(["roost-bench", name]).scenario;
        match measure(&scenario, settings, name.to_owned()).await {
            Ok(report) => {
                rows.push_str(&report.markdown());
                commands.push_str(&format!("cargo run --release -p roost-bench -- {name}\n"));
            }
            // The others are worth having all the same; the table says that this one is not there.
            Err(error) => {
                eprintln!("{name}: {error}");
                failed.push(name);
                rows.push_str(&format!("| {name} | did not run | | |\n"));
            }
        }
    }
    println!("\n{}{rows}\n```\n{commands}```", markdown_head());
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!("did not run: {}", failed.join(", "))))
}

async fn measure(scenario: &Scenario, settings: &Settings, command: String) -> Result<Report> {
    let mut report = match scenario {
        Scenario::Fanout(arguments) => fanout::run(arguments, settings).await?,
        Scenario::Saturate(arguments) => saturate::run(arguments, settings).await?,
        Scenario::Idle(arguments) => idle::run(arguments, settings).await?,
        Scenario::Reconnect(arguments) => reconnect::run(arguments, settings).await?,
        Scenario::Publish(arguments) => publish::run(arguments, settings).await?,
        Scenario::Rest(arguments) => rest::run(arguments, settings).await?,
        Scenario::Timeline(arguments) => timeline::run(arguments, settings).await?,
        Scenario::Chat(arguments) => chat::run(arguments, settings).await?,
        Scenario::IdleStreams(arguments) => idle_streams::run(arguments, settings).await?,
        Scenario::History(arguments) => history::run(arguments, settings).await?,
        Scenario::Rooms(arguments) => rooms::run(arguments, settings).await?,
        Scenario::Pages(arguments) => pages::run(arguments, settings).await?,
        Scenario::Spread(arguments) => spread::run(arguments, settings).await?,
        Scenario::Nodes(arguments) => nodes::run(arguments, settings).await?,
        Scenario::Failover(arguments) => failover::run(arguments, settings).await?,
        Scenario::Game(arguments) => game::run(arguments, settings).await?,
        Scenario::Rolling(arguments) => rolling::run(arguments, settings).await?,
        Scenario::Celebrity(arguments) => celebrity::run(arguments, settings).await?,
        Scenario::Stalled(arguments) => stalled::run(arguments, settings).await?,
        Scenario::All | Scenario::FloorServer(_) | Scenario::BareRoute => unreachable!("dispatched before"),
    };
    report.command = format!("roost-bench {command}");
    report.note(format!("the server keeps everything in {}", settings.engines.name()));
    println!("{}", report.table());
    report.write(&settings.out)?;
    Ok(report)
}

fn settle(command_line: &CommandLine) -> Result<Settings> {
    process::raise_open_files()?;
    if command_line.apart {
        processors::set_apart()?;
    }
    std::fs::create_dir_all(&command_line.out)
        .map_err(io_error(format!("making {}", command_line.out.display())))?;
    let own = std::env::current_exe().map_err(io_error("our own executable"))?;
    Ok(Settings {
        server: command_line.server.clone().unwrap_or_else(|| own.with_file_name("roost")),
        out: command_line.out.clone(),
        ears: command_line.ears,
        engines: command_line.engines.clone(),
    })
}
