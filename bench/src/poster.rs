//! Authors who post on while nodes go: each post has a key and is sent until it is answered 201, to another node when
//! one does not. An author has one post under way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::{Board, Mark, content, now};
use crate::client::{Caller, start_of};
use crate::people::Person;

/// Between two tries of a post that was refused.
const PAUSE: Duration = Duration::from_millis(100);
/// After so long a post counts as never answered.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The nodes that clients know.
#[derive(Debug)]
pub struct Doors {
    doors: Vec<(SocketAddr, AtomicBool)>,
    next: AtomicU64,
}

impl Doors {
    /// All open.
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let doors = addresses.iter().map(|address| (*address, AtomicBool::new(true))).collect();
        Self { doors, next: AtomicU64::new(0) }
    }

    /// Opens or shuts one: clients are not sent to one that is shut.
    pub fn set(&self, index: usize, open: bool) {
        self.doors[index].1.store(open, Ordering::Relaxed);
    }

    /// The next open one, in turn; any where none is.
    pub fn next(&self) -> SocketAddr {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let doors = (0..self.doors.len()).map(|step| &self.doors[(turn + step) % self.doors.len()]);
        let mut open = doors.filter(|(_, open)| open.load(Ordering::Relaxed));
        open.next().map_or(self.doors[turn % self.doors.len()].0, |(address, _)| *address)
    }
}

/// What became of a post.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When it was sent first.
    pub at: Instant,
    /// When its 201 came, if it did.
    pub answered: Option<Instant>,
}

/// What an author's posts met.
#[derive(Debug, Default)]
pub struct Posted {
    /// Every post, in order.
    pub sent: Vec<Sent>,
    /// Tries that were not answered 201.
    pub refused: u64,
    /// The last of those answers.
    pub last_refusal: Option<String>,
}

/// Posts every `period`, the first at `from`, until told to end or the board is full. Late posts are not made up for.
pub async fn post_on(
    author: &Person,
    doors: &Doors,
    board: &Board,
    from: Instant,
    period: Duration,
    ended: &AtomicBool,
) -> Posted {
    let mut posted = Posted::default();
    let mut caller = Caller::new(doors.next());
    let mut due = from;
    while !ended.load(Ordering::Relaxed) && board.has_room() {
        sleep_until(due).await;
        let number = board.take_number();
        let at = Instant::now();
        let answered = post_until_answered(author, doors, board, number, &mut caller, &mut posted).await;
        posted.sent.push(Sent { at, answered });
        due = (due + period).max(Instant::now().checked_sub(period).unwrap_or(due));
    }
    posted
}

async fn post_until_answered(
    author: &Person,
    doors: &Doors,
    board: &Board,
    number: u32,
    caller: &mut Caller,
    posted: &mut Posted,
) -> Option<Instant> {
    let began = Instant::now();
    let body = format!(r#"{{"content":"{}"}}"#, content(Mark { sent_at: now(), number }));
    let key = format!("bench-{number}");
    while began.elapsed() < GIVE_UP {
        let (token, body) = (Some(author.token.as_str()), Some(body.clone()));
        let refusal = match caller.call_once(Method::POST, "/posts", token, body, Some(&key)).await {
            Ok(answer) if answer.status == 201 => {
                board.answered(number, now());
                return Some(Instant::now());
            }
            Ok(answer) => format!("{} {}", answer.status, start_of(&answer.body)),
            Err(error) => error.to_string(),
        };
        posted.refused += 1;
        posted.last_refusal = Some(refusal);
        *caller = Caller::new(doors.next());
        sleep(PAUSE).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::Doors;

    #[test]
    fn a_shut_door_is_passed_over_and_an_open_one_always_found() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let doors = Doors::new(&[address(1), address(2), address(3)]);
        doors.set(1, false);
        let seen: Vec<u16> = (0..6).map(|_| doors.next().port()).collect();
        assert!(!seen.contains(&2) && seen.contains(&1) && seen.contains(&3), "{seen:?}");
        doors.set(0, false);
        doors.set(2, false);
        assert!((1..=3).contains(&doors.next().port()), "none is open: any");
    }
}
