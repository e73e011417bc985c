//! What makes one table of settings into the fields of `Config`, their defaults, their flags and the
//! example file.

use std::fmt::Write;

/// One setting, for help and documentation.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file.
    pub name: &'static str,
    /// What it means, in lines.
    pub meaning: &'static [&'static str],
    /// Its default as the file would have it; none where nothing is set or the machine decides.
    pub default: fn() -> Option<String>,
    /// A value as the file would have it, where the default is none that could be shown.
    pub sample: Option<&'static str>,
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("ROOST_{}", self.name.to_uppercase())
    }

    /// The flag that sets it, without its hyphens.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// What it means, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        self.meaning.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// The file `config.example.toml`: every setting, commented out, with its meaning and its default.
#[must_use]
pub fn example() -> String {
    let mut file = String::from(
        "# Settings of roost. This file is read where it is named: `roost --config FILE` or ROOST_CONFIG.\n\
         # A variable (ROOST_LISTEN) wins over the file, a flag (--listen) over both. What is commented\n\
         # out is the default, or an example where the default is none. Paths start at the working folder.\n",
    );
    for setting in super::Config::SETTINGS {
        file.push('\n');
        for line in setting.meaning {
            let _ = writeln!(file, "#{line}");
        }
        let shown = match ((setting.default)(), setting.sample) {
            (_, Some(sample)) => sample.to_owned(),
            (default, None) => default.unwrap_or_default(),
        };
        let note = if setting.sample.is_some() { "# An example; not set by default.\n" } else { "" };
        let _ = writeln!(file, "{note}#{} = {shown}", setting.name);
    }
    file
}

/// The table of settings. Each line: its meaning, its field, its name where the field has another (a
/// duration's unit), its type, its default, and an example where the default says nothing.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident $(as $name:literal)?: $type:ty = $default:expr $(, such as $sample:literal)?;
    )+) => {
        /// The settings that a server runs with.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Config {
            /// All settings, in the order of the table.
            pub const SETTINGS: &[Setting] = &[$(
                Setting {
                    name: setting::name!($field $($name)?),
                    meaning: &[$($doc),+],
                    default: || value::Value::show(&{ let default: $type = $default; default }),
                    sample: setting::sample!($($sample)?),
                },
            )+];

            /// Sets what `name` names; answers why it cannot, or none where there is no such setting.
            fn set(&mut self, name: &str, given: &value::Given<'_>) -> Option<Result<(), String>> {
                match name {
                    $(setting::name!($field $($name)?) => {
                        Some(value::Value::read(given).map(|value| self.$field = value))
                    })+
                    _ => None,
                }
            }
        }
    };
}

/// A setting's name: its own, or its field's.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

macro_rules! sample {
    () => {
        None
    };
    ($sample:literal) => {
        Some($sample)
    };
}

pub(super) use {name, sample, settings};
