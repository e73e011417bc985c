//! `nodes`: what a delivery costs on three nodes, by one node's on the same engines, in turn; and how many frames go
//! from node to node for a post: as many as other nodes have somebody who follows, and none where nobody does.

use std::sync::Arc;

use crate::board::Board;
use crate::error::{Error, Result};
use crate::people::{Person, follow, register};
use crate::progress::Progress;
use crate::publisher::{Lane, publish};
use crate::scenario::scene::{Cast, Round, Scene};
use crate::scenario::{Settings, add_faults, add_from_answer};
use crate::stats::{Report, median, micros_each};
use crate::tally::Tally;
use crate::upgrade::Door;

/// Posts before a measured round, which wake what sleeps and fill what is cached.
const WARM_UP: u32 = 20;
/// Posts of an author of whom frames are counted, and how many such authors there are.
const COUNTED: u32 = 10;
const FOLLOWED_AT_ONE: usize = 12;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Sockets that listen, in both.
    #[arg(long, default_value_t = 3_000)]
    followers: usize,
    /// Users that hold those sockets.
    #[arg(long, default_value_t = 60)]
    users: usize,
    /// Nodes, each with as many of the sockets.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Posts a second, one rate after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [20.0, 100.0])]
    rates: Vec<f64>,
    /// Seconds of a round.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Rounds of each rate, by one node and several in turn.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Connections that post as the author.
    #[arg(long, default_value_t = 4)]
    publishers: usize,
}

/// What one side did in all rounds of a rate.
#[derive(Debug, Default)]
struct Side {
    micros: Vec<f64>,
    lost: u64,
    posts: u64,
    frames: u64,
    tally: Tally,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("nodes");
    let mut report = Report::new("nodes");
    let planned: f64 = arguments.rates.iter().map(|rate| rate * arguments.seconds + 1.0).sum();
    let warm_up = arguments.rates.len() * WARM_UP as usize;
    let cast = Cast {
        part: "_one",
        nodes: 1,
        authors: 1,
        users: arguments.users,
        sockets: arguments.followers,
        posts: (arguments.rounds as usize) * (planned.ceil() as usize + warm_up),
        ..Cast::default()
    };
    let one = Scene::set(settings, &cast, &progress).await?;
    // Its Redis is emptied before it starts, of which the first knows nothing that it needs.
    let cast = Cast { part: "_several", nodes: arguments.nodes, ..cast };
    let several = Scene::set(settings, &cast, &progress).await?;

    for rate in &arguments.rates {
        let mut by_one = Side::default();
        let mut by_several = Side::default();
        for round in 0..arguments.rounds {
            let _stage = progress.spinner(&format!("{rate}/s, round {} of {}", round + 1, arguments.rounds));
            by_one.round(&one, arguments, *rate, round).await?;
            by_several.round(&several, arguments, *rate, round).await?;
        }
        let at = format!("{rate}/s");
        let ratios: Vec<f64> =
            by_several.micros.iter().zip(&by_one.micros).map(|(several, one)| several / one).collect();
        report.bar(format!("{at}, CPU a delivery, several by one"), median(&ratios), "×", 1.15);
        report.figure(format!("{at}, one node, CPU a delivery"), median(&by_one.micros), "µs");
        report.figure(format!("{at}, several, CPU a delivery"), median(&by_several.micros), "µs");
        report.bar(format!("{at}, lost"), (by_one.lost + by_several.lost) as f64, "deliveries", 0.0);
        add_faults(&mut report, &format!("{at}, one node"), &by_one.tally);
        add_faults(&mut report, &format!("{at}, several"), &by_several.tally);
        let frames = by_several.frames as f64 / by_several.posts as f64;
        report.exactly(format!("{at}, frames a post"), frames, "frames", (arguments.nodes - 1) as f64);
        add_from_answer(&mut report, &format!("{at}, one, 201 to receipt"), &by_one.tally.from_answer, None);
        let from_answer = &by_several.tally.from_answer;
        add_from_answer(&mut report, &format!("{at}, several, 201 to receipt"), from_answer, None);
        report.note(format!("{at}: ratios of the rounds {}", rounds_of(&ratios)));
        report.note(format!("{at}: one {} µs", rounds_of(&by_one.micros)));
        report.note(format!("{at}: several {} µs", rounds_of(&by_several.micros)));
    }
    one.cluster.end().await?;
    count_frames(settings, several, &progress, &mut report).await?;
    report.note(format!(
        "{} sockets of {} users; the author's posts go to each node in turn, round by round; CPU is that of all nodes",
        arguments.followers, arguments.users
    ));
    Ok(report)
}

fn rounds_of(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(", ")
}

impl Side {
    async fn round(&mut self, scene: &Scene, arguments: &Arguments, rate: f64, round: u32) -> Result<()> {
        let node = round as usize;
        scene.perform(node, arguments.publishers, 20.0, WARM_UP).await?;
        let posts = (rate * arguments.seconds).round() as u32;
        let Round { published, tally, lost, cpu, frames } =
            scene.perform(node, arguments.publishers, rate, posts).await?;
        if let Some(refusal) = published.first_refusal {
            return Err(Error::Refused(format!("a post was refused: {refusal}")));
        }
        self.micros.push(micros_each(cpu, tally.delivered as f64));
        self.lost += lost;
        self.posts += published.answered;
        self.frames += frames;
        self.tally.add(&tally);
        Ok(())
    }
}

/// Counts the frames for authors whom nobody online follows, and for some whom one socket at the first node hears.
async fn count_frames(
    settings: &Settings,
    mut scene: Scene,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    let first = scene.cluster.addresses()[0];
    let lonely = register(first, "lonely", FOLLOWED_AT_ONE, progress).await?;
    let before = scene.cluster.frames().await?;
    post_each(&scene, &lonely).await;
    let frames = (scene.cluster.frames().await? - before) as f64;
    let posts = (lonely.len() as u32 * COUNTED) as f64;
    report.exactly("frames a post, nobody online follows", frames / posts, "frames", 0.0);

    let heard = register(first, "heard", FOLLOWED_AT_ONE, progress).await?;
    let fan = register(first, "fan", 1, progress).await?;
    follow(first, &fan, &heard, progress).await?;
    scene.audience.forget();
    let Some(audience) = Arc::get_mut(&mut scene.audience) else {
        unreachable!("nobody is brought back here")
    };
    audience.add(Door::WebSocket { token: fan[0].token.clone() });
    scene.audience.connect(scene.audience.len() - 1, first).await?;
    let patience = std::time::Duration::from_secs(10);
    scene.audience.wait_for("the fan's connected frame", patience, |tally| tally.connected == 1).await?;
    let mut elsewhere = 0;
    for author in &heard {
        elsewhere += u32::from(scene.cluster.home_of(&settings.server, "author", &author.id)? != "node-0");
    }
    let before = scene.cluster.frames().await?;
    post_each(&scene, &heard).await;
    let frames = (scene.cluster.frames().await? - before) as f64;
    let name = "frames a post, one socket at another node than the home";
    report.exactly(name, frames / f64::from(elsewhere * COUNTED), "frames", 1.0);
    report.note(format!(
        "{elsewhere} of {FOLLOWED_AT_ONE} authors with one socket had their home at another node than it"
    ));
    scene.cluster.end().await
}

async fn post_each(scene: &Scene, authors: &[Person]) {
    let posts = authors.len() as u32 * COUNTED;
    let board = Arc::new(Board::new(posts as usize));
    let addresses = scene.cluster.addresses();
    let lanes = authors.iter().zip(addresses.iter().cycle());
    let mut lanes: Vec<Lane> = lanes.map(|(author, address)| Lane::new(*address, author)).collect();
    publish(&mut lanes, &board, 40.0, posts).await;
    tokio::time::sleep(crate::scenario::online::AFTERWORK).await;
}
