//! Takes connections. Whoever has not proved within the time of a handshake that it is a node of the cluster is let
//! go with one line in the log; until then it costs a bounded little, and the links of others nothing.

use super::Hub;
use super::codec::{CONTENT_TYPE, MAX_MESSAGE, Plain};
use super::converse::{Outward, Rest, converse, outward};
use super::dial::{Driven, FLOW, HTTP_BUFFER, HTTP_FRAME, Io, PATH, gone, next};
use super::handshake::{Acceptor, Caller, Refusal, refusal};
use super::peer::Peer;
use crate::event::{Event, OperatorCall};
use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

/// Connections that have proved nothing; more are not taken until one of them has, or is let go.
const STRANGERS: usize = 64;
/// How long a connection may take to hear the last word.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How long the answer to an operator may take.
const ANSWER: Duration = Duration::from_secs(30);
/// After a failure to accept: most often there are no more open files.
const BREATH: Duration = Duration::from_millis(50);

/// A link, or why there is none.
type Answer = Either<Outward, Empty<Bytes>>;

/// Takes connections for ever.
pub async fn accept(hub: Arc<Hub>, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let mut connections = JoinSet::new();
    loop {
        // Never closed.
        let Ok(stranger) = Arc::clone(&strangers).acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let hub = Arc::clone(&hub);
                    connections.spawn(async move {
                        let met = timeout(hub.timing.handshake, meet(&hub, stream)).await;
                        drop(stranger);
                        match met {
                            Ok(Ok(Met::Node(node))) => node.converse(&hub).await,
                            Ok(Ok(Met::Operator(operator))) => {
                                tracing::info!(who = %address, "an operator asks something, from {address}");
                                operator.answer(&hub).await;
                            }
                            Ok(Err(why)) if why.is_passing() => hub.changed.notify_one(),
                            Ok(Err(why)) => hub.log_refusal(&address, &why),
                            Err(_) => hub.log_refusal(&address, &"it took too long to say who it is"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the cluster port takes no connection: {error}");
                    sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that proved itself.
enum Met {
    Node(MetNode),
    Operator(MetOperator),
}

struct MetNode {
    _driven: Driven,
    peer: Arc<Peer>,
    line: u64,
    inward: Streaming<Bytes>,
}

struct MetOperator {
    _driven: Driven,
    request: Bytes,
    say: mpsc::Sender<Bytes>,
    ending: Ending,
}

/// Told when the connection has ended.
type Ending = oneshot::Receiver<hyper::Result<()>>;

impl MetOperator {
    async fn answer(self, hub: &Hub) {
        let (call, answered) = OperatorCall::new(self.request);
        hub.tell(Event::Operator(call));
        // Where nobody answers, the end of the stream says so.
        if let Ok(Ok(answer)) = timeout(ANSWER, answered).await {
            // It may have gone.
            let _ = self.say.send(answer).await;
        }
        drop(self.say);
        let _ = timeout(LAST_WORD, self.ending).await;
    }
}

impl MetNode {
    async fn converse(self, hub: &Arc<Hub>) {
        let name = self.peer.name.clone();
        tracing::info!(peer = %name, "there is a link to {name}");
        let why = converse(hub, &self.peer, self.line, self.inward).await;
        tracing::info!(peer = %name, why, "the link to {name} ended: {why}");
    }
}

async fn meet(hub: &Arc<Hub>, stream: TcpStream) -> Result<Met, Refusal> {
    let broken = |error: &dyn std::fmt::Display| Refusal::Broken(error.to_string());
    stream.set_nodelay(true).map_err(|error| broken(&error))?;
    let stream: Box<dyn Io> = match &hub.tls {
        None => Box::new(stream),
        Some(tls) => {
            let secured = tls.acceptor.accept(stream).await;
            Box::new(secured.map_err(|error| broken(&format!("TLS fails: {error}")))?)
        }
    };
    let (opened, mut openings) = mpsc::channel(1);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let opened = opened.clone();
        async move { Ok::<_, Infallible>(serve(request, &opened)) }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(FLOW)
        .initial_connection_window_size(FLOW)
        .max_frame_size(HTTP_FRAME)
        .max_send_buf_size(HTTP_BUFFER)
        .max_concurrent_streams(2);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let (ended, ending) = oneshot::channel();
    let driven = Driven(tokio::spawn(async move {
        // Nobody may wait for it any more.
        let _ = ended.send(connection.await);
    }));
    let Some(mut opening) = openings.recv().await else {
        return Err(match ending.await {
            Ok(Err(error)) => broken(&format!("it does not speak this protocol ({error})")),
            Ok(Ok(())) | Err(_) => broken(&"it left without saying who it is"),
        });
    };
    match greet(hub, &mut opening).await {
        Ok(Greeted::Node(peer, line)) => {
            Ok(Met::Node(MetNode { _driven: driven, peer, line, inward: opening.inward }))
        }
        Ok(Greeted::Operator(request)) => {
            Ok(Met::Operator(MetOperator { _driven: driven, request, say: opening.say, ending }))
        }
        Err(why) => {
            if let Some(told) = refusal(&why, &hub.me) {
                // It may have gone.
                let _ = opening.say.send(told).await;
            }
            drop(opening);
            // Until the other end closes it: it has heard then.
            let _ = timeout(LAST_WORD, ending).await;
            Err(why)
        }
    }
}

/// Who was greeted.
enum Greeted {
    Node(Arc<Peer>, u64),
    /// With what it asks.
    Operator(Bytes),
}

async fn greet(hub: &Arc<Hub>, opening: &mut Opening) -> Result<Greeted, Refusal> {
    let (acceptor, challenge) = Acceptor::challenge(&next(&mut opening.inward).await?)?;
    opening.say.send(challenge).await.map_err(gone)?;
    let theirs = match acceptor.check(&next(&mut opening.inward).await?, &hub.secret, &hub.cluster)? {
        Caller::Node(identity) => identity,
        Caller::Operator => {
            let proof = acceptor.prove_to_operator(&hub.secret, &hub.cluster);
            opening.say.send(proof).await.map_err(gone)?;
            return next(&mut opening.inward).await.map(Greeted::Operator);
        }
    };
    if theirs.node.name == hub.me.name {
        return Err(Refusal::OwnName(theirs.node));
    }
    let Some(peer) = hub.peer(&theirs.node.name) else { return Err(Refusal::Unknown(theirs.node)) };
    let ours = peer.identity(hub);
    let writing = peer.connect(hub, false, &ours, &theirs)?;
    let line = writing.line();
    *opening.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(writing);
    opening.say.send(acceptor.prove(&hub.secret, &ours)).await.map_err(gone)?;
    // What follows is the link's.
    let (closed, _) = mpsc::channel(1);
    opening.say = closed;
    Ok(Greeted::Node(peer, line))
}

/// A stream that was opened and has said nothing yet.
struct Opening {
    inward: Streaming<Bytes>,
    say: mpsc::Sender<Bytes>,
    rest: Rest,
}

/// Hands a stream that was opened to the connection's task.
fn serve(request: http::Request<Incoming>, opened: &mpsc::Sender<Opening>) -> http::Response<Answer> {
    let refuse = |status: Status| status.into_http::<()>().map(|()| Answer::Right(Empty::new()));
    if request.uri().path() != PATH {
        return refuse(Status::unimplemented("there is nothing here"));
    }
    let inward = Streaming::new_request(Plain, request.into_body(), None, Some(MAX_MESSAGE));
    let (say, rest, outward) = outward();
    // One stream a connection.
    if opened.try_send(Opening { inward, say, rest }).is_err() {
        return refuse(Status::resource_exhausted("there is a stream already"));
    }
    let mut answer = http::Response::new(Answer::Left(outward));
    answer.headers_mut().insert(CONTENT_TYPE.0, CONTENT_TYPE.1);
    answer
}
