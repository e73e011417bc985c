//! All places that events are sent to: an event is sent when each of them has accepted it.
//!
//! It remembers which of them have an event that another refused, so that they are not sent it again with
//! each try; of more than a bounded number of such events it forgets, and they are.

use super::Outlet;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Events that some have and others not, about whom it remembers.
const HALF_SENT: usize = 10_000;

/// Where events go.
pub struct Outlets {
    outlets: Vec<Box<dyn Outlet>>,
    // A std mutex: nothing awaits under it.
    half_sent: Mutex<HashMap<u64, Vec<usize>>>,
}

impl Outlets {
    /// These; none where there are none, and no events are kept to be sent.
    #[must_use]
    pub fn new(outlets: Vec<Box<dyn Outlet>>) -> Option<Self> {
        if outlets.is_empty() { None } else { Some(Self { outlets, half_sent: Mutex::default() }) }
    }

    /// Sends an event to each that does not have it yet; `job` is its number among those to be sent.
    ///
    /// # Errors
    /// Why not all of them have it now.
    pub async fn send(&self, job: u64, event: &str) -> Result<(), String> {
        let mut having = self.take(job);
        let mut refusals = Vec::new();
        for (number, outlet) in self.outlets.iter().enumerate() {
            if having.contains(&number) {
                continue;
            }
            match outlet.send(event).await {
                Ok(()) => having.push(number),
                Err(why) => refusals.push(why),
            }
        }
        if refusals.is_empty() {
            return Ok(());
        }
        self.remember(job, having);
        Err(refusals.join("; "))
    }

    /// An event is not tried again, or by another number.
    pub fn forget(&self, job: u64) {
        drop(self.take(job));
    }

    fn take(&self, job: u64) -> Vec<usize> {
        let mut half_sent = self.half_sent.lock().unwrap_or_else(PoisonError::into_inner);
        half_sent.remove(&job).unwrap_or_default()
    }

    fn remember(&self, job: u64, having: Vec<usize>) {
        let mut half_sent = self.half_sent.lock().unwrap_or_else(PoisonError::into_inner);
        if !having.is_empty() && half_sent.len() < HALF_SENT {
            half_sent.insert(job, having);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outlets;
    use crate::events::Outlet;
    use std::future::{Future, ready};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[derive(Clone, Default)]
    struct Letterbox {
        accepts: Arc<AtomicBool>,
        tries: Arc<AtomicUsize>,
    }

    impl Outlet for Letterbox {
        fn send<'a>(&'a self, _: &'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
            self.tries.fetch_add(1, Ordering::SeqCst);
            let accepts = self.accepts.load(Ordering::SeqCst);
            Box::pin(ready(if accepts { Ok(()) } else { Err("no".to_owned()) }))
        }
    }

    #[tokio::test]
    async fn who_has_an_event_is_not_sent_it_again_for_anothers_sake() {
        let (first, second) = (Letterbox::default(), Letterbox::default());
        first.accepts.store(true, Ordering::SeqCst);
        let outlets = Outlets::new(vec![Box::new(first.clone()), Box::new(second.clone())]).unwrap();
        assert_eq!(outlets.send(7, "{}").await, Err("no".to_owned()));
        assert_eq!(outlets.send(7, "{}").await, Err("no".to_owned()));
        second.accepts.store(true, Ordering::SeqCst);
        assert_eq!(outlets.send(7, "{}").await, Ok(()));
        let tries = |outlet: &Letterbox| outlet.tries.load(Ordering::SeqCst);
        assert_eq!((tries(&first), tries(&second)), (1, 3));
        // A dead letter that is sent again is new to everybody.
        second.accepts.store(false, Ordering::SeqCst);
        assert!(outlets.send(8, "{}").await.is_err());
        outlets.forget(8);
        assert!(outlets.send(8, "{}").await.is_err());
        assert_eq!(tries(&first), 3);
    }
}
