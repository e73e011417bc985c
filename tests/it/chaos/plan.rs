//! What is to fail in a round, and when: chosen by the dice alone, before anything happens.

use super::fault::Fault;
use crate::harness::cluster::TestCluster;
use crate::harness::dice::Dice;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Faults of one round, at most.
const FAULTS: usize = 3;
/// Leases from which on a cluster has its default times; a round may have a long fault then.
const DEFAULT_LEASE: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);

/// Faults with their beginnings and ends.
pub struct Plan {
    /// In order of time.
    steps: Vec<Step>,
}

struct Step {
    at: Duration,
    fault: Fault,
    begins: bool,
}

impl Plan {
    /// One to three faults, some of them at the same time.
    pub fn thrown(dice: &mut Dice, nodes: usize, lease: Duration, has_clocks: bool) -> Self {
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..=dice.below(FAULTS) {
            let fault = Fault::thrown(dice, nodes, has_clocks);
            let is_long = lease >= DEFAULT_LEASE && dice.one_in(10);
            // Shorter than anybody notices, about as long as a lease, and longer.
            let tenths = [4, 10, 13, 25][dice.below(4)];
            let lasts = if is_long { LONG } else { lease * tenths / 10 };
            steps.push(Step { at, fault, begins: true });
            steps.push(Step { at: at + lasts, fault, begins: false });
            // The next comes while this one lasts, at its end, or once it is over.
            at += [lasts / 2, lasts, lasts + lease][dice.below(3)];
        }
        steps.sort_by_key(|step| step.at);
        Self { steps }
    }

    /// How often each of four authors posts, that all have enough to say.
    pub fn pace(&self, posts: usize) -> Duration {
        let whole = self.steps.last().map_or(Duration::ZERO, |step| step.at) + Duration::from_secs(5);
        let posts = u32::try_from(posts).expect("a few") / 4;
        (whole / posts).max(Duration::from_millis(80))
    }

    /// Has everything happen.
    pub async fn happens(&self, cluster: &mut TestCluster) {
        let began = Instant::now();
        for step in &self.steps {
            // A fault lasts: there is nothing to wait for.
            sleep_until(began + step.at).await;
            let Step { fault, begins, .. } = step;
            println!(
                "  {:5.1} s: {}{fault}",
                began.elapsed().as_secs_f32(),
                if *begins { "" } else { "no more: " }
            );
            match begins {
                true => fault.begins(cluster).await,
                false => fault.ends(cluster).await,
            }
        }
    }
}
