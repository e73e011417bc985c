//! How much one user or one address may ask for, and whose address that is behind a proxy.

use crate::harness::app::TestApp;
use crate::harness::person::PASSWORD;
use crate::harness::rest::{Call, Rest};
use roost::config::Limit;
use serde_json::json;

/// Makes calls at once and counts those that were not limited.
async fn passed(calls: Vec<Call>) -> usize {
    let calling: Vec<_> = calls.into_iter().map(|call| tokio::spawn(async move { call.await })).collect();
    let mut passed = 0;
    for call in calling {
        let answer = call.await.expect("the call is made");
        if answer.status == 429 {
            answer.refused(429, "rate_limited");
        } else {
            passed += 1;
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_may_ask_so_much_at_once_and_another_is_not_charged_for_it() {
    let app = TestApp::with(|config| {
        config.limit_requests_per_second = Limit::of(1);
        config.limit_request_burst = Limit::of(20);
    })
    .await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let passed = passed((0..40).map(|_| ann.get("/timeline")).collect()).await;
    assert!((20..=24).contains(&passed), "{passed}");
    eve.get("/timeline").await.expect(200);
    // Probes are answered whatever else is not.
    app.get("/health/live").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_and_registrations_are_limited_by_address() {
    let app = TestApp::with(|config| {
        config.limit_logins_per_minute = Limit::of(3);
        config.limit_registrations_per_hour = Limit::of(2);
    })
    .await;
    app.person("ann").await;
    app.person("eve").await;
    app.register("late").await.refused(429, "rate_limited");
    for _ in 0..3 {
        app.post("/auth/login", json!({"email": "ann@example.com", "password": "wrong-1-wrong"}))
            .await
            .refused(401, "unauthorized");
    }
    app.login("ann").await.refused(429, "rate_limited");
}

/// Registrations from these addresses, by the header that a proxy sets; how many were taken of `many` each.
async fn registered_from(app: &Rest, header: &str, values: &[&str], many: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    for (place, value) in values.iter().enumerate() {
        let mut passed = 0;
        for number in 0..many {
            let name = format!("{}-{place}-{number}", header.len());
            let body =
                json!({"email": format!("{name}@example.com"), "username": name, "password": PASSWORD});
            let answer = app.post("/auth/register", body).header(header, value).await;
            assert!(matches!(answer.status, 201 | 429), "{}", answer.text);
            passed += usize::from(answer.status == 201);
        }
        taken.push(passed);
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_peers_own_unless_a_trusted_proxy_says_otherwise() {
    let two = |config: &mut roost::config::Config| config.limit_registrations_per_hour = Limit::of(2);
    let plain = TestApp::with(two).await;
    let taken = registered_from(&plain, "x-forwarded-for", &["192.0.2.1", "192.0.2.2"], 2).await;
    assert_eq!(taken, [2, 0], "whoever is no proxy is not believed");

    let behind = TestApp::with(|config| {
        two(config);
        config.trusted_proxies =
            vec!["127.0.0.1/32".parse().expect("a network"), "10.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let values = ["192.0.2.1", "192.0.2.2", "203.0.113.9, 192.0.2.1", "192.0.2.3, 10.1.2.3"];
    let taken = registered_from(&behind, "x-forwarded-for", &values, 3).await;
    // The last that is no proxy of ours counts; what stands before it, the client may have invented.
    assert_eq!(taken, [2, 2, 0, 2]);
    let values = ["for=192.0.2.4", "for=\"192.0.2.4:4711\";proto=https", "for=\"[2001:db8::1]:80\""];
    assert_eq!(registered_from(&behind, "forwarded", &values, 3).await, [2, 0, 2]);
}
