//! Why connections end: silence, expiry, revocation, size, speed, number.

use crate::harness::app::TestApp;
use crate::harness::raw::RawSocket;
use crate::harness::rest::text;
use roost::config::Limit;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_no_ping_is_closed_and_one_that_does_is_not() {
    let app = TestApp::with(|config| config.heartbeat = SECOND).await;
    let eve = app.person("eve").await;
    let mut dead = RawSocket::upgrade(&app, &eve.token, None).await;
    let mut alive = RawSocket::upgrade(&app, &eve.token, None).await;
    let answering = tokio::spawn(async move {
        let mut pings = 0;
        while pings < 4 {
            let frame = alive.frame().await.expect("it stays open");
            assert_ne!(frame.opcode, 8, "it was closed though it answers");
            if frame.opcode == 9 {
                pings += 1;
                alive.send(true, 10, &frame.payload).await;
            }
        }
    });
    let began = Instant::now();
    let mut pings = 0;
    while let Some(frame) = dead.frame().await {
        pings += u32::from(frame.opcode == 9);
        if frame.opcode == 8 {
            break;
        }
    }
    assert_eq!(pings, 2, "two unanswered end it");
    assert!(began.elapsed() >= 2 * SECOND);
    answering.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_closed_with_4408_though_pongs_come_and_pings_keep_it() {
    let app = TestApp::with(|config| {
        config.heartbeat = SECOND;
        config.idle_timeout = 2 * SECOND;
    })
    .await;
    let eve = app.person("eve").await;
    let (mut silent, mut talking) = (eve.connects().await, eve.connects().await);
    let began = Instant::now();
    let talk = tokio::spawn(async move {
        while began.elapsed() < 4 * SECOND {
            // A protocol ping counts as much as a frame.
            talking.sends(Message::Ping("".into())).await;
            talking.pings().await;
            tokio::time::sleep(SECOND / 4).await;
        }
        talking.pings().await;
    });
    // It answers the server's pings while it waits; that does not count.
    assert_eq!(silent.closed().await, 4408);
    assert!(began.elapsed() >= 2 * SECOND - SECOND / 10);
    talk.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_closes_with_4401_unless_it_was_renewed() {
    let app = TestApp::with(|config| config.access_token = 5 * SECOND).await;
    let eve = app.person("eve").await;
    let (mut expiring, mut renewed) = (eve.connects().await, eve.connects().await);
    let renewing = tokio::spawn({
        let eve = eve.clone();
        async move {
            // Not to wait for anything: the newer token must end visibly later.
            tokio::time::sleep(2 * SECOND).await;
            let body = json!({"refresh_token": eve.refresh_token});
            let refreshed = eve.rest.post("/auth/refresh", body).await.expect(200);
            renewed.says(json!({"type": "auth", "data": {"token": refreshed["token"]}})).await;
            text(&renewed.expect("authenticated").await, "expires_at");
            renewed
        }
    });
    assert_eq!(expiring.closed().await, 4401);
    eve.get("/timeline").await.refused(401, "unauthorized");
    let mut renewed = renewing.await.unwrap();
    renewed.pings().await;
    assert_eq!(renewed.closed().await, 4401, "the newer token ends too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_closes_the_sockets_of_that_login_alone() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let other = eve.again().await;
    let (mut one, mut two, mut others) = (eve.connects().await, eve.connects().await, other.connects().await);
    eve.call("POST", "/auth/logout").await.expect(204);
    assert_eq!(one.closed().await, 4401);
    assert_eq!(two.closed().await, 4401);
    others.pings().await;
    other.get("/timeline").await.expect(200);
    eve.get("/timeline").await.refused(401, "unauthorized");
    eve.refused_upgrade("").await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_socket_ends_with_the_login_that_renewed_it() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let other = eve.again().await;
    let mut listening = eve.connects().await;
    listening.says(json!({"type": "auth", "data": {"token": other.token}})).await;
    listening.expect("authenticated").await;
    eve.call("POST", "/auth/logout").await.expect(204);
    listening.pings().await;
    other.call("POST", "/auth/logout").await.expect(204);
    assert_eq!(listening.closed().await, 4401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_16_kib_closes_with_4413_in_one_frame_or_in_several() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    const MOST: usize = 16 * 1024;
    let padded = |length: usize| {
        let mut text = r#"{"type":"ping"}"#.to_owned();
        text.push_str(&" ".repeat(length - text.len()));
        text
    };
    let mut listening = eve.connects().await;
    listening.sends(Message::text(padded(MOST))).await;
    listening.expect("pong").await;
    listening.sends(Message::text(padded(MOST + 1))).await;
    assert_eq!(listening.closed().await, 4413);

    let mut pieces = RawSocket::upgrade(&app, &eve.token, None).await;
    let text = padded(MOST + 1);
    let (one, two) = text.as_bytes().split_at(MOST / 2);
    pieces.send(false, 1, one).await;
    pieces.send(false, 0, &two[..MOST / 2]).await;
    pieces.send(true, 0, &two[MOST / 2..]).await;
    assert_eq!(pieces.closed().await, 4413);

    // One that only says that it is so long is not waited for.
    let mut liar = RawSocket::upgrade(&app, &eve.token, None).await;
    liar.write(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).await;
    assert_eq!(liar.closed().await, 4413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_messages_a_second_than_allowed_close_with_4429() {
    let app = TestApp::with(|config| config.limit_frames_per_second = Limit::of(100)).await;
    let eve = app.person("eve").await;
    let mut calm = eve.connects().await;
    for _ in 0..100 {
        calm.pings().await;
    }
    let mut hasty = RawSocket::upgrade(&app, &eve.token, None).await;
    // All at once: a second is not over in between.
    let burst: Vec<u8> =
        (0..400).flat_map(|_| crate::harness::raw::masked(true, 1, br#"{"type":"ping"}"#)).collect();
    hasty.write(&burst).await;
    assert_eq!(hasty.closed().await, 4429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_more_than_allowed_closes_the_oldest_with_4409() {
    let app = TestApp::with(|config| config.limit_connections = Limit::of(3)).await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut first = eve.connects().await;
    let mut others = vec![eve.connects().await, eve.connects().await];
    let mut unrelated = ann.connects().await;
    first.pings().await;
    others.push(eve.connects().await);
    assert_eq!(first.closed().await, 4409);
    for other in &mut others {
        other.pings().await;
    }
    unrelated.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_protocol_itself_end_the_connection() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let broken: [(&str, &[u8], u16); 4] = [
        ("a reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("text that is not UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 1007),
    ];
    for (what, bytes, code) in broken {
        let mut raw = RawSocket::upgrade(&app, &eve.token, None).await;
        raw.write(bytes).await;
        assert_eq!(raw.closed().await, code, "{what}");
    }
    let mut client = eve.connects().await;
    client.sends(Message::Close(None)).await;
    assert!(client.message().await.is_some_and(|message| message.is_close()), "a close is answered");
}
