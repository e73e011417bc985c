//! `roost schema`: the tables in a CQL cluster: printed, looked at, made.

use super::flag::ScyllaFlags;
use super::{CliError, runtime};
use crate::storage::scylla::{Access, SCHEMA, Status, VERSION};
use clap::{Args, Subcommand};
use std::io::Write;

pub(super) const EXAMPLE: &str = "Example:\n  roost schema print\n  roost schema status --scylla-nodes 10.0.0.1:9042\n  \
     roost schema apply --scylla-nodes 10.0.0.1:9042 --scylla-replication 3\n\n\
     A server makes the tables itself when it starts; with this an operator does it beforehand.";

#[derive(Args)]
pub(super) struct Schema {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make the keyspace and its tables, or bring them to this version; several may do it at once.
    #[command(
        after_help = "Example:\n  roost schema apply --scylla-nodes 10.0.0.1:9042 --scylla-replication 3"
    )]
    Apply(ScyllaFlags),
    /// Tell which version the keyspace has.
    #[command(after_help = "Example:\n  roost schema status --scylla-nodes 10.0.0.1:9042")]
    Status(ScyllaFlags),
    /// Print the tables as CQL.
    #[command(after_help = "Example:\n  roost schema print > schema.cql")]
    Print,
}

impl Schema {
    pub fn run(&self) -> Result<(), CliError> {
        let mut out = std::io::stdout();
        match &self.action {
            Action::Print => write!(out, "{SCHEMA}")?,
            Action::Status(flags) => {
                let access = access(flags)?;
                let status = runtime()?.block_on(access.status()).map_err(failed)?;
                match status {
                    Status::Missing => writeln!(out, "keyspace {}: no schema of Roost", access.keyspace)?,
                    Status::Version(found) => writeln!(
                        out,
                        "keyspace {}: schema version {found}, this program's is {VERSION}",
                        access.keyspace
                    )?,
                }
            }
            Action::Apply(flags) => {
                let access = access(flags)?;
                runtime()?.block_on(access.apply()).map_err(failed)?;
                writeln!(out, "keyspace {}: schema version {VERSION}", access.keyspace)?;
            }
        }
        Ok(())
    }
}

fn access(flags: &ScyllaFlags) -> Result<Access, CliError> {
    let none = || CliError::Usage("scylla_nodes: needed, such as --scylla-nodes 127.0.0.1:9042".to_owned());
    flags.config()?.scylla().ok_or_else(none)
}

fn failed(error: crate::storage::scylla::OpenError) -> CliError {
    CliError::Failed(error.to_string())
}
