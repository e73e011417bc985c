//! A real browser: headless Chromium, driven over WebDriver (W3C) by a `chromedriver` of a test's own. Dropped, both end,
//! also where the test failed.
//!
//! Scripts run in one tab at a time; what pages do by themselves goes on in all of them. It goes nowhere but where a
//! test sends it. [`phone`] is one that shows pages as a phone does.

pub mod phone;

use super::engines::this_test;
use super::{PATIENCE, skip, soon};
use fantoccini::wd::WindowHandle;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use tempfile::TempDir;

/// What the driver says before the number of its port.
const STARTED: &str = "started successfully on port ";

/// One browser, and one session of it.
pub struct Browser {
    client: Client,
    /// After the session and before the profile.
    _driver: Driver,
    _profile: TempDir,
}

/// A page's place in it.
pub struct Tab(WindowHandle);

/// The driver's process, and with it the browser's.
struct Driver(Child);

impl Browser {
    /// One that shows nothing yet; none where the programs are missing.
    #[track_caller]
    pub fn start() -> impl Future<Output = Option<Self>> {
        Self::begin(this_test(), json!({}))
    }

    /// The same with more of Chromium's own options.
    async fn begin(test: String, more: Value) -> Option<Self> {
        for program in ["chromium", "chromedriver"] {
            if Command::new(program).arg("--version").output().is_err() {
                skip(&test, &format!("needs the program {program}"));
                return None;
            }
        }
        let profile = tempfile::tempdir().expect("a folder");
        let (driver, port) = Driver::start();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let Value::Object(wanted) = capabilities(&profile, more) else { unreachable!("it is one") };
        builder.capabilities(wanted);
        let address = format!("http://127.0.0.1:{port}");
        let client = soon("a browser", builder.connect(&address)).await.expect("a session");
        Some(Self { client, _driver: driver, _profile: profile })
    }

    /// A new tab with the page there.
    pub async fn tab(&self, url: &str) -> Tab {
        self.open(url, true).await
    }

    /// A page, in a new tab or in a window of its own.
    async fn open(&self, url: &str, as_tab: bool) -> Tab {
        let opened = soon("a tab", self.client.new_window(as_tab)).await.expect("a tab");
        let tab = Tab(opened.handle);
        self.shows(&tab).await;
        soon("the page", self.client.goto(url)).await.expect("a page");
        tab
    }

    /// What a function of this body and these arguments returns, or its promise comes to, in a tab.
    pub async fn run(&self, tab: &Tab, script: &str, arguments: Vec<Value>) -> Value {
        self.shows(tab).await;
        soon("a script's end", self.client.execute(script, arguments)).await.expect("a value")
    }

    async fn shows(&self, tab: &Tab) {
        self.client.switch_to_window(tab.0.clone()).await.expect("the tab is there");
    }
}

fn capabilities(profile: &TempDir, more: Value) -> Value {
    let mut arguments = json!([
        "--headless=new",
        // A bare machine's root has no sandbox to give, and a container little shared memory.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-proxy-server",
        format!("--user-data-dir={}", profile.path().display()),
    ]);
    let mut options = more;
    if let (Value::Array(all), Some(Value::Array(own))) = (&mut arguments, options.get("args")) {
        all.extend(own.iter().cloned());
    }
    options["args"] = arguments;
    json!({
        "browserName": "chrome",
        "acceptInsecureCerts": true,
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": options,
    })
}

impl Driver {
    /// The process, and the port that it found free.
    fn start() -> (Self, u16) {
        let child = Command::new("chromedriver")
            .arg("--port=0")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = Self(child.expect("it starts"));
        let output = BufReader::new(driver.0.stdout.take().expect("its output"));
        let (found, port) = channel();
        // Read to its end, or the driver would wait for who reads.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let port = line.split_once(STARTED).map(|(_, port)| port.trim_end_matches('.').parse());
                if let Some(Ok(port)) = port {
                    // Who waited may have given up.
                    let _ = found.send(port);
                }
            }
        });
        let port = port.recv_timeout(PATIENCE).expect("the driver says its port");
        (driver, port)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The browser is of its group, and would outlive it.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}
