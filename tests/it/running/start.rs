//! What stops a start: one clear line, a status, and nothing damaged.

use crate::harness::child::RealServer;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

/// The one line of a start that failed, and its status.
#[track_caller]
fn refusal(output: &Output) -> (String, i32) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("roost: "), "{said}");
    assert!(output.stdout.is_empty(), "nothing was started");
    (lines[0].to_owned(), output.status.code().expect("a status"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_is_named_in_one_line() {
    for (name, value) in [
        ("ROOST_LISTEN", "nonsense"),
        ("ROOST_HEARTBEAT_SECONDS", "abc"),
        ("ROOST_HEARTBEAT_SECONDS", "0"),
        ("ROOST_LIMIT_POSTS_PER_MINUTE", "-1"),
        ("ROOST_ROLE", "king"),
        ("ROOST_JWT_SECRET", "short"),
        ("ROOST_TLS_CERT", "/nowhere/cert.pem"),
        ("ROOST_TRUSTED_PROXIES", "10.0.0.0/99"),
        ("ROOST_EVENTS_URL", "ftp://example.com"),
    ] {
        let server = RealServer::prepare(&[(name, value)]);
        let (line, status) = refusal(&server.runs(&["serve"]));
        assert!(line.contains(name), "{line}");
        assert_eq!(status, 2, "{line}");
        assert!(!server.data_dir().exists(), "nothing was made: {line}");
    }
    let server = RealServer::prepare(&[]);
    let (line, status) = refusal(&server.runs(&["--heartbeat-seconds", "abc"]));
    assert!(line.contains("--heartbeat-seconds") && status == 2, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_and_a_folder_that_cannot_be_used_are_told_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (line, status) = refusal(&RealServer::prepare(&[("ROOST_LISTEN", &address)]).runs(&[]));
    assert!(line.contains(&address) && status == 1, "{line}");

    // /proc takes no new files, from root neither.
    for folder in ["/proc", "/proc/roost", "/dev/null/roost"] {
        let (line, status) = refusal(&RealServer::prepare(&[("ROOST_DATA_DIR", folder)]).runs(&[]));
        assert!(line.contains(folder) && status == 1, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_one_folder_is_refused_and_the_first_goes_on() {
    let server = RealServer::start();
    let (line, status) = refusal(&server.runs(&[]));
    assert!(line.contains(&server.pid().to_string()) && status == 1, "{line}");
    server.get("/health/ready").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_newer_version_or_none_at_all_is_refused_and_left_as_it_is() {
    let mut server = RealServer::start();
    server.person("ann").await;
    server.kill();
    let file = server.data_dir().join("roost.db");
    let raise = |step: i64| {
        let database = rusqlite::Connection::open(&file).unwrap();
        let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        database.pragma_update(None, "user_version", version + step).unwrap();
        // Everything into the one file, so that it can be compared.
        let _: i64 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    };
    raise(1000);
    let before = std::fs::read(&file).unwrap();
    let (line, status) = refusal(&server.runs(&[]));
    assert!(line.contains("newer") && status == 1, "{line}");
    assert!(std::fs::read(&file).unwrap() == before, "it is as it was");
    raise(-1000);
    server.spawn();
    server.login("ann").await.expect(200);
    server.kill();

    let other = RealServer::prepare(&[]);
    std::fs::create_dir(other.data_dir()).unwrap();
    let file = other.data_dir().join("roost.db");
    let letter = "this is a letter to my grandmother, and by no means a database of anything\n";
    for nonsense in [letter.repeat(99), letter.to_owned(), "?".to_owned()] {
        std::fs::write(&file, &nonsense).unwrap();
        let (line, status) = refusal(&other.runs(&[]));
        assert!(line.contains("roost.db") && status == 1, "{line}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), nonsense);
    }

    // A database of somebody else's.
    std::fs::remove_file(&file).unwrap();
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE birds (name TEXT)").unwrap();
    let before = std::fs::read(&file).unwrap();
    let (line, status) = refusal(&other.runs(&[]));
    assert!(line.contains("roost.db") && status == 1, "{line}");
    assert!(std::fs::read(&file).unwrap() == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_key_and_folder_are_its_owners_alone_and_outlive_a_restart() {
    let mut server = RealServer::start();
    let ann = server.person("ann").await;
    let mode = |name: &str| {
        let metadata = std::fs::metadata(server.data_dir().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("signing-key.pem"), 0o600);
    assert_eq!(mode("roost.sock"), 0o600);
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("roost.db") & 0o077, 0);
    server.kill();
    server.spawn();
    ann.get("/timeline").await.expect(200);
}
