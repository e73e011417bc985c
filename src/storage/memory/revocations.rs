//! Logins that were ended before their tokens expired, each until they would have.
//!
//! Not bounded by a number, for to forget one early would let its tokens work again: it is bounded by
//! how many logins can be begun while a token lives, and those are limited where they are begun.

use crate::model::id::LoginId;
use crate::model::timestamp::Timestamp;
use crate::storage::volatile::{Asked, Revocations};
use std::collections::HashMap;
use std::future::ready;
use std::sync::{PoisonError, RwLock};

/// Entries below which it is not worth looking for what has expired.
const FEW: usize = 1024;

/// Ended logins, in this process.
#[derive(Default)]
pub struct RevokedLogins {
    // A std lock: held for one look-up, never across an await.
    ended: RwLock<Ended>,
}

#[derive(Default)]
struct Ended {
    until: HashMap<LoginId, Timestamp>,
    /// How many are kept when it is next looked for what has expired.
    sweep_at: usize,
}

impl RevokedLogins {
    /// Answers whether that was new.
    fn revoke_at(&self, login: LoginId, expires_at: Timestamp, now: Timestamp) -> bool {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        let former = ended.until.get(&login).copied();
        ended.until.insert(login, former.map_or(expires_at, |former| former.max(expires_at)));
        if ended.until.len() >= ended.sweep_at.max(FEW) {
            ended.until.retain(|_, until| *until > now);
            ended.sweep_at = ended.until.len() * 2;
        }
        former.is_none()
    }
}

impl Revocations for RevokedLogins {
    fn revoke(&self, login: LoginId, expires_at: Timestamp) -> Asked<()> {
        self.learn(login, expires_at);
        // There is no other node.
        Box::pin(ready(()))
    }

    fn learn(&self, login: LoginId, expires_at: Timestamp) -> bool {
        self.revoke_at(login, expires_at, Timestamp::now())
    }

    fn is_revoked(&self, login: LoginId) -> bool {
        self.ended.read().unwrap_or_else(PoisonError::into_inner).until.contains_key(&login)
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW, RevokedLogins};
    use crate::model::id::LoginId;
    use crate::model::timestamp::Timestamp;
    use crate::storage::volatile::Revocations;

    #[test]
    fn what_has_expired_is_forgotten_and_nothing_else_is() {
        let (now, later) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
        let logins = RevokedLogins::default();
        let lasting = LoginId::make();
        logins.revoke_at(lasting, later, now);
        // Told again with an earlier end: the later one holds.
        logins.revoke_at(lasting, now, now);
        for _ in 0..FEW * 20 {
            logins.revoke_at(LoginId::make(), now, now);
        }
        assert!(logins.is_revoked(lasting));
        let kept = logins.ended.read().unwrap().until.len();
        assert!(kept <= FEW, "{kept} are kept");
    }
}
