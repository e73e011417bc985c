//! A flag for each setting, made from the table of settings.

use crate::config::{Config, ConfigError, Loaded, Setting, Sources};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;

/// The settings that were given as flags; each is read as text by the table, not here.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingFlags {
    pub config: Option<PathBuf>,
    pub settings: Vec<(&'static str, String)>,
}

impl SettingFlags {
    /// All settings, with those of the environment and the file.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        Sources::of_process(self.config.clone(), self.settings.clone())?.load()
    }
}

const CONFIG: &str = "config";

fn file_flag() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(PathBufValueParser::new().map(Some))
        .help("File of settings (TOML), as config.example.toml [variable: ROOST_CONFIG]")
}

fn setting_flag(setting: &'static Setting) -> Arg {
    let default = if setting.sample.is_some() { None } else { (setting.default)() };
    let default =
        default.map_or_else(String::new, |default| format!("default: {}, ", default.trim_matches('"')));
    Arg::new(setting.name)
        .long(setting.flag())
        .value_name("VALUE")
        // Text such as -1 must reach the table, which names the setting that it is wrong for.
        .allow_hyphen_values(true)
        .help(format!("{} [{default}variable: {}]", setting.summary(), setting.variable()))
}

fn read(matches: &ArgMatches) -> SettingFlags {
    let given = |setting: &'static Setting| {
        let text = matches.try_get_one::<String>(setting.name).ok().flatten()?;
        Some((setting.name, text.clone()))
    };
    SettingFlags {
        config: matches.get_one::<Option<PathBuf>>(CONFIG).cloned().flatten(),
        settings: Config::SETTINGS.iter().filter_map(given).collect(),
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.arg(file_flag()).args(Config::SETTINGS.iter().map(setting_flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(read(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = read(matches);
        Ok(())
    }
}

/// The flags of commands that need to know only some settings.
macro_rules! some_flags {
    ($(#[doc = $doc:literal])+ $name:ident, $is_needed:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default)]
        pub(super) struct $name(SettingFlags);

        impl $name {
            /// The settings, those of the environment and the file included.
            pub fn config(&self) -> Result<Config, ConfigError> {
                Ok(self.0.load()?.config)
            }
        }

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                let is_needed: fn(&str) -> bool = $is_needed;
                let needed = Config::SETTINGS.iter().filter(|setting| is_needed(setting.name));
                command.arg(file_flag()).args(needed.map(setting_flag))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
                Ok(Self(read(matches)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                self.0 = read(matches);
                Ok(())
            }
        }
    };
}

some_flags! {
    /// Where the data is.
    DataFlags, |name| name == "data_dir" || name.starts_with("scylla_")
}

some_flags! {
    /// Where a running server is: its data folder, or what lets an operator in over the cluster port.
    OperatorFlags, |name| name == "data_dir" || lets_in(name)
}

some_flags! {
    /// Where the data is, or what lets an operator in over the cluster port.
    LetterFlags, |name| name == "data_dir" || name.starts_with("scylla_") || lets_in(name)
}

fn lets_in(name: &str) -> bool {
    matches!(name, "cluster_secret" | "cluster_name") || name.starts_with("cluster_tls_")
}

some_flags! {
    /// Where the CQL cluster is.
    ScyllaFlags, |name| name.starts_with("scylla_")
}

#[cfg(test)]
mod tests {
    use super::{Config, SettingFlags};
    use clap::{Args, Command, FromArgMatches};

    fn flags(arguments: &[&str]) -> SettingFlags {
        let command = SettingFlags::augment_args(Command::new("roost").no_binary_name(true));
        SettingFlags::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
    }

    #[test]
    fn every_setting_has_a_flag_that_carries_its_text() {
        for setting in Config::SETTINGS {
            let read = flags(&[&format!("--{}", setting.flag()), "-1"]);
            assert_eq!(read.settings, [(setting.name, "-1".to_owned())]);
        }
    }

    #[test]
    fn help_tells_default_and_variable() {
        let help = SettingFlags::augment_args(Command::new("roost")).render_help().to_string();
        let told = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("[default: 30, variable: ROOST_HEARTBEAT_SECONDS]"), "{told}");
        assert!(told.contains("[variable: ROOST_TLS_KEY]"), "{told}");
    }
}
