//! How many messages each who takes part has sent: beside each message, so that what is unread is a difference of numbers
//! however many messages lie between.

use crate::storage::StorageError;

/// The counts of all who take part, in the order of the conversation's participants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::storage::scylla) struct Counts(Vec<u64>);

impl Counts {
    /// Of a conversation in which nothing was sent.
    pub(super) fn none(participants: usize) -> Self {
        Self(vec![0; participants])
    }

    /// With one more of the participant at that place.
    pub(super) fn plus(&self, place: usize) -> Self {
        let mut next = self.clone();
        next.0.iter_mut().skip(place).take(1).for_each(|count| *count += 1);
        next
    }

    /// That of the participant at a place.
    pub(super) fn of(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }

    /// As it is stored: seven bits a byte, the lowest first, the highest bit where more follow.
    pub(in crate::storage::scylla) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 2);
        for count in &self.0 {
            let mut left = *count;
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
        bytes
    }

    /// As it was stored.
    pub(in crate::storage::scylla) fn read(bytes: &[u8]) -> Result<Self, StorageError> {
        let (mut counts, mut count, mut shift) = (Vec::new(), 0_u64, 0);
        for byte in bytes {
            if shift > 63 {
                return Err(StorageError::Refused("counts of a message that are too great".to_owned()));
            }
            count |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                counts.push(count);
                (count, shift) = (0, 0);
            }
        }
        Ok(Self(counts))
    }
}

impl From<Vec<u64>> for Counts {
    fn from(counts: Vec<u64>) -> Self {
        Self(counts)
    }
}

impl From<Counts> for Vec<u64> {
    fn from(counts: Counts) -> Self {
        counts.0
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_are_read_as_they_were_written() {
        let counts = Counts(vec![0, 1, 127, 128, 300, 16_384, u64::MAX]);
        assert_eq!(Counts::read(&counts.bytes()).unwrap(), counts);
        assert_eq!(Counts::none(100).bytes().len(), 100);
        assert!(Counts::read(&[0xff; 20]).is_err());
    }

    #[test]
    fn one_more_is_counted_where_it_belongs() {
        let counts = Counts::none(3).plus(1).plus(1).plus(2);
        assert_eq!([counts.of(0), counts.of(1), counts.of(2), counts.of(3)], [0, 2, 1, 0]);
    }
}
