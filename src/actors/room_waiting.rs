//! Callers that wait for an answer, in order.
//!
//! Who has gone waits no more: those are dropped when it is their turn, and when there are many. Callers are bounded by whoever
//! lets them in, hence what is kept here is, too.

use super::room::Reply;
use std::collections::VecDeque;

/// How many are kept before those who have gone are looked for: twice as many as may wait.
const MANY: usize = 2 * super::rooms::WAITING;

/// Callers, and what each waits with.
pub struct Waiting<W, T>(VecDeque<(W, Reply<T>)>);

impl<W, T> Default for Waiting<W, T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<W, T> Waiting<W, T> {
    /// One more, behind the others.
    pub fn push(&mut self, with: W, reply: Reply<T>) {
        if self.0.len() >= MANY {
            self.0.retain(|(_, reply)| !reply.is_closed());
        }
        self.0.push_back((with, reply));
    }

    /// The first that has not gone.
    pub fn pop(&mut self) -> Option<(W, Reply<T>)> {
        while let Some((with, reply)) = self.0.pop_front() {
            if !reply.is_closed() {
                return Some((with, reply));
            }
        }
        None
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All are answered.
    pub fn answer(self, what: impl Fn(W) -> Option<T>) {
        for (with, reply) in self.0 {
            // Whoever does not wait any more needs no answer.
            let _ = reply.send(what(with));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MANY, Waiting};

    #[test]
    fn who_has_gone_is_passed_over_and_makes_room() {
        let mut waiting = Waiting::default();
        let mut callers = Vec::new();
        for number in 0..2 * MANY {
            let (reply, answer) = ractor::concurrency::oneshot::<Option<()>>();
            waiting.push(number, reply.into());
            // Of a hundred one stays.
            if number % 100 == 99 {
                callers.push(answer);
            }
        }
        assert!(waiting.0.len() <= MANY + callers.len(), "{}", waiting.0.len());
        assert_eq!(waiting.pop().map(|(number, _)| number), Some(99));
        assert_eq!(waiting.pop().map(|(number, _)| number), Some(199));
        drop(callers);
        assert!(waiting.pop().is_none() && waiting.is_empty());
    }
}
