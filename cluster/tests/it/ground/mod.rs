//! What the tests stand on: links that know each other, a proxy that fails as a network does, what is logged.

pub mod log;
pub mod member;
pub mod proxy;
pub mod redis;

use roost_cluster::link::{LinkOptions, Links, WINDOW};
use roost_cluster::{Boot, Event, Events, Member, Node, NodeName, Secret, State, Timing, ViewRecord};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// No condition takes so long, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(30);

/// Waits for a condition, and fails where it does not come about.
pub async fn within<T>(what: &str, condition: impl Future<Output = T>) -> T {
    timeout(LONG, condition).await.unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"))
}

pub fn name(name: &str) -> NodeName {
    NodeName::parse(name).expect("a good name")
}

pub fn node(of: &str, boot: u64) -> Node {
    Node { name: name(of), boot: Boot::new(boot) }
}

/// The default times an eighth as long.
pub fn quick() -> Timing {
    Timing::shortened(8)
}

/// The links of one node with what it hears.
pub struct Linked {
    pub node: Node,
    pub links: Links,
    pub events: Events,
}

/// How a node is started.
pub struct Start {
    pub options: LinkOptions,
}

impl Start {
    pub fn of(node: Node) -> Self {
        let options = LinkOptions {
            me: node,
            cluster: "test".to_owned(),
            secret: Secret::new(b"a secret of the tests"),
            tls: None,
            window: WINDOW,
            routes: BTreeMap::new(),
            timing: quick(),
        };
        Self { options }
    }

    pub async fn go(self) -> Linked {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let node = self.options.me.clone();
        let (links, events) = Links::start(self.options, listener).expect("it starts");
        Linked { node, links, events }
    }
}

impl Linked {
    /// A node whose address is its own.
    pub async fn start(name: &str, boot: u64) -> Self {
        Start::of(node(name, boot)).go().await
    }

    pub fn address(&self) -> String {
        self.links.address().to_string()
    }

    /// Takes up these nodes, all of them up, as the view of this number.
    pub fn join(&self, number: u64, nodes: &[(Node, String)]) {
        self.links.know(nodes).expect("random numbers");
        self.links.adopt(view(number, nodes));
    }

    pub fn send(&self, to: &str, bytes: &[u8]) {
        self.links.send(&name(to), bytes).expect("it is taken");
    }

    /// The next event that is not a view's.
    pub async fn hear(&mut self) -> Event {
        loop {
            match within("an event", self.events.next()).await.expect("it goes on") {
                Event::View(_) | Event::AllConfirmed(_) => {}
                event => return event,
            }
        }
    }

    /// The next events in short: `up a/1`, `gap a/1`, `frame text`, `call text`, …
    pub async fn hear_of(&mut self, count: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..count {
            heard.push(short(&self.hear().await));
        }
        heard
    }

    /// Waits until there is a link to this node.
    pub async fn is_linked(&self, to: &str) {
        let up = async {
            while !self.links.states().iter().any(|state| state.node.name == name(to) && state.is_up) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("a link", up).await;
    }
}

fn boot(node: &Node) -> String {
    format!("{}/{}", node.name, node.boot.to_string().trim_start_matches('0'))
}

/// An event in short.
pub fn short(event: &Event) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match event {
        Event::Up(node) => format!("up {}", boot(node)),
        Event::Down(node) => format!("down {}", boot(node)),
        Event::Gap(node) => format!("gap {}", boot(node)),
        Event::Frame(frame) => format!("frame {}", text(&frame.bytes)),
        Event::Call(call) => format!("call {}", text(&call.bytes)),
        other => format!("{other:?}"),
    }
}

/// The view of these nodes, all of them up.
pub fn view(number: u64, nodes: &[(Node, String)]) -> ViewRecord {
    let member = |(node, address): &(Node, String)| Member {
        node: node.clone(),
        state: State::Up,
        address: address.clone(),
    };
    let mut members: Vec<Member> = nodes.iter().map(member).collect();
    members.sort_by(|a, b| a.node.cmp(&b.node));
    ViewRecord { number, maker: Boot::new(number), members }
}

/// All of these nodes, with the addresses that they have.
pub fn all(nodes: &[&Linked]) -> Vec<(Node, String)> {
    nodes.iter().map(|node| (node.node.clone(), node.address())).collect()
}

/// Two nodes that are linked and have heard so.
pub async fn pair() -> (Linked, Linked) {
    let (mut a, mut b) = (Linked::start("a", 1).await, Linked::start("b", 1).await);
    let nodes = all(&[&a, &b]);
    a.join(1, &nodes);
    b.join(1, &nodes);
    assert_eq!(a.hear_of(2).await, ["up b/1", "gap b/1"]);
    assert_eq!(b.hear_of(2).await, ["up a/1", "gap a/1"]);
    (a, b)
}
