//! `roost backup` while the server runs, and going back to it.

use crate::harness::child::RealServer;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_is_whole_and_can_be_gone_back_to() {
    let mut server = RealServer::start();
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    eve.follows(&ann).await;
    let before = ann.posts("before the backup").await;

    // Posts go on all the while.
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let posting = tokio::spawn({
        let ann = ann.clone();
        async move {
            let mut posts = 0;
            while stopped.try_recv().is_err() {
                ann.posts(&format!("meanwhile {posts}")).await;
                posts += 1;
            }
            posts
        }
    });
    let file = server.folder().join("backup.db");
    let path = file.to_str().unwrap().to_owned();
    let run = |path: &str| {
        let mut command = server.command(&["backup", path]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let made = run(&path).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    stop.send(()).unwrap();
    assert!(posting.await.unwrap() > 0);
    // A file that is there is not overwritten.
    let again = run(&path).await.unwrap();
    assert_eq!(again.status.code(), Some(1));
    let integrity: String = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");

    let after = ann.posts("after the backup").await;
    let cursor = eve.connects().await.cut();
    server.kill();
    for name in ["roost.db", "roost.db-wal", "roost.db-shm"] {
        let _ = fs::remove_file(server.data_dir().join(name));
    }
    fs::copy(&file, server.data_dir().join("roost.db")).unwrap();
    server.spawn();

    let timeline = ann.get("/timeline?limit=100").await.expect(200).to_string();
    assert!(!timeline.contains(&after), "that was later");
    let of_ann = ann.get(&format!("/posts/{before}")).await;
    of_ann.expect(200);
    // Its cursors count another history: whoever comes with one is told so, and goes on.
    let mut listening = eve.resumes(&cursor).await;
    assert_eq!(listening.connected["resumed"], false);
    assert_eq!(listening.expect("resync").await["reason"], "foreign");
    let next = ann.posts("after going back").await;
    // What was still being delivered when the backup was made may come before it.
    listening.posts_until(&next).await;
    let mut again = eve.resumes(&listening.cut()).await;
    assert_eq!(again.connected["resumed"], true);
    again.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_made_of_a_stopped_server_too_and_of_none_not() {
    let mut server = RealServer::start();
    server.person("ann").await;
    server.kill();
    let file = server.folder().join("backup.db");
    let made = server.runs(&["backup", file.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(file.exists());
    let nowhere = RealServer::prepare(&[]);
    let refused = nowhere.runs(&["backup", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&refused.stderr).lines().count(), 1);
}
