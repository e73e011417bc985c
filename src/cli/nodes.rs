//! `roost nodes`, `roost drain`, `roost undrain`, `roost where`: the cluster, by any of its nodes.

use super::flag::OperatorFlags;
use super::operator::Operator;
use super::{CliError, runtime};
use crate::model::operation::{NodeList, NodeReport, NodeState, OwnReport, Place, Subject};
use clap::{Args, Subcommand};
use hyper::Method;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

pub(super) const EXAMPLE: &str = "Example:\n  roost nodes\n  roost nodes --json | jq -r 'select(.state == \"up\").name'\n  \
     roost nodes show roost-2\n  roost nodes --node 10.0.0.2:7400";
pub(super) const DRAIN_EXAMPLE: &str = "Example:\n  roost drain roost-2 --wait";
pub(super) const UNDRAIN_EXAMPLE: &str = "Example:\n  roost undrain roost-2";
pub(super) const WHERE_EXAMPLE: &str = "Example:\n  roost where author 01980000-0000-7000-8000-000000000001\n  \
     roost where user 01980000-0000-7000-8000-000000000001\n  roost where room 01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Between two looks at a node that is being drained.
const LOOK: Duration = Duration::from_millis(500);

/// Which server is asked.
#[derive(Args)]
struct Reach {
    /// Ask the node whose cluster port is there, instead of the server of the data folder.
    #[arg(long, value_name = "HOST:PORT")]
    node: Option<String>,
    #[command(flatten)]
    settings: OperatorFlags,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Nodes {
    #[command(subcommand)]
    action: Option<NodesAction>,
    #[command(flatten)]
    list: ListFlags,
}

#[derive(Subcommand)]
enum NodesAction {
    /// Print all that is known of one node.
    #[command(after_help = "Example:\n  roost nodes show roost-2")]
    Show {
        /// What it is called.
        name: String,
        #[command(flatten)]
        flags: ListFlags,
    },
}

#[derive(Args)]
struct ListFlags {
    /// JSON, an object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Drain {
    /// What the node is called.
    name: String,
    /// Come back when it has no homes and no sockets any more.
    #[arg(long)]
    wait: bool,
    /// Though no other node is up.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Undrain {
    /// What the node is called.
    name: String,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Where {
    /// author, user or room.
    kind: String,
    /// Its id.
    id: String,
    #[command(flatten)]
    flags: ListFlags,
}

impl Nodes {
    pub fn run(&self) -> Result<(), CliError> {
        let flags = match &self.action {
            Some(NodesAction::Show { flags, .. }) => flags,
            None => &self.list,
        };
        reached(&flags.reach, async |operator| {
            let out = &mut io::stdout();
            match &self.action {
                Some(NodesAction::Show { name, .. }) => show(operator, name, flags.json, out).await,
                None => list(operator, flags.json, out).await,
            }
        })
    }
}

impl Drain {
    pub fn run(&self) -> Result<(), CliError> {
        reached(&self.reach, async |operator| {
            let path = format!("/nodes/{}/drain?force={}", segment(&self.name)?, self.force);
            done(operator, Method::PUT, &path, &self.name).await?;
            if self.wait {
                while !is_empty(operator, &self.name).await? {
                    tokio::time::sleep(LOOK).await;
                }
            }
            let what = if self.wait { "drained" } else { "draining" };
            Ok(writeln!(io::stdout(), "{what}: {}", self.name)?)
        })
    }
}

impl Undrain {
    pub fn run(&self) -> Result<(), CliError> {
        reached(&self.reach, async |operator| {
            let path = format!("/nodes/{}/drain", segment(&self.name)?);
            done(operator, Method::DELETE, &path, &self.name).await?;
            Ok(writeln!(io::stdout(), "taking homes and clients again: {}", self.name)?)
        })
    }
}

impl Where {
    pub fn run(&self) -> Result<(), CliError> {
        // Before anybody is asked.
        let subject = Subject::parse(&self.kind, &self.id).map_err(CliError::Usage)?;
        reached(&self.flags.reach, async |operator| {
            let path = format!("/where/{}/{subject}", subject.kind());
            let place: Option<Place> = operator.ask(Method::GET, &path).await?;
            let place =
                place.ok_or_else(|| CliError::Failed("the server is of another version".to_owned()))?;
            if self.flags.json {
                line(&place, &mut io::stdout())
            } else {
                say_place(&place, &mut io::stdout())
            }
        })
    }
}

/// Does something with a running server.
fn reached(reach: &Reach, act: impl AsyncFnOnce(&Operator) -> Result<(), CliError>) -> Result<(), CliError> {
    let operator = Operator::server_of(&reach.settings.config()?, reach.node.as_deref())?;
    runtime()?.block_on(async { act(&operator).await })
}

/// A name as a part of a path; a node's name needs nothing to be escaped.
fn segment(name: &str) -> Result<&str, CliError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.chars().all(fits) { Ok(name) } else { Err(absent(name)) }
}

fn absent(name: &str) -> CliError {
    CliError::Failed(format!("there is no node {name:?}"))
}

async fn done(operator: &Operator, method: Method, path: &str, name: &str) -> Result<(), CliError> {
    let found: Option<()> = operator.ask(method, path).await?;
    found.ok_or_else(|| absent(name))
}

async fn node(operator: &Operator, name: &str) -> Result<NodeReport, CliError> {
    let found = operator.ask(Method::GET, &format!("/nodes/{}", segment(name)?)).await?;
    found.ok_or_else(|| absent(name))
}

/// Whether a node that is being drained has nothing left to give up.
async fn is_empty(operator: &Operator, name: &str) -> Result<bool, CliError> {
    let node = node(operator, name).await?;
    let own =
        node.own.ok_or_else(|| CliError::Failed(format!("the node {name} does not answer any more")))?;
    if !own.is_draining {
        return Err(CliError::Failed(format!(
            "the node {name} is drained no longer: somebody else wants it back"
        )));
    }
    Ok(node.homes == 0 && own.sockets == 0)
}

async fn list(operator: &Operator, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let list: Option<NodeList> = operator.ask(Method::GET, "/nodes").await?;
    let list = list.ok_or_else(|| CliError::Failed("the server is of another version".to_owned()))?;
    if json {
        return list.nodes.iter().try_for_each(|node| line(node, out));
    }
    say_nodes(&list, out)
}

async fn show(operator: &Operator, name: &str, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let node = node(operator, name).await?;
    if json { line(&node, out) } else { say_node(&node, out) }
}

fn line(value: &impl Serialize, out: &mut impl Write) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::Failed(error.to_string()))?;
    Ok(writeln!(out, "{text}")?)
}

fn say_nodes(list: &NodeList, out: &mut impl Write) -> Result<(), CliError> {
    let width = list.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:<width$}  STATE     HOMES  SOCKETS  LINK       HEARD  VERSION   ROLE      ADDRESS",
        "NAME"
    )?;
    for node in &list.nodes {
        let own = |part: fn(&OwnReport) -> String| node.own.as_ref().map_or_else(|| "-".to_owned(), part);
        let (sockets, version, role) =
            (own(|own| own.sockets.to_string()), own(|own| own.version.clone()), own(|own| own.role.clone()));
        let heard = node.link.as_ref().map_or_else(|| "-".to_owned(), |link| age(link.heard_seconds));
        writeln!(
            out,
            "{:<width$}  {:<8}  {:>5}  {sockets:>7}  {:<9}  {heard:>5}  {version:<8}  {role:<8}  {}",
            node.name,
            state(node.state),
            node.homes,
            link(node),
            node.address,
        )?;
    }
    let view = list.view.map_or_else(|| "none yet".to_owned(), |view| view.to_string());
    Ok(writeln!(out, "view: {view}")?)
}

fn say_node(node: &NodeReport, out: &mut impl Write) -> Result<(), CliError> {
    let mut say = |what: &str, value: &str| writeln!(out, "{:<12}{value}", format!("{what}:"));
    say("name", &node.name)?;
    say("boot", &node.boot)?;
    say("state", state(node.state))?;
    say("address", &node.address)?;
    say("homes", &node.homes.to_string())?;
    say("link", &link(node))?;
    if let Some(link) = &node.link {
        say("heard", &format!("{} ago", age(link.heard_seconds)))?;
        say("confirmed", &format!("view {}", link.confirmed))?;
        say("waiting", &format!("{} bytes for it", link.held_bytes))?;
    }
    let Some(own) = &node.own else {
        return Ok(say("itself", "does not answer")?);
    };
    say("version", &own.version)?;
    say("role", &own.role)?;
    say("view", &own.view.map_or_else(|| "none yet".to_owned(), |view| view.to_string()))?;
    say("draining", if own.is_draining { "by an operator" } else { "no" })?;
    say("may act", if own.may_act { "yes" } else { "no" })?;
    say("sockets", &own.sockets.to_string())?;
    Ok(say("redis", own.redis.as_deref().unwrap_or("ok"))?)
}

fn say_place(place: &Place, out: &mut impl Write) -> Result<(), CliError> {
    writeln!(out, "{} {}", place.kind, place.id)?;
    writeln!(out, "shard    {}", place.shard)?;
    writeln!(out, "home     {}", place.home.as_deref().unwrap_or("none: no node is up"))?;
    for count in &place.sockets {
        let sockets =
            count.sockets.map_or_else(|| "does not answer".to_owned(), |sockets| sockets.to_string());
        writeln!(out, "sockets  {}: {sockets}", count.node)?;
    }
    Ok(())
}

const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Out => "out",
    }
}

/// How its link is; this node has none to itself.
fn link(node: &NodeReport) -> String {
    match &node.link {
        None => "here".to_owned(),
        Some(link) => format!("{} {}", if link.is_up { "up" } else { "down" }, age(link.since_seconds)),
    }
}

fn age(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1}s"),
        ..120.0 => format!("{seconds:.0}s"),
        ..7_200.0 => format!("{:.0}m", seconds / 60.0),
        ..172_800.0 => format!("{:.0}h", seconds / 3_600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests;
