//! `roost serve`: takes the address, then runs the server until it is told to stop. The first SIGTERM or
//! SIGINT stops it gracefully, the second at once.

use super::CliError;
use super::flag::SettingFlags;
use crate::config::Config;
use crate::telemetry;
use std::io;
use std::net::{SocketAddr, TcpListener};
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub(super) const EXAMPLE: &str = "Example:\n  roost serve\n  \
     roost serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem\n  \
     ROOST_LISTEN=0.0.0.0:80 roost serve --config /etc/roost.toml";

/// Connections that may wait to be accepted: thousands come back at once when a server was gone.
const BACKLOG: u32 = 4096;

pub(super) fn serve(flags: &SettingFlags) -> Result<(), CliError> {
    let loaded = flags.load()?;
    let _logs =
        telemetry::install_logs(&loaded.config.log).map_err(|error| CliError::Failed(error.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve_until_told(loaded.config));
    // What still runs was told to stop and had its time; a thread that hangs must not hold the process.
    runtime.shutdown_background();
    served
}

async fn serve_until_told(config: Config) -> Result<(), CliError> {
    let address = config.listen;
    let listener = listen(address).map_err(|error| CliError::Listen { address, error })?;
    let (stops, told) = watch::channel(0_u8);
    // Listened for from here on: a signal that comes while the server starts is not lost.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| Ok((kind, signal(kind)?)));
    for taken in signals {
        let (kind, mut signal) = taken.map_err(|error: io::Error| CliError::Failed(error.to_string()))?;
        let stops = stops.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                stops.send_modify(|count| *count = count.saturating_add(1));
                if *stops.borrow() > 1 {
                    // As a shell tells of a process that a signal ended. What was answered is durable.
                    std::process::exit(128 + kind.as_raw_value());
                }
            }
        });
    }
    Ok(crate::run(config, listener, told).await?)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Restarted, it takes its port again though connections of the former still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Takes as many open files as the system grants: each WebSocket is one, and the usual 1,024 are few.
fn raise_file_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, ..limit };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "open files stay limited to {:?}", limit.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::listen;
    use crate::cli::CliError;

    #[tokio::test]
    async fn a_taken_port_is_told_in_one_line() {
        let first = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).unwrap_err();
        let line = CliError::Listen { address, error }.to_string();
        assert_eq!(line, format!("cannot listen on {address}: something else listens there already"));
    }
}
