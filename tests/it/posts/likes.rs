//! `/posts/{id}/likes`: once each, and counted exactly.

use crate::harness::app::TestApp;
use crate::harness::rest::names;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_is_made_once_and_taken_back_once() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let post = ann.posts("likeable").await;
    let path = format!("/posts/{post}/likes");
    let like = eve.call("POST", &path).await.expect(201);
    assert_eq!(names(&like), ["created_at", "id", "post_id", "user_id"]);
    assert_eq!((&like["post_id"], &like["user_id"]), (&json!(post), &json!(eve.id)));
    eve.call("POST", &path).await.refused(409, "already_liked");
    ann.call("POST", &path).await.expect(201);
    let shown = eve.get(&format!("/posts/{post}")).await.expect(200);
    assert_eq!((&shown["likes_count"], &shown["is_liked"]), (&json!(2), &json!(true)));
    eve.delete(&path).await.expect(204);
    eve.delete(&path).await.refused(404, "not_found");
    let shown = eve.get(&format!("/posts/{post}")).await.expect(200);
    assert_eq!((&shown["likes_count"], &shown["is_liked"]), (&json!(1), &json!(false)));

    let nowhere = format!("/posts/{}/likes", uuid::Uuid::now_v7());
    eve.call("POST", &nowhere).await.refused(404, "not_found");
    eve.delete(&nowhere).await.refused(404, "not_found");
    ann.deletes(&post).await;
    eve.call("POST", &path).await.refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_exact_whatever_races() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let mut fans = Vec::new();
    for number in 0..4 {
        fans.push(app.person(&format!("fan-{number}")).await);
    }
    let post = ann.posts("likeable").await;
    let path = format!("/posts/{post}/likes");
    // Each fan likes and unlikes from two places at once; the answers say what took.
    let racing: Vec<_> = fans
        .iter()
        .flat_map(|fan| [fan.clone(), fan.clone()])
        .enumerate()
        .map(|(place, fan)| {
            let (path, ann) = (path.clone(), ann.clone());
            tokio::spawn(async move {
                let (mut likes, mut follows) = (0_i64, 0_i64);
                for round in 0..15 {
                    let on = (round + place) % 3 != 0;
                    let method = if on { "POST" } else { "DELETE" };
                    let step = if on { 1 } else { -1 };
                    let liked = fan.call(method, &path).await.status;
                    let followed = fan.call(method, &format!("/users/{}/follow", ann.id)).await.status;
                    for (status, count) in [(liked, &mut likes), (followed, &mut follows)] {
                        match status {
                            201 | 204 => *count += step,
                            404 | 409 => {}
                            other => panic!("{other}"),
                        }
                    }
                }
                (likes, follows)
            })
        })
        .collect();
    let mut total = (0, 0);
    for one in racing {
        let (likes, follows) = one.await.unwrap();
        total = (total.0 + likes, total.1 + follows);
    }
    let shown = ann.get(&format!("/posts/{post}")).await.expect(200);
    let profile = ann.get(&format!("/users/{}", ann.id)).await.expect(200);
    assert_eq!((shown["likes_count"].as_i64().unwrap(), profile["followers_count"].as_i64().unwrap()), total);
    let listed = ann.get(&format!("/users/{}/followers", ann.id)).await.expect(200);
    assert_eq!(listed["users"].as_array().unwrap().len() as i64, total.1);
    let mut liked = 0;
    for fan in &fans {
        liked += i64::from(fan.get(&format!("/posts/{post}")).await.expect(200)["is_liked"] == true);
        let following = fan.get(&format!("/users/{}", fan.id)).await.expect(200)["following_count"].clone();
        assert_eq!(
            following == 1,
            fan.get(&format!("/users/{}", ann.id)).await.expect(200)["is_following"] == true
        );
    }
    assert_eq!(liked, total.0);
}
