//! Many at once on the same users and posts: no order is promised, but all that is seen afterwards agrees,
//! and is what the answers said.

use super::TestStore;
use super::fixture::seqs;
use super::history::{History, Seen};
use crate::harness::dice::Dice;
use futures_util::future::join_all;
use roost::model::cursor::Seq;
use roost::model::id::{LoginId, PostId, UserId};
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::{EntryChange, NewUser, Refresh, Registration, Renaming, TimelineFrom};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Those who act at once, and how often each does.
const ACTORS: usize = 12;
const ACTS: usize = 40;

pub async fn counts_lists_and_answers_agree_whatever_comes_at_once(store: TestStore) {
    let mut dice = Dice::thrown("counts_lists_and_answers_agree_whatever_comes_at_once");
    let history = History::begin(&store, 5).await;
    join_all((0..ACTORS).map(|_| history.act_by_chance(&store, dice.split(), ACTS))).await;
    check(&store, &history).await;
}

/// Holds everything that is seen against each other and against the answers.
pub async fn check(store: &TestStore, history: &History) {
    let seen = Seen::of(store, &history.users).await;
    check_answers(history, &seen);
    check_timelines(store, history, &seen).await;
    check_events(store, history, &seen).await;
}

fn check_answers(history: &History, seen: &Seen) {
    let told = history.told.lock().unwrap();
    for from in &history.users {
        for to in &history.users {
            let tally = told.follows.get(&(*from, *to)).copied().unwrap_or_default();
            tally.assert_is(seen.follows.contains(&(*from, *to)), &format!("{from} follows {to}"));
        }
    }
    for ((user, post), tally) in &told.likes {
        let is_living = seen.living.values().any(|living| living.contains(post));
        if is_living {
            tally.assert_is(seen.likes.contains(&(*user, *post)), &format!("{user} likes {post}"));
        } else {
            assert!(tally.unsure > 0 || tally.done - tally.undone <= 1, "{tally:?}");
        }
    }
    for (post, made) in &told.posts {
        let is_listed = seen.living[&made.author].contains(post);
        assert!(made.deleted.is_none() || !is_listed, "{post} was deleted");
        assert!(made.is_made != Some(false) || !is_listed, "{post} was not made");
        let is_gone = made.deleted.is_some() || made.is_made == Some(false);
        assert!(made.is_unsure() || is_gone || is_listed, "{post} is lost");
    }
    for living in seen.living.values().flatten() {
        assert!(told.posts.contains_key(living), "{living} is nobody's");
    }
}

async fn check_timelines(store: &TestStore, history: &History, seen: &Seen) {
    let mut places: BTreeMap<PostId, Seq> = BTreeMap::new();
    for user in &history.users {
        let listed = store.engine.list(*user, TimelineFrom::Offset(0), 800).await.unwrap();
        assert!(seqs(&listed).windows(2).all(|pair| pair[0] > pair[1]), "newest first, each once");
        let expected: BTreeSet<_> = seen.living[user].iter().copied().collect();
        let followed =
            seen.following(*user).into_iter().flat_map(|other| seen.living[&other].iter().copied());
        let expected: BTreeSet<_> = expected.into_iter().chain(followed).collect();
        let shown: BTreeSet<_> = listed.iter().map(|place| place.post).collect();
        let (missing, strange): (Vec<_>, Vec<_>) =
            (expected.difference(&shown).collect(), shown.difference(&expected).collect());
        assert!(missing.is_empty() && strange.is_empty(), "{user}: without {missing:?}, with {strange:?}");
        assert_eq!(store.engine.total(*user).await.unwrap(), shown.len() as u64);
        for place in listed {
            assert_eq!(*places.entry(place.post).or_insert(place.seq), place.seq, "a post has one place");
        }
    }
    for user in &history.users {
        check_missed(store, history, seen, &places, *user).await;
    }
}

/// What a user missed since the beginning: all that its follows saw, and nothing else.
async fn check_missed(
    store: &TestStore,
    history: &History,
    seen: &Seen,
    places: &BTreeMap<PostId, Seq>,
    user: UserId,
) {
    let followees = store.engine.followees(user).await.unwrap();
    let since: HashMap<UserId, Seq> = followees.into_iter().chain([(user, history.start)]).collect();
    let (mut posts, mut deletions) = (BTreeSet::new(), BTreeSet::new());
    let missed = store.missed(user, history.start).await;
    assert!(missed.windows(2).all(|pair| pair[0].seq < pair[1].seq), "in order, each once");
    for entry in missed {
        assert!(entry.seq > since[&entry.author()], "{entry:?} was before the follow");
        match entry.change {
            EntryChange::Posted { post, .. } => {
                assert_eq!(places.get(&post.id), Some(&entry.seq));
                posts.insert(post.id);
            }
            EntryChange::Deleted { id, author, .. } => {
                assert!(!seen.living[&author].contains(&id));
                deletions.insert(id);
            }
        }
    }
    for (id, made) in history.posts() {
        let Some(since) = since.get(&made.author) else { continue };
        let is_new = places.get(&id).is_some_and(|seq| seq > since);
        assert_eq!(posts.contains(&id), is_new, "{id} in what {user} missed");
        assert!(made.deleted.is_none_or(|seq| seq <= *since || deletions.contains(&id)), "{id} was deleted");
    }
}

/// Each change was published once.
async fn check_events(store: &TestStore, history: &History, seen: &Seen) {
    let mut counted: HashMap<(String, String), u64> = HashMap::new();
    let mut ids = BTreeSet::new();
    for job in store.engine.due_events(Timestamp::now(), 100_000).await.unwrap() {
        let event: Value = serde_json::from_str(&job.event).unwrap();
        assert!(ids.insert(event["id"].to_string()), "an event is queued twice");
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        let kind = event["type"].as_str().unwrap().replace("com.mini-sns.", "");
        let about = match kind.split('.').collect::<Vec<_>>()[..] {
            ["social", "follow", _] => format!("{} {}", text("followerId"), text("followeeId")),
            ["social", "like", _] => format!("{} {}", text("userId"), text("postId")),
            ["post", _] => text("postId"),
            _ => text("userId"),
        };
        *counted.entry((kind, about)).or_default() += 1;
    }
    let count =
        |kind: &str, about: &str| counted.get(&(kind.to_owned(), about.to_owned())).copied().unwrap_or(0);
    let told = history.told.lock().unwrap();
    for ((from, to), tally) in &told.follows {
        let about = format!("{from} {to}");
        let (made, ended) = (count("social.follow.created", &about), count("social.follow.deleted", &about));
        assert_eq!(made - ended, u64::from(seen.follows.contains(&(*from, *to))), "{about}");
        assert!(made >= tally.done && ended >= tally.undone, "{about}: {tally:?}");
        assert!(tally.unsure > 0 || made == tally.done, "{about}: {made} {tally:?}");
    }
    for ((user, post), tally) in &told.likes {
        let about = format!("{user} {post}");
        let (made, ended) = (count("social.like.created", &about), count("social.like.deleted", &about));
        assert!(made >= tally.done && ended >= tally.undone && made - ended <= 1, "{about}: {tally:?}");
        assert!(tally.unsure > 0 || (made, ended) == (tally.done, tally.undone), "{about}: {tally:?}");
    }
    for (post, made) in &told.posts {
        let about = post.to_string();
        let was_there = made.deleted.is_some() || seen.living[&made.author].contains(post);
        let (created, deleted) = (count("post.created", &about), count("post.deleted", &about));
        assert!(created <= 1 && deleted <= created, "{about}: {created} {deleted}");
        let may_be_none = made.is_made != Some(true) && !was_there;
        assert!(created == 1 || may_be_none, "{about} was not published");
        assert!(created == 0 || made.is_made != Some(false), "{about} was published");
        assert!(
            made.is_unsure() || deleted == u64::from(made.deleted.is_some()),
            "{about}: {deleted} {made:?}"
        );
    }
}

pub async fn names_and_logins_have_one_owner_whatever_comes_at_once(store: TestStore) {
    let mut dice = Dice::thrown("names_and_logins_have_one_owner_whatever_comes_at_once");
    let users = store.users(6).await;
    let names = ["one", "two", "three"].map(|name| Username::parse(&store.name(name)).unwrap());
    store.take_events().await;
    let renamed = join_all(users.iter().map(|user| {
        let (mut dice, names, store) = (dice.split(), names.clone(), &store);
        async move {
            let mut done = 0;
            for turn in 0..20 {
                // Away from the name again, so that others get it.
                let own = Username::parse(&store.name(&format!("own-{turn}-{}", dice.below(1_000)))).unwrap();
                let name = if dice.one_in(3) { own } else { names[dice.below(names.len())].clone() };
                match store.engine.rename(*user, name, Timestamp::now()).await.unwrap() {
                    Renaming::Done(_) => done += 1,
                    Renaming::Taken => {}
                    Renaming::Missing => panic!("missing"),
                }
            }
            done
        }
    }))
    .await;
    let published = store.take_events().await;
    assert!(published.iter().all(|kind| kind == "user.profile-updated"));
    assert_eq!(published.len(), renamed.iter().sum::<usize>());
    let mut owners = HashMap::new();
    for user in &users {
        let name = store.engine.user(*user).await.unwrap().unwrap().username;
        let found = store.engine.profile_by_name(name.clone(), *user).await.unwrap().unwrap();
        assert_eq!((found.user.id, &found.user.username), (*user, &name));
        assert_eq!(owners.insert(name.to_lowercase(), *user), None, "{name} is two users' name");
    }
    // A name that nobody has now can be taken, whatever was tried with it; a taken one cannot.
    for (number, name) in names.iter().enumerate() {
        let email = store.email(&format!("late-{number}"));
        let new = NewUser { email, username: name.clone(), ..store.new_user("late") };
        let made = store.engine.register(new).await.unwrap();
        assert_eq!(
            matches!(made, Registration::UsernameTaken),
            owners.contains_key(name.as_str()),
            "{made:?}"
        );
    }
    one_token_is_spent_once(&store, users[0]).await;
    one_subject_is_one_user(&store).await;
}

async fn one_token_is_spent_once(store: &TestStore, user: UserId) {
    let (now, login) = (Timestamp::now(), LoginId::make());
    let later = now.after(Duration::from_secs(3_600));
    store.engine.open_login(login, user, store.token(1, later), now).await.unwrap();
    let uses =
        (0..20).map(|number| store.engine.refresh(store.hash(1), store.token(100 + number, later), now));
    let answers = join_all(uses).await;
    let count =
        |of: fn(&Refresh) -> bool| answers.iter().filter(|answer| of(answer.as_ref().unwrap())).count();
    assert_eq!(count(|answer| matches!(answer, Refresh::Rotated { .. })), 1);
    assert!(count(|answer| matches!(answer, Refresh::Reused { .. })) >= 1);
    assert!(!store.engine.login_alive(login, now).await.unwrap());
    for number in 0..20 {
        let next = store.engine.refresh(store.hash(100 + number), store.token(99, later), now).await.unwrap();
        assert_eq!(next, Refresh::Refused);
    }
}

async fn one_subject_is_one_user(store: &TestStore) {
    let uses = (0..10).map(|_| {
        let new = NewUser { email: None, password_hash: None, ..store.new_user("outside") };
        store.engine.outside_user("issuer".to_owned(), store.name("subject"), new)
    });
    let made: BTreeSet<_> = join_all(uses).await.into_iter().map(|user| user.unwrap().id).collect();
    assert_eq!(made.len(), 1);
}
