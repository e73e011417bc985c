//! Ended logins: known in this process, told to other nodes over the channel `roost:revoked`.
//!
//! The store has every one of them; Redis only hurries. So whatever may have been missed is read of the
//! store again: by this node when its subscription begins (again) or it was too slow to listen, by all
//! nodes when one could not tell what it had to tell.

use super::OpenError;
use super::connection::Settings;
use super::link::{Does, Link};
use super::subscription;
use crate::model::id::LoginId;
use crate::model::timestamp::Timestamp;
use crate::storage::memory::RevokedLogins;
use crate::storage::volatile::{Asked, Revocations};
use fred::interfaces::PubsubInterface;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

const CHANNEL: &str = "roost:revoked";
/// Said instead of a login: somebody could not tell; read the store.
const READ_AGAIN: &str = "*";
/// Between two tries to tell what could not be told.
const BEAT: Duration = Duration::from_secs(1);
/// Before the store, which could not be read again, is tried anew.
const RETRY: Duration = Duration::from_secs(1);

/// Ended logins of all nodes.
pub struct SharedRevocations {
    link: Arc<Link>,
    known: RevokedLogins,
    /// Whether something could not be told to the others.
    untold: Arc<AtomicBool>,
}

/// What the app does with news.
pub struct News {
    /// A login was ended elsewhere: whatever is open by it closes.
    pub ended: Box<dyn Fn(LoginId) + Send + Sync>,
    /// News may have been missed: reads the store's list again; answers whether it could.
    pub missed: Box<dyn Fn() -> Asked<bool> + Send + Sync>,
}

impl SharedRevocations {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, known: RevokedLogins::default(), untold: Arc::default() }
    }
}

impl Revocations for SharedRevocations {
    fn revoke(&self, login: LoginId, expires_at: Timestamp) -> Asked<()> {
        self.known.learn(login, expires_at);
        let (link, untold) = (self.link.clone(), self.untold.clone());
        let telling = tokio::spawn(async move {
            if !publish(&link, format!("{login} {}", expires_at.millis())).await {
                untold.store(true, Ordering::SeqCst);
            }
        });
        Box::pin(async move { drop(telling.await) })
    }

    fn learn(&self, login: LoginId, expires_at: Timestamp) -> bool {
        self.known.learn(login, expires_at)
    }

    fn is_revoked(&self, login: LoginId) -> bool {
        self.known.is_revoked(login)
    }
}

async fn publish(link: &Link, news: String) -> bool {
    let publishing = link.client().publish::<(), _, _>(CHANNEL, news);
    link.ask(Does::Read, publishing).await.is_ok()
}

/// Starts to listen, and to tell what could not be told.
pub(super) fn listen(
    settings: &Settings,
    revocations: Arc<SharedRevocations>,
    news: News,
    tasks: &mut JoinSet<()>,
) -> Result<(), OpenError> {
    // Somebody is to read the store again; several at once are one.
    let missed = Arc::new(Notify::new());
    let news = Arc::new(news);
    let (heard, known, to_miss) = (news.clone(), revocations.clone(), missed.clone());
    let tell = move |said: subscription::News<'_>| match said {
        subscription::News::Said(READ_AGAIN) | subscription::News::MayHaveMissed => to_miss.notify_one(),
        subscription::News::Said(said) => match parse(said) {
            Some((login, expires_at)) if known.learn(login, expires_at) => (heard.ended)(login),
            Some(_) => {}
            None => tracing::debug!("news on {CHANNEL} that are not understood"),
        },
    };
    subscription::listen(settings, CHANNEL, tell, tasks)?;
    tasks.spawn(async move {
        loop {
            missed.notified().await;
            while !(news.missed)().await {
                sleep(RETRY).await;
            }
        }
    });
    tasks.spawn(async move {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let SharedRevocations { link, untold, .. } = &*revocations;
            if untold.swap(false, Ordering::SeqCst) && !publish(link, READ_AGAIN.to_owned()).await {
                untold.store(true, Ordering::SeqCst);
            }
        }
    });
    Ok(())
}

fn parse(said: &str) -> Option<(LoginId, Timestamp)> {
    let (login, millis) = said.split_once(' ')?;
    Some((login.parse().ok()?, Timestamp::from_millis(millis.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_not_understood_is_no_news() {
        let login = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(parse(&format!("{login} 5")).is_some_and(|(_, at)| at.millis() == 5));
        for odd in ["", "x", login, "x 5", &format!("{login} soon"), &format!("{login}  5 6")] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
