//! How two ends of a connection find out that both are nodes of one cluster. The secret never travels: each proves
//! that it knows it, over numbers that both have just drawn. Whoever dials proves first, so that a stranger who
//! reaches the port is told nothing, not even a name.
//!
//! ```text
//! dialer                                    acceptor
//!   Hello {versions, nonce}          ──▶
//!                                    ◀──    Challenge {version, nonce}
//!   Proof {identity, proof}          ──▶
//!                                    ◀──    Proof {identity, proof}, or Refusal {reason}
//! ```
//!
//! An operator's program proves the same in another role, and says of itself only of which cluster it wants to ask a
//! node: it becomes no node by that.
//!
//! The proofs say who is who; what follows is neither encrypted nor signed: where others are on the path, use TLS.

use super::codec::MAX_HANDSHAKE;
use crate::node::Node;
use crate::secret::{NoRandom, Secret, random_bytes};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The version of what is said on a link, and the one before it, which is understood too.
pub const VERSION: u32 = 1;
const FORMER: u32 = 1;

const NONCE: usize = 32;
const DIALER: &[u8] = b"roost-cluster dialer";
const ACCEPTOR: &[u8] = b"roost-cluster acceptor";
const OPERATOR: &[u8] = b"roost-cluster operator";
const ACCEPTOR_OF_OPERATOR: &[u8] = b"roost-cluster acceptor of an operator";

/// Who somebody is, and how far the two sequences of frames have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// Which node.
    #[serde(flatten)]
    pub node: Node,
    /// The sequence that it sends, and its first frame that it still has.
    pub sends: Place,
    /// The sequence that it receives, and the last frame that it has of it.
    pub receives: Option<Place>,
}

/// A place in a sequence of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which sequence.
    pub incarnation: u64,
    /// Which frame.
    pub number: u64,
}

/// Why two ends do not become a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It proved nothing that we know.
    #[error("it has another secret")]
    Secret,
    /// It is of another cluster.
    #[error("it is of the cluster {0:?}, not of this one")]
    Cluster(String),
    /// It speaks neither our version nor the one before.
    #[error("it speaks the versions {0} to {1} of the protocol, this node {FORMER} to {VERSION}")]
    Version(u32, u32),
    /// It says that it is us.
    #[error("it has this node's own name, {0}")]
    OwnName(Node),
    /// It is another than the one that was to be there.
    #[error("it is {0}, which is not known here (yet)")]
    Unknown(Node),
    /// The two have a connection already.
    #[error("there is a connection already")]
    Connected,
    /// It wrote something else.
    #[error("it does not speak this protocol")]
    Garbage,
    /// It is of our cluster, and does not know us (yet).
    #[error("this node is not known there (yet)")]
    Stranger(Node),
    /// It told us why.
    #[error("it refuses: {0}")]
    Told(String),
    /// There is no connection, or no more.
    #[error("{0}")]
    Broken(String),
    /// There are no random numbers.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

impl Refusal {
    /// What the other end is told, from its own side.
    pub fn told(&self) -> Option<String> {
        Some(match self {
            Self::Secret => "your secret is not this cluster's".to_owned(),
            Self::Cluster(yours) => format!("you are of the cluster {yours:?}, this node is not"),
            Self::Version(..) => {
                format!("this node speaks the versions {FORMER} to {VERSION} of the protocol")
            }
            Self::OwnName(_) => "you have this node's own name".to_owned(),
            Self::Unknown(node) => format!("{node} is not known here (yet)"),
            Self::Connected => "there is a connection already".to_owned(),
            Self::Garbage => "you do not speak this protocol".to_owned(),
            Self::Told(_) | Self::Stranger(_) | Self::Broken(_) | Self::NoRandom(_) => return None,
        })
    }

    /// Whether it passes by itself, so that a log need not speak of it.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Stranger(_) | Self::Connected)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum Said {
    Hello { from: u32, to: u32, nonce: [u8; NONCE] },
    Challenge { version: u32, nonce: [u8; NONCE] },
    Proof { identity: String, proof: Vec<u8> },
    Operator { cluster: String, proof: Vec<u8> },
    Refusal { reason: String, by: Option<Node> },
}

fn write(said: &Said) -> Bytes {
    // Numbers and texts always have a JSON form.
    serde_json::to_vec(said).unwrap_or_default().into()
}

fn read(bytes: &[u8]) -> Result<Said, Refusal> {
    if bytes.len() > MAX_HANDSHAKE {
        return Err(Refusal::Garbage);
    }
    match serde_json::from_slice(bytes) {
        Ok(Said::Refusal { by: Some(node), .. }) => Err(Refusal::Stranger(node)),
        Ok(Said::Refusal { reason, by: None }) => {
            Err(Refusal::Told(reason.chars().filter(|c| !c.is_control()).collect()))
        }
        Ok(said) => Ok(said),
        Err(_) => Err(Refusal::Garbage),
    }
}

/// What the other end is told of a refusal, if anything. Who is of the cluster, but not known, hears by whom.
pub fn refusal(why: &Refusal, me: &Node) -> Option<Bytes> {
    let by = matches!(why, Refusal::Unknown(_)).then(|| me.clone());
    why.told().map(|reason| write(&Said::Refusal { reason, by }))
}

fn identity(text: &str, cluster: &str) -> Result<Identity, Refusal> {
    let identity: Identity = serde_json::from_str(text).map_err(|_| Refusal::Garbage)?;
    is_of(&identity.cluster, cluster).map(|()| identity)
}

fn is_of(theirs: &str, cluster: &str) -> Result<(), Refusal> {
    if theirs == cluster { Ok(()) } else { Err(Refusal::Cluster(theirs.to_owned())) }
}

/// What both ends have drawn and agreed on, which every proof is over.
#[derive(Clone, Copy)]
struct Drawn {
    dialer: [u8; NONCE],
    acceptor: [u8; NONCE],
    version: u32,
}

impl Drawn {
    fn proof(&self, role: &[u8], secret: &Secret, text: &str) -> Vec<u8> {
        secret.proof(&[role, &self.dialer, &self.acceptor, &self.version.to_be_bytes(), text.as_bytes()])
    }

    fn check(&self, role: &[u8], secret: &Secret, text: &str, proof: &[u8]) -> Result<(), Refusal> {
        let words = [role, &self.dialer, &self.acceptor, &self.version.to_be_bytes(), text.as_bytes()];
        if secret.is_proof(proof, &words) { Ok(()) } else { Err(Refusal::Secret) }
    }

    fn prove(&self, role: &[u8], secret: &Secret, identity: &Identity) -> Bytes {
        let identity = serde_json::to_string(identity).unwrap_or_default();
        let proof = self.proof(role, secret, &identity);
        write(&Said::Proof { identity, proof })
    }

    /// What was proven in this role.
    fn proven(&self, role: &[u8], secret: &Secret, bytes: &[u8]) -> Result<String, Refusal> {
        let Said::Proof { identity, proof } = read(bytes)? else { return Err(Refusal::Garbage) };
        self.check(role, secret, &identity, &proof).map(|()| identity)
    }
}

/// The side that dials.
pub struct Dialer {
    nonce: [u8; NONCE],
    drawn: Option<Drawn>,
}

impl Dialer {
    /// Begins: what to say first.
    pub fn hello() -> Result<(Self, Bytes), Refusal> {
        let nonce = random_bytes()?;
        let said = write(&Said::Hello { from: FORMER, to: VERSION, nonce });
        Ok((Self { nonce, drawn: None }, said))
    }

    /// What to answer to the challenge.
    pub fn prove(
        &mut self,
        challenge: &[u8],
        secret: &Secret,
        identity: &Identity,
    ) -> Result<Bytes, Refusal> {
        Ok(self.draw(challenge)?.prove(DIALER, secret, identity))
    }

    /// The same, for an operator who wants to ask a node of this cluster.
    pub fn prove_operator(
        &mut self,
        challenge: &[u8],
        secret: &Secret,
        cluster: &str,
    ) -> Result<Bytes, Refusal> {
        let proof = self.draw(challenge)?.proof(OPERATOR, secret, cluster);
        Ok(write(&Said::Operator { cluster: cluster.to_owned(), proof }))
    }

    fn draw(&mut self, challenge: &[u8]) -> Result<Drawn, Refusal> {
        let Said::Challenge { version, nonce } = read(challenge)? else { return Err(Refusal::Garbage) };
        if !(FORMER..=VERSION).contains(&version) {
            return Err(Refusal::Version(version, version));
        }
        Ok(*self.drawn.insert(Drawn { dialer: self.nonce, acceptor: nonce, version }))
    }

    /// Who the other end is.
    pub fn check(self, answer: &[u8], secret: &Secret, cluster: &str) -> Result<Identity, Refusal> {
        let drawn = self.drawn.ok_or(Refusal::Garbage)?;
        identity(&drawn.proven(ACCEPTOR, secret, answer)?, cluster)
    }

    /// Whether the other end is a node of this cluster, for an operator.
    pub fn check_for_operator(self, answer: &[u8], secret: &Secret, cluster: &str) -> Result<(), Refusal> {
        let drawn = self.drawn.ok_or(Refusal::Garbage)?;
        is_of(&drawn.proven(ACCEPTOR_OF_OPERATOR, secret, answer)?, cluster)
    }
}

/// Who proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A node.
    Node(Identity),
    /// An operator.
    Operator,
}

/// The side that is dialled.
pub struct Acceptor(Drawn);

impl Acceptor {
    /// What to answer to whoever says hello.
    pub fn challenge(hello: &[u8]) -> Result<(Self, Bytes), Refusal> {
        let Said::Hello { from, to, nonce: dialer } = read(hello)? else { return Err(Refusal::Garbage) };
        let version = to.min(VERSION);
        if version < from.max(FORMER) {
            return Err(Refusal::Version(from, to));
        }
        let nonce = random_bytes()?;
        Ok((Self(Drawn { dialer, acceptor: nonce, version }), write(&Said::Challenge { version, nonce })))
    }

    /// Who the other end is.
    pub fn check(&self, answer: &[u8], secret: &Secret, cluster: &str) -> Result<Caller, Refusal> {
        match read(answer)? {
            Said::Proof { identity: text, proof } => {
                self.0.check(DIALER, secret, &text, &proof)?;
                identity(&text, cluster).map(Caller::Node)
            }
            Said::Operator { cluster: theirs, proof } => {
                self.0.check(OPERATOR, secret, &theirs, &proof)?;
                is_of(&theirs, cluster).map(|()| Caller::Operator)
            }
            _ => Err(Refusal::Garbage),
        }
    }

    /// The last word: who we are.
    pub fn prove(&self, secret: &Secret, identity: &Identity) -> Bytes {
        self.0.prove(ACCEPTOR, secret, identity)
    }

    /// The last word to an operator: that we are of this cluster.
    pub fn prove_to_operator(&self, secret: &Secret, cluster: &str) -> Bytes {
        let proof = self.0.proof(ACCEPTOR_OF_OPERATOR, secret, cluster);
        write(&Said::Proof { identity: cluster.to_owned(), proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Boot, NodeName};

    fn identity(name: &str, cluster: &str) -> Identity {
        let node = Node { name: NodeName::parse(name).unwrap(), boot: Boot::new(1) };
        Identity {
            cluster: cluster.to_owned(),
            node,
            sends: Place { incarnation: 5, number: 1 },
            receives: None,
        }
    }

    /// What either side makes of the other.
    fn meet(
        (secret, cluster): (&[u8], &str),
        (other_secret, other_cluster): (&[u8], &str),
    ) -> (Result<Identity, Refusal>, Result<Caller, Refusal>) {
        let (secret, other_secret) = (Secret::new(secret), Secret::new(other_secret));
        let (mut dialer, hello) = Dialer::hello().unwrap();
        let (acceptor, challenge) = Acceptor::challenge(&hello).unwrap();
        let proof = dialer.prove(&challenge, &secret, &identity("a", cluster)).unwrap();
        let accepted = acceptor.check(&proof, &other_secret, other_cluster);
        let answer = match &accepted {
            Ok(_) => acceptor.prove(&other_secret, &identity("b", other_cluster)),
            Err(why) => refusal(why, &identity("b", other_cluster).node).unwrap(),
        };
        (dialer.check(&answer, &secret, cluster), accepted)
    }

    #[test]
    fn two_nodes_of_a_cluster_know_each_other() {
        let (dialed, accepted) = meet((b"s", "c"), (b"s", "c"));
        assert_eq!(dialed.unwrap().node.name.as_str(), "b");
        assert!(matches!(accepted, Ok(Caller::Node(a)) if a.node.name.as_str() == "a"));
    }

    #[test]
    fn another_secret_and_another_cluster_are_refused_on_both_sides_with_the_reason() {
        let (dialed, accepted) = meet((b"s", "c"), (b"t", "c"));
        assert_eq!(dialed, Err(Refusal::Told("your secret is not this cluster's".to_owned())));
        assert_eq!(accepted, Err(Refusal::Secret));
        let (dialed, accepted) = meet((b"s", "c"), (b"s", "d"));
        assert_eq!(
            dialed.unwrap_err().to_string(),
            r#"it refuses: you are of the cluster "c", this node is not"#
        );
        assert_eq!(accepted, Err(Refusal::Cluster("c".to_owned())));
    }

    #[test]
    fn who_is_not_known_hears_by_whom() {
        let node = identity("b", "c").node;
        let told = refusal(&Refusal::Unknown(identity("a", "c").node), &node).unwrap();
        assert_eq!(read(&told).unwrap_err(), Refusal::Stranger(node));
    }

    #[test]
    fn a_proof_cannot_be_used_again_nor_sent_back() {
        let secret = Secret::new(b"s");
        let (mut dialer, hello) = Dialer::hello().unwrap();
        let (acceptor, challenge) = Acceptor::challenge(&hello).unwrap();
        let proof = dialer.prove(&challenge, &secret, &identity("a", "c")).unwrap();
        assert!(acceptor.check(&proof, &secret, "c").is_ok());
        // To another challenge, and as the acceptor's own.
        let (other, _) = Acceptor::challenge(&hello).unwrap();
        assert_eq!(other.check(&proof, &secret, "c"), Err(Refusal::Secret));
        assert_eq!(dialer.check(&proof, &secret, "c"), Err(Refusal::Secret));
    }

    #[test]
    fn an_operator_proves_the_secret_and_is_taken_for_no_node() {
        let secret = Secret::new(b"s");
        let ask = |secret: &Secret, cluster: &str| {
            let (mut dialer, hello) = Dialer::hello().unwrap();
            let (acceptor, challenge) = Acceptor::challenge(&hello).unwrap();
            let proof = dialer.prove_operator(&challenge, secret, cluster).unwrap();
            (dialer, acceptor, proof)
        };
        let (dialer, acceptor, proof) = ask(&secret, "c");
        assert_eq!(acceptor.check(&proof, &secret, "c"), Ok(Caller::Operator));
        assert_eq!(
            dialer.check_for_operator(&acceptor.prove_to_operator(&secret, "c"), &secret, "c"),
            Ok(())
        );

        let (_, acceptor, proof) = ask(&Secret::new(b"t"), "c");
        assert_eq!(acceptor.check(&proof, &secret, "c"), Err(Refusal::Secret));
        let (_, acceptor, proof) = ask(&secret, "d");
        assert_eq!(acceptor.check(&proof, &secret, "c"), Err(Refusal::Cluster("d".to_owned())));
        // What a node proves to a node is nothing to an operator, nor what somebody else proves.
        let (dialer, acceptor, _) = ask(&secret, "c");
        let to_node = acceptor.prove(&secret, &identity("b", "c"));
        assert_eq!(dialer.check_for_operator(&to_node, &secret, "c"), Err(Refusal::Secret));
        let (dialer, acceptor, _) = ask(&secret, "c");
        let stranger = acceptor.prove_to_operator(&Secret::new(b"t"), "c");
        assert_eq!(dialer.check_for_operator(&stranger, &secret, "c"), Err(Refusal::Secret));
    }

    #[test]
    fn a_later_version_that_still_knows_ours_speaks_ours() {
        let hello = |from, to| write(&Said::Hello { from, to, nonce: [1; NONCE] });
        let (acceptor, _) = Acceptor::challenge(&hello(VERSION, VERSION + 1)).unwrap();
        assert_eq!(acceptor.0.version, VERSION);
        let refused = Acceptor::challenge(&hello(VERSION + 1, VERSION + 2)).map(|_| ());
        assert_eq!(refused, Err(Refusal::Version(VERSION + 1, VERSION + 2)));
        let (mut dialer, _) = Dialer::hello().unwrap();
        let challenge = write(&Said::Challenge { version: VERSION + 1, nonce: [1; NONCE] });
        let refused = dialer.prove(&challenge, &Secret::new(b"s"), &identity("a", "c"));
        assert!(matches!(refused, Err(Refusal::Version(..))), "{refused:?}");
    }

    #[test]
    fn what_is_no_handshake_is_garbage_and_what_is_told_holds_no_control_characters() {
        for garbage in [&b""[..], b"GET / HTTP/1.1", b"{}", br#"{"is":"hello"}"#, &[b'x'; MAX_HANDSHAKE + 1]]
        {
            assert_eq!(Acceptor::challenge(garbage).map(|_| ()), Err(Refusal::Garbage));
        }
        let told = read(br#"{"is":"refusal","reason":"a\nb\u001b[1m"}"#).unwrap_err();
        assert_eq!(told, Refusal::Told("ab[1m".to_owned()));
    }
}
