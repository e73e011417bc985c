//! Two tabs of one browser with the same page (`page.js`), and what they show.

use crate::harness::browser::{Browser, Tab};
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::stream::message_ids;
use crate::harness::{until, until_some};
use serde_json::{Value, json};

/// The page's script: `arguments` are the token, or null where the cookie stands for it.
const PAGE: &str = include_str!("page.js");
/// What a page of [`PAGE`] says of itself.
const REPORT: &str = "return window.page";
/// A page of the server's own origin that has no script of its own.
const BLANK: &str = "/health/live";

/// The tabs, and whose they are.
pub struct Tabs {
    browser: Browser,
    tabs: Vec<Tab>,
}

impl Tabs {
    /// Two of them at this origin, which run nothing yet.
    pub async fn open(browser: Browser, origin: &str) -> Self {
        let mut tabs = Vec::new();
        for _ in 0..2 {
            tabs.push(browser.tab(&format!("{origin}{BLANK}")).await);
        }
        Self { browser, tabs }
    }

    /// Both listen, by this token or by the cookie.
    pub async fn listen(&self, token: Option<&str>) {
        self.run(PAGE, vec![json!(token)]).await;
        self.until("both tabs listen", |page| page["opened"] == 1).await;
    }

    /// Runs this in both; what each returned.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Vec<Value> {
        let mut returned = Vec::new();
        for tab in &self.tabs {
            returned.push(self.browser.run(tab, script, arguments.clone()).await);
        }
        returned
    }

    /// Runs this in the first.
    pub async fn run_in_first(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.browser.run(&self.tabs[0], script, arguments).await
    }

    /// What both pages say of themselves.
    pub async fn report(&self) -> Vec<Value> {
        self.run(REPORT, Vec::new()).await
    }

    /// Waits until this holds for both.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let mut last = Vec::new();
        let waited = until_some(async || {
            last = self.report().await;
            last.iter().all(&holds).then_some(())
        });
        if waited.await.is_none() {
            let told: Vec<_> = last.iter().map(summary).collect();
            panic!("did not happen: {what}: {told:?}");
        }
    }

    /// Waits until this holds for one of them.
    pub async fn until_one(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        until(what, async || self.report().await.iter().any(&holds).then_some(())).await;
    }

    /// Both show so many messages or more.
    pub async fn show(&self, count: usize) {
        self.until(&format!("both tabs show {count} messages"), |page| shown(page).len() >= count).await;
    }

    /// Both have come to show every message of the conversation's history, once, in its order, and were never told
    /// that they missed something.
    pub async fn show_all(&self, reader: &Person, conversation: &str) {
        let history = reader.reads_history(conversation, 100).await;
        self.show(history.len()).await;
        for page in self.report().await {
            assert_eq!(ids(&page), message_ids(&history), "{}", summary(&page));
            let bodies =
                |messages: &[Value]| messages.iter().map(|one| text(one, "body")).collect::<Vec<_>>();
            assert_eq!(bodies(shown(&page)), bodies(&history));
            assert_eq!(page["kinds"]["resync"], Value::Null, "{}", summary(&page));
        }
    }
}

/// The messages that a page shows.
fn shown(page: &Value) -> &[Value] {
    page["view"].as_array().map_or(&[], Vec::as_slice)
}

fn ids(page: &Value) -> Vec<String> {
    message_ids(shown(page))
}

/// A page's own words without its messages.
fn summary(page: &Value) -> String {
    let mut page = page.clone();
    page["view"] = json!(shown(&page).len());
    page.to_string()
}
