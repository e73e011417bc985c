//! How an operator's command reaches the data: by the running server's socket or, when none runs, by
//! opening the store here, as the only one who does: a data folder is locked, a keyspace claimed. All answer the
//! same requests, those of `http::admin`.

use super::CliError;
use crate::config::{Config, HostPort};
use crate::data_dir::{self, DataDir, DataDirError};
use crate::http::admin;
use crate::http::admin::tunnel::{Question, Told};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::service::cluster::{Credentials, Remote, TlsFiles};
use crate::storage::sqlite::{Options, Store};
use crate::storage::{EntryObserver, Upkeep, scylla};
use axum::Router;
use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixStream;
use tower::ServiceExt;

/// Somewhere that answers an operator.
pub(super) enum Operator {
    /// The server that runs on this data folder.
    Server(PathBuf),
    /// A node of a cluster, by its cluster port.
    Node(Box<Remote>),
    /// The store itself, locked for as long as this lives.
    Store { router: Router, store: Store, _locked: DataDir },
    /// The store in a cluster, claimed until it is left; a data folder may be elsewhere.
    Keyspace { router: Router, store: scylla::Store, claim: Box<scylla::Claim>, _locked: Option<DataDir> },
}

impl Operator {
    /// Reaches a server, which alone can do what is wanted: that of the data folder, or the node that was named.
    pub fn server_of(config: &Config, node: Option<&str>) -> Result<Self, CliError> {
        node.map_or_else(|| Ok(Self::Server(config.data_dir.clone())), |node| Self::node_at(config, node))
    }

    /// Reaches the node whose cluster port is there.
    pub fn node_at(config: &Config, address: &str) -> Result<Self, CliError> {
        let wrong =
            || CliError::Usage(format!("--node {address}: must be host:port, of its cluster_advertise"));
        let address: HostPort = address.parse().map_err(|()| wrong())?;
        let needed = || CliError::Usage("--node needs cluster_secret, as the nodes have it".to_owned());
        let read = |file: &PathBuf| {
            let failed = |error| CliError::Failed(format!("{}: {error}", file.display()));
            std::fs::read(file).map_err(failed)
        };
        let tls = match (&config.cluster_tls_cert, &config.cluster_tls_key, &config.cluster_tls_ca) {
            (Some(certificates), Some(key), Some(authority)) => Some(TlsFiles {
                certificates: read(certificates)?,
                key: read(key)?,
                authority: read(authority)?,
                name: config.cluster_tls_name.as_str().to_owned(),
            }),
            _ => None,
        };
        let credentials = Credentials {
            cluster: config.cluster_name.as_str().to_owned(),
            secret: config.cluster_secret.clone().ok_or_else(needed)?,
            tls,
        };
        let remote = Remote::new(address.as_str(), credentials);
        remote.map(|remote| Self::Node(Box::new(remote))).map_err(|error| CliError::Failed(error.to_string()))
    }

    /// Reaches whatever holds the data at `path`.
    pub async fn reach(path: &Path) -> Result<Self, CliError> {
        if !path.join("roost.db").exists() {
            return Err(CliError::Failed(format!(
                "data folder {}: there is no database in it",
                path.display()
            )));
        }
        let data = match DataDir::open_existing(path) {
            Ok(data) => data,
            Err(DataDirError::InUse { .. }) => return Ok(Self::Server(path.to_owned())),
            Err(error) => return Err(error.into()),
        };
        let store = open(&data).await?;
        let router = admin::router(Arc::new(store.clone()), Some(Arc::new(store.clone())));
        Ok(Self::Store { router, store, _locked: data })
    }

    /// Reaches whatever keeps the data that the settings name.
    pub async fn reach_by(config: &Config) -> Result<Self, CliError> {
        let Some(access) = config.scylla() else { return Self::reach(&config.data_dir).await };
        let locked = match DataDir::open_existing(&config.data_dir) {
            Ok(data) => Some(data),
            Err(DataDirError::InUse { .. }) => return Ok(Self::Server(config.data_dir.clone())),
            // It may be on another machine: the claim tells whether a server runs there.
            Err(DataDirError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let keyspace = access.keyspace.clone();
        let options = scylla::Options {
            access,
            events: false,
            observer: Arc::new(Unheard),
            wide_author_followers: u64::MAX,
            nodes: scylla::Nodes::One,
        };
        // Boxed: all that the driver holds would be a part of this future.
        let store = Box::pin(scylla::Store::open(options)).await;
        let store = store.map_err(|error| CliError::Failed(error.to_string()))?;
        let claim = scylla::Claimant::Node(format!("an operator's command (pid {})", std::process::id()));
        let claim = Box::pin(store.claim(claim)).await;
        let claim = claim.map_err(|error| match error {
            scylla::ClaimError::Taken(node) => CliError::Failed(format!(
                "keyspace {keyspace} is in use by {node}, which is running: give this command its data_dir"
            )),
            scylla::ClaimError::Storage(error) => CliError::Failed(error.to_string()),
        })?;
        let router = admin::router(Arc::new(store.clone()), None);
        Ok(Self::Keyspace { router, store, claim: Box::new(claim), _locked: locked })
    }

    /// Asks, and reads the whole answer.
    pub async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<Option<T>, CliError> {
        let answer = self.send(method, path, Body::empty()).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answer.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        // An answer without a body is read as `null`.
        let body = if body.is_empty() { Bytes::from_static(b"null") } else { body };
        serde_json::from_slice(&body).map(Some).map_err(|error| broken(&error))
    }

    /// Asks, and hears each line of the answer as it comes.
    pub async fn follow(
        &self,
        path: &str,
        body: &serde_json::Value,
        mut heard: impl FnMut(serde_json::Value) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let answer = self.send(Method::POST, path, Body::from(body.to_string())).await?;
        let mut chunks = answer.into_body().into_data_stream();
        let mut unread = Vec::new();
        while let Some(chunk) = chunks.next().await {
            unread.extend_from_slice(&chunk.map_err(|error| broken(&error))?);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                heard(serde_json::from_slice(&line).map_err(|error| broken(&error))?)?;
            }
        }
        Ok(())
    }

    /// Ends; a store that was opened here is closed in order.
    pub async fn leave(self) -> Result<(), CliError> {
        match self {
            Self::Server(_) | Self::Node(_) => Ok(()),
            Self::Store { store, .. } => {
                store.close().await.map_err(|error| CliError::Failed(error.to_string()))
            }
            Self::Keyspace { store, claim, .. } => {
                let left = match store.close().await {
                    Ok(()) => Box::pin(claim.release()).await,
                    Err(error) => Err(error),
                };
                left.map_err(|error| CliError::Failed(error.to_string()))
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<Body>, CliError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "roost")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| CliError::Failed(error.to_string()))?;
        let answer = match self {
            Self::Server(folder) => send_to_server(folder, request).await?,
            Self::Node(remote) => send_to_node(remote, &request).await?,
            Self::Store { router, .. } | Self::Keyspace { router, .. } => {
                match router.clone().oneshot(request).await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                }
            }
        };
        if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let told = serde_json::from_slice::<admin::Refusal>(&body).map(|refusal| refusal.error);
        Err(CliError::Failed(told.unwrap_or_else(|_| format!("the server answered {status}"))))
    }
}

async fn send_to_server(folder: &Path, request: Request<Body>) -> Result<Response<Body>, CliError> {
    let unreached = |error: std::io::Error| {
        let socket = folder.join("roost.sock");
        CliError::Failed(format!("no server answers at {} ({error})", socket.display()))
    };
    let (address, _folder) = data_dir::socket_of(folder).map_err(unreached)?;
    let stream = UnixStream::connect(address).await.map_err(unreached)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    Ok(answer.map(Body::new))
}

/// What is asked of a node elsewhere has no body.
async fn send_to_node(remote: &Remote, request: &Request<Body>) -> Result<Response<Body>, CliError> {
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let question = serde_json::to_vec(&Question { method, path });
    let question = question.map_err(|error| CliError::Failed(error.to_string()))?;
    let answer = remote.ask(&question).await.map_err(|error| CliError::Failed(error.to_string()))?;
    let Told { status, body } = serde_json::from_slice(&answer).map_err(|error| broken(&error))?;
    Response::builder().status(status).body(Body::from(body)).map_err(|error| broken(&error))
}

fn broken(error: &dyn std::fmt::Display) -> CliError {
    CliError::Failed(format!("the answer broke off ({error})"))
}

/// Nobody reads beside this command, so nobody needs to hear of entries.
struct Unheard;

impl EntryObserver for Unheard {
    fn entering(&self, _: Seq, _: UserId) {}
    fn withdrawn(&self, _: Seq) {}
}

async fn open(data: &DataDir) -> Result<Store, CliError> {
    let options = Options { file: data.db(), events: false, observer: Arc::new(Unheard), readers: 1 };
    let opened = tokio::task::spawn_blocking(|| Store::open(options)).await;
    let opened = opened.map_err(|error| CliError::Failed(error.to_string()))?;
    opened.map_err(|error| CliError::Failed(error.to_string()))
}

#[cfg(test)]
mod tests;
