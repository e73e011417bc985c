//! What operators do to this node while it serves, and where their commands come in.

use super::StartError;
use super::cluster::node_name;
use crate::actors::membership::Membership;
use crate::actors::node::NodeHandle;
use crate::config::Config;
use crate::http::admin;
use axum::Router;
use roost_cluster::OperatorCall;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What operators see of the cluster by this node, and may do to it.
pub(super) fn membership(config: &Config, node: &NodeHandle) -> Result<Arc<Membership>, StartError> {
    let (roster, role) = (node.roster.clone(), config.role.name());
    let Some(clustered) = node.clustered() else {
        let alone = Membership::alone(node_name(config)?, roster, role);
        return Ok(Arc::new(alone.map_err(roost_cluster::StartError::from)?));
    };
    let membership = Arc::new(Membership::new(clustered.cluster().clone(), roster, role));
    clustered.answer_operators(membership.clone());
    Ok(membership)
}

/// Answers what operators ask over the cluster port.
pub(super) async fn answer_questions(mut questions: mpsc::Receiver<OperatorCall>, commands: Router) {
    while let Some(question) = questions.recv().await {
        let commands = commands.clone();
        tokio::spawn(async move {
            let answer = admin::tunnel::answer(commands, &question.bytes).await;
            if !question.answer(answer) {
                tracing::warn!("an operator did not get an answer: it is gone, or the answer too long");
            }
        });
    }
}

/// Drains this node when operators want that, without ending it, and takes it back when they no longer do.
pub(super) async fn follow_drains(node: Arc<NodeHandle>, mut drains: watch::Receiver<bool>, span: Duration) {
    // Until nobody can want anything any more.
    while drains.wait_for(|drains| *drains).await.is_ok() {
        tokio::select! {
            () = drained(&node, span) => {}
            taken_back = drains.wait_for(|drains| !*drains) => if taken_back.is_err() { return },
        }
        node.undrain();
        tracing::info!("this node takes homes and clients again");
    }
}

/// Never ends: a node that was drained stays so.
async fn drained(node: &NodeHandle, span: Duration) {
    tracing::info!("draining: sending {} clients away", node.roster.count());
    node.drain(span).await;
    tracing::info!("drained: this node has no clients any more");
    std::future::pending().await
}
