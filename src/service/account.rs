//! Accounts: registering, logging in and out, who a token stands for, profiles and names.
//!
//! A login is ended in three places, in this order: the store's row, which survives; the news in
//! [`Revocations`], which every request looks at; and its open sockets. Once begun that goes on to its
//! end, though the one who asked has left.
//!
//! E-mails and passwords go into the store or the hasher and nowhere else. Whether an e-mail is known
//! cannot be told from a failed login: the words and the work are the same.

use super::{FieldError, NO_USER, ServiceError, to_the_end};
use crate::identity::tokens::{REFRESH_AGE, RefreshToken, Verified};
use crate::identity::{Identity, IdentityError};
use crate::model::id::{LoginId, UserId};
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use crate::model::user::{Caller, Email, NewPassword, Profile, User, Username};
use crate::storage::volatile::{Revocations, TimelineCache};
use crate::storage::{Accounts, NewRefresh, NewUser, Refresh, Registration, Renaming};
use moka::sync::Cache;
use serde_json::Value;
use std::sync::Arc;

/// Outside subjects whose users are remembered; others are looked up.
const OUTSIDE_USERS: u64 = 100_000;

const WRONG_CREDENTIALS: &str = "the e-mail or the password is wrong";
const REFRESH_REFUSED: &str = "the refresh token is not valid";
const LOGIN_ENDED: &str = "the session was ended; log in again";

/// The open sockets and streams, as far as a login's end is their end too.
pub trait LiveLogins: Send + Sync {
    /// Closes whatever is open by that login, with 4401.
    fn end_login(&self, login: LoginId);
}

/// What accounts stand on.
pub struct AccountParts {
    /// Passwords and tokens.
    pub identity: Identity,
    /// Users and logins.
    pub store: Arc<dyn Accounts>,
    /// Which logins were ended.
    pub revocations: Arc<dyn Revocations>,
    /// Pages that show names.
    pub timelines: Arc<dyn TimelineCache>,
    /// Open sockets.
    pub live: Arc<dyn LiveLogins>,
}

/// Everything that is done with accounts.
pub struct Account {
    parts: Arc<AccountParts>,
    outside_users: Cache<(String, String), UserId>,
}

/// What a login gives its client.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token, for `Authorization: Bearer`.
    pub access: Secret,
    /// The refresh token, to be spent once.
    pub refresh: Secret,
    /// The token of the cookie.
    pub cookie: Secret,
    /// Until when the refresh token can be spent and the cookie is kept.
    pub refresh_expires_at: Timestamp,
}

impl Account {
    /// Accounts on those parts.
    #[must_use]
    pub fn new(parts: AccountParts) -> Self {
        Self { parts: Arc::new(parts), outside_users: Cache::new(OUTSIDE_USERS) }
    }

    /// Learns from the store which logins were ended where this process could not hear of it: before it
    /// began, to be awaited before the first request is taken, or while other nodes could not reach it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn recall_ended_logins(&self) -> Result<(), ServiceError> {
        let now = Timestamp::now();
        for login in self.parts.store.revoked_logins(now).await? {
            if self.parts.revocations.learn(login, self.parts.last_expiry(now)) {
                self.parts.live.end_login(login);
            }
        }
        Ok(())
    }

    /// Makes a user and logs it in.
    ///
    /// # Errors
    /// `Invalid` with every field that breaks its rule; `Conflict` with `email_taken` or
    /// `username_taken`; `Unavailable` where too many passwords wait.
    pub async fn register(
        &self,
        email: &str,
        username: &str,
        password: &Secret,
    ) -> Result<(User, Tokens), ServiceError> {
        let (email, username, password) = parse_registration(email, username, password)?;
        let password_hash = self.parts.identity.passwords.hash(&password).await?;
        let now = Timestamp::now();
        let new = NewUser {
            id: UserId::make(),
            email: Some(email),
            username,
            password_hash: Some(password_hash),
            created_at: now,
        };
        match self.parts.store.register(new).await? {
            Registration::Made(user) => {
                let tokens = self.parts.open_login(user.id, now).await?;
                Ok((user, tokens))
            }
            Registration::EmailTaken => Err(ServiceError::Conflict {
                code: "email_taken",
                detail: "this e-mail is registered already",
            }),
            Registration::UsernameTaken => Err(username_taken()),
        }
    }

    /// Begins a login.
    ///
    /// # Errors
    /// `Unauthorized`, in the same words for an unknown e-mail and a wrong password; `Unavailable` where
    /// too many passwords wait.
    pub async fn login(&self, email: &str, password: &Secret) -> Result<(User, Tokens), ServiceError> {
        let found = match Email::parse(email) {
            Ok(email) => self.parts.store.credentials(email).await?,
            Err(_) => None,
        };
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
        let right = self.parts.identity.passwords.verify(password, hash).await?;
        let user = user.filter(|_| right).ok_or(ServiceError::Unauthorized(WRONG_CREDENTIALS))?;
        let tokens = self.parts.open_login(user.id, Timestamp::now()).await?;
        Ok((user, tokens))
    }

    /// Spends a refresh token for new tokens. A spent one used again ends its login.
    ///
    /// # Errors
    /// `Unauthorized` for one that is spent, unknown or expired, or whose login was ended.
    pub async fn refresh(&self, refresh_token: &Secret) -> Result<Tokens, ServiceError> {
        let spend = RefreshToken::hash(refresh_token);
        let parts = Arc::clone(&self.parts);
        to_the_end(async move {
            let now = Timestamp::now();
            let (text, next) = new_refresh(now)?;
            match parts.store.refresh(spend, next, now).await? {
                Refresh::Rotated { login, user } => parts.tokens(user, login, text, now),
                Refresh::Reused { login } => {
                    tracing::warn!(%login, "a spent refresh token was used again: its login is ended");
                    parts.forget_login(login, parts.last_expiry(now)).await;
                    Err(ServiceError::Unauthorized(REFRESH_REFUSED))
                }
                Refresh::Refused => Err(ServiceError::Unauthorized(REFRESH_REFUSED)),
            }
        })
        .await
    }

    /// Ends the caller's login: its tokens stop working and its sockets close.
    ///
    /// # Errors
    /// Those of the store; then nothing was ended.
    pub async fn logout(&self, caller: &Caller) -> Result<(), ServiceError> {
        let parts = Arc::clone(&self.parts);
        let login = caller.login;
        // An outside issuer's token may outlive all of ours.
        let expires_at = caller.expires_at.max(parts.last_expiry(Timestamp::now()));
        to_the_end(async move {
            parts.store.revoke_login(login, expires_at).await?;
            parts.forget_login(login, expires_at).await;
            Ok(())
        })
        .await
    }

    /// Who an access token stands for: one of ours, or an outside issuer's, whose user is made at first
    /// use.
    ///
    /// # Errors
    /// `Unauthorized`; `Unavailable` where an outside issuer's keys, or the store, cannot be asked.
    pub async fn authenticate(&self, bearer: &Secret) -> Result<Caller, ServiceError> {
        let now = Timestamp::now();
        let caller = if self.parts.identity.mint.claims(bearer) {
            caller(self.parts.identity.mint.verify_access(bearer, now)?)
        } else {
            self.authenticate_outside(bearer, now).await?
        };
        if self.parts.revocations.is_revoked(caller.login) {
            return Err(ServiceError::Unauthorized(LOGIN_ENDED));
        }
        Ok(caller)
    }

    /// Who a cookie's token stands for. As it lives for weeks, the store is asked about its login too.
    ///
    /// # Errors
    /// `Unauthorized`; those of the store.
    pub async fn authenticate_cookie(&self, cookie: &Secret) -> Result<Caller, ServiceError> {
        let now = Timestamp::now();
        let caller = caller(self.parts.identity.mint.verify_cookie(cookie, now)?);
        let ended = self.parts.revocations.is_revoked(caller.login)
            || !self.parts.store.login_alive(caller.login, now).await?;
        if ended { Err(ServiceError::Unauthorized(LOGIN_ENDED)) } else { Ok(caller) }
    }

    /// A user as the caller sees it: with its e-mail, if it is the caller.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn profile(&self, caller: &Caller, id: UserId) -> Result<Profile, ServiceError> {
        shown(caller, self.parts.store.profile(id, caller.user).await?)
    }

    /// The same by name, regardless of case.
    ///
    /// # Errors
    /// `NotFound`, also for what can be no name.
    pub async fn profile_by_name(&self, caller: &Caller, name: &str) -> Result<Profile, ServiceError> {
        let Ok(name) = Username::parse(name) else { return Err(NO_USER) };
        shown(caller, self.parts.store.profile_by_name(name.key(), caller.user).await?)
    }

    /// Changes the caller's own name.
    ///
    /// # Errors
    /// `Forbidden` for another's; `Invalid`; `Conflict` with `username_taken`.
    pub async fn rename(&self, caller: &Caller, id: UserId, username: &str) -> Result<User, ServiceError> {
        if id != caller.user {
            return Err(ServiceError::Forbidden("this is another user's name"));
        }
        let name = Username::parse(username).map_err(|rule| ServiceError::invalid("username", rule))?;
        let parts = Arc::clone(&self.parts);
        to_the_end(async move {
            match parts.store.rename(id, name, Timestamp::now()).await? {
                Renaming::Done(user) => {
                    parts.timelines.forget(id).await;
                    Ok(user)
                }
                Renaming::Missing => Err(NO_USER),
                Renaming::Taken => Err(username_taken()),
            }
        })
        .await
    }

    /// The public keys that our access tokens can be checked by, as a JWK set.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.parts.identity.mint.jwks()
    }

    /// How many passwords wait to be hashed or verified.
    #[must_use]
    pub fn waiting_passwords(&self) -> usize {
        self.parts.identity.passwords.waiting()
    }

    async fn authenticate_outside(&self, bearer: &Secret, now: Timestamp) -> Result<Caller, ServiceError> {
        let outside = self.parts.identity.issuers.verify(bearer, now).await?;
        let known = (outside.issuer, outside.subject);
        let user = match self.outside_users.get(&known) {
            Some(user) => user,
            None => {
                let id = UserId::make();
                let username = outside_name(outside.preferred_username.as_deref(), id)?;
                let new = NewUser { id, email: None, username, password_hash: None, created_at: now };
                let user = self.parts.store.outside_user(known.0.clone(), known.1.clone(), new).await?;
                self.outside_users.insert(known, user.id);
                user.id
            }
        };
        Ok(Caller { user, login: outside.login, expires_at: outside.expires_at })
    }
}

impl AccountParts {
    async fn open_login(&self, user: UserId, now: Timestamp) -> Result<Tokens, ServiceError> {
        let login = LoginId::make();
        let (text, first) = new_refresh(now)?;
        self.store.open_login(login, user, first, now).await?;
        self.tokens(user, login, text, now)
    }

    fn tokens(
        &self,
        user: UserId,
        login: LoginId,
        refresh: Secret,
        now: Timestamp,
    ) -> Result<Tokens, ServiceError> {
        Ok(Tokens {
            access: self.identity.mint.access(user, login, now)?,
            cookie: self.identity.mint.cookie(user, login, now)?,
            refresh,
            refresh_expires_at: now.after(REFRESH_AGE),
        })
    }

    /// What follows the store's row when a login ends.
    async fn forget_login(&self, login: LoginId, expires_at: Timestamp) {
        let told = self.revocations.revoke(login, expires_at);
        // Its sockets here do not wait until the others know.
        self.live.end_login(login);
        told.await;
    }

    /// When the last token that we made until `now` is over.
    fn last_expiry(&self, now: Timestamp) -> Timestamp {
        now.after(REFRESH_AGE.max(self.identity.mint.access_age()))
    }
}

fn new_refresh(now: Timestamp) -> Result<(Secret, NewRefresh), IdentityError> {
    let RefreshToken { text, hash } = RefreshToken::make()?;
    Ok((text, NewRefresh { hash, expires_at: now.after(REFRESH_AGE) }))
}

fn parse_registration(
    email: &str,
    username: &str,
    password: &Secret,
) -> Result<(Email, Username, NewPassword), ServiceError> {
    let (email, username) = (Email::parse(email), Username::parse(username));
    match (email, username, NewPassword::parse(password.expose())) {
        (Ok(email), Ok(username), Ok(password)) => Ok((email, username, password)),
        (email, username, password) => {
            let rules = [("email", email.err()), ("username", username.err()), ("password", password.err())];
            let broken =
                rules.into_iter().filter_map(|(field, rule)| rule.map(|rule| FieldError::new(field, rule)));
            Err(ServiceError::Invalid(broken.collect()))
        }
    }
}

const fn caller(verified: Verified) -> Caller {
    Caller { user: verified.user, login: verified.login, expires_at: verified.expires_at }
}

fn shown(caller: &Caller, profile: Option<Profile>) -> Result<Profile, ServiceError> {
    let mut profile = profile.ok_or(NO_USER)?;
    if profile.user.id != caller.user {
        profile.user.email = None;
    }
    Ok(profile)
}

const fn username_taken() -> ServiceError {
    ServiceError::Conflict { code: "username_taken", detail: "this username is taken" }
}

/// A name for an outside issuer's user: the one it would like, as far as our rule lets it; the store makes
/// it unique. Of an address only what stands before the `@`: the rest is nobody's business.
fn outside_name(preferred: Option<&str>, id: UserId) -> Result<Username, ServiceError> {
    let wish = preferred.unwrap_or_default();
    let wish = wish.split_once('@').map_or(wish, |(local, _)| local);
    let plain = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' };
    let name: String = wish.trim().chars().take(50).map(plain).collect();
    let nameless = name.chars().all(|char| char == '_');
    let made = format!("user-{:08x}", id.0.as_u128() as u32);
    Username::parse(if nameless { &made } else { &name })
        .or_else(|_| Username::parse(&made))
        .map_err(|rule| ServiceError::Internal(format!("no name for an outside user: {rule}")))
}

#[cfg(test)]
mod tests;
