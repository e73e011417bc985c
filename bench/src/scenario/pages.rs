//! `pages`: a page of a timeline on CQL, by one bare read of the same rows through the driver.
//!
//! The three kinds of reads take turns, so that what else the machine does falls on all: the bare read, the page as
//! nobody has read it within a minute, and the page that is cached.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use hyper::Method;
use serde::Deserialize;
use uuid::Uuid;

use crate::client::Caller;
use crate::engines::{Bare, Redis};
use crate::error::{Error, Result};
use crate::people::{Person, follow, post, register};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::server::Server;
use crate::stats::{Report, latencies, micros_each};

const PAGE: usize = 20;
const FIRST_PAGE: &str = "/timeline?limit=20";
/// Reads of one kind before those of the next: long enough for the kernel's clock of processor time.
const TURN: usize = 100;
/// The fan-out of what was posted ends within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Readers.
    #[arg(long, default_value_t = 20)]
    readers: usize,
    /// Authors whom each of them follows.
    #[arg(long, default_value_t = 50)]
    followees: usize,
    /// Posts of each author.
    #[arg(long, default_value_t = 16)]
    posts: u32,
    /// Reads of each kind.
    #[arg(long, default_value_t = 3_000)]
    reads: usize,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("pages");
    let (Some(redis), false) = (settings.engines.redis, settings.engines.scylla_nodes.is_empty()) else {
        return Err(Error::Refused("pages needs --scylla-nodes and --redis".to_owned()));
    };
    let server = settings.start_server().await?;
    let address = server.address();
    let authors = register(address, "author", arguments.followees, &progress).await?;
    let readers = register(address, "reader", arguments.readers, &progress).await?;
    follow(address, &readers, &authors, &progress).await?;
    let bare = Bare::connect(&settings.engines).await?;
    write_posts(&server, &authors, arguments.posts, &progress).await?;
    let readers = readers.iter().map(Reader::of).collect::<Result<Vec<_>>>()?;
    for reader in &readers {
        let entries = arguments.followees * arguments.posts as usize;
        wait_for_entries(&bare, reader.id, entries).await?;
    }

    let mut redis = Redis::connect(redis).await?;
    let mut caller = Caller::new(address);
    let (mut floor, mut http) = (latencies(), latencies());
    let (mut uncached, mut cached) = (Reads::new(), Reads::new());
    let bar = progress.bar("reads of each kind", arguments.reads as u64);
    let mut turns = readers.iter().cycle();
    while floor.len() < arguments.reads as u64 {
        let turn: Vec<&Reader> = turns.by_ref().take(TURN).collect();
        for reader in &turn {
            let began = Instant::now();
            let read = bare.page(reader.id).await?;
            floor.saturating_record(began.elapsed().as_micros() as u64);
            if read != PAGE {
                return Err(Error::Refused(format!("the bare read found {read} posts")));
            }
        }
        let before = server.usage()?.cpu;
        for reader in &turn {
            redis.forget_pages(reader.id).await?;
            uncached.read(&mut caller, reader, false).await?;
        }
        let between = server.usage()?.cpu;
        for reader in &turn {
            cached.read(&mut caller, reader, true).await?;
        }
        uncached.cpu += between.saturating_sub(before);
        cached.cpu += server.usage()?.cpu.saturating_sub(between);
        for _ in 0..TURN {
            let began = Instant::now();
            caller.call(Method::GET, "/health/live", None, None).await?;
            http.saturating_record(began.elapsed().as_micros() as u64);
        }
        bar.inc(TURN as u64);
    }

    let mut report = Report::new("pages");
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64;
    report.latency("bare read", &floor, None);
    report.latency("page, not cached", &uncached.times, None);
    report.bar("page, not cached, p99 by the bare read's", p99(&uncached.times) / p99(&floor), "×", 3.0);
    report.latency("page, cached", &cached.times, None);
    report.bar("page, cached, p99 by the bare read's", p99(&cached.times) / p99(&floor), "×", 2.0);
    report.figure("server CPU a page, not cached", uncached.cpu_each(), "µs");
    report.bar("server CPU a page, cached", cached.cpu_each(), "µs", uncached.cpu_each());
    report.latency("a call that reads nothing", &http, None);
    report.note(format!(
        "bare read: the newest {PAGE} rows of home_timeline, then their posts, with the driver alone; pages come by REST \
         with authors' names, likes and the count, {} entries in each timeline",
        (arguments.followees * arguments.posts as usize).min(800)
    ));
    report.note("not cached: neither the page nor the count, as for who has not read within a minute");
    server.end().await?;
    Ok(report)
}

struct Reader {
    id: Uuid,
    token: String,
}

impl Reader {
    fn of(person: &Person) -> Result<Self> {
        Ok(Self { id: person.uuid()?, token: person.token.clone() })
    }
}

/// Reads of one kind.
struct Reads {
    times: Histogram<u64>,
    cpu: Duration,
}

impl Reads {
    fn new() -> Self {
        Self { times: latencies(), cpu: Duration::ZERO }
    }

    async fn read(&mut self, caller: &mut Caller, reader: &Reader, is_cached: bool) -> Result<()> {
        #[derive(Deserialize)]
        struct Page {
            posts: Vec<serde::de::IgnoredAny>,
            cached_at: Option<serde::de::IgnoredAny>,
        }

        let began = Instant::now();
        let answer = caller.call(Method::GET, FIRST_PAGE, Some(&reader.token), None).await?;
        self.times.saturating_record(began.elapsed().as_micros() as u64);
        let page: Page = answer.json(200, FIRST_PAGE)?;
        if page.posts.len() != PAGE || page.cached_at.is_some() != is_cached {
            return Err(Error::Refused(format!(
                "a page of {} posts, cached: {}, where {PAGE} and {is_cached} were due",
                page.posts.len(),
                page.cached_at.is_some()
            )));
        }
        Ok(())
    }

    fn cpu_each(&self) -> f64 {
        micros_each(self.cpu, self.times.len() as f64)
    }
}

/// Every author posts so many, all authors at once.
async fn write_posts(server: &Server, authors: &[Person], posts: u32, progress: &Progress) -> Result<()> {
    let bar = progress.bar("posts", authors.len() as u64 * u64::from(posts));
    let bar = &bar;
    let work = authors.iter().map(async |author| {
        let mut caller = Caller::new(server.address());
        for number in 0..posts {
            post(&mut caller, author, number).await?;
            bar.inc(1);
        }
        Ok::<_, Error>(())
    });
    try_join_all(work).await?;
    Ok(())
}

async fn wait_for_entries(bare: &Bare, reader: Uuid, entries: usize) -> Result<()> {
    let began = Instant::now();
    while bare.entries(reader).await? < entries {
        if began.elapsed() > PATIENCE {
            return Err(Error::Waited("the posts in every timeline".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
