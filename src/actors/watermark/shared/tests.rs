//! What a watermark says where other nodes are homes, step by step.

use crate::actors::watermark::{Ceiling, Watermark};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::EntryObserver;

fn told(seq: u64) -> Ceiling {
    Ceiling { told: Seq(seq), settled: Seq(seq.saturating_sub(10)), floor: Seq(seq.saturating_sub(50)) }
}

fn at(seq: u64) -> Watermark {
    let watermark = Watermark::shared();
    watermark.raise(told(seq));
    watermark
}

/// An entry of another home goes through a relay here.
fn pass(watermark: &Watermark, seq: u64, author: UserId) -> bool {
    let is_new = watermark.arrive(Seq(seq), author);
    if is_new && watermark.carry(Seq(seq)).is_some() {
        watermark.release(Seq(seq));
    }
    is_new
}

#[test]
fn the_mark_never_passes_what_the_homes_have_told() {
    let watermark = Watermark::shared();
    watermark.entering(Seq(5), UserId::make());
    watermark.sent(Seq(5));
    watermark.release(Seq(5));
    assert_eq!(watermark.mark(), Seq(0), "nothing was told yet");
    watermark.raise(told(100));
    assert_eq!((watermark.mark(), watermark.settled()), (Seq(100), Seq(90)));
    // One of another home that waits for its relay holds it back, too.
    assert!(watermark.arrive(Seq(80), UserId::make()));
    assert_eq!((watermark.mark(), watermark.mark_after(Seq(80))), (Seq(79), Seq(100)));
    watermark.raise(told(60));
    assert_eq!(watermark.mark_after(Seq(80)), Seq(100), "homes never go back");
}

#[test]
fn a_mark_that_is_frozen_stays_though_what_held_it_goes() {
    let (watermark, anna) = (at(100), UserId::make());
    watermark.entering(Seq(90), anna);
    watermark.freeze();
    // Its shard moved: another home brings it again, or finds that it never was.
    watermark.let_go(|author| author == anna);
    assert_eq!(watermark.mark(), Seq(89));
    watermark.raise(told(101));
    assert_eq!(watermark.mark(), Seq(101));
}

#[test]
fn an_entry_is_shown_once_whichever_home_brings_it() {
    let (watermark, anna) = (at(100), UserId::make());
    assert!(pass(&watermark, 120, anna));
    assert!(!pass(&watermark, 120, anna), "its home brings it again");
    // This node becomes its home, and has to bring it to others: here it is not shown again.
    watermark.entering(Seq(120), anna);
    assert_eq!(watermark.carry(Seq(120)), None);
    assert_eq!(watermark.mark(), Seq(100));
    // It is forgotten when it is so old that nobody brings it as new.
    watermark.raise(told(200));
    assert!(!watermark.arrive(Seq(120), anna));
    assert!(!watermark.arrive(Seq(150), anna), "not newer than the floor");
    assert!(watermark.arrive(Seq(151), anna));
}

#[test]
fn an_entry_is_done_when_nodes_have_heard_it_and_timelines_have_it() {
    let (watermark, anna) = (at(100), UserId::make());
    watermark.entering(Seq(110), anna);
    watermark.to_spread(Seq(110), anna);
    watermark.to_be_heard(Seq(110), 2);
    watermark.sent(Seq(110));
    watermark.release(Seq(110));
    watermark.spread(Seq(110));
    watermark.heard([Seq(110)]);
    assert!(watermark.take_arrived().is_empty(), "one node has not heard it");
    watermark.heard([Seq(110)]);
    assert_eq!(watermark.take_arrived(), [Seq(110)]);
    // One of another home is that one's to mark.
    assert!(pass(&watermark, 111, anna));
    assert!(watermark.take_arrived().is_empty());
}

#[test]
fn an_entry_that_came_just_before_its_shard_did_is_brought_by_its_new_home() {
    let (watermark, anna) = (at(100), UserId::make());
    // The former home's frame waits for a relay, then this node finds the entry unfinished.
    assert!(watermark.arrive(Seq(110), anna) && watermark.queue(Seq(110)));
    watermark.entering(Seq(110), anna);
    assert!(watermark.carry(Seq(110)).is_some());
    watermark.release(Seq(110));
    assert!(watermark.take_arrived().is_empty(), "it is in no timeline");
    assert_eq!(watermark.moving_of(anna), [Seq(110)]);
    assert_eq!(watermark.progress(Seq(120)).sent, Seq(109));
    watermark.to_spread(Seq(110), anna);
    watermark.sent(Seq(110));
    assert!(watermark.queue(Seq(110)));
    assert_eq!(watermark.carry(Seq(110)), None, "it was shown here");
    watermark.spread(Seq(110));
    assert_eq!(watermark.take_arrived(), [Seq(110)]);
}

#[test]
fn an_entry_that_a_follow_holds_when_its_shard_comes_here_is_not_shown_again() {
    let (watermark, anna) = (at(100), UserId::make());
    assert!(watermark.arrive(Seq(120), anna) && watermark.carry(Seq(120)).is_some());
    watermark.hold(Seq(120));
    watermark.release(Seq(120));
    // The home died. Its next one brings what that had on its way.
    watermark.entering(Seq(120), anna);
    assert_eq!(watermark.moving_of(anna), [Seq(120)]);
    watermark.to_spread(Seq(120), anna);
    watermark.sent(Seq(120));
    assert!(watermark.queue(Seq(120)));
    assert_eq!(watermark.carry(Seq(120)), None, "it was carried");
    watermark.release(Seq(120));
    watermark.spread(Seq(120));
    assert_eq!(watermark.take_arrived(), [Seq(120)]);
}

#[test]
fn what_a_node_lost_is_not_marked_done_by_it() {
    let (watermark, anna, ben) = (at(100), UserId::make(), UserId::make());
    for (seq, author) in [(110, anna), (111, anna), (112, ben)] {
        watermark.entering(Seq(seq), author);
        watermark.to_spread(Seq(seq), author);
        watermark.to_be_heard(Seq(seq), 1);
        watermark.sent(Seq(seq));
    }
    watermark.release(Seq(110));
    assert!(watermark.queue(Seq(111)));
    watermark.let_go(|author| author == anna);
    watermark.release(Seq(111));
    for seq in [110, 111, 112] {
        watermark.heard([Seq(seq)]);
        watermark.spread(Seq(seq));
    }
    assert!(watermark.take_arrived().is_empty());
    // Its author, on its way out, sends it all the same.
    watermark.to_spread(Seq(110), anna);
    watermark.to_be_heard(Seq(110), 1);
    watermark.sent(Seq(110));
    watermark.heard([Seq(110)]);
    assert!(watermark.take_arrived().is_empty());
    watermark.release(Seq(112));
    assert_eq!(watermark.take_arrived(), [Seq(112)]);
    assert!(watermark.unspread_by(|_| true).is_empty());
}

#[test]
fn a_home_has_come_as_far_as_it_sent_and_spread_everything() {
    let (watermark, anna) = (at(100), UserId::make());
    let progress = |head| {
        let progress = watermark.progress(Seq(head));
        (progress.sent, progress.spread)
    };
    assert_eq!(progress(150), (Seq(150), Seq(150)));
    watermark.entering(Seq(151), anna);
    watermark.entering(Seq(155), anna);
    // Those of other homes are no business of this one.
    assert!(watermark.arrive(Seq(120), anna));
    assert_eq!(progress(160), (Seq(150), Seq(150)));
    watermark.to_spread(Seq(151), anna);
    watermark.sent(Seq(151));
    assert_eq!(progress(160), (Seq(154), Seq(150)), "sent, and not in every timeline");
    watermark.spread(Seq(151));
    watermark.to_spread(Seq(155), anna);
    watermark.sent(Seq(155));
    assert_eq!(progress(160), (Seq(160), Seq(154)));
}

#[test]
fn a_session_asks_for_what_other_homes_have_not_brought_into_timelines() {
    let (watermark, anna, ben) = (at(100), UserId::make(), UserId::make());
    for (seq, author) in [(110, anna), (111, ben), (112, anna)] {
        watermark.may_be_missing(Seq(seq), author);
    }
    let followed = [(anna, Seq(0)), (ben, Seq(111))];
    assert_eq!(watermark.unspread_of(&followed), [Seq(110), Seq(112)]);
    watermark.spread_elsewhere(Seq(111), |author| author == anna);
    assert_eq!(watermark.unspread_of(&followed), [Seq(112)]);
    // This node takes anna over, with 112 still on its way: missing until it has been fanned out from here.
    watermark.entering(Seq(112), anna);
    watermark.begin_home(&[(Seq(112), anna)], |author| author == anna);
    assert_eq!(watermark.unspread_of(&followed), [Seq(112)]);
    watermark.to_spread(Seq(112), anna);
    watermark.sent(Seq(112));
    watermark.release(Seq(112));
    watermark.spread(Seq(112));
    assert!(watermark.unspread_of(&followed).is_empty());
}

#[test]
fn what_was_passed_on_before_a_moment_is_told_from_what_comes_after_it() {
    let (watermark, anna) = (at(100), UserId::make());
    assert!(pass(&watermark, 120, anna));
    assert!(watermark.arrive(Seq(110), anna));
    let (waiting, passes) = (watermark.to_be_shown(), watermark.passes());
    assert!(waiting.contains(&Seq(110)) && waiting.len() == 1);
    assert!(watermark.carry(Seq(110)).is_some());
    watermark.release(Seq(110));
    assert!(watermark.had_passed(Seq(120), passes) && !watermark.had_passed(Seq(110), passes));
    assert!(watermark.had_passed(Seq(110), watermark.passes()));
    // This node takes the author over: 120 is to be brought to others, and not shown here again.
    watermark.entering(Seq(120), anna);
    assert!(watermark.to_be_shown().is_empty());
}

#[test]
fn what_another_home_has_sent_goes_out_though_this_node_loses_its_own() {
    let (watermark, anna) = (at(100), UserId::make());
    // It is about to be queued; then this node is fenced.
    assert!(watermark.arrive(Seq(110), anna));
    watermark.let_go(|_| true);
    assert!(watermark.queue(Seq(110)));
    assert!(watermark.carry(Seq(110)).is_some());
}

#[test]
fn what_was_not_fanned_out_when_its_shard_left_is_asked_for_until_its_next_home_has() {
    let (watermark, anna) = (at(100), UserId::make());
    watermark.entering(Seq(110), anna);
    watermark.to_spread(Seq(110), anna);
    watermark.sent(Seq(110));
    watermark.release(Seq(110));
    watermark.let_go(|_| true);
    let followed = [(anna, Seq(0))];
    assert_eq!(watermark.unspread_of(&followed), [Seq(110)], "shown here, and in no timeline");
    watermark.spread_elsewhere(Seq(110), |_| true);
    assert!(watermark.unspread_of(&followed).is_empty());
}

#[test]
fn a_relay_that_ends_leaves_nothing_that_holds_the_mark_for_ever() {
    let (watermark, anna) = (at(100), UserId::make());
    assert!(watermark.arrive(Seq(90), anna) && watermark.arrive(Seq(95), anna));
    assert!(watermark.queue(Seq(90)) && watermark.queue(Seq(95)));
    watermark.carry(Seq(90));
    watermark.drop_carried();
    assert_eq!(watermark.mark(), Seq(94), "95 waits for the next relay");
    watermark.carry(Seq(95));
    watermark.release(Seq(95));
    assert_eq!(watermark.mark(), Seq(100));
}
