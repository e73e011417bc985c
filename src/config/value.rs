//! The types of settings: how each is read from text (a variable, a flag) and from TOML (the file), and
//! how it says that it cannot be read.

use super::redis_url::RedisUrl;
use crate::model::room::EventType;
use crate::model::room::rules::Step;
use crate::model::secret::Secret;
use crate::model::user::Username;
use crate::storage::scylla::Replication;
use ipnet::IpNet;
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A value as it was given.
pub(super) enum Given<'a> {
    /// By a variable or a flag.
    Text(&'a str),
    /// In the file.
    Toml(&'a toml::Value),
}

/// What a setting can hold.
pub(super) trait Value: Sized {
    /// Reads it; an error is the end of a sentence that begins with the setting's name, and repeats no
    /// secret.
    fn read(given: &Given<'_>) -> Result<Self, String>;
    /// How the file would have it; none where nothing is set.
    fn show(&self) -> Option<String>;
}

/// A number of times, or of things, that is allowed; a setting's 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(Option<NonZeroU32>);

impl Limit {
    /// No limit.
    pub const NONE: Self = Self(None);

    /// The number; where there is no limit, the greatest.
    #[must_use]
    pub fn or_max(self) -> u32 {
        self.0.map_or(u32::MAX, NonZeroU32::get)
    }

    /// A limit of that number; 0 is none.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        Self(NonZeroU32::new(number))
    }

    /// The number, unless there is no limit.
    #[must_use]
    pub const fn get(self) -> Option<NonZeroU32> {
        self.0
    }
}

/// What a node serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// REST only.
    Api,
    /// Sockets and streams only.
    Realtime,
    /// Both.
    #[default]
    All,
}

impl Role {
    /// Its name in settings and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Realtime => "realtime",
            Self::All => "all",
        }
    }
}

/// A node's name: 1 to 64 of `[a-zA-Z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// The host's name, or `roost` where it has none that would do.
    #[must_use]
    pub fn of_host() -> Self {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .and_then(|name| name.trim().parse().ok())
            .unwrap_or_else(Self::roost)
    }

    /// What we are called.
    #[must_use]
    pub fn roost() -> Self {
        Self("roost".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

/// Where a server listens: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// As `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let is_address = text.parse::<SocketAddr>().is_ok();
        let is_name = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let has_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        if has_port && (is_address || is_name) { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

/// Where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which node.
    pub node: NodeName,
    /// Where.
    pub to: HostPort,
}

impl FromStr for Route {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (node, to) = text.split_once('=').ok_or(())?;
        Ok(Self { node: node.parse()?, to: to.parse()? })
    }
}

/// A keyspace: a lower-case letter, then up to 47 of those, digits and underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceName(String);

impl KeyspaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KeyspaceName {
    fn default() -> Self {
        Self("roost".to_owned())
    }
}

impl FromStr for KeyspaceName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fits = (1..=48).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if fits { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

/// An address of HTTP or HTTPS. It prints without user, path and query, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(reqwest::Url);

impl HttpUrl {
    /// The whole address.
    #[must_use]
    pub const fn url(&self) -> &reqwest::Url {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let url = reqwest::Url::parse(text).map_err(|_| ())?;
        if matches!(url.scheme(), "http" | "https") { Ok(Self(url)) } else { Err(()) }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The origin of a page, as browsers send it (RFC 6454): `https://app.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin as browsers send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let HttpUrl(url) = text.parse()?;
        let origin = url.origin().ascii_serialization();
        // With a path, a user or a query it is not an origin, and no browser would ever send it.
        if text.trim_end_matches('/').eq_ignore_ascii_case(&origin) { Ok(Self(origin)) } else { Err(()) }
    }
}

/// A filter of log lines, in the syntax of `tracing_subscriber::EnvFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Its text, which `EnvFilter` understands.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let known = tracing_subscriber::EnvFilter::try_new(text).is_ok();
        if known && !text.is_empty() { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

/// Somebody else whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideIssuer {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// What their `aud` must hold.
    pub audience: String,
    /// Its public keys (RFC 7517): a file, or an address of HTTP or HTTPS.
    pub jwks: String,
}

/// A value that is one text in the file, in a variable and in a flag, and can be an item of a list.
trait Text: Sized {
    /// What it is, after "is not".
    const KIND: &'static str;
    /// Whether a wrong one may be repeated to who wrote it.
    const SHOWN: bool = true;
    fn parse(text: &str) -> Option<Self>;
    fn text(&self) -> String;
}

macro_rules! text {
    ($($type:ty, $kind:literal, $parse:expr, $text:expr;)+) => {$(
        impl Text for $type {
            const KIND: &'static str = $kind;
            fn parse(text: &str) -> Option<Self> { ($parse)(text) }
            fn text(&self) -> String { ($text)(self) }
        }
    )+};
}

text! {
    SocketAddr, "an address with a port, such as 127.0.0.1:8080",
        |text: &str| text.parse().ok(), SocketAddr::to_string;
    PathBuf, "a path", |text: &str| (!text.is_empty()).then(|| text.into()),
        |path: &Self| path.display().to_string();
    NodeName, "a name of 1 to 64 letters, digits, dots, hyphens or underscores",
        |text: &str| text.parse().ok(), |name: &Self| name.0.clone();
    Role, "one of api, realtime, all",
        |text: &str| match text {
            "api" => Some(Self::Api),
            "realtime" => Some(Self::Realtime),
            "all" => Some(Self::All),
            _ => None,
        },
        |role: &Self| role.name().to_owned();
    HttpUrl, "an address that starts with http:// or https://",
        |text: &str| text.parse().ok(), |url: &Self| url.0.to_string();
    Origin, "an origin, such as https://app.example.com (scheme, host and port, no path)",
        |text: &str| text.parse().ok(), |origin: &Self| origin.0.clone();
    IpNet, "an address or a network, such as 192.0.2.7 or 10.0.0.0/8",
        |text: &str| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from)), IpNet::to_string;
    HostPort, "a host and a port, such as 127.0.0.1:9042",
        |text: &str| text.parse().ok(), |host: &Self| host.0.clone();
    Route, "a node and where it is reached, such as roost-2=192.0.2.2:7400",
        |text: &str| text.parse().ok(), |route: &Self| format!("{}={}", route.node.0, route.to.0);
    KeyspaceName, "a lower-case letter followed by up to 47 of those, digits and underscores",
        |text: &str| text.parse().ok(), |name: &Self| name.0.clone();
    Replication, "a number of copies from 1 to 9, or one for each datacenter, such as dc1=3,dc2=2",
        |text: &str| text.parse().ok(), Replication::to_string;
    EventType, "what can be pressed and how often, such as skill1=5 (1 to 64 of a-z, A-Z, 0-9, _ and -; 1 to 1000000)",
        |text: &str| {
            let (name, base) = text.split_once('=')?;
            Self::parse(name, base.parse().ok()?).ok()
        },
        |of: &Self| format!("{}={}", of.name, of.base);
    Step, "a number of viewers and a multiplier of up to two decimals, such as 6=1.2",
        |text: &str| {
            let (viewers, multiplier) = text.split_once('=')?;
            Some(Self { viewers: viewers.parse().ok()?, hundredths: hundredths(multiplier)? })
        },
        |step: &Self| format!("{}={}.{:02}", step.viewers, step.hundredths / 100, step.hundredths % 100);
    String, "a text", |text: &str| (!text.is_empty()).then(|| text.to_owned()), String::clone;
    Username, "a name of 3 to 50 letters, digits, underscores or hyphens",
        |text: &str| Self::parse(text).ok(), |name: &Self| name.as_str().to_owned();
    LogFilter, "a log filter, such as info or info,roost=debug",
        |text: &str| text.parse().ok(), |filter: &Self| filter.0.clone();
}

/// A multiplier from 0.01 to 100, in hundredths.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(rest) || rest.len() > 2 {
        return None;
    }
    let rest: u32 = format!("{rest:0<2}").parse().ok()?;
    let hundredths = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(rest)?;
    (1..=10_000).contains(&hundredths).then_some(hundredths)
}

/// Text of a secret is never repeated, not even a wrong one.
impl Text for Secret {
    const KIND: &'static str = "a text";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::new(text))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// It may hold a password.
impl Text for RedisUrl {
    const KIND: &'static str = "an address such as redis://user:password@host:6379/0, \
                                redis-cluster://host:7001?node=other:7002 or \
                                redis-sentinel://host:26379?sentinelServiceName=main";
    const SHOWN: bool = false;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn text(&self) -> String {
        self.secret().to_string()
    }
}

fn read_text<T: Text>(text: &str) -> Result<T, String> {
    T::parse(text).ok_or_else(|| match T::SHOWN {
        true => format!("{text:?} is not {}", T::KIND),
        false => format!("is not {}", T::KIND),
    })
}

fn read_one<T: Text>(given: &Given<'_>) -> Result<T, String> {
    match given {
        Given::Text(text) => read_text(text),
        Given::Toml(toml::Value::String(text)) => read_text(text),
        // A number where a text belongs may be a secret too: it is not repeated.
        Given::Toml(_) => Err(format!("is not {} in quotes", T::KIND)),
    }
}

fn quoted(text: String) -> String {
    toml::Value::String(text).to_string()
}

macro_rules! one_text {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn read(given: &Given<'_>) -> Result<Self, String> { read_one(given) }
            fn show(&self) -> Option<String> { Some(quoted(self.text())) }
        }
    )+};
}

one_text!(SocketAddr, PathBuf, NodeName, Role, LogFilter, KeyspaceName, Replication);

/// What may be missing: an empty text is none, so that a variable can undo what the file says.
impl<T: Text> Value for Option<T> {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        match given {
            Given::Text("") => Ok(None),
            given => read_one(given).map(Some),
        }
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(|value| quoted(value.text()))
    }
}

/// A list: by comma in text, an array in the file.
impl<T: Text> Value for Vec<T> {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        match given {
            Given::Text(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(read_text).collect()
            }
            Given::Toml(toml::Value::Array(items)) => {
                items.iter().map(|item| read_one(&Given::Toml(item))).collect()
            }
            Given::Toml(other) => Err(format!("{other} is not a list")),
        }
    }

    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().map(|item| quoted(item.text())).collect();
        (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
    }
}

impl Value for Vec<OutsideIssuer> {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let told = |error: &dyn fmt::Display| {
            let error = error.to_string().trim().replace('\n', " ");
            format!("is not a list of {{issuer, audience, jwks}}: {error}")
        };
        match given {
            Given::Text("") => Ok(Self::new()),
            Given::Text(text) => serde_json::from_str(text).map_err(|error| told(&error)),
            Given::Toml(toml::Value::String(text)) => {
                serde_json::from_str(text).map_err(|error| told(&error))
            }
            Given::Toml(value) => {
                (*value).clone().try_into().map_err(|error: toml::de::Error| told(&error.message()))
            }
        }
    }

    fn show(&self) -> Option<String> {
        let inline = |one: &OutsideIssuer| {
            let [issuer, audience, jwks] =
                [&one.issuer, &one.audience, &one.jwks].map(|text| quoted(text.clone()));
            format!("{{ issuer = {issuer}, audience = {audience}, jwks = {jwks} }}")
        };
        (!self.is_empty()).then(|| format!("[{}]", self.iter().map(inline).collect::<Vec<_>>().join(", ")))
    }
}

/// A whole number from 0; `kind` is what it is, after "is not".
fn read_number<T: TryFrom<u64>>(given: &Given<'_>, kind: &str) -> Result<T, String> {
    let (shown, number) = match given {
        Given::Text(text) => (format!("{text:?}"), text.trim().parse().ok()),
        Given::Toml(toml::Value::Integer(number)) => (number.to_string(), u64::try_from(*number).ok()),
        Given::Toml(toml::Value::String(text)) => (format!("{text:?} (in quotes)"), None),
        Given::Toml(other) => (other.to_string(), None),
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("{shown} is not {kind}"))
}

impl Value for Duration {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        // Bounded to a number that no clock arithmetic overflows at: a hundred years and more.
        let seconds: u32 = read_number(given, "a whole number of seconds")?;
        Ok(Self::from_secs(seconds.into()))
    }

    fn show(&self) -> Option<String> {
        Some(self.as_secs().to_string())
    }
}

impl Value for Limit {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        read_number(given, "a whole number (0 is no limit)").map(Self::of)
    }

    fn show(&self) -> Option<String> {
        Some(self.0.map_or(0, NonZeroU32::get).to_string())
    }
}

impl Value for usize {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        read_number(given, "a whole number")
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}
