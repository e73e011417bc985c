//! What reaches the cluster port and is no node of the cluster: it gets nothing, is logged in one line on both sides,
//! and disturbs no link.

use crate::ground::log::Log;
use crate::ground::{Linked, Start, all, name, node, pair, within};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use roost_cluster::Secret;
use roost_cluster::link::Tls;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REFUSED: &str = "refused a connection from";
const NO_LINK: &str = "there is no link to";

/// A node that dials `a`, made as it is not to be; what both of them log.
async fn stranger(make: impl FnOnce(&mut Start)) -> (String, String) {
    let (log, _listening) = Log::listen();
    let (a, mut b) = pair().await;
    let mut start = Start::of(node("0", 1));
    make(&mut start);
    let stranger = start.go().await;
    stranger.join(1, &all(&[&a, &b, &stranger]));
    let refusing = log.has(REFUSED).await;
    let refused = log.has(NO_LINK).await;
    // Nothing of it was heard, and the others go on.
    a.send("b", b"undisturbed");
    assert_eq!(b.hear_of(1).await, ["frame undisturbed"]);
    (refusing, refused)
}

#[tokio::test]
async fn another_secret_is_refused_with_one_line_on_both_sides() {
    let (refusing, refused) = stranger(|start| start.options.secret = Secret::new(b"another")).await;
    assert!(refusing.contains("it has another secret"), "{refusing}");
    assert!(refused.contains("it refuses: your secret is not this cluster's"), "{refused}");
}

#[tokio::test]
async fn another_cluster_is_refused_with_one_line_on_both_sides() {
    let (refusing, refused) = stranger(|start| start.options.cluster = "other".to_owned()).await;
    assert!(refusing.contains(r#"it is of the cluster "other", not of this one"#), "{refusing}");
    assert!(refused.contains(r#"it refuses: you are of the cluster "other", this node is not"#), "{refused}");
}

#[tokio::test]
async fn a_second_node_of_this_name_is_refused_with_one_line_on_both_sides() {
    let (log, _listening) = Log::listen();
    let (first, second) = (Linked::start("a", 1).await, Linked::start("a", 2).await);
    second.links.know(&[(node("b", 1), first.address())]).unwrap();
    assert!(log.has(REFUSED).await.contains("it has this node's own name, a/0000000000000002"));
    assert!(log.has(NO_LINK).await.contains("it refuses: you have this node's own name"));
}

#[tokio::test]
async fn a_node_that_is_not_known_yet_waits_until_it_is() {
    let (log, _listening) = Log::listen();
    let (a, mut b) = (Linked::start("a", 1).await, Linked::start("b", 1).await);
    let nodes = all(&[&a, &b]);
    a.join(1, &nodes);
    // It was turned away once, at least.
    within("a try", b.links.changed()).await;
    b.join(1, &nodes);
    a.is_linked("b").await;
    assert_eq!(b.hear_of(2).await, ["up a/1", "gap a/1"]);
    assert!(log.lines(REFUSED).is_empty() && log.lines(NO_LINK).is_empty());
}

#[tokio::test]
async fn garbage_silence_and_a_slow_trickle_are_let_go_in_time_and_disturb_nobody() {
    let (log, _listening) = Log::listen();
    let (a, mut b) = pair().await;
    let mut garbage = TcpStream::connect(a.address()).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(log.has(REFUSED).await.contains("it does not speak this protocol"));
    let mut silent = TcpStream::connect(a.address()).await.unwrap();
    let mut trickle = TcpStream::connect(a.address()).await.unwrap();
    let trickling = async {
        // The beginning of HTTP/2, a byte now and then, for ever.
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().chain(std::iter::repeat(&0)) {
            if trickle.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of the trickle", trickling).await;
    // What may have been said before the end is HTTP/2's own.
    within("the end of the silence", silent.read_to_end(&mut Vec::new())).await.ok();
    within("the end of the garbage", garbage.read_to_end(&mut Vec::new())).await.ok();
    within("two lines", async {
        while log.lines("it took too long to say who it is").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    a.send("b", b"undisturbed");
    assert_eq!(b.hear_of(1).await, ["frame undisturbed"]);
}

#[tokio::test]
async fn many_strangers_at_once_keep_no_node_out_for_longer_than_a_handshake() {
    let (a, mut b) = (Linked::start("a", 1).await, Linked::start("b", 1).await);
    let mut strangers = Vec::new();
    for _ in 0..300 {
        strangers.push(TcpStream::connect(b.address()).await.unwrap());
    }
    let nodes = all(&[&a, &b]);
    a.join(1, &nodes);
    b.join(1, &nodes);
    assert_eq!(b.hear_of(2).await, ["up a/1", "gap a/1"]);
}

/// An authority, and a certificate and key of it for all nodes, in PEM.
fn authority() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("good parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("good parameters"))
        .expect("good parameters");
    let key = KeyPair::generate().expect("good parameters");
    let certificate = CertificateParams::new(vec!["nodes.test".to_owned()])
        .expect("good parameters")
        .signed_by(&key, &authority)
        .expect("good parameters");
    (certificate.pem(), key.serialize_pem(), authority.pem())
}

fn tls((certificate, key, authority): &(String, String, String)) -> Tls {
    Tls::from_pem(certificate.as_bytes(), key.as_bytes(), authority.as_bytes(), "nodes.test")
        .expect("good parameters")
}

async fn secured(name: &str, files: &(String, String, String)) -> Linked {
    let mut start = Start::of(node(name, 1));
    start.options.tls = Some(tls(files));
    start.go().await
}

#[tokio::test]
async fn with_tls_links_are_made_among_those_of_one_authority_only() {
    let (log, _listening) = Log::listen();
    let files = authority();
    let (a, mut b) = (secured("a", &files).await, secured("b", &files).await);
    let nodes = all(&[&a, &b]);
    a.join(1, &nodes);
    b.join(1, &nodes);
    a.is_linked("b").await;
    a.send("b", b"in secret");
    assert_eq!(b.hear_of(3).await, ["up a/1", "gap a/1", "frame in secret"]);

    for stranger in [secured("0", &authority()).await, Linked::start("1", 1).await] {
        let refused = log.lines(REFUSED).len();
        stranger.links.know(&nodes).unwrap();
        within("a refusal", async {
            while log.lines(REFUSED).len() == refused {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(stranger.links.states().iter().all(|state| !state.is_up));
    }
    assert!(a.links.send(&name("b"), b"undisturbed").is_ok());
    assert_eq!(b.hear_of(1).await, ["frame undisturbed"]);
}
