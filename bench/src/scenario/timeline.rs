//! `timeline`: a page of one reader's timeline out of a store that fits no cache of ours.
//!
//! The posts are written into the store's file while the server is down; the reader is registered and
//! reads through the API.

use std::fs;
use std::process::Command;
use std::time::Instant;

use hdrhistogram::Histogram;
use hyper::Method;
use serde::Deserialize;

use crate::client::Caller;
use crate::error::{Error, Result};
use crate::people::{Person, register};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::seed::{Amount, fill};
use crate::stats::{Report, latencies, mebibytes, micros_each};

const FIRST_PAGE: &str = "/timeline?limit=20";

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Posts in the store.
    #[arg(long, default_value_t = 1_000_000)]
    posts: u64,
    /// Their authors.
    #[arg(long, default_value_t = 10_000)]
    authors: u64,
    /// How many of them the reader follows.
    #[arg(long, default_value_t = 1_000)]
    followees: u64,
    /// Reads of the first page, one after the other.
    #[arg(long, default_value_t = 2_000)]
    reads: u64,
    /// First reads after a restart with an empty page cache.
    #[arg(long, default_value_t = 20)]
    cold_reads: u32,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("timeline");
    let mut report = Report::new("timeline");
    if arguments.followees > arguments.authors {
        return Err(Error::Refused("more followees than authors".to_owned()));
    }
    let mut server = settings.start_server().await?;
    let address = server.address();
    let reader = register(address, "reader", 1, &progress).await?.remove(0);
    server.stop().await?;
    let amount =
        Amount { authors: arguments.authors, posts: arguments.posts, followees: arguments.followees };
    fill(&server.data(), &reader, amount, &progress)?;

    let bar = progress.bar("cold reads", u64::from(arguments.cold_reads));
    let mut cold = latencies();
    let mut dropped = true;
    for _ in 0..arguments.cold_reads {
        dropped &= drop_page_cache();
        server.start_again().await?;
        // Its connection is made before: what is cold is the store.
        let mut caller = Caller::new(address);
        caller.call(Method::GET, "/health/live", None, None).await?;
        read(&mut caller, &reader, FIRST_PAGE, &mut cold).await?;
        server.stop().await?;
        bar.inc(1);
    }
    drop(bar);

    server.start_again().await?;
    let mut caller = Caller::new(address);
    let mut warm = latencies();
    let mut unmeasured = latencies();
    let bar = progress.bar("warm reads", arguments.reads);
    for _ in 0..50 {
        read(&mut caller, &reader, FIRST_PAGE, &mut unmeasured).await?;
    }
    let before = server.usage()?;
    for _ in 0..arguments.reads {
        read(&mut caller, &reader, FIRST_PAGE, &mut warm).await?;
        bar.inc(1);
    }
    let after = server.usage()?;
    drop(bar);
    let mut walked = latencies();
    let mut entries = 0;
    let mut path = FIRST_PAGE.to_owned();
    loop {
        let page = read(&mut caller, &reader, &path, &mut walked).await?;
        entries += page.posts.len();
        match page.next_cursor {
            Some(cursor) if !page.posts.is_empty() => {
                path = format!("{FIRST_PAGE}&cursor={}", crate::upgrade::escape(&cursor));
            }
            _ => break,
        }
    }

    report.latency("first page, warm", &warm, Some(5.0));
    report.latency("first page, cold", &cold, Some(100.0));
    report.latency("pages of a whole walk", &walked, None);
    report.figure("entries of the walk", entries as f64, "");
    let cpu = after.cpu.saturating_sub(before.cpu);
    report.figure("CPU a warm read", micros_each(cpu, arguments.reads as f64), "µs");
    report.figure("memory after (anonymous)", mebibytes(after.anonymous), "MiB");
    report.note(format!(
        "{} posts by {} authors over 20 days, {} of whom the reader follows; written into the store's file \
         while the server was down",
        arguments.posts, arguments.authors, arguments.followees
    ));
    report.note(if dropped {
        "cold: the first read after a restart, the kernel's page cache dropped before it"
    } else {
        "cold: the first read after a restart; the page cache could NOT be dropped here (it needs root)"
    });
    Ok(report)
}

#[derive(Debug, Deserialize)]
struct Page {
    posts: Vec<serde::de::IgnoredAny>,
    next_cursor: Option<String>,
}

async fn read(caller: &mut Caller, reader: &Person, path: &str, times: &mut Histogram<u64>) -> Result<Page> {
    let began = Instant::now();
    let answer = caller.call(Method::GET, path, Some(&reader.token), None).await?;
    times.saturating_record(began.elapsed().as_micros() as u64);
    let page: Page = answer.json(200, &format!("GET {path}"))?;
    if page.posts.is_empty() && path == FIRST_PAGE {
        return Err(Error::Refused("the seeded timeline is empty".to_owned()));
    }
    Ok(page)
}

/// Writes what is dirty, then drops the page cache; false where that is not permitted.
fn drop_page_cache() -> bool {
    let synced = Command::new("sync").status();
    synced.is_ok_and(|status| status.success()) && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
