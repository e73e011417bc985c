//! This node's place in a cluster, where the settings make it one of several.

use super::StartError;
use crate::config::Config;
use crate::storage::scylla::Claimant;
use roost_cluster::link::Tls;
use roost_cluster::{Cluster, Events, NodeName, Options, RedisOptions, Secret, Timing};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use uuid::Uuid;

/// Joins the cluster that the settings name, if they name one; answers once this node's name is its own.
pub(super) async fn join(config: &Config) -> Result<Option<(Cluster, Events)>, StartError> {
    let (Some(address), Some(secret), Some(redis)) =
        (config.cluster_listen, &config.cluster_secret, &config.redis_url)
    else {
        return Ok(None);
    };
    let listening = |error| StartError::Listen { what: address.to_string(), error };
    let listener = TcpListener::bind(address).await.map_err(listening)?;
    let here = listener.local_addr().map_err(listening)?;
    let authority = config.redis_ca.as_deref().map(read).transpose()?;
    let redis = RedisOptions { url: redis.secret().expose().to_owned(), authority };
    let secret = Secret::new(secret.expose().as_bytes());
    let name = node_name(config)?;
    let advertise = advertised(config, here);
    let mut options = Options::new(name, config.cluster_name.as_str(), listener, &advertise, secret, redis);
    options.tls = tls(config)?;
    options.timing = Timing::by_lease(config.cluster_lease);
    options.routes = routes(config)?;
    Ok(Some(Cluster::start(options).await?))
}

/// As whom this node keeps a store: for itself, or with the other nodes of its cluster.
pub(super) fn claimant(config: &Config, node: String) -> Claimant {
    let (Some(_), Some(secret)) = (config.cluster_listen, &config.cluster_secret) else {
        return Claimant::Node(node);
    };
    let name = config.cluster_name.as_str();
    // Of the secret nothing can be read there, and another cluster of the same name has another.
    let digest = Sha256::new_with_prefix(name).chain_update([0]).chain_update(secret.expose()).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Claimant::Cluster { name: name.to_owned(), id: Uuid::from_bytes(id) }
}

pub(super) fn node_name(config: &Config) -> Result<NodeName, StartError> {
    parsed(config.node_name.as_str())
}

fn parsed(name: &str) -> Result<NodeName, StartError> {
    NodeName::parse(name).map_err(|error| StartError::ClusterSetup(format!("node name {name}: {error}")))
}

/// Where others reach this node: port 0 is that which was taken.
fn advertised(config: &Config, here: SocketAddr) -> String {
    match &config.cluster_advertise {
        Some(address) => address.as_str().to_owned(),
        None => here.to_string(),
    }
}

fn routes(config: &Config) -> Result<BTreeMap<NodeName, String>, StartError> {
    let routes = config.cluster_routes.iter();
    routes.map(|route| Ok((parsed(route.node.as_str())?, route.to.as_str().to_owned()))).collect()
}

fn tls(config: &Config) -> Result<Option<Tls>, StartError> {
    let (Some(certificate), Some(key), Some(authority)) =
        (&config.cluster_tls_cert, &config.cluster_tls_key, &config.cluster_tls_ca)
    else {
        return Ok(None);
    };
    let (certificate, key, authority) = (read(certificate)?, read(key)?, read(authority)?);
    let tls = Tls::from_pem(&certificate, &key, &authority, config.cluster_tls_name.as_str());
    tls.map(Some).map_err(|error| StartError::ClusterSetup(error.to_string()))
}

fn read(file: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(file).map_err(|error| StartError::ClusterSetup(format!("{}: {error}", file.display())))
}
