//! `fanout`: one author's posts to all its followers; processor time a delivery, by the floor's.
//!
//! Roost and the floor take turns in one run, so that what else the machine does falls on both.

use hdrhistogram::Histogram;

use crate::error::Result;
use crate::floor::{Floor, frame_by_contract};
use crate::progress::Progress;
use crate::scenario::ground::Ground;
use crate::scenario::online::Online;
use crate::scenario::{Settings, add_faults, add_from_answer};
use crate::stats::{Report, latencies, median, micros_each};
use crate::tally::Tally;
use crate::upgrade::Door;

/// Posts before a measured round, which wake what sleeps and fill what is cached.
const WARM_UP: u32 = 20;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Sockets that listen.
    #[arg(long, default_value_t = 1_000)]
    followers: usize,
    /// Users that hold those sockets; as many as sockets by default.
    #[arg(long)]
    users: Option<usize>,
    /// Posts a second, one rate after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [20.0, 100.0])]
    rates: Vec<f64>,
    /// Seconds of a round.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds of each rate, by Roost and the floor in turn.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Measure the floor alone, without a server.
    #[arg(long)]
    floor_only: bool,
}

/// What one side did in all rounds of a rate.
#[derive(Debug)]
struct Side {
    micros: Vec<f64>,
    lost: u64,
    from_send: Histogram<u64>,
    from_answer: Histogram<u64>,
    tally: Tally,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("fanout");
    let mut report = Report::new("fanout");
    let planned: f64 = arguments.rates.iter().map(|rate| rate * arguments.seconds + 1.0).sum();
    let posts =
        (arguments.rounds as usize) * (planned.ceil() as usize + arguments.rates.len() * WARM_UP as usize);
    let online = if arguments.floor_only {
        None
    } else {
        let users = arguments.users.unwrap_or(arguments.followers);
        Some(Online::set(settings, arguments.followers, users, posts, &progress).await?)
    };
    let bare = (Floor::start(&settings.out)?, 1);
    let seats = (arguments.followers, || Door::Bare);
    let mut floor = Ground::set(settings, bare, seats, (frame_by_contract(), posts), &progress).await?;

    for rate in &arguments.rates {
        let posts = (rate * arguments.seconds).round() as u32;
        let mut ours = Side::default();
        let mut bare = Side::default();
        for round in 1..=arguments.rounds {
            let _stage = progress.spinner(&format!("{rate}/s, round {round} of {}", arguments.rounds));
            if let Some(online) = &online {
                ours.roost_round(online, *rate, posts).await?;
                floor.text = sample_of(online).unwrap_or(floor.text);
            }
            bare.floor_round(&mut floor, *rate, posts).await?;
        }
        let at = format!("{rate}/s");
        if online.is_some() {
            add_roost(&mut report, &at, &ours, &bare);
        }
        report.figure(format!("{at}, floor, CPU a delivery"), median(&bare.micros), "µs");
        report.bar(format!("{at}, floor, lost"), bare.lost as f64, "deliveries", 0.0);
        report.latency(&format!("{at}, floor, send to receipt"), &bare.from_send, None);
        report.note(format!("{at}: floor's rounds {}", rounds_of(&bare.micros)));
    }
    report.note(format!("each frame has {} bytes of text, on both sides", floor.text.len()));
    report.note("medians of the rounds; CPU is user and system time of the server's process alone");
    Ok(report)
}

fn add_roost(report: &mut Report, at: &str, ours: &Side, bare: &Side) {
    let ratio = median(&ours.micros) / median(&bare.micros);
    report.bar(format!("{at}, Roost by floor"), ratio, "×", 1.05);
    report.figure(format!("{at}, Roost, CPU a delivery"), median(&ours.micros), "µs");
    report.bar(format!("{at}, Roost, lost"), ours.lost as f64, "deliveries", 0.0);
    report.bar(format!("{at}, Roost, out of order"), ours.tally.disordered as f64, "deliveries", 0.0);
    add_faults(report, &format!("{at}, Roost"), &ours.tally);
    add_from_answer(report, &format!("{at}, Roost, 201 to receipt"), &ours.from_answer, None);
    report.latency(&format!("{at}, Roost, send to receipt"), &ours.from_send, None);
    report.note(format!("{at}: Roost's rounds {}", rounds_of(&ours.micros)));
}

fn rounds_of(micros: &[f64]) -> String {
    let rounds: Vec<String> = micros.iter().map(|micros| format!("{micros:.2}")).collect();
    format!("{} µs", rounds.join(", "))
}

fn sample_of(online: &Online) -> Option<String> {
    String::from_utf8(online.audience.tally().sample?).ok()
}

impl Default for Side {
    fn default() -> Self {
        Self {
            micros: Vec::new(),
            lost: 0,
            from_send: latencies(),
            from_answer: latencies(),
            tally: Tally::default(),
        }
    }
}

impl Side {
    async fn roost_round(&mut self, online: &Online, rate: f64, posts: u32) -> Result<()> {
        let mut lanes = online.lanes(1);
        online.perform(&mut lanes, 50.0, WARM_UP).await?;
        let round = online.perform(&mut lanes, rate, posts).await?;
        if let Some(refusal) = round.published.first_refusal {
            return Err(crate::error::Error::Refused(format!("a post was refused: {refusal}")));
        }
        self.lost += round.lost;
        self.add(&round.tally, round.after.cpu.saturating_sub(round.before.cpu));
        Ok(())
    }

    async fn floor_round(&mut self, ground: &mut Ground, rate: f64, posts: u32) -> Result<()> {
        ground.publish(50.0, WARM_UP).await?;
        let (cpu, lost) = ground.publish(rate, posts).await?;
        self.lost += lost;
        self.add(&ground.audience.tally(), cpu);
        Ok(())
    }

    fn add(&mut self, tally: &Tally, cpu: std::time::Duration) {
        self.micros.push(micros_each(cpu, tally.delivered as f64));
        self.tally.add(tally);
        // All have the same bounds, so that adding cannot fail.
        let _same_bounds = self.from_send.add(&tally.from_send);
        let _same_bounds = self.from_answer.add(&tally.from_answer);
    }
}
