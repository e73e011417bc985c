//! How many records there are of a kind, and a checksum of them in whatever order they come.

use super::Record;
use sha2::{Digest, Sha256};
use std::fmt;

/// Counts records, and adds up the first sixteen bytes of the SHA-256 of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    sum: u128,
}

impl Sum {
    /// One record more.
    pub fn add(&mut self, record: &Record) {
        let hash = Sha256::digest(record.sealed().as_bytes());
        let first = hash.iter().take(16).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        self.count += 1;
        self.sum = self.sum.wrapping_add(first);
    }
}

impl fmt::Display for Sum {
    /// The checksum's first sixteen digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", (self.sum >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::Sum;
    use crate::model::id::LoginId;
    use crate::model::timestamp::Timestamp;
    use crate::storage::moving::{EndedLogin, Record};

    fn sum(records: &[&Record]) -> Sum {
        let mut sum = Sum::default();
        records.iter().for_each(|record| sum.add(record));
        sum
    }

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let id = LoginId::make();
        let ended = |millis| Record::Ended(EndedLogin { id, expires_at: Timestamp::from_millis(millis) });
        let (one, two, three) = (ended(1), ended(2), ended(3));
        assert_eq!(sum(&[&one, &two]), sum(&[&two, &one]));
        assert_ne!(sum(&[&one, &two]), sum(&[&one, &three]));
        assert_ne!(sum(&[&one]), sum(&[&one, &one]));
        assert_ne!(sum(&[&one]), Sum::default());
        assert_eq!(sum(&[&one]).to_string().len(), 16);
    }
}
