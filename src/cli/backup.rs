//! `roost backup`: a whole copy of the data, made while everything goes on.

use super::flag::DataFlags;
use super::operator::Operator;
use super::{CliError, runtime};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(super) const EXAMPLE: &str = "Example:\n  roost backup /var/backups/roost-monday.db\n\n\
     To go back to it: stop the server, put the file in the place of roost.db in the data folder (and\n\
     remove roost.db-wal and roost.db-shm), start the server.";

#[derive(Args)]
pub(super) struct Backup {
    /// The file to write; it must not be there yet.
    file: PathBuf,
    #[command(flatten)]
    data: DataFlags,
}

impl Backup {
    pub fn run(&self) -> Result<(), CliError> {
        let folder = self.data.config()?.data_dir;
        // The server may have been started in another folder than this command.
        let file = std::path::absolute(&self.file)?;
        runtime()?.block_on(copy(&folder, &file))?;
        Ok(writeln!(std::io::stdout(), "written: {}", file.display())?)
    }
}

pub(super) async fn copy(folder: &Path, file: &Path) -> Result<(), CliError> {
    let path =
        file.to_str().ok_or_else(|| CliError::Usage(format!("{}: the name is not UTF-8", file.display())))?;
    let operator = Operator::reach(folder).await?;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} pages, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut ended = Err(CliError::Failed("the backup broke off".to_owned()));
    operator
        .follow("/backup", &json!({"file": path}), |line| {
            if let (Some(left), Some(total)) = (line["left"].as_u64(), line["total"].as_u64()) {
                bar.set_length(total);
                bar.set_position(total.saturating_sub(left));
            } else if line["done"] == Value::Bool(true) {
                ended = Ok(());
            } else if let Some(error) = line["error"].as_str() {
                ended = Err(CliError::Failed(error.to_owned()));
            }
            Ok(())
        })
        .await?;
    bar.finish_and_clear();
    operator.leave().await?;
    ended
}
