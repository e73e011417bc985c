use super::stub::{Stub, taken};
use super::{BETWEEN_ACTIVE, GROUP_PRESSES, IDLE, Reply, Room, RoomArguments, RoomMsg};
use crate::actors::room_guests::HostSeat;
use crate::actors::room_outlet::RoomOutlet;
use crate::actors::wire::{AttachedText, Pressing};
use crate::model::id::{ConnectionId, RoomId};
use crate::model::room::{Answered, PressKey, RoomStats, Rules, ViewerKey};
use crate::model::timestamp::Timestamp;
use crate::storage::rooms::{Group, RoomWrite, TakenRoom};
use ractor::concurrency::{OneshotReceiver, oneshot};
use ractor::{Actor, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{advance, sleep, timeout};

/// A room whose store answers what a test says.
struct Scene {
    store: Arc<Stub>,
    room: ActorRef<RoomMsg>,
}

impl Scene {
    /// Where somebody was last so long ago.
    async fn idle_since(age: Duration) -> Self {
        Self::of(taken(RoomId::make(), Timestamp::now().before(age))).await
    }

    async fn of(taken: TakenRoom) -> Self {
        let store = Arc::new(Stub::default());
        let (rules, outlet) = (Arc::new(Rules::default()), Arc::new(RoomOutlet::new(None, None)));
        let arguments = RoomArguments { rooms: store.clone(), rules, outlet, taken };
        let (room, _) = Actor::spawn(None, Room, arguments).await.unwrap();
        Self { store, room }
    }

    fn asks<T: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<T>) -> RoomMsg,
    ) -> OneshotReceiver<Option<T>> {
        let (reply, answer) = oneshot();
        self.room.send_message(message(reply.into())).unwrap();
        answer
    }

    async fn asked<T: Send + 'static>(&self, message: impl FnOnce(Reply<T>) -> RoomMsg) -> T {
        self.asks(message).await.unwrap().unwrap()
    }

    fn presses(&self, number: u64) -> OneshotReceiver<Option<Answered>> {
        let press = Pressing {
            event_type: 2,
            viewer: ViewerKey(1),
            key: PressKey((u128::from(number) << 64).to_be_bytes()),
        };
        self.asks(|reply| RoomMsg::Press(press, reply))
    }

    async fn stats(&self) -> RoomStats {
        self.asked(RoomMsg::Stats).await
    }

    async fn attach(&self, connection: ConnectionId) -> AttachedText {
        let seat = HostSeat { connection, node: None };
        self.asked(|reply| RoomMsg::Attach(seat, None, (0, false), reply)).await
    }

    async fn detach(&self, connection: ConnectionId) {
        self.asked(|reply| RoomMsg::Detach(connection, reply)).await;
    }

    /// The group of that number, once it is to be written.
    async fn group(&self, number: usize) -> Group {
        let written = async {
            loop {
                if let Some(group) = self.store.groups.lock().unwrap().get(number) {
                    return group.clone();
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), written).await.expect("a group")
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_host_that_acknowledges_is_stored_and_known_when_the_room_is_taken() {
    let scene = Scene::idle_since(Duration::ZERO).await;
    let host = ConnectionId::make();
    assert!(!scene.attach(host).await.acknowledges);
    scene.asked(|reply| RoomMsg::Acknowledge(host, 0, true, reply)).await;
    assert!(scene.group(0).await.acknowledges);
    let again = TakenRoom { acknowledges: true, ..taken(RoomId::make(), Timestamp::now()) };
    assert!(Scene::of(again).await.attach(host).await.acknowledges);
}

#[tokio::test(start_paused = true)]
async fn when_a_host_went_is_stored() {
    let scene = Scene::idle_since(BETWEEN_ACTIVE / 2).await;
    let (host, before) = (ConnectionId::make(), Timestamp::now());
    scene.attach(host).await;
    scene.detach(host).await;
    assert!(scene.group(0).await.active_at >= before);
    scene.store.written.send(RoomWrite::Written);
    // What is said of it late says nothing of when somebody was there.
    scene.detach(host).await;
    sleep(2 * BETWEEN_ACTIVE).await;
    assert_eq!(scene.store.groups.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_ends_by_itself_where_nobody_can_have_been_there_for_a_day() {
    let a_minute = Duration::from_secs(60);
    // A host that was there to the end of its node was noted last up to ten minutes before.
    let scene = Scene::idle_since(IDLE - a_minute).await;
    assert!(!scene.asked(RoomMsg::EndIdle).await);
    let scene = Scene::idle_since(IDLE + a_minute).await;
    scene.store.ended.send(RoomWrite::Written);
    assert!(scene.asked(RoomMsg::EndIdle).await);
}

#[tokio::test(start_paused = true)]
async fn presses_that_wait_uncounted_are_not_counted_where_their_client_has_gone() {
    let scene = Scene::idle_since(Duration::ZERO).await;
    let first = scene.presses(0);
    scene.group(0).await;
    let many = GROUP_PRESSES as u64;
    let gathered: Vec<_> = (1..=many).map(|number| scene.presses(number)).collect();
    let (gone, last) = (scene.presses(many + 1), scene.presses(many + 2));
    // So far all have come.
    scene.stats().await;
    drop(gone);
    for _ in 0..3 {
        scene.store.written.send(RoomWrite::Written);
    }
    first.await.unwrap().unwrap();
    for answer in gathered {
        answer.await.unwrap().unwrap();
    }
    last.await.unwrap().unwrap();
    // Fifteen make an effect, and the counts start again.
    assert_eq!(u64::from(scene.stats().await.counts[2]), (many + 2) % 15);
    assert_eq!(scene.group(2).await.presses.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_the_end_hears_that_there_is_no_such_room() {
    let scene = Scene::idle_since(Duration::ZERO).await;
    scene.room.send_message(RoomMsg::Ended(Ok(RoomWrite::Written))).unwrap();
    let (end, press, reset) =
        (scene.asks(RoomMsg::End), scene.presses(1), scene.asks(|reply| RoomMsg::Reset("one".into(), reply)));
    assert_eq!((end.await, press.await, reset.await), (Ok(None), Ok(None), Ok(None)));
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_write_of_which_nothing_is_known_is_lost() {
    let scene = Scene::idle_since(Duration::ZERO).await;
    scene.room.send_message(RoomMsg::Ended(Ok(RoomWrite::Superseded))).unwrap();
    let (end, press) = (scene.asks(RoomMsg::End), scene.presses(1));
    assert!(end.await.is_err() && press.await.is_err());
}

/// The clock of the system stands still meanwhile, which is a leap as well.
#[tokio::test(start_paused = true)]
async fn viewers_are_active_by_a_clock_that_does_not_leap() {
    let scene = Scene::idle_since(Duration::ZERO).await;
    let pressed = scene.presses(1);
    scene.store.written.send(RoomWrite::Written);
    assert_eq!(pressed.await.unwrap().unwrap().viewer_count, 1);
    advance(Rules::default().active_window + Duration::from_secs(2)).await;
    assert_eq!(scene.stats().await.viewers, 0);
}
