//! `/auth/*` and `/users`: registering, logging in, names.

mod cookie;
mod family;
mod issuer;

use crate::harness::app::TestApp;
use crate::harness::person::PASSWORD;
use crate::harness::rest::{Answer, names, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn is_v7(id: &Value) -> bool {
    id.as_str().and_then(|id| uuid::Uuid::parse_str(id).ok()).is_some_and(|id| id.get_version_num() == 7)
}

fn is_moment(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

/// An answer with tokens: its shape, and that nobody keeps it.
fn has_tokens(answer: Answer, status: u16, fields: &[&str]) -> Value {
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let shown = answer.expect(status);
    assert_eq!(names(&shown), fields, "{shown}");
    assert_eq!(text(&shown, "token").split('.').count(), 3, "a JWT");
    assert!(text(&shown, "refresh_token").len() >= 32);
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_and_logging_in_answer_with_the_user_and_tokens() {
    let app = TestApp::start().await;
    let body = json!({"email": "Ada@Example.com", "username": "Ada_L-1", "password": PASSWORD});
    let made = has_tokens(app.post("/auth/register", body).await, 201, &["refresh_token", "token", "user"]);
    assert_eq!(names(&made["user"]), ["created_at", "email", "id", "username"]);
    assert_eq!(
        (&made["user"]["email"], &made["user"]["username"]),
        (&json!("Ada@Example.com"), &json!("Ada_L-1"))
    );
    assert!(is_v7(&made["user"]["id"]) && is_moment(&made["user"]["created_at"]), "{made}");

    for email in ["Ada@Example.com", "ada@example.COM"] {
        let answer = app.post("/auth/login", json!({"email": email, "password": PASSWORD})).await;
        let shown = has_tokens(answer, 200, &["refresh_token", "token", "user"]);
        assert_eq!(shown["user"], made["user"]);
        assert_ne!(shown["token"], made["token"]);
        app.get("/timeline").bearer(&text(&shown, "token")).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_a_rule_is_named_all_at_once() {
    let app = TestApp::start().await;
    let register = |email: &str, username: &str, password: &str| {
        app.post("/auth/register", json!({"email": email, "username": username, "password": password}))
    };
    for username in ["ab", &"x".repeat(51), "", "with space", "ümlaut", "dot.ted"] {
        register("a@example.com", username, PASSWORD).await.refuses_fields(&["username"]);
    }
    for email in
        ["", "nobody", "@example.com", "a@", "a b@example.com", &format!("{}@example.com", "x".repeat(250))]
    {
        register(email, "fine", PASSWORD).await.refuses_fields(&["email"]);
    }
    let long = format!("{}1!", "x".repeat(127));
    for password in ["", "short1!", "noDigits!", "nosymbol1", "12345678!", long.as_str()] {
        register("a@example.com", "fine", password).await.refuses_fields(&["password"]);
    }
    register("x", "x", "x").await.refuses_fields(&["email", "username", "password"]);
    // Nothing of that took a name; the bounds themselves are fine.
    register("a@example.com", &"x".repeat(50), &format!("{}1!", "x".repeat(126))).await.expect(201);
    register("b@example.com", "abc", "aaaaaa1!").await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_and_a_name_are_unique_regardless_of_case() {
    let app = TestApp::start().await;
    app.person("Grace").await;
    let register = |email: &str, username: &str| {
        app.post("/auth/register", json!({"email": email, "username": username, "password": PASSWORD}))
    };
    register("GRACE@example.com", "other").await.refused(409, "email_taken");
    register("other@example.com", "gRACE").await.refused(409, "username_taken");
    register("other@example.com", "other").await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_registrations_of_one_email_or_name_at_once_one_is_made() {
    let app = TestApp::start().await;
    for round in 0..3 {
        let register = |number: u32, email: String, name: String| {
            let body = json!({"email": email, "username": name, "password": PASSWORD});
            let call = app.post("/auth/register", body);
            tokio::spawn(async move { (number, call.await.status) })
        };
        let same_email = [0, 1]
            .map(|number| register(number, format!("r{round}@example.com"), format!("r{round}-{number}")));
        let same_name = [0, 1]
            .map(|number| register(number, format!("n{round}-{number}@example.com"), format!("n{round}x")));
        for both in [same_email, same_name] {
            let mut statuses = Vec::new();
            for one in both {
                statuses.push(one.await.unwrap().1);
            }
            statuses.sort_unstable();
            assert_eq!(statuses, [201, 409]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_email_and_a_wrong_password_get_the_same_words() {
    let app = TestApp::start().await;
    app.person("ada").await;
    let login =
        |email: &str, password: &str| app.post("/auth/login", json!({"email": email, "password": password}));
    let mut refusals = Vec::new();
    for (email, password) in
        [("ada@example.com", "wrong-password-1"), ("nobody@example.com", PASSWORD), ("nonsense", "x")]
    {
        let mut problem = login(email, password).await.refused(401, "unauthorized");
        problem["trace_id"].take();
        refusals.push(problem);
    }
    assert!(refusals.iter().all(|problem| *problem == refusals[0]), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_nobody_takes_about_as_long_as_a_wrong_password() {
    let app = TestApp::start().await;
    app.person("ada").await;
    // The least that each has taken: what else the machine does makes it only longer. Hashing is some
    // hundred times all the rest, so the two are alike, or will never be.
    let mut least = [Duration::MAX; 2];
    for _ in 0..60 {
        for (email, least) in ["ada@example.com", "nobody@example.com"].into_iter().zip(&mut least) {
            let began = Instant::now();
            let body = json!({"email": email, "password": "wrong-password-1"});
            app.post("/auth/login", body).await.refused(401, "unauthorized");
            *least = began.elapsed().min(*least);
        }
        let [known, nobody] = least;
        if nobody > known / 2 && known > nobody / 2 {
            return;
        }
    }
    panic!("a wrong password takes {:?}, nobody {:?}", least[0], least[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_shown_by_id_and_by_name_with_the_email_only_to_oneself() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("Ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    ann.posts("one").await;
    let by_id = eve.get(&format!("/users/{}", ann.id)).await.expect(200);
    let fields =
        ["created_at", "followers_count", "following_count", "id", "is_following", "posts_count", "username"];
    assert_eq!(names(&by_id), fields);
    let counts =
        ["posts_count", "followers_count", "following_count"].map(|name| by_id[name].as_u64().unwrap());
    assert_eq!((counts, &by_id["is_following"]), ([1, 1, 0], &json!(true)));
    assert_eq!(eve.get("/users?username=aNN").await.expect(200), by_id);

    let own = ann.get(&format!("/users/{}", ann.id)).await.expect(200);
    assert_eq!((&own["email"], &own["is_following"]), (&json!("Ann@example.com"), &json!(false)));
    assert_eq!(ann.get("/users?username=ann").await.expect(200), own);

    let nobody = uuid::Uuid::now_v7();
    eve.get(&format!("/users/{nobody}")).await.refused(404, "not_found");
    eve.get("/users?username=nobody").await.refused(404, "not_found");
    eve.get("/users").await.refuses_fields(&["username"]);
    eve.get("/users/not-an-id").await.refuses_fields(&["id"]);
    app.get(&format!("/users/{}", ann.id)).await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_can_be_changed_and_the_old_one_is_free_at_once() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    let post = ann.posts("by whom?").await;
    let path = format!("/users/{}", ann.id);
    let renamed = ann.put(&path, json!({"username": "Annabel"})).await.expect(200);
    assert_eq!(renamed["username"], "Annabel");
    assert!(is_moment(&renamed["updated_at"]), "{renamed}");
    assert_eq!(renamed["id"], ann.id);
    // One's own name in another case is not taken by oneself.
    ann.put(&path, json!({"username": "annabel"})).await.expect(200);
    eve.put(&format!("/users/{}", eve.id), json!({"username": "ann"})).await.expect(200);
    eve.get("/users?username=annabel").await.expect(200);

    ann.put(&path, json!({"username": "ANN"})).await.refused(409, "username_taken");
    ann.put(&path, json!({"username": "x"})).await.refuses_fields(&["username"]);
    ann.put(&format!("/users/{}", eve.id), json!({"username": "mine"})).await.refused(403, "forbidden");
    let shown = eve.get(&format!("/posts/{post}")).await.expect(200);
    assert_eq!(shown["author"], json!({"id": ann.id, "username": "annabel"}));
}
