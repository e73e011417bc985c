//! `saturate`: more deliveries than the processors can do one by one.

use crate::error::Result;
use crate::progress::Progress;
use crate::scenario::online::Online;
use crate::scenario::{Settings, add_faults, add_from_answer, add_published};
use crate::stats::{Report, mebibytes, micros_each};

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Sockets that listen.
    #[arg(long, default_value_t = 1_000)]
    followers: usize,
    /// Users that hold those sockets; as many as sockets by default.
    #[arg(long)]
    users: Option<usize>,
    /// Connections that post at once, all as the one author.
    #[arg(long, default_value_t = 64)]
    publishers: usize,
    /// Posts a second, by all of them.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("saturate");
    let mut report = Report::new("saturate");
    let posts = (arguments.rate * arguments.seconds).round() as u32;
    let users = arguments.users.unwrap_or(arguments.followers);
    let online = Online::set(settings, arguments.followers, users, posts as usize, &progress).await?;
    let _stage = progress.spinner(&format!("{}/s for {} s", arguments.rate, arguments.seconds));
    let mut lanes = online.lanes(arguments.publishers);
    let run = online.perform(&mut lanes, arguments.rate, posts).await?;

    let seconds = run.published.elapsed.as_secs_f64();
    let cpu = run.after.cpu.saturating_sub(run.before.cpu);
    add_published(&mut report, "posts", &run.published);
    report.figure("delivered", run.tally.delivered as f64, "deliveries");
    report.figure("delivered a second of publishing", run.tally.delivered as f64 / seconds, "/s");
    report.bar("lost", run.lost as f64, "deliveries", 0.0);
    add_faults(&mut report, "deliveries", &run.tally);
    add_from_answer(&mut report, "201 to receipt", &run.tally.from_answer, Some(200.0));
    report.latency("send to receipt", &run.tally.from_send, None);
    report.latency("due to 201", &run.published.to_answer, None);
    report.figure("CPU a delivery", micros_each(cpu, run.tally.delivered as f64), "µs");
    report.figure("memory before (anonymous)", mebibytes(run.before.anonymous), "MiB");
    report.figure("memory after (anonymous)", mebibytes(run.after.anonymous), "MiB");
    report.figure("memory at its peak (resident)", mebibytes(run.after.peak), "MiB");
    Ok(report)
}
