//! Users: made, found, renamed.

use super::TestStore;
use super::fixture::{a_follow, new_user};
use roost::model::id::UserId;
use roost::model::timestamp::Timestamp;
use roost::model::user::{Email, Username};
use roost::storage::{NewUser, Registration, Renaming};
use std::collections::HashSet;
use std::time::Duration;

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub async fn of_two_registrations_at_once_with_one_email_or_name_one_is_made(store: TestStore) {
    let one_email = ["anna", "berta"]
        .map(|name| NewUser { email: Some(Email::parse("one@example.com").unwrap()), ..new_user(name) });
    let [first, second] = one_email.map(|new| store.engine.register(new));
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first.unwrap(), Registration::Made(_)));
    assert_eq!(second.unwrap(), Registration::EmailTaken);

    let one_name = ["x@example.com", "y@example.com"]
        .map(|email| NewUser { email: Some(Email::parse(email).unwrap()), ..new_user("carla") });
    let [first, second] = one_name.map(|new| store.engine.register(new));
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first.unwrap(), Registration::Made(_)));
    assert_eq!(second.unwrap(), Registration::UsernameTaken);
}

pub async fn emails_and_names_are_unique_regardless_of_case(store: TestStore) {
    store.user("Anna").await;
    let same_name = NewUser { email: Some(Email::parse("b@example.com").unwrap()), ..new_user("aNNA") };
    assert_eq!(store.engine.register(same_name).await.unwrap(), Registration::UsernameTaken);
    let same_email = NewUser { email: Some(Email::parse("ANNA@Example.com").unwrap()), ..new_user("ben") };
    assert_eq!(store.engine.register(same_email).await.unwrap(), Registration::EmailTaken);
}

pub async fn credentials_are_found_by_the_email_regardless_of_case(store: TestStore) {
    let id = store.user("anna").await;
    let email = Email::parse("Anna@EXAMPLE.com").unwrap();
    let (user, hash) = store.engine.credentials(email).await.unwrap().unwrap();
    assert_eq!((user.id, hash.as_deref()), (id, Some("hash of anna")));
    assert_eq!(user.email.as_deref(), Some("anna@example.com"));
    let unknown = Email::parse("nobody@example.com").unwrap();
    assert_eq!(store.engine.credentials(unknown).await.unwrap(), None);
}

pub async fn a_user_is_found_by_its_id(store: TestStore) {
    let new = new_user("Anna");
    let Registration::Made(made) = store.engine.register(new.clone()).await.unwrap() else { panic!() };
    assert_eq!(made.id, new.id);
    assert_eq!((made.username.as_str(), made.updated_at), ("Anna", None));
    assert_eq!(made.created_at, new.created_at);
    assert_eq!(store.engine.user(new.id).await.unwrap(), Some(made));
    assert_eq!(store.engine.user(UserId::make()).await.unwrap(), None);
}

pub async fn a_profile_is_as_its_viewer_sees_it(store: TestStore) {
    let (anna, ben) = (store.user("Anna").await, store.user("ben").await);
    store.follow(ben, anna).await;
    store.post_many(anna, 2).await;

    let seen = store.engine.profile(anna, ben).await.unwrap().unwrap();
    assert_eq!((seen.posts, seen.followers, seen.following, seen.is_following), (2, 1, 0, true));
    let own = store.engine.profile(anna, anna).await.unwrap().unwrap();
    assert!(!own.is_following);
    let other = store.engine.profile(ben, anna).await.unwrap().unwrap();
    assert_eq!((other.posts, other.followers, other.following, other.is_following), (0, 0, 1, false));

    let by_name = store.engine.profile_by_name("aNnA".to_owned(), ben).await.unwrap();
    assert_eq!(by_name, Some(seen));
    assert_eq!(store.engine.profile_by_name("nobody".to_owned(), ben).await.unwrap(), None);
    assert_eq!(store.engine.profile(UserId::make(), ben).await.unwrap(), None);
}

pub async fn an_old_name_is_free_at_once(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let now = Timestamp::now().after(Duration::from_secs(1));
    let Renaming::Done(renamed) = store.engine.rename(anna, name("Anita"), now).await.unwrap() else {
        panic!()
    };
    assert_eq!((renamed.username.as_str(), renamed.updated_at), ("Anita", Some(now)));
    assert_eq!(store.engine.user(anna).await.unwrap(), Some(renamed));

    assert!(matches!(store.engine.rename(ben, name("anna"), now).await.unwrap(), Renaming::Done(_)));
    assert_eq!(store.engine.rename(ben, name("ANITA"), now).await.unwrap(), Renaming::Taken);
    assert_eq!(store.engine.rename(UserId::make(), name("nobody"), now).await.unwrap(), Renaming::Missing);
    // One's own name in other letters is not somebody else's.
    assert!(matches!(store.engine.rename(anna, name("ANITA"), now).await.unwrap(), Renaming::Done(_)));
}

fn outside(name: &str) -> NewUser {
    NewUser { email: None, password_hash: None, ..new_user(name) }
}

pub async fn an_outside_user_is_made_at_first_use(store: TestStore) {
    let use_it = |issuer: &str, subject: &str| {
        store.engine.outside_user(issuer.to_owned(), subject.to_owned(), outside("anna"))
    };
    let made = use_it("https://issuer", "1").await.unwrap();
    assert_eq!((made.username.as_str(), made.email.as_deref()), ("anna", None));
    assert_eq!(use_it("https://issuer", "1").await.unwrap(), made);
    let others = [use_it("https://issuer", "2").await.unwrap(), use_it("https://other", "1").await.unwrap()];
    let ids: HashSet<_> = others.iter().map(|user| user.id).chain([made.id]).collect();
    assert_eq!(ids.len(), 3);

    let [first, second] = ["3"; 2].map(|subject| use_it("https://issuer", subject));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap().id, second.unwrap().id);
}

pub async fn an_outside_user_whose_name_is_taken_gets_a_number(store: TestStore) {
    let longest = "x".repeat(50);
    for wanted in ["Anna", &longest] {
        store.user(wanted).await;
        for number in 0..40 {
            let subject = format!("{wanted}{number}");
            let user =
                store.engine.outside_user("issuer".to_owned(), subject, outside(wanted)).await.unwrap();
            let (stem, suffix) = user.username.rsplit_once('-').expect("a hyphen");
            assert!(wanted.starts_with(stem) && suffix.parse::<u64>().is_ok(), "{}", user.username);
            assert!(Username::parse(&user.username).is_ok(), "{}", user.username);
        }
    }
    // They are users as others are.
    let follow = a_follow(store.user("ben").await, store.user("carla").await);
    assert!(store.engine.follow(follow, 10).await.is_ok());
}
