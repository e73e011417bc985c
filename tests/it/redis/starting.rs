//! A start with a Redis that is wrong, or not there: degraded with one clear line, but for an address that is
//! none.

use super::{health, is_degraded};
use crate::harness::child::RealServer;
use crate::harness::engines::lasting_port;
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::until;

const PASSWORD: &str = "hunter2-of-redis";

/// Starts, and answers what the log says of Redis.
async fn starts_degraded(url: &str) -> String {
    let server = RealServer::with(&[("ROOST_REDIS_URL", url)]);
    is_degraded(&server).await;
    server.person("ann").await.posts("hello").await;
    until("the metrics show it", async || {
        let metrics = server.get("/metrics").await.text;
        metrics.contains("roost_circuit_open{dependency=\"redis\"} 1").then_some(())
    })
    .await;
    let lines = server.log();
    assert!(!lines.contains(PASSWORD), "{lines}");
    let lines: Vec<_> = lines.lines().filter(|line| line.contains("Redis")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN"), "{lines:?}");
    lines[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_a_wrong_place_and_no_redis_are_told_in_one_line_each() {
    let Some(redis) = RedisServer::start().await else { return };
    redis.says(&["config", "set", "requirepass", PASSWORD]);
    let place = redis.address();
    let line = starts_degraded(&format!("redis://:{PASSWORD}-not@{place}")).await;
    assert!(line.contains("WRONGPASS") && line.contains(&place), "{line}");
    let line = starts_degraded(&format!("redis://{place}")).await;
    assert!(line.contains("NOAUTH"), "{line}");
    let line = starts_degraded("redis://127.0.0.1:1").await;
    assert!(line.contains("127.0.0.1:1") && line.contains("refused"), "{line}");
    // Something that speaks another language.
    let other = RealServer::start();
    let http = other.url("").replacen("http", "redis", 1);
    starts_degraded(&http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_rights_of_its_own_is_enough_and_one_with_fewer_is_told() {
    let Some(redis) = RedisServer::start().await else { return };
    let rights = ["~ws:connection:*", "~timeline:*", "~roost:*", "&roost:*"];
    let commands = [
        "+set",
        "+get",
        "+del",
        "+evalsha",
        "+eval",
        "+time",
        "+type",
        "+pexpire",
        "+hget",
        "+hset",
        "+hdel",
        "+hmget",
        "+publish",
        "+subscribe",
        "+xadd",
        "+ping",
        "+client",
        "+info",
    ];
    let password = format!(">{PASSWORD}");
    let user = ["acl", "setuser", "roost", "on", &password];
    assert_eq!(redis.says(&[&user[..], &rights, &commands].concat()), "OK");
    let url = redis.url().replacen("://", &format!("://roost:{PASSWORD}@"), 1);
    let server = RealServer::with(&[("ROOST_REDIS_URL", &url)]);
    let ann = server.person("ann").await;
    let mut client = ann.connects().await;
    ann.posts("hello").await;
    ann.timeline().await;
    client.expect("newPost").await;
    ann.call("POST", "/auth/logout").await.expect(204);
    assert_eq!(health(&server).await, ("ok".to_owned(), "closed".to_owned(), "ok".to_owned()));
    assert!(!server.log().contains("Redis"), "{}", server.log());
    until("it was used", async || redis.says(&["keys", "roost:limit:*"]).is_empty().then_some(())).await;

    redis.says(&["acl", "setuser", "roost", "-set"]);
    is_degraded(&server).await;
    assert!(server.log().contains("NOPERM"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_who_is_vouched_for_is_trusted_and_nobody_else() {
    let Some(redis) = RedisServer::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
    let port = lasting_port(&[std::net::Ipv4Addr::LOCALHOST]).to_string();
    let tls = [
        ("tls-cert-file", certificate.as_str()),
        ("tls-key-file", key.as_str()),
        ("tls-ca-cert-file", certificate.as_str()),
        ("tls-auth-clients", "no"),
        ("tls-port", port.as_str()),
    ];
    let set = tls.iter().flat_map(|(name, value)| [*name, *value]);
    assert_eq!(redis.says(&["config", "set"].into_iter().chain(set).collect::<Vec<_>>()), "OK");
    let url = format!("rediss://127.0.0.1:{port}");
    let server = RealServer::with(&[("ROOST_REDIS_URL", &url), ("ROOST_REDIS_CA", &certificate)]);
    server.person("ann").await;
    assert_eq!(health(&server).await.0, "ok");
    starts_degraded(&url).await;

    for (file, told) in [(key.as_str(), "has no certificate"), ("nowhere.pem", "cannot be read")] {
        let server = RealServer::prepare(&[("ROOST_REDIS_URL", &url), ("ROOST_REDIS_CA", file)]);
        let output = server.runs(&[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains("redis_ca") && said.contains(told) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn an_address_that_is_none_stops_the_start() {
    for url in ["localhost", "http://127.0.0.1", "redis://", "redis://u:hunter2@h/x"] {
        let server = RealServer::prepare(&[("ROOST_REDIS_URL", url)]);
        let output = server.runs(&[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{url}: {said}");
        assert!(said.contains("ROOST_REDIS_URL") && said.lines().count() == 1, "{url}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
