//! `celebrity`: the first and the last delivery of a post by an author with 200,000 followers in the store, of whom
//! 10,000 are online on three nodes: neither waits until the post is in everybody's timeline.

use std::time::Duration;

use crate::engines::Bare;
use crate::error::Result;
use crate::progress::Progress;
use crate::scenario::scene::{Cast, Scene};
use crate::scenario::{Settings, add_faults, add_published};
use crate::stats::{Report, latencies};

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Followers in the store, those who are online besides.
    #[arg(long, default_value_t = 200_000)]
    followers: u32,
    /// Sockets that listen.
    #[arg(long, default_value_t = 10_000)]
    online: usize,
    /// Users that hold them.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Posts.
    #[arg(long, default_value_t = 20)]
    posts: u32,
    /// Posts a second.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Followers beyond which posts are not written into timelines; 0 for never.
    #[arg(long, default_value_t = 10_000)]
    wide: u64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("celebrity");
    let mut report = Report::new("celebrity");
    let cast = Cast {
        nodes: arguments.nodes,
        environment: vec![("ROOST_WIDE_AUTHOR_FOLLOWERS", arguments.wide.to_string())],
        authors: 1,
        users: arguments.users,
        sockets: arguments.online,
        posts: arguments.posts as usize + 5,
        ..Cast::default()
    };
    let scene = Scene::set(settings, &cast, &progress).await?;
    let bare = Bare::connect(&settings.engines).await?;
    let bar = progress.bar("followers straight into the store", u64::from(arguments.followers));
    bare.add_crowd(scene.authors[0].uuid()?, arguments.followers, |written| bar.inc(written)).await?;
    drop(bar);
    // What the store's engine has still to do is not the server's.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let _stage = progress.spinner("posting");
    let round = scene.perform(1, 1, arguments.rate, arguments.posts).await?;
    let (mut first, mut last) = (latencies(), latencies());
    for nanos in scene.board.first_after_answer(round.published.numbers.clone()) {
        first.saturating_record(nanos / 1_000);
    }
    for nanos in scene.board.last_after_answer(round.published.numbers.clone()) {
        last.saturating_record(nanos / 1_000);
    }
    add_published(&mut report, "posts", &round.published);
    report.latency("request to 201", &round.published.to_answer, None);
    report.latency("201 to the first receipt", &first, None);
    report.latency("201 to the last receipt", &last, None);
    report.figure("deliveries", round.tally.delivered as f64, "deliveries");
    report.bar("lost", round.lost as f64, "deliveries", 0.0);
    add_faults(&mut report, "deliveries", &round.tally);
    report.figure("frames a post", round.frames as f64 / round.published.answered.max(1) as f64, "frames");
    report.note("a receipt counts as 0 where it came before the 201");
    report.note(format!(
        "{} followers in the store besides {} users with {} sockets; timelines are not written beyond {} followers",
        arguments.followers, arguments.users, arguments.online, arguments.wide
    ));
    scene.cluster.end().await?;
    Ok(report)
}
