//! `rooms`: a crowd presses in one room: how fast, how soon the host knows, and what rooms weigh.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hyper::Method;

use crate::bare_route::BareRoute;
use crate::client::Caller;
use crate::crowd::{Effect, Host, Plan, Press, Pressed, Until, make_room};
use crate::error::{Error, Result};
use crate::people::{Person, register};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::server::Server;
use crate::stats::{Report, latencies, mebibytes, median, micros_each};

/// A base whose threshold is the highest, 100, whatever the viewers.
const HIGH: u32 = 100;
/// A base whose threshold is the lowest, 3, of few viewers.
const LOW: u32 = 3;
/// What is under way at the end arrives within so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rooms that come before the memory of an empty server is read.
const WARM_UP: usize = 200;
/// Rooms that are made at the same time.
const MAKERS: usize = 32;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Viewers who press in one room.
    #[arg(long, default_value_t = 100_000)]
    viewers: usize,
    /// Connections, each with one press under way.
    #[arg(long, default_value_t = 128)]
    connections: usize,
    /// Seconds of a round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of the room and of the bare route, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Presses a second while the way to the host is timed.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Rooms that fill up: with 10,000 viewers and 100,000 presses each.
    #[arg(long, default_value_t = 5)]
    full_rooms: usize,
    /// Rooms that wait, then with a host each.
    #[arg(long, default_value_t = 10_000)]
    idle_rooms: usize,
}

/// Runs it.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report> {
    let progress = Progress::new("rooms");
    let mut report = Report::new("rooms");
    let mut server = settings.start_server().await?;
    let owner = register(server.address(), "host", 1, &progress).await?.remove(0);
    let scene = Scene { arguments, progress: &progress, owner: &owner };
    scene.rush(&server, settings, &mut report).await?;
    scene.way_to_the_host(&server, &mut report).await?;
    restart(&mut server).await?;
    scene.full_rooms(&server, &mut report).await?;
    restart(&mut server).await?;
    scene.idle_rooms(&server, &mut report).await?;
    server.end().await?;
    Ok(report)
}

/// Memory that was left behind would be used again, and hide what is measured next.
async fn restart(server: &mut Server) -> Result<()> {
    server.stop().await?;
    server.start_again().await
}

#[derive(Debug)]
struct Scene<'a> {
    arguments: &'a Arguments,
    progress: &'a Progress,
    owner: &'a Person,
}

impl Scene<'_> {
    /// As fast as they are answered, by turns with a route that does nothing.
    async fn rush(&self, server: &Server, settings: &Settings, report: &mut Report) -> Result<()> {
        let route = BareRoute::start(&settings.out)?;
        let event_type = "rush".to_owned();
        let mut caller = Caller::new(server.address());
        let room = make_room(&mut caller, self.owner, &[(event_type.clone(), HIGH)]).await?;
        let host = Host::connect(server.address(), self.owner, &room).await?;
        let plan = Plan {
            server: server.address(),
            room,
            event_types: vec![event_type],
            connections: self.arguments.connections,
            viewers: self.arguments.viewers,
            rate: None,
            with_ids: true,
        };
        let bare = Plan { server: route.address(), ..plan.clone() };
        let (mut ours, mut theirs, mut our_cpu, mut their_cpu) = (vec![], vec![], vec![], vec![]);
        let mut all: Option<Pressed> = None;
        let mut pressed_in_all = 0;
        for round in 1..=self.arguments.rounds {
            let until = Until::Elapsed(Duration::from_secs(self.arguments.seconds));
            let _stage = self.progress.spinner(&format!("round {round} of {}", self.arguments.rounds));
            let before = route.usage()?.cpu;
            let pressed = bare.press(until).await;
            theirs.push(pressed.rate());
            their_cpu.push(micros_each(route.usage()?.cpu.saturating_sub(before), pressed.answered as f64));
            let before = server.usage()?.cpu;
            let pressed = plan.press(until).await;
            ours.push(pressed.rate());
            our_cpu.push(micros_each(server.usage()?.cpu.saturating_sub(before), pressed.answered as f64));
            pressed_in_all += pressed.answered;
            all = Some(pressed);
        }
        let last = all.ok_or_else(|| Error::Refused("rounds: at least one".to_owned()))?;
        let expected = pressed_in_all / u64::from(HIGH);
        host.has(expected as usize, PATIENCE).await?;
        report.figure("presses into one room", median(&ours), "/s");
        report.figure("a route that does nothing", median(&theirs), "/s");
        report.figure(
            "the room by that route (bar: at least 0.6, or 20,000/s)",
            median(&ours) / median(&theirs),
            "×",
        );
        report.figure("CPU a press", median(&our_cpu), "µs");
        report.figure("CPU an answer of the route", median(&their_cpu), "µs");
        report.latency("as fast as answered, press to answer", &last.to_answer, None);
        report.bar("presses refused in the last round", last.refused as f64, "", 0.0);
        report.note_refusal(&last);
        report.exactly("effects at the host", host.heard().len() as f64, "", expected as f64);
        report.exactly("effects that did not take 100 presses", wrong(&host.heard()) as f64, "", 0.0);
        Ok(())
    }

    /// From the deciding press to the host.
    async fn way_to_the_host(&self, server: &Server, report: &mut Report) -> Result<()> {
        // Each presses what is its own, so that its deciding presses and the host's effects are in the same order.
        let lanes = 16;
        let names: Vec<String> = (0..lanes).map(|lane| format!("e{lane}")).collect();
        let event_types: Vec<_> = names.iter().map(|name| (name.clone(), LOW)).collect();
        let mut caller = Caller::new(server.address());
        let room = make_room(&mut caller, self.owner, &event_types).await?;
        let host = Host::connect(server.address(), self.owner, &room).await?;
        let _stage = self.progress.spinner("the way to the host");
        let plan = Plan {
            server: server.address(),
            room,
            event_types: names,
            connections: lanes,
            viewers: lanes,
            rate: Some(self.arguments.rate / lanes as f64),
            with_ids: true,
        };
        let pressed = plan.press(Until::Elapsed(Duration::from_secs(2 * self.arguments.seconds))).await;
        host.has(pressed.decided.len(), PATIENCE).await?;
        let mut came: HashMap<String, Vec<u64>> = HashMap::new();
        for effect in host.heard() {
            came.entry(effect.event_type).or_default().push(effect.at);
        }
        let mut taken: HashMap<&str, usize> = HashMap::new();
        let mut way = latencies();
        for (event_type, sent_at) in &pressed.decided {
            let turn = taken.entry(event_type).or_default();
            let at = came.get(event_type).and_then(|came| came.get(*turn)).copied();
            let at = at.ok_or_else(|| Error::Refused("an effect of another event type".to_owned()))?;
            way.saturating_record(at.saturating_sub(*sent_at) / 1_000);
            *turn += 1;
        }
        report.latency("deciding press to the host", &way, Some(10.0));
        report.exactly(
            "effects, more or less",
            host.heard().len() as f64 - pressed.decided.len() as f64,
            "",
            0.0,
        );
        report.note(format!("deciding presses: at {} presses/s", self.arguments.rate));
        report.bar("presses refused meanwhile", pressed.refused as f64, "", 0.0);
        report.note_refusal(&pressed);
        Ok(())
    }

    /// What a room with 10,000 viewers and 100,000 remembered presses weighs.
    async fn full_rooms(&self, server: &Server, report: &mut Report) -> Result<()> {
        let mut weights = Vec::new();
        let mut caller = Caller::new(server.address());
        for number in 0..=self.arguments.full_rooms {
            let room = make_room(&mut caller, self.owner, &[("fill".to_owned(), HIGH)]).await?;
            let plan = Plan {
                server: server.address(),
                room: room.clone(),
                event_types: vec!["fill".to_owned()],
                connections: 40,
                viewers: 10_000,
                rate: None,
                with_ids: true,
            };
            let before = server.anonymous()?;
            let _stage = self.progress.spinner(&format!("room {number} fills up"));
            let pressed = plan.press(Until::Each(2_500)).await;
            if pressed.answered != 100_000 {
                return Err(Error::Refused(format!("{} of 100,000 presses were answered", pressed.answered)));
            }
            let weight = mebibytes(server.anonymous()?) - mebibytes(before);
            // The first one warms the server up.
            if number > 0 {
                weights.push(weight);
            }
        }
        report.bar("memory of a room of 10,000 viewers and 100,000 presses", median(&weights), "MiB", 7.0);
        let weights: Vec<String> = weights.iter().map(|weight| format!("{weight:.1}")).collect();
        report.note(format!("full rooms, MiB each: {}", weights.join(", ")));
        Ok(())
    }

    /// What rooms weigh that wait, pressed once, and what they weigh with a host.
    async fn idle_rooms(&self, server: &Server, report: &mut Report) -> Result<()> {
        let count = self.arguments.idle_rooms;
        self.make_and_press(server, WARM_UP).await?;
        let before = server.anonymous()?;
        let rooms = self.make_and_press(server, count).await?;
        let pressed = server.anonymous()?;
        let bar = self.progress.bar("hosts connect", count as u64);
        let connecting = stream::iter(&rooms).map(async |room| {
            let host = Host::connect(server.address(), self.owner, room).await;
            bar.inc(1);
            host
        });
        let hosts: Vec<Host> = connecting.buffer_unordered(MAKERS).try_collect().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let hosted = server.anonymous()?;
        drop(hosts);
        let each = |full: u64, empty: u64| (full as f64 - empty as f64) / count as f64 / 1024.0;
        report.bar("memory of a room that was pressed once", each(pressed, before), "KiB", 20.0);
        report.figure("the same with a host's socket", each(hosted, before), "KiB");
        report.note(format!("{count} idle rooms of one owner, six event types each"));
        Ok(())
    }

    async fn make_and_press(&self, server: &Server, count: usize) -> Result<Vec<String>> {
        let bar = self.progress.bar("rooms are made", count as u64);
        let share = count.div_ceil(MAKERS);
        let six: Vec<_> = (1..=6).map(|number| (format!("skill{number}"), HIGH)).collect();
        let makers = (0..MAKERS).map(|maker| {
            let (bar, six) = (&bar, &six);
            async move {
                let mut caller = Caller::new(server.address());
                let mut rooms = Vec::new();
                for _ in maker * share..((maker + 1) * share).min(count) {
                    let room = make_room(&mut caller, self.owner, six).await?;
                    let body = Press { event_type: "skill1", viewer_id: "one", press_id: None }.json();
                    let path = format!("/api/rooms/{room}/events");
                    caller
                        .call(Method::POST, &path, None, Some(body))
                        .await?
                        .json::<serde_json::Value>(200, "a press")?;
                    rooms.push(room);
                    bar.inc(1);
                }
                Ok::<_, Error>(rooms)
            }
        });
        Ok(futures_util::future::try_join_all(makers).await?.concat())
    }
}

impl Report {
    fn note_refusal(&mut self, pressed: &Pressed) {
        if let Some(refusal) = &pressed.first_refusal {
            self.note(format!("the first refusal was {refusal}"));
        }
    }
}

/// Effects that took another number of presses than the highest threshold.
fn wrong(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| effect.trigger_count != u64::from(HIGH)).count()
}
