//! The follower's side of follows: whom somebody follows, and whether a follow is made or ends.
//!
//! It owns `following`, whose rows are the claims that decide, `following_by_place` and `told_follows`. A follow or unfollow is a
//! job, then one lightweight transaction on the follower's partition, then all that is made from it (the followee's
//! side, the lists, the counts, the newest posts), then its event. Changes of one follower take turns. What was not
//! answered is found out by the job's stamp in the row; the caller waits for that no longer than its patience
//! lasts, the change goes on until it is done.

use super::backfill::{Sight, not_behind};
use super::cql::{Cql, Decision, statements};
use super::followers::{ANCHOR, Side, before, rows};
use super::jobs::Job;
use super::stamp::{self, column, from_column};
use super::turns::{Pauses, Turns, patiently, until_done};
use super::{Inner, Store};
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::{FollowId, UserId};
use crate::model::social::Follow;
use crate::model::timestamp::Timestamp;
use crate::model::user::Named;
use crate::storage::{Followed, Graph, Listed, Page, Pending, StorageError};
use scylla::serialize::row::SerializeRow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A row remembers the jobs of so many changes.
pub(super) const RECENT: usize = 8;
/// For how long a place that is left costs a tombstone: the tables' `gc_grace_seconds`.
const TOMBSTONES: Duration = Duration::from_secs(10 * 24 * 3_600);
/// How long it is kept that a follow was told to the follower's connections.
const TOLD_SECONDS: i32 = 3_600;

statements! {
    /// What the follower's side sends.
    Statements {
        claim: Decide, "SELECT followee, total, changes, state, version, id, created_at, since, sees_from, place, shard, recent FROM following WHERE follower = ? AND followee IN ?";
        decide: Claim, "UPDATE following SET total = ?, changes = ? WHERE follower = ? IF changes = ?";
        anchor: Claim, "INSERT INTO following (follower, followee) VALUES (?, ?)";
        take: Claim, "UPDATE following SET state = ?, version = ?, id = ?, created_at = ?, since = ?, sees_from = ?, place = ?, shard = ?, recent = ? WHERE follower = ? AND followee = ?";
        enlist: Write, "INSERT INTO following_by_place (follower, place, followee) VALUES (?, ?, ?) USING TIMESTAMP ?";
        delist: Write, "DELETE FROM following_by_place USING TIMESTAMP ? WHERE follower = ? AND place = ?";
        told: Write, "INSERT INTO told_follows (follow) VALUES (?) USING TTL ?";
        page: Read, "SELECT place, followee FROM following_by_place WHERE follower = ? AND place < ? LIMIT ?";
        total: Read, "SELECT total FROM following WHERE follower = ? LIMIT 1";
        followees: Read, "SELECT followee, state, since FROM following WHERE follower = ?";
    }
}

/// The follower's side of all follows.
pub(super) struct Following {
    statements: Statements,
    turns: Turns,
}

/// A row of `following`: what is so of one user's following another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    follows: bool,
    version: i64,
    id: Uuid,
    created_at: i64,
    since: i64,
    sees_from: i64,
    place: i64,
    shard: i32,
    recent: Vec<i64>,
}

/// A follower's partition: what it counts, and one of its rows.
#[derive(Clone, Debug, Default)]
struct Claim {
    total: i64,
    changes: Option<i64>,
    row: Option<Row>,
}

/// What is to be of a row, or what is answered without changing it.
type Verdict<T> = ControlFlow<T, Row>;

impl Graph for Store {
    fn follow(&self, follow: Follow, max: u64) -> Pending<Followed> {
        patiently(self.change(move |inner| inner.follow(follow, max)))
    }

    fn follow_told(&self, follow: FollowId) -> Pending<()> {
        self.change(move |inner| async move {
            let told = (follow.0, TOLD_SECONDS);
            inner.cql.write(&inner.following.statements.told, told).await
        })
    }

    fn unfollow(&self, follower: UserId, followee: UserId, now: Timestamp) -> Pending<Option<Follow>> {
        patiently(self.change(move |inner| inner.unfollow((follower, followee), now)))
    }

    fn followers(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>> {
        self.read(move |inner| inner.list_followers(user, page))
    }

    fn following(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>> {
        self.read(move |inner| async move { inner.list_following(user, page).await })
    }

    fn followees(&self, user: UserId) -> Pending<Vec<(UserId, Seq)>> {
        self.read(move |inner| async move { inner.followees(user).await })
    }
}

impl Following {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, turns: Turns::default() })
    }
}

impl Inner {
    async fn follow(self: Arc<Self>, follow: Follow, max: u64) -> Result<Followed, StorageError> {
        let Follow { follower, followee, .. } = follow;
        let pair = (follower, followee);
        let turn = self.following.turns.of(follower).await;
        let (is_somebody, is_there, claim, since, sees_from, shard) = tokio::try_join!(
            self.is_user(follower),
            self.is_user(followee),
            self.follow_claim(pair),
            self.newest_entry(followee),
            self.sees_from(followee),
            self.shard_for(followee, follower),
        )?;
        if !is_there {
            return Ok(Followed::Missing);
        }
        if !is_somebody {
            return Err(StorageError::Refused("a follow by nobody".to_owned()));
        }
        let sees_from = not_behind(sees_from, since);
        let verdict = |claim: &Claim| match &claim.row {
            Some(row) if row.follows => {
                ControlFlow::Break(Followed::Already { since: Timestamp::from_millis(row.created_at) })
            }
            _ if claim.total.unsigned_abs() >= max => ControlFlow::Break(Followed::TooMany),
            row => ControlFlow::Continue(Row {
                follows: true,
                version: row.as_ref().map_or(0, |row| row.version) + 1,
                id: follow.id.0,
                created_at: follow.created_at.millis(),
                since: column(since),
                sees_from,
                // That of its job, once there is one, unless the pair is restless.
                place: row.as_ref().map_or(0, |row| row.place),
                // Where the row is on the followee's side it stays.
                shard: row.as_ref().map_or(shard, |row| row.shard),
                recent: row.as_ref().map(|row| row.recent.clone()).unwrap_or_default(),
            }),
        };
        let (seq, row) = match self.settle_follow(pair, claim, follow.created_at, verdict).await? {
            ControlFlow::Continue(settled) => settled,
            ControlFlow::Break(answer) => return Ok(answer),
        };
        drop(turn);
        self.finish_follow(seq, pair, &row, follow.created_at).await?;
        Ok(Followed::Done { since })
    }

    async fn unfollow(
        self: Arc<Self>,
        pair: (UserId, UserId),
        now: Timestamp,
    ) -> Result<Option<Follow>, StorageError> {
        let turn = self.following.turns.of(pair.0).await;
        let claim = self.follow_claim(pair).await?;
        let verdict = |claim: &Claim| match &claim.row {
            Some(row) if row.follows => {
                ControlFlow::Continue(Row { follows: false, version: row.version + 1, ..row.clone() })
            }
            _ => ControlFlow::Break(()),
        };
        let settled = self.settle_follow(pair, claim, now, verdict).await?;
        drop(turn);
        let ControlFlow::Continue((seq, row)) = settled else { return Ok(None) };
        self.finish_follow(seq, pair, &row, now).await?;
        Ok(Some(row.follow(pair)))
    }

    /// Makes of the claim what `verdict` says, under a job; answers the job and the row that was made, or what the
    /// verdict was when nothing was to be made. Once the job is noted down it is found out what became of it.
    async fn settle_follow<T>(
        self: &Arc<Self>,
        pair: (UserId, UserId),
        mut claim: Claim,
        at: Timestamp,
        verdict: impl Fn(&Claim) -> Verdict<T>,
    ) -> Result<ControlFlow<T, (Seq, Row)>, StorageError> {
        let mut row = match verdict(&claim) {
            ControlFlow::Break(answer) => return Ok(ControlFlow::Break(answer)),
            ControlFlow::Continue(row) => row,
        };
        let mut noted = row.job(pair, at);
        let mut seq = self.begin_job(pair.0, &noted).await?;
        let mut former = Vec::new();
        let mut revision = 0;
        let mut pauses = Pauses::default();
        loop {
            row.take_job(seq);
            match self.write_claim(pair, &claim, &row).await {
                Ok(Decision::Applied) => {
                    self.end_jobs(former);
                    return Ok(ControlFlow::Continue((seq, row)));
                }
                Ok(Decision::Refused | Decision::Unknown) | Err(StorageError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            pauses.next().await;
            claim = until_done("a follow", || self.follow_claim(pair)).await?;
            let made_by = |made: &Row| former.iter().copied().chain([seq]).find(|seq| made.is_of(*seq));
            let noted_as = seq;
            if let Some((made, seq)) = claim.row.as_ref().and_then(|made| Some((made, made_by(made)?))) {
                self.end_jobs(former.into_iter().chain([noted_as]).filter(|other| *other != seq));
                return Ok(ControlFlow::Continue((seq, made.clone())));
            }
            row = match verdict(&claim) {
                ControlFlow::Break(answer) => {
                    // What was sent goes by counts that are no longer so: it cannot be done any more.
                    self.end_jobs(former);
                    self.end_job(seq);
                    return Ok(ControlFlow::Break(answer));
                }
                ControlFlow::Continue(row) => row,
            };
            let job = row.job(pair, at);
            if self.is_worn(seq) {
                former.push(seq);
                seq = until_done("the job of a follow", || self.begin_job(pair.0, &job)).await?;
                (noted, revision) = (job, 0);
            } else if job != noted {
                revision += 1;
                until_done("the job of a follow", || self.write_job(seq, &job, revision)).await?;
                noted = job;
            }
        }
    }

    /// All that is made from a claim once it is changed, and its event; the job ends with it.
    async fn finish_follow(
        self: &Arc<Self>,
        seq: Seq,
        pair: (UserId, UserId),
        row: &Row,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        let follow = row.follow(pair);
        let change =
            if row.follows { Change::FollowCreated(&follow) } else { Change::FollowDeleted(&follow) };
        let shown = until_done("what a follow shows", || self.show_follow(pair, row));
        let published = until_done("the event of a follow", || self.publish(seq, &change, at));
        tokio::try_join!(shown, published)?;
        self.end_job(seq);
        Ok(())
    }

    /// Makes from a claim the followee's side, the lists, the counts and the entries of the timeline.
    async fn show_follow(
        self: &Arc<Self>,
        (follower, followee): (UserId, UserId),
        row: &Row,
    ) -> Result<(), StorageError> {
        let Row { follows, version, place, .. } = *row;
        let theirs = (followee, row.shard);
        let side = Side { follower, version, follows, place };
        let Statements { enlist, delist, .. } = &self.following.statements;
        if follows {
            tokio::try_join!(
                self.take_side(theirs, side),
                self.cql.write(enlist, (follower.0, place, followee.0, version)),
                self.enlist_follower(theirs, follower, place, version),
            )?;
            // Only now: whatever is posted later finds the follower in the list.
            let begun = row.recent.first().copied().unwrap_or(place);
            let is_again = row.version > 1;
            let sight = Sight { since: row.since, from: row.sees_from, begun, is_again };
            return self.backfill(follower, followee, sight).await;
        }
        tokio::try_join!(
            self.take_side(theirs, side),
            self.cql.write(delist, (version, follower.0, place)),
            self.delist_follower(theirs, place, version),
        )?;
        Ok(())
    }

    /// Does what a follow or unfollow of a former run has left to be done, from what the claim says now; leaves it
    /// undone where the claim was not changed, which it cannot be any more then.
    pub(super) async fn redo_follow(self: &Arc<Self>, seq: Seq, job: &Job) -> Result<(), StorageError> {
        let Job::Follow { id, follower, followee, created_at, version, ends, at, place } = *job else {
            return Ok(());
        };
        let pair = (follower, followee);
        let mut pauses = Pauses::default();
        let row = loop {
            let claim = self.follow_claim(pair).await?;
            match claim.row.as_ref() {
                Some(row) if row.is_of(seq) => break row.clone(),
                _ => {}
            }
            // It was not done; so that it never will be, what was sent for it goes by other counts. Whoever is still
            // at it, on another node, finds that out and goes on under another job.
            if self.fence_follows(follower, &claim).await? == Decision::Applied {
                return Ok(());
            }
            pauses.next().await;
        };
        if let (true, Some(place)) = (ends, place) {
            // Another follow may have begun since: it stands elsewhere.
            let delist = &self.following.statements.delist;
            self.cql.write(delist, (version, follower.0, place)).await?;
            self.delist_follower((followee, row.shard), place, version).await?;
        }
        self.show_follow(pair, &row).await?;
        let follow = Follow { id, follower, followee, created_at: Timestamp::from_millis(created_at) };
        let change = if ends { Change::FollowDeleted(&follow) } else { Change::FollowCreated(&follow) };
        self.publish(seq, &change, Timestamp::from_millis(at)).await
    }

    async fn follow_claim(&self, (follower, followee): (UserId, UserId)) -> Result<Claim, StorageError> {
        type Columns = (
            Uuid,
            Option<i64>,
            Option<i64>,
            Option<i8>,
            Option<i64>,
            Option<Uuid>,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i32>,
            Option<Vec<i64>>,
        );
        let keys = [followee.0, ANCHOR];
        let found: Vec<Columns> =
            self.cql.rows(&self.following.statements.claim, (follower.0, &keys[..])).await?;
        let mut claim = Claim::default();
        for columns in found {
            let (key, total, changes, state, version, id, created_at, since, sees_from, place, shard, recent) =
                columns;
            claim.total = total.unwrap_or(0);
            claim.changes = changes;
            if key == followee.0 {
                claim.row = Some(Row {
                    follows: state == Some(1),
                    version: version.unwrap_or(0),
                    id: id.unwrap_or_default(),
                    created_at: created_at.unwrap_or(0),
                    since: since.unwrap_or(0),
                    sees_from: sees_from.unwrap_or(0),
                    place: place.unwrap_or(0),
                    shard: shard.unwrap_or(0),
                    recent: recent.unwrap_or_default(),
                });
            }
        }
        Ok(claim)
    }

    /// One lightweight transaction: the row and the counts, where nothing of the follower's has changed since
    /// `claim` was read.
    async fn write_claim(
        &self,
        (follower, followee): (UserId, UserId),
        claim: &Claim,
        row: &Row,
    ) -> Result<Decision, StorageError> {
        let was = claim.row.as_ref().is_some_and(|row| row.follows);
        let total = claim.total + i64::from(row.follows) - i64::from(was);
        let take: Box<dyn SerializeRow + Send + Sync> = Box::new((
            i8::from(row.follows),
            row.version,
            row.id,
            row.created_at,
            row.since,
            row.sees_from,
            row.place,
            row.shard,
            row.recent.clone(),
            follower.0,
            followee.0,
        ));
        self.decide_follows(follower, claim, total, Some(take)).await
    }

    /// Changes nothing but the number of changes.
    async fn fence_follows(&self, follower: UserId, claim: &Claim) -> Result<Decision, StorageError> {
        self.decide_follows(follower, claim, claim.total, None).await
    }

    async fn decide_follows(
        &self,
        follower: UserId,
        claim: &Claim,
        total: i64,
        row: Option<Box<dyn SerializeRow + Send + Sync>>,
    ) -> Result<Decision, StorageError> {
        let Statements { decide, anchor, take, .. } = &self.following.statements;
        let changes = claim.changes.unwrap_or(0) + 1;
        let mut statements = vec![decide];
        let mut values: Vec<Box<dyn SerializeRow + Send + Sync>> =
            vec![Box::new((total, changes, follower.0, claim.changes))];
        if claim.changes.is_none() {
            statements.push(anchor);
            values.push(Box::new((follower.0, ANCHOR)));
        }
        if let Some(row) = row {
            statements.push(take);
            values.push(row);
        }
        self.cql.decide_batch(&statements, values).await
    }

    async fn list_following(&self, user: UserId, page: Page) -> Result<Option<Listed<Named>>, StorageError> {
        let Statements { page: list, total, .. } = &self.following.statements;
        let (is_there, places, total) = tokio::try_join!(
            self.is_user(user),
            self.cql.rows::<(i64, Uuid)>(list, (user.0, before(page), rows(page))),
            self.cql.first::<(Option<i64>,)>(total, (user.0,)),
        )?;
        if !is_there {
            return Ok(None);
        }
        let places = places.into_iter().take(page.limit).collect();
        let total = total.and_then(|(total,)| total).unwrap_or(0).unsigned_abs();
        Ok(Some(Listed { items: self.named(places).await?, total }))
    }

    /// All whom a user follows, each with the entry of its own after which the follow began.
    pub(super) async fn followees(&self, user: UserId) -> Result<Vec<(UserId, Seq)>, StorageError> {
        type Columns = (Uuid, Option<i8>, Option<i64>);
        let found: Vec<Columns> = self.cql.rows(&self.following.statements.followees, (user.0,)).await?;
        let followed = found.into_iter().filter(|(_, state, _)| *state == Some(1));
        Ok(followed.map(|(id, _, since)| (UserId(id), from_column(since.unwrap_or(0)))).collect())
    }
}

impl Row {
    /// Whether the job of that stamp changed it.
    fn is_of(&self, seq: Seq) -> bool {
        self.recent.contains(&column(seq))
    }

    /// The job of that stamp changes it; a follow stands where its job does. That of a restless pair stays where it
    /// stood: each place that is left costs the lists a tombstone, and who reads them meets them all.
    fn take_job(&mut self, seq: Seq) {
        let is_restless = self.recent.len() == RECENT
            && self
                .recent
                .last()
                .is_some_and(|oldest| stamp::between(from_column(*oldest), seq) < TOMBSTONES);
        self.recent.insert(0, column(seq));
        self.recent.truncate(RECENT);
        if self.follows && !(is_restless && self.place > 0) {
            self.place = column(seq);
        }
    }

    /// The job that makes this of the row.
    fn job(&self, (follower, followee): (UserId, UserId), at: Timestamp) -> Job {
        Job::Follow {
            id: FollowId(self.id),
            follower,
            followee,
            created_at: self.created_at,
            version: self.version,
            ends: !self.follows,
            at: at.millis(),
            place: (!self.follows).then_some(self.place),
        }
    }

    fn follow(&self, (follower, followee): (UserId, UserId)) -> Follow {
        let created_at = Timestamp::from_millis(self.created_at);
        Follow { id: FollowId(self.id), follower, followee, created_at }
    }
}
