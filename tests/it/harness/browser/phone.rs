//! A browser as a phone has it, 390 pixels wide, whose owner reads these languages: touched, typed into, looked at. What it
//! complains of on its console is asked for, policies that a page broke included.
//!
//! Where `ROOST_TEST_PICTURES` names a folder, pictures of what it shows are kept there.

use super::{Browser, Tab};
use crate::harness::engines::this_test;
use crate::harness::soon;
use fantoccini::Locator;
use fantoccini::wd::WebDriverCompatibleCommand;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::str::FromStr;

/// The browser; pages are in windows of their own, so that each is seen.
pub struct Phone(Browser);

/// A command of the driver's that WebDriver does not know.
#[derive(Debug)]
struct Chromium {
    path: &'static str,
    body: Value,
}

impl Phone {
    /// One with these languages, the best first.
    #[track_caller]
    pub fn with(languages: &str) -> impl Future<Output = Option<Self>> {
        Self::begin(this_test(), languages.to_owned(), json!({}))
    }

    /// One that lets no page keep anything.
    #[track_caller]
    pub fn forgetful() -> impl Future<Output = Option<Self>> {
        let blocked = json!({"profile.default_content_setting_values.cookies": 2});
        Self::begin(this_test(), "en".into(), blocked)
    }

    async fn begin(test: String, languages: String, settings: Value) -> Option<Self> {
        let mut settings = settings;
        settings["intl.accept_languages"] = json!(languages);
        let first = languages.split(',').next().unwrap_or_default();
        let options = json!({
            "args": [
                format!("--lang={first}"),
                format!("--accept-lang={languages}"),
                // A name for this machine that is not known to be its own.
                "--host-resolver-rules=MAP roost.test 127.0.0.1",
            ],
            "prefs": settings,
            "mobileEmulation": {
                "deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2, "touch": true, "mobile": true},
            },
        });
        Browser::begin(test, options).await.map(Self)
    }

    /// A window with the page there.
    pub async fn window(&self, url: &str) -> Tab {
        self.0.open(url, false).await
    }

    /// What a function of this body returns, or its promise comes to, on a page.
    pub async fn run(&self, tab: &Tab, script: &str) -> Value {
        self.0.run(tab, script, Vec::new()).await
    }

    /// Touches what the selector names.
    pub async fn touches(&self, tab: &Tab, selector: &str) {
        self.0.shows(tab).await;
        let found = self.0.client.find(Locator::Css(selector)).await.expect("it is there");
        soon("a touch", found.click()).await.expect("it can be touched");
    }

    /// Types into what has the focus.
    pub async fn types(&self, tab: &Tab, keys: &str) {
        self.0.shows(tab).await;
        let focused = self.0.client.active_element().await.expect("something has the focus");
        soon("a key", focused.send_keys(keys)).await.expect("it takes keys");
    }

    /// A page is told that its reader prefers these, and nothing else.
    pub async fn prefers(&self, tab: &Tab, features: &[(&str, &str)]) {
        self.0.shows(tab).await;
        let features: Vec<_> = features
            .iter()
            .map(|(name, value)| json!({"name": format!("prefers-{name}"), "value": value}))
            .collect();
        let body = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}});
        self.asks("goog/cdp/execute", body).await;
    }

    /// A picture of what a page shows is kept, if anybody wants to see it.
    pub async fn is_seen(&self, tab: &Tab, name: &str) {
        let Some(folder) = std::env::var_os("ROOST_TEST_PICTURES") else { return };
        self.0.shows(tab).await;
        let picture = soon("a picture", self.0.client.screenshot()).await.expect("a picture");
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), picture).expect("it is written");
    }

    /// What it said on its console since it was asked last.
    pub async fn complaints(&self) -> Vec<String> {
        let told = self.asks("se/log", json!({"type": "browser"})).await;
        let told = told.as_array().expect("a list").iter();
        told.map(|one| format!("{}: {}", one["level"], one["message"])).collect()
    }

    async fn asks(&self, path: &'static str, body: Value) -> Value {
        let asked = self.0.client.issue_cmd(Chromium { path, body });
        soon("the driver", asked).await.expect("an answer")
    }
}

impl WebDriverCompatibleCommand for Chromium {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
