//! One author and its followers, all online: the scene of `fanout` and `saturate`.

use std::sync::Arc;
use std::time::Duration;

use crate::audience::Audience;
use crate::board::Board;
use crate::error::{Error, Result};
use crate::people::{Person, follow, register};
use crate::process::Usage;
use crate::progress::Progress;
use crate::publisher::{Lane, Published, publish};
use crate::scenario::Settings;
use crate::server::Server;
use crate::tally::Tally;
use crate::upgrade::Door;

/// A user may hold so many connections.
const CONNECTIONS_A_USER: usize = 100;

/// What is waited after the last delivery before the processor time is read: work that a post leaves
/// behind (marking its job done) belongs to the post.
pub const AFTERWORK: Duration = Duration::from_millis(500);

/// Without any delivery for this long, the rest is lost.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The scene.
#[derive(Debug)]
pub struct Online {
    /// Its server, restarted once the accounts were made.
    pub server: Server,
    /// Who posts.
    pub author: Person,
    /// Who listens.
    pub audience: Audience,
    board: Arc<Board>,
}

/// One run on the scene.
#[derive(Debug)]
pub struct Performance {
    /// What was sent.
    pub published: Published,
    /// What was heard.
    pub tally: Tally,
    /// Deliveries of answered posts that did not come.
    pub lost: u64,
    /// What the server had used before.
    pub before: Usage,
    /// What it had used when all was delivered.
    pub after: Usage,
}

impl Online {
    /// Sets the scene: `followers` sockets shared evenly by `users` users, and a board of `posts`.
    pub async fn set(
        settings: &Settings,
        followers: usize,
        users: usize,
        posts: usize,
        progress: &Progress,
    ) -> Result<Self> {
        if users == 0 || followers.div_ceil(users) > CONNECTIONS_A_USER {
            return Err(Error::Refused(format!(
                "{followers} followers need at least {} users",
                followers.div_ceil(CONNECTIONS_A_USER)
            )));
        }
        let mut server = settings.start_server().await?;
        let author = register(server.address(), "author", 1, progress).await?.remove(0);
        let users = register(server.address(), "follower", users, progress).await?;
        follow(server.address(), &users, std::slice::from_ref(&author), progress).await?;
        // Hashing passwords leaves its memory behind; what is measured is a process that serves.
        server.stop().await?;
        server.start_again().await?;

        let board = Arc::new(Board::new(posts));
        let mut audience = Audience::new(settings.ears, Arc::clone(&board), false)?;
        for index in 0..followers {
            let token = users[index % users.len()].token.clone();
            audience.add(Door::WebSocket { token });
        }
        audience.connect_range(0..followers, server.address(), progress).await?;
        audience
            .wait_for("every listener's connected frame", PATIENCE, |tally| {
                tally.connected == followers as u64
            })
            .await?;
        Ok(Self { server, author, audience, board })
    }

    /// Lanes that all post as the author.
    pub fn lanes(&self, count: usize) -> Vec<Lane> {
        (0..count).map(|_| Lane::new(self.server.address(), &self.author)).collect()
    }

    /// Publishes, waits for the deliveries, and reads what it cost.
    pub async fn perform(&self, lanes: &mut [Lane], rate: f64, posts: u32) -> Result<Performance> {
        self.audience.forget();
        let before = self.server.usage()?;
        let published = publish(lanes, &self.board, rate, posts).await;
        let listeners = self.audience.len() as u64;
        self.audience.settle(published.answered * listeners, PATIENCE).await;
        tokio::time::sleep(AFTERWORK).await;
        let after = self.server.usage()?;
        Ok(Performance {
            lost: self.board.lost(published.numbers.clone(), listeners as u32),
            tally: self.audience.tally(),
            published,
            before,
            after,
        })
    }
}
