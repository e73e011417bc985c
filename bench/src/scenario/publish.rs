//! `publish`: many authors' durable posts, each to followers that are all online.

use std::sync::Arc;
use std::time::Duration;

use crate::audience::Audience;
use crate::board::Board;
use crate::error::Result;
use crate::people::{follow, register};
use crate::progress::Progress;
use crate::publisher::{Lane, publish};
use crate::scenario::online::{AFTERWORK, PATIENCE};
use crate::scenario::{Settings, add_faults, add_from_answer, add_published};
use crate::stats::{Report, latencies, mebibytes, micros_each};
use crate::upgrade::Door;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Authors, who post in turn, each over a connection of its own.
    #[arg(long, default_value_t = 200)]
    authors: usize,
    /// Followers of each author: users who follow them all, with one socket each.
    #[arg(long, default_value_t = 100)]
    followers: usize,
    /// Posts a second, by all authors.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("publish");
    let mut report = Report::new("publish");
    let mut server = settings.start_server().await?;
    let address = server.address();
    let authors = register(address, "author", arguments.authors, &progress).await?;
    let followers = register(address, "follower", arguments.followers, &progress).await?;
    follow(address, &followers, &authors, &progress).await?;
    server.stop().await?;
    server.start_again().await?;

    let posts = (arguments.rate * arguments.seconds).round() as u32;
    let warm_up = arguments.authors as u32;
    let board = Arc::new(Board::new((posts + warm_up) as usize));
    let mut audience = Audience::new(settings.ears, Arc::clone(&board), false)?;
    for follower in &followers {
        audience.add(Door::WebSocket { token: follower.token.clone() });
    }
    audience.connect_range(0..followers.len(), address, &progress).await?;
    let connected = |tally: &crate::tally::Tally| tally.connected == followers.len() as u64;
    audience.wait_for("every connected frame", PATIENCE, connected).await?;

    let _stage = progress.spinner(&format!("{}/s for {} s", arguments.rate, arguments.seconds));
    let mut lanes: Vec<Lane> = authors.iter().map(|author| Lane::new(address, author)).collect();
    // Each author's first post connects its lane and starts its actor.
    let first = publish(&mut lanes, &board, arguments.rate / 4.0, warm_up).await;
    let listeners = followers.len() as u64;
    audience.settle(first.answered * listeners, PATIENCE).await;
    audience.forget();
    let before = server.usage()?;
    let published = publish(&mut lanes, &board, arguments.rate, posts).await;
    audience.settle(published.answered * listeners, PATIENCE).await;
    tokio::time::sleep(AFTERWORK).await;
    let after = server.usage()?;
    let tally = audience.tally();

    let mut to_last = latencies();
    for nanoseconds in board.last_after_answer(published.numbers.clone()) {
        to_last.saturating_record(nanoseconds / 1_000);
    }
    let cpu = after.cpu.saturating_sub(before.cpu);
    let intended = Duration::from_secs_f64(arguments.seconds);
    add_published(&mut report, "posts", &published);
    let lost = board.lost(published.numbers.clone(), listeners as u32);
    report.bar("lost", lost as f64, "deliveries", 0.0);
    add_faults(&mut report, "deliveries", &tally);
    add_from_answer(&mut report, "201 to the last follower", &to_last, Some(100.0));
    add_from_answer(&mut report, "201 to receipt", &tally.from_answer, None);
    report.latency("due to 201", &published.to_answer, None);
    report.figure(
        "publishing took longer than intended by",
        published.elapsed.saturating_sub(intended).as_secs_f64(),
        "s",
    );
    report.figure("CPU a post", micros_each(cpu, published.answered as f64), "µs");
    report.figure("CPU a delivery", micros_each(cpu, tally.delivered as f64), "µs");
    report.figure("server's processors in use", cpu.as_secs_f64() / published.elapsed.as_secs_f64(), "");
    report.figure("memory after (anonymous)", mebibytes(after.anonymous), "MiB");
    report.note(format!(
        "{} users with one socket each follow all {} authors",
        arguments.followers, arguments.authors
    ));
    Ok(report)
}
