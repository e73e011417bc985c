//! People who use several nodes at once as good clients do, while a test breaks them, and what came of it: authors who
//! send a post again until it is answered, followers who come back with their cursor, each through any node.
//!
//! [`Crowd::settle`] ends the load, waits until everything that was answered has arrived, and tells what was lost,
//! doubled or out of order: it judges nothing itself.

mod follower;
mod ledger;
mod poster;
mod tally;

pub use tally::Tally;

use super::dice::Dice;
use super::person::Person;
use super::rest::{Answer, Call, Rest};
use super::{PATIENCE, soon};
use follower::Follower;
use futures_util::future::join_all;
use ledger::Ledger;
use poster::Poster;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a client waits for an answer before it asks elsewhere.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of one client.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Lost posts that are asked for, at the end.
const EXPLAINED: usize = 3;

/// How many they are, and how busy.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub authors: usize,
    /// One more is an author, and one more begins to follow under way.
    pub followers: usize,
    /// Between two posts of one author, while it has most of its posts before it.
    pub pace: Duration,
    /// Posts of all authors together; a timeline and a replay hold 800 entries.
    pub posts: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { authors: 4, followers: 5, pace: Duration::from_millis(100), posts: 600 }
    }
}

/// What they are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Go on.
    Acting,
    /// Begin nothing new.
    Ending,
    /// Leave it.
    Over,
}

/// Those who act until they settle; dropped, they are gone.
pub struct Crowd {
    authors: Vec<Person>,
    ledger: Arc<Ledger>,
    phase: watch::Sender<Phase>,
    posting: JoinSet<()>,
    followers: Vec<Arc<Follower>>,
    listening: JoinSet<()>,
}

/// The ways in, and the choice of one.
#[derive(Clone)]
pub struct Doors {
    all: Arc<Vec<Rest>>,
    dice: Dice,
}

impl Doors {
    pub fn new(all: Vec<Rest>, dice: Dice) -> Self {
        Self { all: Arc::new(all), dice }
    }

    /// The same for somebody else.
    fn split(&mut self) -> Self {
        Self { all: Arc::clone(&self.all), dice: self.dice.split() }
    }

    fn any(&mut self) -> &Rest {
        &self.all[self.dice.below(self.all.len())]
    }

    /// Asks at one node; none where there was no answer in time.
    async fn ask(&mut self, call: impl Fn(&Rest) -> Call) -> Option<Answer> {
        let asking = call(self.any()).attempt();
        tokio::time::timeout(CLIENT_PATIENCE, asking).await.ok()?.ok()
    }
}

impl Crowd {
    /// All know each other and are connected; then the authors begin.
    pub async fn gather(doors: Vec<Rest>, name: &str, mut dice: Dice, size: Size) -> Self {
        let mut doors = Doors::new(doors, dice.split());
        let mut names = (0..size.authors).map(|n| format!("{name}-{n}")).collect::<Vec<_>>();
        names.extend((0..=size.followers).map(|n| format!("{name}-f{n}")));
        let people: Vec<_> = names.iter().map(|name| (doors.any().clone(), name)).collect();
        let people = join_all(people.iter().map(|(door, name)| door.person(name))).await;
        let (authors, followers) = people.split_at(size.authors);
        let ledger = Arc::new(Ledger::new());
        let phase = watch::Sender::new(Phase::Acting);

        let (late, early) = followers.split_last().expect("one at least");
        let early: Vec<_> = authors.first().into_iter().chain(early).collect();
        join_all(early.iter().map(|person| follows_all(person, authors))).await;
        let mut all = Vec::new();
        let mut listening = JoinSet::new();
        for (number, person) in early.into_iter().chain([late]).enumerate() {
            // Every third cuts its own connection now and then.
            let follower =
                Arc::new(Follower::new(person.clone(), doors.split(), Arc::clone(&ledger), number % 3 == 2));
            listening.spawn(Arc::clone(&follower).listens(dice.split(), phase.subscribe()));
            all.push(follower);
        }
        let last = all.pop().expect("the late one");
        for follower in &all {
            authors.iter().for_each(|author| follower.hears(&author.id));
        }
        all.push(Arc::clone(&last));
        join_all(all.iter().map(|follower| soon("it connects", follower.is_connected()))).await;

        let mut posting = JoinSet::new();
        posting.spawn(last.begins_to_follow(authors.to_vec(), phase.subscribe()));
        for (number, author) in authors.iter().enumerate() {
            let poster =
                Poster::new(number, author.clone(), doors.split(), Arc::clone(&ledger), dice.split());
            posting.spawn(poster.posts(size.pace, size.posts / size.authors, phase.subscribe()));
        }
        Self { authors: authors.to_vec(), ledger, phase, posting, followers: all, listening }
    }

    /// Posts that were answered so far.
    pub fn posted(&self) -> usize {
        self.ledger.posted()
    }

    /// So many more are answered.
    pub async fn posts(&self, more: usize) {
        let enough = self.posted() + more;
        soon("they post on", self.ledger.reaches(enough)).await;
    }

    /// One of its posts is deleted behind its back: it will be missed.
    pub async fn loses_one(&self) {
        let (id, author) = self.ledger.read(|pages| {
            let kept = pages.posts.iter().find(|(id, _)| !pages.deleted.contains_key(*id));
            kept.map(|(id, post)| (id.clone(), post.author.clone())).expect("it posted")
        });
        let author = self.authors.iter().find(|person| person.id == author).expect("one of them");
        author.deletes(&id).await;
    }

    /// The end: what was answered has arrived, or has not in `PATIENCE`.
    pub async fn settle(self) -> Tally {
        self.settle_within(PATIENCE).await
    }

    /// The same, and everything may take so long.
    pub async fn settle_within(mut self, patience: Duration) -> Tally {
        self.phase.send_replace(Phase::Ending);
        let ended = async { while self.posting.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, ended).await;
        self.phase.send_replace(Phase::Over);
        // Whoever was told to leave it does so within a client's patience.
        soon("they leave it", async {
            while let Some(ended) = self.posting.join_next().await {
                ended.expect("an author ends in order");
            }
        })
        .await;
        let hearing = join_all(self.followers.iter().map(|follower| follower.has_heard_all()));
        let _ = tokio::time::timeout(patience, hearing).await;
        let ended_early = self.listening.try_join_next().is_some();
        self.listening.shutdown().await;
        let mut tally = self.ledger.tally();
        if ended_early {
            tally.odd.push("a follower ended by itself".to_owned());
        }
        let told = join_all(self.followers.iter().map(|follower| follower.tells(patience)));
        told.await.into_iter().for_each(|part| tally.add(part));
        self.explain(&mut tally).await;
        tally
    }

    /// What the server itself says of posts that were lost.
    async fn explain(&self, tally: &mut Tally) {
        let lost = |id: &&String| tally.lost.iter().any(|line| line.contains(id.as_str()));
        let posts = self.ledger.read(|pages| {
            let told =
                |id: &String| (id.clone(), pages.posts[id].author.clone(), pages.posts[id].when.clone());
            pages.posts.keys().filter(lost).take(EXPLAINED).map(told).collect::<Vec<_>>()
        });
        let mut explained = Vec::new();
        for (id, author, when) in posts {
            let author = self.authors.iter().find(|person| person.id == author).expect("one of them");
            let post = author.get(&format!("/posts/{id}")).attempt().await;
            let answer =
                post.map_or_else(|error| error.to_string(), |post| format!("{} {}", post.status, post.text));
            explained.push(format!("{id} was answered at {when}, and asked for now: {answer}"));
        }
        tally.lost.splice(0..0, explained);
    }
}

async fn follows_all(person: &Person, authors: &[Person]) {
    for author in authors.iter().filter(|author| author.id != person.id) {
        person.follows(author).await;
    }
}
