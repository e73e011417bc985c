//! The floor and those who listen to it: what `fanout` and `chat` compare with.

use std::sync::Arc;
use std::time::Duration;

use crate::audience::Audience;
use crate::board::Board;
use crate::error::Result;
use crate::floor::{Floor, Order};
use crate::progress::Progress;
use crate::scenario::Settings;
use crate::scenario::online::{AFTERWORK, PATIENCE};
use crate::upgrade::Door;

/// The floor with its audience seated.
#[derive(Debug)]
pub struct Ground {
    /// Who listens.
    pub audience: Audience,
    /// What is sent: a post's frame, or an event's block.
    pub text: String,
    floor: Floor,
    board: Arc<Board>,
    /// How many of the audience get each.
    listeners: usize,
}

impl Ground {
    /// Seats this many at the floor by such doors, dealt to so many groups, with a board of `posts`.
    pub async fn set(
        settings: &Settings,
        (floor, groups): (Floor, usize),
        (seats, door): (usize, impl Fn() -> Door),
        (text, posts): (String, usize),
        progress: &Progress,
    ) -> Result<Self> {
        let board = Arc::new(Board::new(posts));
        let mut audience = Audience::new(settings.ears, Arc::clone(&board), false)?;
        for _ in 0..seats {
            audience.add(door());
        }
        audience.connect_range(0..seats, floor.address(), progress).await?;
        Ok(Self { audience, text, floor, board, listeners: seats / groups })
    }

    /// Publishes and waits for the deliveries; answers what it cost, and how many of them did not come.
    pub async fn publish(&mut self, rate: f64, posts: u32) -> Result<(Duration, u64)> {
        self.audience.forget();
        let before = self.floor.usage()?.cpu;
        let first = self.board.peek_number();
        for _ in 0..posts {
            self.board.take_number();
        }
        self.floor.publish(&Order {
            sockets: self.audience.len(),
            rate,
            posts,
            first,
            text: self.text.clone(),
        })?;
        let due = u64::from(posts) * self.listeners as u64;
        self.audience.settle(due, PATIENCE).await;
        tokio::time::sleep(AFTERWORK).await;
        let cpu = self.floor.usage()?.cpu.saturating_sub(before);
        Ok((cpu, due.saturating_sub(self.audience.tally().delivered)))
    }
}
