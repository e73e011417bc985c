//! Logins and their refresh tokens. A token is known by its SHA-256 alone. A login that the store never
//! began, an outside issuer's, has a row only once it is revoked.
//!
//! A token is spent by a lightweight transaction that writes down which token follows it; the rows of the next
//! are there before. All rows go by themselves a day after they expire; what has expired is decided by the
//! time as given, never by whether the row is still there.

use super::Inner;
use super::cql::{Decision, statements};
use super::stamp::day_of;
use super::tries::Tries;
use crate::model::id::{LoginId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::{NewRefresh, Refresh, StorageError, TokenHash};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::DeserializeRow;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// Partitions that a day's revoked logins are spread over.
const SHARDS: u128 = 16;
/// A revoked login stands under the day on which it expires, and under every so many days before: whoever
/// reads so many days finds it.
const DAYS: i32 = 31;
/// Partitions that are read at once.
const AT_ONCE: usize = 64;
/// How much longer than it is good for a row is kept, so that no clock finds it gone early.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// What expires later is kept only so long (CQL allows twenty years).
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

statements! {
    /// What is asked of logins.
    Statements {
        login: Read, "SELECT user, created_at, expires_at, revoked FROM logins WHERE id = ?";
        keep_login: Write, "INSERT INTO logins (id, user, created_at, expires_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
        revoke: Write, "UPDATE logins USING TTL ? SET revoked = true WHERE id = ?";
        list_revoked: Write, "INSERT INTO revoked_logins (day, shard, login, expires_at) VALUES (?, ?, ?, ?) USING TTL ?";
        revoked: Read, "SELECT login, expires_at FROM revoked_logins WHERE day = ? AND shard = ?";
        token: Decide, "SELECT login, user, expires_at, spent_for FROM refresh_tokens WHERE hash = ?";
        keep_token: Write, "INSERT INTO refresh_tokens (hash, login, user, expires_at) VALUES (?, ?, ?, ?) USING TTL ?";
        spend: Claim, "UPDATE refresh_tokens USING TTL ? SET spent_for = ? WHERE hash = ? IF spent_for = ?";
    }
}

#[derive(DeserializeRow)]
struct Login {
    user: Option<Uuid>,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    revoked: Option<bool>,
}

#[derive(DeserializeRow)]
struct Token {
    login: Option<Uuid>,
    user: Option<Uuid>,
    expires_at: Option<i64>,
    spent_for: Option<Vec<u8>>,
}

impl Inner {
    /// Begins a login with its first token.
    pub(super) async fn open_login(
        &self,
        login: LoginId,
        user: UserId,
        first: NewRefresh,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.keep(login, user, now.millis(), first).await
    }

    /// Spends a token for the next, or finds it used again.
    pub(super) async fn refresh(
        &self,
        spend: TokenHash,
        next: NewRefresh,
        now: Timestamp,
    ) -> Result<Refresh, StorageError> {
        let Some(token) = self.token(spend).await? else { return Ok(Refresh::Refused) };
        let (Some(login), Some(user), Some(expires_at)) = (token.login, token.user, token.expires_at) else {
            return Ok(Refresh::Refused);
        };
        let (login, user, expires_at) = (LoginId(login), UserId(user), Timestamp::from_millis(expires_at));
        if expires_at <= now {
            return Ok(Refresh::Refused);
        }
        let Some(begun) = self.login(login).await?.filter(|login| login.revoked != Some(true)) else {
            return Ok(Refresh::Refused);
        };
        if token.spent_for.is_none() {
            self.keep(login, user, begun.created_at.unwrap_or_default(), next).await?;
            if self.spend(spend, expires_at, next.hash).await? {
                return Ok(Refresh::Rotated { login, user });
            }
        }
        self.revoke_login(login, next.expires_at).await?;
        Ok(Refresh::Reused { login })
    }

    /// Ends a login, also one that was never begun here.
    pub(super) async fn revoke_login(
        &self,
        login: LoginId,
        expires_at: Timestamp,
    ) -> Result<(), StorageError> {
        let begun = self.login(login).await?.and_then(|login| login.expires_at);
        let expires_at = begun.map_or(expires_at, |begun| expires_at.max(Timestamp::from_millis(begun)));
        let kept = seconds_left(expires_at);
        let last = day_of(expires_at.min(Timestamp::now().after(LONGEST)));
        let today = day_of(Timestamp::now());
        let listed = (0..).map(|step| last - step * DAYS).take_while(|day| *day == last || *day >= today);
        let listed = iter(listed).map(|day| {
            let values = (day, shard(login), login.0, expires_at.millis(), kept);
            self.cql.write(&self.logins.list_revoked, values)
        });
        tokio::try_join!(
            self.cql.write(&self.logins.revoke, (kept, login.0)),
            listed.buffer_unordered(AT_ONCE).try_collect::<()>(),
        )?;
        Ok(())
    }

    /// Whether a login was begun here and goes on.
    pub(super) async fn login_alive(&self, login: LoginId, now: Timestamp) -> Result<bool, StorageError> {
        let login = self.login(login).await?;
        Ok(login.is_some_and(|login| {
            login.user.is_some()
                && login.revoked != Some(true)
                && login.expires_at.is_some_and(|at| Timestamp::from_millis(at) > now)
        }))
    }

    /// All that were revoked and would still go on.
    pub(super) async fn revoked_logins(&self, now: Timestamp) -> Result<Vec<LoginId>, StorageError> {
        let today = day_of(now);
        let partitions =
            (today..=today + DAYS).flat_map(|day| (0..SHARDS as i32).map(move |shard| (day, shard)));
        let rows: Vec<Vec<(Uuid, i64)>> = iter(partitions)
            .map(|partition| self.cql.rows(&self.logins.revoked, partition))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let lasting = rows.into_iter().flatten().filter(|(_, at)| Timestamp::from_millis(*at) > now);
        // One that stands under several days is one login.
        let logins: BTreeSet<LoginId> = lasting.map(|(login, _)| LoginId(login)).collect();
        Ok(logins.into_iter().collect())
    }

    async fn login(&self, login: LoginId) -> Result<Option<Login>, StorageError> {
        self.cql.first(&self.logins.login, (login.0,)).await
    }

    async fn token(&self, hash: TokenHash) -> Result<Option<Token>, StorageError> {
        self.cql.first(&self.logins.token, (&hash[..],)).await
    }

    /// Writes a token's row, and its login's, which lasts as long as its latest token.
    async fn keep(
        &self,
        login: LoginId,
        user: UserId,
        created_at: i64,
        token: NewRefresh,
    ) -> Result<(), StorageError> {
        let (expires_at, kept) = (token.expires_at.millis(), seconds_left(token.expires_at));
        // The latest expiry is the last one written, in whatever order they come.
        let written_at = expires_at.saturating_mul(1_000);
        tokio::try_join!(
            self.cql
                .write(&self.logins.keep_login, (login.0, user.0, created_at, expires_at, written_at, kept)),
            self.cql.write(&self.logins.keep_token, (&token.hash[..], login.0, user.0, expires_at, kept)),
        )?;
        Ok(())
    }

    /// Spends a token for `next`; answers whether it was spent for that one and no other.
    async fn spend(
        &self,
        token: TokenHash,
        expires_at: Timestamp,
        next: TokenHash,
    ) -> Result<bool, StorageError> {
        let mut tries = Tries::begin();
        loop {
            let values = (seconds_left(expires_at), &next[..], &token[..], None::<&[u8]>);
            if self.cql.decide(&self.logins.spend, values).await? == Decision::Applied {
                return Ok(true);
            }
            if let Some(spent_for) = self.token(token).await?.and_then(|token| token.spent_for) {
                return Ok(spent_for == next);
            }
            tries.again().await?;
        }
    }
}

fn shard(login: LoginId) -> i32 {
    (login.0.as_u128() % SHARDS) as i32
}

/// How long a row is kept that expires at that time.
pub(super) fn seconds_left(expires_at: Timestamp) -> i32 {
    let millis = expires_at.millis().saturating_sub(Timestamp::now().millis());
    let left = Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(LONGEST) + KEPT;
    i32::try_from(left.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{KEPT, LONGEST, seconds_left};
    use crate::model::timestamp::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_row_is_kept_a_day_longer_than_it_is_good_for() {
        let day = i32::try_from(KEPT.as_secs()).unwrap();
        let in_an_hour = seconds_left(Timestamp::now().after(Duration::from_secs(3600)));
        assert!((day + 3_590..=day + 3_600).contains(&in_an_hour), "{in_an_hour}");
        assert_eq!(seconds_left(Timestamp::from_millis(0)), day, "expired long ago");
        let longest = i32::try_from(LONGEST.as_secs()).unwrap();
        assert_eq!(seconds_left(Timestamp::from_millis(i64::MAX)), longest + day);
    }
}
