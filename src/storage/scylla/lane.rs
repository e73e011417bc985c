//! `Lane`: one author's posts and deletions, one group after the other, in the order of their calls.
//!
//! The author's row in `authors` is the one place that orders them: a group takes its place by one
//! lightweight transaction on it, behind the jobs that note the group down and before the rows that show it.
//! What is not known (a transaction that was not answered) is found out before anything else of the author
//! begins; its callers are told after the write deadline that it may have been done. A lane is made by the first
//! call and forgotten when idle; what waits in one is bounded.

use super::cql::{Cql, Decision, WRITE_DEADLINE, statements};
use super::jobs::Job;
use super::stamp::{self, column, from_column};
use super::{Inner, refuse};
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Content, Post};
use crate::model::timestamp::Timestamp;
use crate::storage::{Appended, Deletion, KeyUse, NewPost, Pending, StorageError};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

/// Calls that may wait for one author.
const WAITING: usize = 1_024;
/// Posts that take their place together.
const GROUP: usize = 32;
/// Stamps that an author's row remembers.
pub(super) const RECENT: usize = 32;
/// How long an idle lane is kept.
const IDLE: Duration = Duration::from_secs(120);
/// Between two tries of what must be found out.
const PAUSE: Duration = Duration::from_millis(250);

statements! {
    /// What orders an author's entries.
    Statements {
        author: Decide, "SELECT version, newest, newest_seq, posts, recent FROM authors WHERE id = ?";
        advance: Claim, "UPDATE authors SET version = ?, newest = ?, newest_seq = ?, posts = ?, recent = ? WHERE id = ? IF version = ?";
        name: Read, "SELECT username FROM users WHERE id = ?";
        key: Read, "SELECT body, post, content, created_at FROM idempotency WHERE user = ? AND key = ?";
        post: Read, "SELECT author, seq, deleted_at FROM posts WHERE id = ?";
    }
}

/// Every author that something was called for lately.
pub(super) struct Lanes {
    pub(super) statements: Statements,
    lanes: Mutex<HashMap<UserId, Arc<Lane>>>,
}

struct Lane {
    queue: Mutex<Queue>,
    /// What is known of the author's row may no longer be so.
    is_stale: AtomicBool,
    /// What the author's row says, as far as it is known; only the one who runs the lane has it.
    author: tokio::sync::Mutex<Option<Author>>,
}

struct Queue {
    waiting: VecDeque<(Call, OwnedSemaphorePermit)>,
    is_running: bool,
    used: Instant,
}

enum Call {
    Append(NewPost, Answer<Appended>),
    Delete(PostId, Timestamp, Answer<Deletion>),
    Newest(Answer<Option<PostId>>),
}

/// What is done at once.
enum Group {
    Append(Vec<(NewPost, Answer<Appended>)>),
    Delete(PostId, Timestamp, Answer<Deletion>),
    Newest(Answer<Option<PostId>>),
}

/// Whoever waits for an answer, until it got one.
struct Answer<T>(Option<oneshot::Sender<Result<T, StorageError>>>);

/// An author's row.
#[derive(Clone, Debug, Default)]
pub(super) struct Author {
    pub(super) version: Option<i64>,
    pub(super) newest: Option<Uuid>,
    pub(super) newest_seq: Option<i64>,
    pub(super) posts: i64,
    pub(super) recent: Vec<i64>,
}

impl Lanes {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, lanes: Mutex::default() })
    }

    /// Forgets idle lanes.
    pub(super) fn retire(&self) {
        self.lock().retain(|_, lane| {
            let queue = lane.queue();
            queue.is_running || queue.used.elapsed() < IDLE
        });
    }

    /// What is known of such authors is read anew before it is next used.
    pub(super) fn reread(&self, is_such: impl Fn(UserId) -> bool) {
        let lanes = self.lock();
        let such = lanes.iter().filter(|(author, _)| is_such(**author));
        such.for_each(|(_, lane)| lane.is_stale.store(true, Ordering::Relaxed));
    }

    /// Lets go what waits for such authors and was not begun: it is not done.
    pub(super) fn empty(&self, is_such: impl Fn(UserId) -> bool) {
        let lanes = self.lock();
        for (_, lane) in lanes.iter().filter(|(author, _)| is_such(**author)) {
            let waiting = std::mem::take(&mut lane.queue().waiting);
            waiting.into_iter().for_each(|(call, _)| call.refuse());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next group, or the end of running.
    fn next(&self) -> Option<(Group, Vec<OwnedSemaphorePermit>)> {
        let mut queue = self.queue();
        queue.used = Instant::now();
        let Some((call, place)) = queue.waiting.pop_front() else {
            queue.is_running = false;
            return None;
        };
        let mut places = vec![place];
        let group = match call {
            Call::Newest(answer) => Group::Newest(answer),
            Call::Delete(id, now, answer) => Group::Delete(id, now, answer),
            Call::Append(post, answer) => {
                let mut group = vec![(post, answer)];
                while let Some((Call::Append(next, _), _)) = queue.waiting.front()
                    && group.len() < GROUP
                    && !group.iter().any(|(post, _)| next.repeats(post))
                {
                    if let Some((Call::Append(post, answer), place)) = queue.waiting.pop_front() {
                        group.push((post, answer));
                        places.push(place);
                    }
                }
                Group::Append(group)
            }
        };
        Some((group, places))
    }
}

impl Call {
    /// It is not done: somebody else is to be asked.
    fn refuse(self) {
        let error = || StorageError::Unavailable("this author has another home now".to_owned());
        match self {
            Self::Append(_, mut answer) => answer.give(Err(error())),
            Self::Delete(_, _, mut answer) => answer.give(Err(error())),
            Self::Newest(mut answer) => answer.give(Err(error())),
        }
    }
}

impl<T> Answer<T> {
    fn give(&mut self, answer: Result<T, StorageError>) {
        if let Some(waiting) = self.0.take() {
            // Whoever asked may have gone.
            let _ = waiting.send(answer);
        }
    }
}

impl Inner {
    pub(super) fn append(self: Arc<Self>, post: NewPost) -> Pending<Appended> {
        let author = post.author;
        self.enqueue(author, |answer| Call::Append(post, answer))
    }

    pub(super) fn delete(self: Arc<Self>, author: UserId, id: PostId, now: Timestamp) -> Pending<Deletion> {
        self.enqueue(author, |answer| Call::Delete(id, now, answer))
    }

    pub(super) fn newest_id(self: Arc<Self>, author: UserId) -> Pending<Option<PostId>> {
        self.enqueue(author, Call::Newest)
    }

    fn enqueue<T: Send + 'static>(
        self: Arc<Self>,
        author: UserId,
        call: impl FnOnce(Answer<T>) -> Call,
    ) -> Pending<T> {
        let Ok(place) = self.calls.clone().try_acquire_owned() else {
            return refuse("too many calls are under way");
        };
        let (answer, answered) = oneshot::channel();
        {
            let mut lanes = self.lanes.lock();
            let lane = lanes.entry(author).or_insert_with(|| {
                Arc::new(Lane {
                    queue: Mutex::new(Queue {
                        waiting: VecDeque::new(),
                        is_running: false,
                        used: Instant::now(),
                    }),
                    is_stale: AtomicBool::new(false),
                    author: tokio::sync::Mutex::new(None),
                })
            });
            let mut queue = lane.queue();
            if queue.waiting.len() >= WAITING {
                return refuse("too many calls wait for this author");
            }
            queue.waiting.push_back((call(Answer(Some(answer))), place));
            if !queue.is_running {
                queue.is_running = true;
                drop(queue);
                tokio::spawn(self.clone().run(author, lane.clone()));
            }
        }
        Box::pin(async move {
            // The process ends: it may have been done.
            answered.await.unwrap_or_else(|_| Err(StorageError::Unavailable("a lane ended".to_owned())))
        })
    }

    async fn run(self: Arc<Self>, id: UserId, lane: Arc<Lane>) {
        let mut author = lane.author.lock().await;
        while let Some((group, _places)) = lane.next() {
            if lane.is_stale.swap(false, Ordering::Relaxed) {
                *author = None;
            }
            match group {
                Group::Newest(mut answer) => {
                    answer.give(self.known(id, &mut author).await.map(|author| author.newest.map(PostId)));
                }
                Group::Append(group) => self.append_group(id, &mut author, group).await,
                Group::Delete(post, now, answer) => {
                    self.delete_one(id, &mut author, post, now, answer).await;
                }
            }
        }
    }

    /// What the author's row says.
    async fn known(&self, id: UserId, author: &mut Option<Author>) -> Result<Author, StorageError> {
        if author.is_none() {
            *author = Some(self.author(id).await?);
        }
        Ok(author.clone().unwrap_or_default())
    }

    /// The author's row as it is now; one that is not there yet is empty.
    pub(super) async fn author(&self, id: UserId) -> Result<Author, StorageError> {
        type Row = (Option<i64>, Option<Uuid>, Option<i64>, Option<i64>, Option<Vec<i64>>);
        let row: Option<Row> = self.cql.first(&self.lanes.statements.author, (id.0,)).await?;
        let (version, newest, newest_seq, posts, recent) = row.unwrap_or_default();
        Ok(Author {
            version,
            newest,
            newest_seq,
            posts: posts.unwrap_or(0),
            recent: recent.unwrap_or_default(),
        })
    }

    /// What a key was used for, at whatever age.
    pub(super) async fn key_use(&self, user: UserId, key: &str) -> Result<Option<KeyUse>, StorageError> {
        type Row = (Vec<u8>, Uuid, String, i64);
        let row: Option<Row> = self.cql.first(&self.lanes.statements.key, (user.0, key)).await?;
        row.map(|(body, post, content, created_at)| {
            let body =
                body.try_into().map_err(|_| StorageError::Refused("a key without a hash".to_owned()))?;
            let (content, created_at) = (Content::stored(content), Timestamp::from_millis(created_at));
            Ok(KeyUse { body, post: Post { id: PostId(post), author: user, content, likes: 0, created_at } })
        })
        .transpose()
    }

    async fn append_group(
        self: &Arc<Self>,
        id: UserId,
        author: &mut Option<Author>,
        mut group: Vec<(NewPost, Answer<Appended>)>,
    ) {
        // Until a job is written, what fails has not happened.
        let begun = async {
            let known = self.known(id, author).await?;
            let name: Option<(Option<String>,)> =
                self.cql.first(&self.lanes.statements.name, (id.0,)).await?;
            let mut used = Vec::with_capacity(group.len());
            for (post, _) in &group {
                used.push(match &post.key {
                    Some(key) => self.key_use(id, &key.key).await?.filter(|used| is_kept(used, post)),
                    None => None,
                });
                if let Some(used @ None) = used.last_mut() {
                    *used = self.stored_before(&known, post).await?;
                }
            }
            Ok::<_, StorageError>((known, name, used))
        };
        let (known, name, used) = match begun.await {
            Ok(begun) => begun,
            Err(error) => return group.iter_mut().for_each(|(_, answer)| answer.give(Err(error.clone()))),
        };
        // A row of a version alone is nobody.
        let Some((Some(name),)) = name else {
            return group.iter_mut().for_each(|(_, answer)| answer.give(Ok(Appended::NoAuthor)));
        };
        let mut posts = Vec::with_capacity(group.len());
        let mut newest = known.newest;
        for ((post, mut answer), used) in group.drain(..).zip(used) {
            match used {
                Some(used) => answer.give(Ok(Appended::Repeated(used))),
                None if newest.is_some_and(|newest| post.id.0 <= newest) => {
                    let error = "a post's id must be greater than its author's newest".to_owned();
                    answer.give(Err(StorageError::Refused(error)));
                }
                None => {
                    newest = Some(post.id.0);
                    posts.push((post, answer));
                }
            }
        }
        let mut next = known.clone();
        let mut jobs = Vec::with_capacity(posts.len());
        for (post, _) in &posts {
            let seq = self.enter(id, &next);
            next.take_place(seq);
            next.newest = Some(post.id.0);
            next.newest_seq = Some(column(seq));
            next.posts += 1;
            jobs.push((seq, Job::post(post, &name, next.version.unwrap_or(0))));
        }
        let mut answers: Vec<_> = posts.into_iter().map(|(_, answer)| answer).collect();
        let mut fail =
            |error: &StorageError| answers.iter_mut().for_each(|answer| answer.give(Err(error.clone())));
        if self.take_place(id, author, &known, next, &jobs, &mut fail).await {
            for ((seq, job), answer) in jobs.into_iter().zip(&mut answers) {
                if let Some(entry) = job.entry(seq) {
                    answer.give(Ok(Appended::Stored(entry)));
                }
            }
        }
    }

    async fn delete_one(
        self: &Arc<Self>,
        id: UserId,
        author: &mut Option<Author>,
        post: PostId,
        now: Timestamp,
        mut answer: Answer<Deletion>,
    ) {
        type Row = (Option<Uuid>, Option<i64>, Option<i64>);
        let begun = async {
            let row: Option<Row> = self.cql.first(&self.lanes.statements.post, (post.0,)).await?;
            Ok::<_, StorageError>((row.unwrap_or_default(), self.known(id, author).await?))
        };
        let (post_seq, known) = match begun.await {
            Err(error) => return answer.give(Err(error)),
            Ok(((Some(owner), Some(seq), None), known)) if owner == id.0 => (seq, known),
            Ok(((Some(owner), _, None), _)) if owner != id.0 => return answer.give(Ok(Deletion::Forbidden)),
            Ok(_) => return answer.give(Ok(Deletion::Missing)),
        };
        let seq = self.enter(id, &known);
        let mut next = known.clone();
        next.take_place(seq);
        next.posts -= 1;
        let version = next.version.unwrap_or(0);
        let job = Job::Delete { post, post_seq, author: id, deleted_at: now.millis(), version };
        let entry = job.clone().entry(seq);
        let jobs = [(seq, job)];
        let mut fail = |error: &StorageError| answer.give(Err(error.clone()));
        if self.take_place(id, author, &known, next, &jobs, &mut fail).await
            && let Some(entry) = entry
        {
            answer.give(Ok(Deletion::Done(entry)));
        }
    }

    /// An entry's stamp, which whoever counts entries hears of.
    fn enter(&self, id: UserId, author: &Author) -> Seq {
        let after = author.recent.first().map(|seq| from_column(*seq));
        self.clock.stamp(stamp::shard_of(id), after, |seq| {
            self.in_flight.enter(seq);
            self.observer.entering(seq, id);
        })
    }

    /// There is no such entry.
    fn withdraw(&self, jobs: &[(Seq, Job)]) {
        for (seq, _) in jobs.iter().rev() {
            self.observer.withdrawn(*seq);
            self.in_flight.leave(*seq);
        }
    }

    /// Notes a group down, gives it its place and writes what shows it; answers whether that was done. `fail` hears
    /// what its callers are told when it was not, or takes too long.
    async fn take_place(
        self: &Arc<Self>,
        id: UserId,
        author: &mut Option<Author>,
        known: &Author,
        next: Author,
        jobs: &[(Seq, Job)],
        fail: &mut (dyn FnMut(&StorageError) + Send),
    ) -> bool {
        if jobs.is_empty() {
            return false;
        }
        if let Err(error) = self.write_jobs(jobs).await {
            // Whatever was noted down is void: it has no place, and nobody will give it one.
            self.withdraw(jobs);
            self.end_jobs(jobs.iter().map(|(seq, _)| *seq));
            fail(&error);
            return false;
        }
        let is_placed = self.advance(id, known, &next, fail).await;
        match is_placed {
            Ok(true) => *author = Some(next),
            outcome => {
                *author = None;
                self.withdraw(jobs);
                self.end_jobs(jobs.iter().map(|(seq, _)| *seq));
                let error = outcome.err().unwrap_or_else(|| {
                    StorageError::Unavailable("another node orders this author's posts".to_owned())
                });
                fail(&error);
                return false;
            }
        }
        // They have their place: what shows them is written however long it takes.
        while let Err(error) = self.show_entries(jobs).await {
            tracing::warn!(author = %id, %error, "entries of {id} are not shown yet: {error}");
            fail(&error);
            tokio::time::sleep(PAUSE).await;
        }
        self.open_entries(jobs.iter().map(|(seq, _)| (*seq, id)));
        jobs.iter().for_each(|(seq, _)| self.in_flight.leave(*seq));
        true
    }

    /// Brings the author's row from `known` to `next`; answers whether it is there. Does not answer before that
    /// is certain; `fail` hears when it takes longer than a write may.
    async fn advance(
        &self,
        id: UserId,
        known: &Author,
        next: &Author,
        fail: &mut (dyn FnMut(&StorageError) + Send),
    ) -> Result<bool, StorageError> {
        let until = Instant::now() + WRITE_DEADLINE;
        loop {
            let error = match self.set_author(id, known, next).await {
                Ok(Decision::Applied) => return Ok(true),
                Ok(Decision::Refused | Decision::Unknown) => match self.author(id).await {
                    Ok(now) if now.recent.starts_with(&next.recent[..1]) => return Ok(true),
                    Ok(now) if now.version != known.version => {
                        return Ok(next.recent.first().is_some_and(|seq| now.recent.contains(seq)));
                    }
                    // Not there, and may come yet: sending the same again makes it certain.
                    Ok(_) => StorageError::Unavailable("an author's row was not changed".to_owned()),
                    Err(error) => error,
                },
                Err(error @ StorageError::Refused(_)) => return Err(error),
                Err(error) => error,
            };
            if Instant::now() >= until {
                fail(&error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Inner {
    /// Brings an author's row from one state to another, if it is in that one.
    pub(super) async fn set_author(
        &self,
        id: UserId,
        known: &Author,
        next: &Author,
    ) -> Result<Decision, StorageError> {
        let values =
            (next.version, next.newest, next.newest_seq, next.posts, &next.recent, id.0, known.version);
        self.cql.decide(&self.lanes.statements.advance, values).await
    }
}

impl Author {
    /// The author's next entry.
    fn take_place(&mut self, seq: Seq) {
        self.version = Some(self.version.unwrap_or(0) + 1);
        self.recent.insert(0, column(seq));
        self.recent.truncate(RECENT);
    }
}

impl NewPost {
    /// Whether it may be the same as another: then it is answered by what that one made.
    fn repeats(&self, other: &Self) -> bool {
        let request = |post: &Self| post.attempt.map(|attempt| attempt.request);
        (self.key.is_some() && self.key == other.key)
            || (request(self).is_some() && request(self) == request(other))
    }
}

/// Whether a key still stands for what it was used for.
fn is_kept(used: &KeyUse, post: &NewPost) -> bool {
    used.post.created_at >= post.created_at.before(crate::storage::KEY_AGE)
}
