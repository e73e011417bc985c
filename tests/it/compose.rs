//! What `docker-compose.yml` and the `Dockerfile` say, run without a container engine as far as that goes:
//! each service's command line and environment as they stand, hosts and paths mapped, and the script of the
//! build stage. What only an engine can run is named by the last test.

mod balancer;
mod cluster;

use crate::harness::engines::lasting_port;
use crate::harness::{skip, until};
use roost::config::Config;
use serde_yaml_ng::Value;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SECRET: &str = "thirty-two bytes and a few more of text";
const NODES: [&str; 3] = ["roost-1", "roost-2", "roost-3"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn services() -> HashMap<String, Value> {
    let text = fs::read_to_string(root().join("docker-compose.yml")).expect("the file");
    let mut file: Value = serde_yaml_ng::from_str(&text).expect("it is YAML");
    file.apply_merge().expect("what is merged is a map");
    serde_yaml_ng::from_value(file["services"].clone()).expect("services by name")
}

fn service(name: &str) -> Value {
    services().remove(name).unwrap_or_else(|| panic!("no service {name}"))
}

/// A list of words, as commands and healthchecks are written.
fn words(list: &Value) -> Vec<String> {
    serde_yaml_ng::from_value(list.clone()).unwrap_or_else(|error| panic!("{list:?}: {error}"))
}

/// The command of a healthcheck.
fn healthcheck(service: &Value) -> Vec<String> {
    let test = words(&service["healthcheck"]["test"]);
    assert_eq!(test[0], "CMD", "it needs no shell, which the image may not have");
    test[1..].to_vec()
}

/// A value with what stands for a variable that is not set: its default, or a secret where it has none.
fn filled_in(value: &str) -> String {
    match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        None => value.to_owned(),
        Some(variable) => match variable.split_once(":-") {
            Some((_, default)) => default.to_owned(),
            None => SECRET.to_owned(),
        },
    }
}

/// A process that is killed when its test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_service_is_probed_bounded_and_starts_again() {
    for (name, service) in services() {
        assert!(!healthcheck(&service).is_empty(), "{name}");
        for bound in ["mem_limit", "restart"] {
            assert!(service[bound].is_string(), "{name} has {bound}");
        }
        // Only the balancer is reached from outside, and that by loopback.
        let ports: Vec<_> = service["ports"].as_sequence().into_iter().flatten().collect();
        assert_eq!(ports.is_empty(), name != "balancer", "{name}");
        assert!(ports.iter().all(|port| port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:"))));
    }
    for name in NODES {
        let roost = service(name);
        assert_eq!(roost["read_only"], Value::Bool(true));
        assert_eq!(words(&roost["cap_drop"]), ["ALL"]);
        let volume = format!("{name}:{}", roost["environment"]["ROOST_DATA_DIR"].as_str().unwrap());
        assert_eq!(words(&roost["volumes"]), [volume], "what it writes is in a volume of its own");
    }
}

#[test]
fn nodes_differ_in_what_is_their_own_and_in_nothing_else() {
    let of = |name: &str| {
        let text = serde_yaml_ng::to_string(&service(name)).unwrap();
        text.replace(name, "this node")
    };
    assert_eq!(of(NODES[0]), of(NODES[1]));
    assert_eq!(of(NODES[0]), of(NODES[2]));
}

#[tokio::test]
async fn redis_runs_by_its_command_line_bounded_and_without_a_disk() {
    let redis = service("redis");
    let command = words(&redis["command"]);
    let port = lasting_port(&[Ipv4Addr::LOCALHOST]).to_string();
    let folder = tempfile::tempdir().unwrap();
    let started = Command::new(&command[0])
        .args(&command[1..])
        .args(["--port", &port, "--bind", "127.0.0.1"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        let test = "redis_runs_by_its_command_line_bounded_and_without_a_disk";
        return skip(test, "needs the program redis-server");
    };
    let mut running = Running(child);
    let probe = healthcheck(&redis);
    until("it is healthy", async || {
        assert!(running.0.try_wait().unwrap().is_none(), "it ended: {command:?}");
        let probed = Command::new(&probe[0]).args(["-p", &port]).args(&probe[1..]).output().unwrap();
        probed.status.success().then_some(())
    })
    .await;
    let setting = |name: &str| {
        let asked = Command::new("redis-cli").args(["-p", &port, "config", "get", name]).output().unwrap();
        let text = String::from_utf8(asked.stdout).unwrap();
        text.lines().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!((setting("appendonly").as_str(), setting("save").as_str()), ("no", ""));
    assert_eq!(setting("maxmemory-policy"), "volatile-lru");
    assert_eq!(setting("maxmemory"), (256 << 20).to_string());
    assert_eq!(redis["mem_limit"], Value::from("384m"), "more than it may fill");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn every_variable_of_roost_is_a_setting() {
    let roost = service(NODES[0]);
    for (name, value) in roost["environment"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        assert!(Config::SETTINGS.iter().any(|setting| setting.variable() == name), "{name}");
        assert!(value.is_string(), "{name}: what is not quoted, YAML may read as something else");
    }
}

#[test]
fn compose_takes_the_file_and_asks_for_the_secrets() {
    let test = "compose_takes_the_file_and_asks_for_the_secrets";
    let Some(compose) = compose() else { return skip(test, "needs docker-compose") };
    let config = |options: &[&str], secrets: &[&str]| {
        let mut command = Command::new(compose[0]);
        command.args(&compose[1..]).args(options).arg("config").current_dir(root());
        for secret in ["ROOST_JWT_SECRET", "ROOST_CLUSTER_SECRET"] {
            command.env_remove(secret);
            if secrets.contains(&secret) {
                command.env(secret, SECRET);
            }
        }
        command.output().unwrap()
    };
    let both = ["ROOST_JWT_SECRET", "ROOST_CLUSTER_SECRET"];
    let taken = config(&[], &both);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let three = config(&["--env-file", "docker/three.env"], &both);
    let told = String::from_utf8_lossy(&three.stdout).into_owned();
    assert!(three.status.success(), "{}", String::from_utf8_lossy(&three.stderr));
    let profile = |name: &str| words(&service(name)["profiles"]);
    assert_eq!([profile("scylla-2"), profile("scylla-3")], [["three"], ["three"]], "else there is one");
    let file = fs::read_to_string(root().join("docker/three.env")).unwrap();
    assert!(file.lines().any(|line| line == "COMPOSE_PROFILES=three"), "{file}");
    assert!(told.contains("ROOST_SCYLLA_NODES: scylla:9042,scylla-2:9042,scylla-3:9042"), "{told}");
    for missing in both {
        let refused = config(&[], &both.map(|secret| if secret == missing { "" } else { secret }));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{missing}");
        assert!(told.contains(missing) && told.contains("at least 32 bytes of random text"), "{told}");
    }
}

/// The program, or the engine's own command, whichever is there.
fn compose() -> Option<&'static [&'static str]> {
    let there: [&[&str]; 2] = [&["docker-compose"], &["docker", "compose"]];
    there.into_iter().find(|words| {
        let version = Command::new(words[0]).args(&words[1..]).arg("version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn the_build_stage_makes_a_program_that_the_image_can_run() {
    let test = "the_build_stage_makes_a_program_that_the_image_can_run";
    let Some(built) = std::env::var_os("ROOST_TEST_BINARY").map(PathBuf::from) else {
        return skip(test, "builds for minutes where tests/run has not built already");
    };
    let out = tempfile::tempdir().unwrap();
    let release = built.parent().and_then(Path::parent).expect("the folder of builds");
    let ran = Command::new(root().join("docker/build"))
        .arg(out.path())
        .env("CARGO_TARGET_DIR", release)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(out.path().join("data").is_dir());
    let version = Command::new(out.path().join("roost")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("roost "), "{version:?}");
}

#[test]
fn the_image_runs_what_its_build_stage_made_as_nobody() {
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let roost = service(NODES[0]);
    let probe = serde_json::to_string(&healthcheck(&roost)).unwrap().replace("\",\"", "\", \"");
    let data = roost["environment"]["ROOST_DATA_DIR"].as_str().unwrap();
    for line in [
        "docker/build /out".to_owned(),
        "COPY --from=build /out/roost /usr/local/bin/roost".to_owned(),
        format!("COPY --from=build --chown=65532:65532 /out/data {data}"),
        "USER 65532:65532".to_owned(),
        "ENTRYPOINT [\"/usr/local/bin/roost\"]".to_owned(),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}");
    }
    let healthcheck = lines.iter().find(|line| line.starts_with("HEALTHCHECK")).unwrap();
    assert!(healthcheck.ends_with(&format!("CMD {probe}")), "{healthcheck}: {probe}");
}

#[test]
fn what_only_a_container_engine_can_run_is_named() {
    let images = services().into_values().filter_map(|service| service["image"].as_str().map(str::to_owned));
    let mut images: Vec<_> = images.filter(|image| image != "roost").collect();
    images.sort();
    images.dedup();
    assert_eq!(images.len(), 3);
    let operating = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    for image in &images {
        assert!(
            operating.contains(image.as_str()),
            "docs/operating.md says that {image} is not run by the tests"
        );
    }
    let told = format!(
        "not run without a container engine: the Dockerfile itself; the images {}; the healthcheck, command \
         lines and memory limit of scylla; read-only roots, users, volumes and waiting of the services\n",
        images.join(", ")
    );
    std::io::stderr().write_all(told.as_bytes()).unwrap();
}
