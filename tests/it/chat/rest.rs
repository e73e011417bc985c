//! Conversations, messages, keys, history and read marks.

use super::pair;
use crate::harness::app::TestApp;
use crate::harness::ground::Ground;
use crate::harness::person::Person;
use crate::harness::rest::{names, text};
use crate::harness::stream::message_ids;
use crate::harness::{until, until_some};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

fn nobody() -> String {
    Uuid::now_v7().to_string()
}

fn sorted(ids: &[&str]) -> Vec<String> {
    let mut ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_users_are_the_same_conversation_whoever_asks() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann").await, app.person("bob").await);
    let made = ann.asks_to_talk_with(&[&bob]).await.expect(201);
    assert_eq!(names(&made), ["conversationId", "createdAt", "participants"]);
    let participants: Vec<_> =
        made["participants"].as_array().unwrap().iter().map(Value::to_string).collect();
    let expected: Vec<_> = sorted(&[&ann.id, &bob.id]).iter().map(|id| format!("\"{id}\"")).collect();
    assert_eq!(participants, expected);
    assert!(Uuid::parse_str(&text(&made, "conversationId")).is_ok());
    let again = bob.asks_to_talk_with(&[&ann, &bob, &ann]).await.expect(200);
    assert_eq!(again, made);

    let cid = app.person("cid").await;
    let opened = join_all((0..8).map(async |_| ann.talks_with(&[&bob, &cid]).await)).await;
    assert!(opened.iter().all(|id| *id == opened[0] && *id != text(&made, "conversationId")), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_has_2_to_100_users_who_are_there() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann").await, app.person("bob").await);
    for others in [vec![], vec![ann.id.clone()], vec![bob.id.clone(), nobody()], vec!["bob".to_owned()]] {
        let answer = ann.post("/api/chat/conversations", json!({"participants": others})).await;
        let field = if others == ["bob"] { "participants[0]" } else { "participants" };
        answer.refuses_fields(&[field]);
    }
    let many: Vec<_> = (0..100).map(|_| nobody()).collect();
    let answer = ann.post("/api/chat/conversations", json!({"participants": many})).await;
    answer.refuses_fields(&["participants"]);
    ann.post("/api/chat/conversations", json!({})).await.refuses_fields(&["participants"]);
    app.post("/api/chat/conversations", json!({"participants": [bob.id]})).await.refused(401, "unauthorized");
    assert_eq!(ann.conversations().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_in_the_history_as_it_was_answered() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let sent = ann.asks_to_say(&conversation, "  hello\r\nthere ", "k").await.expect(201);
    assert_eq!(names(&sent), ["conversationId", "createdAt", "messageId"]);
    let message = json!({
        "messageId": sent["messageId"], "conversationId": conversation, "senderId": ann.id,
        "body": "hello\nthere", "createdAt": sent["createdAt"],
    });
    for reader in [&ann, &bob] {
        let path = format!("/api/chat/history?conversationId={conversation}");
        let history = reader.get(&path).await.expect(200);
        assert_eq!(history, json!({"messages": [message], "nextCursor": null}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_1_to_4000_characters_by_the_rules_of_posts() {
    let app = TestApp::start().await;
    let (ann, _, conversation) = pair(&app).await;
    for body in ["", " \r\n", "a\tb", "a\u{202e}b", &"x".repeat(4_001)] {
        ann.asks_to_say(&conversation, body, "k").await.refuses_fields(&["body"]);
    }
    // What was refused has spent no key.
    let longest = "\u{1F600}".repeat(4_000);
    ann.asks_to_say(&conversation, &longest, "k").await.expect(201);
    assert_eq!(ann.reads_history(&conversation, 20).await[0]["body"], longest.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_sends_one_message_however_often_it_comes() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let first = ann.asks_to_say(&conversation, "hello", "one").await.expect(201);
    assert_eq!(ann.asks_to_say(&conversation, " hello ", "one").await.expect(200), first);
    ann.asks_to_say(&conversation, "bye", "one").await.refused(422, "key_reused");
    let other = ann.talks_with(&[&bob, &app.person("cid").await]).await;
    ann.asks_to_say(&other, "hello", "one").await.refused(422, "key_reused");
    // A key is its user's own.
    bob.asks_to_say(&conversation, "hello", "one").await.expect(201);

    let at_once = join_all((0..10).map(|_| ann.asks_to_say(&conversation, "many", "two").attempt())).await;
    let answers: Vec<_> = at_once.into_iter().map(|answer| answer.expect("an answer")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(
        answers.iter().all(|answer| matches!(answer.status, 200 | 201) && answer.json == answers[0].json)
    );
    assert_eq!(ann.reads_history(&conversation, 20).await.len(), 3);

    for key in ["", "a b", "k\u{e9}y", &"x".repeat(129)] {
        ann.asks_to_say(&conversation, "hello", key).await.refuses_fields(&["idempotencyKey"]);
    }
    ann.asks_to_say(&conversation, "hello", &"x".repeat(128)).await.expect(201);
    let bare = json!({"conversationId": conversation, "body": "hello"});
    ann.post("/api/chat/send", bare).await.refuses_fields(&["idempotencyKey"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_the_same_as_if_there_were_nothing() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let message = ann.says(&conversation, "secret").await;
    let eve = app.person("eve").await;
    let mut told = Vec::new();
    for id in [conversation.as_str(), &nobody()] {
        let read = eve.post(&format!("/api/chat/conversations/{id}/read"), json!({"messageId": message}));
        let history = eve.get(&format!("/api/chat/history?conversationId={id}"));
        for call in [eve.asks_to_say(id, "hello", "k"), history, read] {
            told.push(text(&call.await.refused(403, "forbidden"), "detail"));
        }
    }
    assert_eq!(told[..3], told[3..]);
    assert_eq!(bob.reads_history(&conversation, 20).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_id_no_cursor_or_out_of_range_is_named() {
    let app = TestApp::start().await;
    let (ann, _, conversation) = pair(&app).await;
    ann.asks_to_say("nonsense", "hello", "k").await.refuses_fields(&["conversationId"]);
    let history = |query: &str| ann.get(&format!("/api/chat/history{query}"));
    history("").await.refuses_fields(&["conversationId"]);
    history("?conversationId=nonsense").await.refuses_fields(&["conversationId"]);
    let history = |query: &str| history(&format!("?conversationId={conversation}&{query}"));
    history("limit=0").await.refuses_fields(&["limit"]);
    history("limit=101").await.refuses_fields(&["limit"]);
    history("cursor=nonsense").await.refuses_fields(&["cursor"]);
    history("page=1").await.refuses_fields(&["page"]);
    ann.get("/api/chat/conversations?cursor=nonsense").await.refuses_fields(&["cursor"]);
    let read = |id: &str, message: Value| {
        ann.post(&format!("/api/chat/conversations/{id}/read"), json!({"messageId": message}))
    };
    read("nonsense", nobody().into()).await.refuses_fields(&["id"]);
    read(&conversation, "nonsense".into()).await.refuses_fields(&["messageId"]);
    read(&conversation, nobody().into()).await.refuses_fields(&["messageId"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_walked_while_messages_come_has_each_once_and_in_order() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut sent = Vec::new();
    for number in 0..25 {
        sent.push(ann.says(&conversation, &format!("{number}")).await);
    }
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/chat/history?conversationId={conversation}&limit=7{cursor}");
        let page = bob.get(&path).await.expect(200);
        walked.extend(message_ids(page["messages"].as_array().unwrap()));
        bob.says(&conversation, "meanwhile").await;
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    walked.reverse();
    assert_eq!(walked, sent);
    let bodies: Vec<_> = ann.reads_history(&conversation, 100).await;
    assert_eq!(bodies.len(), 25 + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_at_once_have_one_order_that_each_senders_own_keeps() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let send = async |person: &Person| {
        let mut sent = Vec::new();
        for number in 0..20 {
            sent.push(person.says(&conversation, &number.to_string()).await);
        }
        sent
    };
    let own = join_all([&ann, &bob, &ann].map(send)).await;
    let history = message_ids(&ann.reads_history(&conversation, 100).await);
    assert_eq!(history.len(), 60);
    assert!(history.is_sorted(), "ids grow");
    for own in own {
        let among: Vec<_> = history.iter().filter(|id| own.contains(id)).cloned().collect();
        assert_eq!(among, own);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_newest_activity_first_with_what_is_unread() {
    let app = TestApp::start().await;
    let (ann, bob, first) = pair(&app).await;
    let cid = app.person("cid").await;
    let second = ann.talks_with(&[&cid]).await;
    let empty = &ann.conversations().await[0];
    assert_eq!(names(empty), ["conversationId", "lastMessageAt", "participants", "unread"]);
    assert_eq!((&empty["lastMessageAt"], &empty["unread"]), (&Value::Null, &json!(0)));

    bob.says(&first, "one").await;
    let two = bob.says(&first, "two").await;
    ann.says(&first, "mine").await;
    let three = bob.says(&first, "three").await;
    // Where lists are written behind the 201, they soon are so.
    let shows = async |person: &Person, expected: &[(&str, u64)]| {
        let mut last = Vec::new();
        let shown = until_some(async || {
            let list = person.conversations().await;
            let one = |one: &Value| (text(one, "conversationId"), one["unread"].as_u64().unwrap());
            last = list.iter().map(one).collect();
            let is_so = last.iter().map(|(id, unread)| (id.as_str(), *unread)).eq(expected.iter().copied());
            (is_so || !Ground::is_shared()).then_some(is_so)
        });
        let shown = shown.await;
        assert_eq!(shown, Some(true), "{last:?}, not {expected:?}");
    };
    shows(&ann, &[(&first, 3), (&second, 0)]).await;
    shows(&bob, &[(&first, 1)]).await;
    cid.says(&second, "hello").await;
    shows(&ann, &[(&second, 1), (&first, 3)]).await;

    let read = async |message: &str| {
        let path = format!("/api/chat/conversations/{first}/read");
        ann.post(&path, json!({"messageId": message})).await.expect(204);
    };
    read(&two).await;
    shows(&ann, &[(&second, 1), (&first, 1)]).await;
    read(&three).await;
    shows(&ann, &[(&second, 1), (&first, 0)]).await;
    read(&two).await;
    // A mark does not go back.
    shows(&ann, &[(&second, 1), (&first, 0)]).await;

    let page = ann.get("/api/chat/conversations?limit=1").await.expect(200);
    let next = format!("/api/chat/conversations?limit=1&cursor={}", text(&page, "nextCursor"));
    let rest = ann.get(&next).await.expect(200);
    assert_eq!(text(&rest["conversations"][0], "conversationId"), first);
    assert_eq!(rest["nextCursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn support_is_ones_own_conversation_with_those_who_answer_there() {
    let app = TestApp::with(|config| {
        config.support_users = ["Helper", "nobody-yet"]
            .map(|name| roost::model::user::Username::parse(name).expect("a name"))
            .to_vec();
    })
    .await;
    let (helper, ann, bob) = (app.person("helper").await, app.person("ann").await, app.person("bob").await);
    let sent = ann.asks_to_say("support-demo", "help!", "k").await.expect(201);
    let own = text(&sent, "conversationId");
    assert!(Uuid::parse_str(&own).is_ok());
    assert_eq!(ann.asks_to_say("support-demo", "help!", "k").await.expect(200), sent);
    assert_eq!(ann.asks_to_say(&own, "help!", "k").await.expect(200), sent);
    assert_eq!(ann.reads_history("support-demo", 20).await.len(), 1);
    let theirs = text(&bob.asks_to_say("support-demo", "me too", "k").await.expect(201), "conversationId");
    assert_ne!(own, theirs);
    bob.get(&format!("/api/chat/history?conversationId={own}")).await.refused(403, "forbidden");

    let answer = helper.says(&own, "what is it?").await;
    let participants = json!(sorted(&[&ann.id, &helper.id]));
    // In a CQL cluster lists are written behind the answer.
    until("both, the newest first", async || {
        let list = helper.conversations().await;
        (list.len() == 2 && list[0]["participants"] == participants).then_some(())
    })
    .await;
    let path = "/api/chat/conversations/support-demo/read";
    ann.post(path, json!({"messageId": answer})).await.expect(204);
    // Whom one talks with there makes no conversation of the two.
    assert_ne!(ann.talks_with(&[&helper]).await, own);
}
