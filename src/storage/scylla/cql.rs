//! The one way to the CQL cluster: its session, what kinds of statements there are, and what is done when one fails.
//!
//! It owns retries (with jitter, inside a deadline), the circuit and the telling apart of what failed from
//! what is not known; it knows no table. Reads and idempotent writes are tried again here. A lightweight
//! transaction never is: whoever sent it reads what became of it ([`Decision::Unknown`]).

use crate::storage::StorageError;
use crate::storage::circuit::{Circuit, CircuitState};
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, PagerExecutionError, RequestAttemptError};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::batch::BatchValues;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a write is tried before it is given up: the write deadline that others count on.
pub(super) const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a read is tried.
const READ_DEADLINE: Duration = Duration::from_secs(4);
/// One attempt.
const ATTEMPT: Duration = Duration::from_millis(2_500);
/// After so long a read is asked of another node too.
const SPECULATE_AFTER: Duration = Duration::from_millis(150);
/// After so long whatever else may be repeated is: later, since it costs more (two serial reads at once hinder
/// each other), and before an attempt on a node that hangs is over.
const SPECULATE_LATE: Duration = Duration::from_secs(1);
/// The pause before the second attempt; it doubles, and a random part of it is waited.
const PAUSE: Duration = Duration::from_millis(40);
/// Rows that are fetched at a time.
const PAGE_ROWS: i32 = 5_000;

/// What a statement does, hence how it may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Shows: LOCAL_QUORUM, repeated at will, asked of a second node when the first is slow.
    Read,
    /// Reads a claim where it decides: LOCAL_SERIAL, repeated at will, asked of a second node when the first hangs.
    Decide,
    /// Writes a row that may be written again: LOCAL_QUORUM, repeated at will, sent to a second node when the
    /// first hangs.
    Write,
    /// Writes one row of very many, which may be written again: LOCAL_QUORUM, repeated at will. No second node is asked:
    /// to be ready for that costs each row a timer.
    WriteMany,
    /// A lightweight transaction: never repeated as it is.
    Claim,
}

/// What became of a lightweight transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It was done.
    Applied,
    /// Its condition did not hold.
    Refused,
    /// It may have been done, or be done yet: a read at LOCAL_SERIAL tells.
    Unknown,
}

/// Prepared statements, one a field: `statements! { Name { field: Use, "CQL"; … } }`.
macro_rules! statements {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ident, $cql:expr;)+ }) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $field: scylla::statement::prepared::PreparedStatement,)+
        }

        impl $name {
            /// Prepares them all.
            pub(super) async fn prepare(
                cql: &$crate::storage::scylla::cql::Cql,
            ) -> Result<Self, $crate::storage::StorageError> {
                // Boxed: so many at once would be a part of every future around this one.
                $(let $field = Box::pin(cql.prepare($crate::storage::scylla::cql::Use::$kind, $cql));)+
                let ($($field,)+) = tokio::try_join!($($field,)+)?;
                Ok(Self { $($field,)+ })
            }
        }
    };
}
pub(super) use statements;

/// The session and its circuit.
pub(super) struct Cql {
    session: Session,
    keyspace: String,
    circuit: Circuit,
    /// Requests sent, for those who count them.
    requests: AtomicU64,
}

impl Cql {
    /// On an open session.
    pub(super) fn new(session: Session, keyspace: &str) -> Self {
        Self {
            session,
            keyspace: keyspace.to_owned(),
            circuit: Circuit::default(),
            requests: AtomicU64::new(0),
        }
    }

    /// What its statements go by unless they say otherwise.
    pub(super) fn profile() -> ExecutionProfile {
        ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(ATTEMPT))
            .build()
    }

    /// The same, and a second node is asked where the first takes so long.
    fn speculating(patience: Duration) -> ExecutionProfileHandle {
        let policy = SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: patience };
        let profile = Self::profile().to_builder();
        profile.speculative_execution_policy(Some(Arc::new(policy))).build().into_handle()
    }

    /// What the circuit does.
    pub(super) fn circuit(&self) -> CircuitState {
        self.circuit.state(Instant::now())
    }

    /// How many requests were sent.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Prepares a statement, which names tables without their keyspace.
    pub(super) async fn prepare(&self, kind: Use, text: &str) -> Result<PreparedStatement, StorageError> {
        let prepared = self.session.prepare(qualified(text, &self.keyspace)).await;
        let mut prepared = prepared.map_err(|error| {
            StorageError::Unavailable(format!("a statement was not prepared ({text}): {error}"))
        })?;
        prepared.set_is_idempotent(kind != Use::Claim);
        prepared.set_page_size(PAGE_ROWS);
        let patience = match kind {
            Use::Read => Some(SPECULATE_AFTER),
            Use::Decide | Use::Write => Some(SPECULATE_LATE),
            Use::WriteMany | Use::Claim => None,
        };
        if let Some(patience) = patience {
            prepared.set_execution_profile_handle(Some(Self::speculating(patience)));
        }
        match kind {
            Use::Decide => prepared.set_consistency(Consistency::LocalSerial),
            Use::Claim => prepared.set_serial_consistency(Some(SerialConsistency::LocalSerial)),
            Use::Read | Use::Write | Use::WriteMany => {}
        }
        Ok(prepared)
    }

    /// Every row, however many pages that takes.
    pub(super) async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StorageError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut rows = Vec::new();
        let mut place = PagingState::start();
        loop {
            let (page, next) = self.page(statement, &values, place).await?;
            rows.extend(page);
            match next {
                Some(next) => place = next,
                None => return Ok(rows),
            }
        }
    }

    /// One page of rows, and where the next one begins if there may be one; an empty page is not the end.
    pub(super) async fn page<R>(
        &self,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
        place: PagingState,
    ) -> Result<(Vec<R>, Option<PagingState>), StorageError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut attempts = self.attempts(READ_DEADLINE)?;
        loop {
            let answer = self.session.execute_single_page(statement, values, place.clone()).await;
            match attempts.settle(answer).await? {
                ControlFlow::Break((result, next)) => {
                    let next = match next {
                        PagingStateResponse::HasMorePages { state } => Some(state),
                        PagingStateResponse::NoMorePages => None,
                    };
                    return Ok((read(result)?, next));
                }
                ControlFlow::Continue(()) => {}
            }
        }
    }

    /// All rows of a statement that the server does not page (an `IN` on the partition with an order).
    pub(super) async fn rows_at_once<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StorageError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut attempts = self.attempts(READ_DEADLINE)?;
        loop {
            let answer = self.session.execute_unpaged(statement, &values).await;
            if let ControlFlow::Break(result) = attempts.settle(answer).await? {
                return read(result);
            }
        }
    }

    /// The first row, if there is one.
    pub(super) async fn first<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<R>, StorageError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        Ok(self.rows_at_once(statement, values).await?.into_iter().next())
    }

    /// Writes a row that may be written again, tried until the write deadline.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), StorageError> {
        let mut attempts = self.attempts(WRITE_DEADLINE)?;
        loop {
            let answer = self.session.execute_unpaged(statement, &values).await;
            if let ControlFlow::Break(_) = attempts.settle(answer).await? {
                return Ok(());
            }
        }
    }

    /// Writes rows of one partition that may be written again.
    pub(super) async fn write_batch(
        &self,
        statement: &PreparedStatement,
        values: &[impl SerializeRow],
    ) -> Result<(), StorageError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        batch.set_execution_profile_handle(Some(Self::speculating(SPECULATE_LATE)));
        for _ in values {
            batch.append_statement(statement.clone());
        }
        let mut attempts = self.attempts(WRITE_DEADLINE)?;
        loop {
            let answer = self.session.batch(&batch, values).await;
            if let ControlFlow::Break(_) = attempts.settle(answer).await? {
                return Ok(());
            }
        }
    }

    /// Sends a lightweight transaction, once.
    pub(super) async fn decide(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Decision, StorageError> {
        let mut attempts = self.attempts(Duration::ZERO)?;
        let answer = self.session.execute_unpaged(statement, &values).await;
        attempts.decided(answer)
    }

    /// Sends a lightweight transaction of several statements on one partition, once.
    pub(super) async fn decide_batch(
        &self,
        statements: &[&PreparedStatement],
        values: impl BatchValues,
    ) -> Result<Decision, StorageError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        for statement in statements {
            batch.append_statement((*statement).clone());
        }
        let mut attempts = self.attempts(Duration::ZERO)?;
        let answer = self.session.batch(&batch, values).await;
        attempts.decided(answer)
    }

    /// The attempts of one call, unless the circuit is open.
    fn attempts(&self, deadline: Duration) -> Result<Attempts<'_>, StorageError> {
        let now = Instant::now();
        if !self.circuit.admits(now) {
            return Err(StorageError::Unavailable("the CQL cluster failed lately".to_owned()));
        }
        Ok(Attempts { cql: self, until: now + deadline, pause: PAUSE })
    }
}

/// One call that may be tried several times.
struct Attempts<'a> {
    cql: &'a Cql,
    until: Instant,
    pause: Duration,
}

impl Attempts<'_> {
    /// What an attempt answered: the result, or a pause before the next attempt, or the end of trying.
    async fn settle<T, E: Into<Failure>>(
        &mut self,
        answer: Result<T, E>,
    ) -> Result<ControlFlow<T>, StorageError> {
        self.cql.requests.fetch_add(1, Ordering::Relaxed);
        let failure = match answer {
            Ok(result) => {
                self.cql.circuit.succeeded();
                return Ok(ControlFlow::Break(result));
            }
            Err(error) => error.into(),
        };
        if failure.is_final {
            return Err(StorageError::Refused(failure.text));
        }
        if Instant::now() + self.pause >= self.until {
            self.cql.circuit.failed(Instant::now());
            return Err(StorageError::Unavailable(failure.text));
        }
        tokio::time::sleep(jittered(self.pause)).await;
        self.pause *= 2;
        Ok(ControlFlow::Continue(()))
    }

    /// What a lightweight transaction answered: its first column says whether it was applied.
    fn decided(&mut self, answer: Result<QueryResult, ExecutionError>) -> Result<Decision, StorageError> {
        self.cql.requests.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(result) => {
                self.cql.circuit.succeeded();
                Ok(if is_applied(result)? { Decision::Applied } else { Decision::Refused })
            }
            Err(error) => {
                let failure = Failure::from(error);
                if failure.is_final {
                    return Err(StorageError::Refused(failure.text));
                }
                // Whoever sent it reads what became of it: that tells whether the cluster answers.
                self.cql.circuit.unclear();
                tracing::debug!(error = failure.text, "a lightweight transaction's outcome is not known");
                Ok(Decision::Unknown)
            }
        }
    }
}

/// Why an attempt failed.
struct Failure {
    /// Trying again would fail again: the statement is wrong, or may not be sent.
    is_final: bool,
    text: String,
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Self {
        let is_final = match &error {
            ExecutionError::BadQuery(_) => true,
            ExecutionError::LastAttemptError(RequestAttemptError::SerializationError(_)) => true,
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => {
                matches!(
                    error,
                    DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
                )
            }
            _ => false,
        };
        Self { is_final, text: error.to_string() }
    }
}

impl From<PagerExecutionError> for Failure {
    fn from(error: PagerExecutionError) -> Self {
        Self { is_final: false, text: error.to_string() }
    }
}

pub(super) fn read<R>(result: QueryResult) -> Result<Vec<R>, StorageError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
    let rows = rows.rows::<R>().map_err(|error| unreadable(&error))?;
    rows.collect::<Result<_, _>>().map_err(|error| unreadable(&error))
}

pub(super) fn is_applied(result: QueryResult) -> Result<bool, StorageError> {
    let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
    let row: Option<scylla::value::Row> = rows.maybe_first_row().map_err(|error| unreadable(&error))?;
    let applied = row.and_then(|row| row.columns.into_iter().next().flatten());
    match applied {
        Some(scylla::value::CqlValue::Boolean(applied)) => Ok(applied),
        other => Err(StorageError::Refused(format!("a lightweight transaction answered {other:?}"))),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> StorageError {
    StorageError::Refused(format!("an answer could not be read: {error}"))
}

/// The statement with its one table in the keyspace.
fn qualified(text: &str, keyspace: &str) -> String {
    let before = ["FROM ", "INSERT INTO ", "UPDATE "].into_iter().find(|before| text.contains(before));
    match before.and_then(|before| Some((before, text.split_once(before)?))) {
        Some((before, (head, tail))) => format!("{head}{before}{keyspace}.{tail}"),
        None => text.to_owned(),
    }
}

/// Between a half and the whole of a pause, by chance.
pub(super) fn jittered(pause: Duration) -> Duration {
    let chance = Uuid::new_v4().as_u64_pair().0 % 512;
    pause / 2 + pause.mul_f64(chance as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn the_table_of_a_statement_is_in_the_keyspace() {
        for (text, expected) in [
            ("SELECT a FROM posts WHERE id = ?", "SELECT a FROM k.posts WHERE id = ?"),
            ("INSERT INTO posts (id) VALUES (?)", "INSERT INTO k.posts (id) VALUES (?)"),
            ("UPDATE posts USING TIMESTAMP ? SET a = ?", "UPDATE k.posts USING TIMESTAMP ? SET a = ?"),
            ("DELETE FROM posts WHERE id = ?", "DELETE FROM k.posts WHERE id = ?"),
        ] {
            assert_eq!(qualified(text, "k"), expected);
        }
    }
}
