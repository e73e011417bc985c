//! Messages read as what they were made from.

use super::{
    Answer, Answered, Asked, Asking, AttachedText, EffectsText, EntryText, Garbled, HostOverText, KeyText,
    PressText, Pressing, Publish, StatsText, Telling, Told, Users, id_bytes,
};
use crate::model::cursor::Seq;
use crate::model::id::{ConnectionId, PostId, RoomId, UserId};
use crate::model::post::{Content, Post};
use crate::model::room::{Answered as PressAnswered, Effect, PressKey, RoomStats, ViewerKey};
use crate::model::timestamp::Timestamp;
use crate::storage::{Appended, Deletion, Entry, EntryChange, KeyUse, StorageError};
use uuid::Uuid;

fn entries() -> [Entry; 2] {
    let (author, id, at) = (UserId::make(), PostId(Uuid::now_v7()), Timestamp::from_millis(1_700));
    let content = Content::parse("hello\nthere").unwrap();
    let post = Post { id, author, content, likes: 0, created_at: at };
    let posted = EntryChange::Posted { post, author_name: "anna".to_owned() };
    let deleted = EntryChange::Deleted { id, author, deleted_at: at };
    [Entry { seq: Seq(7), change: posted }, Entry { seq: Seq(u64::MAX >> 1), change: deleted }]
}

#[test]
fn an_entry_reads_as_it_was_told() {
    for entry in entries() {
        let frame = Told::encode_frame(Telling::Entry(EntryText::from(&entry)));
        let Some(Telling::Entry(told)) = Told::read(frame).unwrap() else { panic!("no entry") };
        assert_eq!(Entry::try_from(told), Ok(entry));
    }
}

#[test]
fn a_home_answers_what_its_store_did() {
    let [posted, deleted] = entries();
    let EntryChange::Posted { post, .. } = posted.change.clone() else { panic!("no post") };
    let repeated = Appended::Repeated(KeyUse { body: [7; 32], post });
    for outcome in [Appended::Stored(posted), repeated, Appended::NoAuthor] {
        let answer = Answered::encode_answer(Some(Ok(outcome.clone()).into()));
        let answer = Answered::read(answer).unwrap().unwrap();
        assert_eq!(answer.appended().unwrap().unwrap(), outcome);
    }
    for outcome in [Deletion::Done(deleted), Deletion::Missing, Deletion::Forbidden] {
        assert_eq!(Answer::from(Ok(outcome.clone())).deleted().unwrap().unwrap(), outcome);
    }
    let failed = Answer::from(Err::<Deletion, _>(StorageError::Unavailable("busy".to_owned())));
    assert!(matches!(failed.appended(), Ok(Err(StorageError::Unavailable(why))) if why == "busy"));
    assert_eq!(Answer::NoAuthor(super::Nothing {}).deleted().unwrap_err(), Garbled);
}

#[test]
fn what_a_node_did_is_told_apart() {
    for answer in [Answer::Done(super::Nothing {}), Answer::Closed(super::Nothing {})] {
        assert_eq!(Answered::read(Answered::encode_answer(Some(answer.clone()))), Ok(Some(answer)));
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_new_is_passed_over() {
    let publish = Publish {
        author: id_bytes(Uuid::now_v7()),
        content: "hello".to_owned(),
        key: Some(KeyText { key: "k".to_owned(), body: vec![1; 31].into() }),
        request: id_bytes(Uuid::now_v7()),
        is_repeat: true,
    };
    assert_eq!(publish.clone().read().unwrap_err(), Garbled, "a hash of 31 bytes");
    let no_request = Publish { key: None, request: Vec::new().into(), ..publish };
    assert_eq!(no_request.read().unwrap_err(), Garbled);
    assert_eq!(Users { ids: vec![0; 17].into() }.users().count(), 1);
    assert_eq!(Answered::read(vec![0xff; 9].into()), Err(Garbled));
    // Field 99 of a later version.
    let later = [0x9a, 0x06, 0x01, 0x00];
    assert_eq!(Asked::read(later.to_vec().into()), Ok(None::<Asking>));
    assert_eq!(Told::read(later.to_vec().into()), Ok(None));
}

#[test]
fn what_is_said_of_rooms_reads_as_it_was_said() {
    let room = RoomId::make();
    let press = Pressing { event_type: 63, viewer: ViewerKey(u64::MAX), key: PressKey([7; 16]) };
    let asked = Asked::encode_call(Asking::Press(PressText::of(room, &press)));
    let Some(Asking::Press(text)) = Asked::read(asked).unwrap() else { panic!("no press") };
    assert_eq!(text.read(), Ok((room, press)));
    assert!(PressText { key: vec![7; 15].into(), ..text.clone() }.read().is_err());
    assert!(PressText { event_type: 256, ..text }.read().is_err());

    let answered = PressAnswered {
        event_type: 3,
        current_count: 5,
        required_count: 5,
        effect_triggered: true,
        viewer_count: 7,
        next_threshold: 6,
    };
    let told = Answered::read(Answered::encode_answer(Some(answered.into()))).unwrap().unwrap();
    assert_eq!(told.pressed().unwrap().unwrap(), Some(answered));
    assert_eq!(Answer::NoRoom(super::Nothing {}).pressed().unwrap().unwrap(), None);
    assert!(Answer::Done(super::Nothing {}).done().unwrap().unwrap());

    let effects = [1, 2].map(|seq| Effect { seq, event_type: 2, trigger_count: 5, viewer_count: 1 });
    let told = Told::encode_frame(Telling::Effects(EffectsText::of(room, &effects)));
    let Some(Telling::Effects(text)) = Told::read(told).unwrap() else { panic!("no effects") };
    assert_eq!(text.read(), Ok((room, effects.to_vec())));

    let stats = RoomStats {
        at: Timestamp::from_millis(1_700),
        host_connected: true,
        viewers: 3,
        counts: vec![0, 4],
        required: vec![5, 10],
    };
    let told = Told::encode_frame(Telling::Stats(StatsText::of(room, stats.clone())));
    let Some(Telling::Stats(text)) = Told::read(told).unwrap() else { panic!("no stats") };
    assert!(StatsText { counts: vec![1], ..text.clone() }.read().is_err());
    assert_eq!(text.read(), Ok((room, stats)));

    let over = HostOverText::of(room, ConnectionId::make(), true);
    let told = Told::encode_frame(Telling::HostOver(over.clone()));
    assert_eq!(Told::read(told), Ok(Some(Telling::HostOver(over))));
}

#[test]
fn no_kind_of_answer_is_passed_over() {
    // One that the list of tags lacks reads as one of a later version.
    let nothing = super::Nothing {};
    for answer in
        [Answer::Closed(nothing), Answer::NoRoom(nothing), Answer::Attached(AttachedText::default())]
    {
        let bytes = Answered::encode_answer(Some(answer.clone()));
        assert_eq!(Answered::read(bytes), Ok(Some(answer)));
    }
}
