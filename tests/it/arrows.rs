//! The arrows between modules, and who may name which library: read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// What each module of ours may use of ours.
const ARROWS: [(&str, &[&str]); 11] = [
    ("model", &["model"]),
    ("storage", &["storage", "model", "telemetry"]),
    ("identity", &["identity", "model"]),
    ("events", &["events", "model"]),
    ("config", &["config", "model"]),
    ("data_dir", &["data_dir"]),
    ("telemetry", &["telemetry", "config"]),
    ("actors", &["actors", "model", "storage", "events", "telemetry"]),
    ("service", &["service", "actors", "storage", "identity", "model", "telemetry"]),
    ("http", &["http", "service", "model", "actors", "storage", "telemetry", "data_dir", "config"]),
    ("cli", &["cli", "http", "service", "model", "config", "data_dir", "storage", "telemetry", "StartError", "run"]),
];

/// Libraries that only some may name.
const LIBRARIES: [(&str, &[&str]); 9] = [
    ("rusqlite", &["storage/sqlite"]),
    ("moka", &["storage/memory", "service/account.rs"]),
    ("ractor", &["actors", "http/live", "app.rs"]),
    // With no server running, a command answers itself what a running one would.
    ("axum", &["http", "cli/operator.rs"]),
    ("tokio_tungstenite", &["http/live", "cli/listen"]),
    ("hyper", &["http", "cli"]),
    ("jsonwebtoken", &["identity"]),
    ("argon2", &["identity"]),
    ("utoipa", &["http"]),
];

struct Source {
    /// Below `src/`.
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// The code, without comments.
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "tests.rs") {
                // Tests beside the code may stand on whatever they need.
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), path: name });
            }
        }
    }
    assert!(found.len() > 50, "the sources are read");
    found
}

/// The names that follow `crate::` in a file.
fn uses(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for line in source.lines() {
        for (place, _) in line.match_indices("crate::") {
            let rest = &line[place + "crate::".len()..];
            let name: String = rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
            found.push(name);
        }
        assert!(!line.contains("use crate::{"), "{}: one `use` a module, so that arrows can be read", source.path);
    }
    found
}

#[test]
fn modules_use_only_those_that_the_arrows_allow() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| *module == source.module()) else {
            assert!(["app", "lib", "main"].contains(&source.module()), "{} is in no row", source.path);
            continue;
        };
        for name in uses(&source) {
            if !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} uses {name}", source.path));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn libraries_are_named_only_by_those_who_adapt_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (library, allowed) in LIBRARIES {
            let named = source.lines().any(|line| {
                line.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == ':'))
                    .any(|word| word == library || word.starts_with(&format!("{library}::")))
            });
            if named && !allowed.iter().any(|place| source.path.starts_with(place)) {
                wrong.push(format!("{} names {library}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_vocabulary_and_the_actors_name_no_transport_and_storage_no_actors() {
    for (module, forbidden) in [
        ("model", &["tokio", "axum", "rusqlite", "ractor", "std::fs", "std::net"][..]),
        ("actors", &["axum", "tungstenite", "hyper", "rusqlite", "reqwest"][..]),
        ("storage", &["ractor", "axum", "tungstenite", "hyper"][..]),
        ("service", &["axum", "hyper", "rusqlite"][..]),
    ] {
        for source in sources().iter().filter(|source| source.module() == module) {
            for (line, name) in source.lines().flat_map(|line| forbidden.iter().map(move |name| (line, name))) {
                assert!(!line.contains(&format!("{name}::")), "{} names {name}: {line}", source.path);
            }
        }
    }
}

#[test]
fn files_have_one_subject_and_say_which() {
    for source in sources() {
        assert!(source.text.starts_with("//!"), "{} does not say what it owns", source.path);
        assert!(!source.text.contains("::*;"), "{} imports by a glob", source.path);
        for name in ["utils", "common", "helpers", "types", "manager"] {
            assert!(!source.path.to_lowercase().contains(name), "{} is no noun of ours", source.path);
        }
    }
}
