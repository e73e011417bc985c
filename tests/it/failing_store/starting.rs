//! A start with a cluster or a keyspace that is wrong: one line that names the setting and what to do, and
//! nothing is changed.

use crate::harness::child::RealServer;
use crate::harness::engines::cql_nodes;
use crate::harness::engines::guarded_cql::{self, GuardedCql};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::process::Output;
use uuid::Uuid;

const WRONG: &str = "hunter2-of-scylla";

/// The one line of a start with these settings, and its status.
async fn refused(settings: &[(&str, &str)]) -> (String, i32) {
    let server = RealServer::prepare(settings);
    let mut command = server.command(&[]);
    let run = move || command.output().expect("the program starts");
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.expect("it ends");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!said.contains(WRONG), "{said}");
    // What is logged has its own form.
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("roost: ") && stdout.is_empty(), "{said}");
    (lines[0].to_owned(), status.code().expect("a status"))
}

/// A keyspace of a test's own, and a way to it.
async fn keyspace(nodes: &[String]) -> (Session, String) {
    let session = SessionBuilder::new().known_nodes(nodes).build().await.expect("the CQL servers answer");
    (session, format!("start_{}", Uuid::new_v4().simple()))
}

async fn says(session: &Session, text: String) -> Vec<(String,)> {
    let answer = session.query_unpaged(text.clone(), ()).await.expect(&text);
    let Ok(rows) = answer.into_rows_result() else { return Vec::new() };
    // A lightweight transaction answers otherwise than a question; nobody looks at that.
    let Ok(rows) = rows.rows::<(String,)>() else { return Vec::new() };
    rows.map(|row| row.expect("a text")).collect()
}

/// The tables in a keyspace.
async fn tables(session: &Session, keyspace: &str) -> Vec<(String,)> {
    let text = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    says(session, text).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_none_are_named() {
    let other = RealServer::start();
    for (nodes, told) in
        [("127.0.0.1:1", "refused"), ("nowhere.invalid:9042", "resolve"), (&other.authority(), "OPTIONS")]
    {
        let (line, status) = refused(&[("ROOST_SCYLLA_NODES", nodes)]).await;
        assert!(line.contains("scylla_nodes") && line.contains(nodes) && line.contains(told), "{line}");
        assert_eq!(status, 1, "{line}");
    }
    for nodes in ["localhost", "127.0.0.1:0", "http://127.0.0.1:9042"] {
        let (line, status) = refused(&[("ROOST_SCYLLA_NODES", nodes)]).await;
        assert!(line.contains("ROOST_SCYLLA_NODES") && status == 2, "{nodes}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_that_is_none_or_that_the_cluster_has_no_nodes_for_is_named() {
    for wrong in ["many", "0", "10", "dc1=", "dc1=3,", "dc'1=3"] {
        let settings = [("ROOST_SCYLLA_NODES", "127.0.0.1:1"), ("ROOST_SCYLLA_REPLICATION", wrong)];
        let (line, status) = refused(&settings).await;
        assert!(line.contains("ROOST_SCYLLA_REPLICATION") && status == 2, "{line}");
    }
    let Some(nodes) = cql_nodes() else { return };
    let (session, keyspace) = keyspace(&nodes).await;
    for (replication, told) in [("nowhere=2", "datacenters"), ("9", "have fewer copies")] {
        let (line, status) = refused(&[
            ("ROOST_SCYLLA_NODES", &nodes.join(",")),
            ("ROOST_SCYLLA_KEYSPACE", &keyspace),
            ("ROOST_SCYLLA_REPLICATION", replication),
        ])
        .await;
        assert!(line.contains("scylla_replication") && line.contains(told) && status == 1, "{line}");
        assert!(line.contains(&keyspace), "{line}");
    }
    says(&session, format!("DROP KEYSPACE IF EXISTS {keyspace}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_of_something_else_or_of_a_newer_version_is_refused_and_left_as_it_is() {
    let Some(nodes) = cql_nodes() else { return };
    let (session, keyspace) = keyspace(&nodes).await;
    let settings = [("ROOST_SCYLLA_NODES", nodes.join(",")), ("ROOST_SCYLLA_KEYSPACE", keyspace.clone())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    says(
        &session,
        format!(
            "CREATE KEYSPACE {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"
        ),
    )
    .await;
    says(&session, format!("CREATE TABLE {keyspace}.birds (name text PRIMARY KEY)")).await;
    let (line, status) = refused(&settings).await;
    assert!(line.contains("scylla_keyspace") && line.contains(&keyspace) && status == 1, "{line}");
    assert!(line.contains("a keyspace of its own"), "{line}");
    assert_eq!(tables(&session, &keyspace).await, [("birds".to_owned(),)]);

    says(&session, format!("DROP TABLE {keyspace}.birds")).await;
    says(&session, format!("CREATE TABLE {keyspace}.schema_version (id int PRIMARY KEY, version bigint)"))
        .await;
    let newer = roost::storage::scylla::VERSION + 1;
    says(&session, format!("INSERT INTO {keyspace}.schema_version (id, version) VALUES (0, {newer})")).await;
    let (line, status) = refused(&settings).await;
    assert!(line.contains("scylla_keyspace") && line.contains(&keyspace) && status == 1, "{line}");
    assert!(line.contains(&format!("version {newer}")) && line.contains("use a newer one"), "{line}");
    assert_eq!(tables(&session, &keyspace).await, [("schema_version".to_owned(),)]);
    says(&session, format!("DROP KEYSPACE {keyspace}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_user_or_password_is_told_and_never_shown_and_the_right_one_is_let_in() {
    let Some(guarded) = GuardedCql::start().await else { return };
    let nodes = guarded.address();
    let user = |user, password| {
        [
            ("ROOST_SCYLLA_NODES", nodes.as_str()),
            ("ROOST_SCYLLA_USER", user),
            ("ROOST_SCYLLA_PASSWORD", password),
        ]
    };
    for (settings, told) in [
        (&user(guarded_cql::USER, WRONG)[..], guarded_cql::USER),
        (&user("somebody", WRONG)[..], "somebody"),
        (&user("", "")[..1], "ask for a password"),
    ] {
        let (line, status) = refused(settings).await;
        assert!(line.contains("scylla_user") && line.contains("scylla_password"), "{line}");
        assert!(line.contains(told) && status == 1, "{line}");
    }
    // Half of it is none.
    for half in [1, 2] {
        let all = user(guarded_cql::USER, WRONG);
        let (line, status) = refused(&[all[0], all[half]]).await;
        assert!(line.contains("ROOST_SCYLLA_") && line.contains("as well") && status == 2, "{line}");
    }
    let server = RealServer::prepare(&user(guarded_cql::USER, guarded_cql::PASSWORD));
    let mut command = server.command(&["schema", "status"]);
    let output =
        tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("no schema"), "{said}");
}
