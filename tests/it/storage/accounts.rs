//! Users: made, found, renamed.

use super::TestStore;
use super::fixture::a_follow;
use roost::model::id::UserId;
use roost::model::timestamp::Timestamp;
use roost::model::user::{Email, User, Username};
use roost::storage::{NewUser, Registration, Renaming};
use std::collections::HashSet;
use std::time::Duration;

pub async fn of_two_registrations_at_once_with_one_email_or_name_one_is_made(store: TestStore) {
    let one_email =
        ["anna", "berta"].map(|name| NewUser { email: store.email("one"), ..store.new_user(name) });
    one_is_made(&store, one_email, &Registration::EmailTaken).await;
    let one_name = ["x", "y"].map(|email| NewUser { email: store.email(email), ..store.new_user("carla") });
    one_is_made(&store, one_name, &Registration::UsernameTaken).await;
}

/// Which of them does not matter; of what was refused, nothing is left.
async fn one_is_made(store: &TestStore, both: [NewUser; 2], refusal: &Registration) {
    let ids = both.each_ref().map(|new| new.id);
    let [first, second] = both.map(|new| store.engine.register(new));
    let (first, second) = tokio::join!(first, second);
    let (made, refused) = match (first.unwrap(), second.unwrap()) {
        (Registration::Made(user), refused) => (user, refused),
        (refused, Registration::Made(user)) => (user, refused),
        both => panic!("{both:?}"),
    };
    assert_eq!(refused, *refusal);
    for id in ids {
        assert_eq!(store.engine.user(id).await.unwrap().is_some(), id == made.id);
    }
    assert_eq!(store.engine.credentials(mail(&made)).await.unwrap().unwrap().0, made);
    let by_name = store.engine.profile_by_name(made.username.clone(), made.id).await.unwrap().unwrap();
    assert_eq!(by_name.user, made);
}

fn mail(user: &User) -> Email {
    Email::parse(user.email.as_deref().unwrap()).unwrap()
}

pub async fn emails_and_names_are_unique_regardless_of_case(store: TestStore) {
    store.user("Anna").await;
    let same_name = NewUser { email: store.email("b"), ..store.new_user("aNNA") };
    assert_eq!(store.engine.register(same_name.clone()).await.unwrap(), Registration::UsernameTaken);
    let same_email = NewUser { email: store.email("ANNA"), ..store.new_user("ben") };
    assert_eq!(store.engine.register(same_email.clone()).await.unwrap(), Registration::EmailTaken);
    // What a refused one asked for beside that is not taken by it.
    let again = NewUser { email: same_name.email, ..store.new_user("carla") };
    assert!(matches!(store.engine.register(again).await.unwrap(), Registration::Made(_)));
    let again = NewUser { username: same_email.username, ..store.new_user("dora") };
    assert!(matches!(store.engine.register(again).await.unwrap(), Registration::Made(_)));
}

pub async fn credentials_are_found_by_the_email_regardless_of_case(store: TestStore) {
    let id = store.user("anna").await;
    let email = store.email("aNNA").unwrap();
    let (user, hash) = store.engine.credentials(email).await.unwrap().unwrap();
    assert_eq!((user.id, hash.as_deref()), (id, Some("hash of anna")));
    assert_eq!(user.email.as_deref(), Some(store.email("anna").unwrap().as_str()));
    let unknown = store.email("nobody").unwrap();
    assert_eq!(store.engine.credentials(unknown).await.unwrap(), None);
}

pub async fn a_user_is_found_by_its_id(store: TestStore) {
    let new = store.new_user("Anna");
    let Registration::Made(made) = store.engine.register(new.clone()).await.unwrap() else { panic!() };
    assert_eq!(made.id, new.id);
    assert_eq!((made.username.as_str(), made.updated_at), (store.name("Anna").as_str(), None));
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

    let by_name = store.engine.profile_by_name(store.name("aNnA"), ben).await.unwrap();
    assert_eq!(by_name, Some(seen));
    assert_eq!(store.engine.profile_by_name(store.name("nobody"), ben).await.unwrap(), None);
    assert_eq!(store.engine.profile(UserId::make(), ben).await.unwrap(), None);
}

pub async fn an_old_name_is_free_at_once(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let now = Timestamp::now().after(Duration::from_secs(1));
    let name = |text| Username::parse(&store.name(text)).unwrap();
    let Renaming::Done(renamed) = store.engine.rename(anna, name("Anita"), now).await.unwrap() else {
        panic!()
    };
    assert_eq!((renamed.username.as_str(), renamed.updated_at), (store.name("Anita").as_str(), Some(now)));
    assert_eq!(store.engine.user(anna).await.unwrap(), Some(renamed));

    assert!(matches!(store.engine.rename(ben, name("anna"), now).await.unwrap(), Renaming::Done(_)));
    assert_eq!(store.engine.rename(ben, name("ANITA"), now).await.unwrap(), Renaming::Taken);
    assert_eq!(store.engine.rename(UserId::make(), name("nobody"), now).await.unwrap(), Renaming::Missing);
    // One's own name in other letters is not somebody else's.
    assert!(matches!(store.engine.rename(anna, name("ANITA"), now).await.unwrap(), Renaming::Done(_)));
}

fn outside(store: &TestStore, name: &str) -> NewUser {
    NewUser { email: None, password_hash: None, ..store.new_user(name) }
}

pub async fn an_outside_user_is_made_at_first_use(store: TestStore) {
    let use_it = |issuer: &str, subject: &str| {
        store.engine.outside_user(issuer.to_owned(), store.name(subject), outside(&store, "anna"))
    };
    let made = use_it("https://issuer", "1").await.unwrap();
    assert_eq!((made.username.as_str(), made.email.as_deref()), (store.name("anna").as_str(), None));
    assert_eq!(use_it("https://issuer", "1").await.unwrap(), made);
    let others = [use_it("https://issuer", "2").await.unwrap(), use_it("https://other", "1").await.unwrap()];
    let ids: HashSet<_> = others.iter().map(|user| user.id).chain([made.id]).collect();
    assert_eq!(ids.len(), 3);

    let [first, second] = ["3"; 2].map(|subject| use_it("https://issuer", subject));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap().id, second.unwrap().id);
}

pub async fn an_outside_user_whose_name_is_taken_gets_a_number(store: TestStore) {
    let longest = "x".repeat(50 - store.name("").len());
    for text in ["Anna", &longest] {
        store.user(text).await;
        let wanted = store.name(text);
        for number in 0..40 {
            let subject = format!("{wanted}{number}");
            let new = outside(&store, text);
            let user = store.engine.outside_user("issuer".to_owned(), subject, new).await.unwrap();
            let (stem, suffix) = user.username.rsplit_once('-').expect("a hyphen");
            assert!(wanted.starts_with(stem) && suffix.parse::<u64>().is_ok(), "{}", user.username);
            assert!(Username::parse(&user.username).is_ok(), "{}", user.username);
        }
    }
    // They are users as others are.
    let follow = a_follow(store.user("ben").await, store.user("carla").await);
    assert!(store.engine.follow(follow, 10).await.is_ok());
}
