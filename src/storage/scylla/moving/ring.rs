//! Reading a table around the ring: so many rows behind a token, and the token behind which the next ones are.

use crate::storage::StorageError;
use crate::storage::scylla::cql::Cql;
use scylla::deserialize::row::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;

/// Rows in the order of their tokens.
pub(super) struct Arc<R> {
    pub(super) rows: Vec<R>,
    /// The last row's token, if there may be more.
    pub(super) next: Option<i64>,
}

impl<R> Arc<R> {
    /// As a place to go on from.
    pub(super) fn place(&self) -> Option<String> {
        self.next.map(|token| token.to_string())
    }

    /// Which share of the ring lies before that place.
    pub(super) fn share(&self) -> Option<f64> {
        let token = self.next.unwrap_or(i64::MAX);
        Some((token as f64 - i64::MIN as f64) / 2_f64.powi(64))
    }
}

/// The rows behind a place; the statement takes a token and a limit.
pub(super) async fn behind<R>(
    cql: &Cql,
    statement: &PreparedStatement,
    after: Option<&str>,
    most: i32,
    token: impl Fn(&R) -> i64,
) -> Result<Arc<R>, StorageError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let after = after.map(str::parse).transpose();
    let after =
        after.map_err(|error| StorageError::Refused(format!("a place of a copy is none: {error}")))?;
    let rows: Vec<R> = cql.rows(statement, (after.unwrap_or(i64::MIN), most)).await?;
    Ok(cut(rows, most, token))
}

/// Of a full page the rows of the last token may be more than there are: they are left to the next one.
fn cut<R>(mut rows: Vec<R>, most: i32, token: impl Fn(&R) -> i64) -> Arc<R> {
    let is_last = i32::try_from(rows.len()).is_ok_and(|count| count < most);
    let Some(last) = rows.last().filter(|_| !is_last).map(&token) else { return Arc { rows, next: None } };
    let whole = rows.partition_point(|row| token(row) < last);
    if whole > 0 {
        rows.truncate(whole);
    }
    let next = rows.last().map(&token);
    Arc { rows, next }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn rows_of_one_token_stay_together() {
        let cut = |rows: &[i64], most| {
            let arc = cut(rows.to_vec(), most, |token| *token);
            (arc.rows, arc.next)
        };
        assert_eq!(cut(&[], 3), (vec![], None));
        assert_eq!(cut(&[1, 2], 3), (vec![1, 2], None));
        assert_eq!(cut(&[1, 2, 3], 3), (vec![1, 2], Some(2)));
        assert_eq!(cut(&[1, 2, 2], 3), (vec![1], Some(1)));
        assert_eq!(cut(&[2, 2, 2], 3), (vec![2, 2, 2], Some(2)));
    }
}
