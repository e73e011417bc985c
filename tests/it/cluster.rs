//! Several nodes, one cluster: real processes on loopback that are killed, stopped and cut off from each other and from
//! what they stand on while people use them, and lose nothing.
//!
//! What is asked for is told by a [`Crowd`]; each fault has one of its own, and lasts until something is seen to have
//! come of it.

mod chats;
mod clocks;
mod crowds;
mod dying;
mod engines;
mod links;
mod listening;
mod one;
mod roles;
mod rolling;
mod rooms;
mod strangers;

use crate::harness::cluster::TestCluster;
use crate::harness::crowd::{Crowd, Size};
use crate::harness::dice::Dice;

/// What comes of a fault is seen in so many posts.
const SOME: usize = 20;

/// A small crowd at all nodes, who post already.
async fn crowd(cluster: &TestCluster, name: &str) -> Crowd {
    let size = Size { followers: 4, ..Size::default() };
    let crowd = Crowd::gather(cluster.doors(), name, Dice::thrown(name), size).await;
    crowd.posts(SOME).await;
    crowd
}

/// Everything mended, the nodes are one cluster, and nothing was lost.
async fn nothing_was_lost(cluster: &mut TestCluster, crowd: Crowd, fault: &str) {
    cluster.heal().await;
    cluster.is_whole().await;
    crowd.posts(SOME).await;
    println!("{fault}:");
    crowd.settle().await.must_be_clean();
}
