//! Keeping the store: whether it works, what is removed, and its end.

use super::Store;
use super::cql::statements;
use super::stamp;
use crate::model::cursor::Seq;
use crate::model::timestamp::Timestamp;
use crate::storage::{EntryClock, Pending, Upkeep};
use futures_util::FutureExt;
use std::time::Duration;

/// How long calls under way may take when the store is closed.
const FAREWELL: Duration = Duration::from_secs(10);

statements! {
    /// What upkeep sends.
    Statements {
        alive: Read, "SELECT value FROM meta WHERE name = 'store_name'";
    }
}

impl EntryClock for Store {
    fn head(&self) -> Seq {
        self.0.clock.head()
    }

    fn advance(&self, past: Seq) {
        self.0.clock.advance(past);
    }

    fn earlier(&self, seq: Seq, by: Duration) -> Seq {
        stamp::earlier(seq, by)
    }

    fn at(&self, time: Timestamp) -> Seq {
        stamp::at(time)
    }

    fn between(&self, earlier: Seq, later: Seq) -> Duration {
        stamp::between(earlier, later)
    }
}

impl Upkeep for Store {
    fn check(&self) -> Pending<()> {
        self.read(|inner| async move {
            let _: Option<(i64,)> = inner.cql.first(&inner.upkeep.alive, ()).await?;
            Ok(())
        })
    }

    fn head(&self) -> Pending<Seq> {
        self.read(|inner| async move { Ok(inner.clock.head()) })
    }

    fn sweep(&self, now: Timestamp) -> Pending<u64> {
        self.change(move |inner| async move {
            inner.lanes.retire();
            inner.tidy_talks(now).await?;
            inner.clear_done(now).await
        })
    }

    fn close(&self) -> Pending<()> {
        let inner = self.0.clone();
        // Whoever waits for all places knows that nothing is under way, and lets nothing begin from now on.
        let mut all = Box::pin(inner.calls.clone().acquire_many_owned(super::CALLS as u32));
        let taken = (&mut all).now_or_never();
        Box::pin(async move {
            let all = match taken {
                Some(taken) => Ok(taken),
                None => tokio::time::timeout(FAREWELL, all).await,
            };
            if let Ok(Ok(places)) = all {
                places.forget();
            }
            inner.calls.close();
            Ok(())
        })
    }
}
