//! An operator's program asks a node by its cluster port, and whoever does not know the secret asks in vain.

use crate::ground::log::Log;
use crate::ground::{Linked, Start, node, pair, within};
use bytes::Bytes;
use roost_cluster::link::{AskError, MAX_FRAME, Operator};
use roost_cluster::{Event, Secret};
use std::time::Duration;
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(20);

fn operator_of(asked: &Linked) -> Operator {
    let secret = Secret::new(b"a secret of the tests");
    Operator { address: asked.address(), cluster: "test".to_owned(), secret, tls: None }
}

/// Answers the next question with itself and more.
async fn answers(asked: &mut Linked) {
    match asked.hear().await {
        Event::Operator(call) => {
            let answer = [&call.bytes[..], b" and more"].concat();
            assert!(call.answer(Bytes::from(answer)));
        }
        event => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn a_node_that_is_asked_answers_and_no_other_hears_of_it() {
    let (a, mut b) = pair().await;
    let operator = operator_of(&b);
    for _ in 0..3 {
        let (answer, ()) = tokio::join!(operator.ask(b"this", SOON), answers(&mut b));
        assert_eq!(answer.unwrap(), "this and more");
    }
    a.send("b", b"undisturbed");
    assert_eq!(b.hear_of(1).await, ["frame undisturbed"]);
    assert_eq!(a.links.states().len(), 1, "an operator is no node");
}

#[tokio::test]
async fn a_node_that_knows_nobody_and_has_no_view_answers_too() {
    let mut alone = Linked::start("a", 1).await;
    let operator = operator_of(&alone);
    let long = vec![b'x'; MAX_FRAME];
    let (answer, ()) = tokio::join!(operator.ask(&long[..MAX_FRAME - 9], SOON), answers(&mut alone));
    assert_eq!(answer.unwrap().len(), MAX_FRAME);
    assert_eq!(operator.ask(&[long, vec![b'x']].concat(), SOON).await, Err(AskError::TooLong));
}

#[tokio::test]
async fn who_has_another_secret_or_cluster_is_refused_with_one_line_on_both_sides_and_hears_nothing() {
    let (log, _listening) = Log::listen();
    let (a, mut b) = pair().await;
    let right = operator_of(&b);
    let wrong = Operator { secret: Secret::new(b"another"), ..right.clone() };
    let refused = AskError::Refused("it refuses: your secret is not this cluster's".to_owned());
    assert_eq!(wrong.ask(b"this", SOON).await, Err(refused));
    assert!(log.has("refused a connection from").await.contains("it has another secret"));
    let wrong = Operator { cluster: "other".to_owned(), ..right };
    let told = wrong.ask(b"this", SOON).await.unwrap_err().to_string();
    assert_eq!(told, r#"it refuses: you are of the cluster "other", this node is not"#);
    within("two lines", async {
        while log.lines("refused a connection from").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    a.send("b", b"undisturbed");
    assert_eq!(b.hear_of(1).await, ["frame undisturbed"], "and nothing was asked of it");
}

#[tokio::test]
async fn a_question_that_nobody_answers_ends() {
    let mut alone = Linked::start("a", 1).await;
    let operator = operator_of(&alone);
    let drops = async {
        match alone.hear().await {
            Event::Operator(call) => drop(call),
            event => panic!("{event:?}"),
        }
    };
    let (answer, ()) = tokio::join!(operator.ask(b"this", SOON), drops);
    assert_eq!(answer, Err(AskError::Unanswered));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let operator = Operator { address: nobody.local_addr().unwrap().to_string(), ..operator };
    assert_eq!(operator.ask(b"this", Duration::from_millis(50)).await, Err(AskError::Late));
    drop(nobody);
    assert!(matches!(operator.ask(b"this", SOON).await, Err(AskError::Refused(_))));
}

#[tokio::test]
async fn nothing_is_asked_of_who_cannot_prove_to_be_of_the_cluster() {
    let mut start = Start::of(node("a", 1));
    start.options.secret = Secret::new(b"another");
    let impostor = start.go().await;
    let told = operator_of(&impostor).ask(b"this", SOON).await;
    assert!(matches!(told, Err(AskError::Refused(_))), "{told:?}");
}
