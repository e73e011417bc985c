//! The command line: one file a command. A command that fails says why in one line on stderr.
//!
//! Status 0 is done, 1 failed, 2 a wrong usage or setting.

mod backup;
mod copy;
mod dead_letters;
mod flag;
mod health;
mod listen;
mod nodes;
mod openapi;
mod operator;
mod schema;
mod serve;

use crate::StartError;
use crate::config::ConfigError;
use crate::data_dir::DataDirError;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use flag::SettingFlags;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

/// An actor-based realtime server for social apps: posts, timelines and live delivery.
///
/// Without a command it serves; `roost serve --help` lists the settings.
#[derive(Parser)]
#[command(
    name = "roost",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  roost\n  roost --listen 0.0.0.0:80 --data-dir /var/lib/roost\n  roost listen --help"
)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: SettingFlags,
}

#[derive(Subcommand)]
enum Command {
    /// Serve: what `roost` alone does.
    #[command(after_help = serve::EXAMPLE)]
    Serve(SettingFlags),
    /// Print what a user hears live, a frame a line, and resume by itself.
    #[command(after_help = listen::EXAMPLE)]
    Listen(listen::Listen),
    /// Write a whole copy of the data into a file, while the server runs or not.
    #[command(after_help = backup::EXAMPLE)]
    Backup(backup::Backup),
    /// Move house: copy everything from a database into a CQL cluster, or back.
    #[command(after_help = copy::EXAMPLE)]
    Copy(copy::Copy),
    /// Look after events that could not be sent, while the server runs or not.
    #[command(after_help = dead_letters::EXAMPLE)]
    DeadLetters(dead_letters::DeadLetters),
    /// Ask the server of the same settings whether it is ready, for healthchecks.
    #[command(after_help = health::EXAMPLE)]
    Health(health::Health),
    /// List the nodes of a cluster, as one of them sees them.
    #[command(after_help = nodes::EXAMPLE)]
    Nodes(nodes::Nodes),
    /// Have a node give up its homes and send its clients away, without ending it.
    #[command(after_help = nodes::DRAIN_EXAMPLE)]
    Drain(nodes::Drain),
    /// Have a node that was drained take homes and clients again.
    #[command(after_help = nodes::UNDRAIN_EXAMPLE)]
    Undrain(nodes::Undrain),
    /// Tell where an author, a user or a room is at home, and where a user is connected.
    #[command(after_help = nodes::WHERE_EXAMPLE)]
    Where(nodes::Where),
    /// Make, or look at, the tables in a CQL cluster.
    #[command(after_help = schema::EXAMPLE)]
    Schema(schema::Schema),
    /// Print the API as an OpenAPI document, as /openapi.json has it.
    #[command(after_help = openapi::EXAMPLE)]
    Openapi,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    DataDir(#[from] DataDirError),
    #[error("cannot listen on {address}: {}", refusal(.error))]
    Listen { address: SocketAddr, error: io::Error },
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    const fn status(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// The commonest reason in words, the others as the system tells them.
fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something else listens there already".to_owned(),
        _ => error.to_string(),
    }
}

/// Does what the command line says.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // The settings would bury the commands; `roost serve --help` has them.
    let parser = Line::command().mut_args(|argument| argument.hide(true));
    let line = parser.try_get_matches_from(arguments).and_then(|matches| Line::from_arg_matches(&matches));
    let done = match line {
        Ok(Line { command, serve }) => match command.unwrap_or(Command::Serve(serve)) {
            Command::Serve(flags) => serve::serve(&flags),
            Command::Listen(listen) => listen.run(),
            Command::Backup(backup) => backup.run(),
            Command::Copy(copy) => copy.run(),
            Command::DeadLetters(letters) => letters.run(),
            Command::Health(health) => health.run(),
            Command::Nodes(nodes) => nodes.run(),
            Command::Drain(drain) => drain.run(),
            Command::Undrain(undrain) => undrain.run(),
            Command::Where(place) => place.run(),
            Command::Schema(schema) => schema.run(),
            Command::Openapi => openapi::print(),
        },
        Err(told) => {
            // Help and version are told by the same road as mistakes.
            let status = u8::try_from(told.exit_code()).unwrap_or(2);
            return if told.print().is_ok() { status.into() } else { 1.into() };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads stdout has enough, as in `roost listen | head -1`.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "roost: {error}");
            error.status().into()
        }
    }
}

/// A runtime for a command that only waits.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::{CliError, Command, Line};
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_an_example() {
        Line::command().debug_assert();
        let commands = Line::command();
        assert!(commands.get_subcommands().count() >= 5);
        for command in commands.get_subcommands() {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("roost {}", command.get_name())), "{}", command.get_name());
        }
    }

    #[test]
    fn alone_it_serves_with_the_same_flags_as_serve() {
        let alone = Line::try_parse_from(["roost", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(alone.command.is_none());
        let named = Line::try_parse_from(["roost", "serve", "--listen", "127.0.0.1:0"]).unwrap();
        let Some(Command::Serve(flags)) = named.command else { panic!("not serve") };
        assert_eq!(flags.settings, alone.serve.settings);
        assert!(Line::try_parse_from(["roost", "--listen", "127.0.0.1:0", "openapi"]).is_err());
    }

    #[test]
    fn a_wrong_setting_is_status_2_and_a_failure_1() {
        assert_eq!(CliError::Usage(String::new()).status(), 2);
        assert_eq!(CliError::Failed(String::new()).status(), 1);
    }
}
