//! What needs another clock than this machine's.

use super::*;
use crate::member::keeper::wall;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);

/// A Redis of a test's own; dropped, it is killed.
struct Redis(Child, u16);

impl Redis {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let redis = Self(command.stdout(Stdio::null()).spawn().unwrap(), port);
        while !redis.answers().await {
            sleep(Duration::from_millis(10)).await;
        }
        redis
    }

    async fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.1)).await else { return false };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").await.is_ok() && stream.read_exact(&mut answer).await.is_ok()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn options(name: &str, redis: &Redis) -> Options {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let name = NodeName::parse(name).unwrap();
    let redis = RedisOptions { url: format!("redis://127.0.0.1:{}", redis.1), authority: None };
    let mut options = Options::new(name, "test", listener, &address, Secret::new(b"secret"), redis);
    options.timing = Timing::shortened(8);
    options
}

#[tokio::test]
async fn a_node_whose_clock_is_too_far_off_does_not_start() {
    let redis = Redis::start().await;
    for wrong in [|| wall() + Duration::from_secs(10), || wall() - Duration::from_secs(10)] {
        let refused = Cluster::start_by(options("a", &redis).await, wrong).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, StartError::Skew(..)), "{refused}");
    }
    // Two seconds are allowed.
    for slightly in [|| wall() + Duration::from_secs(2), || wall() - Duration::from_secs(2)] {
        let (cluster, _events) = Cluster::start_by(options("a", &redis).await, slightly).await.unwrap();
        cluster.stop().await;
    }
}

static AHEAD: AtomicU64 = AtomicU64::new(0);

fn set_by_hand() -> Duration {
    wall() + Duration::from_secs(AHEAD.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_node_whose_clock_goes_wrong_stops_acting_and_gives_its_homes_away() {
    let redis = Redis::start().await;
    let (a, mut events) = Cluster::start_by(options("a", &redis).await, set_by_hand).await.unwrap();
    let (b, mut others) = Cluster::start(options("b", &redis).await).await.unwrap();
    let (a, b) = (Arc::new(a), Arc::new(b));
    let confirming = |cluster: Arc<Cluster>| {
        move |event: Event| match event {
            Event::View(view) => drop(cluster.confirm(view.number())),
            Event::Unfenced => drop(cluster.view().map(|view| cluster.confirm(view.number()))),
            _ => {}
        }
    };
    let (of_a, of_b) = (confirming(Arc::clone(&a)), confirming(Arc::clone(&b)));
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            of_a(event);
        }
    });
    tokio::spawn(async move {
        while let Some(event) = others.next().await {
            of_b(event);
        }
    });
    let homes_of = |cluster: &Cluster| Shard::all().filter(|shard| cluster.is_home(*shard)).count();
    until("both act", || a.may_act() && b.may_act() && homes_of(&a) > 0 && homes_of(&b) > 0).await;
    AHEAD.store(10, Ordering::SeqCst);
    until("only the other acts", || !a.may_act() && b.may_act() && homes_of(&b) == 256).await;
    AHEAD.store(0, Ordering::SeqCst);
    until("both act again", || a.may_act() && b.may_act() && homes_of(&a) > 0).await;
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LONG, waiting).await.is_ok(), "{what}");
}
