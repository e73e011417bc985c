//! The README's tour, as a stranger pastes it: every block under "## Tour", in order, in one bash.

use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It builds the program, which was built before; where not, that takes minutes.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The blocks of `sh` between the heading and the next one of its rank.
fn blocks(readme: &str) -> Vec<String> {
    let mut tour = readme.lines().skip_while(|line| *line != "## Tour").skip(1).take_while(|line| !line.starts_with("## "));
    let mut found = Vec::new();
    while let Some(line) = tour.next() {
        if line == "```sh" {
            found.push(tour.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

/// A bash and all that it started; dropped, all of it is ended.
struct Bash(Child);

impl Drop for Bash {
    fn drop(&mut self) {
        // None is left where the tour ended what it started.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn every_block_of_the_tour_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let blocks = blocks(&fs::read_to_string(root.join("README.md")).unwrap());
    assert!(blocks.len() >= 5, "the tour has blocks: {}", blocks.len());
    let folder = tempfile::tempdir().unwrap();
    let (script, said) = (folder.path().join("tour.sh"), folder.path().join("said"));
    // Each block tells that it came to its end.
    let marked: Vec<_> =
        blocks.iter().enumerate().map(|(number, block)| format!("{block}\necho \"== block {number} done\"\n")).collect();
    fs::write(&script, marked.join("\n")).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();

    let output = fs::File::create(&said).unwrap();
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOST_")) {
        command.env_remove(name);
    }
    // Where it listens may be set, says the tour; its data goes where it harms nobody's.
    command.env("ROOST_LISTEN", &free).env("ROOST_DATA_DIR", folder.path().join("data"));
    command.arg("-u").arg(&script).current_dir(root).process_group(0);
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let mut bash = Bash(command.spawn().unwrap());
    let began = Instant::now();
    let told = || fs::read_to_string(&said).unwrap_or_default();
    let status = loop {
        if let Some(status) = bash.0.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "the tour does not end: {}", told());
        std::thread::sleep(Duration::from_millis(100));
    };
    let told = told();
    assert!(status.success(), "{status}: {told}");
    for number in 0..blocks.len() {
        assert!(told.contains(&format!("== block {number} done")), "block {number} was not reached: {told}");
    }
    assert!(!told.contains("command not found") && !told.contains("unbound variable"), "{told}");
    check(&told);
}

/// What the tour promises: all three posts, in order, and not the one that was refused.
fn check(told: &str) {
    let heard: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with(r#"{"type":"newPost""#))
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|frame| frame["data"]["content"].as_str().map(str::to_owned))
        .collect();
    // The first is shown when it comes, and again among all.
    assert_eq!(heard, ["first", "first", "second", "third"], "{told}");
    let timeline = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|answer| answer["posts"].is_array())
        .unwrap_or_else(|| panic!("no timeline in {told}"));
    let contents: Vec<_> = timeline["posts"].as_array().unwrap().iter().map(|post| &post["content"]).collect();
    assert_eq!(contents, ["third", "second", "first"], "{told}");
}
