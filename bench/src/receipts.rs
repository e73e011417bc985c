//! Receipts of chat messages, joined with their 201 once a round is over.
//!
//! An event names only its message, and may arrive before the publisher has read which message that is; so listeners note
//! who got what when, and all is counted afterwards.

use std::collections::{HashMap, HashSet};

use hdrhistogram::Histogram;
use uuid::Uuid;

use crate::board::Board;
use crate::stats::latencies;

/// A listener was told of a message.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// Which.
    pub message: Uuid,
    /// The listener's index.
    pub listener: usize,
    /// When, in nanoseconds of the Unix clock.
    pub at: u64,
}

/// What receipts amount to.
#[derive(Debug)]
pub struct Joined {
    /// Each once a listener.
    pub delivered: u64,
    /// Those that the listener had already.
    pub repeated: u64,
    /// Microseconds from the 201 to the receipt; 0 where the event came first.
    pub from_answer: Histogram<u64>,
}

/// Puts the receipts of these messages on the board, and counts them; those of others are left out.
pub fn join(receipts: &[Receipt], messages: &HashMap<Uuid, u32>, board: &Board) -> Joined {
    let mut joined = Joined { delivered: 0, repeated: 0, from_answer: latencies() };
    let mut seen = HashSet::with_capacity(receipts.len());
    for receipt in receipts {
        let Some(number) = messages.get(&receipt.message) else {
            continue;
        };
        if !seen.insert((receipt.listener, *number)) {
            joined.repeated += 1;
            continue;
        }
        joined.delivered += 1;
        let answered_at = board.received(*number, receipt.at).unwrap_or(receipt.at);
        joined.from_answer.saturating_record(receipt.at.saturating_sub(answered_at) / 1_000);
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use uuid::Uuid;

    use super::{Receipt, join};
    use crate::board::Board;

    #[test]
    fn each_message_counts_once_a_listener_and_others_not_at_all() {
        let board = Board::new(2);
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        board.answered(0, 1_000_000);
        board.answered(1, 1_000_000);
        let receipt = |message, listener, at| Receipt { message, listener, at };
        let receipts = [
            receipt(first, 0, 3_000_000),
            receipt(first, 1, 500_000),
            receipt(first, 0, 9_000_000),
            receipt(second, 1, 2_000_000),
            receipt(Uuid::from_u128(3), 1, 2_000_000),
        ];
        let joined = join(&receipts, &HashMap::from([(first, 0), (second, 1)]), &board);
        assert_eq!((joined.delivered, joined.repeated), (3, 1));
        assert_eq!(board.lost(0..2, 2), 1);
        assert_eq!((joined.from_answer.len(), joined.from_answer.max()), (3, 2_000));
        assert_eq!(board.last_after_answer(0..2).collect::<Vec<_>>(), [2_000_000, 1_000_000]);
    }
}
