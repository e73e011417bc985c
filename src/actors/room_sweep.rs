//! Rooms where nobody was for a day end: looked for now and then, a page at a time.

use super::room::IDLE;
use crate::model::id::RoomId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::rooms::Rooms;
use std::time::Duration;

/// Between two looks for rooms where nobody is.
pub const BETWEEN: Duration = Duration::from_secs(3600);
/// Rooms that are looked for at once.
const PAGE: usize = 1_000;

/// Looks for such rooms of these shards and has them ended by `end`, which answers whether it did; goes on while a page is full and
/// something of it ends. Those that do not end are left for the next time.
pub async fn sweep<F: Future<Output = Result<bool, StorageError>>>(
    store: &dyn Rooms,
    ours: impl Fn() -> Vec<Shard>,
    end: impl Fn(RoomId) -> F,
) {
    loop {
        let idle = match store.idle_rooms(ours(), Timestamp::now().before(IDLE), PAGE).await {
            Ok(idle) => idle,
            Err(error) => {
                tracing::warn!(%error, "rooms where nobody is cannot be found: {error}");
                return;
            }
        };
        let (is_full, mut ended) = (idle.len() >= PAGE, false);
        for room in idle {
            match end(room).await {
                Ok(has_ended) => ended |= has_ended,
                Err(error) => {
                    tracing::warn!(%room, %error, "room {room}, where nobody is, is not ended: {error}")
                }
            }
        }
        if !is_full || !ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, sweep};
    use crate::actors::room::stub::Stub;
    use crate::model::id::RoomId;
    use crate::storage::StorageError;
    use std::future::ready;
    use std::sync::Mutex;

    /// Asks for all of those to end of which `ends` says so; answers how many were asked for.
    async fn swept(many: usize, ends: impl Fn(usize) -> Result<bool, StorageError>) -> (usize, Stub) {
        let store = Stub::default();
        store.idle.lock().unwrap().extend((0..many).map(|_| RoomId::make()));
        let asked = Mutex::new(0);
        let end = |room: RoomId| {
            let number = {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                *asked
            };
            let ended = ends(number);
            if matches!(ended, Ok(true)) {
                store.idle.lock().unwrap().retain(|idle| *idle != room);
            }
            ready(ended)
        };
        sweep(&store, Vec::new, end).await;
        (asked.into_inner().unwrap(), store)
    }

    #[tokio::test]
    async fn it_goes_on_until_no_page_is_full() {
        let (asked, store) = swept(2 * PAGE + 7, |_| Ok(true)).await;
        assert_eq!((asked, store.idle.lock().unwrap().len()), (2 * PAGE + 7, 0));
    }

    #[tokio::test]
    async fn it_does_not_ask_for_ever_for_those_that_do_not_end() {
        assert_eq!(swept(2 * PAGE, |_| Ok(false)).await.0, PAGE);
        let lost = |_| Err(StorageError::Unavailable("gone".to_owned()));
        assert_eq!(swept(2 * PAGE, lost).await.0, PAGE);
        // One that ends is worth another look.
        assert_eq!(swept(2 * PAGE, |number| Ok(number == PAGE)).await.0, 2 * PAGE);
    }
}
