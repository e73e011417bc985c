//! Users of outside issuers: made at first use, of whoever comes first, with a name that is free.
//!
//! The claim of issuer and subject names the user's id; whoever finds it without the user makes the user, so
//! nothing that ends in between is in the way.

use super::Inner;
use super::cql::{Decision, statements};
use super::jobs::Job;
use super::names::{Key, Reservation};
use super::tries::Tries;
use super::users::NewRow;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::user::{User, Username};
use crate::storage::{NewUser, StorageError};
use std::sync::Arc;
use uuid::Uuid;

/// A name's greatest length, as [`Username::parse`] has it.
const NAME_LENGTH: usize = 50;
/// Numbers that are looked up at once.
const NUMBERS: u32 = 8;

statements! {
    /// What is asked of issuers' subjects.
    Statements {
        show: Read, "SELECT user FROM outside_users WHERE issuer = ? AND subject = ?";
        read: Decide, "SELECT user, version FROM outside_users WHERE issuer = ? AND subject = ?";
        set: Claim, "UPDATE outside_users SET user = ?, version = ? WHERE issuer = ? AND subject = ? IF version = ?";
    }
}

impl Inner {
    /// The user of an issuer's subject, made from `new` at first use.
    pub(super) async fn outside_user(
        self: &Arc<Self>,
        issuer: &str,
        subject: &str,
        new: &NewUser,
    ) -> Result<User, StorageError> {
        let shown: Option<(Uuid,)> = self.cql.first(&self.outside.show, (issuer, subject)).await?;
        if let Some((id,)) = shown {
            let id = UserId(id);
            if let Some(user) = self.show_user(id).await?.user(id) {
                return Ok(user);
            }
        }
        let mut tries = Tries::begin();
        let mut free_id = new.id;
        loop {
            let seen: Option<(Uuid, i64)> = self.cql.first(&self.outside.read, (issuer, subject)).await?;
            if let Some((id, _)) = seen {
                let id = UserId(id);
                let row = self.read_user(id).await?;
                if let Some(user) = row.user(id) {
                    return Ok(user);
                }
                if !row.is_void() {
                    if let Some(user) = self.make_outside_user(id, new, &mut tries).await? {
                        return Ok(user);
                    }
                    continue;
                }
                // It was overtaken and can never be made: another id takes its place.
                if id == free_id {
                    free_id = UserId::make();
                }
            }
            let version = seen.map(|(_, version)| version);
            let values = (free_id.0, version.unwrap_or(0) + 1, issuer, subject, version);
            if self.cql.decide(&self.outside.set, values).await? != Decision::Applied {
                tries.again().await?;
            }
        }
    }

    /// Makes the user of a claim, unless another has by now; none where it can no longer be made.
    async fn make_outside_user(
        self: &Arc<Self>,
        id: UserId,
        new: &NewUser,
        tries: &mut Tries,
    ) -> Result<Option<User>, StorageError> {
        let job = Job::Register { user: id, email: None, username: new.username.key() };
        let seq = self.begin_job(id, &job).await?;
        let outcome = self.made_outside_user(seq, id, new, tries).await;
        self.end_or_redo(seq, job, outcome)
    }

    async fn made_outside_user(
        &self,
        seq: Seq,
        id: UserId,
        new: &NewUser,
        tries: &mut Tries,
    ) -> Result<Option<User>, StorageError> {
        let (name, claim) = self.claim_free_name(&new.username, id, tries).await?;
        let made = NewRow {
            id,
            email: None,
            username: name.as_str().to_owned(),
            password_hash: None,
            created_at: new.created_at,
        };
        let row = self.make_user(&made, seq, tries).await?;
        let key = Key::name(&name);
        tokio::try_join!(self.hold_or_release(&key, id, &row, &claim), self.tell_user(id, &row, seq))?;
        Ok(row.user(id))
    }

    /// Claims the name, or the name with a hyphen and a number that is free: of the first few one after the
    /// other, then by chance among more and more, so that the thousandth `anna` costs no more than the tenth.
    async fn claim_free_name(
        &self,
        wanted: &Username,
        user: UserId,
        tries: &mut Tries,
    ) -> Result<(Username, Reservation), StorageError> {
        if let Some(claim) = self.claim(&Key::name(wanted), user, tries).await? {
            return Ok((wanted.clone(), claim));
        }
        let mut round = 0;
        loop {
            let names = (0..NUMBERS)
                .map(|place| numbered(wanted, number(round, place)))
                .collect::<Result<Vec<_>, _>>()?;
            let taken = self.names_taken(names.iter().map(Username::key).collect()).await?;
            for name in names.into_iter().filter(|name| !taken.contains(&name.key())) {
                if let Some(claim) = self.claim(&Key::name(&name), user, tries).await? {
                    return Ok((name, claim));
                }
            }
            round += 1;
        }
    }
}

/// A number to be tried: 2 to 9 first, then ten times as many numbers in every round.
fn number(round: u32, place: u32) -> u64 {
    match round {
        0 => u64::from(place + 2),
        _ => Uuid::new_v4().as_u64_pair().0 % 10_u64.pow((round + 1).min(18)),
    }
}

fn numbered(wanted: &Username, number: u64) -> Result<Username, StorageError> {
    let suffix = format!("-{number}");
    let mut name = wanted.as_str().to_owned();
    name.truncate(NAME_LENGTH - suffix.len());
    Username::parse(&(name + &suffix))
        .map_err(|error| StorageError::Refused(format!("a name made of another: {error}")))
}
