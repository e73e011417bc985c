//! What the watermark says, step by step.

use super::Watermark;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::EntryObserver;
use futures_util::FutureExt;

fn moving(seqs: &[u64]) -> Watermark {
    let watermark = Watermark::default();
    for seq in seqs {
        watermark.entering(Seq(*seq), UserId::make());
    }
    watermark
}

#[test]
fn the_mark_stays_below_the_oldest_that_moves() {
    let watermark = moving(&[1, 2, 3]);
    assert_eq!(watermark.mark(), Seq(0));
    watermark.release(Seq(2));
    assert_eq!(watermark.mark(), Seq(0));
    watermark.release(Seq(1));
    assert_eq!(watermark.mark(), Seq(2));
    watermark.release(Seq(3));
    assert_eq!(watermark.mark(), Seq(3));
}

#[test]
fn a_frame_promises_its_own_entry_only_if_all_before_it_arrived() {
    let watermark = moving(&[1, 2]);
    assert_eq!(watermark.mark_after(Seq(2)), Seq(0));
    assert_eq!(watermark.mark_after(Seq(1)), Seq(1));
    watermark.release(Seq(1));
    assert_eq!(watermark.mark_after(Seq(2)), Seq(2));
}

#[test]
fn an_entry_that_a_follow_holds_has_not_arrived() {
    let watermark = moving(&[1]);
    watermark.hold(Seq(1));
    watermark.release(Seq(1));
    assert_eq!(watermark.mark(), Seq(0));
    assert!(watermark.take_arrived().is_empty());
    watermark.release(Seq(1));
    assert_eq!(watermark.take_arrived(), [Seq(1)]);
}

#[test]
fn an_entry_is_carried_once_unless_its_relay_ends() {
    let watermark = moving(&[1]);
    assert!(watermark.carry(Seq(1)).is_some());
    watermark.hold(Seq(1));
    watermark.release(Seq(1));
    assert!(watermark.carry(Seq(1)).is_none(), "a follow holds it, it was carried");
    watermark.drop_carried();
    assert!(watermark.carry(Seq(1)).is_some());
    watermark.release(Seq(1));
    assert_eq!(watermark.mark(), Seq(1));
    assert!(watermark.carry(Seq(1)).is_none(), "it has arrived");
}

#[test]
fn what_was_answered_before_a_connection_came_is_not_new_to_it() {
    let watermark = moving(&[1, 2, 3]);
    watermark.answered(Seq(2));
    let start = watermark.start();
    assert_eq!((start.mark, start.head), (Seq(0), Seq(3)));
    assert_eq!((start.unanswered.as_slice(), start.old.as_slice()), (&[Seq(1), Seq(3)][..], &[Seq(2)][..]));
    assert_eq!([1, 2, 3, 4].map(|seq| start.is_new(Seq(seq))), [true, false, true, true]);
}

#[test]
fn a_failed_commit_leaves_no_trace() {
    let watermark = moving(&[1, 2, 3]);
    watermark.withdrawn(Seq(3));
    watermark.withdrawn(Seq(2));
    watermark.release(Seq(1));
    assert_eq!(watermark.mark(), Seq(1));
}

#[tokio::test]
async fn an_entry_is_done_when_it_has_arrived_and_is_in_every_timeline() {
    let watermark = Watermark::spreading();
    let (anna, ben) = (UserId::make(), UserId::make());
    for (seq, author) in [(1, anna), (2, anna), (3, ben), (4, ben)] {
        watermark.entering(Seq(seq), author);
    }
    watermark.withdrawn(Seq(4));
    // Told twice it is fanned out once; what was withdrawn is not.
    for (seq, author) in [(1, anna), (2, anna), (2, anna), (3, ben), (4, ben)] {
        watermark.to_spread(Seq(seq), author);
    }
    assert_eq!(watermark.unspread(), 3);
    for seq in [1, 2, 3] {
        assert_eq!(watermark.next_to_spread().await, Seq(seq));
    }
    assert!(watermark.next_to_spread().now_or_never().is_none());

    // Whichever comes last: arriving, or being in every timeline.
    watermark.release(Seq(1));
    assert!(watermark.take_arrived().is_empty());
    watermark.spread(Seq(1));
    assert_eq!(watermark.take_arrived(), [Seq(1)]);
    watermark.spread(Seq(2));
    assert!(watermark.take_arrived().is_empty());
    watermark.release(Seq(2));
    assert_eq!(watermark.take_arrived(), [Seq(2)]);
    // What has arrived is not fanned out again, and is marked done once.
    watermark.to_spread(Seq(2), anna);
    watermark.spread(Seq(2));
    assert!(watermark.take_arrived().is_empty());
    assert_eq!(watermark.unspread(), 1);
}

#[test]
fn a_session_asks_for_what_may_be_missing_in_its_timeline() {
    let watermark = Watermark::spreading();
    let (anna, ben, carla) = (UserId::make(), UserId::make(), UserId::make());
    for (seq, author) in [(1, anna), (2, ben), (3, anna), (4, carla), (5, ben)] {
        watermark.entering(Seq(seq), author);
        watermark.to_spread(Seq(seq), author);
    }
    // Arrived or not, they may be missing until they are in every timeline.
    watermark.release(Seq(3));
    let followed = [(anna, Seq(1)), (ben, Seq(0))];
    assert_eq!(watermark.unspread_of(&followed), [Seq(2), Seq(3), Seq(5)]);
    watermark.spread(Seq(2));
    assert_eq!(watermark.unspread_of(&followed), [Seq(3), Seq(5)]);
    assert!(watermark.unspread_of(&[(UserId::make(), Seq(0))]).is_empty());
}

#[test]
fn where_timelines_are_read_nothing_is_fanned_out() {
    let watermark = moving(&[1]);
    watermark.to_spread(Seq(1), UserId::make());
    assert_eq!(watermark.unspread(), 0);
    watermark.release(Seq(1));
    assert_eq!(watermark.take_arrived(), [Seq(1)]);
}
