//! `stalled`: what a node keeps in memory for another that is stopped while authors post as fast as they are answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::plot::{Axis, Line, Plot};
use crate::poster::{Posted, post_on};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::scenario::scene::{Cast, Scene};
use crate::stats::{Report, mebibytes};

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);

/// For so long is waited until everybody has everything, or was told that it cannot be replayed.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Authors, each of whom posts again once it was answered.
    #[arg(long, default_value_t = 64)]
    authors: usize,
    /// Sockets that listen, half of them at the node that is stopped.
    #[arg(long, default_value_t = 20)]
    sockets: usize,
    /// Users that hold them.
    #[arg(long, default_value_t = 2)]
    users: usize,
    /// Seconds of full load before.
    #[arg(long, default_value_t = 40)]
    before: u64,
    /// Seconds for which the other node is stopped.
    #[arg(long, default_value_t = 60)]
    stopped: u64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("stalled");
    let mut report = Report::new("stalled");
    let cast = Cast {
        nodes: 2,
        authors: arguments.authors,
        users: arguments.users,
        sockets: arguments.sockets,
        posts: 3_000 * (arguments.before + arguments.stopped + 60) as usize,
        ..Cast::default()
    };
    let mut scene = Scene::set(settings, &cast, &progress).await?;
    scene.bring_back();
    scene.doors.set(1, false);
    let ended = AtomicBool::new(false);
    let start = Instant::now();
    let Scene { cluster, authors, board, doors, .. } = &mut scene;
    let period = Duration::from_millis(1);
    let posters = authors.iter().map(|author| post_on(author, doors, board, start, period, &ended));
    let mut points = Vec::new();
    let stopping = async {
        let _stage = progress.spinner("full load, then the other node is stopped");
        let before = watch(cluster, start, arguments.before, &mut points).await?;
        cluster.pause(1)?;
        let stopped = Instant::now();
        let during = watch(cluster, start, arguments.stopped, &mut points).await?;
        cluster.resume(1)?;
        let after = watch(cluster, start, 15, &mut points).await?;
        cluster.ready(1).await?;
        ended.store(true, Ordering::Relaxed);
        Ok::<_, Error>((before, during, after, stopped))
    };
    let (seen, posted): (_, Vec<Posted>) = tokio::join!(stopping, join_all(posters));
    let (before, during, after, stopped) = seen?;
    let numbers = 0..scene.board.peek_number();
    let gathered = scene.gather(numbers.clone(), PATIENCE).await;

    let sent: Vec<_> = posted.iter().flat_map(|posted| &posted.sent).collect();
    let until = stopped + Duration::from_secs(arguments.stopped);
    let meanwhile =
        sent.iter().filter_map(|sent| sent.answered).filter(|at| (stopped..until).contains(at)).count();
    let unanswered = sent.iter().filter(|sent| sent.answered.is_none()).count();
    let more = mebibytes(during.saturating_sub(before));
    report.bar("memory of the sender, most while stopped less most before", more, "MiB", 16.0);
    report.figure("most before (anonymous)", mebibytes(before), "MiB");
    report.figure("most while the other is stopped", mebibytes(during), "MiB");
    report.figure("most in the 15 s after", mebibytes(after), "MiB");
    report.figure("posts before", rate(&sent, start, stopped), "posts/s");
    report.figure("posts answered while stopped", meanwhile as f64 / arguments.stopped as f64, "posts/s");
    report.bar("never answered 201", unanswered as f64, "posts", 0.0);
    let first = scene.seats(0);
    report.bar(
        "lost at the sender's sockets",
        scene.missing(numbers.clone(), first) as f64,
        "deliveries",
        0.0,
    );
    let all = 0..scene.audience.len();
    report.bar("sockets that did not come back", scene.away() as f64, "", 0.0);
    report.figure("from the last post until all have all or resync", gathered.as_secs_f64(), "s");
    report.bar("lost at all", scene.missing(numbers, all) as f64, "deliveries", 0.0);
    let tally = scene.audience.tally();
    report.figure("told to resync", tally.resyncs as f64, "frames");
    for (end, count) in &tally.ends {
        report.note(format!("{count} connections ended: {end}"));
    }
    if let Some(refusal) = posted.iter().find_map(|posted| posted.last_refusal.as_deref()) {
        report.note(format!("a try was answered {refusal}"));
    }
    report.plot = Plot::new("stalled", Axis::linear("seconds"), Axis::linear("MiB"));
    report.plot.lines.push(Line { name: "the sender's memory".to_owned(), points });
    scene.cluster.end().await?;
    Ok(report)
}

fn rate(sent: &[&crate::poster::Sent], from: Instant, to: Instant) -> f64 {
    let answered = sent.iter().filter_map(|sent| sent.answered).filter(|at| (from..to).contains(at)).count();
    answered as f64 / (to - from).as_secs_f64()
}

/// The most memory that the first node had in so many seconds.
async fn watch(
    cluster: &crate::cluster::Cluster,
    start: Instant,
    seconds: u64,
    points: &mut Vec<(f64, f64)>,
) -> Result<u64> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut most = 0;
    while Instant::now() < until {
        let now = cluster.anonymous(0)?;
        most = most.max(now);
        points.push((start.elapsed().as_secs_f64(), mebibytes(now)));
        sleep(LOOK).await;
    }
    Ok(most)
}
