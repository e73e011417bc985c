//! Logins and their refresh tokens.

use super::TestStore;
use roost::model::id::LoginId;
use roost::model::timestamp::Timestamp;
use roost::storage::{NewRefresh, Refresh};
use std::time::Duration;

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

const fn token(number: u8, expires_at: Timestamp) -> NewRefresh {
    NewRefresh { hash: [number; 32], expires_at }
}

pub async fn a_login_is_alive_until_it_is_ended_or_expires(store: TestStore) {
    let anna = store.user("anna").await;
    let (ended, left) = (LoginId::make(), LoginId::make());
    store.engine.open_login(ended, anna, token(1, at(100)), at(0)).await.unwrap();
    store.engine.open_login(left, anna, token(2, at(100)), at(0)).await.unwrap();
    assert!(store.engine.login_alive(ended, at(99)).await.unwrap());
    assert!(!store.engine.login_alive(ended, at(100)).await.unwrap());

    store.engine.revoke_login(ended, at(100)).await.unwrap();
    assert!(!store.engine.login_alive(ended, at(1)).await.unwrap());
    assert!(store.engine.login_alive(left, at(1)).await.unwrap());
    assert!(!store.engine.login_alive(LoginId::make(), at(1)).await.unwrap());
    // Once more is no error.
    store.engine.revoke_login(ended, at(100)).await.unwrap();
}

pub async fn a_refresh_token_is_spent_for_the_next(store: TestStore) {
    let (anna, login) = (store.user("anna").await, LoginId::make());
    store.engine.open_login(login, anna, token(1, at(100)), at(0)).await.unwrap();
    let rotated = Refresh::Rotated { login, user: anna };
    assert_eq!(store.engine.refresh([1; 32], token(2, at(150)), at(50)).await.unwrap(), rotated);
    assert_eq!(store.engine.refresh([2; 32], token(3, at(200)), at(120)).await.unwrap(), rotated);
    // The login goes on as long as its newest token.
    assert!(store.engine.login_alive(login, at(199)).await.unwrap());
    assert!(!store.engine.login_alive(login, at(200)).await.unwrap());
}

pub async fn a_spent_token_used_again_revokes_its_whole_login(store: TestStore) {
    let anna = store.user("anna").await;
    let (login, other) = (LoginId::make(), LoginId::make());
    store.engine.open_login(login, anna, token(1, at(100)), at(0)).await.unwrap();
    store.engine.open_login(other, anna, token(9, at(100)), at(0)).await.unwrap();
    store.engine.refresh([1; 32], token(2, at(100)), at(1)).await.unwrap();

    let reused = store.engine.refresh([1; 32], token(3, at(100)), at(2)).await.unwrap();
    assert_eq!(reused, Refresh::Reused { login });
    assert!(!store.engine.login_alive(login, at(3)).await.unwrap());
    assert_eq!(store.engine.revoked_logins(at(3)).await.unwrap(), [login]);
    // What the thief or the owner holds is good for nothing now; another login is as it was.
    for spent in [1, 2, 3] {
        let refused = store.engine.refresh([spent; 32], token(4, at(100)), at(3)).await.unwrap();
        assert_eq!(refused, Refresh::Refused, "token {spent}");
    }
    assert!(store.engine.login_alive(other, at(3)).await.unwrap());
}

pub async fn of_two_uses_of_a_token_at_once_one_is_a_reuse(store: TestStore) {
    let (anna, login) = (store.user("anna").await, LoginId::make());
    store.engine.open_login(login, anna, token(1, at(100)), at(0)).await.unwrap();
    let first = store.engine.refresh([1; 32], token(2, at(100)), at(1));
    let second = store.engine.refresh([1; 32], token(3, at(100)), at(1));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), Refresh::Rotated { login, user: anna });
    assert_eq!(second.unwrap(), Refresh::Reused { login });
}

pub async fn what_is_unknown_expired_or_revoked_is_refused(store: TestStore) {
    let anna = store.user("anna").await;
    let refused = async |spend: u8, now: Timestamp| {
        let next = token(200 + spend, at(100));
        assert_eq!(store.engine.refresh([spend; 32], next, now).await.unwrap(), Refresh::Refused, "{spend}");
    };
    refused(1, at(0)).await;
    let (expired, revoked) = (LoginId::make(), LoginId::make());
    store.engine.open_login(expired, anna, token(2, at(10)), at(0)).await.unwrap();
    refused(2, at(10)).await;
    store.engine.open_login(revoked, anna, token(3, at(100)), at(0)).await.unwrap();
    store.engine.revoke_login(revoked, at(100)).await.unwrap();
    refused(3, at(1)).await;
    // A refused use spends nothing: before its end the token is as good as it was.
    let next = token(4, at(20));
    let rotated = Refresh::Rotated { login: expired, user: anna };
    assert_eq!(store.engine.refresh([2; 32], next, at(9)).await.unwrap(), rotated);
}

pub async fn ended_logins_are_listed_until_they_would_have_expired(store: TestStore) {
    let (anna, login, outside) = (store.user("anna").await, LoginId::make(), LoginId::make());
    store.engine.open_login(login, anna, token(1, at(50)), at(0)).await.unwrap();
    assert_eq!(store.engine.revoked_logins(at(0)).await.unwrap(), []);
    // An outside issuer's login is ended without ever having been begun here.
    store.engine.revoke_login(outside, at(20)).await.unwrap();
    store.engine.revoke_login(login, at(40)).await.unwrap();
    assert!(!store.engine.login_alive(outside, at(1)).await.unwrap());

    let mut listed = store.engine.revoked_logins(at(19)).await.unwrap();
    listed.sort();
    let mut both = [login, outside];
    both.sort();
    assert_eq!(listed, both);
    assert_eq!(store.engine.revoked_logins(at(20)).await.unwrap(), [login]);
    assert_eq!(store.engine.revoked_logins(at(49)).await.unwrap(), [login]);
    assert_eq!(store.engine.revoked_logins(at(50)).await.unwrap(), []);
    // Sweeping forgets what has expired and keeps the rest.
    store.engine.sweep(at(20).after(Duration::from_secs(1))).await.unwrap();
    assert_eq!(store.engine.revoked_logins(at(0)).await.unwrap(), [login]);
}
