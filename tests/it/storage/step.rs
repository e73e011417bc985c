//! What is done to a store and to its model alike, one step after the other, and what came of it.

use super::TestStore;
use super::fixture::{a_follow, a_like, stored};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use roost::model::cursor::Seq;
use roost::model::id::{PostId, UserId};
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::{Deletion, FanOut, Followed, Liking, Renaming};
use std::pin::Pin;
use std::sync::Arc;

/// Users in each case.
pub const USERS: usize = 5;
/// Followees that one may have.
pub const MAX_FOLLOWEES: u64 = 3;

/// Something that is done. Users and posts are named by numbers, taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Post(usize),
    /// So many posts at once.
    Burst(usize, usize),
    Delete(usize, usize),
    Like(usize, usize),
    Unlike(usize, usize),
    Follow(usize, usize),
    Unfollow(usize, usize),
    Rename(usize, usize),
    /// Everything so far is awaited and compared.
    Look(usize),
}

/// Up to so many steps.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let user = || 0..USERS;
    let step = prop_oneof![
        6 => user().prop_map(Step::Post),
        1 => (user(), 1..30_usize).prop_map(|(user, count)| Step::Burst(user, count)),
        3 => (user(), 0..200_usize).prop_map(|(user, post)| Step::Delete(user, post)),
        3 => (user(), 0..200_usize).prop_map(|(user, post)| Step::Like(user, post)),
        2 => (user(), 0..200_usize).prop_map(|(user, post)| Step::Unlike(user, post)),
        5 => (user(), 1..USERS).prop_map(|(from, by)| Step::Follow(from, (from + by) % USERS)),
        3 => (user(), user()).prop_map(|(from, to)| Step::Unfollow(from, to)),
        1 => (user(), 0..USERS * 2).prop_map(|(user, name)| Step::Rename(user, name)),
        1 => user().prop_map(Step::Look),
        1 => Just(Step::Look(0)),
    ];
    vec(step, 1..most)
}

/// What came of a step, as far as the model can tell beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Already,
    Missing,
    Forbidden,
    TooMany,
}

/// The answer on its way; a post's, a deletion's or a follow's with the place that goes with it.
pub type Doing = Pin<Box<dyn Future<Output = (Outcome, Option<Seq>)>>>;

/// Calls the store, which takes the step's place now, and answers what is to be awaited; posts are
/// told to the model by their ids.
pub fn begin(
    store: &TestStore,
    users: &[UserId],
    drafted: &mut Vec<PostId>,
    prefix: &str,
    step: Step,
) -> ((Step, Option<PostId>), Doing) {
    let now = Timestamp::now();
    let engine = &store.engine;
    let spreads = store.fan_out.clone();
    let post = |number: usize| match drafted.len() {
        0 => PostId::make(),
        count => drafted[number % count],
    };
    let (id, doing): (Option<PostId>, Doing) = match step {
        Step::Post(user) => {
            let draft = store.draft(users[user], "text", now);
            let id = draft.id;
            let call = engine.append(draft);
            let done = async { (Outcome::Done, Some(stored(call.await.unwrap()).seq)) };
            (Some(id), Box::pin(spread(spreads, done)))
        }
        Step::Delete(user, number) => {
            let call = engine.delete(users[user], post(number), now);
            (Some(post(number)), Box::pin(spread(spreads, async { deleted(call.await.unwrap()) })))
        }
        Step::Like(user, number) => {
            let call = engine.like(a_like(users[user], post(number)));
            (Some(post(number)), Box::pin(async { (liked(call.await.unwrap()), None) }))
        }
        Step::Unlike(user, number) => {
            let call = engine.unlike(users[user], post(number), now);
            (Some(post(number)), Box::pin(async { (was_there(call.await.unwrap()), None) }))
        }
        Step::Follow(from, to) => {
            let call = engine.follow(a_follow(users[from], users[to]), MAX_FOLLOWEES);
            (None, Box::pin(async { followed(call.await.unwrap()) }))
        }
        Step::Unfollow(from, to) => {
            let call = engine.unfollow(users[from], users[to], now);
            (None, Box::pin(async { (was_there(call.await.unwrap().is_some()), None) }))
        }
        Step::Rename(user, name) => {
            let call = engine.rename(users[user], Username::parse(&spelled(prefix, name)).unwrap(), now);
            (None, Box::pin(async { (renamed(&call.await.unwrap()), None) }))
        }
        Step::Burst(..) | Step::Look(_) => unreachable!("no call of the store"),
    };
    if matches!(step, Step::Post(_)) {
        drafted.extend(id);
    }
    ((step, id), doing)
}

/// The same, once everybody's timeline shows it.
async fn spread(
    fan_out: Option<Arc<dyn FanOut>>,
    doing: impl Future<Output = (Outcome, Option<Seq>)>,
) -> (Outcome, Option<Seq>) {
    let done = doing.await;
    if let ((Outcome::Done, Some(seq)), Some(fan_out)) = (done, fan_out) {
        fan_out.fan_out(seq).await.unwrap();
    }
    done
}

/// A name in letters of one case or the other.
pub fn spelled(prefix: &str, name: usize) -> String {
    let spelled = format!("{prefix}-n{}", name % USERS);
    if name < USERS { spelled } else { spelled.to_uppercase() }
}

fn deleted(deletion: Deletion) -> (Outcome, Option<Seq>) {
    match deletion {
        Deletion::Done(entry) => (Outcome::Done, Some(entry.seq)),
        Deletion::Missing => (Outcome::Missing, None),
        Deletion::Forbidden => (Outcome::Forbidden, None),
    }
}

const fn liked(liking: Liking) -> Outcome {
    match liking {
        Liking::Done => Outcome::Done,
        Liking::Already => Outcome::Already,
        Liking::Missing => Outcome::Missing,
    }
}

pub const fn was_there(was: bool) -> Outcome {
    if was { Outcome::Done } else { Outcome::Missing }
}

const fn followed(followed: Followed) -> (Outcome, Option<Seq>) {
    match followed {
        Followed::Done { since } => (Outcome::Done, Some(since)),
        Followed::Already { .. } => (Outcome::Already, None),
        Followed::Missing => (Outcome::Missing, None),
        Followed::TooMany => (Outcome::TooMany, None),
    }
}

const fn renamed(renaming: &Renaming) -> Outcome {
    match renaming {
        Renaming::Done(_) => Outcome::Done,
        Renaming::Missing => Outcome::Missing,
        Renaming::Taken => Outcome::Already,
    }
}
