//! Names and addresses: what an ended process left of a claim is in nobody's way, and what is somebody's is
//! never taken over. Registrations and changes of name while answers are lost and processes end.

use super::faults::{again, behind, healed, redrive, store_of};
use super::{Keyspace, RUNTIME, alone, session};
use crate::harness::dice::Dice;
use crate::harness::engines::cql_nodes;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::storage::fixture::TestStore;
use futures_util::future::join_all;
use roost::model::id::UserId;
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::{NewUser, Registration, Renaming, StorageError};
use scylla::client::session::Session;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Those who act at once, and how often each does.
const ACTORS: usize = 8;
const ACTS: usize = 12;

/// A store of the test's own, and the way to its rows.
fn with_rows<F: Future<Output = ()>>(test: impl FnOnce(TestStore, Session) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let keyspace = Keyspace::new(&nodes);
        let rows = session(&nodes).await;
        let name = keyspace.access.keyspace.clone();
        let store = alone(keyspace).await;
        rows.use_keyspace(name, false).await.unwrap();
        test(store, rows).await;
    });
}

/// A claim of `user` for what `new` wants, made so long ago.
async fn claim(rows: &Session, new: &NewUser, user: UserId, age: Duration) {
    let claimed_at = Timestamp::now().before(age).millis();
    let (name, email) = (new.username.key(), new.email.as_ref().unwrap().key());
    for (table, column, key) in [("users_by_username", "username", name), ("users_by_email", "email", email)]
    {
        let text = format!(
            "INSERT INTO {table} ({column}, user, state, claimed_at, version) VALUES (?, ?, 0, ?, 1) IF NOT EXISTS"
        );
        rows.query_unpaged(text, (key, user.0, claimed_at)).await.unwrap();
    }
}

#[test]
fn a_claim_whose_registration_never_ended_is_taken_over_and_the_registration_is_never_made() {
    with_rows(|store, rows| async move {
        let (ghost, new) = (UserId::make(), store.new_user("anna"));
        claim(&rows, &new, ghost, Duration::from_secs(11)).await;
        let made = store.engine.register(new.clone()).await.unwrap();
        assert!(matches!(made, Registration::Made(user) if user.id == new.id));
        // The ghost goes on where it was, too late.
        let late = NewUser { id: ghost, ..store.new_user("ghost") };
        assert!(matches!(store.engine.register(late).await, Err(StorageError::Unavailable(_))));
        assert_eq!(store.engine.user(ghost).await.unwrap(), None);
        assert_eq!(store.engine.profile_by_name(store.name("ghost"), new.id).await.unwrap(), None);
        let again = store.engine.register(store.new_user("ghost")).await.unwrap();
        assert!(matches!(again, Registration::Made(_)), "{again:?}");
    });
}

#[test]
fn a_claim_that_is_under_way_is_let_be() {
    with_rows(|store, rows| async move {
        let (ghost, new) = (UserId::make(), store.new_user("anna"));
        claim(&rows, &new, ghost, Duration::ZERO).await;
        assert_eq!(store.engine.register(new.clone()).await.unwrap(), Registration::EmailTaken);
        let other = NewUser { email: store.email("other"), ..new.clone() };
        assert_eq!(store.engine.register(other.clone()).await.unwrap(), Registration::UsernameTaken);
        // What was claimed beside it is free again.
        let again = NewUser { email: other.email, ..store.new_user("berta") };
        assert!(matches!(store.engine.register(again).await.unwrap(), Registration::Made(_)));
    });
}

#[test]
fn what_a_user_has_is_not_taken_over_whatever_its_claim_says() {
    with_rows(|store, rows| async move {
        let anna = store.user("anna").await;
        for (table, column, key) in [
            ("users_by_username", "username", store.name("anna")),
            ("users_by_email", "email", format!("{}@example.com", store.name("anna"))),
        ] {
            let text = format!("UPDATE {table} SET state = 0, claimed_at = 0 WHERE {column} = ? IF EXISTS");
            rows.query_unpaged(text, (key,)).await.unwrap();
        }
        let same_email = NewUser { email: store.email("anna"), ..store.new_user("berta") };
        assert_eq!(store.engine.register(same_email).await.unwrap(), Registration::EmailTaken);
        let same_name = NewUser { email: store.email("berta"), ..store.new_user("anna") };
        assert_eq!(store.engine.register(same_name).await.unwrap(), Registration::UsernameTaken);
        let name = Username::parse(&store.name("anita")).unwrap();
        assert!(matches!(
            store.engine.rename(anna, name, Timestamp::now()).await.unwrap(),
            Renaming::Done(_)
        ));
    });
}

#[test]
fn a_name_that_its_user_no_longer_has_is_free_whatever_its_claim_says() {
    with_rows(|store, rows| async move {
        let anna = store.user("anna").await;
        let name = Username::parse(&store.name("anita")).unwrap();
        assert!(matches!(
            store.engine.rename(anna, name, Timestamp::now()).await.unwrap(),
            Renaming::Done(_)
        ));
        let text = "UPDATE users_by_username SET state = 1, user = ? WHERE username = ? IF EXISTS";
        rows.query_unpaged(text, (anna.0, store.name("anna"))).await.unwrap();
        assert_eq!(store.engine.profile_by_name(store.name("anna"), anna).await.unwrap(), None);
        let new = NewUser { email: store.email("other"), ..store.new_user("anna") };
        assert!(matches!(store.engine.register(new).await.unwrap(), Registration::Made(_)));
    });
}

/// What some asked for at once, and what they were told.
struct Acts {
    store: Arc<TestStore>,
    asked: Mutex<Vec<NewUser>>,
    /// Names that were given, by whose they were: a change each.
    renamed: Mutex<HashMap<UserId, usize>>,
    acted: watch::Sender<usize>,
}

impl Acts {
    fn new(store: Arc<TestStore>) -> Arc<Self> {
        let acted = watch::Sender::new(0);
        Arc::new(Self { store, asked: Mutex::default(), renamed: Mutex::default(), acted })
    }

    /// Registers, renames, comes from outside; few names, so that many meet.
    async fn act(self: Arc<Self>, mut dice: Dice) {
        let mut own = None;
        for _ in 0..ACTS {
            let name = format!("name{}", dice.below(12));
            match own {
                Some(id) if !dice.one_in(3) => {
                    let name = Username::parse(&self.store.name(&name)).unwrap();
                    if let Ok(Renaming::Done(_)) = self.store.engine.rename(id, name, Timestamp::now()).await
                    {
                        *self.renamed.lock().unwrap().entry(id).or_default() += 1;
                    }
                }
                _ => {
                    let email = self.store.email(&format!("mail{}", dice.below(30)));
                    let new = NewUser { email, ..self.store.new_user(&name) };
                    self.asked.lock().unwrap().push(new.clone());
                    if let Ok(Registration::Made(user)) = self.store.engine.register(new).await {
                        own = Some(user.id);
                    }
                }
            }
            self.acted.send_modify(|acted| *acted += 1);
        }
    }

    /// Who is there has its name and address alone and was told of once; what nobody has is free.
    async fn check(&self, store: &TestStore) {
        let events = kinds_by_user(store).await;
        let (mut names, mut emails) = (HashMap::new(), HashMap::new());
        for new in self.asked.lock().unwrap().clone() {
            let found = store.engine.user(new.id).await.unwrap();
            let told = |kind: &str| events.get(&(new.id.to_string(), kind.to_owned())).copied().unwrap_or(0);
            let Some(user) = found else {
                assert_eq!((told("registered"), told("profile-updated")), (0, 0), "{new:?} is not there");
                continue;
            };
            assert_eq!(told("registered"), 1, "{user:?}");
            let renamed = self.renamed.lock().unwrap().get(&user.id).copied().unwrap_or(0);
            assert!(told("profile-updated") >= renamed, "{user:?}: {renamed} times");
            assert_eq!(user.updated_at.is_some(), told("profile-updated") > 0, "{user:?}");
            assert_eq!(names.insert(user.username.to_ascii_lowercase(), user.id), None, "{user:?}");
            assert_eq!(emails.insert(user.email.clone().unwrap(), user.id), None, "{user:?}");
            let by_name = store.engine.profile_by_name(user.username.clone(), user.id).await.unwrap();
            assert_eq!(by_name.map(|profile| profile.user), Some(user.clone()));
            let by_email = store.engine.credentials(new.email.unwrap()).await.unwrap();
            assert_eq!(by_email.map(|(user, _)| user), Some(user));
        }
        for number in 0..12 {
            let new = NewUser {
                email: store.email(&format!("late{number}")),
                username: Username::parse(&self.store.name(&format!("name{number}"))).unwrap(),
                ..store.new_user("late")
            };
            let is_taken = names.contains_key(&new.username.key());
            let outcome = store.engine.register(new).await.unwrap();
            assert_eq!(outcome == Registration::UsernameTaken, is_taken, "name{number}: {outcome:?}");
        }
        for number in 0..30 {
            let email = self.store.email(&format!("mail{number}"));
            let is_taken = emails.contains_key(email.as_ref().unwrap().as_str());
            let new = NewUser { email, ..store.new_user(&format!("later{number}")) };
            let outcome = store.engine.register(new).await.unwrap();
            assert_eq!(outcome == Registration::EmailTaken, is_taken, "mail{number}: {outcome:?}");
        }
    }
}

/// How many events of each kind there are of each user.
async fn kinds_by_user(store: &TestStore) -> HashMap<(String, String), usize> {
    let mut kinds = HashMap::new();
    for event in
        store.engine.due_events(Timestamp::now().after(Duration::from_secs(60)), 10_000).await.unwrap()
    {
        let event: serde_json::Value = serde_json::from_str(&event.event).unwrap();
        let kind = event["type"].as_str().unwrap().replace("com.mini-sns.user.", "");
        let user = event["data"]["userId"].as_str().unwrap().to_owned();
        *kinds.entry((user, kind)).or_default() += 1;
    }
    kinds
}

#[test]
fn lost_answers_leave_each_name_one_owner_and_each_change_one_event() {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let mut dice = Dice::thrown("lost_answers_leave_each_name_one_owner_and_each_change_one_event");
        let proxy = FaultProxy::to(&nodes[0]).await;
        let store = Arc::new(behind(&proxy, &nodes, Keyspace::new(&nodes)).await);
        let acts = Acts::new(store.clone());
        let acting = join_all((0..ACTORS).map(|_| acts.clone().act(dice.split())));
        let mut acted = acts.acted.subscribe();
        let disturbing = async {
            let mut next = 0;
            while next < ACTORS * ACTS - 10 {
                next += 2 + dice.below(4);
                acted.wait_for(|acted| *acted >= next).await.unwrap();
                proxy.set(Mode::LoseOneAnswer).await;
            }
        };
        tokio::join!(acting, disturbing);
        proxy.set(Mode::Pass).await;
        healed(&store).await;
        assert!(proxy.answers_lost() > 5, "only {} answers were lost", proxy.answers_lost());
        store.engine.close().await.unwrap();
        let next = again(&store).await;
        redrive(&next).await;
        acts.check(&next).await;
    });
}

/// A process that ends in the midst of everything: all its tasks stop where they wait.
#[test]
fn a_crash_leaves_each_name_one_owner_and_each_change_one_event() {
    let Some(nodes) = cql_nodes() else { return };
    let mut dice = Dice::thrown("a_crash_leaves_each_name_one_owner_and_each_change_one_event");
    for _ in 0..2 {
        let keyspace = Arc::new(Keyspace::new(&nodes));
        let process = Runtime::new().unwrap();
        let acts = process.block_on(async {
            let acts = Acts::new(Arc::new(store_of(&keyspace).await));
            redrive(&acts.store).await;
            let mut acted = acts.acted.subscribe();
            for _ in 0..ACTORS {
                tokio::spawn(acts.clone().act(dice.split()));
            }
            let enough = 5 + dice.below(ACTORS * ACTS - 30);
            acted.wait_for(|acted| *acted >= enough).await.unwrap();
            acts
        });
        // Tasks are dropped at whatever they await.
        process.shutdown_background();
        RUNTIME.block_on(async {
            let store = store_of(&keyspace).await;
            redrive(&store).await;
            acts.check(&store).await;
        });
    }
}
