//! The cluster's secret, which never travels: a node proves that it knows it. Also random numbers, from the same
//! library.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use std::fmt;

/// What all nodes of a cluster know and nobody else; never printed.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// The secret of these bytes. A short one can be guessed: 32 random bytes are right.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The proof that whoever says this knows it.
    pub(crate) fn proof(&self, of: &[&[u8]]) -> Vec<u8> {
        hmac::sign(&self.0, &joined(of)).as_ref().to_vec()
    }

    /// Whether this is that proof; takes as long whatever is wrong.
    pub(crate) fn is_proof(&self, proof: &[u8], of: &[&[u8]]) -> bool {
        hmac::verify(&self.0, &joined(of), proof).is_ok()
    }
}

/// Parts with their lengths, so that no two lists of parts are the same bytes.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let part = |part: &&[u8]| [&(part.len() as u64).to_be_bytes(), *part].concat();
    parts.iter().flat_map(part).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The system has no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandom;

/// So many random bytes.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// A random number.
pub(crate) fn random() -> Result<u64, NoRandom> {
    random_bytes().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_secret_and_its_words_only() {
        let secret = Secret::new(b"right");
        let proof = secret.proof(&[b"ab", b"c"]);
        assert!(secret.is_proof(&proof, &[b"ab", b"c"]));
        assert!(!secret.is_proof(&proof, &[b"a", b"bc"]));
        assert!(!secret.is_proof(&proof[1..], &[b"ab", b"c"]));
        assert!(!Secret::new(b"wrong").is_proof(&proof, &[b"ab", b"c"]));
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
