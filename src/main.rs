//! The program `roost`: see `roost --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything can speak TLS; it fails only where a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    roost::cli::run(std::env::args_os())
}
