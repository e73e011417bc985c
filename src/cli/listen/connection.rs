//! One connection to `/ws`, from its upgrade to its end.

use super::comeback::{self, Comeback, Ended};
use super::heard::{Heard, Meaning};
use crate::cli::CliError;
use crate::config::HttpUrl;
use crate::model::secret::Secret;
use futures_util::{SinkExt, StreamExt};
use reqwest::{Certificate, ClientBuilder, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

/// Whose certificates are trusted: the system's roots, or those of one file.
pub(super) struct Trust(Option<Authorities>);

struct Authorities {
    roots: RootCertStore,
    pem: Vec<u8>,
}

impl Trust {
    pub fn new(file: Option<&Path>) -> Result<Self, CliError> {
        let Some(file) = file else { return Ok(Self(None)) };
        let unread =
            |error: &dyn std::fmt::Display| CliError::Usage(format!("--ca {}: {error}", file.display()));
        let pem = std::fs::read(file).map_err(|error| unread(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unread(&error))?;
            roots.add(certificate).map_err(|error| unread(&error))?;
        }
        if roots.is_empty() {
            return Err(unread(&"there is no certificate in it"));
        }
        Ok(Self(Some(Authorities { roots, pem })))
    }

    /// A client of HTTP that trusts the same.
    pub fn http(&self) -> Result<ClientBuilder, CliError> {
        let builder = reqwest::Client::builder();
        let Some(Authorities { pem, .. }) = &self.0 else { return Ok(builder) };
        let certificates = Certificate::from_pem_bundle(pem);
        Ok(builder.tls_certs_only(certificates.map_err(|error| CliError::Failed(error.to_string()))?))
    }

    fn connector(&self) -> Result<Option<Connector>, rustls::Error> {
        let Some(Authorities { roots, .. }) = &self.0 else { return Ok(None) };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Ok(Some(Connector::Rustls(Arc::new(config))))
    }
}

/// The address of a path under the server's own.
pub(super) fn under(server: &HttpUrl, path: &[&str]) -> Url {
    let mut url = server.url().clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

pub(super) struct Connection(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Time for the upgrade, name and certificate included.
const PATIENCE: Duration = Duration::from_secs(15);
/// The server's heartbeat, until it has said it.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Text that keeps the connection from being idle.
const PING: &str = r#"{"type":"ping"}"#;

impl Connection {
    pub async fn open(
        server: &HttpUrl,
        trust: &Trust,
        token: &Secret,
        cursor: Option<&str>,
    ) -> Result<Self, Ended> {
        let never = |why: String| Ended::unconnected(why, Comeback::Never);
        let mut url = under(server, &["ws"]);
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        // Both pairs are of one kind in the eyes of the URL standard: it cannot refuse.
        let _ = url.set_scheme(scheme);
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        let mut request = url.as_str().into_client_request().map_err(|error| never(error.to_string()))?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut bearer =
            bearer.map_err(|_| never("the token has characters that no token has".to_owned()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);

        let connector = trust.connector().map_err(|error| never(error.to_string()))?;
        let opening = tokio_tungstenite::connect_async_tls_with_config(request, None, true, connector);
        match timeout(PATIENCE, opening).await {
            Ok(Ok((stream, _))) => Ok(Self(stream)),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(Ended::unconnected("no connection in time".to_owned(), Comeback::Soon)),
        }
    }

    /// Prints frames until the connection ends or there were enough; `Err` where they cannot be printed.
    pub async fn hear(mut self, heard: &mut Heard, out: &mut impl Write) -> Result<Ended, CliError> {
        let (mut greeted, mut told, mut heartbeat) = (false, None, HEARTBEAT);
        let mut ping_at = Instant::now() + heartbeat;
        let mut silent_at = Instant::now() + silence(heartbeat);
        let lost = |why: String, greeted| Ended { why, comeback: Comeback::Soon, greeted };
        loop {
            let message = tokio::select! {
                message = self.0.next() => message,
                () = tokio::time::sleep_until(ping_at) => {
                    ping_at += heartbeat;
                    // One that cannot be sent ends the connection, which is then read.
                    let _ = self.0.send(Message::text(PING)).await;
                    continue;
                }
                () = tokio::time::sleep_until(silent_at) => {
                    return Ok(lost("the server has fallen silent".to_owned(), greeted));
                }
            };
            silent_at = Instant::now() + silence(heartbeat);
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(Some(close)))) => {
                    let code = u16::from(close.code);
                    let why = format!("closed with {code} ({})", close.reason);
                    return Ok(Ended { why, comeback: comeback::after_close(code, told), greeted });
                }
                Some(Ok(Message::Close(None))) | None => {
                    return Ok(lost("the connection was closed".to_owned(), greeted));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Ok(lost(format!("the connection broke ({error})"), greeted)),
            };
            match heard.take(&text) {
                Meaning::Nothing => continue,
                Meaning::Shown => {}
                Meaning::Leaving(wait) => told = Some(wait),
                Meaning::Greeting(said) => {
                    greeted = true;
                    // A server that pings every 0 s would have us ping without end.
                    heartbeat = said.unwrap_or(HEARTBEAT).max(Duration::from_secs(1));
                    ping_at = Instant::now() + heartbeat;
                    silent_at = Instant::now() + silence(heartbeat);
                }
            }
            writeln!(out, "{text}")?;
            out.flush()?;
            if heard.enough() {
                let _ = self.0.close(None).await;
                return Ok(lost("heard enough".to_owned(), greeted));
            }
        }
    }
}

/// How long a server that pings that often, and answers ours, can be silent only if it is gone.
fn silence(heartbeat: Duration) -> Duration {
    heartbeat * 2 + Duration::from_secs(10)
}

fn refused(error: Error) -> Ended {
    match error {
        Error::Http(answer) => {
            let status = answer.status().as_u16();
            let header = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let comeback = comeback::after_refusal(status, comeback::retry_after(header));
            let body = answer.body().as_deref().unwrap_or_default();
            Ended::unconnected(comeback::told(status, body), comeback)
        }
        error => Ended::unconnected(format!("no connection ({error})"), after_failure(&error)),
    }
}

/// A certificate that is not trusted now will not be in a second; all else may pass.
pub(super) fn after_failure(error: &(dyn std::error::Error + 'static)) -> Comeback {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Comeback::Never;
    }
    // An I/O error names as its source not what it holds, but the source of that.
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match held {
        Some(held) => after_failure(held),
        None => error.source().map_or(Comeback::Soon, after_failure),
    }
}
