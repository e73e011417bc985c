//! `game`: a host and 200 viewers over three nodes, one of which, the room's home, is killed in the middle and comes back. Every
//! press that was answered must be in an effect that the host has, or in the count that is left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::client::Caller;
use crate::cluster::{Cluster, Plan};
use crate::crowd::{Host, Press, make_room};
use crate::error::{Error, Result};
use crate::people::{Person, register};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::stats::Report;

/// How long a viewer waits for an answer before it asks another node.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of a press, or of a host.
const PAUSE: Duration = Duration::from_millis(100);
/// What is under way at the end arrives within so long.
const END: Duration = Duration::from_secs(30);
/// What is pressed, and its base; over 50 viewers make it three times as much.
const JUMP: (&str, u32) = ("jump", 7);

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Viewers, each at whichever node answers.
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Presses a second of each viewer.
    #[arg(long, default_value_t = 4.0)]
    rate: f64,
    /// Seconds before the node is killed, until it is started again, and after.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// What one viewer's presses came to.
#[derive(Debug, Default)]
struct Played {
    answers: Vec<Answered>,
    again: u64,
    longest: Duration,
}

/// A press that was answered 200.
#[derive(Debug, Deserialize)]
struct Answered {
    current_count: u64,
    effect_triggered: bool,
}

/// What the host has, and over how many connections.
#[derive(Debug, Clone, Default)]
struct Heard {
    effects: BTreeMap<u64, u64>,
    repeated: u64,
    connections: u64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("game");
    let plan = Plan {
        program: &settings.server,
        folder: &settings.out,
        engines: settings.engines.clone(),
        nodes: arguments.nodes,
        environment: Vec::new(),
    };
    let mut cluster = Cluster::start(plan).await?;
    let doors = cluster.addresses();
    let owner = register(doors[0], "host", 1, &progress).await?.remove(0);
    let event_types = [(JUMP.0.to_owned(), JUMP.1)];
    let room = make_room(&mut Caller::new(doors[0]), &owner, &event_types).await?;
    let home = cluster.home_of(&settings.server, "room", &room)?;
    let victim = (0..arguments.nodes).find(|index| home == format!("node-{index}"));
    let victim = victim.ok_or_else(|| Error::Refused(format!("the room is at home at {home:?}")))?;

    let (heard, mut hears) = watch::channel(Heard::default());
    let mut hosting = JoinSet::new();
    // It begins at another node than the one that dies, where it has a socket that outlives the room's home.
    let hosts_at: Vec<_> = (1..=doors.len()).map(|step| doors[(victim + step) % doors.len()]).collect();
    hosting.spawn(host(hosts_at, owner, room.clone(), heard));
    let over = watch::Sender::new(false);
    let tally = watch::Sender::new(0_u64);
    let mut pressed = JoinSet::new();
    for viewer in 0..arguments.viewers {
        let pace = Duration::from_secs_f64(1.0 / arguments.rate);
        let viewer = Viewer { number: viewer, doors: doors.clone(), room: room.clone(), pace };
        pressed.spawn(viewer.play(tally.clone(), over.subscribe()));
    }
    let began = Instant::now();
    let say = |what: &str| {
        let (answered, effects) = (*tally.borrow(), hears.borrow().effects.len());
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("{seconds:5.1} s: {what}: {answered} presses answered, {effects} effects at the host");
    };
    for (what, then) in
        [("all nodes", Then::Kill), ("without the room's home", Then::Start), ("it is back", Then::End)]
    {
        for _ in 0..arguments.seconds {
            sleep(Duration::from_secs(1)).await;
            say(what);
        }
        match then {
            Then::Kill => cluster.kill(victim)?,
            Then::Start => cluster.start_again(victim).await?,
            Then::End => {}
        }
    }
    over.send_replace(true);
    let mut all = Played::default();
    while let Some(played) = pressed.join_next().await {
        all.add(played.map_err(|error| Error::Refused(format!("a viewer: {error}")))?);
    }
    let made = all.answers.iter().filter(|answer| answer.effect_triggered).count();
    // What does not come is in the report.
    let has_all = async { hears.wait_for(|heard| heard.effects.len() >= made).await.is_ok() };
    let _in_time = timeout(END, has_all).await.is_ok();
    sleep(PAUSE).await;
    let left = left(doors[victim], &room).await?;
    let heard = hears.borrow().clone();
    hosting.abort_all();
    cluster.end().await?;

    let mut report = Report::new("game");
    let taken: u64 = heard.effects.values().sum();
    let answered = all.answers.len() as f64;
    report.figure("presses answered 200", answered, "presses");
    report.figure("tries that were not", all.again as f64, "tries");
    report.exactly(
        "presses in effects at the host, and left in the count",
        (taken + left) as f64,
        "presses",
        answered,
    );
    report.exactly("effects at the host", heard.effects.len() as f64, "effects", made as f64);
    let last = heard.effects.keys().next_back().copied().unwrap_or(0);
    report.exactly("numbers missing among them", last as f64 - heard.effects.len() as f64, "", 0.0);
    report.exactly(
        "counts that presses were not answered once each",
        uneven(&all, &heard, left) as f64,
        "",
        0.0,
    );
    report.figure("left in the count", left as f64, "presses");
    report.figure("effects that came to the host again", heard.repeated as f64, "effects");
    report.figure("connections of the host", heard.connections as f64, "");
    report.figure("the longest that a press took, tries and all", all.longest.as_secs_f64(), "s");
    report.note(format!(
        "{} viewers at {} presses/s each over {} nodes; the room's home was killed after {} s and started again after {} more",
        arguments.viewers, arguments.rate, arguments.nodes, arguments.seconds, arguments.seconds
    ));
    Ok(report)
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Kill,
    Start,
    End,
}

/// Counts of which another number of presses was answered than the effects and what is left have.
fn uneven(played: &Played, heard: &Heard, left: u64) -> usize {
    let mut counts = BTreeMap::<u64, i64>::new();
    for answer in &played.answers {
        *counts.entry(answer.current_count).or_default() += 1;
    }
    for run in heard.effects.values().copied().chain([left]) {
        (1..=run).for_each(|count| *counts.entry(count).or_default() -= 1);
    }
    counts.values().filter(|more| **more != 0).count()
}

impl Played {
    fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.again += other.again;
        self.longest = self.longest.max(other.longest);
    }
}

struct Viewer {
    number: usize,
    doors: Vec<SocketAddr>,
    room: String,
    pace: Duration,
}

impl Viewer {
    /// Presses until it is over; each press under one id until it is answered.
    async fn play(self, tally: watch::Sender<u64>, over: watch::Receiver<bool>) -> Played {
        let mut played = Played::default();
        let mut door = self.number % self.doors.len();
        let mut caller = Caller::new(self.doors[door]);
        let path = format!("/api/rooms/{}/events", self.room);
        let viewer = format!("viewer-{}", self.number);
        // Not all at the same time.
        sleep(self.pace.mul_f64(self.number as f64 / 200.0)).await;
        while !*over.borrow() {
            let began = Instant::now();
            let id = Uuid::now_v7();
            let body = Press { event_type: JUMP.0, viewer_id: &viewer, press_id: Some(id) }.json();
            loop {
                let asking = caller.call(Method::POST, &path, None, Some(body.clone()));
                if let Ok(Ok(answer)) = timeout(PATIENCE, asking).await
                    && answer.status == 200
                    && let Ok(answered) = serde_json::from_slice(&answer.body)
                {
                    played.answers.push(answered);
                    break;
                }
                played.again += 1;
                door = (door + 1) % self.doors.len();
                caller = Caller::new(self.doors[door]);
                sleep(PAUSE).await;
            }
            tally.send_modify(|answered| *answered += 1);
            played.longest = played.longest.max(began.elapsed());
            sleep(self.pace.saturating_sub(began.elapsed())).await;
        }
        played
    }
}

/// Hosts the room, and comes back at the next node where its connection ends.
async fn host(doors: Vec<SocketAddr>, owner: Person, room: String, heard: watch::Sender<Heard>) {
    for door in doors.iter().cycle() {
        if let Ok(host) = Host::connect(*door, &owner, &room).await {
            heard.send_modify(|heard| heard.connections += 1);
            let mut known = 0;
            while !host.has_ended() {
                sleep(PAUSE).await;
                let effects = host.heard();
                heard.send_modify(|heard| {
                    for effect in &effects[known..] {
                        let before = heard.effects.insert(effect.seq, effect.trigger_count);
                        heard.repeated += u64::from(before.is_some());
                    }
                });
                known = effects.len();
            }
        }
        sleep(PAUSE).await;
    }
}

/// What the count says.
async fn left(door: SocketAddr, room: &str) -> Result<u64> {
    #[derive(Deserialize)]
    struct Stats {
        stats: Vec<Stat>,
    }
    #[derive(Deserialize)]
    struct Stat {
        current_count: u64,
    }
    let path = format!("/api/rooms/{room}/stats");
    let stats: Stats = Caller::new(door).expect(200, Method::GET, &path, None, None).await?;
    Ok(stats.stats.iter().map(|stat| stat.current_count).sum())
}
