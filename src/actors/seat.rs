//! A connection's place: in the roster, among those that others see connected, and under its user's login. Given up when it is
//! dropped, by a panic of its owner too.

use super::outbox::Outbox;
use super::session::SessionWorld;
use crate::model::close::Close;
use crate::model::frame::ServerFrame;
use crate::model::id::ConnectionId;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::Present;
use std::sync::Arc;
use std::time::Duration;

/// Pings that follow each other faster say nothing new.
const BETWEEN_PRESENT: Duration = Duration::from_secs(1);

/// A place.
pub struct Seat {
    /// Where it is one.
    pub world: Arc<SessionWorld>,
    /// Which connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub caller: Caller,
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// When it was last said that it is there.
    present_at: Timestamp,
}

impl Seat {
    /// Takes it. One user's oldest connection gives its own up where that is one too many.
    #[must_use]
    pub fn take(
        world: Arc<SessionWorld>,
        connection: ConnectionId,
        caller: Caller,
        outbox: Arc<Outbox>,
    ) -> Self {
        world.roster.join(caller.user, caller.login, connection, outbox.clone(), world.connections);
        let seat = Self { world, connection, caller, outbox, present_at: Timestamp::now() };
        seat.say_present();
        seat.close_if_ended();
        seat
    }

    /// The client says that it is there.
    pub fn is_there(&mut self) {
        let now = Timestamp::now();
        if now >= self.present_at.after(BETWEEN_PRESENT) {
            self.present_at = now;
            self.say_present();
        }
    }

    /// A newer token was checked, which is to be the same user's: the connection lives as long as that. Answers whether.
    pub fn renew(&mut self, checked: Result<Caller, &'static str>) -> bool {
        let caller = match checked {
            Ok(caller) if caller.user == self.caller.user => caller,
            Ok(_) => {
                self.refuse("unauthorized", "the token is another user's");
                return false;
            }
            Err(detail) => {
                self.refuse("unauthorized", detail);
                return false;
            }
        };
        self.world.roster.renew(caller.user, self.connection, caller.login);
        let expires_at = caller.expires_at;
        self.caller = caller;
        self.close_if_ended();
        self.outbox.say(ServerFrame::Authenticated { expires_at }.encode(None));
        true
    }

    /// Tells the client what was wrong with what it said.
    pub fn refuse(&self, code: &'static str, detail: &str) {
        self.outbox.say(ServerFrame::Error { code, detail }.encode(None));
    }

    fn say_present(&self) {
        self.world.presence.put(Present { connection: self.connection, user: self.caller.user });
    }

    /// A login may end between the check of its token and its place in the roster.
    fn close_if_ended(&self) {
        if self.world.revocations.is_revoked(self.caller.login) {
            self.outbox.close(Close::Unauthorized);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Does nothing where the connection is closing for another reason.
        self.outbox.close(Close::Internal);
        self.world.presence.remove(self.connection);
        self.world.roster.leave(self.caller.user, self.connection);
    }
}
