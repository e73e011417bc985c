//! `/timeline`: what it holds, in what order, and how it is walked while it changes.

use crate::harness::app::TestApp;
use crate::harness::person::Person;
use crate::harness::rest::{ids, names, text};
use serde_json::{Value, json};

async fn page(reader: &Person, query: &str) -> Value {
    reader.get(&format!("/timeline{query}")).await.expect(200)
}

async fn several(author: &Person, many: usize) -> Vec<String> {
    let mut posts = Vec::new();
    for number in 0..many {
        posts.push(author.posts(&format!("{} {number}", author.username)).await);
    }
    posts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_ones_own_posts_and_those_of_the_followed_newest_first() {
    let app = TestApp::start().await;
    let (ann, bob, eve) = (app.person("ann").await, app.person("bob").await, app.person("eve").await);
    assert_eq!(page(&eve, "").await, json!({"posts": [], "total": 0, "limit": 20, "next_cursor": null}));
    eve.follows(&ann).await;
    bob.posts("unheard").await;
    let (one, two) = (ann.posts("one").await, eve.posts("two").await);
    app.spreads().await;
    let shown = page(&eve, "?limit=7").await;
    assert_eq!(ids(&shown["posts"]), [two.clone(), one.clone()]);
    assert_eq!(
        (&shown["total"], &shown["limit"], &shown["next_cursor"]),
        (&json!(2), &json!(7), &json!(null))
    );
    let fields = ["author", "content", "created_at", "id", "is_liked", "likes_count", "user_id"];
    assert_eq!(names(&shown["posts"][0]), fields);
    assert_eq!(shown["posts"][1]["author"], json!({"id": ann.id, "username": "ann"}));

    // What one likes oneself shows at once.
    eve.call("POST", &format!("/posts/{one}/likes")).await.expect(201);
    let liked = page(&eve, "?limit=7").await["posts"][1].clone();
    assert_eq!((&liked["is_liked"], &liked["likes_count"]), (&json!(true), &json!(1)));
    ann.deletes(&one).await;
    eve.reads(&[two]).await;
    app.get("/timeline").await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_adds_the_newest_20_and_an_unfollow_removes_all() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut posts = several(&ann, 25).await;
    ann.deletes(&posts.remove(22)).await;
    let own = eve.posts("own").await;
    eve.follows(&ann).await;
    let mut expected: Vec<_> = posts[4..].to_vec();
    expected.push(own.clone());
    expected.reverse();
    eve.reads(&expected).await;
    assert_eq!(page(&eve, "").await["total"], 21);
    expected.insert(0, ann.posts("newer").await);
    eve.reads(&expected).await;
    eve.unfollows(&ann).await;
    eve.reads(&[own]).await;
    assert_eq!(page(&eve, "").await["total"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn walked_by_cursor_while_it_changes_it_shows_what_stayed_exactly_once() {
    let app = TestApp::start().await;
    let (ann, bob, eve) = (app.person("ann").await, app.person("bob").await, app.person("eve").await);
    eve.follows(&ann).await;
    eve.follows(&bob).await;
    let mut stay = Vec::new();
    for _ in 0..12 {
        stay.push((&ann, ann.posts("of ann").await));
        bob.posts("of bob").await;
        stay.push((&eve, eve.posts("of eve").await));
    }
    app.spreads().await;
    let mut walked = Vec::new();
    let mut cursor = Value::Null;
    let mut step = 0;
    loop {
        let query =
            cursor.as_str().map_or("?limit=5".to_owned(), |cursor| format!("?limit=5&cursor={cursor}"));
        let shown = page(&eve, &query).await;
        walked.extend(ids(&shown["posts"]));
        cursor = shown["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
        step += 1;
        // Meanwhile some come, some go (shown ones and others), and one is unfollowed.
        several(&ann, 1).await;
        match step {
            1 => {
                let (author, oldest) = stay.remove(0);
                author.deletes(&oldest).await;
            }
            2 => {
                let (author, shown) = stay.pop().expect("it was shown on the first page");
                author.deletes(&shown).await;
            }
            3 => eve.unfollows(&bob).await,
            _ => {}
        }
    }
    for (_, id) in &stay {
        let times = walked.iter().filter(|shown| *shown == id).count();
        assert_eq!(times, 1, "{id} was there throughout");
    }
    let mut once = walked.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), walked.len(), "nothing is shown twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_taken_instead_of_a_cursor() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let mut posts = several(&ann, 9).await;
    posts.reverse();
    assert_eq!(ids(&page(&ann, "?limit=4&offset=3").await["posts"]), posts[3..7]);
    assert_eq!(ids(&page(&ann, "?offset=8").await["posts"]), posts[8..]);
    assert!(ids(&page(&ann, "?offset=9").await["posts"]).is_empty());
    assert!(ids(&page(&ann, "?offset=100000").await["posts"]).is_empty());
    // A walk may begin by offset and go on by cursor.
    let next = text(&page(&ann, "?limit=2&offset=3").await, "next_cursor");
    assert_eq!(ids(&page(&ann, &format!("?cursor={next}")).await["posts"]), posts[5..]);
    for query in ["?offset=-1", "?offset=x"] {
        ann.get(&format!("/timeline{query}")).await.refuses_fields(&["offset"]);
    }
    ann.get(&format!("/timeline?offset=1&cursor={next}")).await.refused(400, "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_the_cache_says_so_and_never_hides_or_shows_wrongly() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    let (one, two) = (ann.posts("one").await, ann.posts("two").await);
    eve.reads(&[two.clone(), one.clone()]).await;
    // A page of another list than was read so far.
    assert!(page(&eve, "?limit=1").await["cached_at"].is_null());
    let cached = page(&eve, "?limit=1").await;
    assert!(cached["cached_at"].is_string(), "{cached}");
    let cached = page(&eve, "").await;
    assert!(cached["cached_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{cached}");
    assert_eq!(ids(&cached["posts"]), [two.clone(), one.clone()]);
    let three = ann.posts("three").await;
    eve.reads(&[three.clone(), two.clone(), one.clone()]).await;
    ann.deletes(&two).await;
    assert_eq!(ids(&page(&eve, "").await["posts"]), [three.clone(), one.clone()]);
    // What one changes oneself is seen at once, whatever was cached.
    page(&eve, "").await;
    eve.call("POST", &format!("/posts/{one}/likes")).await.expect(201);
    assert_eq!(page(&eve, "").await["posts"][1]["is_liked"], true);
    app.spreads().await;
    let own = eve.posts("own").await;
    assert_eq!(ids(&page(&eve, "").await["posts"])[0], own);
    assert_eq!(page(&eve, "").await["total"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_the_newest_800_however_it_is_walked() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    for _ in 0..21 {
        let posting: Vec<_> = (0..40)
            .map(|number| {
                let author = if number % 2 == 0 { ann.clone() } else { eve.clone() };
                tokio::spawn(async move { author.posts(&format!("number {number}")).await })
            })
            .collect();
        for one in posting {
            one.await.unwrap();
        }
    }
    app.spreads().await;
    let first = page(&eve, "?limit=100").await;
    assert_eq!(first["total"], 800);
    let mut walked = ids(&first["posts"]);
    let mut cursor = first["next_cursor"].clone();
    while let Some(next) = cursor.as_str() {
        let shown = page(&eve, &format!("?limit=97&cursor={next}")).await;
        walked.extend(ids(&shown["posts"]));
        cursor = shown["next_cursor"].clone();
    }
    walked.sort_unstable();
    walked.dedup();
    assert_eq!(walked.len(), 800);
    assert_eq!(ids(&page(&eve, "?limit=100&offset=750").await["posts"]).len(), 50);
    assert!(ids(&page(&eve, "?offset=800").await["posts"]).is_empty());
}
