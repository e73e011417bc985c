use super::{age, done, is_empty, list, say_node, say_nodes, say_place, segment, show};
use crate::actors::membership::Membership;
use crate::cli::CliError;
use crate::cli::operator::Operator;
use crate::data_dir::DataDir;
use crate::http::admin;
use crate::model::operation::{LinkReport, NodeList, NodeReport, NodeState, OwnReport, Place, SocketCount};
use crate::service::cluster::Operations;
use hyper::Method;
use roost_cluster::NodeName;
use std::sync::Arc;

fn here() -> NodeReport {
    NodeReport {
        name: "roost-1".to_owned(),
        boot: "00000000000000ab".to_owned(),
        state: NodeState::Up,
        is_here: true,
        address: "10.0.0.1:7400".to_owned(),
        homes: 256,
        link: None,
        own: Some(OwnReport {
            version: "0.1.0".to_owned(),
            role: "all".to_owned(),
            view: Some(7),
            is_draining: false,
            may_act: true,
            sockets: 1200,
            redis: None,
        }),
    }
}

fn silent() -> NodeReport {
    let link = LinkReport {
        is_up: false,
        since_seconds: 12.4,
        heard_seconds: 150.0,
        view: Some(6),
        confirmed: 6,
        held_bytes: 4096,
    };
    let (name, boot) = ("roost-2".to_owned(), "00000000000000cd".to_owned());
    NodeReport {
        name,
        boot,
        state: NodeState::Out,
        is_here: false,
        homes: 0,
        link: Some(link),
        own: None,
        ..here()
    }
}

fn said(say: impl FnOnce(&mut Vec<u8>) -> Result<(), CliError>) -> Vec<String> {
    let mut out = Vec::new();
    say(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_table_says_how_each_node_is_though_one_does_not_answer() {
    let list = NodeList { view: Some(7), nodes: vec![here(), silent()] };
    assert_eq!(
        said(|out| say_nodes(&list, out)),
        [
            "NAME STATE HOMES SOCKETS LINK HEARD VERSION ROLE ADDRESS",
            "roost-1 up 256 1200 here - 0.1.0 all 10.0.0.1:7400",
            "roost-2 out 0 - down 12s 2m - - 10.0.0.1:7400",
            "view: 7",
        ]
    );
}

#[test]
fn one_node_is_shown_whole() {
    let shown = said(|out| say_node(&here(), out));
    assert!(
        shown.contains(&"sockets: 1200".to_owned()) && shown.contains(&"may act: yes".to_owned()),
        "{shown:?}"
    );
    let shown = said(|out| say_node(&silent(), out));
    assert!(shown.contains(&"itself: does not answer".to_owned()), "{shown:?}");
    assert!(shown.contains(&"waiting: 4096 bytes for it".to_owned()), "{shown:?}");
}

#[test]
fn a_place_names_its_home_and_who_holds_sockets() {
    let count = |node: &str, sockets| SocketCount { node: node.to_owned(), sockets };
    let place = Place {
        kind: "user".to_owned(),
        id: "1".to_owned(),
        shard: 3,
        home: Some("a".to_owned()),
        sockets: vec![count("a", Some(2)), count("b", None)],
    };
    assert_eq!(
        said(|out| say_place(&place, out)),
        ["user 1", "shard 3", "home a", "sockets a: 2", "sockets b: does not answer"]
    );
}

#[test]
fn ages_have_one_unit() {
    for (seconds, told) in [(0.04, "0.0s"), (59.6, "60s"), (120.0, "2m"), (7_200.0, "2h"), (172_800.0, "2d")]
    {
        assert_eq!(age(seconds), told);
    }
}

#[test]
fn no_name_leaves_its_place_in_a_path() {
    assert!(segment("roost-2.a_b").is_ok());
    for name in ["", "a/b", "..%2f", "a b", "a?b"] {
        assert!(segment(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_running_server_is_asked_by_its_socket() {
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path()).unwrap();
    let membership = Membership::alone(NodeName::parse("one").unwrap(), Arc::default(), "all");
    let membership = Arc::new(membership.unwrap());
    let drains = membership.drains();
    let router = admin::nodes::router(Operations::new(membership));
    let listener = admin::bind(&data).unwrap();
    let serving = tokio::spawn(admin::serve(listener, router, std::future::pending()));

    let operator = Operator::Server(root.path().to_owned());
    let mut out = Vec::new();
    list(&operator, true, &mut out).await.unwrap();
    let listed: NodeReport = serde_json::from_slice(&out).unwrap();
    assert_eq!((listed.name.as_str(), listed.homes), ("one", 256));
    show(&operator, "one", false, &mut Vec::new()).await.unwrap();
    let place: Place =
        operator.ask(Method::GET, "/where/user/01980000-0000-7000-8000-000000000001").await.unwrap().unwrap();
    assert_eq!(place.sockets.len(), 1);

    let refused = done(&operator, Method::PUT, "/nodes/one/drain?force=false", "one").await.unwrap_err();
    assert!(refused.to_string().contains("the only node that is up"), "{refused}");
    assert!(!*drains.borrow());
    done(&operator, Method::PUT, "/nodes/one/drain?force=true", "one").await.unwrap();
    assert!(*drains.borrow());
    assert!(!is_empty(&operator, "one").await.unwrap(), "nobody has taken its homes");
    done(&operator, Method::DELETE, "/nodes/one/drain", "one").await.unwrap();
    assert!(!*drains.borrow());
    let taken_back = is_empty(&operator, "one").await.unwrap_err();
    assert!(taken_back.to_string().contains("no longer"), "{taken_back}");

    let none = done(&operator, Method::PUT, "/nodes/two/drain?force=true", "two").await.unwrap_err();
    assert_eq!(none.to_string(), "there is no node \"two\"");
    assert_eq!(
        show(&operator, "two", true, &mut Vec::new()).await.unwrap_err().to_string(),
        none.to_string()
    );
    serving.abort();
}
