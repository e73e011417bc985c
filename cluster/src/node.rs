//! What a node is called: its name, which it keeps, and its boot, which each start makes anew. Refuses names that
//! could not stand in a key, a log line or a table.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The most characters of a name.
const LONGEST: usize = 64;

/// A node's name: 1 to 64 of `[a-zA-Z0-9._-]`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node's name has 1 to 64 of the characters a-z, A-Z, 0-9, '.', '_' and '-'")]
pub struct BadName;

impl NodeName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > LONGEST || !text.chars().all(fits) {
            return Err(BadName);
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One start of a node: a random number, so that a restarted node is a new one. Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Boot(u64);

impl Boot {
    /// The boot of this number; a start takes a random one.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl TryFrom<String> for Boot {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

impl From<Boot> for String {
    fn from(boot: Boot) -> Self {
        boot.to_string()
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One start of one node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// What it is called.
    pub name: NodeName,
    /// Which of its starts.
    pub boot: Boot,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.boot)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_can_stand_in_a_key_and_a_log_line() {
        for good in ["a", "node-1", "Eu.west_3", &"x".repeat(64)] {
            assert_eq!(NodeName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\n", "ä", "{a}", "a:b", &"x".repeat(65)] {
            assert_eq!(NodeName::parse(bad), Err(BadName), "{bad:?}");
        }
    }

    #[test]
    fn a_node_reads_as_it_was_written() {
        let node = Node { name: NodeName::parse("a").unwrap(), boot: Boot::new(0xab) };
        let text = serde_json::to_string(&node).unwrap();
        assert_eq!(text, r#"{"name":"a","boot":"00000000000000ab"}"#);
        assert_eq!(serde_json::from_str::<Node>(&text).unwrap(), node);
        assert!(serde_json::from_str::<Node>(r#"{"name":"a b","boot":"1"}"#).is_err());
    }
}
