//! `kill -9` at any instant: nothing that was answered 201 is lost, nobody is shown half of anything, and
//! the database is whole. A real process under load is killed in each round, between two of its answers
//! that the dice choose, and started again on what it left.
//!
//! Where servers stand on shared engines (`ROOST_TEST_ENGINES`), those go on; what the process was doing in them is
//! finished or void at its next start.
//!
//! `ROOST_TEST_ROUNDS` says how many rounds (20), `ROOST_TEST_SEED` repeats a run's choices.

mod listener;
mod store;
mod talker;
mod writer;

use crate::harness::child::RealServer;
use crate::harness::dice::{Dice, variable};
use crate::harness::rest::text;
use crate::harness::soon;
use futures_util::future::join_all;
use listener::{Answered, Listener};
use serde_json::Value;
use std::collections::HashSet;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use writer::Writer;

/// A round's kill comes after so many answers at most; the timeline, and a replay, hold them all.
const ANSWERS: usize = 250;
/// ... and so many microseconds later, at most: about what one answer takes.
const MICROS: usize = 5_000;
/// Of the newest posts, so many must be on every timeline: 800, less what may be there unanswered.
const NEWEST: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_it_loses_nothing_that_it_answered() {
    let rounds = variable("ROOST_TEST_ROUNDS", 20);
    let mut dice = Dice::thrown("crash");
    let mut server = RealServer::start();
    let (mut writers, mut listeners) = audience(&server, &mut dice).await;
    let (mut talker, mut hearer) = talker::pair(server.person("tom").await, server.person("una").await).await;
    let mut made = Vec::new();
    for round in 1..=rounds {
        settle(&mut writers, &mut listeners, &mut made).await;
        talker.settles().await;
        hearer.catches_up(&talker.sent).await;

        let (answered, mut answers) = watch::channel(0);
        let last = dice.below(ANSWERS);
        let after = Duration::from_micros(dice.below(MICROS) as u64);
        let writing = join_all(writers.iter_mut().map(|writer| writer.writes(&answered)));
        let listening = join_all(listeners.iter_mut().map(Listener::listens));
        let killing = async {
            soon("the load goes on", answers.wait_for(|count| *count >= last)).await.expect("writers");
            // Not to wait for anything, but to come at an instant that nobody chose.
            tokio::time::sleep(after).await;
            server.kill();
        };
        let (talking, hearing) = (talker.talks(&answered), hearer.listens());
        soon("a round", async { tokio::join!(writing, talking, listening, hearing, killing) }).await;
        store::is_whole(&server);
        println!("round {round}: killed after {} answers", *answers.borrow());
        server.spawn();
        join_all(listeners.iter().map(who_comes_anew_is_shown_nothing_old)).await;
    }
    settle(&mut writers, &mut listeners, &mut made).await;
    talker.settles().await;
    hearer.catches_up(&talker.sent).await;
    talker.everything_is_in_the_history().await;
    join_all(writers.iter().map(everything_answered_is_there_and_nothing_else)).await;
    server.kill();
    store::is_whole(&server);
}

#[test]
fn killed_while_it_starts_for_the_first_time_it_starts_again() {
    let rounds = variable("ROOST_TEST_ROUNDS", 20);
    let mut dice = Dice::thrown("first start");
    // From nothing to all files made takes about as long as a start.
    let began = Instant::now();
    let mut server = RealServer::prepare(&[]);
    server.spawn();
    let start = usize::try_from(began.elapsed().as_micros()).expect("a short time");
    for _ in 0..rounds {
        server = RealServer::prepare(&[]);
        let mut child =
            server.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_micros(dice.below(start) as u64));
        child.kill().expect("it is there");
        child.wait().expect("it ends");
        server.spawn();
    }
}

/// Three who write, one of whom listens too, and three who listen: to all of them, and to two.
async fn audience(server: &RealServer, dice: &mut Dice) -> (Vec<Writer>, Vec<Listener>) {
    let mut writers = Vec::new();
    for name in ["ann", "bob", "cid"] {
        writers.push(Writer::new(server.person(name).await, dice.split()));
    }
    let mut listeners = vec![Listener::new(writers[0].person.clone(), dice.split())];
    for name in ["eve", "fay", "gil"] {
        listeners.push(Listener::new(server.person(name).await, dice.split()));
    }
    for (place, listener) in listeners.iter_mut().enumerate() {
        let followed = if place == 3 { &writers[1..] } else { &writers[..] };
        for writer in followed {
            if writer.person.id != listener.person.id {
                listener.person.follows(&writer.person).await;
            }
            listener.hears.insert(writer.person.id.clone());
        }
        // It has a cursor before anything is posted.
        listener.begins().await;
    }
    (writers, listeners)
}

/// What was not yet delivered when the server died was still posted before whoever comes without a cursor.
async fn who_comes_anew_is_shown_nothing_old(listener: &Listener) {
    let mut anew = listener.person.connects().await;
    anew.pings().await;
}

/// What had no answer is asked again; then everybody is shown, and reads, everything that was answered,
/// and hears live of what comes next, so that the next round's cursors are new.
async fn settle(writers: &mut [Writer], listeners: &mut [Listener], made: &mut Vec<String>) {
    join_all(writers.iter_mut().map(Writer::asks_again)).await;
    let answered = answered(writers, made);
    let newest = &made[made.len().saturating_sub(NEWEST)..];
    let catching_up = join_all(listeners.iter_mut().map(async |listener| {
        listener.reads(newest, &answered).await;
        listener.catches_up(&answered).await
    }));
    let mut listening = soon("all that was missed", catching_up).await;
    join_all(writers.iter_mut().map(Writer::posts)).await;
    let answered = self::answered(writers, made);
    let hearing = listeners.iter_mut().zip(&mut listening);
    join_all(hearing.map(|(listener, listening)| listener.hears_all(listening, &answered))).await;
}

/// All that was answered so far; posts are added to `made` in about the order of their answers.
fn answered(writers: &mut [Writer], made: &mut Vec<String>) -> Answered {
    let mut answered = Answered::default();
    for writer in writers {
        made.append(&mut writer.unsettled);
        answered.posts.extend(writer.posted.iter().map(|post| (post.clone(), writer.person.id.clone())));
        answered.deleted.extend(writer.deleted.iter().cloned());
    }
    answered
}

/// A writer's own list, walked: what was answered and not deleted, and what was never answered.
async fn everything_answered_is_there_and_nothing_else(writer: &Writer) {
    let (mut found, mut cursor): (Vec<Value>, _) = (Vec::new(), String::new());
    let path = format!("/users/{}/posts?limit=100", writer.person.id);
    loop {
        let page = writer.person.get(&format!("{path}{cursor}")).await.expect(200);
        found.extend(page["posts"].as_array().expect("posts").iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else {
            assert_eq!(page["total"], found.len());
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let count = writer.person.get(&format!("/users/{}", writer.person.id)).await.expect(200);
    assert_eq!(count["posts_count"], found.len());

    let ids: HashSet<_> = found.iter().map(|post| text(post, "id")).collect();
    assert_eq!(ids.len(), found.len(), "one is listed twice");
    let expected: HashSet<_> =
        writer.posted.iter().filter(|post| !writer.deleted.contains(*post)).cloned().collect();
    let lost: Vec<_> = expected.difference(&ids).collect();
    assert!(lost.is_empty(), "answered 201 and lost: {lost:?}");
    for post in found.iter().filter(|post| !expected.contains(&text(post, "id"))) {
        let content = text(post, "content");
        assert!(writer.unanswered.contains(&content), "nobody wrote this, or it was deleted: {post}");
    }
    for post in found.iter().filter(|post| writer.liked.contains(&text(post, "id"))) {
        assert_eq!((&post["likes_count"], &post["is_liked"]), (&1.into(), &true.into()), "{post}");
    }
}
