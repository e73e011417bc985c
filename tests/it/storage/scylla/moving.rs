//! Moving house: from a database into a keyspace and back, and copies that are interrupted, wrong or refused.

mod chat;
mod room;

use super::{Keyspace, RUNTIME};
use crate::harness::engines::cql_nodes;
use crate::storage::fixture::{Engine, TestStore, a_key, a_like, first};
use crate::storage::sqlite::{open, options};
use roost::model::chat::Conversation;
use roost::model::cursor::{Cursor, Seq};
use roost::model::id::{LoginId, PostId, RoomId, UserId};
use roost::model::post::Content;
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::model::user::{Email, Username};
use roost::storage::moving::{Compared, CopyError, Export, Import, Kind, Stage, copy};
use roost::storage::scylla::{Mover, Nodes, OpenError, Options, Store};
use roost::storage::sqlite::{self, Unobserved};
use roost::storage::{
    Appended, FanOut, Loss, Missed, NewPost, NewUser, Posts, Refresh, TIMELINE_AGE, TimelineFrom, Upkeep,
};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const HOUR: Duration = Duration::from_secs(3600);

/// What a test looks for in every store that its own was moved to.
struct House {
    store: TestStore,
    users: Vec<UserId>,
    posts: Vec<PostId>,
    logins: Vec<LoginId>,
    keys: Vec<String>,
    talks: Vec<Conversation>,
    rooms: Vec<RoomId>,
}

impl House {
    /// A store with some of everything.
    async fn build() -> Self {
        let store = open().await;
        let now = Timestamp::now();
        let users = store.users(6).await;
        let [anna, ben, carl, dora, eve, _] = users[..] else { panic!("six users") };
        store.engine.rename(eve, Username::parse("Eve_the-2nd").unwrap(), now).await.unwrap();
        let outsider = NewUser { email: None, password_hash: None, ..store.new_user("outsider") };
        let outsider =
            store.engine.outside_user("https://issuer:1/".to_owned(), "a|b:\u{1F600}".to_owned(), outsider);
        let outsider = outsider.await.unwrap().id;

        // Before and after a follow, more than it brings; some deleted, some too old.
        let mut posts = vec![store.post_at(ben, "too old", now.before(TIMELINE_AGE + HOUR)).await];
        posts.extend(store.post_many(ben, 30).await);
        store.follow(anna, ben).await;
        store.follow(carl, ben).await;
        store.delete(ben, posts[25].id).await;
        posts.extend(store.post_many(carl, 3).await);
        posts.extend(store.post_many(ben, 2).await);
        // Its clock was an hour ahead, then not.
        posts.push(store.post_at(carl, "ahead", now.after(HOUR)).await);
        posts.push(store.post(ben, &"\u{1F600}".repeat(280)).await);
        posts.extend(store.post_many(dora, 2).await);
        for post in &posts[34..36] {
            store.delete(post.author, post.id).await;
        }
        let posts_of_dora: Vec<_> = posts.iter().filter(|post| post.author == dora).copied().collect();
        // All that there was is deleted: the follow sees only what comes.
        store.follow(anna, dora).await;
        for post in &posts_of_dora {
            store.delete(dora, post.id).await;
        }
        store.follow(ben, anna).await;
        store.follow(anna, carl).await;
        store.follow(dora, carl).await;
        store.unfollow(dora, carl).await;
        store.follow(eve, carl).await;
        store.follow(outsider, anna).await;
        let all: Vec<PostId> = posts.iter().map(|post| post.id).collect();
        for (user, post) in [(anna, all[3]), (carl, all[3]), (dora, all[3]), (eve, all[30]), (ben, all[31])] {
            store.engine.like(a_like(user, post)).await.unwrap();
        }
        assert!(store.engine.unlike(dora, all[3], Timestamp::now()).await.unwrap());

        let keys = vec!["plain".to_owned(), "nul\0 and: colon \u{1F511}".to_owned()];
        let talks = chat::fill(&store, &users).await;
        let rooms = room::fill(&store, &users).await;
        let mut house = Self { store, users, posts: all, logins: Vec::new(), keys, talks, rooms };
        house.users.push(outsider);
        house.use_keys(anna).await;
        house.log_in(anna, now).await;
        house.bury_events().await;
        house
    }

    async fn use_keys(&mut self, user: UserId) {
        for (number, key) in self.keys.iter().enumerate() {
            let post = self.store.draft(user, &format!("with key {number}"), Timestamp::now());
            self.posts.push(post.id);
            let post = NewPost { key: a_key(key, number as u8 + 1), ..post };
            self.store.engine.append(post).await.unwrap();
        }
        // What a key made stays what it was answered with.
        self.store.delete(user, self.posts[self.posts.len() - 1]).await;
    }

    async fn log_in(&mut self, user: UserId, now: Timestamp) {
        let Self { store, logins, .. } = self;
        logins.extend((0..3).map(|_| LoginId::make()));
        let later = now.after(HOUR * 24 * 20);
        for (login, number) in logins.iter().zip([1, 2, 3]) {
            store.engine.open_login(*login, user, store.token(number, later), now).await.unwrap();
        }
        let next = store.token(11, later.after(HOUR));
        let rotated = store.engine.refresh(store.hash(1), next, now).await.unwrap();
        assert_eq!(rotated, Refresh::Rotated { login: logins[0], user });
        store.engine.revoke_login(logins[1], later).await.unwrap();
        // Of an outside issuer: never begun here.
        logins.push(LoginId::make());
        store.engine.revoke_login(logins[3], later).await.unwrap();
    }

    async fn bury_events(&self) {
        let engine = &self.store.engine;
        let due = engine.due_events(Timestamp::now().after(HOUR * 2), 10_000).await.unwrap();
        let [buried, put_off, .., sent] = &due[..] else { panic!("{due:?}") };
        engine.postpone(buried.id, Timestamp::from_millis(1)).await.unwrap();
        engine.bury(buried.id, "no: \"thanks\" \u{1F6AB}".to_owned(), Timestamp::now()).await.unwrap();
        engine.postpone(put_off.id, Timestamp::from_millis(5)).await.unwrap();
        engine.sent(vec![sent.id]).await.unwrap();
    }

    fn file(&self) -> PathBuf {
        self.store.folder.path().join("roost.db")
    }

    /// All that a store shows of it.
    async fn picture(&self, engine: &dyn Engine) -> String {
        let mut shown = String::new();
        let mut line = |told: &dyn std::fmt::Debug| writeln!(shown, "{told:?}").unwrap();
        for user in &self.users {
            let own = engine.profile(*user, self.users[0]).await.unwrap().unwrap();
            let email = own.user.email.clone();
            line(&engine.profile_by_name(own.user.username.to_uppercase(), *user).await.unwrap());
            line(&own);
            if let Some(email) = email {
                let credentials = engine.credentials(Email::parse(&email.to_uppercase()).unwrap());
                line(&credentials.await.unwrap());
            }
            let places = engine.list(*user, TimelineFrom::Offset(0), 800).await.unwrap();
            line(&places.len());
            line(&engine.show(*user, places).await.unwrap());
            line(&engine.total(*user).await.unwrap());
            let of_author = engine.by_author(*user, self.users[0], first(100)).await.unwrap().unwrap();
            line(&(of_author.total, of_author.items.into_iter().map(|(_, post)| post).collect::<Vec<_>>()));
            for list in [engine.followers(*user, first(100)), engine.following(*user, first(100))] {
                line(&list.await.unwrap());
            }
            line(&engine.newest_id(*user).await.unwrap());
            for key in &self.keys {
                line(&engine.keyed(*user, key.clone(), Timestamp::now()).await.unwrap());
            }
        }
        let outsider = NewUser { email: None, password_hash: None, ..self.store.new_user("never-used") };
        let subject = ("https://issuer:1/".to_owned(), "a|b:\u{1F600}".to_owned());
        line(&engine.outside_user(subject.0, subject.1, outsider).await.unwrap());
        line(&engine.posts(self.posts.clone(), self.users[0]).await.unwrap());
        for login in &self.logins {
            line(&engine.login_alive(*login, Timestamp::now()).await.unwrap());
        }
        let mut ended = engine.revoked_logins(Timestamp::now()).await.unwrap();
        ended.sort_unstable();
        line(&ended);
        engine.take_over(Shard::all().collect()).await.unwrap();
        let events = engine.due_events(Timestamp::now().after(HOUR * 2), 10_000).await.unwrap();
        line(&events.into_iter().map(|job| (job.event, job.attempts)).collect::<Vec<_>>());
        let letters = engine.dead_letters(first(100)).await.unwrap().items.into_iter();
        line(
            &letters
                .map(|(_, letter)| (letter.event, letter.error, letter.attempts, letter.buried_at))
                .collect::<Vec<_>>(),
        );
        chat::picture(self, engine, &mut shown).await;
        room::picture(self, engine, &mut shown).await;
        shown
    }

    /// The store goes on where the other ended.
    async fn is_lived_in(&self, engine: &dyn Engine, fan_out: Option<&dyn FanOut>, old: Cursor) {
        let [anna, ben, carl, dora, ..] = self.users[..] else { panic!("users") };
        let now = Timestamp::now();
        assert_eq!(engine.since(anna, old).await.unwrap(), Missed::Lost(Loss::Foreign));
        let head = engine.head().await.unwrap();

        let next = self.store.token(21, now.after(HOUR));
        let spent = engine.refresh(self.store.hash(11), next, now).await.unwrap();
        assert_eq!(spent, Refresh::Rotated { login: self.logins[0], user: anna });
        let again = engine.refresh(self.store.hash(1), self.store.token(22, now.after(HOUR)), now).await;
        assert_eq!(again.unwrap(), Refresh::Reused { login: self.logins[0] });
        let ended = engine.refresh(self.store.hash(2), self.store.token(23, now.after(HOUR)), now).await;
        assert_eq!(ended.unwrap(), Refresh::Refused);

        let count =
            |profile: roost::model::user::Profile| (profile.posts, profile.followers, profile.following);
        let of = async |user| count(engine.profile(user, user).await.unwrap().unwrap());
        let before = (of(anna).await, of(ben).await, of(dora).await);
        let newest = engine.newest_id(ben).await.unwrap();
        let id = PostId::after(newest, now);
        let content = Content::parse("at home").unwrap();
        let post = NewPost { id, author: ben, content, key: None, created_at: now, attempt: None };
        let Appended::Stored(entry) = engine.append(post).await.unwrap() else { panic!("not stored") };
        if let Some(fan_out) = fan_out {
            fan_out.fan_out(entry.seq).await.unwrap();
        }
        for reader in [anna, ben, carl] {
            let newest = engine.list(reader, TimelineFrom::Offset(0), 1).await.unwrap();
            assert_eq!(newest[0].post, id, "what is new comes first");
            let cursor = Cursor { store: engine.store_name(), seq: head };
            let Missed::Entries { entries, .. } = engine.since(reader, cursor).await.unwrap() else {
                panic!("lost")
            };
            assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [entry.seq]);
        }
        let liked = self.posts[3];
        let likes = async || engine.post(liked, ben).await.unwrap().unwrap().post.likes;
        assert_eq!(likes().await, 2);
        engine.like(a_like(dora, liked)).await.unwrap();
        assert!(engine.unlike(anna, liked, now).await.unwrap());
        assert!(!engine.unlike(anna, liked, now).await.unwrap());
        assert_eq!(likes().await, 2);
        assert!(engine.unfollow(anna, ben, now).await.unwrap().is_some());
        let follow = crate::storage::fixture::a_follow(dora, ben);
        engine.follow(follow, 10_000).await.unwrap();
        let followers = engine.followers(ben, first(10)).await.unwrap().unwrap();
        assert_eq!((followers.items[0].1.id, followers.total), (dora, before.1.1));
        let ((posts, followers, following), (anna_posts, anna_followers, anna_following)) =
            (before.1, before.0);
        assert_eq!(of(ben).await, (posts + 1, followers, following));
        assert_eq!(of(anna).await, (anna_posts, anna_followers, anna_following - 1));
        assert_eq!(of(dora).await.2, before.2.2 + 1);
        engine.rename(anna, Username::parse("anna-at-home").unwrap(), now).await.unwrap();
        assert!(engine.profile_by_name("ANNA-at-home".to_owned(), ben).await.unwrap().is_some());
        chat::is_lived_in(self, engine).await;
        room::is_lived_in(self, engine).await;
    }
}

/// Runs a test on the CQL servers.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Keyspace) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async { test(Keyspace::new(&nodes)).await });
}

fn keyspace_options(keyspace: &Keyspace) -> Options {
    Options {
        access: keyspace.access.clone(),
        events: true,
        observer: Arc::new(Unobserved),
        wide_author_followers: keyspace.wide_author_followers,
        nodes: Nodes::One,
    }
}

/// A keyspace to move into, as a run of the program opens it.
async fn target(keyspace: &Keyspace) -> Mover {
    Mover::target(Store::open_target(keyspace_options(keyspace)).await.unwrap()).await.unwrap()
}

fn database(file: &Path) -> sqlite::Store {
    sqlite::Store::open(options(file)).unwrap()
}

async fn moved(source: &dyn Export, target: &dyn Import) {
    let compared = copy(source, target, |_| {}).await.unwrap();
    assert_eq!(compared.len(), Kind::ALL.iter().filter(|kind| target.keeps(**kind)).count());
    // Presses are known for ten minutes: too short to be compared.
    let some = |compared: &Compared| compared.source.count > 0 || compared.kind == Kind::Presses;
    assert!(compared.iter().all(|compared| compared.is_same() && some(compared)), "{compared:?}");
}

#[test]
fn a_store_that_moved_into_a_cluster_and_back_is_as_it_was() {
    run(|keyspace| async move {
        let house = House::build().await;
        let before = house.picture(house.store.engine.as_ref()).await;
        let old = house.store.cursor(Seq(1));
        house.store.engine.close().await.unwrap();

        let source = database(&house.file());
        moved(&source, &target(&keyspace).await).await;
        let cluster = Store::open(keyspace_options(&keyspace)).await.unwrap();
        assert_eq!(house.picture(&cluster).await, before);

        let back = house.store.folder.path().join("back.db");
        let target = sqlite::Store::open_target(options(&back)).unwrap();
        moved(&Mover::source(cluster.clone()).await.unwrap(), &target).await;
        target.close().await.unwrap();
        let back = database(&back);
        assert_eq!(house.picture(&back).await, before);

        house.is_lived_in(&cluster, Some(&cluster), old).await;
        house.is_lived_in(&back, None, old).await;
    });
}

#[test]
fn wide_authors_are_read_and_not_fanned_out_after_the_move_too() {
    run(|mut keyspace| async move {
        keyspace.wide_author_followers = 1;
        let house = House::build().await;
        let before = house.picture(house.store.engine.as_ref()).await;
        house.store.engine.close().await.unwrap();
        moved(&database(&house.file()), &target(&keyspace).await).await;
        let cluster = Store::open(keyspace_options(&keyspace)).await.unwrap();
        assert_eq!(house.picture(&cluster).await, before);
    });
}

#[test]
fn a_copy_that_is_interrupted_is_gone_on_with_and_closed_until_it_is_whole() {
    run(|keyspace| async move {
        let house = House::build().await;
        let before = house.picture(house.store.engine.as_ref()).await;
        house.store.engine.close().await.unwrap();
        let source = database(&house.file());
        // Each run ends at another place, somewhere behind so many steps.
        let mut runs = 0;
        loop {
            runs += 1;
            let (enough, mut steps, mut stage) = (Notify::new(), 0, None);
            let target = target(&keyspace).await;
            let copying = copy(&source, &target, |step| {
                stage = Some(step.stage);
                steps += 1;
                if steps == 2 + runs / 2 {
                    enough.notify_one();
                }
            });
            let done = tokio::select! {
                biased;
                () = enough.notified() => None,
                done = copying => Some(done.unwrap()),
            };
            if done.is_some() {
                break;
            }
            match Store::open(keyspace_options(&keyspace)).await {
                Err(OpenError::HalfCopied { .. }) => {}
                Err(error) => panic!("{error}"),
                // Whole, though nobody heard of it.
                Ok(_) => break assert_eq!(stage, Some(Stage::Compare)),
            }
        }
        assert!(runs > 5, "{runs}");
        let cluster = Store::open(keyspace_options(&keyspace)).await.unwrap();
        assert_eq!(house.picture(&cluster).await, before);
    });
}

#[test]
fn a_copy_into_what_holds_something_else_is_refused() {
    run(|keyspace| async move {
        let (house, other) = (House::build().await, House::build().await);
        let (source, foreign) = (database(&house.file()), database(&other.file()));
        let into_itself = copy(&source, &source, |_| {}).await;
        assert!(matches!(into_itself, Err(CopyError::Same)), "{into_itself:?}");
        let not_empty = copy(&source, &foreign, |_| {}).await;
        assert!(matches!(not_empty, Err(CopyError::NotEmpty)), "{not_empty:?}");

        let cluster = target(&keyspace).await;
        let begun = Notify::new();
        tokio::select! {
            biased;
            () = begun.notified() => {}
            _ = copy(&source, &cluster, |_| begun.notify_one()) => {}
        }
        let of_another = copy(&foreign, &cluster, |_| {}).await;
        assert!(matches!(of_another, Err(CopyError::OfAnother)), "{of_another:?}");
        copy(&source, &cluster, |_| {}).await.unwrap();
        let not_empty = copy(&source, &cluster, |_| {}).await;
        assert!(matches!(not_empty, Err(CopyError::NotEmpty)), "{not_empty:?}");

        // A database that is half a copy is no store either.
        let half = house.store.folder.path().join("half.db");
        let target = sqlite::Store::open_target(options(&half)).unwrap();
        let begun = Notify::new();
        tokio::select! {
            biased;
            () = begun.notified() => {}
            _ = copy(&source, &target, |_| begun.notify_one()) => {}
        }
        target.close().await.unwrap();
        let refused = sqlite::Store::open(options(&half)).err();
        assert!(matches!(refused, Some(sqlite::OpenError::HalfCopied { .. })), "{refused:?}");
    });
}

#[test]
fn a_source_that_changes_meanwhile_is_found_out() {
    run(|keyspace| async move {
        let house = House::build().await;
        let source = database(&house.file());
        let cluster = target(&keyspace).await;
        let is_copied = Notify::new();
        tokio::select! {
            biased;
            () = is_copied.notified() => {}
            _ = copy(&source, &cluster, |step| {
                if step.kind == Some(Kind::Follows) {
                    is_copied.notify_one();
                }
            }) => {}
        }
        let author = house.users[1];
        source.delete(author, house.posts[2], Timestamp::now()).await.unwrap();
        let differs = copy(&source, &cluster, |_| {}).await;
        let Err(CopyError::Differs(compared)) = differs else { panic!("{differs:?}") };
        let differing: Vec<_> = compared.iter().filter(|compared| !compared.is_same()).collect();
        assert!(differing.iter().any(|compared| compared.kind == Kind::Posts), "{differing:?}");
        let refused = Store::open(keyspace_options(&keyspace)).await.err();
        assert!(matches!(refused, Some(OpenError::HalfCopied { .. })), "{refused:?}");
    });
}
