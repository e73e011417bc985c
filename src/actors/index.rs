//! Which local connections follow which authors: the table that a relay pushes by.
//!
//! Built for 10,000 connections with 100 followees each: authors and connections are numbered within
//! the table, so that one followed author costs a connection eight bytes.

use super::outbox::Outbox;
use crate::model::cursor::Seq;
use crate::model::id::{ConnectionId, UserId};
use std::collections::HashMap;
use std::sync::Arc;

/// One relay's table.
#[derive(Default)]
pub struct Index {
    authors: HashMap<UserId, u32>,
    followed: Slots<Followed>,
    connections: HashMap<ConnectionId, u32>,
    members: Slots<Member>,
    /// Authors whose first follower came, or last one went, since they were asked for.
    changed: Vec<(UserId, bool)>,
}

struct Followed {
    author: UserId,
    followers: Vec<u32>,
    /// Connections whose follow is so young that entries from before it may still come by.
    young: HashMap<u32, Seq>,
}

struct Member {
    outbox: Arc<Outbox>,
    follows: Vec<u32>,
}

impl Index {
    /// A connection enters with its followees, each with the entry after which its follow began.
    /// `mark`: entries up to here no longer come by.
    pub fn enter(
        &mut self,
        connection: ConnectionId,
        outbox: Arc<Outbox>,
        followees: &[(UserId, Seq)],
        mark: Seq,
    ) {
        self.leave(connection);
        let member = self.members.put(Member { outbox, follows: Vec::with_capacity(followees.len()) });
        self.connections.insert(connection, member);
        for (author, since) in followees {
            self.link(member, *author, *since, mark);
        }
    }

    /// A connection leaves.
    pub fn leave(&mut self, connection: ConnectionId) {
        let Some(number) = self.connections.remove(&connection) else { return };
        let Some(member) = self.members.take(number) else { return };
        for author in member.follows {
            self.unlink(number, author);
        }
    }

    /// Connections that are here begin to follow an author.
    pub fn follow(&mut self, connections: &[ConnectionId], author: UserId, since: Seq, mark: Seq) {
        for connection in connections {
            let Some(member) = self.connections.get(connection).copied() else { continue };
            if !self.follows(member, author) {
                self.link(member, author, since, mark);
            }
        }
    }

    /// Connections no longer follow an author.
    pub fn unfollow(&mut self, connections: &[ConnectionId], author: UserId) {
        let Some(number) = self.authors.get(&author).copied() else { return };
        for connection in connections {
            let Some(member) = self.connections.get(connection).copied() else { continue };
            if let Some(entry) = self.members.get_mut(member) {
                entry.follows.retain(|followed| *followed != number);
            }
            self.unlink(member, number);
        }
    }

    /// The outbox of a connection that is here.
    pub fn outbox(&self, connection: ConnectionId) -> Option<&Arc<Outbox>> {
        let number = self.connections.get(&connection)?;
        self.members.get(*number).map(|member| &member.outbox)
    }

    /// Whether anybody here follows an author.
    pub fn is_followed(&self, author: UserId) -> bool {
        self.authors.contains_key(&author)
    }

    /// Those to whom an author's entry goes.
    pub fn followers(&mut self, author: UserId, seq: Seq, mark: Seq) -> Followers<'_> {
        let number = self.authors.get(&author).copied();
        if let Some(followed) = number.and_then(|number| self.followed.get_mut(number))
            && !followed.young.is_empty()
        {
            followed.young.retain(|_, since| *since > mark);
        }
        let followed = number.and_then(|number| self.followed.get(number));
        Followers { members: &self.members, followed, seq, next: 0 }
    }

    /// Authors whom somebody here follows now and nobody did, or the other way round, since this was last asked.
    pub fn take_changes(&mut self) -> Vec<(UserId, bool)> {
        std::mem::take(&mut self.changed)
    }

    /// Connections and authors in the table.
    pub fn len(&self) -> (usize, usize) {
        (self.connections.len(), self.authors.len())
    }

    fn follows(&self, member: u32, author: UserId) -> bool {
        let number = self.authors.get(&author);
        number.is_some_and(|number| {
            self.members.get(member).is_some_and(|entry| entry.follows.contains(number))
        })
    }

    fn link(&mut self, member: u32, author: UserId, since: Seq, mark: Seq) {
        let number = *self.authors.entry(author).or_insert_with(|| {
            self.changed.push((author, true));
            self.followed.put(Followed { author, followers: Vec::new(), young: HashMap::new() })
        });
        let (Some(entry), Some(followed)) = (self.members.get_mut(member), self.followed.get_mut(number))
        else {
            return;
        };
        entry.follows.push(number);
        followed.followers.push(member);
        if since > mark {
            followed.young.insert(member, since);
        }
    }

    fn unlink(&mut self, member: u32, number: u32) {
        let Some(followed) = self.followed.get_mut(number) else { return };
        if let Some(place) = followed.followers.iter().position(|follower| *follower == member) {
            followed.followers.swap_remove(place);
        }
        followed.young.remove(&member);
        if followed.followers.is_empty() {
            let author = followed.author;
            self.authors.remove(&author);
            self.changed.push((author, false));
            self.followed.take(number);
        }
    }
}

/// The outboxes that one entry goes to.
pub struct Followers<'a> {
    members: &'a Slots<Member>,
    followed: Option<&'a Followed>,
    seq: Seq,
    next: usize,
}

impl<'a> Iterator for Followers<'a> {
    type Item = &'a Arc<Outbox>;

    fn next(&mut self) -> Option<Self::Item> {
        let followed = self.followed?;
        loop {
            let number = *followed.followers.get(self.next)?;
            self.next += 1;
            // A new follower is not told what was posted before the follow.
            if followed.young.get(&number).is_some_and(|since| self.seq <= *since) {
                continue;
            }
            if let Some(member) = self.members.get(number) {
                return Some(&member.outbox);
            }
        }
    }
}

/// Things under small numbers, which are given again when free.
struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn put(&mut self, thing: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = Some(thing);
            return number;
        }
        self.slots.push(Some(thing));
        // 20,000 files a process keep this far below 2^32.
        (self.slots.len() - 1) as u32
    }

    fn take(&mut self, number: u32) -> Option<T> {
        let thing = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::actors::outbox::Outbox;
    use crate::model::cursor::Seq;
    use crate::model::id::{ConnectionId, UserId};
    use std::sync::Arc;

    fn outbox() -> Arc<Outbox> {
        Arc::new(Outbox::new(None, 1000))
    }

    fn count(index: &mut Index, author: UserId, seq: u64) -> usize {
        index.followers(author, Seq(seq), Seq(0)).count()
    }

    #[test]
    fn an_entry_goes_to_those_who_follow_and_nobody_else() {
        let (a, b) = (UserId::make(), UserId::make());
        let (one, two) = (ConnectionId::make(), ConnectionId::make());
        let mut index = Index::default();
        index.enter(one, outbox(), &[(a, Seq(0)), (b, Seq(0))], Seq(0));
        index.enter(two, outbox(), &[(a, Seq(0))], Seq(0));
        assert_eq!((count(&mut index, a, 1), count(&mut index, b, 1)), (2, 1));
        index.unfollow(&[two], a);
        assert_eq!(count(&mut index, a, 1), 1);
        index.follow(&[two], b, Seq(0), Seq(0));
        index.follow(&[two], b, Seq(0), Seq(0));
        assert_eq!(count(&mut index, b, 1), 2);
    }

    #[test]
    fn who_leaves_leaves_nothing_behind() {
        let authors: Vec<_> = (0..10).map(|_| (UserId::make(), Seq(0))).collect();
        let connections: Vec<_> = (0..10).map(|_| ConnectionId::make()).collect();
        let mut index = Index::default();
        for connection in &connections {
            index.enter(*connection, outbox(), &authors, Seq(0));
        }
        for connection in &connections {
            index.leave(*connection);
        }
        assert_eq!(index.len(), (0, 0));
        assert!(index.members.slots.iter().all(Option::is_none));
        assert!(index.followed.slots.iter().all(Option::is_none));
    }

    #[test]
    fn a_new_follower_is_not_told_what_was_posted_before_the_follow() {
        let author = UserId::make();
        let mut index = Index::default();
        index.enter(ConnectionId::make(), outbox(), &[(author, Seq(5))], Seq(3));
        assert_eq!((count(&mut index, author, 5), count(&mut index, author, 6)), (0, 1));
    }
}
