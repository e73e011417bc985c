//! `rest`: a mix of calls at a set rate, whether or not the server keeps up.
//!
//! The loop is open: a call's time counts from the instant it was due, so that one slow answer shows
//! in all calls that had to wait behind it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use hdrhistogram::Histogram;
use hyper::Method;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use crate::board::{Board, Mark, content, now};
use crate::client::Caller;
use crate::error::Result;
use crate::people::{Person, follow, register};
use crate::progress::Progress;
use crate::publisher::{Lane, publish};
use crate::scenario::Settings;
use crate::server::Server;
use crate::stats::{Report, latencies, mebibytes, micros_each};

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Users, who make all calls in turn.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Others whom each of them follows.
    #[arg(long, default_value_t = 20)]
    followees: usize,
    /// Posts that each has made before.
    #[arg(long, default_value_t = 20)]
    posts: usize,
    /// Calls a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Connections that make the calls.
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// The mix, in calls of a thousand.
const MIX: [(Kind, u64); 4] =
    [(Kind::Timeline, 800), (Kind::ReadPost, 75), (Kind::ReadUser, 75), (Kind::Publish, 50)];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Timeline,
    ReadPost,
    ReadUser,
    Publish,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Timeline => "GET /timeline",
            Self::ReadPost => "GET /posts/{id}",
            Self::ReadUser => "GET /users/{id}",
            Self::Publish => "POST /posts",
        }
    }
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("rest");
    let mut report = Report::new("rest");
    let mut server = settings.start_server().await?;
    let users = register(server.address(), "user", arguments.users, &progress).await?;
    let mut scene = Scene::set(arguments, &server, users, &progress).await?;
    server.stop().await?;
    server.start_again().await?;

    let stage = progress.spinner("warming up");
    scene.seed = 1;
    scene.run(arguments, Duration::from_secs(2)).await;
    drop(stage);
    let _stage = progress.spinner(&format!("{}/s for {} s", arguments.rate, arguments.seconds));
    scene.seed = 2;
    let before = server.usage()?;
    let run = scene.run(arguments, Duration::from_secs_f64(arguments.seconds)).await;
    let after = server.usage()?;

    let calls = run.all.len() as f64;
    report.figure("calls", calls, "");
    report.figure("achieved", calls / run.elapsed.as_secs_f64(), "calls/s");
    report.bar("answers that were not as due", run.wrong.values().sum::<u64>() as f64, "", 0.0);
    for (what, count) in &run.wrong {
        report.note(format!("{count} times {what}"));
    }
    report.latency("due to answer, all calls", &run.all, Some(10.0));
    for (kind, _) in MIX {
        if let Some(histogram) = run.kinds.get(&kind) {
            report.latency(kind.name(), histogram, None);
        }
    }
    let lag = |quantile| run.lag.value_at_quantile(quantile) as f64 / 1e3;
    report.figure("of which the client sent late, p50", lag(0.5), "ms");
    report.figure("of which the client sent late, p99", lag(0.99), "ms");
    let cpu = after.cpu.saturating_sub(before.cpu);
    report.figure("CPU a call", micros_each(cpu, calls), "µs");
    report.figure("memory after (anonymous)", mebibytes(after.anonymous), "MiB");
    report.note(format!(
        "{} users follow {} others each and have {} posts each; what the client sent \
         late, by its timer's milliseconds, is part of each time",
        arguments.users, arguments.followees, arguments.posts
    ));
    Ok(report)
}

/// Who calls for what.
#[derive(Debug)]
struct Scene {
    users: Vec<Person>,
    posts: Vec<String>,
    callers: Vec<Caller>,
    seed: u64,
}

/// What the calls met.
#[derive(Debug)]
struct Run {
    all: Histogram<u64>,
    kinds: BTreeMap<Kind, Histogram<u64>>,
    lag: Histogram<u64>,
    wrong: BTreeMap<String, u64>,
    elapsed: Duration,
}

impl Scene {
    async fn set(
        arguments: &Arguments,
        server: &Server,
        users: Vec<Person>,
        progress: &Progress,
    ) -> Result<Self> {
        let address = server.address();
        for (index, user) in users.iter().enumerate() {
            let followees: Vec<Person> =
                (1..=arguments.followees).map(|step| users[(index + step) % users.len()].clone()).collect();
            let quiet = Progress::quiet();
            follow(address, std::slice::from_ref(user), &followees, &quiet).await?;
        }
        let stage = progress.spinner("posts");
        let total = arguments.users * arguments.posts;
        let mut lanes: Vec<Lane> = users.iter().map(|user| Lane::new(address, user)).collect();
        publish(&mut lanes, &Board::new(total), 400.0, total as u32).await;
        drop(stage);
        let lists = users.iter().map(|user| async move {
            let mut caller = Caller::new(address);
            let path = format!("/users/{}/posts?limit=20", user.id);
            caller.expect::<List>(200, Method::GET, &path, Some(&user.token), None).await
        });
        let posts = try_join_all(lists).await?.into_iter().flat_map(|list| list.posts);
        Ok(Self {
            posts: posts.map(|post| post.id).collect(),
            users,
            callers: (0..arguments.connections).map(|_| Caller::new(address)).collect(),
            seed: 0,
        })
    }

    async fn run(&mut self, arguments: &Arguments, length: Duration) -> Run {
        let calls = (arguments.rate * length.as_secs_f64()).round() as u64;
        let start = Instant::now() + Duration::from_millis(20);
        let next = Cell::new(0_u64);
        let Self { users, posts, callers, seed } = self;
        let (next, users, posts, seed) = (&next, &*users, &*posts, *seed);
        let work = callers.iter_mut().map(|caller| async move {
            let mut run = Run::default();
            loop {
                let turn = next.replace(next.get() + 1);
                if turn >= calls {
                    return run;
                }
                let due = start + Duration::from_secs_f64(turn as f64 / arguments.rate);
                sleep_until(due).await;
                let call = Call::of(mixed(turn ^ (seed << 40)), users, posts);
                run.lag.saturating_record(due.elapsed().as_micros() as u64);
                let answer = caller.call(call.method, &call.path, Some(call.token), call.body).await;
                run.record(call.kind, due.elapsed());
                let wrong = match answer {
                    Ok(answer) if answer.status == call.status => continue,
                    Ok(answer) => format!("{}: {}", call.kind.name(), answer.status),
                    Err(error) => error.to_string(),
                };
                *run.wrong.entry(wrong).or_default() += 1;
            }
        });
        let mut all = Run::default();
        for run in join_all(work).await {
            all.add(run);
        }
        all.elapsed = start.elapsed();
        all
    }
}

#[derive(Debug, Deserialize)]
struct List {
    posts: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
}

/// One call of the mix.
#[derive(Debug)]
struct Call<'a> {
    kind: Kind,
    method: Method,
    path: String,
    token: &'a str,
    body: Option<String>,
    status: u16,
}

impl<'a> Call<'a> {
    fn of(random: u64, users: &'a [Person], posts: &[String]) -> Self {
        let kind = kind_of(random % 1_000);
        let user = &users[(random >> 10) as usize % users.len()];
        let other = random >> 32;
        let (method, path) = match kind {
            Kind::Timeline => (Method::GET, "/timeline?limit=20".to_owned()),
            Kind::ReadPost => (Method::GET, format!("/posts/{}", posts[other as usize % posts.len()])),
            Kind::ReadUser => (Method::GET, format!("/users/{}", users[other as usize % users.len()].id)),
            Kind::Publish => (Method::POST, "/posts".to_owned()),
        };
        let number = other as u32;
        let body = (kind == Kind::Publish)
            .then(|| format!(r#"{{"content":"{}"}}"#, content(Mark { sent_at: now(), number })));
        Self { kind, method, path, token: &user.token, status: if body.is_some() { 201 } else { 200 }, body }
    }
}

fn kind_of(thousandth: u64) -> Kind {
    let mut upper = 0;
    for (kind, share) in MIX {
        upper += share;
        if thousandth < upper {
            return kind;
        }
    }
    Kind::Timeline
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same mix in every run.
fn mixed(turn: u64) -> u64 {
    let mut value = turn.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Default for Run {
    fn default() -> Self {
        Self {
            all: latencies(),
            kinds: BTreeMap::new(),
            lag: latencies(),
            wrong: BTreeMap::new(),
            elapsed: Duration::ZERO,
        }
    }
}

impl Run {
    fn record(&mut self, kind: Kind, took: Duration) {
        let micros = took.as_micros() as u64;
        self.all.saturating_record(micros);
        self.kinds.entry(kind).or_insert_with(latencies).saturating_record(micros);
    }

    fn add(&mut self, other: Self) {
        // All have the same bounds, so that adding cannot fail.
        let _same_bounds = self.all.add(&other.all);
        let _same_bounds = self.lag.add(&other.lag);
        for (kind, histogram) in other.kinds {
            let _same_bounds = self.kinds.entry(kind).or_insert_with(latencies).add(&histogram);
        }
        for (what, count) in other.wrong {
            *self.wrong.entry(what).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind_of, mixed};

    #[test]
    fn the_mix_has_its_shares() {
        let drawn: Vec<Kind> = (0..100_000).map(|turn| kind_of(mixed(turn) % 1_000)).collect();
        for (kind, share) in super::MIX {
            let count = drawn.iter().filter(|drawn| **drawn == kind).count() as f64;
            let due = share as f64 * 100.0;
            assert!((count - due).abs() < due * 0.05, "{kind:?}: {count} of {due}");
        }
    }
}
