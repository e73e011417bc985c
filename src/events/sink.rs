//! The HTTP sink of events (`ROOST_EVENTS_URL`): CloudEvents 1.0 in structured mode, one POST each,
//! any 2xx accepts. With a secret each is signed by the Standard Webhooks scheme: `webhook-id`,
//! `webhook-timestamp` and `webhook-signature: v1,<base64 HMAC-SHA256 of "id.timestamp.body">`.

use super::Outlet;
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How long a sink may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where events go.
pub struct Sink {
    client: reqwest::Client,
    url: reqwest::Url,
    secret: Option<Secret>,
}

/// Why an event was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No answer, or none in time.
    #[error("the sink did not answer: {0}")]
    Unreachable(String),
    /// An answer other than 2xx.
    #[error("the sink answered {0}")]
    Refused(u16),
}

impl Sink {
    /// A sink at `url`.
    ///
    /// # Errors
    /// Where the TLS client cannot be set up.
    pub fn new(url: reqwest::Url, secret: Option<Secret>) -> Result<Self, SinkError> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SinkError::Unreachable(error.to_string()))?;
        Ok(Self { client, url, secret })
    }

    /// Sends one event.
    ///
    /// # Errors
    /// What came instead of a 2xx.
    pub async fn post(&self, event: &str) -> Result<(), SinkError> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/cloudevents+json; charset=utf-8");
        if let Some(secret) = &self.secret {
            let id = event_id(event);
            let timestamp = Timestamp::now().millis() / 1000;
            let signature = sign(secret, &id, timestamp, event);
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", signature);
        }
        let answer = request.body(event.to_owned()).send().await;
        let status =
            answer.map_err(|error| SinkError::Unreachable(error.without_url().to_string()))?.status();
        if status.is_success() { Ok(()) } else { Err(SinkError::Refused(status.as_u16())) }
    }
}

impl Outlet for Sink {
    fn send<'a>(&'a self, event: &'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move { self.post(event).await.map_err(|error| error.to_string()) })
    }
}

fn event_id(event: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Identified {
        id: String,
    }
    serde_json::from_str::<Identified>(event).map(|event| event.id).unwrap_or_default()
}

fn sign(secret: &Secret, id: &str, timestamp: i64, body: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{event_id, sign};
    use crate::model::secret::Secret;

    #[test]
    fn a_signature_is_that_of_the_scheme() {
        // Computed with: printf 'id.1.{}' | openssl dgst -sha256 -hmac key -binary | base64
        assert_eq!(sign(&Secret::new("key"), "id", 1, "{}"), SIGNATURE);
        assert_ne!(sign(&Secret::new("key"), "id", 2, "{}"), SIGNATURE);
    }

    #[test]
    fn the_id_that_is_signed_is_the_events_own() {
        assert_eq!(event_id(r#"{"specversion":"1.0","id":"abc"}"#), "abc");
    }

    const SIGNATURE: &str = "v1,5PVmP2AfJGwnp9flV+flrzfukNWA9zyUdqvI+IQalVs=";
}
