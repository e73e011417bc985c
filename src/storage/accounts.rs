//! Users, how they log in, and their logins, as a store keeps them.

use super::{Pending, TokenHash};
use crate::model::id::{LoginId, UserId};
use crate::model::timestamp::Timestamp;
use crate::model::user::{Email, Profile, User, Username};

/// Users, how they log in, and their logins.
pub trait Accounts: Send + Sync {
    /// Makes a user. Of two at once with one e-mail or name (regardless of case), one is made.
    fn register(&self, new: NewUser) -> Pending<Registration>;
    /// The user with that e-mail (regardless of case) and the hash of its password, if it has one.
    fn credentials(&self, email: Email) -> Pending<Option<(User, Option<String>)>>;
    /// A user by id.
    fn user(&self, id: UserId) -> Pending<Option<User>>;
    /// A user as `viewer` sees it.
    fn profile(&self, id: UserId, viewer: UserId) -> Pending<Option<Profile>>;
    /// The same, by name regardless of case.
    fn profile_by_name(&self, name: String, viewer: UserId) -> Pending<Option<Profile>>;
    /// Changes a name; the old one is free at once.
    fn rename(&self, id: UserId, name: Username, now: Timestamp) -> Pending<Renaming>;
    /// The user of an outside issuer's subject, made from `new` at first use; where the name is taken,
    /// a hyphen and a number that is free go behind it (cut to 50 characters).
    fn outside_user(&self, issuer: String, subject: String, new: NewUser) -> Pending<User>;

    /// Begins a login with its first refresh token (by its SHA-256).
    fn open_login(&self, login: LoginId, user: UserId, first: NewRefresh, now: Timestamp) -> Pending<()>;
    /// Spends a refresh token for the next one. A spent one used again revokes its whole login; of two
    /// uses at once, one is such a use.
    fn refresh(&self, spend: TokenHash, next: NewRefresh, now: Timestamp) -> Pending<Refresh>;
    /// Ends a login: its tokens stop working. `expires_at` is when the last of them would have ended by
    /// itself. Ending one that is ended, or that the store never saw (an outside issuer's), is no error.
    fn revoke_login(&self, login: LoginId, expires_at: Timestamp) -> Pending<()>;
    /// Whether the login was begun here and is neither revoked nor expired.
    fn login_alive(&self, login: LoginId, now: Timestamp) -> Pending<bool>;
    /// All that were revoked and would not have expired by `now`.
    fn revoked_logins(&self, now: Timestamp) -> Pending<Vec<LoginId>>;
}

/// A refresh token to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewRefresh {
    /// Its SHA-256.
    pub hash: TokenHash,
    /// Until when it can be spent.
    pub expires_at: Timestamp,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// Its address; an outside issuer's user has none.
    pub email: Option<Email>,
    /// Its name.
    pub username: Username,
    /// The PHC string of its password's hash; an outside issuer's user has none.
    pub password_hash: Option<String>,
    /// When it is made.
    pub created_at: Timestamp,
}

/// What came of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The user was made.
    Made(User),
    /// The e-mail belongs to somebody.
    EmailTaken,
    /// The name belongs to somebody.
    UsernameTaken,
}

/// What came of a change of name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// Done.
    Done(User),
    /// There is no such user.
    Missing,
    /// The name belongs to somebody else.
    Taken,
}

/// What came of spending a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// It was good, and is spent now.
    Rotated {
        /// The login that goes on.
        login: LoginId,
        /// Whose it is.
        user: UserId,
    },
    /// It had been spent: its login is revoked now.
    Reused {
        /// The login that ended.
        login: LoginId,
    },
    /// Unknown, expired, or of a login that was revoked.
    Refused,
}
