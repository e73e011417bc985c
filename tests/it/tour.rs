//! The README's tour, as a stranger would paste it: its blocks, one after the other, in one bash, in the
//! folder of the README; and its lines for a browser's console, by Node.

use crate::harness::child::RealServer;
use crate::harness::{PATIENCE, skip, until};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The first block builds the program, on a slow machine from nothing.
const BUILDING: Duration = Duration::from_secs(1_500);
/// What is printed behind a block.
const MARK: &str = "=== the end of block";
/// What cargo sets for tests only, and would not be set for one who pastes.
const CARGOS_OWN: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

#[test]
fn every_block_of_the_tour_does_what_the_readme_says() {
    let blocks = blocks("sh");
    assert!(blocks.len() >= 9, "the tour has {} blocks", blocks.len());
    let folder = tempfile::tempdir().expect("a folder");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let script =
        blocks.iter().enumerate().map(|(number, block)| format!("{block}\nprintf '\\n{MARK} {number}\\n'\n"));
    let script: String = std::iter::once("exec 2>&1\n".to_owned()).chain(script).collect();

    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("ROOST_") || CARGOS_OWN.iter().any(|own| name.starts_with(own)) {
            bash.env_remove(name);
        }
    }
    bash.env("ROOST_LISTEN", free.to_string()).env("ROOST_DATA_DIR", folder.path().join("data"));
    let mut tour = Started::by(bash);

    let said: Vec<String> = (0..blocks.len()).map(|number| tour.until_end_of(number, &blocks)).collect();
    assert!(tour.child.wait().expect("its end").success(), "{}", said.join("\n"));
    let said_by = |words: &str| {
        let place = blocks.iter().position(|block| block.contains(words));
        &said[place.unwrap_or_else(|| panic!("no block has {words:?}"))]
    };

    for name in ["ada-", "ben-"] {
        assert!(
            said_by("register \"").contains(&format!("\"username\":\"{name}")),
            "{}",
            said_by("register \"")
        );
    }
    let pressed = said_by("press anna;");
    assert_eq!(pressed.matches("\"effect_triggered\":true").count(), 1, "{pressed}");
    let heard = said_by("grep '\"newPost\"'");
    let posts: Vec<Value> = heard.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut shown: Vec<_> = posts.iter().filter(|frame| frame["type"] == "newPost").collect();
    shown.dedup_by_key(|frame| &frame["data"]["id"]);
    let contents: Vec<_> = shown.iter().map(|frame| frame["data"]["content"].as_str()).collect();
    assert_eq!(contents, [Some("first"), Some("second"), Some("third")], "{heard}");
    let timeline = said_by("$url/timeline");
    // The server's log stands between.
    let mut pages = timeline.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let page = pages.find(|page| page["posts"].is_array()).expect("a page");
    let contents: Vec<_> =
        page["posts"].as_array().expect("posts").iter().map(|post| post["content"].as_str()).collect();
    assert_eq!(contents, [Some("third"), Some("second"), Some("first")], "{timeline}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_for_a_browsers_console_hear_posts_and_miss_none_while_the_server_is_away() {
    let test = "the_lines_for_a_browsers_console_hear_posts_and_miss_none_while_the_server_is_away";
    let Some(node) = node() else { return skip(test, "no Node that has a WebSocket: 20.10 or newer") };
    let lines = blocks("js");
    let [lines] = lines.as_slice() else { panic!("one block for the console, not {}", lines.len()) };
    let mut server = RealServer::start();
    server.set("ROOST_LISTEN", &server.authority());
    let (ada, ben) = (server.person("ada").await, server.person("ben").await);
    ben.follows(&ada).await;

    let page = format!(
        "globalThis.prompt = () => {:?}; globalThis.location = {{ origin: {:?} }};\n{lines}",
        ben.token,
        server.url("")
    );
    let mut console = Command::new(node[0]);
    console.args(&node[1..]).args(["-e", &page]);
    let console = Started::by(console);
    until("it is connected", async || console.has_said("connected").then_some(())).await;
    ada.posts("first").await;
    until("the first post is shown", async || console.has_said("'first'").then_some(())).await;
    ada.posts("second").await;
    server.kill();
    server.spawn();
    ada.posts("third").await;
    until("the others are shown", async || {
        (console.has_said("'second'") && console.has_said("'third'")).then_some(())
    })
    .await;
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The blocks of the tour in this language.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let (_, tour) = readme.split_once("\n## Tour\n").expect("a tour");
    let (tour, _) = tour.split_once("\n## ").expect("an end of the tour");
    let opening = format!("```{language}\n");
    tour.split(&opening)
        .skip(1)
        .map(|block| block.split_once("\n```").expect("an end of the block").0.to_owned())
        .collect()
}

/// A command of Node that has a WebSocket, as browsers do.
fn node() -> Option<Vec<&'static str>> {
    let has_one = |command: &Vec<&str>| {
        let mut probe = Command::new(command[0]);
        probe.args(&command[1..]).args(["-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]);
        probe.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    [vec!["node"], vec!["node", "--experimental-websocket"]].into_iter().find(has_one)
}

/// A process with its children, and what it says. Dropped, all of them are killed.
struct Started {
    child: Child,
    lines: Receiver<String>,
    said: Arc<Mutex<String>>,
}

impl Started {
    fn by(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (line_said, lines) = channel();
        let said = Arc::new(Mutex::new(String::new()));
        let all = said.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                all.lock().expect("its words").push_str(&format!("{line}\n"));
                if line_said.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, said }
    }

    fn has_said(&self, words: &str) -> bool {
        self.said.lock().expect("its words").contains(words)
    }

    /// What a block said.
    fn until_end_of(&mut self, number: usize, blocks: &[String]) -> String {
        let (patience, end) = (if number == 0 { BUILDING } else { PATIENCE }, format!("{MARK} {number}"));
        let mut said = String::new();
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) if line == end => return said,
                Ok(line) => said.push_str(&format!("{line}\n")),
                Err(error) => panic!("{error}, in this block:\n{}\n\nIt said:\n{said}", blocks[number]),
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended, and all its children with it.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
