//! A script that Redis runs as one step, named by its SHA-1 and sent whole where Redis does not know it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use fred::clients::{Client, WithOptions};
use fred::error::Error;
use fred::interfaces::LuaInterface;
use fred::types::{FromValue, Value};
use std::fmt::Write;

/// A script on one key.
pub struct Script {
    text: &'static str,
    sha1: String,
}

impl Script {
    /// The script of this text.
    pub fn new(text: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut sha1 = String::with_capacity(40);
        for byte in digest.as_ref() {
            // Writing to a string does not fail.
            let _ = write!(sha1, "{byte:02x}");
        }
        Self { text, sha1 }
    }

    /// Runs it.
    pub async fn run<R: FromValue>(
        &self,
        client: &WithOptions<Client>,
        key: String,
        arguments: Vec<Value>,
    ) -> Result<R, Error> {
        match client.evalsha(self.sha1.as_str(), key.as_str(), arguments.clone()).await {
            Err(error) if error.details().contains("NOSCRIPT") => {
                client.eval(self.text, key, arguments).await
            }
            answer => answer,
        }
    }
}
