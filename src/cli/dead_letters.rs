//! `roost dead-letters`: events that were given up, to be read, sent again or forgotten.

use super::flag::LetterFlags;
use super::operator::Operator;
use super::{CliError, runtime};
use crate::http::admin::LetterList;
use crate::model::timestamp::Timestamp;
use crate::storage::DeadLetter;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use std::io::{self, Write};

pub(super) const EXAMPLE: &str = "Example:\n  roost dead-letters list\n  roost dead-letters show 7\n  \
     roost dead-letters redrive --all\n  roost dead-letters drop 7 8";

#[derive(Args)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
}

/// Where they are.
#[derive(Args)]
struct Reach {
    /// Ask the node whose cluster port is there, instead of the server or the data of the settings.
    #[arg(long, value_name = "HOST:PORT")]
    node: Option<String>,
    #[command(flatten)]
    settings: LetterFlags,
}

#[derive(Subcommand)]
enum Action {
    /// List them, oldest first.
    #[command(after_help = "Example:\n  roost dead-letters list --json | jq .event.type")]
    List {
        /// One JSON object a line, instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: Reach,
    },
    /// Print one whole, with its event.
    #[command(after_help = "Example:\n  roost dead-letters show 7")]
    Show {
        /// Its number.
        id: u64,
        #[command(flatten)]
        data: Reach,
    },
    /// Have them sent again, their tries counted anew.
    #[command(after_help = "Example:\n  roost dead-letters redrive 7 8\n  roost dead-letters redrive --all")]
    Redrive {
        /// Their numbers.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<u64>,
        /// All that there are now.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        data: Reach,
    },
    /// Forget them.
    #[command(after_help = "Example:\n  roost dead-letters drop 7 8")]
    Drop {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<u64>,
        #[command(flatten)]
        data: Reach,
    },
}

impl DeadLetters {
    pub fn run(&self) -> Result<(), CliError> {
        let (Action::List { data, .. }
        | Action::Show { data, .. }
        | Action::Redrive { data, .. }
        | Action::Drop { data, .. }) = &self.action;
        let config = data.settings.config()?;
        runtime()?.block_on(async {
            // Boxed: all that a driver holds would be a part of this future.
            let operator = match &data.node {
                Some(node) => Operator::node_at(&config, node)?,
                None => Box::pin(Operator::reach_by(&config)).await?,
            };
            self.act(operator, &mut io::stdout()).await
        })
    }

    pub(super) async fn act(&self, operator: Operator, out: &mut impl Write) -> Result<(), CliError> {
        let done = match &self.action {
            Action::List { json: true, .. } => list_lines(&operator, out).await,
            Action::List { json: false, .. } => list_table(&operator, out).await,
            Action::Show { id, .. } => show(&operator, *id, out).await,
            Action::Redrive { ids, all, .. } => {
                let ids = if *all { all_ids(&operator).await? } else { ids.clone() };
                each(&operator, &ids, Method::POST, "/redrive", "to be sent again", out).await
            }
            Action::Drop { ids, .. } => each(&operator, ids, Method::DELETE, "", "dropped", out).await,
        };
        operator.leave().await?;
        done
    }
}

/// Every dead letter, a page at a time: there may be more than should be in memory at once.
async fn walk(
    operator: &Operator,
    mut visit: impl FnMut(&DeadLetter) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    let mut path = "/dead-letters".to_owned();
    loop {
        let page: Option<LetterList> = operator.ask(Method::GET, &path).await?;
        let page = page.ok_or_else(|| CliError::Failed("the server knows of no dead letters".to_owned()))?;
        page.dead_letters.iter().try_for_each(&mut visit)?;
        match page.next {
            Some(next) => path = format!("/dead-letters?after={next}"),
            None => return Ok(page.total),
        }
    }
}

async fn list_lines(operator: &Operator, out: &mut impl Write) -> Result<(), CliError> {
    walk(operator, |letter| Ok(writeln!(out, "{}", whole(letter))?)).await?;
    Ok(())
}

async fn list_table(operator: &Operator, out: &mut impl Write) -> Result<(), CliError> {
    let now = Timestamp::now();
    let mut begun = false;
    walk(operator, |letter| {
        if !begun {
            writeln!(out, "{:>8}  {:<36}  {:>8}  {:>8}  ERROR", "ID", "TYPE", "AGE", "ATTEMPTS")?;
            begun = true;
        }
        let (kind, age) = (kind(letter), age(letter.buried_at, now));
        let error = one_line(&letter.error);
        Ok(writeln!(out, "{:>8}  {kind:<36}  {age:>8}  {:>8}  {error}", letter.id, letter.attempts)?)
    })
    .await?;
    if !begun {
        writeln!(out, "There are no dead letters.")?;
    }
    Ok(())
}

async fn show(operator: &Operator, id: u64, out: &mut impl Write) -> Result<(), CliError> {
    let letter: Option<DeadLetter> = operator.ask(Method::GET, &format!("/dead-letters/{id}")).await?;
    let letter = letter.ok_or_else(|| missing(&[id]))?;
    Ok(writeln!(out, "{:#}", whole(&letter))?)
}

async fn all_ids(operator: &Operator) -> Result<Vec<u64>, CliError> {
    let mut ids = Vec::new();
    walk(operator, |letter| {
        ids.push(letter.id);
        Ok(())
    })
    .await?;
    Ok(ids)
}

async fn each(
    operator: &Operator,
    ids: &[u64],
    method: Method,
    action: &str,
    done: &str,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let mut absent = Vec::new();
    for id in ids {
        let found: Option<Value> =
            operator.ask(method.clone(), &format!("/dead-letters/{id}{action}")).await?;
        if found.is_none() {
            absent.push(*id);
        }
    }
    writeln!(out, "{done}: {}", ids.len() - absent.len())?;
    if absent.is_empty() { Ok(()) } else { Err(missing(&absent)) }
}

fn missing(ids: &[u64]) -> CliError {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    CliError::Failed(format!("there is no dead letter {}", ids.join(", ")))
}

/// The letter with its event as JSON, not as a text that holds JSON.
fn whole(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "buried_at": letter.buried_at,
        "attempts": letter.attempts,
        "error": letter.error,
        "event": event(letter),
    })
}

fn event(letter: &DeadLetter) -> Value {
    serde_json::from_str(&letter.event).unwrap_or_else(|_| Value::String(letter.event.clone()))
}

fn kind(letter: &DeadLetter) -> String {
    event(letter)["type"].as_str().unwrap_or("-").trim_start_matches("com.mini-sns.").to_owned()
}

/// What a sink said, fit for a table: a line of at most 80 characters that moves no cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).take(80).collect()
}

fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = (now.millis() - then.millis()).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::{age, one_line};
    use crate::model::timestamp::Timestamp;

    #[test]
    fn an_age_has_one_unit() {
        let now = Timestamp::from_millis(1_000_000_000_000);
        for (seconds, shown) in [(-5, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400 * 3, "3d")] {
            assert_eq!(age(Timestamp::from_millis(now.millis() - seconds * 1000), now), shown);
        }
    }

    #[test]
    fn what_a_sink_said_moves_no_cursor() {
        assert_eq!(one_line("a\n\u{1b}[2Jb"), "a  [2Jb");
    }
}
