//! `/users/{id}/follow`, `/followers`, `/following`.

use crate::harness::app::TestApp;
use crate::harness::person::Person;
use crate::harness::rest::{names, text};
use roost::config::Limit;
use serde_json::{Value, json};

async fn people(app: &TestApp, prefix: &str, many: usize) -> Vec<Person> {
    let mut people = Vec::new();
    for number in 0..many {
        people.push(app.person(&format!("{prefix}-{number}")).await);
    }
    people
}

fn usernames(page: &Value) -> Vec<String> {
    page["users"].as_array().expect("a list").iter().map(|user| text(user, "username")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_is_made_once_and_ended_once() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let follow = eve.asks_to_follow(&ann).await.expect(201);
    assert_eq!(names(&follow), ["created_at", "followee_id", "follower_id", "id"]);
    assert_eq!((&follow["follower_id"], &follow["followee_id"]), (&json!(eve.id), &json!(ann.id)));
    eve.asks_to_follow(&ann).await.refused(409, "already_following");
    eve.asks_to_follow(&eve).await.refused(400, "invalid");
    eve.call("POST", &format!("/users/{}/follow", uuid::Uuid::now_v7())).await.refused(404, "not_found");
    eve.unfollows(&ann).await;
    eve.delete(&format!("/users/{}/follow", ann.id)).await.refused(404, "not_found");
    eve.delete(&format!("/users/{}/follow", uuid::Uuid::now_v7())).await.refused(404, "not_found");
    let profile = ann.get(&format!("/users/{}", ann.id)).await.expect(200);
    assert_eq!(profile["followers_count"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_bound_of_followees_a_follow_is_400_until_one_is_ended() {
    let app = TestApp::with(|config| config.limit_followees = Limit::of(2)).await;
    let eve = app.person("eve").await;
    let others = people(&app, "other", 3).await;
    eve.follows(&others[0]).await;
    eve.follows(&others[1]).await;
    eve.asks_to_follow(&others[2]).await.refused(400, "invalid");
    eve.unfollows(&others[0]).await;
    eve.follows(&others[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_walked_by_cursor_while_they_change_showing_who_stayed_once() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let fans = people(&app, "fan", 9).await;
    for fan in &fans {
        fan.follows(&ann).await;
    }
    let path = format!("/users/{}/followers?limit=3", ann.id);
    let first = ann.get(&path).await.expect(200);
    assert_eq!(names(&first), ["next_cursor", "total", "users"]);
    assert_eq!(names(&first["users"][0]), ["id", "username"]);
    assert_eq!(
        (usernames(&first), &first["total"]),
        (["fan-8", "fan-7", "fan-6"].map(String::from).to_vec(), &json!(9))
    );

    // One that was shown goes, one that was not goes, and one comes anew.
    fans[7].unfollows(&ann).await;
    fans[4].unfollows(&ann).await;
    let late = app.person("late").await;
    late.follows(&ann).await;
    let mut shown = usernames(&first);
    let mut cursor = first["next_cursor"].clone();
    while let Some(next) = cursor.as_str() {
        let page = ann.get(&format!("{path}&cursor={next}")).await.expect(200);
        assert_eq!(page["total"], 8);
        shown.extend(usernames(&page));
        cursor = page["next_cursor"].clone();
    }
    let expected = ["fan-8", "fan-7", "fan-6", "fan-5", "fan-3", "fan-2", "fan-1", "fan-0"];
    assert_eq!(shown, expected);

    let eve = &fans[0];
    let following = eve.get(&format!("/users/{}/following", eve.id)).await.expect(200);
    assert_eq!((usernames(&following), &following["next_cursor"]), (vec!["ann".to_owned()], &json!(null)));
    for list in ["followers", "following"] {
        let nobody = format!("/users/{}/{list}", uuid::Uuid::now_v7());
        eve.get(&nobody).await.refused(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_out_of_range_and_foreign_cursors_are_400_in_every_list() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    let resume = eve.connects().await.cut();
    for path in ["/timeline".to_owned()]
        .into_iter()
        .chain(["posts", "followers", "following"].map(|list| format!("/users/{}/{list}", ann.id)))
    {
        for limit in ["0", "101", "-1", "x", "", "1.5", "99999999999999999999"] {
            eve.get(&format!("{path}?limit={limit}")).await.refuses_fields(&["limit"]);
        }
        eve.get(&format!("{path}?limit=1")).await.expect(200);
        eve.get(&format!("{path}?limit=100")).await.expect(200);
        for cursor in ["x", "", "42", resume.as_str(), "AAAAAAAAAAAAAAAAAAAAAAA"] {
            eve.get(&format!("{path}?cursor={cursor}")).await.refuses_fields(&["cursor"]);
        }
        eve.get(&format!("{path}?page=2")).await.refuses_fields(&["page"]);
        eve.get(&format!("{path}?limit=1&limit=2")).await.refused(400, "invalid");
    }
}
