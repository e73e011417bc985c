//! `spread`: how fast one post comes into the timelines of 10,000 followers on CQL, by a loop of the driver's own
//! inserts; what it takes of memory, and whether the post's 201 waits for it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::client::Caller;
use crate::engines::Bare;
use crate::error::{Error, Result};
use crate::people::{post, register};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::server::Server;
use crate::stats::{Report, latencies, mebibytes, median};

/// Followers that are reached last: so many are under way at once.
const LAST: usize = 128;
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the server's memory and at who was reached.
const LOOK: Duration = Duration::from_millis(10);

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Followers of the author; more than 10,000 would not be fanned out to.
    #[arg(long, default_value_t = 10_000)]
    followers: u32,
    /// Posts, each beside a loop of inserts.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("spread");
    if settings.engines.scylla_nodes.is_empty() {
        return Err(Error::Refused("spread needs --scylla-nodes".to_owned()));
    }
    let server = settings.start_server().await?;
    let people = register(server.address(), "author", 2, &progress).await?;
    let [author, lonely] = people.as_slice() else { unreachable!("two were registered") };
    let bare = Bare::connect(&settings.engines).await?;
    let followers = bare.add_followers(author.uuid()?, arguments.followers).await?;
    let mut caller = Caller::new(server.address());
    // Connections and statements are there before anything is measured.
    for person in [author, lonely] {
        let (id, _) = post(&mut caller, person, 0).await?;
        if person.id == author.id {
            reached(&bare, &server, &followers, bare.seq(id).await?).await?;
        }
    }

    let bar = progress.bar("rounds", u64::from(arguments.rounds));
    let (mut ratios, mut bare_rates, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut answers, mut lonely_answers) = (latencies(), latencies());
    let mut most = 0.0_f64;
    for round in 1..=arguments.rounds {
        let (_, took) = post(&mut caller, lonely, round).await?;
        lonely_answers.saturating_record(took.as_micros() as u64);
        let began = Instant::now();
        bare.insert(&followers, author.uuid()?).await?;
        let bare_rate = f64::from(arguments.followers) / began.elapsed().as_secs_f64();
        let idle = server.anonymous()?;
        let began = Instant::now();
        let (id, took) = post(&mut caller, author, round).await?;
        answers.saturating_record(took.as_micros() as u64);
        let seq = bare.seq(id).await?;
        let peak = reached(&bare, &server, &followers, seq).await?;
        let rate = f64::from(arguments.followers) / began.elapsed().as_secs_f64();
        let missing = followers.len() - bare.count(&followers, seq).await?;
        if missing > 0 {
            return Err(Error::Refused(format!("{missing} timelines were not reached")));
        }
        most = most.max(mebibytes(peak.saturating_sub(idle)));
        ratios.push(bare_rate / rate);
        bare_rates.push(bare_rate);
        rates.push(rate);
        bar.inc(1);
    }

    let mut report = Report::new("spread");
    report.figure("inserts of a bare loop", median(&bare_rates), "rows/s");
    report.figure("rows of a fan-out, from the post's request on", median(&rates), "rows/s");
    // 0.7 of the loop's rate at least is 1.43 times its time at most.
    report.bar("time of a fan-out by the loop's", median(&ratios), "×", 1.43);
    report.bar("memory above idle, the most", most, "MiB", 16.0);
    report.latency("201 to a post with followers", &answers, None);
    report.latency("201 to a post without", &lonely_answers, None);
    report.note(format!(
        "{} followers, {} rounds of loop and post in turn; the followers' rows were written past the API",
        arguments.followers, arguments.rounds
    ));
    server.end().await?;
    Ok(report)
}

/// Waits until the last followers were reached; answers the most anonymous memory that the server had meanwhile.
async fn reached(bare: &Bare, server: &Server, followers: &[Uuid], seq: i64) -> Result<u64> {
    let began = Instant::now();
    let mut most = server.anonymous()?;
    let last = &followers[followers.len().saturating_sub(LAST)..];
    let Some(very_last) = last.last() else { return Ok(most) };
    while !bare.has(*very_last, seq).await? || bare.count(last, seq).await? < last.len() {
        most = most.max(server.anonymous()?);
        if began.elapsed() > PATIENCE {
            return Err(Error::Waited("the post in every timeline".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(most)
}
