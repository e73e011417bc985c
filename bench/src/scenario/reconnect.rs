//! `reconnect`: everybody comes back at once after `kill -9`, each with its cursor.
//!
//! What a client missed is made certain: it throws away unread all that arrives before the kill, so
//! that its last cursor stands before those posts. More posts are made while the clients come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

use crate::audience::Audience;
use crate::board::{Board, now};
use crate::error::{Error, Result};
use crate::people::{Person, follow, register};
use crate::plot::{Axis, Line, Plot};
use crate::progress::{Progress, Stage};
use crate::publisher::{Lane, Published, publish};
use crate::scenario::{Settings, add_published};
use crate::server::Server;
use crate::stats::{Report, mebibytes, quantile};
use crate::upgrade::Door;

/// Without any delivery for this long, the rest is missing.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client that is still refused after this long ends the run.
const GIVE_UP: Duration = Duration::from_secs(120);

/// A client that is refused waits this long, then twice as long, up to the second value;
/// each times its own factor from 0.5 to 1.5.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Sockets that come back.
    #[arg(long, default_value_t = 15_000)]
    clients: usize,
    /// Users that hold them, 100 sockets each at most.
    #[arg(long, default_value_t = 150)]
    users: usize,
    /// Authors, whom every user follows.
    #[arg(long, default_value_t = 10)]
    authors: usize,
    /// Posts that every client misses.
    #[arg(long, default_value_t = 20)]
    missed: u32,
    /// Posts made while the clients come back, 20 a second.
    #[arg(long, default_value_t = 20)]
    later: u32,
    /// Clients come back within so many seconds of the kill, evenly spread.
    #[arg(long, default_value_t = 1.0)]
    jitter: f64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("reconnect");
    let mut report = Report::new("reconnect");
    let mut server = settings.start_server().await?;
    let address = server.address();
    let authors = register(address, "author", arguments.authors, &progress).await?;
    let users = register(address, "user", arguments.users, &progress).await?;
    follow(address, &users, &authors, &progress).await?;

    let heard = arguments.missed;
    let posts = heard + arguments.missed + arguments.later;
    let board = Arc::new(Board::new(posts as usize));
    let audience = seat(arguments, settings, &users, &server, &board, &progress).await?;
    let mut lanes: Vec<Lane> = authors.iter().map(|author| Lane::new(address, author)).collect();
    let clients = arguments.clients as u64;

    let stage = progress.spinner("posts that are heard, posts that are missed, kill -9");
    let published = publish(&mut lanes, &board, 20.0, heard).await;
    audience.settle(published.answered * clients, PATIENCE).await;
    audience.set_deaf(true);
    let missed = publish(&mut lanes, &board, 20.0, arguments.missed).await;
    let killed = Instant::now();
    let killed_at = now();
    server.kill()?;
    let ended = |tally: &crate::tally::Tally| tally.ended() >= clients;
    audience.wait_for("the end of every connection", PATIENCE, ended).await?;
    drop(stage);
    audience.set_deaf(false);
    audience.forget();
    audience.watch(missed.numbers.clone());

    let stage = progress.bar("coming back", clients);
    let comers = (0..arguments.clients).map(|index| {
        let spread = arguments.jitter * index as f64 / arguments.clients as f64;
        come_back(&audience, index, address, killed + Duration::from_secs_f64(spread), &stage)
    });
    let (refusals, restarted) =
        tokio::join!(join_all(comers), restart(&mut server, &mut lanes, &board, arguments.later));
    drop(stage);
    let (ready_after, later) = restarted?;
    let refusals: u64 = refusals.into_iter().collect::<Result<Vec<u64>>>()?.into_iter().sum();
    let stage = progress.spinner("catching up");
    audience.settle((missed.answered + later.answered) * clients, PATIENCE).await;
    drop(stage);

    let mut seconds: Vec<f64> = audience
        .standings()
        .iter()
        .filter_map(|standing| standing.whole_at)
        .map(|at| at.saturating_sub(killed_at) as f64 / 1e9)
        .collect();
    seconds.sort_by(f64::total_cmp);
    // Those that never caught up count as infinitely late.
    let mut all = seconds.clone();
    all.resize(arguments.clients, f64::INFINITY);
    audience.watch(missed.numbers.start..later.numbers.end);
    let without = audience.standings().iter().filter(|standing| standing.missing > 0).count();
    let tally = audience.tally();

    add_published(&mut report, "missed posts", &missed);
    add_published(&mut report, "later posts", &later);
    report.bar("clients without a missed or later post", without as f64, "", 0.0);
    report.bar("clients told to resync", tally.resyncs as f64, "", 0.0);
    report.figure("kill to ready again", (ready_after - killed).as_secs_f64(), "s");
    for (name, share) in [("50 %", 0.5), ("95 %", 0.95), ("100 %", 1.0)] {
        report.figure(format!("kill to {name} caught up"), quantile(&all, share), "s");
    }
    report.figure("connections refused before they succeeded", refusals as f64, "");
    report.figure("posts sent more than once (allowed on resume)", tally.repeated as f64, "deliveries");
    report.bar("connections ended after they came back", tally.ended() as f64, "", 0.0);
    for (end, count) in &tally.ends {
        report.note(format!("{count} connections ended: {end}"));
    }
    report.figure("memory at its peak (resident)", mebibytes(server.usage()?.peak), "MiB");
    report.note(format!(
        "{} users hold the clients and follow {} authors each; clients come back within {} s of the kill \
         and try again after 0.1 s, then twice as long, up to 1 s",
        arguments.users, arguments.authors, arguments.jitter
    ));
    report.plot = Plot::new("reconnect", Axis::linear("seconds since the kill"), Axis::linear("clients"));
    report.plot.lines.push(Line { name: "caught up".to_owned(), points: growth(&seconds) });
    Ok(report)
}

/// Starts the server again and posts while the clients come back.
async fn restart(
    server: &mut Server,
    lanes: &mut [Lane],
    board: &Board,
    posts: u32,
) -> Result<(Instant, Published)> {
    server.start_again().await?;
    let ready = Instant::now();
    Ok((ready, publish(lanes, board, 20.0, posts).await))
}

/// Connects one client from this instant on until it succeeds; gives how often it was refused.
async fn come_back(
    audience: &Audience,
    index: usize,
    server: SocketAddr,
    from: Instant,
    stage: &Stage,
) -> Result<u64> {
    let mut refusals = 0;
    let mut pause = BACKOFF.0;
    sleep_until(from).await;
    loop {
        match audience.connect(index, server).await {
            Ok(()) => {
                stage.inc(1);
                return Ok(refusals);
            }
            Err(error) if from.elapsed() > GIVE_UP => return Err(error),
            Err(_) => refusals += 1,
        }
        // A different pause for each client, or all would come at the same instants again.
        let own = 0.5 + (index % 64) as f64 / 64.0;
        sleep(pause.mul_f64(own)).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// How many were caught up by when, in some two hundred points.
fn growth(seconds: &[f64]) -> Vec<(f64, f64)> {
    let step = seconds.len().div_ceil(200).max(1);
    let mut points = vec![(0.0, 0.0)];
    points.extend(
        seconds
            .iter()
            .enumerate()
            .filter(|(index, _)| (index + 1) % step == 0 || index + 1 == seconds.len())
            .map(|(index, second)| (*second, (index + 1) as f64)),
    );
    points
}

async fn seat(
    arguments: &Arguments,
    settings: &Settings,
    users: &[Person],
    server: &Server,
    board: &Arc<Board>,
    progress: &Progress,
) -> Result<Audience> {
    if arguments.clients.div_ceil(users.len().max(1)) > 100 {
        return Err(Error::Refused("a user may hold 100 connections: more users".to_owned()));
    }
    let mut audience = Audience::new(settings.ears, Arc::clone(board), true)?;
    for user in users.iter().cycle().take(arguments.clients) {
        audience.add(Door::WebSocket { token: user.token.clone() });
    }
    audience.connect_range(0..arguments.clients, server.address(), progress).await?;
    let connected = |tally: &crate::tally::Tally| tally.connected == arguments.clients as u64;
    audience.wait_for("every connected frame", Duration::from_secs(60), connected).await?;
    Ok(audience)
}
