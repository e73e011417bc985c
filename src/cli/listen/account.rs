//! Who listens: a token that was given, or an e-mail and password that get one anew.

use super::comeback::{self, Comeback, Ended};
use super::connection::{Trust, after_failure, under};
use crate::cli::CliError;
use crate::config::HttpUrl;
use crate::model::secret::Secret;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

pub(super) enum Account {
    Token(Secret),
    Login { client: Client, url: Url, email: String, password: Secret },
}

impl Account {
    pub fn login(url: &HttpUrl, trust: &Trust, email: &str, password: &Secret) -> Result<Self, CliError> {
        let client = trust.http()?.timeout(Duration::from_secs(30)).build();
        let client = client.map_err(|error| CliError::Failed(error.to_string()))?;
        let url = under(url, &["auth", "login"]);
        Ok(Self::Login { client, url, email: email.to_owned(), password: password.clone() })
    }

    /// Whether there can be another token than the one that was just refused.
    pub const fn renews(&self) -> bool {
        matches!(self, Self::Login { .. })
    }

    /// The token that was given, or a new one.
    pub async fn token(&self) -> Result<Secret, Ended> {
        let (client, url, email, password) = match self {
            Self::Token(token) => return Ok(token.clone()),
            Self::Login { client, url, email, password } => (client, url, email, password),
        };
        let unanswered = |error: reqwest::Error| {
            // Its own text has the whole address; the innermost cause says what happened.
            Ended::unconnected(format!("no login ({})", innermost(&error)), after_failure(&error))
        };
        let body = json!({"email": email, "password": password.expose()});
        let answer = client.post(url.clone()).json(&body).send().await.map_err(unanswered)?;
        let status = answer.status().as_u16();
        if !answer.status().is_success() {
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let comeback = match comeback::after_refusal(status, comeback::retry_after(header)) {
                // A login that is refused is refused: there is nothing newer to come with.
                Comeback::WithNewToken => Comeback::Never,
                other => other,
            };
            let body = answer.bytes().await.unwrap_or_default();
            return Err(Ended::unconnected(format!("no login: {}", comeback::told(status, &body)), comeback));
        }
        let login: Login = answer.json().await.map_err(unanswered)?;
        Ok(login.token)
    }
}

#[derive(Deserialize)]
struct Login {
    token: Secret,
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
