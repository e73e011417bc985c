//! The followee's side of follows: who follows somebody, and how many, made from what `following` says.
//!
//! It owns `followers`, `followers_by_place` and `follow_counts`. Followers are spread over shards of about
//! [`ROWS_A_SHARD`] rows: with the rows the number of shards doubles, and new ones go to the newer half. A follower's
//! row takes the version of its claim in `following` and never goes back; changes of one shard that wait go
//! together in one lightweight transaction.

use super::Inner;
use super::cql::{Cql, Decision, statements};
use super::stamp;
use super::turns::{Groups, Pauses};
use crate::model::id::UserId;
use crate::model::user::Named;
use crate::storage::{Listed, Page, StorageError};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::serialize::row::SerializeRow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use uuid::Uuid;

/// A shard that has so many rows gets no new ones.
const ROWS_A_SHARD: i64 = 50_000;
/// The most shards.
const SHARDS: i32 = 4_096;
/// Changes of one shard that go together.
const GROUP: usize = 50;
/// How long a group is tried before those who wait hear that it was not done.
const TRIED_FOR: Duration = Duration::from_secs(5);
/// Reads that are under way at once.
const AT_ONCE: usize = 32;
/// Keys of one `IN`.
const KEYS_AT_ONCE: usize = 100;
/// The row that holds nothing, so that one read finds a partition's counts whatever else it finds.
pub(super) const ANCHOR: Uuid = Uuid::nil();

statements! {
    /// What the followee's side sends.
    Statements {
        shard: Decide, "SELECT follower, total, changes, made, version, state FROM followers WHERE followee = ? AND shard = ? AND follower IN ?";
        decide: Claim, "UPDATE followers SET total = ?, changes = ?, made = ? WHERE followee = ? AND shard = ? IF changes = ?";
        anchor: Claim, "INSERT INTO followers (followee, shard, follower) VALUES (?, ?, ?)";
        take: Claim, "UPDATE followers SET version = ?, state = ?, place = ? WHERE followee = ? AND shard = ? AND follower = ?";
        count: Write, "UPDATE follow_counts USING TIMESTAMP ? SET followers[?] = ?, made[?] = ? WHERE user = ?";
        counts: Read, "SELECT followers, made FROM follow_counts WHERE user = ?";
        enlist: Write, "INSERT INTO followers_by_place (followee, shard, place, follower) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
        delist: Write, "DELETE FROM followers_by_place USING TIMESTAMP ? WHERE followee = ? AND shard = ? AND place = ?";
        page: Read, "SELECT place, follower FROM followers_by_place WHERE followee = ? AND shard = ? AND place < ? LIMIT ?";
        user: Read, "SELECT username FROM users WHERE id = ?";
        names: Read, "SELECT id, username FROM users WHERE id IN ?";
    }
}

/// The followee's side of all follows.
pub(super) struct Followers {
    statements: Statements,
    groups: Groups<(UserId, i32), Waiting>,
}

/// What a claim in `following` says of a follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) follower: UserId,
    pub(super) version: i64,
    pub(super) follows: bool,
    pub(super) place: i64,
}

struct Waiting {
    side: Side,
    answer: oneshot::Sender<Result<(), StorageError>>,
}

/// Follower, then the statics `total`, `changes`, `made`, then version and state.
type Row = (Uuid, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i8>);

/// What a shard's partition counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    total: i64,
    changes: Option<i64>,
    made: i64,
}

impl Followers {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, groups: Groups::default() })
    }
}

impl Inner {
    /// The shards of a user's followers, each with how many follow.
    pub(super) async fn follower_shards(&self, user: UserId) -> Result<BTreeMap<i32, i64>, StorageError> {
        Ok(self.follow_counts(user).await?.0)
    }

    async fn follow_counts(
        &self,
        user: UserId,
    ) -> Result<(BTreeMap<i32, i64>, BTreeMap<i32, i64>), StorageError> {
        type Row = (Option<BTreeMap<i32, i64>>, Option<BTreeMap<i32, i64>>);
        let row: Option<Row> = self.cql.first(&self.followers.statements.counts, (user.0,)).await?;
        let (followers, made) = row.unwrap_or_default();
        Ok((followers.unwrap_or_default(), made.unwrap_or_default()))
    }

    /// The shard that a new follower goes to.
    pub(super) async fn shard_for(&self, followee: UserId, follower: UserId) -> Result<i32, StorageError> {
        let (_, made) = self.follow_counts(followee).await?;
        Ok(shard_for(made.values().sum(), follower))
    }

    /// Brings the followee's side to what the claim says, counts included; a side that is there or newer stays.
    pub(super) async fn take_side(
        self: &Arc<Self>,
        (followee, shard): (UserId, i32),
        side: Side,
    ) -> Result<(), StorageError> {
        let key = (followee, shard);
        let (answer, answered) = oneshot::channel();
        if self.followers.groups.join(key, Waiting { side, answer })? {
            let inner = self.clone();
            tokio::spawn(async move {
                let mut running = inner.followers.groups.run(key);
                loop {
                    let group = running.next(GROUP, |_, _| true);
                    if group.is_empty() {
                        return;
                    }
                    let counts = inner.decide_sides(key, &group).await;
                    // The next group need not wait until these counts are shown: the newer ones stay.
                    tokio::spawn(inner.clone().show_counts(key, counts, group));
                }
            });
        }
        let ended = |_| StorageError::Unavailable("a follow was left half-way".to_owned());
        answered.await.map_err(ended)?
    }

    async fn show_counts(
        self: Arc<Self>,
        (followee, shard): (UserId, i32),
        counts: Result<Counts, StorageError>,
        group: Vec<Waiting>,
    ) {
        let shown = async {
            let Counts { total, changes, made } = counts?;
            let values = (changes.unwrap_or(0), shard, total, shard, made, followee.0);
            self.cql.write(&self.followers.statements.count, values).await
        };
        let shown = shown.await;
        for waiting in group {
            // Whoever asked may have gone.
            let _ = waiting.answer.send(shown.clone());
        }
    }

    /// Has the shard's rows take their versions; answers what the shard counts then.
    async fn decide_sides(&self, key: (UserId, i32), group: &[Waiting]) -> Result<Counts, StorageError> {
        let mut newest: HashMap<Uuid, Side> = HashMap::new();
        for Waiting { side, .. } in group {
            let kept = newest.entry(side.follower.0).or_insert(*side);
            if kept.version < side.version {
                *kept = *side;
            }
        }
        let mut wanted: Vec<Uuid> = newest.keys().copied().collect();
        wanted.push(ANCHOR);
        let until = Instant::now() + TRIED_FOR;
        let mut pauses = Pauses::default();
        loop {
            let values = (key.0.0, key.1, &wanted);
            let rows: Vec<Row> = self.cql.rows(&self.followers.statements.shard, values).await?;
            let counts = rows.first().map_or_else(Counts::default, |(_, total, changes, made, ..)| Counts {
                total: total.unwrap_or(0),
                changes: *changes,
                made: made.unwrap_or(0),
            });
            let (sides, next) = due(&newest, &rows, counts);
            if sides.is_empty() {
                return Ok(counts);
            }
            match self.write_sides(key, counts, next, &sides).await? {
                Decision::Applied => return Ok(next),
                Decision::Refused | Decision::Unknown if Instant::now() < until => pauses.next().await,
                Decision::Refused | Decision::Unknown => {
                    return Err(StorageError::Unavailable(
                        "a follow's other side was not written".to_owned(),
                    ));
                }
            }
        }
    }

    /// One lightweight transaction: the sides and the counts, or nothing.
    async fn write_sides(
        &self,
        (followee, shard): (UserId, i32),
        counts: Counts,
        next: Counts,
        sides: &[Side],
    ) -> Result<Decision, StorageError> {
        let Statements { decide, anchor, take, .. } = &self.followers.statements;
        let mut statements = vec![decide];
        let mut values: Vec<Box<dyn SerializeRow + Send + Sync>> =
            vec![Box::new((next.total, next.changes, next.made, followee.0, shard, counts.changes))];
        if counts.changes.is_none() {
            statements.push(anchor);
            values.push(Box::new((followee.0, shard, ANCHOR)));
        }
        for Side { follower, version, follows, place } in sides.iter().copied() {
            statements.push(take);
            values.push(Box::new((version, i8::from(follows), place, followee.0, shard, follower.0)));
        }
        self.cql.decide_batch(&statements, values).await
    }

    /// Puts a follower into the list; `version` is that of the claim that says so.
    pub(super) async fn enlist_follower(
        &self,
        (followee, shard): (UserId, i32),
        follower: UserId,
        place: i64,
        version: i64,
    ) -> Result<(), StorageError> {
        let values = (followee.0, shard, place, follower.0, version);
        self.cql.write(&self.followers.statements.enlist, values).await
    }

    /// Takes a follower off the list.
    pub(super) async fn delist_follower(
        &self,
        (followee, shard): (UserId, i32),
        place: i64,
        version: i64,
    ) -> Result<(), StorageError> {
        let values = (version, followee.0, shard, place);
        self.cql.write(&self.followers.statements.delist, values).await
    }

    /// A page of who follows a user; none where there is no such user.
    pub(super) async fn list_followers(
        self: Arc<Self>,
        user: UserId,
        page: Page,
    ) -> Result<Option<Listed<Named>>, StorageError> {
        let (is_there, shards) = tokio::try_join!(self.is_user(user), self.follower_shards(user))?;
        if !is_there {
            return Ok(None);
        }
        let (before, limit) = (before(page), rows(page));
        let lists: Vec<Vec<(i64, Uuid)>> = iter(shards.keys().copied())
            .map(|shard| {
                let statement = &self.followers.statements.page;
                self.cql.rows(statement, (user.0, shard, before, limit))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut places: Vec<_> = lists.into_iter().flatten().collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        places.truncate(page.limit);
        let total = shards.values().sum::<i64>().unsigned_abs();
        Ok(Some(Listed { items: self.named(places).await?, total }))
    }

    /// Whether there is such a user: a row of a version alone is nobody.
    pub(super) async fn is_user(&self, user: UserId) -> Result<bool, StorageError> {
        let row: Option<(Option<String>,)> =
            self.cql.first(&self.followers.statements.user, (user.0,)).await?;
        Ok(row.is_some_and(|(username,)| username.is_some()))
    }

    /// Users by id, each at its place, with their names now.
    pub(super) async fn named(&self, places: Vec<(i64, Uuid)>) -> Result<Vec<(u64, Named)>, StorageError> {
        let ids: Vec<Uuid> = places.iter().map(|(_, id)| *id).collect();
        let chunks: Vec<Vec<Uuid>> = ids.chunks(KEYS_AT_ONCE).map(<[Uuid]>::to_vec).collect();
        let found: Vec<Vec<(Uuid, Option<String>)>> = iter(chunks)
            .map(|ids| async move { self.cql.rows(&self.followers.statements.names, (ids,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut names: HashMap<Uuid, String> = HashMap::with_capacity(ids.len());
        names.extend(found.into_iter().flatten().filter_map(|(id, name)| Some((id, name?))));
        let named = places.into_iter().filter_map(|(place, id)| {
            let username = names.get(&id)?.clone();
            Some((place.unsigned_abs(), Named { id: UserId(id), username }))
        });
        Ok(named.collect())
    }
}

/// Those of the sides that their rows do not have yet, and what the shard counts with them.
fn due(newest: &HashMap<Uuid, Side>, rows: &[Row], counts: Counts) -> (Vec<Side>, Counts) {
    let known: HashMap<Uuid, (i64, bool)> = rows
        .iter()
        .filter_map(|(follower, .., version, state)| Some((*follower, ((*version)?, *state == Some(1)))))
        .collect();
    let mut next = Counts { changes: Some(counts.changes.unwrap_or(0) + 1), ..counts };
    let mut sides = Vec::with_capacity(newest.len());
    for (follower, side) in newest {
        let (version, followed) = known.get(follower).copied().unwrap_or_default();
        if version < side.version {
            next.total += i64::from(side.follows) - i64::from(followed);
            next.made += i64::from(version == 0);
            sides.push(*side);
        }
    }
    (sides, next)
}

/// The shard of a new follower of one who has so many rows of them: the first has no more than fits, and of each
/// further doubling the newer half takes what comes.
fn shard_for(made: i64, follower: UserId) -> i32 {
    let mut shards = 1;
    while shards < SHARDS && made >= ROWS_A_SHARD * i64::from(shards) {
        shards *= 2;
    }
    let newer = shards - shards / 2;
    shards / 2 + stamp::spread(follower) % newer
}

/// The shard of one of so many followers that come all at once.
pub(super) fn even_shard(crowd: u64, follower: UserId) -> i32 {
    let mut shards = 1;
    while shards < SHARDS && crowd > ROWS_A_SHARD.unsigned_abs() * u64::from(shards.unsigned_abs()) {
        shards *= 2;
    }
    stamp::spread(follower) % shards
}

/// Behind which place a page begins.
pub(super) fn before(page: Page) -> i64 {
    page.before.map_or(i64::MAX, |place| i64::try_from(place).unwrap_or(i64::MAX))
}

/// How many rows a page asks for.
pub(super) fn rows(page: Page) -> i32 {
    // CQL knows no limit of none.
    i32::try_from(page.limit).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::{Counts, ROWS_A_SHARD, SHARDS, Side, due, shard_for};
    use crate::model::id::UserId;
    use std::collections::HashMap;

    #[test]
    fn no_shard_of_a_growing_crowd_gets_many_more_rows_than_another() {
        // Every thousandth follower stands for a thousand.
        let mut rows: HashMap<i32, i64> = HashMap::new();
        let mut made = 0;
        while made < 5_000_000 {
            *rows.entry(shard_for(made, UserId::make())).or_default() += 1_000;
            made += 1_000;
        }
        assert_eq!(rows.len(), 128);
        let most = rows.values().max().copied().unwrap();
        assert!(most < 2 * ROWS_A_SHARD, "{most}");
        assert_eq!(rows[&0], ROWS_A_SHARD);
        assert!(shard_for(i64::MAX / 2, UserId::make()) < SHARDS);
    }

    #[test]
    fn a_row_takes_a_newer_version_once_and_never_an_older_one() {
        let follower = UserId::make();
        let side =
            |version, follows| HashMap::from([(follower.0, Side { follower, version, follows, place: 9 })]);
        let counts = Counts { total: 5, changes: Some(7), made: 6 };
        let row = |version, state| [(follower.0, Some(5), Some(7), Some(6), version, state)];

        let (sides, next) = due(&side(1, true), &[], Counts::default());
        assert_eq!((sides.len(), next.total, next.changes, next.made), (1, 1, Some(1), 1));
        let (sides, next) = due(&side(3, false), &row(Some(2), Some(1)), counts);
        assert_eq!((sides.len(), next.total, next.changes, next.made), (1, 4, Some(8), 6));
        // An unfollow and a follow that were overtaken leave the count as it is.
        let (sides, next) = due(&side(4, true), &row(Some(2), Some(1)), counts);
        assert_eq!((sides.len(), next.total), (1, 5));
        assert!(due(&side(2, false), &row(Some(2), Some(1)), counts).0.is_empty());
        assert!(due(&side(1, false), &row(Some(2), Some(1)), counts).0.is_empty());
        // An unfollow that comes before its follow: one row more, nobody more.
        let (sides, next) = due(&side(2, false), &row(None, None), counts);
        assert_eq!((sides.len(), next.total, next.made), (1, 5, 7));
    }
}
