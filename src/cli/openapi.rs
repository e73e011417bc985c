//! `roost openapi`: the API, for generators of clients.

use super::CliError;
use std::io::Write;

pub(super) const EXAMPLE: &str = "Example:\n  roost openapi > openapi.json";

pub(super) fn print() -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{}", crate::http::openapi_json())?)
}
