//! The balancer by its file and its command line as they stand: HAProxy before nodes of which one is there.

use super::{NODES, Running, healthcheck, root, service, words};
use crate::harness::child::RealServer;
use crate::harness::engines::lasting_port;
use crate::harness::{skip, until};
use rustix::process::Signal;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::Command;

/// Where the file is in its container.
const INSIDE: &str = "/usr/local/etc/haproxy/haproxy.cfg";

fn file() -> String {
    fs::read_to_string(root().join("docker/haproxy.cfg")).expect("the file")
}

fn is_here(test: &str) -> bool {
    let is_here = Command::new("haproxy").arg("-v").output().is_ok();
    if !is_here {
        skip(test, "needs the program haproxy");
    }
    is_here
}

#[test]
fn haproxy_takes_the_file_and_it_names_every_node() {
    if !is_here("haproxy_takes_the_file_and_it_names_every_node") {
        return;
    }
    let checked =
        Command::new("haproxy").args(["-c", "-f", "docker/haproxy.cfg"]).current_dir(root()).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let balancer = service("balancer");
    assert_eq!(words(&balancer["volumes"]), [format!("./docker/haproxy.cfg:{INSIDE}:ro")]);
    assert_eq!(words(&balancer["depends_on"]), NODES);
    for name in NODES {
        assert!(file().contains(&format!("server {name} {name}:8080\n")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_reach_a_node_that_is_ready_and_are_sent_away_by_it() {
    if !is_here("clients_reach_a_node_that_is_ready_and_are_sent_away_by_it") {
        return;
    }
    let mut server =
        RealServer::with(&[("ROOST_TRUSTED_PROXIES", "127.0.0.1"), ("ROOST_DRAIN_SECONDS", "1")]);
    let port = || lasting_port(&[Ipv4Addr::LOCALHOST]);
    let front = format!("127.0.0.1:{}", port());
    // Two of the nodes are not there.
    let text = file()
        .replace("bind :8080", &format!("bind {front}"))
        .replace("roost-1:8080", &server.authority())
        .replace("roost-2:8080", &format!("127.0.0.1:{}", port()))
        .replace("roost-3:8080", &format!("127.0.0.1:{}", port()));
    let folder = tempfile::tempdir().unwrap();
    let [mapped, log, errors] = ["haproxy.cfg", "log", "errors"].map(|name| folder.path().join(name));
    fs::write(&mapped, text).unwrap();
    let command = words(&service("balancer")["command"]);
    let arguments = command[1..].iter().map(|word| word.replace(INSIDE, &mapped.display().to_string()));
    // As the image's own script begins it, but for the master process.
    let child = Command::new(&command[0])
        .arg("-db")
        .args(arguments)
        .stdout(File::create(&log).unwrap())
        .stderr(File::create(&errors).unwrap())
        .spawn();
    let mut running = Running(child.unwrap());
    server.moved_to(&format!("http://{front}"));
    let probe = healthcheck(&service("balancer")).pop().unwrap();
    let probe = probe.strip_prefix("http://127.0.0.1:8080").expect("its own port").to_owned();
    let is_healthy = async || {
        let ended = running.0.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", fs::read_to_string(&errors).unwrap());
        server.get(&probe).attempt().await.is_ok_and(|answer| answer.status == 200).then_some(())
    };
    until("it is healthy", is_healthy).await;
    // Before its first look it takes all of them to be there.
    until("it knows who is not there", async || {
        let said = fs::read_to_string(&errors).unwrap() + &fs::read_to_string(&log).unwrap();
        let is_down = |name: &str| said.contains(&format!("nodes/{name} is DOWN"));
        (is_down("roost-2") && is_down("roost-3")).then_some(())
    })
    .await;

    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    bob.follows(&ann).await;
    let mut heard = bob.connects().await;
    let post = ann.posts("hello").await;
    heard.expect_post(&post).await;
    for inside in ["/metrics", "/health", "/health/ready"] {
        assert_eq!(server.get(inside).attempt().await.unwrap().status, 404, "{inside}");
    }

    server.signal(Signal::TERM);
    heard.expect("reconnect").await;
    assert_eq!(heard.closed().await, 1012);
    assert!(server.ended().await.success());
    let is_told = async || (server.get(&probe).attempt().await.ok()?.status == 503).then_some(());
    until("the balancer knows that nobody is there", is_told).await;
    assert_eq!(server.get("/timeline").attempt().await.unwrap().status, 503);

    assert!(running.0.try_wait().unwrap().is_none());
    let log = until("the socket is in the balancer's log", async || {
        Some(fs::read_to_string(&log).unwrap()).filter(|log| log.contains("GET /ws 101"))
    })
    .await;
    assert!(!log.contains(&bob.token) && !log.contains("token="), "no token is in the balancer's log");
}
