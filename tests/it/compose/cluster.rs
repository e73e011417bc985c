//! The three nodes of the file, by their command lines and environments as they stand: one cluster.

use super::{NODES, filled_in, healthcheck, root, service, words};
use crate::harness::child::RealServer;
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::engines::{cql_nodes, lasting_port};
use crate::harness::rest::Rest;
use crate::harness::until;
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;

/// A node of the file on this machine: prepared, not started.
pub(super) fn node(name: &str, redis: &str, cql: &[String], keyspace: &str) -> RealServer {
    let roost = service(name);
    let command = words(&roost["command"]);
    let mut server = RealServer::bare(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let free = || format!("127.0.0.1:{}", lasting_port(&[Ipv4Addr::LOCALHOST]));
    let (listen, linked, data) = (free(), free(), server.data_dir().display().to_string());
    for (variable, value) in roost["environment"].as_mapping().unwrap() {
        let (variable, stands) = (variable.as_str().unwrap(), filled_in(value.as_str().unwrap()));
        // What is mapped must be what the file's other services and volumes are called.
        let mapped = |expected: &str, here: &str| {
            assert_eq!(stands, expected, "{variable}");
            here.to_owned()
        };
        let value = match variable {
            "ROOST_LISTEN" => mapped("0.0.0.0:8080", &listen),
            "ROOST_DATA_DIR" => mapped("/var/lib/roost", &data),
            "ROOST_CLUSTER_LISTEN" => mapped("0.0.0.0:7400", &linked),
            "ROOST_CLUSTER_ADVERTISE" => mapped(&format!("{name}:7400"), &linked),
            "ROOST_NODE_NAME" => mapped(name, name),
            "ROOST_SCYLLA_NODES" => mapped("scylla:9042", &cql.join(",")),
            "ROOST_SCYLLA_KEYSPACE" => mapped("roost", keyspace),
            "ROOST_REDIS_URL" => mapped("redis://redis:6379", redis),
            _ => stands.clone(),
        };
        server.set(variable, &value);
    }
    server
}

/// What a command of the program prints, line by line, as JSON.
fn told(server: &RealServer, arguments: &[&str]) -> Vec<Value> {
    let output = server.runs(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each node's name, state and whether it has homes, as one of them sees them.
fn seen(server: &RealServer) -> Vec<(String, String, bool)> {
    let text = |node: &Value, name: &str| node[name].as_str().unwrap().to_owned();
    let nodes = told(server, &["nodes", "--json"]);
    nodes.iter().map(|node| (text(node, "name"), text(node, "state"), node["homes"] != 0)).collect()
}

/// What the docs say of several nodes.
fn section() -> String {
    let text = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let (_, section) = text.split_once("\n## Several nodes\n").expect("they are documented");
    section.split_once("\n## ").expect("an end of that").0.to_owned()
}

/// The commands of the program that the docs of several nodes show.
fn documented() -> Vec<String> {
    let section = section();
    let lines = section.lines().filter_map(|line| line.strip_prefix("$ "));
    let commands: Vec<_> = lines.map(str::to_owned).collect();
    assert!(commands.len() >= 9 && commands.iter().all(|line| line.starts_with("roost ")), "{commands:?}");
    commands
}

fn all_up() -> Vec<(String, String, bool)> {
    NODES.map(|name| (name.to_owned(), "up".to_owned(), true)).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_run_by_their_lines_are_one_cluster_which_its_operator_sees_and_drains() {
    let Some(cql) = cql_nodes() else { return };
    let Some(redis) = RedisServer::start().await else { return };
    let keyspace = format!("compose_{}", std::process::id());
    let mut servers = NODES.map(|name| node(name, &redis.url(), &cql, &keyspace));
    let probe = healthcheck(&service(NODES[0]));
    assert_eq!(probe[0], "/usr/local/bin/roost");
    let probe: Vec<_> = probe[1..].iter().map(String::as_str).collect();
    let before = servers[0].runs(&probe);
    assert_eq!(before.status.code(), Some(1), "nobody is there: {before:?}");
    assert!(String::from_utf8_lossy(&before.stderr).starts_with("roost: http://127.0.0.1:"), "{before:?}");
    let nobody = servers[0].runs(&["nodes"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");

    servers.iter_mut().for_each(RealServer::spawn);
    for server in &servers {
        until("it is healthy", async || server.runs(&probe).status.success().then_some(())).await;
        assert!(!server.log().contains("there is no such setting"), "{}", server.log());
        until("all are up", async || (seen(server) == all_up()).then_some(())).await;
    }

    // They are one: who is connected here hears who posts there.
    let (ann, mut bob) = (servers[0].person("ann").await, servers[0].person("bob").await);
    bob.follows(&ann).await;
    bob.rest = Rest::to(&servers[2].url(""));
    let mut heard = bob.connects().await;
    let post = ann.posts("hello").await;
    heard.expect_post(&post).await;

    let place = told(&servers[1], &["where", "user", &bob.id, "--json"]).remove(0);
    let sockets = |node: &str| {
        let counts = place["sockets"].as_array().unwrap();
        counts.iter().find(|count| count["node"] == node).unwrap()["sockets"].clone()
    };
    assert_eq!([sockets("roost-1"), sockets("roost-2"), sockets("roost-3")], [0, 0, 1], "{place}");
    let home = told(&servers[1], &["where", "author", &ann.id, "--json"]).remove(0);
    assert!(NODES.contains(&home["home"].as_str().unwrap()), "{home}");

    // From another node; with nobody connected it is done as soon as its homes have moved.
    let drained = servers[0].runs(&["drain", "roost-2", "--wait"]);
    assert_eq!(String::from_utf8_lossy(&drained.stdout), "drained: roost-2\n", "{drained:?}");
    assert_eq!(servers[1].runs(&probe).status.code(), Some(1), "it is not ready");
    let shown = told(&servers[2], &["nodes", "show", "roost-2", "--json"]).remove(0);
    assert_eq!((&shown["state"], &shown["homes"]), (&Value::from("draining"), &Value::from(0)), "{shown}");
    let post = ann.posts("while it is away").await;
    heard.expect_post(&post).await;
    let taken_back = servers[2].runs(&["undrain", "roost-2"]);
    assert!(taken_back.status.success(), "{taken_back:?}");
    until("all are up again", async || (seen(&servers[0]) == all_up()).then_some(())).await;
    until("it is ready again", async || servers[1].runs(&probe).status.success().then_some(())).await;
    // What the docs tell to type, in their order; the node that they name is the second.
    let node_2 = &servers[1].setting("ROOST_CLUSTER_ADVERTISE");
    for command in documented() {
        let command = command.replace("10.0.0.2:7400", node_2);
        let ran = servers[0].runs(&command.split_whitespace().skip(1).collect::<Vec<_>>());
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    servers[0].set("ROOST_CLUSTER_SECRET", "another one, of thirty-two bytes and more");
    let refused = servers[0].runs(&["nodes", "--node", node_2]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("your secret is not this cluster's") && told.lines().count() == 1, "{told}");
    until("the node has a line of it", async || {
        servers[1].log().contains("it has another secret").then_some(())
    })
    .await;
    assert!(
        servers.iter().all(|server| !server.data_dir().join("roost.db").exists()),
        "no database of its own"
    );
}

#[test]
fn the_documented_file_of_settings_is_one() {
    let section = section();
    let (_, block) = section.split_once("```toml\n").expect("an example");
    let (block, _) = block.split_once("```").expect("its end");
    let program = RealServer::bare(&[]);
    let file = program.folder().join("roost.toml");
    fs::write(&file, block).unwrap();
    let asked = program.runs(&["health", "--config", &file.display().to_string()]);
    // Whoever may be there: the settings are understood.
    assert_ne!(asked.status.code(), Some(2), "{}", String::from_utf8_lossy(&asked.stderr));
}
