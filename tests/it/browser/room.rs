//! The page of a room on a phone: what it shows of a real room, what a press does to it, and what it says when something is wrong.

use crate::harness::app::TestApp;
use crate::harness::browser::Tab;
use crate::harness::browser::phone::Phone;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::rest::text;
use crate::harness::until_some;
use roost::config::Limit;
use serde_json::{Value, json};
use std::time::Duration;

/// What the page shows.
const REPORT: &str = include_str!("room.js");
/// How it looks.
const LOOKS: &str = include_str!("looks.js");
const SKILL1: &str = "[data-type=skill1]";

/// A window with the page of a room.
struct Page<'a> {
    phone: &'a Phone,
    tab: Tab,
}

impl<'a> Page<'a> {
    async fn open(phone: &'a Phone, url: &str) -> Self {
        Self { phone, tab: phone.window(url).await }
    }

    async fn touches(&self, selector: &str) {
        self.phone.touches(&self.tab, selector).await;
    }

    /// Waits until it shows this; all that it shows then.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = until_some(async || {
            last = self.phone.run(&self.tab, REPORT).await;
            holds(&last).then(|| last.clone())
        });
        let shown = waited.await;
        shown.unwrap_or_else(|| panic!("did not happen: {what}: {last}"))
    }

    /// Waits until a button shows this count.
    async fn counts(&self, event_type: &str, count: &str) -> Value {
        let shown = |page: &Value| page["tiles"][event_type]["count"] == count;
        self.until(&format!("{event_type} has {count}"), shown).await
    }

    async fn says(&self, words: &str) -> Value {
        self.until(words, |page| page["said"].as_str().is_some_and(|said| said.contains(words))).await
    }

    async fn is_seen(&self, name: &str) {
        self.phone.is_seen(&self.tab, name).await;
    }
}

fn web_url(app: &TestApp, room: &str) -> String {
    app.url(&format!("/rooms/{room}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presses_fill_a_bar_and_the_one_that_makes_an_effect_says_so() {
    let Some(phone) = Phone::with("en-GB,en").await else { return };
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let made = ann.call("POST", "/api/rooms").await.expect(201);
    let (room, url) = (text(&made, "room_id"), text(&made, "web_url"));
    let mut host = ann.hosts(&room).await;
    let (one, other) = (Page::open(&phone, &url).await, Page::open(&phone, &url).await);

    let shown = one.counts("skill1", "0 / 5").await;
    assert_eq!((&shown["language"], &shown["window"]), (&json!("en"), &json!("Press together")));
    assert_eq!((&shown["viewers"], &shown["connection"]), (&json!("0 active viewers"), &json!("")));
    let names = ["Skill 1", "Skill 2", "Skill 3", "Enemy 1", "Enemy 2", "Enemy 3"];
    assert_eq!(shown["names"], json!(names), "in the room's order");

    other.counts("skill1", "0 / 5").await;
    one.touches(SKILL1).await;
    let shown = one.counts("skill1", "1 / 5").await;
    assert_eq!(
        (&shown["tiles"]["skill1"]["filled"], &shown["viewers"]),
        (&json!("20%"), &json!("1 active viewer"))
    );
    // Nobody pressed there: the stream told it.
    let shown = other.counts("skill1", "1 / 5").await;
    assert_eq!(shown["tiles"]["skill1"]["filled"], "20%");

    // By keys, too.
    other.phone.run(&other.tab, &format!("document.querySelector('{SKILL1}').focus()")).await;
    other.phone.types(&other.tab, "\u{E007}").await;
    other.counts("skill1", "2 / 5").await;
    for viewer in ["bert", "cleo"] {
        app.presses(&room, "skill1", viewer).await;
    }
    one.counts("skill1", "4 / 5").await;
    assert_eq!(one.until("three are there", |page| page["viewers"] == "3 active viewers").await["said"], "");
    one.is_seen("en-light").await;
    one.touches(SKILL1).await;
    let shown = one.says("Skill 1: the effect is triggered!").await;
    assert_eq!(shown["tiles"]["skill1"]["glows"], true);
    one.is_seen("en-light-effect").await;
    let heard = host.frame().await;
    assert_eq!((&heard["type"], &heard["event_type"]), (&json!("game_event"), &json!("skill1")), "{heard}");
    let shown = one.until("it begins again", |page| page["tiles"]["skill1"]["count"] == "0 / 5").await;
    assert_eq!(shown["tiles"]["skill1"]["filled"], "0%");
    other.counts("skill1", "0 / 5").await;
    assert_eq!(phone.complaints().await, Vec::<String>::new(), "nothing broke, and no policy was broken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_japanese_reads_japanese() {
    let Some(phone) = Phone::with("fr,ja-JP,en").await else { return };
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room_of(&[("skill1", 3), ("enemy2", 10), ("confetti-cannon", 7)]).await;
    let page = Page::open(&phone, &web_url(&app, &room)).await;
    page.phone.prefers(&page.tab, &[("color-scheme", "dark")]).await;
    let shown = page.counts("skill1", "0 / 3").await;
    assert_eq!((&shown["language"], &shown["title"]), (&json!("ja"), &json!("みんなでボタンを押そう")));
    assert_eq!(shown["names"], json!(["スキル1", "敵2", "confetti-cannon"]));
    for count in ["1 / 3", "2 / 3"] {
        page.touches(SKILL1).await;
        page.counts("skill1", count).await;
    }
    page.touches(SKILL1).await;
    let shown = page.says("「スキル1」の効果が発動しました！").await;
    assert_eq!(shown["viewers"], "参加中の視聴者：1人");
    page.is_seen("ja-dark-effect").await;
    ann.delete(&format!("/api/rooms/{room}")).await.expect(204);
    let shown = page.until("it has ended", |page| page["title"] == "ルームは終了しました").await;
    assert_eq!((&shown["tiles"], &shown["connection"]), (&json!({}), &json!("")));
    page.is_seen("ja-dark-ended").await;
    assert_eq!(phone.run(&page.tab, "return document.activeElement.id").await, "title", "it is read out");
    assert_eq!(phone.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_presses_too_fast_is_told_when_to_go_on() {
    let Some(phone) = Phone::with("en").await else { return };
    let app = TestApp::with(|config| config.limit_presses_per_second = Limit::of(1)).await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    let page = Page::open(&phone, &web_url(&app, &room)).await;
    page.counts("skill3", "0 / 15").await;
    // In one go, so that most come within one second.
    let presses =
        "for (let press = 0; press < 8; press += 1) document.querySelector('[data-type=skill3]').click()";
    page.phone.run(&page.tab, presses).await;
    let shown = page.says("too fast").await;
    assert!(text(&shown, "said").ends_with(" in 1 second."), "{shown}");
    page.is_seen("en-light-limit").await;
    page.until("the buttons can be pressed", |page| {
        page["tiles"].as_object().expect("buttons").values().all(|tile| tile["waits"] == false)
    })
    .await;
    let counted = app.counts(&room).await[2].1;
    page.touches("[data-type=skill3]").await;
    page.counts("skill3", &format!("{} / 15", counted + 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_whose_answer_was_lost_is_counted_once_and_a_stream_that_was_cut_comes_back() {
    let Some(phone) = Phone::with("en").await else { return };
    let app = TestApp::start().await;
    let room = app.person("ann").await.makes_room().await;
    let way = FaultProxy::to(&app.authority()).await;
    let page = Page::open(&phone, &format!("http://{}/rooms/{room}", way.address())).await;
    page.counts("skill1", "0 / 5").await;
    way.set(Mode::LoseAnswers { cut_after: Duration::from_millis(100) }).await;
    page.touches(SKILL1).await;
    page.says("being sent again").await;
    assert_eq!(app.counts(&room).await[0].1, 1, "it arrived");
    assert!(way.answers_lost() > 0);
    way.set(Mode::Pass).await;
    page.counts("skill1", "1 / 5").await;
    page.until("it says no more of it", |page| page["said"] == "").await;
    assert_eq!(app.counts(&room).await[0].1, 1, "it was counted once, however often it was sent");

    let top = format!("return document.querySelector('{SKILL1}').getBoundingClientRect().top");
    let stood = page.phone.run(&page.tab, &top).await;
    way.set(Mode::Cut).await;
    page.until("it says so", |page| page["connection"] == "Connection lost. Reconnecting…").await;
    page.is_seen("en-light-lost").await;
    assert_eq!(page.phone.run(&page.tab, &top).await, stood, "nothing moves under a finger");
    app.presses(&room, "skill1", "bert").await;
    way.set(Mode::Pass).await;
    page.counts("skill1", "2 / 5").await;
    page.until("it says no more of it", |page| page["connection"] == "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_given_no_stream_and_may_keep_nothing_works() {
    let Some(phone) = Phone::forgetful().await else { return };
    // One of the two has the stream; the other reads how the room stands now and then.
    let app = TestApp::with(|config| config.limit_address_streams = Limit::of(1)).await;
    let room = app.person("ann").await.makes_room().await;
    // A name that is not the machine's own: without TLS such a page is trusted less.
    let url = web_url(&app, &room).replace("127.0.0.1", "roost.test");
    let one = Page::open(&phone, &url).await;
    one.counts("skill1", "0 / 5").await;
    let facts = "let refused = false; try { localStorage.length } catch { refused = true }; return [refused, isSecureContext]";
    assert_eq!(one.phone.run(&one.tab, facts).await, json!([true, false]));
    one.touches(SKILL1).await;
    one.counts("skill1", "1 / 5").await;
    let other = Page::open(&phone, &url).await;
    other.counts("skill1", "1 / 5").await;
    other.touches(SKILL1).await;
    other.counts("skill1", "2 / 5").await;
    one.counts("skill1", "2 / 5").await;
    app.presses(&room, "skill1", "bert").await;
    other.counts("skill1", "3 / 5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_was_put_away_takes_up_a_new_stream_when_it_is_looked_at() {
    let Some(phone) = Phone::with("en").await else { return };
    let app = TestApp::start().await;
    let room = app.person("ann").await.makes_room().await;
    let page = Page::open(&phone, &web_url(&app, &room)).await;
    page.counts("skill1", "0 / 5").await;
    let counted = "window.opened = 0;
        window.EventSource = class extends EventSource { constructor(url) { super(url); window.opened += 1; } };
        window.isSeen = (state) => {
            Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        };";
    phone.run(&page.tab, counted).await;
    phone.run(&page.tab, "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))").await;
    app.presses(&room, "skill1", "bert").await;
    let out = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })); return opened";
    assert_eq!(phone.run(&page.tab, out).await, 1);
    page.counts("skill1", "1 / 5").await;

    let blink = "isSeen('hidden'); isSeen('visible'); return opened";
    assert_eq!(phone.run(&page.tab, blink).await, 1, "it was not away for long");
    let slept = "isSeen('hidden'); const now = Date.now; Date.now = () => now() + 60_000; isSeen('visible'); return opened";
    assert_eq!(phone.run(&page.tab, slept).await, 2, "nobody knows what became of the one before");
    app.presses(&room, "skill1", "bert").await;
    page.counts("skill1", "2 / 5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_no_room_says_so_in_the_readers_language() {
    for (languages, title) in [("en", "Room not found"), ("ja", "ルームが見つかりません")] {
        let Some(phone) = Phone::with(languages).await else { return };
        let app = TestApp::start().await;
        let page = Page::open(&phone, &web_url(&app, "01ARZ3NDEKTSV4RRFFQ69G5FAV")).await;
        let shown = page.until("it says so", |page| page["title"] == title).await;
        assert_eq!((&shown["language"], &shown["window"]), (&json!(languages), &json!(title)));
        assert_eq!((&shown["tiles"], &shown["connection"]), (&json!({}), &json!("")));
        page.is_seen(&format!("{languages}-light-unknown")).await;
        // That the page itself was a 404 is the only thing that the browser says.
        let complaints = phone.complaints().await;
        assert!(complaints.len() == 1 && complaints[0].contains("404"), "{complaints:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_read_and_touched_by_everybody() {
    let Some(phone) = Phone::with("ja,en").await else { return };
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let rooms = [ann.makes_room().await, ann.makes_room_of(&[("confetti", 3), (&"w".repeat(64), 5)]).await];
    for (room, buttons) in rooms.iter().zip([6, 2]) {
        let page = Page::open(&phone, &web_url(&app, room)).await;
        page.until("all buttons", |page| page["names"].as_array().is_some_and(|all| all.len() == buttons))
            .await;
        assert_eq!(phone.run(&page.tab, LOOKS).await["moves"], true);
        for scheme in ["light", "dark"] {
            phone.prefers(&page.tab, &[("color-scheme", scheme), ("reduced-motion", "reduce")]).await;
            let looks = phone.run(&page.tab, LOOKS).await;
            assert!(looks["texts"].as_u64().is_some_and(|count| count > 6), "{looks}");
            assert_eq!((&looks["faint"], &looks["faintBars"]), (&json!([]), &json!(0)), "{scheme}: {looks}");
            assert_eq!(
                (&looks["small"], &looks["isWide"], &looks["width"]),
                (&json!(0), &json!(false), &json!(390))
            );
            assert_eq!((&looks["onScreen"], &looks["moves"]), (&json!(buttons), &json!(false)), "{looks}");
            page.is_seen(&format!("ja-{scheme}-{buttons}")).await;
        }
        // What is read out of a button.
        let words = "return document.querySelector('.press .name').textContent + document.querySelector('.press .aside').textContent";
        let expected = if buttons == 6 { "スキル1, 5回中0回" } else { "confetti, 3回中0回" };
        assert_eq!(phone.run(&page.tab, words).await, expected);
    }
}
