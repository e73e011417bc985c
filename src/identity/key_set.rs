//! The public keys of an outside issuer: read from a file or fetched from a URL, and kept.
//!
//! A URL's set is good for [`MAX_AGE`]; it is fetched again early where a token names a key that is not in
//! it, at most once in [`EARLY_FETCH_PAUSE`], so that forged key ids cost the issuer nothing. One fetch
//! runs at a time, in [`FETCH_TIMEOUT`] and [`MAX_BYTES`], and ends though who asked for it has left.
//! Where it fails the last good set stays. A file is looked at once in [`FILE_PAUSE`], and at an unknown
//! key at once, and read again when it has changed.
//!
//! Refuses every key that is not for signatures by RS256, ES256 or Ed25519; such keys beside others in a
//! set are left out.

use super::IdentityError;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A fetched set is used that long before it is fetched again.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// The least time between fetches for the sake of an unknown key, or after one that failed.
const EARLY_FETCH_PAUSE: Duration = Duration::from_secs(30);
/// The least time after a failure while there is no set at all.
const FIRST_FETCH_PAUSE: Duration = Duration::from_secs(1);
/// A fetch that takes longer has failed.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// A file is looked at no more often, while it has the key.
const FILE_PAUSE: Duration = Duration::from_secs(1);
/// No set is larger.
const MAX_BYTES: usize = 256 * 1024;
/// Of a set's keys no more are kept.
const MAX_KEYS: usize = 64;

/// The keys that an issuer signs with at a time.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

/// One of them, with the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) verifying: DecodingKey,
}

/// Where a set comes from, and what of it is kept.
pub(super) struct KeySource {
    origin: Origin,
    kept: Mutex<Kept>,
    /// Held by the one who fetches; the others wait for the outcome where they need it.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

enum Origin {
    File(PathBuf),
    Url(reqwest::Url, reqwest::Client),
}

#[derive(Clone, Default)]
struct Kept {
    set: Option<Arc<KeySet>>,
    /// When it was read, or found to be unchanged.
    fresh_at: Option<Instant>,
    /// No attempt is made before.
    pause_until: Option<Instant>,
    stamp: Option<Stamp>,
}

/// What tells a changed file: when it was written, and how long it is.
type Stamp = (SystemTime, u64);

/// A set as it was read; a fetched one has no stamp.
type Read = (Vec<u8>, Option<Stamp>);

impl KeySet {
    /// Reads a JWK set (RFC 7517), leaving out what is not for our algorithms.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|error| format!("not a JWK set: {error}"))?;
        let keys = set.keys.into_iter().filter_map(Key::parse).take(MAX_KEYS).collect();
        Ok(Self { keys })
    }

    /// The keys that a token may have been signed with: those of its key id and algorithm; where it
    /// names no key, all of its algorithm.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.keys
            .iter()
            .filter(move |key| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid))
    }

    fn has(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }
}

impl Key {
    fn parse(key: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        let for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
                && jwk
                    .common
                    .key_operations
                    .as_ref()
                    .is_none_or(|usages| usages.contains(&KeyOperations::Verify));
        // The kind of key decides its algorithm; a key that claims another is not used at all.
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        let matches = jwk.common.key_algorithm.is_none_or(|claimed| claimed == named);
        if !for_signatures || !matches {
            return None;
        }
        let verifying = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { kid: jwk.common.key_id, algorithm, verifying })
    }
}

impl KeySource {
    /// A set at a path, or at a URL that begins with `http://` or `https://`. Nothing is read yet.
    pub(super) fn new(jwks: &str, client: &mut Option<reqwest::Client>) -> Result<Arc<Self>, IdentityError> {
        let origin = if jwks.starts_with("http://") || jwks.starts_with("https://") {
            let url = reqwest::Url::parse(jwks)
                .map_err(|error| IdentityError::Setup(format!("jwks {jwks} is not a URL: {error}")))?;
            let client = match client {
                Some(client) => client.clone(),
                None => client.insert(fetcher()?).clone(),
            };
            Origin::Url(url, client)
        } else if jwks.is_empty() {
            return Err(IdentityError::Setup("jwks must be a file or a URL".to_owned()));
        } else {
            Origin::File(PathBuf::from(jwks))
        };
        let (kept, fetching) = Default::default();
        Ok(Arc::new(Self { origin, kept, fetching }))
    }

    /// The set, as new as it must be for a token that names `kid`.
    pub(super) async fn keys(self: &Arc<Self>, kid: Option<&str>) -> Result<Arc<KeySet>, IdentityError> {
        if let Some(set) = self.good_for(kid) {
            return Ok(set);
        }
        let guard = match Arc::clone(&self.fetching).try_lock_owned() {
            Ok(guard) => guard,
            Err(_) => {
                // Somebody is at it: an old set that has the key will do meanwhile.
                if let Some(set) = self.kept().set.filter(|set| set.has(kid)) {
                    return Ok(set);
                }
                Arc::clone(&self.fetching).lock_owned().await
            }
        };
        if self.good_for(kid).is_none() && self.may_try() {
            let source = Arc::clone(self);
            // A task of its own: who asked may leave, and the fetch is for everybody.
            let fetch = tokio::spawn(async move {
                source.renew().await;
                drop(guard);
            });
            fetch
                .await
                .map_err(|error| IdentityError::Failed(format!("reading a key set ended early: {error}")))?;
        }
        self.kept().set.ok_or(IdentityError::KeysUnreachable { retry_after: FIRST_FETCH_PAUSE })
    }

    /// The kept set, if it need not be renewed for a token that names `kid`.
    fn good_for(&self, kid: Option<&str>) -> Option<Arc<KeySet>> {
        let kept = self.kept();
        let fresh = self.is_fresh(&kept);
        kept.set.filter(|set| fresh && set.has(kid))
    }

    fn is_fresh(&self, kept: &Kept) -> bool {
        let age = match self.origin {
            Origin::File(_) => FILE_PAUSE,
            Origin::Url(..) => MAX_AGE,
        };
        kept.fresh_at.is_some_and(|at| at.elapsed() < age)
    }

    /// How long the next attempt waits: a file costs little to look at, another's server is spared.
    fn pause(&self, early: bool, failed: bool, has_set: bool) -> Duration {
        match self.origin {
            Origin::File(_) if failed => FILE_PAUSE,
            Origin::Url(..) if failed && !has_set => FIRST_FETCH_PAUSE,
            Origin::Url(..) if failed || early => EARLY_FETCH_PAUSE,
            Origin::File(_) | Origin::Url(..) => Duration::ZERO,
        }
    }

    fn may_try(&self) -> bool {
        self.kept().pause_until.is_none_or(|until| Instant::now() >= until)
    }

    async fn renew(&self) {
        let (early, stamp) = {
            let kept = self.kept();
            (self.is_fresh(&kept), kept.stamp)
        };
        let read = match &self.origin {
            Origin::File(file) => {
                let file = file.clone();
                tokio::task::spawn_blocking(move || read_if_changed(&file, stamp))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string()))
            }
            Origin::Url(url, client) => fetch(client, url.clone()).await.map(|bytes| Some((bytes, None))),
        };
        let parsed = read.and_then(|read| {
            read.map(|(bytes, stamp)| KeySet::parse(&bytes).map(|set| (set, stamp))).transpose()
        });
        let mut kept = self.lock();
        kept.pause_until = Some(Instant::now() + self.pause(early, parsed.is_err(), kept.set.is_some()));
        match parsed {
            Ok(Some((set, stamp))) => {
                if set.keys.is_empty() {
                    tracing::warn!(jwks = %self.name(), "the key set has no key for RS256, ES256 or Ed25519");
                }
                kept.set = Some(Arc::new(set));
                kept.stamp = stamp;
                kept.fresh_at = Some(Instant::now());
            }
            Ok(None) => kept.fresh_at = Some(Instant::now()),
            Err(error) => {
                tracing::warn!(jwks = %self.name(), %error, "a key set cannot be read; the last good one stays")
            }
        }
    }

    fn name(&self) -> String {
        match &self.origin {
            Origin::File(file) => file.display().to_string(),
            // Without what may be a credential: user, password, query.
            Origin::Url(url, _) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        }
    }

    fn kept(&self) -> Kept {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fetcher() -> Result<reqwest::Client, IdentityError> {
    reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("roost/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| IdentityError::Setup(format!("key sets cannot be fetched: {error}")))
}

async fn fetch(client: &reqwest::Client, url: reqwest::Url) -> Result<Vec<u8>, String> {
    let sent = client.get(url).header(reqwest::header::ACCEPT, "application/json").send().await;
    let mut response = sent.map_err(|error| error.without_url().to_string())?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(format!("it is larger than {MAX_BYTES} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn read_if_changed(file: &Path, stamp: Option<Stamp>) -> Result<Option<Read>, String> {
    let read = || -> io::Result<Option<Read>> {
        let open = fs::File::open(file)?;
        let metadata = open.metadata()?;
        let found = (metadata.modified()?, metadata.len());
        if stamp == Some(found) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        open.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
        }
        Ok(Some((bytes, Some(found))))
    };
    read().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, KeySet};
    use serde_json::{Value, json};

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn kept(key: &Value) -> Vec<Algorithm> {
        let set = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
        set.keys.iter().map(|key| key.algorithm).collect()
    }

    #[test]
    fn a_key_is_for_the_one_algorithm_of_its_kind() {
        let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
        let ec = json!({"kty": "EC", "crv": "P-256", "x": X, "y": X});
        let rsa = json!({"kty": "RSA", "n": X, "e": "AQAB"});
        assert_eq!(kept(&okp), [Algorithm::EdDSA]);
        assert_eq!(kept(&ec), [Algorithm::ES256]);
        assert_eq!(kept(&rsa), [Algorithm::RS256]);
        for (key, own) in [(okp, "EdDSA"), (ec, "ES256"), (rsa, "RS256")] {
            for alg in ["EdDSA", "ES256", "RS256", "HS256", "PS256", "RS512", "none"] {
                let mut named = key.clone();
                named["alg"] = json!(alg);
                assert_eq!(kept(&named).len(), usize::from(alg == own), "{named}");
            }
        }
    }

    #[test]
    fn keys_for_other_things_are_left_out() {
        for key in [
            json!({"kty": "oct", "k": X}),
            json!({"kty": "oct", "k": X, "alg": "HS256"}),
            json!({"kty": "EC", "crv": "P-384", "x": X, "y": X}),
            json!({"kty": "EC", "crv": "secp256k1", "x": X, "y": X}),
            json!({"kty": "OKP", "crv": "X25519", "x": X}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": X, "use": "enc"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": X, "key_ops": ["sign"]}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": "???"}),
            json!({"kty": "OKP"}),
            json!("key"),
            json!(null),
        ] {
            assert_eq!(kept(&key), [], "{key}");
        }
        let beside = json!({"keys": [{"kty": "oct", "k": X}, {"kty": "OKP", "crv": "Ed25519", "x": X}]});
        assert_eq!(KeySet::parse(beside.to_string().as_bytes()).unwrap().keys.len(), 1);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "{}", "[]", "{\"keys\": 1}", "<html>"] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
