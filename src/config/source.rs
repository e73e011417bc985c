//! Where settings come from, and which of two wins.

use super::{Config, Setting, value::Given};
use std::path::{Path, PathBuf};

/// Everything that was given: nothing here reads the process itself, so that tests need none.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named by `--config`; it wins over `ROOST_CONFIG`.
    pub file: Option<PathBuf>,
    /// The environment, or of it what begins with `ROOST_`.
    pub variables: Vec<(String, String)>,
    /// Settings given as flags, by name.
    pub flags: Vec<(&'static str, String)>,
}

/// Settings as they were read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is odd but stops nothing, a line each.
    pub warnings: Vec<String>,
}

/// Why settings could not be read; each is one line that names what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file has a setting that does not exist.
    #[error("{}: there is no setting {name:?}{}", path.display(), hint(.near))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it calls the setting.
        name: String,
        /// The setting that may have been meant.
        near: Option<&'static str>,
    },
    /// A value cannot be read, or does not go with another.
    #[error("{name}: {reason}")]
    Value {
        /// The setting as its source calls it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Variables that begin with `ROOST_` and are no settings of the server.
const OTHER_VARIABLES: [&str; 3] = ["ROOST_CONFIG", "ROOST_TOKEN", "ROOST_PASSWORD"];

impl Sources {
    /// The sources that this process has, beside its flags.
    ///
    /// # Errors
    /// A variable of ours that is not UTF-8.
    pub fn of_process(
        file: Option<PathBuf>,
        flags: Vec<(&'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let variables = ours
            .filter(|(name, _)| name.starts_with("ROOST_"))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                Err(_) => Err(ConfigError::Value { name, reason: "is not UTF-8".to_owned() }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { file, variables, flags })
    }

    /// Reads all settings: flags over variables over the file over the defaults.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut config = Config::default();
        // By setting, how the source that won calls it: an error must name what its reader wrote.
        let mut spelled = Vec::new();
        let mut warnings = Vec::new();

        let named = || self.variable("ROOST_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = self.file.clone().or_else(named) {
            for (name, value) in read(&path)? {
                let spelling = format!("{}: {name}", path.display());
                match config.set(&name, &Given::Toml(&value)) {
                    Some(result) => result.map_err(|reason| wrong(&spelling, reason))?,
                    None => {
                        return Err(ConfigError::Unknown { near: nearest(&name), path, name });
                    }
                }
                spelled.push((name, spelling));
            }
        }
        for (variable, text) in &self.variables {
            let Some(setting) = Config::SETTINGS.iter().find(|setting| setting.variable() == *variable)
            else {
                if variable.starts_with("ROOST_") && !OTHER_VARIABLES.contains(&variable.as_str()) {
                    warnings.push(format!("{variable}: there is no such setting; it is not read"));
                }
                continue;
            };
            set(&mut config, setting.name, variable, text)?;
            spelled.push((setting.name.to_owned(), variable.clone()));
        }
        for (name, text) in &self.flags {
            let spelling = format!("--{}", name.replace('_', "-"));
            set(&mut config, name, &spelling, text)?;
            spelled.push(((*name).to_owned(), spelling));
        }

        config.check().map_err(|(name, reason)| {
            let spelling = spelled.iter().rev().find(|(known, _)| known == name);
            wrong(spelling.map_or(name, |(_, spelling)| spelling), reason)
        })?;
        Ok(Loaded { config, warnings })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn set(config: &mut Config, name: &str, spelling: &str, text: &str) -> Result<(), ConfigError> {
    match config.set(name, &Given::Text(text)) {
        Some(result) => result.map_err(|reason| wrong(spelling, reason)),
        None => Err(wrong(spelling, "is not a setting".to_owned())),
    }
}

fn wrong(name: &str, reason: String) -> ConfigError {
    ConfigError::Value { name: name.to_owned(), reason }
}

fn read(path: &Path) -> Result<toml::Table, ConfigError> {
    let failed = |reason| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read ({error})")))?;
    text.parse::<toml::Table>().map_err(|error| {
        // The library's own text has several lines and quotes the file, where secrets may stand.
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        failed(format!("line {line} is not TOML: {}", error.message().replace('\n', ", ")))
    })
}

/// The setting that differs least from `name`, if few letters do.
fn nearest(name: &str) -> Option<&'static str> {
    let closeness = |setting: &&Setting| distance(name, setting.name);
    let best = Config::SETTINGS.iter().min_by_key(closeness)?;
    (distance(name, best.name) <= 3).then_some(best.name)
}

/// How many letters must be changed, put in or left out (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

fn hint(near: &Option<&'static str>) -> String {
    near.map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"))
}
