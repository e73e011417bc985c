//! Many who do what they like to the same few users and posts at once, and what must hold afterwards
//! whatever came of it: answers, lists, counts, timelines and events tell the same story.
//!
//! A call that was not answered, or only by that the store is unavailable, may have been done or not: what it
//! was about is *unsure*, and only has to be the same wherever it is looked at.

use super::TestStore;
use super::fixture::{a_follow, a_key, a_like, first};
use crate::harness::dice::Dice;
use roost::model::cursor::Seq;
use roost::model::id::{PostId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::{Appended, Deletion, Entry, EntryChange, Followed, Liking, NewPost, StorageError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use tokio::sync::watch;

/// An author makes at most as many posts as a follow brings, so that timelines are known whole.
const POSTS_EACH: usize = 20;

/// What was done to a store by its answers.
pub struct History {
    pub users: Vec<UserId>,
    /// Before everything.
    pub start: Seq,
    pub told: Mutex<Told>,
    /// Held while an author's id is made and its post called: the order of ids is that of calls.
    calling: Mutex<()>,
    /// How many acts have ended.
    pub acted: watch::Sender<usize>,
}

/// What the answers told.
#[derive(Default)]
pub struct Told {
    /// By follower and followee.
    pub follows: HashMap<(UserId, UserId), Tally>,
    /// By who likes and what.
    pub likes: HashMap<(UserId, PostId), Tally>,
    pub posts: BTreeMap<PostId, Made>,
    /// The one post of each author's key.
    pub keys: HashMap<(UserId, String), PostId>,
    drafted: HashMap<UserId, usize>,
}

/// How often something was begun and ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub undone: u64,
    /// Calls whose answer told nothing, or has not come.
    pub unsure: u64,
}

/// A post, as far as answers told of it.
#[derive(Clone, Debug)]
pub struct Made {
    pub author: UserId,
    /// Whether it was made; none where that is unsure.
    pub is_made: Option<bool>,
    /// The entry of its deletion.
    pub deleted: Option<Seq>,
    /// Deletions whose answer told nothing, or has not come.
    pub unsure: u64,
}

impl Made {
    /// Whether it is unsure that it is there.
    pub const fn is_unsure(&self) -> bool {
        self.is_made.is_none() || self.unsure > 0
    }
}

/// One thing that somebody does.
#[derive(Clone, Debug)]
enum Act {
    Follow(UserId, UserId),
    Unfollow(UserId, UserId),
    Like(UserId, PostId),
    Unlike(UserId, PostId),
    Post(UserId, Option<String>),
    Delete(UserId, PostId),
}

impl History {
    /// So many users, each with a post.
    pub async fn begin(store: &TestStore, users: usize) -> Self {
        let users = store.users(users).await;
        let start = store.engine.head().await.unwrap();
        let (told, calling, acted) = (Mutex::default(), Mutex::default(), watch::Sender::new(0));
        let history = Self { users, start, told, calling, acted };
        for user in history.users.clone() {
            history.act(store, Act::Post(user, None)).await;
        }
        history
    }

    /// Does something by chance, so often, one after the other.
    pub async fn act_by_chance(&self, store: &TestStore, mut dice: Dice, times: usize) {
        for _ in 0..times {
            let act = self.choose(&mut dice);
            self.act(store, act).await;
            self.acted.send_modify(|acted| *acted += 1);
        }
    }

    fn choose(&self, dice: &mut Dice) -> Act {
        let user = self.users[dice.below(self.users.len())];
        let others: Vec<_> = self.users.iter().copied().filter(|other| *other != user).collect();
        let other = others[dice.below(others.len())];
        let told = self.told.lock().unwrap();
        // Mostly the same few posts, so that many come at once.
        let posts: Vec<_> =
            told.posts.iter().filter(|(_, made)| made.is_made != Some(false)).map(|(id, _)| *id).collect();
        let post =
            posts[if dice.one_in(3) { dice.below(posts.len()) } else { dice.below(posts.len().min(4)) }];
        match dice.below(16) {
            0..4 => Act::Follow(user, other),
            4..7 => Act::Unfollow(user, other),
            7..10 => Act::Like(user, post),
            10..12 => Act::Unlike(user, post),
            12..15 if told.drafted.get(&user).is_none_or(|count| *count < POSTS_EACH) => {
                Act::Post(user, dice.one_in(2).then(|| format!("key {}", dice.below(3))))
            }
            // Its author's, mostly.
            _ if dice.one_in(5) => Act::Delete(user, post),
            _ => Act::Delete(told.posts[&post].author, post),
        }
    }

    async fn act(&self, store: &TestStore, act: Act) {
        let now = Timestamp::now();
        match act {
            Act::Follow(from, to) => {
                self.told.lock().unwrap().follows.entry((from, to)).or_default().unsure += 1;
                let done = store.engine.follow(a_follow(from, to), 10_000).await;
                let done = done.map(|followed| match followed {
                    Followed::Done { .. } => true,
                    Followed::Already { .. } => false,
                    other => panic!("{other:?}"),
                });
                self.told.lock().unwrap().follows.entry((from, to)).or_default().begun(done);
            }
            Act::Unfollow(from, to) => {
                self.told.lock().unwrap().follows.entry((from, to)).or_default().unsure += 1;
                let done = store.engine.unfollow(from, to, now).await.map(|ended| ended.is_some());
                self.told.lock().unwrap().follows.entry((from, to)).or_default().ended(done);
            }
            Act::Like(user, post) => {
                self.told.lock().unwrap().likes.entry((user, post)).or_default().unsure += 1;
                let done = store.engine.like(a_like(user, post)).await.map(|liked| liked == Liking::Done);
                self.told.lock().unwrap().likes.entry((user, post)).or_default().begun(done);
            }
            Act::Unlike(user, post) => {
                self.told.lock().unwrap().likes.entry((user, post)).or_default().unsure += 1;
                let done = store.engine.unlike(user, post, now).await;
                self.told.lock().unwrap().likes.entry((user, post)).or_default().ended(done);
            }
            Act::Post(author, key) => self.post(store, author, key).await,
            Act::Delete(user, post) => self.delete(store, user, post).await,
        }
    }

    async fn post(&self, store: &TestStore, author: UserId, key: Option<String>) {
        let (id, posting) = {
            let _calling = self.calling.lock().unwrap();
            let draft = store.draft(author, "text", Timestamp::now());
            let key = key.as_deref().and_then(|key| a_key(key, 1));
            let made = Made { author, is_made: None, deleted: None, unsure: 0 };
            let mut told = self.told.lock().unwrap();
            told.posts.insert(draft.id, made);
            *told.drafted.entry(author).or_default() += 1;
            drop(told);
            (draft.id, store.engine.append(NewPost { key, ..draft }))
        };
        let appended = posting.await;
        let mut entry = None;
        {
            let mut told = self.told.lock().unwrap();
            match sure(appended) {
                None => {}
                Some(Appended::Stored(Entry { seq, .. })) => {
                    entry = Some(seq);
                    told.made(author, id, key);
                }
                // By another call, whose answer may not have come.
                Some(Appended::Repeated(used)) => {
                    told.made(author, used.post.id, key);
                    told.posts.get_mut(&id).unwrap().is_made = Some(false);
                }
                Some(Appended::NoAuthor) => panic!("no author"),
            }
        }
        self.spread(store, entry).await;
    }

    async fn delete(&self, store: &TestStore, user: UserId, post: PostId) {
        self.told.lock().unwrap().posts.get_mut(&post).unwrap().unsure += 1;
        let deletion = store.engine.delete(user, post, Timestamp::now()).await;
        let mut entry = None;
        {
            let mut told = self.told.lock().unwrap();
            let made = told.posts.get_mut(&post).unwrap();
            let deletion = sure(deletion);
            made.unsure -= u64::from(deletion.is_some());
            match deletion {
                None => {}
                Some(Deletion::Done(Entry { seq, change })) => {
                    assert!(matches!(change, EntryChange::Deleted { id, author, .. }
                        if id == post && author == user && user == made.author));
                    assert_eq!(made.deleted.replace(seq), None, "deleted twice");
                    entry = Some(seq);
                }
                Some(Deletion::Forbidden) => assert_ne!(user, made.author),
                Some(Deletion::Missing) => {}
            }
        }
        self.spread(store, entry).await;
    }

    /// As its relay would; what fails is fanned out again at the end.
    async fn spread(&self, store: &TestStore, entry: Option<Seq>) {
        if let (Some(seq), Some(fan_out)) = (entry, &store.fan_out) {
            sure(fan_out.fan_out(seq).await);
        }
    }

    /// What was told, of posts in the order of their ids.
    pub fn posts(&self) -> Vec<(PostId, Made)> {
        self.told.lock().unwrap().posts.iter().map(|(id, made)| (*id, made.clone())).collect()
    }
}

/// An answer; none where the store was unavailable.
fn sure<T>(answer: Result<T, StorageError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(StorageError::Unavailable(_)) => None,
        Err(refused) => panic!("{refused}"),
    }
}

impl Told {
    fn made(&mut self, author: UserId, id: PostId, key: Option<String>) {
        let made = self.posts.get_mut(&id).expect("it was begun");
        assert_eq!((made.author, made.is_made.unwrap_or(true)), (author, true));
        made.is_made = Some(true);
        if let Some(key) = key {
            let first = *self.keys.entry((author, key)).or_insert(id);
            assert_eq!(first, id, "a key made two posts");
        }
    }
}

impl Tally {
    fn begun(&mut self, done: Result<bool, StorageError>) {
        let done = sure(done);
        self.unsure -= u64::from(done.is_some());
        self.done += u64::from(done == Some(true));
    }

    fn ended(&mut self, done: Result<bool, StorageError>) {
        let done = sure(done);
        self.unsure -= u64::from(done.is_some());
        self.undone += u64::from(done == Some(true));
    }

    /// Holds what is seen against what was answered.
    pub fn assert_is(&self, is_there: bool, what: &str) {
        if self.unsure == 0 {
            assert_eq!(self.done - self.undone, u64::from(is_there), "{what}: {self:?}");
        }
    }
}

/// All that is seen of a store by these users.
pub struct Seen {
    /// Who follows whom.
    pub follows: BTreeSet<(UserId, UserId)>,
    /// Who likes what, of living posts.
    pub likes: BTreeSet<(UserId, PostId)>,
    /// Living posts by author.
    pub living: BTreeMap<UserId, BTreeSet<PostId>>,
}

impl Seen {
    /// Looks at everything, and holds each view of it against the others.
    pub async fn of(store: &TestStore, users: &[UserId]) -> Self {
        let engine = &store.engine;
        let mut seen = Self { follows: BTreeSet::new(), likes: BTreeSet::new(), living: BTreeMap::new() };
        let mut other_way_round = BTreeSet::new();
        for user in users {
            let following = engine.following(*user, first(1_000)).await.unwrap().unwrap();
            let followers = engine.followers(*user, first(1_000)).await.unwrap().unwrap();
            let posts = engine.by_author(*user, *user, first(1_000)).await.unwrap().unwrap();
            let profile = engine.profile(*user, *user).await.unwrap().unwrap();
            let lengths =
                [following.items.len(), followers.items.len(), posts.items.len()].map(|it| it as u64);
            assert_eq!([following.total, followers.total, posts.total], lengths, "totals of {user}");
            assert_eq!([profile.following, profile.followers, profile.posts], lengths, "counts of {user}");
            seen.follows.extend(following.items.iter().map(|(_, other)| (*user, other.id)));
            other_way_round.extend(followers.items.iter().map(|(_, other)| (other.id, *user)));
            let listed =
                seen.follows.range((*user, UserId(uuid::Uuid::nil()))..).take_while(|pair| pair.0 == *user);
            assert_eq!(listed.count() as u64, following.total, "followed twice by {user}");
            let living: BTreeSet<_> = posts.items.iter().map(|(_, view)| view.post.id).collect();
            assert_eq!(living.len() as u64, posts.total, "a post of {user} is listed twice");
            seen.living.insert(*user, living);
        }
        assert_eq!(seen.follows, other_way_round);
        for viewer in users {
            for other in users {
                let profile = engine.profile(*other, *viewer).await.unwrap().unwrap();
                assert_eq!(profile.is_following, seen.follows.contains(&(*viewer, *other)));
            }
            let followees: BTreeSet<_> = engine
                .followees(*viewer)
                .await
                .unwrap()
                .into_iter()
                .map(|(user, _)| (*viewer, user))
                .collect();
            assert!(followees.is_subset(&seen.follows) && followees.len() == seen.following(*viewer).len());
        }
        seen.look_at_likes(store, users).await;
        seen
    }

    async fn look_at_likes(&mut self, store: &TestStore, users: &[UserId]) {
        let all: Vec<_> = self.living.values().flatten().copied().collect();
        let mut counted: HashMap<PostId, u64> = HashMap::new();
        for viewer in users {
            let views = store.engine.posts(all.clone(), *viewer).await.unwrap();
            assert_eq!(views.len(), all.len(), "a listed post is not there");
            for view in views {
                counted.insert(view.post.id, view.post.likes);
                if view.is_liked {
                    self.likes.insert((*viewer, view.post.id));
                }
            }
        }
        for (post, count) in counted {
            let likers = self.likes.iter().filter(|(_, liked)| *liked == post).count();
            assert_eq!(count, likers as u64, "likes of {post}");
        }
    }

    /// Whom somebody follows.
    pub fn following(&self, user: UserId) -> Vec<UserId> {
        self.follows.iter().filter(|(from, _)| *from == user).map(|(_, to)| *to).collect()
    }
}
