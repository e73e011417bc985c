//! The store of a cluster: ScyllaDB, or Apache Cassandra 5, by CQL.
//!
//! [`schema.cql`](../schema.cql) is the whole schema and says what kinds of rows there are. Timelines are
//! written: an entry is fanned out to those who follow its author, unless those are so many that it is
//! read from the author instead ([`FanOut`](super::FanOut)). What takes several writes has a job, written first
//! and done when all of them are: a process that ends in between is followed by one that does the rest
//! ([`Jobs::take_over`](super::Jobs)). An author's posts and deletions go through its lane (`lane`), one
//! after the other; each is a lightweight transaction on the author's row. Statements are prepared once.
//!
//! Nothing here blocks a thread. Calls under way are bounded; beyond that they are refused.

mod accounts;
mod backfill;
mod chats;
mod claim;
mod connect;
mod cql;
mod entries;
mod events;
mod fan_out;
mod followers;
mod following;
mod home;
mod in_flight;
mod jobs;
mod lane;
mod likes;
mod logins;
mod missed;
mod moving;
mod names;
mod numbers;
mod outside;
mod posts;
mod readers;
mod recovery;
mod repeats;
mod replication;
mod rooms;
mod schema;
mod shown;
mod sources;
mod stamp;
mod sweep;
mod timelines;
mod told;
mod totals;
mod tries;
mod turns;
mod upkeep;
mod users;
mod wide;
mod window;

pub use claim::{Claim, ClaimError, Claimant};
pub use connect::{Access, OpenError};
pub use moving::Mover;
pub use replication::{Replication, ReplicationError};
pub use schema::{SCHEMA, SchemaError, Status, VERSION};

use super::circuit::CircuitState;
use super::{EntryObserver, Pending, StorageError};
use crate::model::cursor::StoreName;
use cql::Cql;
use stamp::Clock;
use std::future::{Future, ready};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Calls that may be under way at once.
const CALLS: usize = 4_096;
/// Of what was missed behind a cursor so much is read at once: each reads hundreds of posts, and others are to be served
/// meanwhile.
const RESUMES: usize = 8;

/// What a store is opened with.
pub struct Options {
    /// The cluster and the keyspace.
    pub access: Access,
    /// Whether every change is queued as an event.
    pub events: bool,
    /// Who hears of entries before they can be read.
    pub observer: Arc<dyn EntryObserver>,
    /// An author with more followers is wide: its entries are read, not fanned out.
    pub wide_author_followers: u64,
    /// How many nodes use the keyspace at a time.
    pub nodes: Nodes,
}

/// How many nodes use a keyspace at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// One: whatever is found half-way was left by a former run, and is finished at once.
    One,
    /// Several: what is found half-way may be under way elsewhere, for a minute. Clocks differ.
    Many,
}

/// An open store. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// What all parts of the store share.
struct Inner {
    cql: Cql,
    nodes: Nodes,
    name: StoreName,
    clock: Clock,
    observer: Arc<dyn EntryObserver>,
    sends_events: bool,
    wide_author_followers: u64,
    calls: Arc<Semaphore>,
    resumes: Semaphore,
    jobs: jobs::Jobs,
    home: home::Home,
    lanes: lane::Lanes,
    in_flight: in_flight::InFlight,
    entries: entries::Statements,
    backfills: backfill::Statements,
    chats: chats::Chats,
    followers: followers::Followers,
    following: following::Following,
    likes: likes::Likes,
    fan_outs: fan_out::Statements,
    sources: sources::Statements,
    reading: timelines::Statements,
    readers: readers::Readers,
    rooms: rooms::Rooms,
    missed: missed::Statements,
    shown: shown::Statements,
    wide: wide::Wide,
    totals: totals::Statements,
    accounts: accounts::Statements,
    users: users::Users,
    names: names::Statements,
    outside: outside::Statements,
    logins: logins::Statements,
    events: events::Events,
    recovery: recovery::Statements,
    told: told::Statements,
    sweeping: sweep::Statements,
    upkeep: upkeep::Statements,
}

impl Store {
    /// Opens the store; the keyspace and its tables are made where there are none.
    ///
    /// # Errors
    /// Why not, in one line.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let access = options.access.clone();
        let store = Self::open_any(options).await?;
        match store.is_unfinished().await {
            Ok(false) => Ok(store),
            Ok(true) => Err(OpenError::HalfCopied { keyspace: access.keyspace }),
            Err(error) => Err(access.unusable(&error)),
        }
    }

    /// Opens the store, whole or not.
    async fn open_any(options: Options) -> Result<Self, OpenError> {
        let Options { access, events, observer, wide_author_followers, nodes } = options;
        let cql = Cql::new(access.open().await?, &access.keyspace);
        let opened = async {
            let name = schema::store_name(&cql).await?;
            let number = match nodes {
                Nodes::One => None,
                Nodes::Many => Some(numbers::Number::take(&cql).await?),
            };
            let reading = tokio::try_join!(
                fan_out::Statements::prepare(&cql),
                sources::Statements::prepare(&cql),
                timelines::Statements::prepare(&cql),
                missed::Statements::prepare(&cql),
                told::Statements::prepare(&cql),
                shown::Statements::prepare(&cql),
                wide::Wide::prepare(&cql),
                totals::Statements::prepare(&cql),
            )?;
            let people = tokio::try_join!(
                accounts::Statements::prepare(&cql),
                users::Users::prepare(&cql),
                names::Statements::prepare(&cql),
                outside::Statements::prepare(&cql),
                logins::Statements::prepare(&cql),
            )?;
            let parts = tokio::try_join!(
                jobs::Jobs::prepare(&cql),
                lane::Lanes::prepare(&cql),
                entries::Statements::prepare(&cql),
                backfill::Statements::prepare(&cql),
                followers::Followers::prepare(&cql),
                following::Following::prepare(&cql),
                likes::Likes::prepare(&cql),
                events::Events::prepare(&cql),
            )?;
            let kept = tokio::try_join!(
                home::Home::prepare(&cql),
                recovery::Statements::prepare(&cql),
                sweep::Statements::prepare(&cql),
                upkeep::Statements::prepare(&cql),
                chats::Chats::prepare(&cql),
                rooms::Rooms::prepare(&cql),
            )?;
            Ok::<_, StorageError>((name, number, reading, people, parts, kept))
        };
        let (name, number, reading, people, parts, kept) =
            opened.await.map_err(|error| access.unusable(&error))?;
        let (jobs, lanes, entries, backfills, followers, following, likes, queued) = parts;
        let (home, recovery, sweeping, upkeep, chats, rooms) = kept;
        let (accounts, users, names, outside, logins) = people;
        let (fan_outs, sources, reading, missed, told, shown, wide, totals) = reading;
        let store = Self(Arc::new(Inner {
            cql,
            nodes,
            name,
            clock: Clock::of(number.as_ref().map_or(0, numbers::Number::value)),
            observer,
            sends_events: events,
            wide_author_followers,
            calls: Arc::new(Semaphore::new(CALLS)),
            resumes: Semaphore::new(RESUMES),
            jobs,
            home,
            lanes,
            in_flight: in_flight::InFlight::default(),
            entries,
            backfills,
            chats,
            followers,
            following,
            likes,
            fan_outs,
            sources,
            reading,
            readers: readers::Readers::new(),
            rooms,
            missed,
            told,
            shown,
            wide,
            totals,
            accounts,
            users,
            names,
            outside,
            logins,
            events: queued,
            recovery,
            sweeping,
            upkeep,
        }));
        if let Some(number) = number {
            tokio::spawn(number.keep(Arc::downgrade(&store.0)));
        }
        Ok(store)
    }

    /// What its circuit does.
    #[must_use]
    pub fn circuit(&self) -> CircuitState {
        self.0.cql.circuit()
    }

    /// How many requests it has sent to the cluster.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.cql.requests()
    }

    /// A change: begun now, and done to its end though nobody waits for it.
    fn change<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Pending<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
    {
        let Ok(place) = self.0.calls.clone().try_acquire_owned() else {
            return refuse("too many calls are under way");
        };
        let work = work(self.0.clone());
        let done = tokio::spawn(async move {
            let outcome = work.await;
            drop(place);
            outcome
        });
        Box::pin(async move {
            done.await.unwrap_or_else(|error| {
                let why = format!("a call ended: {error}");
                // The process ends: it may have been done.
                Err(if error.is_cancelled() {
                    StorageError::Unavailable(why)
                } else {
                    StorageError::Refused(why)
                })
            })
        })
    }

    /// A reading: done as far as somebody waits for it.
    fn read<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Pending<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
    {
        let Ok(place) = self.0.calls.clone().try_acquire_owned() else {
            return refuse("too many calls are under way");
        };
        let work = work(self.0.clone());
        Box::pin(async move {
            let outcome = work.await;
            drop(place);
            outcome
        })
    }
}

fn refuse<T: Send + 'static>(why: &str) -> Pending<T> {
    Box::pin(ready(Err(StorageError::Unavailable(why.to_owned()))))
}
