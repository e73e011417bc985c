//! `failover`: how long an author's posts wait when the node that is its home is killed or stopped, and whether
//! anybody at the others misses one. Authors post on through the other nodes, each post under a key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::error::Result;
use crate::poster::{Posted, post_on};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::scenario::scene::{Cast, Scene};
use crate::stats::{Report, median};

/// For so long is waited until everybody has everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
}

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Authors, of whom each node is home to about as many.
    #[arg(long, default_value_t = 48)]
    authors: usize,
    /// Posts a second, by all of them.
    #[arg(long, default_value_t = 96.0)]
    rate: f64,
    /// Sockets that listen.
    #[arg(long, default_value_t = 90)]
    sockets: usize,
    /// Users that hold them.
    #[arg(long, default_value_t = 9)]
    users: usize,
    /// Rounds, each of a `kill -9` and a SIGSTOP.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for which a node is stopped.
    #[arg(long, default_value_t = 25)]
    stopped: u64,
}

/// What was seen of one fault.
#[derive(Debug, Default)]
struct Seen {
    served: Vec<f64>,
    back: Vec<f64>,
    posts: u64,
    unanswered: u64,
    refused: u64,
    lost: u64,
    lost_in_all: u64,
    away: u64,
    gathered: Vec<f64>,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("failover");
    let mut report = Report::new("failover");
    let each = 90.0_f64.max(arguments.stopped as f64 * 3.0);
    let cast = Cast {
        nodes: arguments.nodes,
        authors: arguments.authors,
        users: arguments.users,
        sockets: arguments.sockets,
        posts: (arguments.rate * each) as usize * 2 * arguments.rounds,
        ..Cast::default()
    };
    let mut scene = Scene::set(settings, &cast, &progress).await?;
    scene.bring_back();
    let mut killed = Seen::default();
    let mut stopped = Seen::default();
    for round in 0..arguments.rounds {
        for (fault, seen) in [(Fault::Kill, &mut killed), (Fault::Stop, &mut stopped)] {
            let _stage = progress.spinner(&format!("round {}: {fault:?}", round + 1));
            let victim = round % arguments.nodes;
            seen.fault(&mut scene, arguments, victim, fault, &mut report).await?;
        }
    }
    for (name, seen, bar) in [("killed", &killed, 8.0), ("stopped", &stopped, 12.0)] {
        let longest = seen.served.iter().copied().fold(0.0, f64::max);
        report.bar(format!("{name}: until every author's posts were answered, longest"), longest, "s", bar);
        report.figure(format!("{name}: the same, median of the rounds"), median(&seen.served), "s");
        report.figure(format!("{name}: until it was ready again, median"), median(&seen.back), "s");
        report.figure(format!("{name}: posts"), seen.posts as f64, "posts");
        report.bar(format!("{name}: never answered 201"), seen.unanswered as f64, "posts", 0.0);
        report.figure(format!("{name}: tries that were not answered 201"), seen.refused as f64, "tries");
        report.bar(
            format!("{name}: lost at sockets of the other nodes"),
            seen.lost as f64,
            "deliveries",
            0.0,
        );
        report.bar(format!("{name}: sockets that did not come back"), seen.away as f64, "", 0.0);
        let gathered = seen.gathered.iter().copied().fold(0.0, f64::max);
        report.figure(format!("{name}: from the last post until all have all, longest"), gathered, "s");
        report.bar(format!("{name}: lost at all"), seen.lost_in_all as f64, "deliveries", 0.0);
    }
    let tally = scene.audience.tally();
    report.figure("told to resync", tally.resyncs as f64, "frames");
    for (end, count) in &tally.ends {
        report.note(format!("{count} connections ended: {end}"));
    }
    report.note(format!(
        "{} authors, {} posts/s, {} sockets on {} nodes; posts go through the nodes that live",
        arguments.authors, arguments.rate, arguments.sockets, arguments.nodes
    ));
    scene.cluster.end().await?;
    Ok(report)
}

impl Seen {
    async fn fault(
        &mut self,
        scene: &mut Scene,
        arguments: &Arguments,
        victim: usize,
        fault: Fault,
        report: &mut Report,
    ) -> Result<()> {
        scene.doors.set(victim, false);
        let ended = AtomicBool::new(false);
        let start = Instant::now() + Duration::from_millis(20);
        let first = scene.board.peek_number();
        let period = Duration::from_secs_f64(arguments.authors as f64 / arguments.rate);
        let Scene { cluster, authors, board, doors, .. } = &mut *scene;
        let posters = authors.iter().enumerate().map(|(index, author)| {
            let from = start + period.mul_f64(index as f64 / arguments.authors as f64);
            post_on(author, doors, board, from, period, &ended)
        });
        let breaking = async {
            sleep(Duration::from_secs(5)).await;
            let at = Instant::now();
            match fault {
                Fault::Kill => {
                    cluster.kill(victim)?;
                    sleep(Duration::from_secs(15)).await;
                    cluster.start_again(victim).await?;
                }
                Fault::Stop => {
                    cluster.pause(victim)?;
                    sleep(Duration::from_secs(arguments.stopped)).await;
                    cluster.resume(victim)?;
                    // It finds out by itself that it was away.
                    sleep(Duration::from_secs(1)).await;
                    cluster.ready(victim).await?;
                }
            }
            self.back.push(at.elapsed().as_secs_f64());
            sleep(Duration::from_secs(3)).await;
            ended.store(true, Ordering::Relaxed);
            Ok::<_, crate::error::Error>(at)
        };
        let (at, posted): (_, Vec<Posted>) = tokio::join!(breaking, join_all(posters));
        let at = at?;
        scene.doors.set(victim, true);
        self.add_posts(&posted, at);
        let numbers = first..scene.board.peek_number();
        let gathered = scene.gather(numbers.clone(), PATIENCE).await;
        self.gathered.push(gathered.as_secs_f64());
        self.away += scene.away() as u64;
        for node in (0..arguments.nodes).filter(|node| *node != victim) {
            self.lost += scene.missing(numbers.clone(), scene.seats(node));
        }
        self.lost_in_all += scene.missing(numbers, 0..scene.audience.len());
        let refusal = posted.iter().find_map(|posted| posted.last_refusal.as_deref());
        if let Some(refusal) = refusal {
            report.note(format!("{fault:?} of node {victim}: a try was answered {refusal}"));
        }
        Ok(())
    }

    /// The longest that an author waited from the fault until a post was answered that was under way then or sent later.
    fn add_posts(&mut self, posted: &[Posted], at: Instant) {
        let mut longest = Duration::ZERO;
        for author in posted {
            self.posts += author.sent.len() as u64;
            self.refused += author.refused;
            self.unanswered += author.sent.iter().filter(|sent| sent.answered.is_none()).count() as u64;
            let later = author.sent.iter().filter(|sent| sent.at >= at);
            let served = later.filter_map(|sent| sent.answered).min();
            longest = longest.max(served.map_or(Duration::from_secs(3_600), |served| served - at));
        }
        self.served.push(longest.as_secs_f64());
    }
}
