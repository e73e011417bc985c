//! Links: order, breaks, gaps, calls, windows.

use crate::ground::proxy::{Mode, Proxy};
use crate::ground::{Linked, Start, all, name, node, pair, quick, short, view, within};
use roost_cluster::Event;
use roost_cluster::link::{CallError, MAX_FRAME, SendError};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

/// Two nodes whose connections go through a proxy.
async fn pair_by_proxy() -> (Linked, Linked, Proxy) {
    let b = Linked::start("b", 1).await;
    let proxy = Proxy::to(b.address()).await;
    let mut start = Start::of(node("a", 1));
    start.options.routes.insert(name("b"), proxy.address.to_string());
    let mut a = start.go().await;
    let nodes = all(&[&a, &b]);
    // It is never reached but by the proxy.
    let unreachable = vec![(a.node.clone(), "127.0.0.1:1".to_owned()), nodes[1].clone()];
    a.join(1, &nodes);
    b.join(1, &unreachable);
    let mut b = b;
    assert_eq!(a.hear_of(2).await, ["up b/1", "gap b/1"]);
    assert_eq!(b.hear_of(2).await, ["up a/1", "gap a/1"]);
    (a, b, proxy)
}

/// Frames up to the one that says `end`; whatever else is heard fails.
async fn frames_to_the_end(linked: &mut Linked) -> Vec<String> {
    let mut frames = Vec::new();
    loop {
        match linked.hear().await {
            Event::Frame(frame) if &frame.bytes[..] == b"end" => return frames,
            Event::Frame(frame) => frames.push(String::from_utf8_lossy(&frame.bytes).into_owned()),
            Event::Up(_) | Event::Down(_) => {}
            other => panic!("heard {}", short(&other)),
        }
    }
}

#[tokio::test]
async fn frames_come_in_order_both_ways_with_the_number_of_their_view() {
    let (a, b) = pair().await;
    for n in 0..1000 {
        a.send("b", format!("a{n}").as_bytes());
        b.send("a", format!("b{n}").as_bytes());
    }
    for (mut to, from) in [(b, "a"), (a, "b")] {
        for n in 0..1000 {
            let Event::Frame(frame) = to.hear().await else { panic!("no frame") };
            assert_eq!((&frame.bytes[..], frame.view), (format!("{from}{n}").as_bytes(), 1));
            assert_eq!(frame.from, node(from, 1));
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_loses_and_repeats_nothing() {
    let (a, mut b, proxy) = pair_by_proxy().await;
    let sending = tokio::spawn(async move {
        for n in 0..20_000 {
            a.links.room(&name("b"), 10).await.unwrap();
            a.send("b", n.to_string().as_bytes());
            if n % 2_000 == 1_999 {
                proxy.set(Mode::Cut);
                tokio::task::yield_now().await;
                proxy.set(Mode::Pass);
            }
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        a.send("b", b"end");
        (a, proxy)
    });
    let heard = frames_to_the_end(&mut b).await;
    assert_eq!(heard, (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>());
    sending.await.unwrap();
}

#[tokio::test]
async fn what_was_sent_while_the_link_was_down_comes_when_it_is_up() {
    let (mut a, mut b, proxy) = pair_by_proxy().await;
    proxy.set(Mode::Cut);
    assert_eq!(a.hear_of(1).await, ["down b/1"]);
    a.send("b", b"one");
    b.send("a", b"two");
    proxy.set(Mode::Pass);
    assert_eq!(a.hear_of(2).await, ["up b/1", "frame two"]);
    assert_eq!(b.hear_of(3).await, ["down a/1", "up a/1", "frame one"]);
}

#[tokio::test]
async fn a_peer_that_stands_still_is_noticed_and_resumes_without_a_gap() {
    let (mut a, mut b, proxy) = pair_by_proxy().await;
    proxy.set(Mode::Stall);
    a.send("b", b"one");
    assert_eq!(a.hear_of(1).await, ["down b/1"]);
    assert_eq!(b.hear_of(1).await, ["down a/1"]);
    proxy.set(Mode::Pass);
    assert_eq!(a.hear_of(1).await, ["up b/1"]);
    // What was under way in the connection that stood still does not come by it.
    assert_eq!(b.hear_of(2).await, ["up a/1", "frame one"]);
}

#[tokio::test]
async fn a_link_that_is_cut_one_way_is_noticed_on_both_sides() {
    let (mut a, mut b, proxy) = pair_by_proxy().await;
    proxy.set(Mode::StallAnswers);
    assert_eq!(a.hear_of(1).await, ["down b/1"]);
    assert_eq!(b.hear_of(1).await, ["down a/1"]);
    proxy.set(Mode::Pass);
    assert_eq!(a.hear_of(1).await, ["up b/1"]);
}

#[tokio::test]
async fn a_slow_link_is_no_broken_one() {
    let (a, mut b, proxy) = pair_by_proxy().await;
    proxy.set(Mode::Delay(quick().silence / 5));
    for n in 0..10 {
        a.send("b", n.to_string().as_bytes());
        assert_eq!(b.hear_of(1).await, [format!("frame {n}")]);
    }
}

#[tokio::test]
async fn the_greater_dials_where_the_lesser_cannot() {
    let (mut a, mut b) = (Linked::start("a", 1).await, Linked::start("b", 1).await);
    let nodes = all(&[&a, &b]);
    a.join(1, &[nodes[0].clone(), (b.node.clone(), "127.0.0.1:1".to_owned())]);
    b.join(1, &nodes);
    assert_eq!(a.hear_of(2).await, ["up b/1", "gap b/1"]);
    a.send("b", b"one");
    assert_eq!(b.hear_of(3).await, ["up a/1", "gap a/1", "frame one"]);
}

#[tokio::test]
async fn a_new_start_of_a_node_is_a_gap_and_hears_nothing_that_was_for_the_old() {
    let (mut a, b) = pair().await;
    drop(b);
    assert_eq!(a.hear_of(1).await, ["down b/1"]);
    a.send("b", b"for the old");
    let mut b = Linked::start("b", 2).await;
    let nodes = all(&[&a, &b]);
    a.join(2, &nodes);
    b.join(2, &nodes);
    assert_eq!(a.hear_of(2).await, ["up b/2", "gap b/2"]);
    a.send("b", b"for the new");
    assert_eq!(b.hear_of(3).await, ["up a/1", "gap a/1", "frame for the new"]);
}

#[tokio::test]
async fn a_node_that_was_away_from_the_view_comes_back_with_a_gap() {
    let (a, mut b) = pair().await;
    let nodes = all(&[&a, &b]);
    a.links.adopt(view(2, &nodes[..1]));
    assert_eq!(a.links.send(&name("b"), b"no"), Err(SendError::NotInView));
    // It hears of the view by the link itself, and is out of it.
    let out = async {
        while b.links.view().unwrap().number() != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the view", out).await;
    assert_eq!(b.links.send(&name("a"), b"no"), Err(SendError::NotInView));
    a.links.adopt(view(3, &nodes));
    a.is_linked("b").await;
    a.send("b", b"again");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "frame again") {
        heard.extend(b.hear_of(1).await);
    }
    assert!(heard.contains(&"gap a/1".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn a_view_comes_ahead_of_the_frames_that_were_sent_by_it() {
    let (a, mut b) = pair().await;
    let nodes = all(&[&a, &b]);
    for number in 2..50 {
        a.links.adopt(view(number, &nodes));
        a.send("b", number.to_string().as_bytes());
    }
    let mut newest = 1;
    for number in 2..50 {
        let frame = loop {
            match within("a frame", b.events.next()).await.unwrap() {
                Event::View(view) => newest = view.number(),
                Event::Frame(frame) => break frame,
                _ => {}
            }
        };
        assert_eq!(frame.view, number);
        assert!(newest >= number, "a frame of view {number} came in view {newest}");
    }
}

#[tokio::test]
async fn frames_of_a_node_that_is_not_in_the_view_are_refused() {
    let (a, mut b) = (Linked::start("a", 1).await, Linked::start("b", 1).await);
    let nodes = all(&[&a, &b]);
    // By its old view it may still send; the other has gone on without it.
    a.join(4, &nodes);
    a.send("b", b"stale");
    b.links.know(&nodes).unwrap();
    b.links.adopt(view(5, &nodes[1..]));
    within("that it hears of the newer view", async {
        while a.links.view().unwrap().number() != 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    b.links.adopt(view(6, &nodes));
    within("the newest view", async {
        while a.links.view().unwrap().number() != 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    a.send("b", b"fresh");
    loop {
        if let Event::Frame(frame) = b.hear().await {
            assert_eq!(frame.bytes, "fresh");
            return;
        }
    }
}

#[tokio::test]
async fn a_call_is_answered_while_frames_come_and_go() {
    let (mut a, b) = pair().await;
    let answering = tokio::spawn(async move {
        loop {
            if let Event::Call(call) = a.hear().await {
                let answer = [b"you said ", &call.bytes[..]].concat();
                assert!(call.answer(&answer));
            }
        }
    });
    for n in 0..200 {
        b.send("a", b"between");
        let answer = b.links.call(&name("a"), n.to_string().as_bytes(), LONG).await;
        assert_eq!(answer.unwrap(), format!("you said {n}"));
    }
    answering.abort();
}

#[tokio::test]
async fn a_call_outlives_a_break_but_not_a_new_start_nor_its_deadline() {
    let (mut a, mut b, proxy) = pair_by_proxy().await;
    let to = name("b");
    let late = a.links.call(&to, b"never answered", Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::Late));
    let Event::Call(never) = b.hear().await else { panic!("no call") };
    drop(never);

    proxy.set(Mode::Cut);
    let (answer, ()) = tokio::join!(a.links.call(&to, b"through a break", LONG), async {
        proxy.set(Mode::Pass);
        loop {
            if let Event::Call(call) = b.hear().await {
                assert!(call.answer(b"yes"));
                return;
            }
        }
    });
    assert_eq!(answer.unwrap(), "yes");

    let nodes = all(&[&a, &b]);
    let (answer, ()) = tokio::join!(a.links.call(&to, b"to one that ends", LONG), async {
        while !matches!(b.hear().await, Event::Call(_)) {}
        a.links.know(&[nodes[0].clone(), (node("b", 2), "127.0.0.1:1".to_owned())]).unwrap();
    });
    assert_eq!(answer, Err(CallError::Gone));
    while short(&a.hear().await) != "down b/1" {}
    assert_eq!(a.links.call(&to, b"", LONG).await, Err(CallError::NotSent(SendError::NotInView)));
}

#[tokio::test]
async fn a_window_that_is_full_refuses_and_the_peer_hears_of_one_gap_at_that_place() {
    let b = Linked::start("b", 1).await;
    let mut start = Start::of(node("a", 1));
    start.options.window = 100_000;
    let a = start.go().await;
    let nodes = all(&[&a, &b]);
    a.join(1, &nodes);
    let mut taken = 0;
    while a.links.send(&name("b"), &[b'x'; 1000]).is_ok() {
        taken += 1;
    }
    assert_eq!(a.links.send(&name("b"), &[b'x'; 1000]), Err(SendError::Full));
    let mut b = b;
    b.join(1, &nodes);
    assert_eq!(b.hear_of(2).await, ["up a/1", "gap a/1"]);
    for _ in 0..taken {
        assert!(matches!(b.hear().await, Event::Frame(_)));
    }
    assert_eq!(b.hear_of(1).await, ["gap a/1"]);
    // Asked for what follows, it acknowledges: there is room again.
    let (room, after) = tokio::join!(
        async {
            a.links.room(&name("b"), 3).await.unwrap();
            a.send("b", b"and");
        },
        b.hear_of(1)
    );
    assert_eq!(((), vec!["frame and".to_owned()]), (room, after));
}

#[tokio::test]
async fn a_listener_that_takes_nothing_holds_its_senders_back_and_loses_nothing() {
    let (a, mut b) = pair().await;
    let mut sent = 0_u64;
    while a.links.send(&name("b"), &[b'x'; 10_000]).is_ok() {
        sent += 1;
        tokio::task::yield_now().await;
    }
    // The link itself is well.
    tokio::time::timeout(quick().silence * 2, async { while short(&b.hear().await) != "down a/1" {} })
        .await
        .unwrap_err();
    assert!(sent >= 8 << 20 >> 14, "{sent}");
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_where_it_is_sent_and_the_longest_passes() {
    let (a, mut b) = pair().await;
    assert_eq!(a.links.send(&name("b"), &vec![0; MAX_FRAME + 1]), Err(SendError::TooLong));
    assert_eq!(a.links.send(&name("c"), b""), Err(SendError::NotInView));
    a.send("b", &vec![7; MAX_FRAME]);
    let Event::Frame(frame) = b.hear().await else { panic!("no frame") };
    assert_eq!(frame.bytes.len(), MAX_FRAME);
}

#[tokio::test]
async fn a_node_that_ends_says_so() {
    let (a, mut b) = pair().await;
    a.send("b", b"last words");
    a.links.stop().await;
    assert_eq!(b.hear_of(2).await, ["frame last words", "down a/1"]);
    assert!(b.links.states()[0].left);
}
