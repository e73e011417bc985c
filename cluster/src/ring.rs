//! Which node is home to what: 256 shards, each at the node that weighs most for it (rendezvous hashing). Pure: the
//! same names give the same homes on every node, and a node that comes or goes moves only what it gains or had.

use crate::node::NodeName;
use aws_lc_rs::digest::{SHA256, digest};

/// How many shards there are; part of what nodes have agreed on, so never changed.
pub const SHARDS: usize = 256;

/// One of the 256 parts of everything that has a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The shard of an id: the first byte of its SHA-256, which every language and every later version knows.
    #[must_use]
    pub fn of(id: &[u8]) -> Self {
        Self(first_bytes(id).to_be_bytes()[0])
    }

    /// The shard of this number, for users that have shards of their own already.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

/// The first eight bytes of the SHA-256, as a big-endian number.
fn first_bytes(data: &[u8]) -> u64 {
    digest(&SHA256, data).as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The homes of all shards, by some nodes.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    names: Vec<NodeName>,
    /// For each shard, which of the names; empty without names.
    homes: Vec<usize>,
}

impl Ring {
    /// The ring of these nodes; their order and repeats make no difference.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = NodeName>) -> Self {
        let mut names: Vec<NodeName> = names.into_iter().collect();
        names.sort();
        names.dedup();
        let homes = Shard::all()
            // Of two that weigh the same the greater name has it.
            .filter_map(|shard| (0..names.len()).max_by_key(|index| (weight(&names[*index], shard), *index)))
            .collect();
        Self { names, homes }
    }

    /// Where a shard is at home; `None` where there is no node.
    #[must_use]
    pub fn home(&self, shard: Shard) -> Option<&NodeName> {
        self.names.get(*self.homes.get(usize::from(shard.0))?)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ring").field(&self.names).finish()
    }
}

/// What a node weighs for a shard: the SHA-256 of the name, a zero byte, which no name has, and the number.
fn weight(name: &NodeName, shard: Shard) -> u64 {
    first_bytes(&[name.as_str().as_bytes(), &[0, shard.0]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<NodeName> {
        (0..count).map(|n| NodeName::parse(&format!("node-{n}")).unwrap()).collect()
    }

    #[test]
    fn an_id_has_the_shard_that_it_always_had() {
        // The first bytes of SHA-256 as other tools print them.
        assert_eq!(Shard::of(b""), Shard(0xe3));
        assert_eq!(Shard::of(b"abc"), Shard(0xba));
        assert_eq!(Shard::of(&[0; 16]), Shard(0x37));
    }

    #[test]
    fn shards_are_where_they_always_were() {
        let ring = Ring::new(names(3));
        let homes: Vec<&str> =
            Shard::all().take(8).filter_map(|s| ring.home(s)).map(NodeName::as_str).collect();
        assert_eq!(homes.join(" "), "node-2 node-2 node-1 node-2 node-2 node-1 node-0 node-2");
    }

    #[test]
    fn without_nodes_nothing_is_at_home_and_alone_everything_is() {
        assert_eq!(Ring::new([]).home(Shard(7)), None);
        let alone = Ring::new(names(1));
        assert!(Shard::all().all(|shard| alone.home(shard) == Some(&names(1)[0])));
    }

    #[test]
    fn ids_spread_evenly_over_shards_and_shards_over_nodes() {
        let mut ids = [0_u32; SHARDS];
        for id in 0..256_000_u64 {
            ids[usize::from(Shard::of(&id.to_be_bytes()).0)] += 1;
        }
        assert!(ids.iter().all(|count| (850..1150).contains(count)), "{ids:?}");
        for count in [2, 3, 5, 8] {
            let ring = Ring::new(names(count));
            let fair = SHARDS / count;
            for name in names(count) {
                let has = Shard::all().filter(|shard| ring.home(*shard) == Some(&name)).count();
                assert!((fair / 2..=fair * 3 / 2).contains(&has), "{name} of {count} has {has}");
            }
        }
    }

    proptest! {
        #[test]
        fn only_what_a_node_had_moves_when_it_goes(count in 1_usize..12, gone in 0_usize..12) {
            let (before, gone) = (names(count), gone % count);
            let after: Vec<_> = before.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, n)| n.clone()).collect();
            let (one, other) = (Ring::new(before.clone()), Ring::new(after));
            for shard in Shard::all() {
                if one.home(shard) != Some(&before[gone]) {
                    prop_assert_eq!(one.home(shard), other.home(shard));
                }
            }
        }

        #[test]
        fn the_order_of_names_makes_no_difference(count in 1_usize..12, turn in 0_usize..12) {
            let mut turned = names(count);
            turned.rotate_left(turn % count);
            turned.push(turned[0].clone());
            prop_assert_eq!(Ring::new(names(count)), Ring::new(turned));
        }
    }
}
