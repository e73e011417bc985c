//! How many copies a keyspace keeps, and where: parsed from a setting, written as CQL.

use std::fmt;
use std::str::FromStr;

/// `3` (so many in each datacenter), or `dc1=3,dc2=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication(Vec<(String, u8)>);

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of copies from 1 to 9, or one for each datacenter, such as `dc1=3,dc2=2`")]
pub struct ReplicationError;

/// The option's name for every datacenter.
const EVERYWHERE: &str = "replication_factor";

impl Replication {
    /// The keyspace's `replication` option.
    #[must_use]
    pub fn cql(&self) -> String {
        let places: Vec<_> = self.0.iter().map(|(place, copies)| format!("'{place}': {copies}")).collect();
        format!("{{'class': 'NetworkTopologyStrategy', {}}}", places.join(", "))
    }
}

impl Default for Replication {
    fn default() -> Self {
        Self(vec![(EVERYWHERE.to_owned(), 1)])
    }
}

impl FromStr for Replication {
    type Err = ReplicationError;

    fn from_str(text: &str) -> Result<Self, ReplicationError> {
        let copies = |text: &str| match text.trim().parse::<u8>() {
            Ok(copies @ 1..=9) => Ok(copies),
            _ => Err(ReplicationError),
        };
        if !text.contains('=') {
            return Ok(Self(vec![(EVERYWHERE.to_owned(), copies(text)?)]));
        }
        let place = |part: &str| {
            let (name, count) = part.split_once('=').ok_or(ReplicationError)?;
            let name = name.trim();
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
            if name.is_empty() || name == EVERYWHERE || !name.chars().all(is_name) {
                return Err(ReplicationError);
            }
            Ok((name.to_owned(), copies(count)?))
        };
        text.split(',').map(place).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [(place, copies)] if place == EVERYWHERE => write!(f, "{copies}"),
            places => {
                let places: Vec<_> =
                    places.iter().map(|(place, copies)| format!("{place}={copies}")).collect();
                f.write_str(&places.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Replication;

    #[test]
    fn a_number_is_for_every_datacenter() {
        let three: Replication = "3".parse().unwrap();
        assert_eq!(three.cql(), "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}");
        assert_eq!(three.to_string(), "3");
    }

    #[test]
    fn datacenters_have_their_own() {
        let two: Replication = "dc1=3, dc-2=2".parse().unwrap();
        assert_eq!(two.cql(), "{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc-2': 2}");
        assert_eq!(two.to_string(), "dc1=3,dc-2=2");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for wrong in ["", "0", "10", "three", "dc1=", "=3", "dc'1=3", "dc1=3,", "replication_factor=3"] {
            assert!(wrong.parse::<Replication>().is_err(), "{wrong}");
        }
    }
}
