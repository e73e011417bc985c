//! `roost health`: asks the server of the same settings whether it is ready. For healthchecks where there is
//! no other program to ask with, as in the container's image.

use super::flag::SettingFlags;
use super::{CliError, runtime};
use clap::Args;
use serde_json::Value;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(super) const EXAMPLE: &str = "Example:\n  roost health\n  roost health --listen 127.0.0.1:8080\n\n\
     Status 0 is ready; 1 is not, or nobody answers.";

/// One that answers later is of no use to whom it is to be sent.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Health {
    #[command(flatten)]
    settings: SettingFlags,
}

impl Health {
    pub fn run(&self) -> Result<(), CliError> {
        let config = self.settings.load()?.config;
        if config.listen.port() == 0 {
            let why = "listen: port 0 does not tell where the server is: name its port (--listen HOST:PORT)";
            return Err(CliError::Usage(why.to_owned()));
        }
        let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/health/ready", reached_at(config.listen));
        runtime()?.block_on(ask(&url))?;
        Ok(writeln!(std::io::stdout(), "ready")?)
    }
}

/// Where this machine reaches a server that listens there.
fn reached_at(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(address, listen.port())
}

async fn ask(url: &str) -> Result<(), CliError> {
    let failed = |error: reqwest::Error| CliError::Failed(format!("{url}: {}", reason(&error)));
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        // The certificate is for the name that clients use, and nothing is told to whoever answers.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(failed)?;
    let answer = client.get(url).send().await.map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let problem: Value = answer.json().await.unwrap_or_default();
    let why = problem["detail"].as_str().unwrap_or(status.as_str());
    Err(CliError::Failed(format!("not ready: {why}")))
}

/// The innermost reason: those around it say only that there was a request.
fn reason(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    if error.is_timeout() { format!("no answer in {} s", DEADLINE.as_secs()) } else { inner.to_string() }
}

#[cfg(test)]
mod tests {
    use super::reached_at;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("127.0.0.2:80", "127.0.0.2:80"),
        ] {
            assert_eq!(reached_at(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
