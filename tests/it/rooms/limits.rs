//! How often a viewer may press.

use crate::harness::app::TestApp;
use roost::config::Limit;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_presses_ten_times_a_second_and_others_are_not_charged_for_it() {
    let app = TestApp::with(|config| config.limit_presses_per_second = Limit::of(10)).await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    let many = async |press: Value| {
        let calls: Vec<_> = (0..30).map(|_| app.asks_to_press(&room, press.clone())).collect();
        let calling = calls.into_iter().map(|call| tokio::spawn(async move { call.await }));
        let (mut taken, mut refused) = (0, 0);
        for call in calling.collect::<Vec<_>>() {
            let answer = call.await.expect("the call is made");
            match answer.status {
                200 => taken += 1,
                _ => {
                    answer.refused(429, "rate_limited");
                    refused += 1;
                }
            }
        }
        (taken, refused)
    };
    let (taken, refused) = many(json!({"event_type": "skill3", "viewer_id": "one"})).await;
    assert!(taken >= 10 && refused > 0, "{taken} {refused}");
    app.presses(&room, "skill3", "two").await;
    // Whoever gives no id is known by its address, which is one here.
    let (taken, refused) = many(json!({"event_type": "skill3"})).await;
    assert!(taken >= 10 && refused > 0, "{taken} {refused}");
    // In another room it is another viewer.
    let other = ann.makes_room().await;
    app.presses(&other, "skill3", "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_presses_as_often_as_it_may_ask_for_anything() {
    let app = TestApp::with(|config| config.limit_address_requests_per_second = Limit::of(20)).await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    let calls: Vec<_> = (0..60)
        .map(|viewer| {
            app.asks_to_press(&room, json!({"event_type": "skill3", "viewer_id": format!("{viewer}")}))
        })
        .collect();
    let calling: Vec<_> =
        calls.into_iter().map(|call| tokio::spawn(async move { call.await.status })).collect();
    let mut limited = 0;
    for call in calling {
        limited += usize::from(call.await.expect("the call is made") == 429);
    }
    assert!(limited > 0, "however many ids it gives itself");
}
