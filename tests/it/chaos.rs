//! Rounds of chance against a cluster: while people use it, nodes die, hang and leave, links and Redis fail, clocks are
//! wrong, several at once; then all is mended, and nothing may be lost, doubled or out of order.
//!
//! `tests/chaos` runs many rounds; without it this is one short one. `ROOST_TEST_CHAOS_ROUNDS`, `ROOST_TEST_SEED`,
//! `ROOST_TEST_LEASE_SECONDS` and `ROOST_TEST_NODES` say what; the first round is by the seed, each later one by the next
//! number, so that any round can be run again alone. `ROOST_TEST_LOGS` names a folder for the nodes' logs of rounds
//! that failed. The choice of faults is the seed's; what happens meanwhile on the machine is not.

mod fault;
mod plan;

use crate::harness::cluster::TestCluster;
use crate::harness::crowd::{Crowd, Size, Tally};
use crate::harness::dice::{Dice, seed, variable};
use crate::harness::game::Game;
use crate::harness::talk::Talk;
use plan::Plan;
use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the crowd posts at most in one round; a timeline holds 800.
const POSTS: usize = 700;
/// Between two messages of each who talks.
const TALK: Duration = Duration::from_millis(250);
/// Viewers of a room, and the pause between two presses of each.
const VIEWERS: usize = 8;
const PRESS: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_lost() {
    let rounds: u64 = variable("ROOST_TEST_CHAOS_ROUNDS", 1);
    let first = seed();
    let lease = variable("ROOST_TEST_LEASE_SECONDS", 2);
    let nodes = variable("ROOST_TEST_NODES", 3);
    println!("chaos: {rounds} rounds, {nodes} nodes, leases of {lease} s, seed {first}");
    let Some(mut cluster) = TestCluster::prepare(nodes).await else { return };
    cluster.set("ROOST_CLUSTER_LEASE_SECONDS", &lease.to_string());
    let has_clocks = cluster.give_clocks();
    if !has_clocks {
        println!("no clock is set wrong: libfaketime is missing (Debian package faketime)");
    }
    cluster.spawn_all();
    cluster.is_whole().await;

    let began = Instant::now();
    let (mut failed, mut posts, mut deliveries) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let mut dice = Dice::of(seed);
        let plan = Plan::thrown(&mut dice, nodes, Duration::from_secs(lease), has_clocks);
        println!("round {} of {rounds} (seed {seed}), {:.0?}:", round + 1, began.elapsed());
        let tally = run(&mut cluster, &plan, dice, &format!("r{round}")).await;
        println!("  {tally}");
        posts += tally.posts;
        deliveries += tally.deliveries;
        if !tally.is_clean() {
            println!("  FAILED: tests/chaos --rounds 1 --seed {seed} --lease {lease} --nodes {nodes}");
            if let Some(folder) = env::var_os("ROOST_TEST_LOGS") {
                cluster.keep_logs(Path::new(&folder), &format!("seed-{seed}"));
            }
            failed.push(seed);
        }
    }
    println!(
        "chaos: {rounds} rounds in {:.0?}: {posts} posts, {deliveries} deliveries, {} rounds failed",
        began.elapsed(),
        failed.len()
    );
    assert!(failed.is_empty(), "failed by the seeds {failed:?}");
}

async fn run(cluster: &mut TestCluster, plan: &Plan, mut dice: Dice, name: &str) -> Tally {
    let size = Size { posts: POSTS, pace: plan.pace(POSTS), ..Size::default() };
    let crowd = Crowd::gather(cluster.doors(), name, dice.split(), size).await;
    let talk = Talk::begins(cluster.doors(), name, TALK).await;
    let host = cluster.person(0, &format!("{name}-host")).await;
    let game = Game::begins(cluster.doors(), host, VIEWERS, PRESS).await;
    crowd.posts(10).await;
    plan.happens(cluster).await;
    cluster.heal().await;
    cluster.is_whole().await;
    let (mut tally, told, played) = tokio::join!(crowd.settle(), talk.settle(), game.settle());
    tally.add(told);
    tally.add(played);
    tally
}
