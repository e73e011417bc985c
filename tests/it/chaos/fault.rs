//! What can fail.

use crate::harness::cluster::TestCluster;
use crate::harness::dice::Dice;
use crate::harness::fault_proxy::Mode;
use std::fmt;
use std::time::Duration;

/// One fault. Nodes are numbers.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A node is killed, and started again.
    Killed(usize),
    /// All nodes are killed at once, as by a power cut, and started again.
    AllKilled,
    /// A node hangs.
    Hangs(usize),
    /// A node is told to end, and started again.
    Leaves(usize),
    /// A link is cut: connections are reset and refused.
    Cut(usize, usize),
    /// Nothing passes on a link; connections stay.
    Stalled(usize, usize),
    /// What one says does not reach the other.
    Mute(usize, usize),
    /// Everything between them takes half a second longer.
    Slow(usize, usize),
    /// No other hears a node, and it does not reach Redis.
    Isolated(usize),
    /// Redis is killed, and comes back empty.
    RedisKilled,
    /// Redis hangs.
    RedisHangs,
    /// Redis forgets everything.
    RedisFlushed,
    /// One node is refused by Redis.
    RedisCut(usize),
    /// One node hears nothing of Redis.
    RedisStalled(usize),
    /// What one node and its store say to each other comes later.
    StoreSlow(usize),
    /// A clock is off by so many seconds.
    Clock(usize, i32),
}

const A_LITTLE: Duration = Duration::from_millis(100);
const HALF_A_SECOND: Duration = Duration::from_millis(500);

impl Fault {
    pub fn thrown(dice: &mut Dice, nodes: usize, has_clocks: bool) -> Self {
        let one = dice.below(nodes);
        let other = (one + 1 + dice.below(nodes - 1)) % nodes;
        let seconds = [2, -2, 2, 10][dice.below(4)];
        // What is likelier in life is likelier here.
        match dice.below(if has_clocks { 21 } else { 19 }) {
            0..3 => Self::Killed(one),
            3..6 => Self::Hangs(one),
            6 | 7 => Self::Leaves(one),
            8 => Self::Cut(one, other),
            9 => Self::Stalled(one, other),
            10 => Self::Mute(one, other),
            11 => Self::Slow(one, other),
            12 => Self::Isolated(one),
            13 => Self::RedisKilled,
            14 => Self::RedisHangs,
            15 => Self::RedisFlushed,
            16 if dice.one_in(2) => Self::RedisCut(one),
            16 => Self::RedisStalled(one),
            17 => Self::StoreSlow(one),
            18 => Self::AllKilled,
            _ => Self::Clock(one, seconds),
        }
    }

    pub async fn begins(self, cluster: &mut TestCluster) {
        match self {
            Self::Killed(node) => cluster.kill9(node),
            Self::AllKilled => (0..cluster.count()).for_each(|node| cluster.kill9(node)),
            Self::Hangs(node) => cluster.stop(node),
            Self::Leaves(node) => cluster.asks_to_leave(node),
            Self::Cut(one, other) => cluster.cut(one, other).await,
            Self::Stalled(one, other) => cluster.stall_both(one, other).await,
            Self::Mute(from, to) => cluster.stall(from, to).await,
            Self::Slow(one, other) => cluster.delay(one, other, HALF_A_SECOND).await,
            Self::Isolated(node) => cluster.isolate(node).await,
            Self::RedisKilled => cluster.redis.kill(),
            Self::RedisHangs => cluster.redis.hangs(),
            // One that is not there has forgotten everything.
            Self::RedisFlushed => cluster.redis.forgets(),
            Self::RedisCut(node) => cluster.redis_of(node, Mode::Cut).await,
            Self::RedisStalled(node) => cluster.redis_of(node, Mode::Stall).await,
            Self::StoreSlow(node) => cluster.cql_of(node, Mode::Delay(A_LITTLE)).await,
            Self::Clock(node, seconds) => cluster.clock_off(node, seconds),
        }
    }

    /// As far as another fault lets it: the rest is mended with all else at the end.
    pub async fn ends(self, cluster: &mut TestCluster) {
        match self {
            Self::Killed(node) | Self::Leaves(node) => cluster.comes_back(node).await,
            Self::AllKilled => {
                for node in 0..cluster.count() {
                    cluster.comes_back(node).await;
                }
            }
            Self::Hangs(node) => cluster.cont(node),
            Self::Cut(one, other) | Self::Stalled(one, other) | Self::Slow(one, other) => {
                cluster.mend_link(one, other).await;
            }
            Self::Mute(from, to) => cluster.mend_link(from, to).await,
            Self::Isolated(node) => cluster.joins_again(node).await,
            Self::RedisKilled | Self::RedisHangs => cluster.redis.goes_on().await,
            Self::RedisFlushed => {}
            Self::RedisCut(node) | Self::RedisStalled(node) => cluster.redis_of(node, Mode::Pass).await,
            Self::StoreSlow(node) => cluster.cql_of(node, Mode::Pass).await,
            Self::Clock(node, _) => cluster.clock_off(node, 0),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: &usize| crate::harness::cluster::NAMES[*node];
        match self {
            Self::Killed(node) => write!(to, "{} is killed", name(node)),
            Self::AllKilled => write!(to, "all are killed"),
            Self::Hangs(node) => write!(to, "{} hangs", name(node)),
            Self::Leaves(node) => write!(to, "{} is told to leave", name(node)),
            Self::Cut(one, other) => write!(to, "the link of {} and {} is cut", name(one), name(other)),
            Self::Stalled(one, other) => {
                write!(to, "the link of {} and {} is stalled", name(one), name(other))
            }
            Self::Mute(from, by) => write!(to, "{} is not heard by {}", name(from), name(by)),
            Self::Slow(one, other) => write!(to, "the link of {} and {} is slow", name(one), name(other)),
            Self::Isolated(node) => write!(to, "{} is alone, without Redis", name(node)),
            Self::RedisKilled => write!(to, "Redis is killed"),
            Self::RedisHangs => write!(to, "Redis hangs"),
            Self::RedisFlushed => write!(to, "Redis is flushed"),
            Self::RedisCut(node) => write!(to, "{} is refused by Redis", name(node)),
            Self::RedisStalled(node) => write!(to, "{} hears nothing of Redis", name(node)),
            Self::StoreSlow(node) => write!(to, "the store is slow for {}", name(node)),
            Self::Clock(node, seconds) => write!(to, "the clock of {} is off by {seconds} s", name(node)),
        }
    }
}
