//! A store and a plain model of one, side by side: whatever is done, in whatever order, both answer
//! the same and show the same.

use super::TestStore;
use super::fixture::first;
use super::step::{Doing, MAX_FOLLOWEES, Outcome, Step, USERS, begin, spelled, was_there};
use roost::model::cursor::Seq;
use roost::model::id::{PostId, UserId};
use roost::model::user::Username;
use roost::storage::{BACKFILL_POSTS, EntryChange, Missed, NewUser, Registration, TimelineFrom};
use std::collections::{BTreeMap, BTreeSet};

struct Post {
    id: PostId,
    author: usize,
    seq: Seq,
    deleted: Option<Seq>,
    likers: BTreeSet<usize>,
}

struct Follow {
    since: Seq,
    /// The posts that it brought, and those that came since, by number.
    sees: BTreeSet<usize>,
}

/// What the store is to hold of one case.
struct Model {
    users: Vec<UserId>,
    names: Vec<String>,
    posts: Vec<Post>,
    /// By who follows whom; in order of the follows for each pair's place.
    follows: BTreeMap<(usize, usize), (u64, Follow)>,
    follows_made: u64,
    head: Seq,
    start: Seq,
}

/// Runs one case on a store that others ran on before.
pub async fn check(store: &TestStore, prefix: &str, steps: &[Step]) {
    let mut model = Model::start(store, prefix).await;
    let mut drafted = Vec::new();
    let mut doing = Vec::new();
    for step in steps.iter().copied().chain([Step::Look(1)]) {
        match step {
            Step::Look(viewer) => {
                for (step, done) in doing.drain(..) {
                    model.settle(step, done).await;
                }
                model.compare(store, viewer).await;
            }
            Step::Burst(user, count) => {
                doing.extend(
                    (0..count).map(|_| begin(store, &model.users, &mut drafted, prefix, Step::Post(user))),
                );
            }
            step => doing.push(begin(store, &model.users, &mut drafted, prefix, step)),
        }
        // A burst is one author's: it is done in the order of its calls anywhere.
        if !store.is_ordered() {
            for (step, done) in doing.drain(..) {
                model.settle(step, done).await;
            }
        }
    }
}

impl Model {
    async fn start(store: &TestStore, prefix: &str) -> Self {
        let names: Vec<_> = (0..USERS).map(|number| format!("{prefix}-u{number}")).collect();
        let mut users = Vec::new();
        for name in &names {
            let new = NewUser { username: Username::parse(name).unwrap(), ..store.new_user(name) };
            let made = store.engine.register(new).await.unwrap();
            let Registration::Made(user) = made else { panic!("{name}: {made:?}") };
            users.push(user.id);
        }
        let head = store.engine.head().await.unwrap();
        Self { users, names, posts: Vec::new(), follows: BTreeMap::new(), follows_made: 0, head, start: head }
    }

    /// Does a step that the store has done, and holds its answer against the model's.
    async fn settle(&mut self, (step, id): (Step, Option<PostId>), doing: Doing) {
        let (outcome, seq) = doing.await;
        let expected = self.apply(step, id, seq);
        assert_eq!(outcome, expected, "{step:?}");
        if let (Step::Post(_) | Step::Delete(..), Some(seq)) = (step, seq) {
            assert!(seq > self.head, "{seq:?} behind {:?}", self.head);
            self.head = seq;
        }
    }

    fn apply(&mut self, step: Step, id: Option<PostId>, seq: Option<Seq>) -> Outcome {
        let number = id.and_then(|id| self.posts.iter().position(|post| post.id == id));
        let living = number.filter(|number| self.posts[*number].deleted.is_none());
        match step {
            Step::Post(author) => {
                let number = self.posts.len();
                let (Some(id), Some(seq)) = (id, seq) else { panic!("a post without id or place") };
                self.posts.push(Post { id, author, seq, deleted: None, likers: BTreeSet::new() });
                for ((_, followee), (_, follow)) in &mut self.follows {
                    if *followee == author {
                        assert!(seq > follow.since, "{seq:?} is new to who followed before");
                        follow.sees.insert(number);
                    }
                }
                Outcome::Done
            }
            Step::Delete(user, _) => match living.map(|number| &mut self.posts[number]) {
                Some(post) if post.author == user => {
                    post.deleted = seq;
                    Outcome::Done
                }
                Some(_) => Outcome::Forbidden,
                None => Outcome::Missing,
            },
            Step::Like(user, _) => match living {
                Some(number) if self.posts[number].likers.insert(user) => Outcome::Done,
                Some(_) => Outcome::Already,
                None => Outcome::Missing,
            },
            Step::Unlike(user, _) => {
                was_there(living.is_some_and(|number| self.posts[number].likers.remove(&user)))
            }
            Step::Follow(from, to) => self.follow(from, to, seq),
            Step::Unfollow(from, to) => was_there(self.follows.remove(&(from, to)).is_some()),
            Step::Rename(user, name) => self.rename(user, name),
            Step::Burst(..) | Step::Look(_) => unreachable!("no call of the store"),
        }
    }

    fn follow(&mut self, from: usize, to: usize, since: Option<Seq>) -> Outcome {
        if self.follows.contains_key(&(from, to)) {
            return Outcome::Already;
        }
        if self.followees(from).count() as u64 >= MAX_FOLLOWEES {
            return Outcome::TooMany;
        }
        let living =
            |number: &usize| self.posts[*number].author == to && self.posts[*number].deleted.is_none();
        let sees = (0..self.posts.len()).rev().filter(living).take(BACKFILL_POSTS).collect();
        let Some(since) = since else { panic!("it was not followed") };
        let of_followee = self.posts.iter().filter(|post| post.author == to);
        let newest = of_followee.map(|post| post.deleted.unwrap_or(post.seq)).max();
        assert!(newest.is_none_or(|newest| newest <= since), "{newest:?} was before the follow");
        self.follows_made += 1;
        self.follows.insert((from, to), (self.follows_made, Follow { since, sees }));
        Outcome::Done
    }

    fn rename(&mut self, user: usize, name: usize) -> Outcome {
        let prefix = self.names[user].to_lowercase();
        let prefix = prefix.rsplit_once('-').map(|(prefix, _)| prefix.to_owned()).unwrap();
        let name = spelled(&prefix, name);
        let is_taken = self
            .names
            .iter()
            .enumerate()
            .any(|(other, taken)| other != user && taken.eq_ignore_ascii_case(&name));
        if is_taken {
            return Outcome::Already;
        }
        self.names[user] = name;
        Outcome::Done
    }

    fn followees(&self, user: usize) -> impl Iterator<Item = usize> {
        self.follows.keys().filter(move |(from, _)| *from == user).map(|(_, to)| *to)
    }

    /// The posts on a user's timeline by number, newest first.
    fn timeline(&self, user: usize) -> Vec<usize> {
        let on_it = |number: &usize| {
            let post = &self.posts[*number];
            let is_seen = self
                .follows
                .get(&(user, post.author))
                .is_some_and(|(_, follow)| follow.sees.contains(number));
            post.deleted.is_none() && (post.author == user || is_seen)
        };
        (0..self.posts.len()).rev().filter(on_it).collect()
    }

    /// The places of what a user missed behind a place, in order.
    fn missed(&self, user: usize, after: Seq) -> Vec<Seq> {
        let mut missed = Vec::new();
        for post in &self.posts {
            let since = match self.follows.get(&(user, post.author)) {
                Some((_, follow)) => follow.since,
                None if post.author == user => Seq(0),
                None => continue,
            };
            let place = post.deleted.unwrap_or(post.seq);
            missed.extend((place > after.max(since)).then_some(place));
        }
        missed.sort();
        missed
    }

    /// Everything that can be seen, through the eyes of one user.
    async fn compare(&self, store: &TestStore, viewer: usize) {
        let (engine, id) = (&store.engine, self.users[viewer]);
        for (number, user) in self.users.iter().enumerate() {
            let profile = engine.profile(*user, id).await.unwrap().unwrap();
            let followers = self.follows.keys().filter(|(_, to)| *to == number).count();
            let living: Vec<_> = self
                .posts
                .iter()
                .rev()
                .filter(|post| post.author == number && post.deleted.is_none())
                .collect();
            let counts = (profile.posts, profile.followers, profile.following);
            let expected = (living.len() as u64, followers as u64, self.followees(number).count() as u64);
            assert_eq!(counts, expected, "counts of user {number}");
            assert_eq!(profile.is_following, self.follows.contains_key(&(viewer, number)));
            assert_eq!(profile.user.username, self.names[number]);

            let listed = engine.by_author(*user, id, first(1_000)).await.unwrap().unwrap();
            let seen: Vec<_> =
                listed.items.iter().map(|(_, view)| (view.post.id, view.post.likes, view.is_liked)).collect();
            let expected: Vec<_> = living
                .iter()
                .map(|post| (post.id, post.likers.len() as u64, post.likers.contains(&viewer)))
                .collect();
            assert_eq!((seen, listed.total), (expected, living.len() as u64), "posts of user {number}");
        }
        self.compare_follows(store, viewer).await;
        self.compare_timeline(store, viewer).await;
    }

    async fn compare_follows(&self, store: &TestStore, viewer: usize) {
        let mut newest_first: Vec<_> = self.follows.iter().collect();
        newest_first.sort_by_key(|(_, (made, _))| std::cmp::Reverse(*made));
        let ids = |own: fn(&(usize, usize)) -> usize, other: fn(&(usize, usize)) -> usize| -> Vec<_> {
            let of_viewer = newest_first.iter().filter(|(pair, _)| own(pair) == viewer);
            of_viewer.map(|(pair, _)| self.users[other(pair)]).collect()
        };
        let user = self.users[viewer];
        let following = store.engine.following(user, first(100)).await.unwrap().unwrap();
        let seen: Vec<_> = following.items.iter().map(|(_, named)| named.id).collect();
        assert_eq!(seen, ids(|pair| pair.0, |pair| pair.1));
        let followers = store.engine.followers(user, first(100)).await.unwrap().unwrap();
        let seen: Vec<_> = followers.items.iter().map(|(_, named)| named.id).collect();
        assert_eq!(seen, ids(|pair| pair.1, |pair| pair.0));
    }

    async fn compare_timeline(&self, store: &TestStore, viewer: usize) {
        let (engine, user) = (&store.engine, self.users[viewer]);
        let expected: Vec<_> = self.timeline(viewer).iter().map(|number| self.posts[*number].seq).collect();
        assert_eq!(store.timeline(user, 800).await, expected);
        assert_eq!(engine.total(user).await.unwrap(), expected.len() as u64);
        let middle = expected.len() / 2;
        if let Some(place) = expected.get(middle) {
            let rest = store.list(user, TimelineFrom::Before(*place), 5).await;
            assert_eq!(rest, expected[middle + 1..].iter().copied().take(5).collect::<Vec<_>>());
        }
        let half = self.posts.get(self.posts.len() / 2).map_or(self.start, |post| post.seq);
        for after in [self.start, half, self.head] {
            let missed = engine.since(user, store.cursor(after)).await.unwrap();
            let Missed::Entries { entries, told: covered } = missed else { panic!("{missed:?}") };
            assert!(entries.iter().all(|entry| covered.covers(entry.seq)));
            assert!(!covered.covers(Seq(self.head.0 + 1)), "what comes was not covered");
            let told: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
            assert_eq!(told, self.missed(viewer, after), "behind {after:?}");
            for entry in &entries {
                let is_living = matches!(entry.change, EntryChange::Posted { .. });
                assert_eq!(is_living, self.posts.iter().any(|post| post.seq == entry.seq));
            }
        }
    }
}
