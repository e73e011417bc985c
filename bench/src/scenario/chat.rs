//! `chat`: messages to conversations of a hundred, each of whose members has a stream; processor time an event beyond the
//! store's own, by the floor's.
//!
//! The store's own is what its writing thread uses, and what else the same messages cost with no stream open. The thread is
//! left out of both, by its own count: a hundred rows a message waver by more than a hundred events cost.
//!
//! Roost without streams, Roost with them and the floor take turns in one run, so that what else the machine does falls on
//! all three.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use uuid::Uuid;

use crate::audience::Audience;
use crate::board::Board;
use crate::client::Caller;
use crate::error::{Error, Result};
use crate::floor::Floor;
use crate::people::{Person, converse, register};
use crate::progress::Progress;
use crate::publisher::{Lane, Published, publish};
use crate::receipts::join;
use crate::scenario::ground::Ground;
use crate::scenario::online::{AFTERWORK, PATIENCE};
use crate::scenario::{Settings, add_faults, add_from_answer};
use crate::server::Server;
use crate::stats::{Report, latencies, median, micros_each};
use crate::tally::Tally;
use crate::upgrade::{Door, stream_head};

/// Messages before a measured round, which wake what sleeps and fill what is cached.
const WARM_UP: u32 = 50;
/// Members of each conversation who send.
const SENDERS: usize = 2;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Conversations.
    #[arg(long, default_value_t = 10)]
    conversations: usize,
    /// Who takes part in each; nobody takes part in two, and everybody has a stream.
    #[arg(long, default_value_t = 100)]
    participants: usize,
    /// Messages a second, to the conversations in turn.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds of a round.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds without streams, with them and of the floor, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Messages to one conversation afterwards, one at a time.
    #[arg(long, default_value_t = 100)]
    single: u32,
}

/// The conversations, with nobody listening.
#[derive(Debug)]
struct Scene {
    server: Server,
    members: Vec<Vec<Person>>,
    conversations: Vec<Uuid>,
    board: Arc<Board>,
}

/// What the rounds came to.
#[derive(Debug, Default)]
struct Found {
    /// CPU a message with no stream open, in microseconds: of the store's writing thread, and of all others.
    writing: Vec<f64>,
    sending: Vec<f64>,
    /// CPU an event beyond both, in microseconds.
    ours: Vec<f64>,
    /// CPU an event of the floor.
    bare: Vec<f64>,
    ratios: Vec<f64>,
    floor_lost: u64,
    heard: Heard,
}

/// What streams heard.
#[derive(Debug)]
struct Heard {
    lost: u64,
    tally: Tally,
    from_answer: Histogram<u64>,
    to_answer: Histogram<u64>,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("chat");
    let scene = Scene::set(arguments, settings, &progress).await?;
    let messages = (arguments.rate * arguments.seconds).round() as u32;
    let people = arguments.conversations * arguments.participants;
    let mut found = Found::default();
    let mut ground = None;
    for round in 1..=arguments.rounds {
        let stage = |part| progress.spinner(&format!("round {round} of {}, {part}", arguments.rounds));
        let quiet = {
            let _stage = stage("no streams");
            scene.warmed(arguments.rate, messages, None).await?
        };
        let missed = u64::from(messages + WARM_UP) * arguments.participants as u64;
        let audience = scene.seat(settings, missed, &progress).await?;
        let loud = {
            let _stage = stage("streams");
            scene.warmed(arguments.rate, messages, Some(&audience)).await?
        };
        let heard = found.heard.add(&scene, &audience, &loud.published, arguments.participants);
        let sample = audience.tally().sample.and_then(|block| String::from_utf8(block).ok());
        drop(audience);
        let block = sample.ok_or_else(|| Error::Waited("any event of a message".to_owned()))?;
        if ground.is_none() {
            let head = stream_head(scene.server.address(), &scene.members[0][0].token).await?;
            let floor = Floor::start_streams(&settings.out, &head, arguments.conversations)?;
            let posts = (messages + WARM_UP) as usize * arguments.rounds as usize;
            let seats = (people, || Door::Stream { token: "none".to_owned() });
            let groups = (floor, arguments.conversations);
            ground = Some(Ground::set(settings, groups, seats, (block, posts), &progress).await?);
        }
        if let Some(ground) = &mut ground {
            let _stage = stage("the floor");
            ground.publish(arguments.rate, WARM_UP).await?;
            let (cpu, lost) = ground.publish(arguments.rate, messages).await?;
            found.floor_lost += lost;
            found.bare.push(micros_each(cpu, ground.audience.tally().delivered as f64));
        }
        let each = |cost: &Cost, cpu| micros_each(cpu, cost.published.answered as f64);
        let (sending, whole) = (each(&quiet, quiet.cpu), each(&loud, loud.cpu));
        let ours = (whole - sending) * loud.published.answered as f64 / heard as f64;
        found.ratios.push(ours / found.bare.last().copied().unwrap_or(f64::NAN));
        found.writing.push(each(&quiet, quiet.writing));
        found.sending.push(sending);
        found.ours.push(ours);
    }
    let mut report = Report::new("chat");
    found.report(&mut report, ground.map_or(0, |ground| ground.text.len()));
    scene.one_at_a_time(arguments, settings, &progress, &mut report).await?;
    scene.server.end().await?;
    report.note("medians of the rounds; CPU is user and system time of the server's process alone");
    Ok(report)
}

/// A stretch of sending, and what it cost.
#[derive(Debug)]
struct Cost {
    published: Published,
    /// Of the store's writing thread.
    writing: Duration,
    /// Of all others.
    cpu: Duration,
}

impl Scene {
    async fn set(arguments: &Arguments, settings: &Settings, progress: &Progress) -> Result<Self> {
        if arguments.participants < SENDERS {
            return Err(Error::Refused("a conversation has at least two participants".to_owned()));
        }
        let mut server = settings.start_server().await?;
        let people = arguments.conversations * arguments.participants;
        let people = register(server.address(), "member", people, progress).await?;
        let members: Vec<_> = people.chunks(arguments.participants).map(<[Person]>::to_vec).collect();
        let mut caller = Caller::new(server.address());
        let mut conversations = Vec::new();
        for members in &members {
            conversations.push(converse(&mut caller, members).await?);
        }
        // Hashing passwords leaves its memory behind; what is measured is a process that serves.
        server.stop().await?;
        server.start_again().await?;
        let planned = (arguments.rate * arguments.seconds).ceil() as usize + WARM_UP as usize;
        let posts = planned * 2 * arguments.rounds as usize + (arguments.single + WARM_UP) as usize;
        Ok(Self { server, members, conversations, board: Arc::new(Board::new(posts)) })
    }

    /// Lanes to the conversations in turn.
    fn lanes(&self) -> Vec<Lane> {
        let address = self.server.address();
        let sender = |index: usize| {
            let conversation = index % self.conversations.len();
            let member = &self.members[conversation][index / self.conversations.len()];
            Lane::within(address, member, self.conversations[conversation])
        };
        (0..self.conversations.len() * SENDERS).map(sender).collect()
    }

    /// A stream for everybody; waits until each is open and was told what it had missed.
    async fn seat(&self, settings: &Settings, missed: u64, progress: &Progress) -> Result<Audience> {
        let mut audience = Audience::new(settings.ears, Arc::clone(&self.board), false)?;
        for member in self.members.iter().flatten() {
            audience.add(Door::Stream { token: member.token.clone() });
        }
        let streams = audience.len();
        audience.connect_range(0..streams, self.server.address(), progress).await?;
        let opened = |tally: &Tally| tally.connected == streams as u64;
        audience.wait_for("every stream's opening", PATIENCE, opened).await?;
        audience.settle(missed, PATIENCE).await;
        Ok(audience)
    }

    /// Sends some messages, then those that count.
    async fn warmed(&self, rate: f64, messages: u32, audience: Option<&Audience>) -> Result<Cost> {
        self.perform(&mut self.lanes(), rate, WARM_UP, audience).await?;
        self.perform(&mut self.lanes(), rate, messages, audience).await
    }

    /// Sends, waits until everybody was told, and reads what it cost.
    async fn perform(
        &self,
        lanes: &mut [Lane],
        rate: f64,
        messages: u32,
        audience: Option<&Audience>,
    ) -> Result<Cost> {
        if let Some(audience) = audience {
            audience.forget();
        }
        let (writing, cpu) = self.used()?;
        let published = publish(lanes, &self.board, rate, messages).await;
        if let Some(refusal) = published.first_refusal {
            return Err(Error::Refused(format!("a message was refused: {refusal}")));
        }
        if let Some(audience) = audience {
            let due = published.answered * self.members[0].len() as u64;
            audience.settle(due, PATIENCE).await;
        }
        tokio::time::sleep(AFTERWORK).await;
        let after = self.used()?;
        Ok(Cost { published, writing: after.0.saturating_sub(writing), cpu: after.1.saturating_sub(cpu) })
    }

    /// What the store's writing thread has used so far, and all others.
    fn used(&self) -> Result<(Duration, Duration)> {
        let writing = self.server.writer_cpu()?;
        Ok((writing, self.server.usage()?.cpu.saturating_sub(writing)))
    }

    /// One message at a time to one conversation: when the last of its members has been told.
    async fn one_at_a_time(
        &self,
        arguments: &Arguments,
        settings: &Settings,
        progress: &Progress,
        report: &mut Report,
    ) -> Result<()> {
        let audience = self.seat(settings, 0, progress).await?;
        let mut lanes = [Lane::within(self.server.address(), &self.members[0][0], self.conversations[0])];
        let _stage = progress.spinner("one message at a time");
        self.perform(&mut lanes, 10.0, WARM_UP, Some(&audience)).await?;
        let cost = self.perform(&mut lanes, 10.0, arguments.single, Some(&audience)).await?;
        let mut heard = Heard::default();
        heard.add(self, &audience, &cost.published, arguments.participants);
        let mut to_last = latencies();
        for nanoseconds in self.board.last_after_answer(cost.published.numbers.clone()) {
            to_last.saturating_record(nanoseconds / 1_000);
        }
        let name = format!("one message at a time to {}", arguments.participants);
        report.latency(&format!("{name}, 201 to the last receipt"), &to_last, None);
        report.figure(
            format!("{name}, request to 201, p50"),
            heard.to_answer.value_at_quantile(0.5) as f64 / 1e3,
            "ms",
        );
        report.bar(format!("{name}, lost"), heard.lost as f64, "events", 0.0);
        Ok(())
    }
}

impl Found {
    fn report(&self, report: &mut Report, block: usize) {
        report.bar("CPU an event beyond the store's own, Roost by floor", median(&self.ratios), "×", 1.3);
        report.figure("CPU an event beyond the store's own, Roost", median(&self.ours), "µs");
        report.figure("CPU an event, floor", median(&self.bare), "µs");
        report.figure(
            "CPU a message with no stream open, the store's writing thread",
            median(&self.writing),
            "µs",
        );
        report.figure("CPU a message with no stream open, all other threads", median(&self.sending), "µs");
        report.bar("lost", self.heard.lost as f64, "events", 0.0);
        report.bar("floor, lost", self.floor_lost as f64, "events", 0.0);
        add_faults(report, "streams", &self.heard.tally);
        add_from_answer(report, "201 to receipt", &self.heard.from_answer, None);
        report.latency("due to 201", &self.heard.to_answer, None);
        for (what, rounds) in [
            ("Roost by floor", &self.ratios),
            ("Roost, µs an event", &self.ours),
            ("floor, µs an event", &self.bare),
            ("no streams, µs a message of the writing thread", &self.writing),
            ("no streams, µs a message of all others", &self.sending),
        ] {
            let rounds: Vec<String> = rounds.iter().map(|value| format!("{value:.2}")).collect();
            report.note(format!("{what}: rounds {}", rounds.join(", ")));
        }
        report.note(format!("an event is a block of {block} bytes, on both sides"));
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self { lost: 0, tally: Tally::default(), from_answer: latencies(), to_answer: latencies() }
    }
}

impl Heard {
    /// Adds what was heard of these messages; answers how many events that were.
    fn add(&mut self, scene: &Scene, audience: &Audience, published: &Published, participants: usize) -> u64 {
        let joined = join(&audience.take_receipts(), &published.messages, &scene.board);
        self.lost += scene.board.lost(published.numbers.clone(), participants as u32);
        self.tally.add(&audience.tally());
        self.tally.repeated += joined.repeated;
        // All have the same bounds, so that adding cannot fail.
        let _same_bounds = self.from_answer.add(&joined.from_answer);
        let _same_bounds = self.to_answer.add(&published.to_answer);
        joined.delivered
    }
}
