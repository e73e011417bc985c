//! A user's row in `users`: whether the user is there, and which name and address are its own.
//!
//! The row decides: a claim of a name or an address (`names`) holds only if its user's row has it. It is
//! changed by lightweight transactions on its version. A version alone, with no name, keeps a registration
//! that was overtaken from being made later.

use super::Inner;
use super::cql::{Cql, Decision, statements};
use super::names::Key;
use super::stamp::{self, column, from_column};
use super::tries::Tries;
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::model::user::{User, Username};
use crate::storage::StorageError;
use scylla::DeserializeRow;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

statements! {
    /// What is asked of users.
    Statements {
        show: Read, "SELECT email, username, password_hash, created_at, updated_at, version, job FROM users WHERE id = ?";
        read: Decide, "SELECT email, username, password_hash, created_at, updated_at, version, job FROM users WHERE id = ?";
        make: Claim, "INSERT INTO users (id, email, username, password_hash, created_at, version, job) VALUES (?, ?, ?, ?, ?, 1, ?) IF NOT EXISTS";
        rename: Claim, "UPDATE users SET username = ?, updated_at = ?, version = ?, job = ? WHERE id = ? IF version = ?";
        job: Read, "SELECT body, done FROM jobs WHERE shard = ? AND minute = ? AND seq = ?";
        pass: Claim, "UPDATE users SET version = ? WHERE id = ? IF version = ?";
    }
}

/// The users' rows.
pub(super) struct Users {
    statements: Statements,
    /// Changes by their jobs that may have been made and whose events are not queued.
    untold: Mutex<HashSet<Seq>>,
}

/// A row; that of nobody has neither a name nor a version.
#[derive(Clone, Debug, Default, DeserializeRow)]
pub(super) struct UserRow {
    pub(super) email: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_hash: Option<String>,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    version: Option<i64>,
    job: Option<i64>,
}

/// A row to be made, of a user without a row.
pub(super) struct NewRow {
    pub(super) id: UserId,
    pub(super) email: Option<String>,
    pub(super) username: String,
    pub(super) password_hash: Option<String>,
    pub(super) created_at: Timestamp,
}

impl Users {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, untold: Mutex::default() })
    }

    /// Nothing of that job is left to be told.
    pub(super) fn is_told(&self, job: Seq) {
        self.untold().remove(&job);
    }

    fn untold(&self) -> MutexGuard<'_, HashSet<Seq>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserRow {
    /// The user, if there is one.
    pub(super) fn user(&self, id: UserId) -> Option<User> {
        Some(User {
            id,
            username: self.username.clone()?,
            email: self.email.clone(),
            created_at: Timestamp::from_millis(self.created_at.unwrap_or_default()),
            updated_at: self.updated_at.map(Timestamp::from_millis),
        })
    }

    /// Whether that name or address is this user's own.
    pub(super) fn has(&self, key: &Key) -> bool {
        match key {
            Key::Email(key) => self.email.as_ref().is_some_and(|email| email.to_lowercase() == *key),
            Key::Name(key) => self.name_key().as_ref() == Some(key),
        }
    }

    /// What its name is claimed by.
    pub(super) fn name_key(&self) -> Option<String> {
        self.username.as_ref().map(|name| name.to_ascii_lowercase())
    }

    /// Whether the row is there only to keep a registration from being made.
    pub(super) const fn is_void(&self) -> bool {
        self.version.is_some() && self.username.is_none()
    }

    /// What it is after a change of name.
    pub(super) fn rename(&mut self, name: &Username, now: Timestamp, job: Seq) {
        self.username = Some(name.as_str().to_owned());
        self.updated_at = Some(now.millis());
        self.version = Some(self.version.unwrap_or(0) + 1);
        self.job = Some(column(job));
    }

    /// Whether that job made it what it is.
    pub(super) fn is_made_by(&self, job: Seq) -> bool {
        self.job == Some(column(job))
    }
}

impl Inner {
    /// A user's row, to be shown.
    pub(super) async fn show_user(&self, id: UserId) -> Result<UserRow, StorageError> {
        Ok(self.cql.first(&self.users.statements.show, (id.0,)).await?.unwrap_or_default())
    }

    /// A user's row, to decide by.
    pub(super) async fn read_user(&self, id: UserId) -> Result<UserRow, StorageError> {
        Ok(self.cql.first(&self.users.statements.read, (id.0,)).await?.unwrap_or_default())
    }

    /// Makes a user's row, if it has none; answers the row that there is now, which another job may have made
    /// and which may be void.
    pub(super) async fn make_user(
        &self,
        new: &NewRow,
        job: Seq,
        tries: &mut Tries,
    ) -> Result<UserRow, StorageError> {
        self.users.untold().insert(job);
        loop {
            let values = (
                new.id.0,
                &new.email,
                &new.username,
                &new.password_hash,
                new.created_at.millis(),
                column(job),
            );
            let decision = self.cql.decide(&self.users.statements.make, values).await?;
            if decision == Decision::Applied {
                return Ok(UserRow {
                    email: new.email.clone(),
                    username: Some(new.username.clone()),
                    password_hash: new.password_hash.clone(),
                    created_at: Some(new.created_at.millis()),
                    updated_at: None,
                    version: Some(1),
                    job: Some(column(job)),
                });
            }
            let row = self.read_user(new.id).await?;
            if row.version.is_some() {
                if !row.is_made_by(job) {
                    self.users.is_told(job);
                }
                return Ok(row);
            }
            tries.again().await?;
        }
    }

    /// Gives the user of `row` another name, if the row is as it was read. The row's own change is told first:
    /// what is not told by then never would be.
    pub(super) async fn rename_user(
        &self,
        id: UserId,
        row: &UserRow,
        name: &Username,
        now: Timestamp,
        job: Seq,
    ) -> Result<Decision, StorageError> {
        if let Some(former) = row.job.map(from_column)
            && former != job
            && (self.users.untold().contains(&former) || self.may_be_untold_elsewhere(former).await?)
        {
            self.tell_user(id, row, former).await?;
        }
        self.users.untold().insert(job);
        let version = row.version.unwrap_or(0) + 1;
        let values = (name.as_str(), now.millis(), version, column(job), id.0, row.version);
        self.cql.decide(&self.users.statements.rename, values).await
    }

    /// Whether another node may be at that job: it is not marked as done.
    async fn may_be_untold_elsewhere(&self, job: Seq) -> Result<bool, StorageError> {
        if !self.has_others() {
            return Ok(false);
        }
        let at = (stamp::shard(job), stamp::minute(job), column(job));
        let row: Option<(Option<String>, Option<bool>)> =
            self.cql.first(&self.users.statements.job, at).await?;
        Ok(matches!(row, Some((Some(_), None | Some(false)))))
    }

    /// Sees to it that a job that did not make the row what it is never will: whoever is still at it finds another
    /// version. Answers the row.
    pub(super) async fn keep_from(&self, id: UserId, job: Seq) -> Result<UserRow, StorageError> {
        let mut tries = Tries::begin();
        loop {
            let mut row = self.read_user(id).await?;
            if row.is_made_by(job) || !self.has_others() {
                return Ok(row);
            }
            let next = row.version.unwrap_or(0) + 1;
            let values = (next, id.0, row.version);
            if self.cql.decide(&self.users.statements.pass, values).await? == Decision::Applied {
                row.version = Some(next);
                return Ok(row);
            }
            tries.again().await?;
        }
    }

    /// Queues the event of the change that made the row what it is, if that was `job`'s.
    pub(super) async fn tell_user(&self, id: UserId, row: &UserRow, job: Seq) -> Result<(), StorageError> {
        if let Some(user) = row.user(id).filter(|_| row.is_made_by(job)) {
            match user.updated_at {
                Some(at) => self.publish(job, &Change::ProfileUpdated(&user), at).await?,
                None => self.publish(job, &Change::UserRegistered(&user), user.created_at).await?,
            }
        }
        self.users.is_told(job);
        Ok(())
    }

    /// Sees to it that whoever claimed `key` for the user and no longer has the claim cannot give it to the user;
    /// answers whether that is so, or (`false`) the user has it by now. The claim was changed before.
    pub(super) async fn pass_over(
        &self,
        id: UserId,
        key: &Key,
        tries: &mut Tries,
    ) -> Result<bool, StorageError> {
        let mut seen = None;
        loop {
            let row = self.read_user(id).await?;
            if row.has(key) {
                return Ok(false);
            }
            // Whoever changes the row by the version that it had before fails now.
            if *seen.get_or_insert(row.version) != row.version {
                return Ok(true);
            }
            let values = (row.version.unwrap_or(0) + 1, id.0, row.version);
            if self.cql.decide(&self.users.statements.pass, values).await? == Decision::Applied {
                return Ok(true);
            }
            tries.again().await?;
        }
    }
}
