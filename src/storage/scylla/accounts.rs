//! Users: made, found, renamed; `impl Accounts`. What makes names unique: see `names`; whether a user is there:
//! `users`; users of outside issuers: `outside`; logins: `logins`.

use super::cql::{Decision, statements};
use super::jobs::Job;
use super::names::{Key, Reservation};
use super::tries::Tries;
use super::turns::until_done;
use super::users::{NewRow, UserRow};
use super::{Inner, Store};
use crate::model::cursor::Seq;
use crate::model::id::{LoginId, UserId};
use crate::model::timestamp::Timestamp;
use crate::model::user::{Email, Profile, User, Username};
use crate::storage::{
    Accounts, NewRefresh, NewUser, Pending, Refresh, Registration, Renaming, StorageError, TokenHash,
};
use futures_util::future::try_join_all;
use std::collections::HashMap;
use std::sync::Arc;

statements! {
    /// What a profile shows beside the user.
    Statements {
        posts: Read, "SELECT posts FROM authors WHERE id = ?";
        followers: Read, "SELECT followers FROM follow_counts WHERE user = ?";
        following: Read, "SELECT total FROM following WHERE follower = ? LIMIT 1";
        is_following: Read, "SELECT state FROM following WHERE follower = ? AND followee = ?";
    }
}

impl Accounts for Store {
    fn register(&self, new: NewUser) -> Pending<Registration> {
        self.change(|inner| async move { inner.register(new).await })
    }

    fn credentials(&self, email: Email) -> Pending<Option<(User, Option<String>)>> {
        self.read(|inner| async move {
            let found = inner.found(&Key::email(&email)).await?;
            Ok(found.and_then(|(id, row)| Some((row.user(id)?, row.password_hash))))
        })
    }

    fn user(&self, id: UserId) -> Pending<Option<User>> {
        self.read(move |inner| async move { Ok(inner.show_user(id).await?.user(id)) })
    }

    fn profile(&self, id: UserId, viewer: UserId) -> Pending<Option<Profile>> {
        self.read(
            move |inner| async move { Ok(inner.profile(id, viewer).await?.map(|(profile, _)| profile)) },
        )
    }

    fn profile_by_name(&self, name: String, viewer: UserId) -> Pending<Option<Profile>> {
        self.read(move |inner| async move {
            let key = Key::Name(name.to_ascii_lowercase());
            let Some(id) = inner.owner(&key).await? else { return Ok(None) };
            let found = inner.profile(id, viewer).await?;
            Ok(found.filter(|(_, row)| row.has(&key)).map(|(profile, _)| profile))
        })
    }

    fn rename(&self, id: UserId, name: Username, now: Timestamp) -> Pending<Renaming> {
        self.change(move |inner| async move { inner.rename(id, &name, now).await })
    }

    fn outside_user(&self, issuer: String, subject: String, new: NewUser) -> Pending<User> {
        self.change(|inner| async move { inner.outside_user(&issuer, &subject, &new).await })
    }

    fn open_login(&self, login: LoginId, user: UserId, first: NewRefresh, now: Timestamp) -> Pending<()> {
        self.change(move |inner| async move { inner.open_login(login, user, first, now).await })
    }

    fn refresh(&self, spend: TokenHash, next: NewRefresh, now: Timestamp) -> Pending<Refresh> {
        self.change(move |inner| async move { inner.refresh(spend, next, now).await })
    }

    fn revoke_login(&self, login: LoginId, expires_at: Timestamp) -> Pending<()> {
        self.change(move |inner| async move { inner.revoke_login(login, expires_at).await })
    }

    fn login_alive(&self, login: LoginId, now: Timestamp) -> Pending<bool> {
        self.read(move |inner| async move { inner.login_alive(login, now).await })
    }

    fn revoked_logins(&self, now: Timestamp) -> Pending<Vec<LoginId>> {
        self.read(move |inner| async move { inner.revoked_logins(now).await })
    }
}

impl Inner {
    async fn register(self: &Arc<Self>, new: NewUser) -> Result<Registration, StorageError> {
        let (id, email, username) = (new.id, new.email.as_ref().map(Email::key), new.username.key());
        let job = Job::Register { user: id, email, username };
        let seq = self.begin_job(id, &job).await?;
        let outcome = self.registered(seq, new).await;
        self.end_or_redo(seq, job, outcome)
    }

    async fn registered(&self, seq: Seq, new: NewUser) -> Result<Registration, StorageError> {
        let email = new.email.as_ref().map(Key::email);
        let name = Key::name(&new.username);
        let mut tries = Tries::begin();
        let mut claims = Vec::new();
        if let Some(key) = &email {
            let Some(claim) = self.claim(key, new.id, &mut tries).await? else {
                return Ok(Registration::EmailTaken);
            };
            claims.push((key, claim));
        }
        let Some(claim) = self.claim(&name, new.id, &mut tries).await? else {
            for (key, claim) in &claims {
                self.release(key, new.id, claim).await;
            }
            return Ok(Registration::UsernameTaken);
        };
        claims.push((&name, claim));

        let made = NewRow {
            id: new.id,
            email: new.email.as_ref().map(|email| email.as_str().to_owned()),
            username: new.username.as_str().to_owned(),
            password_hash: new.password_hash,
            created_at: new.created_at,
        };
        let row = self.make_user(&made, seq, &mut tries).await?;
        let held = claims.iter().map(|(key, claim)| self.hold_or_release(key, new.id, &row, claim));
        tokio::try_join!(try_join_all(held), self.tell_user(new.id, &row, seq))?;
        let overtaken =
            || StorageError::Unavailable("a registration took so long that another came".to_owned());
        row.user(new.id).map(Registration::Made).ok_or_else(overtaken)
    }

    /// Once a user's row is what it is: a claim that the row has is held, another is given up.
    pub(super) async fn hold_or_release(
        &self,
        key: &Key,
        user: UserId,
        row: &UserRow,
        claim: &Reservation,
    ) -> Result<(), StorageError> {
        if row.has(key) {
            return self.hold(key, user, claim).await;
        }
        self.release(key, user, claim).await;
        Ok(())
    }

    /// Ends the job of a change that came to its end; one that did not is done again as soon as the store answers.
    pub(super) fn end_or_redo<T>(
        self: &Arc<Self>,
        seq: Seq,
        job: Job,
        outcome: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match &outcome {
            Ok(_) => {
                self.users.is_told(seq);
                self.end_job(seq);
            }
            Err(StorageError::Refused(_)) => {}
            Err(StorageError::Unavailable(_)) => {
                let inner = self.clone();
                tokio::spawn(async move {
                    let redone = until_done("an account's change", || inner.redo(seq, job.clone())).await;
                    if let Err(error) = redone {
                        tracing::error!(%error, "an account's change cannot be finished: {error}");
                    }
                });
            }
        }
        outcome
    }

    /// Finishes a registration that a former run left: a user that is there is told and holds its name and
    /// address; of one that is not, both are free.
    pub(super) async fn redo_register(self: &Arc<Self>, seq: Seq, job: &Job) -> Result<(), StorageError> {
        let Job::Register { user, email, username } = job else { return Ok(()) };
        let row = self.keep_from(*user, seq).await?;
        self.tell_user(*user, &row, seq).await?;
        if let Some(email) = email {
            self.settle(&Key::Email(email.clone()), *user).await?;
        }
        self.settle(&Key::Name(username.clone()), *user).await
    }

    async fn rename(
        self: &Arc<Self>,
        id: UserId,
        name: &Username,
        now: Timestamp,
    ) -> Result<Renaming, StorageError> {
        let row = self.read_user(id).await?;
        let Some(from) = row.name_key() else { return Ok(Renaming::Missing) };
        let job = Job::Rename { user: id, from, to: name.key() };
        let seq = self.begin_job(id, &job).await?;
        let outcome = self.renamed(seq, id, row, name, now).await;
        self.end_or_redo(seq, job, outcome)
    }

    async fn renamed(
        &self,
        seq: Seq,
        id: UserId,
        mut row: UserRow,
        name: &Username,
        now: Timestamp,
    ) -> Result<Renaming, StorageError> {
        let key = Key::name(name);
        let mut tries = Tries::begin();
        let (mut former, mut claim) = (None, None);
        while !row.is_made_by(seq) {
            // The row first, then the claim: see `names`.
            if !row.has(&key) {
                claim = self.claim(&key, id, &mut tries).await?;
                if claim.is_none() {
                    return Ok(Renaming::Taken);
                }
            }
            former = row.name_key().map(Key::Name).filter(|former| *former != key);
            if self.rename_user(id, &row, name, now, seq).await? == Decision::Applied {
                row.rename(name, now, seq);
                break;
            }
            tries.again().await?;
            row = self.read_user(id).await?;
        }
        let hold = async {
            match &claim {
                Some(claim) => self.hold(&key, id, claim).await,
                None => Ok(()),
            }
        };
        let free = async {
            match &former {
                Some(former) => self.settle(former, id).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(self.tell_user(id, &row, seq), hold, free)?;
        Ok(row.user(id).map_or(Renaming::Missing, Renaming::Done))
    }

    /// Finishes a change of name that a former run left, if it was made.
    pub(super) async fn redo_rename(self: &Arc<Self>, seq: Seq, job: &Job) -> Result<(), StorageError> {
        let Job::Rename { user, from, to } = job else { return Ok(()) };
        let row = self.keep_from(*user, seq).await?;
        self.tell_user(*user, &row, seq).await?;
        self.settle(&Key::Name(to.clone()), *user).await?;
        self.settle(&Key::Name(from.clone()), *user).await
    }

    /// The user who has that name or address.
    async fn found(&self, key: &Key) -> Result<Option<(UserId, UserRow)>, StorageError> {
        let Some(id) = self.owner(key).await? else { return Ok(None) };
        let row = self.show_user(id).await?;
        Ok(row.has(key).then_some((id, row)))
    }

    /// A user as `viewer` sees it, and its row.
    async fn profile(&self, id: UserId, viewer: UserId) -> Result<Option<(Profile, UserRow)>, StorageError> {
        let Statements { posts, followers, following, is_following } = &self.accounts;
        let (row, posts, followers, following, is_following) = tokio::try_join!(
            self.show_user(id),
            self.cql.first::<(Option<i64>,)>(posts, (id.0,)),
            self.cql.first::<(Option<HashMap<i32, i64>>,)>(followers, (id.0,)),
            self.cql.first::<(Option<i64>,)>(following, (id.0,)),
            self.cql.first::<(Option<i8>,)>(is_following, (viewer.0, id.0)),
        )?;
        let Some(user) = row.user(id) else { return Ok(None) };
        let count = |count: Option<(Option<i64>,)>| {
            u64::try_from(count.and_then(|(count,)| count).unwrap_or(0)).unwrap_or(0)
        };
        let followers = followers.and_then(|(shards,)| shards).map_or(0, |shards| shards.values().sum());
        let profile = Profile {
            user,
            posts: count(posts),
            followers: u64::try_from(followers).unwrap_or(0),
            following: count(following),
            is_following: is_following == Some((Some(1),)),
        };
        Ok(Some((profile, row)))
    }
}
