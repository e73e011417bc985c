//! A server in this process: its own port, its own data folder, no limits unless asked for.

use super::barrier::Barriers;
use super::ground::Ground;
use super::rest::Rest;
use super::{soon, until};
use roost::actors::node::NodeHandle;
use roost::app::{App, StartError};
use roost::config::{Config, Limit};
use roost::data_dir::DataDirError;
use std::net::TcpListener;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server; dropped, it ends.
pub struct TestApp {
    rest: Rest,
    pub barriers: Barriers,
    config: Config,
    /// Goes with the server.
    _data: TempDir,
    _ground: Option<Ground>,
    running: Option<Running>,
}

struct Running {
    node: Arc<NodeHandle>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Deref for TestApp {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut config = unlimited();
        config.data_dir = data.path().join("data");
        let ground = Ground::here();
        if let Some(ground) = &ground {
            ground.settle(&mut config);
        }
        change(&mut config);
        let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
        let mut app = Self {
            rest: Rest::to(&format!("{scheme}://nowhere")),
            barriers: Barriers::default(),
            config,
            _data: data,
            _ground: ground,
            running: None,
        };
        app.run().await;
        app
    }

    async fn run(&mut self) {
        // A child that another test starts has all files of this process open, the lock of a folder that
        // was just given up among them, until it becomes its program.
        let started = until("the data folder is free", async || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            match App::start(self.config.clone(), listener, self.barriers.instants()).await {
                Err(StartError::DataDir(DataDirError::InUse { .. })) => None,
                started => Some(started),
            }
        })
        .await;
        let app = started.expect("it starts");
        self.rest.moved_to(&app.url());
        let node = app.node();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(app.serve(async {
            let _ = stopped.await;
        }));
        self.running = Some(Running { node, stop, serving });
    }

    /// Its actors.
    pub fn node(&self) -> &NodeHandle {
        &self.running.as_ref().expect("it runs").node
    }

    /// Everything that was posted is in every timeline.
    pub async fn spreads(&self) {
        until("everything is in every timeline", async || {
            (self.node().watermark.unspread() == 0).then_some(())
        })
        .await;
    }

    /// An orderly stop.
    pub async fn stop(&mut self) {
        let Running { node, stop, serving } = self.running.take().expect("it runs");
        drop(node);
        let _ = stop.send(());
        soon("the server stops", serving).await.expect("it stops");
    }

    /// Stops and starts again on the same data.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }
}

/// Settings without limits, that stop at once.
fn unlimited() -> Config {
    Config {
        drain: Duration::ZERO,
        limit_requests_per_second: Limit::NONE,
        limit_posts_per_minute: Limit::NONE,
        limit_address_requests_per_second: Limit::NONE,
        limit_logins_per_minute: Limit::NONE,
        limit_registrations_per_hour: Limit::NONE,
        limit_presses_per_second: Limit::NONE,
        limit_frames_per_second: Limit::NONE,
        ..Config::default()
    }
}
