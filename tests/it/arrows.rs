//! The arrows between the modules: who may name whom, and which libraries are named where. They are read
//! from the sources, the tests in them left out (those may look at their subject from anywhere).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate's root, and the others that it may name.
const ARROWS: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("data_dir", &[]),
    // What a setting may say is the vocabulary's.
    // Settings are read into the types that the engines take.
    ("config", &["model", "storage"]),
    // The filter of logs is a setting.
    ("telemetry", &["config"]),
    ("storage", &["model", "telemetry"]),
    ("identity", &["model", "telemetry"]),
    ("events", &["model", "telemetry"]),
    ("actors", &["model", "storage", "events", "telemetry"]),
    ("service", &["model", "storage", "identity", "actors", "telemetry"]),
    // Sockets are live state's (`live`), operators' commands the store's and its folder's (`admin`).
    ("http", &["model", "service", "actors", "storage", "config", "data_dir", "telemetry"]),
    // A command that finds no server works on what it left.
    ("cli", &["model", "service", "storage", "http", "config", "data_dir", "telemetry", "run", "StartError"]),
    (
        "app",
        &[
            "model",
            "data_dir",
            "config",
            "telemetry",
            "storage",
            "identity",
            "events",
            "actors",
            "service",
            "http",
        ],
    ),
    ("lib", &["app", "config", "actors"]),
    ("main", &[]),
];

/// Only here may an engine be named: the others name what is to be done, not how.
const ENGINES: [(&str, &[&str]); 4] = [
    ("storage::sqlite", &["storage", "app", "cli"]),
    ("storage::memory", &["storage", "app"]),
    ("storage::redis", &["storage", "app"]),
    ("storage::scylla", &["storage", "app", "cli", "config"]),
];

/// A library, and the only files (or folders) that name it.
const LIBRARIES: [(&str, &[&str]); 15] = [
    ("axum", &["http", "cli/operator.rs", "app/operating.rs"]),
    ("hyper", &["http", "cli/operator.rs", "cli/dead_letters.rs", "cli/nodes"]),
    ("hyper_util", &["http", "cli/operator.rs"]),
    ("tower", &["http", "cli/operator.rs"]),
    ("tower_http", &["http"]),
    ("utoipa", &["http"]),
    ("utoipa_axum", &["http"]),
    ("tokio_tungstenite", &["http/live", "cli/listen"]),
    ("ractor", &["actors", "http/live/socket.rs"]),
    ("roost_cluster", &["actors", "app"]),
    ("prost", &["actors/wire"]),
    ("rusqlite", &["storage/sqlite"]),
    ("fred", &["storage/redis"]),
    ("jsonwebtoken", &["identity"]),
    ("argon2", &["identity"]),
];

#[test]
fn modules_name_only_those_that_the_design_lets_them_name() {
    for source in sources() {
        let (_, allowed) = ARROWS
            .iter()
            .find(|(module, _)| *module == source.module)
            .unwrap_or_else(|| panic!("{}: no arrow says whom it may name", source.name));
        for (named, _) in source.ours() {
            let is_allowed = named == source.module || allowed.contains(&named.as_str());
            assert!(is_allowed, "{} must not name crate::{named}", source.name);
        }
    }
}

#[test]
fn engines_of_storage_are_named_only_where_they_are_chosen() {
    for source in sources() {
        for (first, second) in source.ours() {
            let named = format!("{first}::{second}");
            let engine = ENGINES.iter().find(|(engine, _)| *engine == named);
            let is_allowed = engine.is_none_or(|(_, by)| by.contains(&source.module.as_str()));
            assert!(is_allowed, "{} must not name crate::{named}", source.name);
        }
    }
}

#[test]
fn libraries_are_named_only_by_what_adapts_them() {
    for source in sources() {
        for (library, places) in LIBRARIES {
            let is_allowed = places.iter().any(|place| {
                source.name == *place
                    || source.name.starts_with(&format!("{place}/"))
                    || source.name == format!("{place}.rs")
            });
            assert!(is_allowed || !source.names(library), "{} must not name {library}", source.name);
        }
    }
}

#[test]
fn every_way_to_name_something_is_seen() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        let source = Source::of(Path::new(path), text);
        let found: Vec<_> = source.ours().into_iter().map(|(first, _)| first).collect();
        assert_eq!(found, expected, "{path}: {text}");
    };
    check("actors/author.rs", "use crate::model::id::UserId;", &["model"]);
    check("actors/author.rs", "fn f(x: crate::http::Edge) {}", &["http"]);
    check("actors/author.rs", "use super::relay::Relay;", &["actors"]);
    check("actors/author.rs", "use super::super::http::Edge;", &["http"]);
    check("actors/mod.rs", "use super::http::Edge;", &["http"]);
    check("http/live/mod.rs", "use super::Edge; use super::super::app::App;", &["app", "http"]);
    check("app.rs", "use crate::{http, model::id};", &["http", "model"]);
    check("app.rs", "use crate::{http::{self, Edge}, model};", &["http", "model"]);
    check("model/id.rs", "//! See [`crate::http`].\n// crate::app\nfn f() {} /// crate::cli", &[]);
    check("model/id.rs", "#[cfg(test)]\nmod tests {\n    use crate::app::App;\n}", &[]);
    check("model/tests.rs", "use crate::app::App;", &[]);
    let source = Source::of(Path::new("model/id.rs"), "use axum_extra::x; fn f() { ::axum::y() }");
    assert!(source.names("axum") && !source.names("extra") && !source.names("ax"));
    assert!(!Source::of(Path::new("model/id.rs"), "let axum = 1; // axum::x").names("axum"));
}

/// A file of `src`.
struct Source {
    /// Its path in there.
    name: String,
    /// The module of the crate's root that it is, or is a part of.
    module: String,
    /// Where it stands in the tree of modules.
    path: Vec<String>,
    /// Without comments and tests.
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                found.push(Source::of(path.strip_prefix(&root).expect("in there"), &text));
            }
        }
    }
    assert!(found.len() > 50, "the sources are elsewhere");
    found
}

impl Source {
    fn of(name: &Path, text: &str) -> Self {
        let without_end = name.with_extension("");
        let mut path: Vec<String> =
            without_end.iter().map(|part| part.to_str().expect("text").to_owned()).collect();
        let is_tests = path.last().is_some_and(|last| last == "tests");
        path.pop_if(|last| last == "mod");
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = code.strip_prefix("#[cfg(test)]\nmod tests").map_or(code, |_| "");
        let lines = code.lines().map(|line| line.split_once("//").map_or(line, |(before, _)| before));
        Self {
            name: name.display().to_string(),
            module: path[0].clone(),
            path,
            text: if is_tests { String::new() } else { lines.collect::<Vec<_>>().join("\n") },
        }
    }

    /// What it names of this crate: a module of the root, and what it names in there.
    fn ours(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for behind in self.behind("crate") {
            found.extend(first_two(behind));
        }
        for behind in self.behind("super") {
            let mut above = &self.path[..self.path.len() - 1];
            let mut behind = behind;
            while let Some(further) = behind.strip_prefix("super::") {
                above = &above[..above.len() - 1];
                behind = further;
            }
            match above {
                [] => found.extend(first_two(behind)),
                [first, ..] => drop(found.insert((first.clone(), above.get(1).cloned().unwrap_or_default()))),
            }
        }
        found
    }

    /// Whether it names a library.
    fn names(&self, library: &str) -> bool {
        !self.behind(library).is_empty() || self.text.contains(&format!("use {library};"))
    }

    /// What stands behind each `word::` that begins a path.
    fn behind(&self, word: &str) -> Vec<&str> {
        let start = format!("{word}::");
        let begins_a_path = |place: usize| {
            let before = &self.text[..place];
            // `::axum` is a library's full name; `super::super` is one path.
            let before =
                before.strip_suffix("::").filter(|before| !before.ends_with(is_of_a_word)).unwrap_or(before);
            !before.ends_with(|letter| is_of_a_word(letter) || letter == ':')
        };
        let places = self.text.match_indices(&start).filter(|(place, _)| begins_a_path(*place));
        places.map(|(place, _)| &self.text[place + start.len()..]).collect()
    }
}

const fn is_of_a_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The first two names of each path that begins here: of one, or of each in braces.
fn first_two(text: &str) -> Vec<(String, String)> {
    let name = |text: &str| {
        text.trim_start().split(|letter| !is_of_a_word(letter)).next().unwrap_or_default().to_owned()
    };
    let pair =
        |text: &str| (name(text), text.split_once("::").map_or_else(String::new, |(_, rest)| name(rest)));
    let Some(listed) = text.strip_prefix('{') else { return vec![pair(text)] };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (place, letter) in listed.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.push(pair(&listed[start..place]));
                start = place + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|(first, _)| !first.is_empty());
    found
}
