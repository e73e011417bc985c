//! `history`: pages of a conversation that fits no cache of ours; and what sending, listing and reading cost in it, by the
//! same in a young one.
//!
//! The messages are written into the store's file while the server is down; all else goes through the API. The two
//! conversations take turns, so that what else the machine does falls on both.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hyper::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use uuid::Uuid;

use crate::board::{Mark, content, now};
use crate::client::{Answer, Caller};
use crate::error::{Error, Result};
use crate::people::{Person, converse, register};
use crate::progress::Progress;
use crate::publisher::{SEND, Sent, message};
use crate::scenario::Settings;
use crate::seed_chat::fill;
use crate::server::Server;
use crate::stats::{Report, latencies, mebibytes, median, micros_each};
use crate::upgrade::escape;

const LISTS: &str = "/api/chat/conversations";
/// Calls before measured ones, which fill what is cached.
const WARM_UP: u32 = 50;
/// Messages of a page while walking.
const STRIDE: u64 = 100;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Messages in the old conversation.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages in the young one.
    #[arg(long, default_value_t = 100)]
    young: u64,
    /// Reads of each page, one after the other.
    #[arg(long, default_value_t = 2_000)]
    reads: u32,
    /// Calls of each kind in a round.
    #[arg(long, default_value_t = 500)]
    calls: u32,
    /// Rounds of the old and the young conversation, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// What is done in a conversation.
const KINDS: [&str; 3] = ["send", "list with unread", "read mark"];

/// A conversation of two, and what was measured in it.
#[derive(Debug)]
struct Side {
    conversation: Uuid,
    sender: Person,
    reader: Person,
    sent: u32,
    /// Of each kind, by round: microseconds of CPU a call.
    cpu: [Vec<f64>; 3],
    /// Of each kind: microseconds that a call took.
    times: [Histogram<u64>; 3],
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("history");
    let mut server = settings.start_server().await?;
    let mut old = Side::open(&server, "old", &progress).await?;
    let mut young = Side::open(&server, "young", &progress).await?;
    server.stop().await?;
    let amounts = [(old.conversation, arguments.messages), (young.conversation, arguments.young)];
    fill(&server.data(), &amounts, &progress)?;
    server.start_again().await?;

    let mut report = Report::new("history");
    let mut caller = Caller::new(server.address());
    let mut walked = latencies();
    let (middle, oldest) = old.walk(&mut caller, arguments.messages, &mut walked, &progress).await?;
    let before = server.usage()?.cpu;
    for (name, cursor) in [("newest", None), ("middle", Some(&middle)), ("oldest", Some(&oldest))] {
        let _stage = progress.spinner(&format!("the {name} page"));
        let mut times = latencies();
        let mut unmeasured = latencies();
        for _ in 0..WARM_UP {
            old.page(&mut caller, 20, cursor, &mut unmeasured).await?;
        }
        for _ in 0..arguments.reads {
            old.page(&mut caller, 20, cursor, &mut times).await?;
        }
        report.latency(&format!("a page of 20, {name}"), &times, Some(5.0));
    }
    let reads = 3.0 * f64::from(arguments.reads + WARM_UP);
    let cpu = server.usage()?.cpu.saturating_sub(before);
    report.figure("CPU a page of 20", micros_each(cpu, reads), "µs");
    let mut times = latencies();
    for _ in 0..arguments.reads {
        young.page(&mut caller, 20, None, &mut times).await?;
    }
    report.latency("a page of 20, newest of the young conversation", &times, None);
    let mut times = latencies();
    for _ in 0..arguments.reads {
        timed(&mut caller, Method::GET, "/health/live", &old.reader, None, &mut times).await?;
    }
    report.latency("a call that reads nothing", &times, None);
    report.latency(&format!("pages of {STRIDE} of a whole walk"), &walked, None);

    for round in 0..=arguments.rounds {
        let _stage = progress.spinner(&format!("round {round} of {}", arguments.rounds));
        for side in [&mut old, &mut young] {
            // The first one warms up.
            side.round(&server, &mut caller, arguments.calls, round > 0).await?;
        }
    }
    for (index, kind) in KINDS.iter().enumerate() {
        let ratios: Vec<f64> =
            old.cpu[index].iter().zip(&young.cpu[index]).map(|(old, young)| old / young).collect();
        report.figure(format!("{kind}, CPU, old by young"), median(&ratios), "×");
        let at = |side: &Side, quantile| side.times[index].value_at_quantile(quantile) as f64 / 1e3;
        let by_time = at(&old, 0.5) / at(&young, 0.5);
        report.figure(format!("{kind}, time (p50), old by young"), by_time, "×");
        for (name, side) in [("old", &old), ("young", &young)] {
            report.figure(format!("{kind}, {name}, CPU a call"), median(&side.cpu[index]), "µs");
            report.figure(format!("{kind}, {name}, p50"), at(side, 0.5), "ms");
            report.figure(format!("{kind}, {name}, p99"), at(side, 0.99), "ms");
        }
        let rounds: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        report.note(format!("{kind}, CPU, old by young: rounds {}", rounds.join(", ")));
    }
    report.figure("memory after (anonymous)", mebibytes(server.usage()?.anonymous), "MiB");
    server.end().await?;
    report.note(format!(
        "two participants each; {} messages in the old conversation and {} in the young one, written into the store's \
         file while the server was down, over a year that ended 31 days ago",
        arguments.messages, arguments.young
    ));
    report.note("one call at a time; medians of the rounds; CPU is the server's process alone");
    Ok(report)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    messages: Vec<IgnoredAny>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    conversations: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    unread: u32,
}

impl Side {
    async fn open(server: &Server, name: &str, progress: &Progress) -> Result<Self> {
        let members = register(server.address(), name, 2, progress).await?;
        let conversation = converse(&mut Caller::new(server.address()), &members).await?;
        let [sender, reader] = members.try_into().map_err(|_| Error::Refused("two members".to_owned()))?;
        let (cpu, times) = (Default::default(), [latencies(), latencies(), latencies()]);
        Ok(Self { conversation, sender, reader, sent: 0, cpu, times })
    }

    /// Walks the whole history; answers the cursors before its middle and before its end.
    async fn walk(
        &self,
        caller: &mut Caller,
        messages: u64,
        times: &mut Histogram<u64>,
        progress: &Progress,
    ) -> Result<(String, String)> {
        let bar = progress.bar("walking the history", messages / STRIDE);
        let mut cursors: Vec<String> = Vec::new();
        let mut seen = 0;
        loop {
            let page = self.page(caller, STRIDE, cursors.last(), times).await?;
            seen += page.messages.len() as u64;
            bar.inc(1);
            match page.next_cursor {
                Some(cursor) => cursors.push(cursor),
                None => break,
            }
        }
        let ends = cursors.get(cursors.len() / 2).zip(cursors.last());
        match ends {
            Some((middle, oldest)) if seen == messages => Ok((middle.clone(), oldest.clone())),
            _ => Err(Error::Refused(format!("the walk showed {seen} messages of {messages}"))),
        }
    }

    async fn page(
        &self,
        caller: &mut Caller,
        limit: u64,
        cursor: Option<&String>,
        times: &mut Histogram<u64>,
    ) -> Result<Page> {
        let cursor = cursor.map_or_else(String::new, |cursor| format!("&cursor={}", escape(cursor)));
        let path = format!("/api/chat/history?conversationId={}&limit={limit}{cursor}", self.conversation);
        let page: Page =
            timed(caller, Method::GET, &path, &self.reader, None, times).await?.json(200, "GET history")?;
        if page.messages.is_empty() {
            return Err(Error::Refused("a page of history is empty".to_owned()));
        }
        Ok(page)
    }

    /// So many messages sent, then listed as unread, then read one by one.
    async fn round(
        &mut self,
        server: &Server,
        caller: &mut Caller,
        calls: u32,
        is_measured: bool,
    ) -> Result<()> {
        let mut cpu = [Duration::ZERO; 3];
        let mut times = [latencies(), latencies(), latencies()];
        let mut used = server.usage()?.cpu;
        let mut messages = Vec::new();
        for _ in 0..calls {
            messages.push(self.send(caller, &mut times[0]).await?);
        }
        cpu[0] = since(server, &mut used).await?;
        for _ in 0..calls {
            let answer = timed(caller, Method::GET, LISTS, &self.reader, None, &mut times[1]).await?;
            let listed: Listed = answer.json(200, LISTS)?;
            if listed.conversations.first().map(|row| row.unread) != Some(calls) {
                return Err(Error::Refused(format!("{calls} unread are listed as {listed:?}")));
            }
        }
        cpu[1] = since(server, &mut used).await?;
        let path = format!("{LISTS}/{}/read", self.conversation);
        for message in messages {
            let body = json!({ "messageId": message }).to_string();
            let answer = timed(caller, Method::POST, &path, &self.reader, Some(body), &mut times[2]).await?;
            if answer.status != 204 {
                return Err(Error::Refused(format!("a read mark was answered {}", answer.status)));
            }
        }
        cpu[2] = since(server, &mut used).await?;
        if is_measured {
            for (index, cpu) in cpu.into_iter().enumerate() {
                self.cpu[index].push(micros_each(cpu, calls.into()));
                // All have the same bounds, so that adding cannot fail.
                let _same_bounds = self.times[index].add(&times[index]);
            }
        }
        Ok(())
    }

    async fn send(&mut self, caller: &mut Caller, times: &mut Histogram<u64>) -> Result<Uuid> {
        let number = self.sent;
        self.sent += 1;
        let body = message(self.conversation, &content(Mark { sent_at: now(), number }), number);
        let answer = timed(caller, Method::POST, SEND, &self.sender, Some(body), times).await?;
        Ok(answer.json::<Sent>(201, SEND)?.message_id)
    }
}

async fn timed(
    caller: &mut Caller,
    method: Method,
    path: &str,
    person: &Person,
    body: Option<String>,
    times: &mut Histogram<u64>,
) -> Result<Answer> {
    let began = Instant::now();
    let answer = caller.call(method, path, Some(&person.token), body).await?;
    times.saturating_record(began.elapsed().as_micros() as u64);
    Ok(answer)
}

/// What the server has used since that was looked at last, and what the calls left behind with it.
async fn since(server: &Server, used: &mut Duration) -> Result<Duration> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    let now = server.usage()?.cpu;
    Ok(now.saturating_sub(std::mem::replace(used, now)))
}
