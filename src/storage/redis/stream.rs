//! The stream of events: an entry each, with the fields `id`, `type` and `event` (the CloudEvent as JSON).
//! It keeps about as many as it is told to; the oldest go.

use super::link::{Away, Does, Link};
use fred::error::Error;
use fred::interfaces::StreamsInterface;
use fred::types::Value;
use std::sync::Arc;

/// A stream in Redis.
pub struct EventStream {
    link: Arc<Link>,
    key: String,
    length: i64,
}

/// Why an event was not added. It may be there all the same.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the stream of events: {0}")]
pub struct StreamError(String);

impl From<Away> for StreamError {
    fn from(away: Away) -> Self {
        Self(away.to_string())
    }
}

/// What a consumer may want to know before it reads the event.
#[derive(serde::Deserialize)]
struct Head {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

impl EventStream {
    pub(super) fn new(link: Arc<Link>, key: &str, length: usize) -> Self {
        Self { link, key: key.to_owned(), length: i64::try_from(length).unwrap_or(i64::MAX) }
    }

    /// Adds an event, a CloudEvent as JSON.
    ///
    /// # Errors
    /// Where Redis did not say that it has it.
    pub async fn add(&self, event: &str) -> Result<(), StreamError> {
        let Head { id, kind } =
            serde_json::from_str(event).map_err(|error| StreamError(format!("no event ({error})")))?;
        let fields: Vec<(&str, Value)> =
            vec![("id", id.into()), ("type", kind.into()), ("event", event.into())];
        let cap = ("MAXLEN", "~", self.length);
        let adding = async {
            let _: Value = self.link.client().xadd(self.key.as_str(), false, cap, "*", fields).await?;
            Ok::<(), Error>(())
        };
        Ok(self.link.ask(Does::Write, adding).await?)
    }
}
