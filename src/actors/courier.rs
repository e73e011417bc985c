//! `Courier`: does again what did not finish, and sends what is to be sent.
//!
//! One a node, supervised by the `Node`, which starts it anew when it ends; it keeps nothing of its own.
//! Entries that no relay was handed are brought again, first after 0.7 s, by their authors, until they
//! arrive; deliveries that are done are marked so in groups; events are sent where they are wanted, tried three
//! times and then buried. Its mailbox holds one tick, the next being set when one is done.

use super::authors::Authors;
use super::watermark::Watermark;
use crate::events::outlets::Outlets;
use crate::model::timestamp::Timestamp;
use crate::storage::{EntryObserver, EventJob, Jobs, StorageError};
use crate::telemetry::metric;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// Rounds between two times that deliveries are marked done: each is a commit, and one that a crash forgets
/// is only made again.
const MARK_EVERY: u32 = 5;
/// Rounds between two looks at what nodes left unfinished.
const TEND_EVERY: u32 = 30;
/// Events that are sent at once.
const SENDING: usize = 32;
/// How often an event is tried, and how long it waits before the second and the third time.
const TRIES: u32 = 3;
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// What the courier is told.
pub enum CourierMsg {
    /// Look around.
    Round,
}

/// The actor.
pub struct Courier;

/// What the courier stands on.
#[derive(Clone)]
pub struct CourierArguments {
    /// What remains to be done.
    pub jobs: Arc<dyn Jobs>,
    /// Who brings entries again.
    pub authors: Arc<Authors>,
    /// What is on its way.
    pub watermark: Arc<Watermark>,
    /// Where events go, if anywhere.
    pub outlets: Option<Arc<Outlets>>,
}

/// What the courier knows.
pub struct CourierState {
    arguments: CourierArguments,
    rounds: u32,
    /// The events of one round, on their way.
    sending: Option<JoinHandle<()>>,
    /// What nodes left unfinished is being finished.
    tending: Option<JoinHandle<()>>,
}

impl Actor for Courier {
    type Msg = CourierMsg;
    type State = CourierState;
    type Arguments = CourierArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<CourierMsg>,
        arguments: CourierArguments,
    ) -> Result<CourierState, ActorProcessingErr> {
        myself.send_message(CourierMsg::Round)?;
        Ok(CourierState { arguments, rounds: 0, sending: None, tending: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<CourierMsg>,
        CourierMsg::Round: CourierMsg,
        state: &mut CourierState,
    ) -> Result<(), ActorProcessingErr> {
        state.redrive().await;
        if state.rounds.is_multiple_of(MARK_EVERY) {
            state.mark_delivered().await;
        }
        if state.rounds.is_multiple_of(TEND_EVERY) {
            state.tend();
        }
        state.rounds = state.rounds.wrapping_add(1);
        state.send_events();
        myself.send_after(ROUND, || CourierMsg::Round);
        Ok(())
    }
}

impl CourierState {
    async fn redrive(&self) {
        for author in self.arguments.watermark.stalled() {
            if let Err(error) = self.arguments.authors.redrive(author).await {
                tracing::warn!(%author, %error, "unfinished entries of {author} wait: {error}");
            }
        }
    }

    async fn mark_delivered(&self) {
        let CourierArguments { jobs, watermark, .. } = &self.arguments;
        let arrived = watermark.take_arrived();
        if arrived.is_empty() {
            return;
        }
        if let Err(error) = jobs.delivered(arrived.clone()).await {
            tracing::warn!(%error, "deliveries could not be marked done: {error}");
            watermark.put_back_arrived(arrived);
        }
    }

    /// Starts finishing what nodes left unfinished, if that is not under way.
    fn tend(&mut self) {
        if self.tending.as_ref().is_some_and(|tending| !tending.is_finished()) {
            return;
        }
        let CourierArguments { jobs, watermark, .. } = self.arguments.clone();
        self.tending = Some(tokio::spawn(async move {
            match jobs.tend().await {
                Ok(opened) if opened.is_empty() => {}
                Ok(opened) => {
                    opened.iter().for_each(|(seq, author)| watermark.entering(*seq, *author));
                    watermark.recover();
                }
                Err(error) => tracing::warn!(%error, "what was left unfinished waits: {error}"),
            }
        }));
    }

    /// Starts the next round of sending, if the one before is over.
    fn send_events(&mut self) {
        let Some(outlets) = &self.arguments.outlets else { return };
        if self.sending.as_ref().is_some_and(|sending| !sending.is_finished()) {
            return;
        }
        let (jobs, outlets) = (self.arguments.jobs.clone(), outlets.clone());
        self.sending = Some(tokio::spawn(async move {
            if let Err(error) = send_due(&*jobs, &outlets).await {
                tracing::warn!(%error, "events wait: {error}");
            }
        }));
    }
}

/// Sends what is due, until nothing is.
async fn send_due(jobs: &dyn Jobs, outlets: &Outlets) -> Result<(), StorageError> {
    loop {
        let due = jobs.due_events(Timestamp::now(), SENDING).await?;
        if due.is_empty() {
            return Ok(());
        }
        let mut sending: FuturesUnordered<_> =
            due.into_iter().map(|job| async move { (outlets.send(job.id, &job.event).await, job) }).collect();
        let mut sent = Vec::new();
        while let Some((outcome, job)) = sending.next().await {
            match outcome {
                Ok(()) => sent.push(job.id),
                Err(error) => failed(jobs, outlets, &job, &error).await?,
            }
        }
        metrics::counter!(metric::EVENTS_SENT, "outcome" => "accepted").increment(sent.len() as u64);
        jobs.sent(sent).await?;
    }
}

async fn failed(jobs: &dyn Jobs, outlets: &Outlets, job: &EventJob, error: &str) -> Result<(), StorageError> {
    let tries = job.attempts + 1;
    let outcome = if tries >= TRIES { "buried" } else { "failed" };
    metrics::counter!(metric::EVENTS_SENT, "outcome" => outcome).increment(1);
    if tries >= TRIES {
        tracing::warn!(job = job.id, error, "event {} is a dead letter: {error}", job.id);
        outlets.forget(job.id);
        return jobs.bury(job.id, error.to_owned(), Timestamp::now()).await;
    }
    let wait = BACKOFF[(tries - 1) as usize];
    jobs.postpone(job.id, Timestamp::now().after(wait)).await
}
