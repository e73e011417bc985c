//! Logins and their refresh tokens.

use super::TestStore;
use roost::model::id::LoginId;
use roost::model::timestamp::Timestamp;
use roost::storage::Refresh;
use std::time::Duration;

/// So many minutes after the test began: none passes while it runs.
fn clock() -> impl Fn(u64) -> Timestamp {
    let began = Timestamp::now();
    move |minutes| began.after(Duration::from_secs(minutes * 60))
}

pub async fn a_login_is_alive_until_it_is_ended_or_expires(store: TestStore) {
    let at = clock();
    let anna = store.user("anna").await;
    let (ended, left) = (LoginId::make(), LoginId::make());
    store.engine.open_login(ended, anna, store.token(1, at(100)), at(0)).await.unwrap();
    store.engine.open_login(left, anna, store.token(2, at(100)), at(0)).await.unwrap();
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
    let at = clock();
    let (anna, login) = (store.user("anna").await, LoginId::make());
    store.engine.open_login(login, anna, store.token(1, at(100)), at(0)).await.unwrap();
    let rotated = Refresh::Rotated { login, user: anna };
    assert_eq!(store.engine.refresh(store.hash(1), store.token(2, at(150)), at(50)).await.unwrap(), rotated);
    assert_eq!(store.engine.refresh(store.hash(2), store.token(3, at(200)), at(120)).await.unwrap(), rotated);
    // The login goes on as long as its newest token.
    assert!(store.engine.login_alive(login, at(199)).await.unwrap());
    assert!(!store.engine.login_alive(login, at(200)).await.unwrap());
}

pub async fn a_spent_token_used_again_revokes_its_whole_login(store: TestStore) {
    let at = clock();
    let anna = store.user("anna").await;
    let (login, other) = (LoginId::make(), LoginId::make());
    store.engine.open_login(login, anna, store.token(1, at(100)), at(0)).await.unwrap();
    store.engine.open_login(other, anna, store.token(9, at(100)), at(0)).await.unwrap();
    store.engine.refresh(store.hash(1), store.token(2, at(100)), at(1)).await.unwrap();

    let reused = store.engine.refresh(store.hash(1), store.token(3, at(100)), at(2)).await.unwrap();
    assert_eq!(reused, Refresh::Reused { login });
    assert!(!store.engine.login_alive(login, at(3)).await.unwrap());
    assert!(store.engine.revoked_logins(at(3)).await.unwrap().contains(&login));
    // What the thief or the owner holds is good for nothing now; another login is as it was.
    for spent in [1, 2, 3] {
        let refused = store.engine.refresh(store.hash(spent), store.token(4, at(100)), at(3)).await.unwrap();
        assert_eq!(refused, Refresh::Refused, "token {spent}");
    }
    assert!(store.engine.login_alive(other, at(3)).await.unwrap());
}

pub async fn of_two_uses_of_a_token_at_once_one_is_a_reuse(store: TestStore) {
    let at = clock();
    let (anna, login) = (store.user("anna").await, LoginId::make());
    store.engine.open_login(login, anna, store.token(1, at(100)), at(0)).await.unwrap();
    let first = store.engine.refresh(store.hash(1), store.token(2, at(100)), at(1));
    let second = store.engine.refresh(store.hash(1), store.token(3, at(100)), at(1));
    let (first, second) = tokio::join!(first, second);
    let answers = [first.unwrap(), second.unwrap()];
    assert!(answers.contains(&Refresh::Rotated { login, user: anna }), "{answers:?}");
    assert!(answers.contains(&Refresh::Reused { login }), "{answers:?}");
    assert!(!store.engine.login_alive(login, at(2)).await.unwrap());
    for next in [2, 3] {
        let refused = store.engine.refresh(store.hash(next), store.token(4, at(100)), at(2)).await.unwrap();
        assert_eq!(refused, Refresh::Refused);
    }
}

pub async fn what_is_unknown_expired_or_revoked_is_refused(store: TestStore) {
    let at = clock();
    let anna = store.user("anna").await;
    let refused = async |spend: u8, now: Timestamp| {
        let next = store.token(200 + spend, at(100));
        assert_eq!(
            store.engine.refresh(store.hash(spend), next, now).await.unwrap(),
            Refresh::Refused,
            "{spend}"
        );
    };
    refused(1, at(0)).await;
    let (expired, revoked) = (LoginId::make(), LoginId::make());
    store.engine.open_login(expired, anna, store.token(2, at(10)), at(0)).await.unwrap();
    refused(2, at(10)).await;
    store.engine.open_login(revoked, anna, store.token(3, at(100)), at(0)).await.unwrap();
    store.engine.revoke_login(revoked, at(100)).await.unwrap();
    refused(3, at(1)).await;
    // A refused use spends nothing: before its end the token is as good as it was.
    let next = store.token(4, at(20));
    let rotated = Refresh::Rotated { login: expired, user: anna };
    assert_eq!(store.engine.refresh(store.hash(2), next, at(9)).await.unwrap(), rotated);
}

pub async fn ended_logins_are_listed_until_they_would_have_expired(store: TestStore) {
    let at = clock();
    let (anna, login, outside) = (store.user("anna").await, LoginId::make(), LoginId::make());
    store.engine.open_login(login, anna, store.token(1, at(50)), at(0)).await.unwrap();
    assert_eq!(store.engine.revoked_logins(at(0)).await.unwrap(), []);
    // An outside issuer's login is ended without ever having been begun here.
    store.engine.revoke_login(outside, at(20)).await.unwrap();
    store.engine.revoke_login(login, at(50)).await.unwrap();
    assert!(!store.engine.login_alive(outside, at(1)).await.unwrap());

    let mut listed = store.engine.revoked_logins(at(19)).await.unwrap();
    listed.sort();
    let mut both = [login, outside];
    both.sort();
    assert_eq!(listed, both);
    assert_eq!(store.engine.revoked_logins(at(20)).await.unwrap(), [login]);
    assert_eq!(store.engine.revoked_logins(at(49)).await.unwrap(), [login]);
    assert_eq!(store.engine.revoked_logins(at(50)).await.unwrap(), []);
    // Sweeping keeps what has not expired.
    store.engine.sweep(at(20).after(Duration::from_secs(1))).await.unwrap();
    assert_eq!(store.engine.revoked_logins(at(20)).await.unwrap(), [login]);
    assert!(!store.engine.login_alive(login, at(21)).await.unwrap());
}
