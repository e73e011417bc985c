//! `roost listen`: a client of `/ws` as it should be. It prints each frame, remembers the last cursor,
//! comes back by itself with it, and drops what it has printed before.

mod account;
mod comeback;
mod connection;
mod heard;
#[cfg(test)]
mod tests;

use super::{CliError, runtime};
use crate::config::HttpUrl;
use crate::model::secret::Secret;
use account::Account;
use clap::Args;
use comeback::{Comeback, Ended};
use connection::{Connection, Trust};
use heard::Heard;
use std::convert::Infallible;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const EXAMPLE: &str = "Example:\n  \
     roost listen --email ada@example.com --password 'correct horse 1!'\n  \
     ROOST_TOKEN=eyJ... roost listen --url https://roost.example.com | jq .data.content\n\n\
     Frames go to stdout, one a line, without the answers to its own pings; what happens to the\n\
     connection is told on stderr. With an e-mail and password it logs in again when its token expires.";

#[derive(Args)]
pub(super) struct Listen {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_parser = address)]
    url: HttpUrl,
    /// Access token of the user who listens.
    #[arg(long, env = "ROOST_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
    /// E-mail address to log in with, instead of a token.
    #[arg(long, requires = "password")]
    email: Option<String>,
    /// The password that goes with it.
    #[arg(long, env = "ROOST_PASSWORD", hide_env_values = true, value_parser = secret)]
    password: Option<Secret>,
    /// Cursor of the last frame that was heard: what came after it is heard first.
    #[arg(long)]
    cursor: Option<String>,
    /// Certificates (PEM) to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// End after so many newPost frames.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

fn address(text: &str) -> Result<HttpUrl, &'static str> {
    text.parse().map_err(|()| "an address starts with http:// or https://")
}

impl Listen {
    pub fn run(&self) -> Result<(), CliError> {
        runtime()?.block_on(self.listen(&mut io::stdout().lock(), &mut io::stderr()))
    }

    /// Listens until there was enough, or until coming back is of no use.
    async fn listen(&self, out: &mut impl Write, notes: &mut impl Write) -> Result<(), CliError> {
        let trust = Trust::new(self.ca.as_deref())?;
        let account = match (&self.email, &self.password, &self.token) {
            (Some(email), Some(password), _) => Account::login(&self.url, &trust, email, password)?,
            (_, _, Some(token)) => Account::Token(token.clone()),
            _ => return Err(CliError::Usage("give --token, or --email and --password".to_owned())),
        };
        let mut heard = Heard::new(self.cursor.clone(), self.count);
        let mut waits = comeback::waits();
        // The token in hand; a new one is got where there is none.
        let mut token: Option<Secret> = None;
        loop {
            let fresh = token.is_none();
            let ended = self.attempt(&account, &trust, &mut token, &mut heard, out).await?;
            let Ended { why, comeback, greeted } = ended;
            if heard.enough() {
                return Ok(());
            }
            if greeted {
                waits = comeback::waits();
            }
            let wait = match comeback {
                Comeback::Never => return Err(CliError::Failed(why)),
                // A token that is refused as soon as it was given would be refused again.
                Comeback::WithNewToken if !account.renews() || (fresh && !greeted) => {
                    return Err(CliError::Failed(format!("{why}; come again with a new token")));
                }
                Comeback::WithNewToken => {
                    token = None;
                    Duration::ZERO
                }
                Comeback::After(wait) => wait,
                Comeback::Soon => waits.next().unwrap_or(comeback::LONGEST_WAIT),
            };
            // Whoever reads stderr may be gone; the frames on stdout still count.
            let _ = writeln!(notes, "roost listen: {why}; back in {:.1} s", wait.as_secs_f64());
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection, from its token to its end.
    async fn attempt(
        &self,
        account: &Account,
        trust: &Trust,
        token: &mut Option<Secret>,
        heard: &mut Heard,
        out: &mut impl Write,
    ) -> Result<Ended, CliError> {
        let held = match token.take() {
            Some(held) => held,
            None => match account.token().await {
                Ok(got) => got,
                Err(ended) => return Ok(ended),
            },
        };
        let held = token.insert(held);
        match Connection::open(&self.url, trust, held, heard.cursor()).await {
            Ok(connection) => connection.hear(heard, out).await,
            Err(ended) => Ok(ended),
        }
    }
}
