//! `roost copy`: moving house, from a database into a CQL cluster or back. Nobody else uses either store meanwhile:
//! a data folder is locked, a keyspace claimed.

use super::flag::ScyllaFlags;
use super::{CliError, runtime};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::storage::moving::{self, Compared, CopyError, Export, Import, Stage, Step};
use crate::storage::sqlite::{self, Unobserved};
use crate::storage::{StorageError, Upkeep, scylla};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const EXAMPLE: &str = "Example:\n  \
     roost copy --from sqlite:./data --to scylla: --scylla-nodes 10.0.0.1:9042\n  \
     roost copy --from scylla: --to sqlite:./data-again --scylla-nodes 10.0.0.1:9042\n\n\
     Stop the server first. One that is interrupted goes on when the same command is given again. When all is\n\
     there, both stores are read and compared; only then a server starts on the copy.";

/// Where nobody watches a bar, a line is written so often.
const SPOKEN: Duration = Duration::from_secs(5);
/// What a bar counts to where only the share is known.
const WHOLE: u64 = 1_000;
/// Calls that may read a database at once.
const READERS: usize = 2;

#[derive(Args)]
pub(super) struct Copy {
    /// What to copy: `sqlite:FOLDER`, `scylla:` (the keyspace of the settings) or `scylla:KEYSPACE`.
    #[arg(long, value_name = "STORE")]
    from: Place,
    /// Where to copy it to, likewise; it must hold nothing but a copy of the same store.
    #[arg(long, value_name = "STORE")]
    to: Place,
    #[command(flatten)]
    scylla: ScyllaFlags,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In a data folder.
    Sqlite(PathBuf),
    /// In a keyspace: that of the settings, or another of the same cluster.
    Scylla(Option<String>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", folder)) if !folder.is_empty() => Ok(Self::Sqlite(folder.into())),
            Some(("scylla", "")) => Ok(Self::Scylla(None)),
            Some(("scylla", keyspace)) => Ok(Self::Scylla(Some(keyspace.to_owned()))),
            _ => Err("must be sqlite:FOLDER, scylla: or scylla:KEYSPACE".to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(folder) => write!(f, "sqlite:{}", folder.display()),
            Self::Scylla(keyspace) => write!(f, "scylla:{}", keyspace.as_deref().unwrap_or_default()),
        }
    }
}

/// A store that is ours until it is left.
enum Held {
    Sqlite { store: sqlite::Store, _locked: DataDir },
    Scylla { mover: Arc<scylla::Mover>, store: scylla::Store, claim: Box<scylla::Claim> },
}

impl Copy {
    pub fn run(&self) -> Result<(), CliError> {
        let config = self.scylla.config()?;
        if self.is_one_store(&config)? {
            return Err(CliError::Usage("--from and --to are the same store".to_owned()));
        }
        // Boxed: all that the driver holds would be a part of this future.
        let compared = runtime()?.block_on(Box::pin(self.copy(&config)));
        let mut out = std::io::stdout();
        match compared {
            Ok(compared) => {
                table(&mut out, &compared)?;
                Ok(writeln!(out, "copied: {} is in {}, whole", self.from, self.to)?)
            }
            Err(Failure::Copy(CopyError::Differs(compared))) => {
                table(&mut out, &compared)?;
                Err(CliError::Failed(CopyError::Differs(compared).to_string()))
            }
            Err(Failure::Copy(error)) => Err(CliError::Failed(error.to_string())),
            Err(Failure::Cli(error)) => Err(error),
        }
    }

    /// Whether both name the same place.
    fn is_one_store(&self, config: &Config) -> Result<bool, CliError> {
        let keyspace = |name: &Option<String>| {
            name.clone().unwrap_or_else(|| config.scylla_keyspace.as_str().to_owned())
        };
        Ok(match (&self.from, &self.to) {
            (Place::Sqlite(from), Place::Sqlite(to)) => {
                std::path::absolute(from)? == std::path::absolute(to)?
            }
            (Place::Scylla(from), Place::Scylla(to)) => keyspace(from) == keyspace(to),
            _ => false,
        })
    }

    async fn copy(&self, config: &Config) -> Result<Vec<Compared>, Failure> {
        let source = self.from.open_source(config).await?;
        let target = match self.to.open_target(config).await {
            Ok(target) => target,
            Err(error) => {
                source.leave().await?;
                return Err(error.into());
            }
        };
        let mut told = Told::new();
        let copied = moving::copy(source.export(), target.import(), |step| told.hear(&step)).await;
        told.end();
        target.leave().await?;
        source.leave().await?;
        Ok(copied?)
    }
}

/// Why there is no copy.
enum Failure {
    Cli(CliError),
    Copy(CopyError),
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

impl Place {
    async fn open_source(&self, config: &Config) -> Result<Held, CliError> {
        match self {
            Self::Sqlite(folder) => {
                if !folder.join("roost.db").exists() {
                    return Err(CliError::Failed(format!(
                        "data folder {}: there is no database in it",
                        folder.display()
                    )));
                }
                let locked = DataDir::open_existing(folder)?;
                let store = sqlite::Store::open(database(config, &locked)).map_err(|error| failed(&error))?;
                Ok(Held::Sqlite { store, _locked: locked })
            }
            Self::Scylla(keyspace) => {
                let options = keyspace_options(config, keyspace.as_deref())?;
                let store = scylla::Store::open(options).await.map_err(|error| failed(&error))?;
                self.hold(store, true).await
            }
        }
    }

    async fn open_target(&self, config: &Config) -> Result<Held, CliError> {
        match self {
            Self::Sqlite(folder) => {
                let locked = DataDir::open(folder)?;
                let options = database(config, &locked);
                let store = sqlite::Store::open_target(options).map_err(|error| failed(&error))?;
                Ok(Held::Sqlite { store, _locked: locked })
            }
            Self::Scylla(keyspace) => {
                let options = keyspace_options(config, keyspace.as_deref())?;
                let store = scylla::Store::open_target(options).await.map_err(|error| failed(&error))?;
                self.hold(store, false).await
            }
        }
    }

    /// Claims a keyspace's store, and prepares to move.
    async fn hold(&self, store: scylla::Store, is_source: bool) -> Result<Held, CliError> {
        let claim = scylla::Claimant::Node(format!("roost copy (pid {})", std::process::id()));
        let claim = store.claim(claim).await;
        let claim = claim.map_err(|error| match error {
            scylla::ClaimError::Taken(node) => {
                CliError::Failed(format!("{self} is in use by {node}, which is running: stop it first"))
            }
            scylla::ClaimError::Storage(error) => failed(&error),
        })?;
        let mover = if is_source {
            scylla::Mover::source(store.clone()).await
        } else {
            scylla::Mover::target(store.clone()).await
        };
        let mover = Arc::new(mover.map_err(|error| failed(&error))?);
        Ok(Held::Scylla { mover, store, claim: Box::new(claim) })
    }
}

impl Held {
    fn export(&self) -> &dyn Export {
        match self {
            Self::Sqlite { store, .. } => store,
            Self::Scylla { mover, .. } => mover.as_ref(),
        }
    }

    fn import(&self) -> &dyn Import {
        match self {
            Self::Sqlite { store, .. } => store,
            Self::Scylla { mover, .. } => mover.as_ref(),
        }
    }

    async fn leave(self) -> Result<(), CliError> {
        let left: Result<(), StorageError> = match self {
            Self::Sqlite { store, .. } => store.close().await,
            Self::Scylla { store, claim, .. } => match store.close().await {
                Ok(()) => claim.release().await,
                Err(error) => Err(error),
            },
        };
        left.map_err(|error| failed(&error))
    }
}

fn database(config: &Config, folder: &DataDir) -> sqlite::Options {
    let events = sends_events(config);
    sqlite::Options { file: folder.db(), events, observer: Arc::new(Unobserved), readers: READERS }
}

fn keyspace_options(config: &Config, keyspace: Option<&str>) -> Result<scylla::Options, CliError> {
    let none = || CliError::Usage("scylla_nodes: needed, such as --scylla-nodes 127.0.0.1:9042".to_owned());
    let mut access = config.scylla().ok_or_else(none)?;
    if let Some(keyspace) = keyspace {
        let named = keyspace.parse::<crate::config::KeyspaceName>();
        let wrong =
            |()| CliError::Usage(format!("scylla:{keyspace}: a keyspace has up to 48 of a-z, 0-9 and _"));
        access.keyspace = named.map_err(wrong)?.as_str().to_owned();
    }
    let wide_author_followers =
        config.wide_author_followers.get().map_or(u64::MAX, |most| u64::from(most.get()));
    let events = sends_events(config);
    let (observer, nodes) = (Arc::new(Unobserved), scylla::Nodes::One);
    Ok(scylla::Options { access, events, observer, wide_author_followers, nodes })
}

/// Whether what a former run left unfinished is to be told as events.
const fn sends_events(config: &Config) -> bool {
    config.events_url.is_some() || config.events_stream.is_some()
}

fn failed(error: &dyn fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

/// What is told while it copies: a bar for each stage, or a line now and then where nobody watches.
struct Told {
    bar: ProgressBar,
    stage: Option<String>,
    spoke_at: Instant,
}

impl Told {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:32} {wide_bar} {percent:>3} % {elapsed}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(WHOLE).with_style(style), stage: None, spoke_at: Instant::now() }
    }

    fn hear(&mut self, step: &Step) {
        let stage = match (step.stage, step.kind) {
            (Stage::Take(kind), _) => format!("copying {kind}"),
            (Stage::Compare, Some(kind)) => format!("comparing {kind}"),
            _ => "counting".to_owned(),
        };
        let share = match (step.share, step.count) {
            (Some(share), _) => Some(share),
            (None, Some(count)) if count > 0 => Some(step.done as f64 / count as f64),
            _ => None,
        };
        if self.stage.as_ref() != Some(&stage) {
            self.bar.reset();
            self.stage = Some(stage.clone());
        }
        let place = share.map_or(0, |share| (share.clamp(0.0, 1.0) * WHOLE as f64) as u64);
        self.bar.set_position(place);
        self.bar.set_message(format!("{stage}: {}", step.done));
        if self.bar.is_hidden() && self.spoke_at.elapsed() >= SPOKEN {
            self.spoke_at = Instant::now();
            let share = share.map_or_else(String::new, |share| format!(" ({:.0} %)", share * 100.0));
            // Whoever reads it may have gone: the copy goes on.
            let _ = writeln!(std::io::stderr(), "{stage}: {}{share}", step.done);
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What both stores hold.
fn table(out: &mut impl Write, compared: &[Compared]) -> std::io::Result<()> {
    writeln!(out, "{:18} {:>12} {:>12}  checksum", "", "source", "target")?;
    for Compared { kind, source, target } in compared {
        let sums = if source == target { source.to_string() } else { format!("{source} is not {target}") };
        writeln!(out, "{:18} {:>12} {:>12}  {sums}", kind.name(), source.count, target.count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_store_is_named_by_its_engine_and_where_it_is() {
        assert_eq!("sqlite:./data".parse(), Ok(Place::Sqlite("./data".into())));
        assert_eq!("sqlite:C:/data".parse(), Ok(Place::Sqlite("C:/data".into())));
        assert_eq!("scylla:".parse(), Ok(Place::Scylla(None)));
        assert_eq!("scylla:other".parse(), Ok(Place::Scylla(Some("other".to_owned()))));
        for wrong in ["", "data", "sqlite", "sqlite:", "scylla", "postgres:x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
