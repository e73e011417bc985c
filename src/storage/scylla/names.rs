//! Names and addresses: claimed before a user gets them, so that each is one user's.
//!
//! A claim is a reservation; whether it holds, the user's row says (`users`). Whoever takes over a claim that
//! may still be under way changes the claim first and then passes over its user's row, and whoever gives a user
//! a name reads the row first and then the claim: so of two, one fails.

use super::Inner;
use super::cql::{Decision, statements};
use super::tries::Tries;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::model::user::{Email, Username};
use crate::storage::StorageError;
use scylla::DeserializeRow;
use std::collections::HashSet;
use uuid::Uuid;

/// A claim that is no older may be under way.
const UNDER_WAY_MILLIS: i64 = 10_000;
/// Claimed: a registration or a change of name is under way.
const CLAIMED: i8 = 0;
/// Held: the user's row has it, or had it.
const HELD: i8 = 1;
/// Nobody's.
const FREE: i8 = 2;

statements! {
    /// What is asked of claims.
    Statements {
        email: Decide, "SELECT user, state, claimed_at, version FROM users_by_email WHERE email = ?";
        name: Decide, "SELECT user, state, claimed_at, version FROM users_by_username WHERE username = ?";
        set_email: Claim, "UPDATE users_by_email SET user = ?, state = ?, claimed_at = ?, version = ? WHERE email = ? IF version = ?";
        set_name: Claim, "UPDATE users_by_username SET user = ?, state = ?, claimed_at = ?, version = ? WHERE username = ? IF version = ?";
        show_email: Read, "SELECT user FROM users_by_email WHERE email = ?";
        show_name: Read, "SELECT user FROM users_by_username WHERE username = ?";
        names: Read, "SELECT username, state FROM users_by_username WHERE username IN ?";
    }
}

/// What can be claimed, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Email(String),
    Name(String),
}

/// A claim as it was read or made.
#[derive(Clone, Debug, DeserializeRow)]
pub(super) struct Reservation {
    user: Uuid,
    state: i8,
    claimed_at: i64,
    version: i64,
}

impl Key {
    pub(super) fn email(email: &Email) -> Self {
        Self::Email(email.key())
    }

    pub(super) fn name(name: &Username) -> Self {
        Self::Name(name.key())
    }

    fn text(&self) -> &str {
        match self {
            Self::Email(text) | Self::Name(text) => text,
        }
    }
}

impl Reservation {
    fn is_under_way(&self) -> bool {
        self.state == CLAIMED && Timestamp::now().millis() - self.claimed_at < UNDER_WAY_MILLIS
    }
}

impl Inner {
    /// Claims a name or an address for a user; none where it is somebody else's.
    pub(super) async fn claim(
        &self,
        key: &Key,
        user: UserId,
        tries: &mut Tries,
    ) -> Result<Option<Reservation>, StorageError> {
        // Most are new: that costs one round.
        let (decision, claim) = self.set_claim(key, None, user, CLAIMED).await?;
        if decision == Decision::Applied {
            return Ok(Some(claim));
        }
        let mut overtaken = Vec::new();
        loop {
            let seen = self.read_claim(key).await?;
            match &seen {
                Some(claim) if claim.user != user.0 && claim.state != FREE => {
                    let owner = UserId(claim.user);
                    if claim.is_under_way() || self.read_user(owner).await?.has(key) {
                        return Ok(None);
                    }
                    if claim.state == CLAIMED && !overtaken.contains(&owner) {
                        overtaken.push(owner);
                    }
                }
                // The user's own is claimed anew: another call may be about to free it.
                _ => {}
            }
            let (decision, claim) = self.set_claim(key, seen.as_ref(), user, CLAIMED).await?;
            if decision == Decision::Applied {
                return self.overtake(key, claim, &overtaken, tries).await;
            }
            tries.again().await?;
        }
    }

    /// Makes sure of a claim that others had; gives it back where one of them got what it claimed.
    async fn overtake(
        &self,
        key: &Key,
        claim: Reservation,
        overtaken: &[UserId],
        tries: &mut Tries,
    ) -> Result<Option<Reservation>, StorageError> {
        for owner in overtaken {
            if !self.pass_over(*owner, key, tries).await? {
                // Whether that is done or not: the user's row says whose it is.
                self.set_claim(key, Some(&claim), *owner, HELD).await?;
                return Ok(None);
            }
        }
        Ok(Some(claim))
    }

    /// A claim whose user has got what was claimed.
    pub(super) async fn hold(
        &self,
        key: &Key,
        user: UserId,
        claim: &Reservation,
    ) -> Result<(), StorageError> {
        match self.set_claim(key, Some(claim), user, HELD).await?.0 {
            Decision::Applied => Ok(()),
            Decision::Refused | Decision::Unknown => self.settle(key, user).await,
        }
    }

    /// Gives a claim up whose user will not get what was claimed. One that is not answered ends by its age.
    pub(super) async fn release(&self, key: &Key, user: UserId, claim: &Reservation) {
        let mut tries = Tries::begin();
        loop {
            match self.set_claim(key, Some(claim), user, FREE).await {
                Ok((Decision::Unknown, _)) if tries.again().await.is_ok() => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%user, %error, "a claim of {user} is left to its age: {error}");
                    return;
                }
            }
        }
    }

    /// Makes a claim say what the user's row says: held if the row has the key, and free if it has not and the
    /// claim is the user's.
    pub(super) async fn settle(&self, key: &Key, user: UserId) -> Result<(), StorageError> {
        let mut tries = Tries::begin();
        let mut is_passed = true;
        loop {
            let seen = self.read_claim(key).await?;
            let has = self.read_user(user).await?.has(key);
            let state = match &seen {
                Some(claim) if has && claim.user == user.0 && claim.state == HELD => return Ok(()),
                _ if has => HELD,
                Some(claim) if claim.user == user.0 && claim.state != FREE => {
                    is_passed &= claim.state != CLAIMED;
                    FREE
                }
                _ if is_passed => return Ok(()),
                _ => {
                    // Freed, though it may have been under way.
                    is_passed = self.pass_over(user, key, &mut tries).await?;
                    if is_passed {
                        return Ok(());
                    }
                    HELD
                }
            };
            match self.set_claim(key, seen.as_ref(), user, state).await?.0 {
                Decision::Applied if state == HELD || is_passed => return Ok(()),
                Decision::Applied => {}
                Decision::Refused | Decision::Unknown => tries.again().await?,
            }
        }
    }

    /// Who has that name or address, to be shown.
    pub(super) async fn owner(&self, key: &Key) -> Result<Option<UserId>, StorageError> {
        let statements = &self.names;
        let statement = match key {
            Key::Email(_) => &statements.show_email,
            Key::Name(_) => &statements.show_name,
        };
        let row: Option<(Uuid,)> = self.cql.first(statement, (key.text(),)).await?;
        Ok(row.map(|(user,)| UserId(user)))
    }

    /// Which of those keys of names seem to be taken.
    pub(super) async fn names_taken(&self, keys: Vec<String>) -> Result<HashSet<String>, StorageError> {
        let rows: Vec<(String, i8)> = self.cql.rows(&self.names.names, (keys,)).await?;
        Ok(rows.into_iter().filter(|(_, state)| *state != FREE).map(|(name, _)| name).collect())
    }

    async fn read_claim(&self, key: &Key) -> Result<Option<Reservation>, StorageError> {
        let statement = match key {
            Key::Email(_) => &self.names.email,
            Key::Name(_) => &self.names.name,
        };
        self.cql.first(statement, (key.text(),)).await
    }

    /// Changes a claim that is as it was seen.
    async fn set_claim(
        &self,
        key: &Key,
        seen: Option<&Reservation>,
        user: UserId,
        state: i8,
    ) -> Result<(Decision, Reservation), StorageError> {
        let version = seen.map(|claim| claim.version);
        let next = Reservation {
            user: user.0,
            state,
            claimed_at: Timestamp::now().millis(),
            version: version.unwrap_or(0) + 1,
        };
        let statement = match key {
            Key::Email(_) => &self.names.set_email,
            Key::Name(_) => &self.names.set_name,
        };
        let values = (next.user, next.state, next.claimed_at, next.version, key.text(), version);
        Ok((self.cql.decide(statement, values).await?, next))
    }
}
