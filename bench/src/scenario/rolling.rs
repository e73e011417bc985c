//! `rolling`: every node of a cluster is stopped in order and started again, one after the other, under 10,000
//! deliveries a second. Clients come back as the protocol says; nothing may be missing, and who is connected waits
//! for nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::poster::{Posted, post_on};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::scenario::scene::{Cast, Scene};
use crate::stats::Report;

/// For so long is waited until everybody has everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Nodes.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Sockets that listen, each to all authors.
    #[arg(long, default_value_t = 1_000)]
    sockets: usize,
    /// Users that hold them.
    #[arg(long, default_value_t = 20)]
    users: usize,
    /// Authors.
    #[arg(long, default_value_t = 20)]
    authors: usize,
    /// Posts a second, by all of them.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Seconds over which a node sends its clients away.
    #[arg(long, default_value_t = 5)]
    drain: u32,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("rolling");
    let mut report = Report::new("rolling");
    let cast = Cast {
        nodes: arguments.nodes,
        environment: vec![("ROOST_DRAIN_SECONDS", arguments.drain.to_string())],
        authors: arguments.authors,
        users: arguments.users,
        sockets: arguments.sockets,
        posts: (arguments.rate * 600.0) as usize,
        ..Cast::default()
    };
    let mut scene = Scene::set(settings, &cast, &progress).await?;
    scene.bring_back();
    scene.audience.forget();
    let ended = AtomicBool::new(false);
    let start = Instant::now() + Duration::from_millis(20);
    let period = Duration::from_secs_f64(arguments.authors as f64 / arguments.rate);
    let Scene { cluster, authors, board, doors, .. } = &mut scene;
    let posters = authors.iter().enumerate().map(|(index, author)| {
        let from = start + period.mul_f64(index as f64 / arguments.authors as f64);
        post_on(author, doors, board, from, period, &ended)
    });
    let rolling = async {
        let bar = progress.bar("rolling restart", arguments.nodes as u64);
        let mut took = Vec::new();
        sleep(Duration::from_secs(3)).await;
        for node in 0..arguments.nodes {
            let began = Instant::now();
            cluster.stop(node).await?;
            let down = began.elapsed();
            cluster.start_again(node).await?;
            took.push((down.as_secs_f64(), began.elapsed().as_secs_f64()));
            bar.inc(1);
        }
        sleep(Duration::from_secs(3)).await;
        ended.store(true, Ordering::Relaxed);
        Ok::<_, Error>(took)
    };
    let (took, posted): (_, Vec<Posted>) = tokio::join!(rolling, join_all(posters));
    let took = took?;
    let seconds = start.elapsed().as_secs_f64();
    let numbers = 0..scene.board.peek_number();
    let gathered = scene.gather(numbers.clone(), PATIENCE).await;

    let tally = scene.audience.tally();
    let sent: Vec<_> = posted.iter().flat_map(|posted| &posted.sent).collect();
    let unanswered = sent.iter().filter(|sent| sent.answered.is_none()).count();
    let refused: u64 = posted.iter().map(|posted| posted.refused).sum();
    let slowest = sent.iter().filter_map(|sent| sent.answered.map(|answered| answered - sent.at)).max();
    report.figure("posts", sent.len() as f64, "posts");
    report.bar("never answered 201", unanswered as f64, "posts", 0.0);
    report.figure("tries that were not answered 201", refused as f64, "tries");
    report.figure("slowest 201", slowest.unwrap_or_default().as_secs_f64(), "s");
    report.figure("deliveries", tally.delivered as f64, "deliveries");
    report.figure("deliveries a second", tally.delivered as f64 / seconds, "/s");
    report.bar("lost", scene.missing(numbers, 0..arguments.sockets) as f64, "deliveries", 0.0);
    report.bar("sockets that did not come back", scene.away() as f64, "", 0.0);
    report.figure("from the last post until all have all", gathered.as_secs_f64(), "s");
    report.latency("201 to receipt, who is connected", &tally.from_answer, Some(1_000.0));
    report.figure("replayed on resumes", tally.replayed as f64, "deliveries");
    report.figure("shown again on resumes", tally.repeated as f64, "deliveries");
    report.figure("told to resync", tally.resyncs as f64, "frames");
    for (end, count) in &tally.ends {
        report.note(format!("{count} connections ended: {end}"));
    }
    for (node, (down, up)) in took.iter().enumerate() {
        report.note(format!("node {node}: ended after {down:.1} s, ready again after {up:.1} s"));
    }
    if let Some(refusal) = posted.iter().find_map(|posted| posted.last_refusal.as_deref()) {
        report.note(format!("a try was answered {refusal}"));
    }
    report.note(format!(
        "{} sockets of {} users, {} authors, {} posts/s; nodes drain for {} s; a refused client tries another node",
        arguments.sockets, arguments.users, arguments.authors, arguments.rate, arguments.drain
    ));
    scene.cluster.end().await?;
    Ok(report)
}
