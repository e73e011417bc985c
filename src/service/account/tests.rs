//! What a request over HTTP cannot bring about at will: stores that wait, fail, or are left waiting.

use super::{Account, AccountParts, LiveLogins, outside_name};
use crate::identity::Identity;
use crate::identity::issuers::{IssuerConfig, Issuers};
use crate::identity::keys::SigningKey;
use crate::identity::passwords::Passwords;
use crate::identity::tokens::Mint;
use crate::model::id::{LoginId, UserId};
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use crate::model::user::{Caller, Email, Profile, User, Username};
use crate::service::ServiceError;
use crate::storage::volatile::{Asked, Read, Reading, Recalled, Revocations, TimelineCache};
use crate::storage::{
    Accounts, NewRefresh, NewUser, Pending, Place, Refresh, Registration, Renaming, StorageError, TokenHash,
};
use aws_lc_rs::signature::Ed25519KeyPair;
use futures_util::FutureExt;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::collections::HashSet;
use std::future::ready;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A store of one user, which does as it is told.
struct Told {
    user: User,
    /// What is said of a spent refresh token.
    refresh: Mutex<Refresh>,
    alive: Mutex<bool>,
    failing: Mutex<bool>,
    /// No login is ended while somebody holds this.
    held: Arc<tokio::sync::Mutex<()>>,
    outside_users: AtomicUsize,
}

impl Accounts for Told {
    fn register(&self, _: NewUser) -> Pending<Registration> {
        answer(Registration::EmailTaken)
    }

    fn credentials(&self, email: Email) -> Pending<Option<(User, Option<String>)>> {
        let known = (email.as_str() == "anna@example.com").then(|| (self.user.clone(), None));
        answer(known)
    }

    fn user(&self, _: UserId) -> Pending<Option<User>> {
        answer(Some(self.user.clone()))
    }

    fn profile(&self, id: UserId, _: UserId) -> Pending<Option<Profile>> {
        let user = self.user.clone();
        answer((id == user.id).then_some(Profile {
            user,
            posts: 0,
            followers: 0,
            following: 0,
            is_following: false,
        }))
    }

    fn profile_by_name(&self, _: String, _: UserId) -> Pending<Option<Profile>> {
        answer(None)
    }

    fn rename(&self, _: UserId, _: Username, _: Timestamp) -> Pending<Renaming> {
        answer(Renaming::Done(self.user.clone()))
    }

    fn outside_user(&self, _: String, _: String, new: NewUser) -> Pending<User> {
        self.outside_users.fetch_add(1, Ordering::SeqCst);
        answer(User { id: new.id, username: new.username.as_str().to_owned(), ..self.user.clone() })
    }

    fn open_login(&self, _: LoginId, _: UserId, _: NewRefresh, _: Timestamp) -> Pending<()> {
        answer(())
    }

    fn refresh(&self, _: TokenHash, _: NewRefresh, _: Timestamp) -> Pending<Refresh> {
        answer(*self.refresh.lock().unwrap())
    }

    fn revoke_login(&self, _: LoginId, _: Timestamp) -> Pending<()> {
        let (held, failing) = (Arc::clone(&self.held), *self.failing.lock().unwrap());
        Box::pin(async move {
            let _ = held.lock().await;
            if failing { Err(StorageError::Unavailable("the disk is full".to_owned())) } else { Ok(()) }
        })
    }

    fn login_alive(&self, _: LoginId, _: Timestamp) -> Pending<bool> {
        answer(*self.alive.lock().unwrap())
    }

    fn revoked_logins(&self, _: Timestamp) -> Pending<Vec<LoginId>> {
        answer(vec![LoginId(self.user.id.0)])
    }
}

fn answer<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(async move { Ok(value) })
}

#[derive(Default)]
struct Ended(Mutex<HashSet<LoginId>>);

impl Revocations for Ended {
    fn revoke(&self, login: LoginId, expires_at: Timestamp) -> Asked<()> {
        self.learn(login, expires_at);
        Box::pin(ready(()))
    }

    fn learn(&self, login: LoginId, expires_at: Timestamp) -> bool {
        assert!(
            expires_at >= Timestamp::now().after(Duration::from_secs(29 * 24 * 3600)),
            "forgotten too early"
        );
        self.0.lock().unwrap().insert(login)
    }

    fn is_revoked(&self, login: LoginId) -> bool {
        self.0.lock().unwrap().contains(&login)
    }
}

#[derive(Default)]
struct Forgotten(AtomicUsize);

impl TimelineCache for Forgotten {
    fn recall(&self, _: UserId, _: Vec<Place>) -> Asked<Recalled> {
        Box::pin(ready(Recalled::default()))
    }

    fn keep(&self, _: UserId, _: Reading, _: Read) -> Asked<()> {
        Box::pin(ready(()))
    }

    fn forget(&self, _: UserId) -> Asked<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(ready(()))
    }
}

struct Sockets(UnboundedSender<LoginId>);

impl LiveLogins for Sockets {
    fn end_login(&self, login: LoginId) {
        self.0.send(login).unwrap();
    }
}

struct Scene {
    account: Account,
    store: Arc<Told>,
    revocations: Arc<Ended>,
    timelines: Arc<Forgotten>,
    closed: UnboundedReceiver<LoginId>,
}

impl Scene {
    fn new() -> Self {
        Self::with_issuers(Vec::new())
    }

    fn with_issuers(issuers: Vec<IssuerConfig>) -> Self {
        let user = User {
            id: UserId::make(),
            username: "anna".to_owned(),
            email: Some("anna@example.com".to_owned()),
            created_at: Timestamp::now(),
            updated_at: None,
        };
        let store = Arc::new(Told {
            user,
            refresh: Mutex::new(Refresh::Refused),
            alive: Mutex::new(true),
            failing: Mutex::new(false),
            held: Arc::default(),
            outside_users: AtomicUsize::new(0),
        });
        let key = SigningKey::from_secret(&Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
        let identity = Identity {
            passwords: Passwords::start().unwrap(),
            mint: Mint::new(key, Duration::from_secs(3600)),
            issuers: Issuers::new(issuers).unwrap(),
        };
        let (revocations, timelines) = (Arc::new(Ended::default()), Arc::new(Forgotten::default()));
        let (sockets, closed) = unbounded_channel();
        let parts = AccountParts {
            identity,
            store: store.clone(),
            revocations: revocations.clone(),
            timelines: timelines.clone(),
            live: Arc::new(Sockets(sockets)),
        };
        Self { account: Account::new(parts), store, revocations, timelines, closed }
    }

    /// A caller with the tokens of a login of its own.
    async fn log_in(&self) -> (Caller, super::Tokens) {
        let tokens = self.account.parts.open_login(self.store.user.id, Timestamp::now()).await.unwrap();
        let caller = self.account.authenticate(&tokens.access).await.unwrap();
        assert_eq!(caller.user, self.store.user.id);
        (caller, tokens)
    }
}

fn unauthorized<T>(outcome: Result<T, ServiceError>) -> &'static str {
    match outcome {
        Err(ServiceError::Unauthorized(detail)) => detail,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was done"),
    }
}

#[tokio::test]
async fn every_broken_field_is_told_at_once_and_no_value_is() {
    let scene = Scene::new();
    let refused = scene.account.register("nobody", "a b", &Secret::new("hunter2")).await;
    let Err(ServiceError::Invalid(errors)) = refused else { panic!("taken") };
    assert_eq!(errors.iter().map(|error| error.field).collect::<Vec<_>>(), ["email", "username", "password"]);
    assert!(!format!("{errors:?}").contains("hunter2") && !format!("{errors:?}").contains("nobody"));
    let refused = scene.account.register("a@b.co", "abc", &Secret::new("hunter2")).await;
    let Err(ServiceError::Invalid(errors)) = refused else { panic!("taken") };
    assert_eq!(errors.iter().map(|error| error.field).collect::<Vec<_>>(), ["password"]);
}

#[tokio::test]
async fn an_unknown_email_and_a_wrong_password_get_the_same_words() {
    let scene = Scene::new();
    let password = Secret::new("Passw0rd!");
    let words = ["anna@example.com", "nobody@example.com", "nobody", ""];
    for email in words {
        let refused = unauthorized(scene.account.login(email, &password).await);
        assert_eq!(refused, super::WRONG_CREDENTIALS, "{email}");
    }
}

#[tokio::test]
async fn a_logout_ends_tokens_and_sockets() {
    let mut scene = Scene::new();
    let ((caller, tokens), (_, others)) = (scene.log_in().await, scene.log_in().await);
    scene.account.logout(&caller).await.unwrap();
    assert_eq!(unauthorized(scene.account.authenticate(&tokens.access).await), super::LOGIN_ENDED);
    assert_eq!(unauthorized(scene.account.authenticate_cookie(&tokens.cookie).await), super::LOGIN_ENDED);
    assert_eq!(scene.closed.try_recv(), Ok(caller.login));
    assert!(
        scene.account.authenticate(&others.access).await.is_ok(),
        "another login of the same user goes on"
    );
    assert!(scene.closed.try_recv().is_err());
}

#[tokio::test]
async fn a_logout_goes_on_though_its_request_was_dropped() {
    let mut scene = Scene::new();
    let (caller, tokens) = scene.log_in().await;
    let held = Arc::clone(&scene.store.held).lock_owned().await;
    assert!(scene.account.logout(&caller).now_or_never().is_none(), "the store has not answered");
    assert!(scene.account.authenticate(&tokens.access).await.is_ok());
    drop(held);
    assert_eq!(scene.closed.recv().await, Some(caller.login));
    assert!(scene.revocations.is_revoked(caller.login));
}

#[tokio::test]
async fn a_logout_that_the_store_refuses_ends_nothing() {
    let mut scene = Scene::new();
    let (caller, tokens) = scene.log_in().await;
    *scene.store.failing.lock().unwrap() = true;
    let refused = scene.account.logout(&caller).await;
    assert!(matches!(refused, Err(ServiceError::Unavailable { .. })), "{refused:?}");
    assert!(scene.account.authenticate(&tokens.access).await.is_ok());
    assert!(scene.closed.try_recv().is_err());
}

#[tokio::test]
async fn a_spent_refresh_token_ends_its_login_everywhere() {
    let mut scene = Scene::new();
    let (caller, tokens) = scene.log_in().await;
    *scene.store.refresh.lock().unwrap() = Refresh::Rotated { login: caller.login, user: caller.user };
    let rotated = scene.account.refresh(&tokens.refresh).await.unwrap();
    assert_eq!(scene.account.authenticate(&rotated.access).await.unwrap().login, caller.login);
    assert!(rotated.refresh != tokens.refresh);

    *scene.store.refresh.lock().unwrap() = Refresh::Reused { login: caller.login };
    assert_eq!(unauthorized(scene.account.refresh(&tokens.refresh).await), super::REFRESH_REFUSED);
    assert_eq!(scene.closed.try_recv(), Ok(caller.login));
    assert_eq!(unauthorized(scene.account.authenticate(&rotated.access).await), super::LOGIN_ENDED);
}

#[tokio::test]
async fn the_cookie_is_asked_about_in_the_store_and_is_no_bearer() {
    let scene = Scene::new();
    let (caller, tokens) = scene.log_in().await;
    assert_eq!(scene.account.authenticate_cookie(&tokens.cookie).await.unwrap().login, caller.login);
    unauthorized(scene.account.authenticate(&tokens.cookie).await);
    unauthorized(scene.account.authenticate_cookie(&tokens.access).await);
    *scene.store.alive.lock().unwrap() = false;
    assert_eq!(unauthorized(scene.account.authenticate_cookie(&tokens.cookie).await), super::LOGIN_ENDED);
}

#[tokio::test]
async fn logins_that_were_ended_before_the_start_stay_ended() {
    let scene = Scene::new();
    scene.account.recall_ended_logins().await.unwrap();
    assert!(scene.revocations.is_revoked(LoginId(scene.store.user.id.0)));
}

#[tokio::test]
async fn an_email_is_shown_to_its_owner_alone() {
    let scene = Scene::new();
    let (owner, _) = scene.log_in().await;
    let other = Caller { user: UserId::make(), ..owner };
    assert!(scene.account.profile(&owner, owner.user).await.unwrap().user.email.is_some());
    assert_eq!(scene.account.profile(&other, owner.user).await.unwrap().user.email, None);
    let missing = scene.account.profile(&owner, other.user).await;
    assert!(matches!(missing, Err(ServiceError::NotFound(_))));
}

#[tokio::test]
async fn a_name_is_changed_by_its_owner_alone_and_seen_at_once() {
    let scene = Scene::new();
    let (owner, _) = scene.log_in().await;
    let other = scene.account.rename(&owner, UserId::make(), "x").await;
    assert!(matches!(other, Err(ServiceError::Forbidden(_))));
    let broken = scene.account.rename(&owner, owner.user, "x").await;
    assert!(matches!(broken, Err(ServiceError::Invalid(_))));
    assert_eq!(scene.timelines.0.load(Ordering::SeqCst), 0);
    scene.account.rename(&owner, owner.user, "anna-2").await.unwrap();
    assert_eq!(scene.timelines.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_outside_subject_is_made_a_user_once_and_can_log_out() {
    let folder = tempfile::tempdir().unwrap();
    let (jwks, key) = outside_key(&folder.path().join("keys.json"));
    let entry = json!({"issuer": "https://login.example.com/", "audience": "roost", "jwks": jwks});
    let mut scene = Scene::with_issuers(vec![serde_json::from_value(entry).unwrap()]);
    let sign = |subject: &str, jti: &str| {
        let claims = json!({
            "iss": "https://login.example.com/", "aud": "roost", "sub": subject, "jti": jti,
            "exp": Timestamp::now().millis() / 1000 + 600, "preferred_username": "anna@example.com",
        });
        Secret::new(encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap())
    };
    let first = scene.account.authenticate(&sign("42", "one")).await.unwrap();
    let second = scene.account.authenticate(&sign("42", "two")).await.unwrap();
    assert_eq!(first.user, second.user);
    assert_ne!(first.login, second.login);
    assert_eq!(scene.store.outside_users.load(Ordering::SeqCst), 1);
    assert_ne!(scene.account.authenticate(&sign("43", "one")).await.unwrap().user, first.user);

    scene.account.logout(&first).await.unwrap();
    assert_eq!(scene.closed.try_recv(), Ok(first.login));
    assert_eq!(unauthorized(scene.account.authenticate(&sign("42", "one")).await), super::LOGIN_ENDED);
    assert!(scene.account.authenticate(&sign("42", "two")).await.is_ok());
}

/// Makes an issuer's key; answers where its set is, and what it signs with.
fn outside_key(file: &Path) -> (String, EncodingKey) {
    let key = EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref());
    let public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
    std::fs::write(file, json!({ "keys": [public] }).to_string()).unwrap();
    (file.to_str().unwrap().to_owned(), key)
}

#[test]
fn an_outside_name_is_made_to_fit() {
    let id = "01890a5d-ac96-774b-bcce-b302deadbeef".parse().unwrap();
    for (wish, name) in [
        (Some("anna"), "anna"),
        (Some(" Anna_B-9 "), "Anna_B-9"),
        (Some("anna.berg@example.com"), "anna_berg"),
        (Some("Jürgen Groß"), "J_rgen_Gro_"),
        (Some(&*"x".repeat(80)), &*"x".repeat(50)),
        (Some("ab"), "user-deadbeef"),
        (Some("名前です"), "user-deadbeef"),
        (Some(""), "user-deadbeef"),
        (None, "user-deadbeef"),
    ] {
        assert_eq!(outside_name(wish, id).unwrap().as_str(), name, "{wish:?}");
    }
}
