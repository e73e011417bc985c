//! Tokens of outside issuers: whoever signs in elsewhere is a user here, by `iss` and `sub`.
//!
//! Only issuers that are configured are listened to, each for its own audience, by RS256, ES256 or EdDSA
//! and a key of its own set that is for that very algorithm: `alg: none`, shared secrets and mismatches
//! never are. A token must expire; as its issuer's clock is not ours, [`LEEWAY`] is given.

use super::IdentityError;
use super::key_set::{KeySet, KeySource};
use super::tokens::{ISSUER, MAX_TOKEN_BYTES, issuer};
use crate::model::id::LoginId;
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// What is allowed for between an issuer's clock and ours.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// No subject is longer (OpenID Connect Core, 2).
const MAX_SUBJECT_CHARACTERS: usize = 255;
/// 9999-12-31T00:00:00Z: with the leeway still a moment that RFC 3339 can say.
const LAST_SECOND: f64 = 253_402_214_400.0;

/// An issuer whose tokens are accepted, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// What must be among the `aud` of its tokens.
    pub audience: String,
    /// Its JWK set: a file, or a URL that begins with `http://` or `https://`.
    pub jwks: String,
}

/// Verifies the tokens of all configured issuers.
pub struct Issuers {
    sources: Vec<Source>,
}

/// What a genuine token of an outside issuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Who made it.
    pub issuer: String,
    /// Who it stands for, as the issuer knows them.
    pub subject: String,
    /// The name that they would like.
    pub preferred_username: Option<String>,
    /// What stands for this token where logins are ended: made of its `jti`, or of its text.
    pub login: LoginId,
    /// Until when it is taken: its `exp` and the leeway.
    pub expires_at: Timestamp,
}

struct Source {
    issuer: String,
    audience: String,
    keys: Arc<KeySource>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    jti: Option<Value>,
    preferred_username: Option<Value>,
}

impl Issuers {
    /// Takes the configured issuers; their keys are read when a token asks for them. One issuer may be
    /// there several times, with an audience each.
    ///
    /// # Errors
    /// [`IdentityError::Setup`] for an entry that cannot be meant.
    pub fn new(configured: Vec<IssuerConfig>) -> Result<Self, IdentityError> {
        let mut client = None;
        let sources =
            configured.into_iter().map(|entry| Source::new(entry, &mut client)).collect::<Result<_, _>>()?;
        Ok(Self { sources })
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`IdentityError::Invalid`], [`IdentityError::Expired`]; [`IdentityError::KeysUnreachable`] where
    /// the issuer is configured and none of its keys are known.
    pub async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Outside, IdentityError> {
        let issuer = issuer(token).ok_or(IdentityError::Invalid)?;
        let header = header(token).ok_or(IdentityError::Invalid)?;
        let mut refused = IdentityError::Invalid;
        for source in self.sources.iter().filter(|source| source.issuer == issuer) {
            match source.verify(token, &header, now).await {
                Ok(outside) => return Ok(outside),
                Err(IdentityError::Invalid) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Source {
    fn new(entry: IssuerConfig, client: &mut Option<reqwest::Client>) -> Result<Self, IdentityError> {
        let IssuerConfig { issuer, audience, jwks } = entry;
        if issuer.is_empty() || audience.is_empty() {
            return Err(IdentityError::Setup("an outside issuer needs issuer, audience and jwks".to_owned()));
        }
        if issuer == ISSUER {
            return Err(IdentityError::Setup(format!("the issuer {ISSUER:?} is ourselves")));
        }
        let keys = KeySource::new(&jwks, client)?;
        Ok(Self { issuer, audience, keys })
    }

    async fn verify(
        &self,
        token: &Secret,
        header: &Header,
        now: Timestamp,
    ) -> Result<Outside, IdentityError> {
        let keys = self.keys.keys(header.kid.as_deref()).await?;
        let claims = self.genuine(token.expose(), header, &keys).ok_or(IdentityError::Invalid)?;
        let (expires_at, not_before) = (seconds(claims.exp).after(LEEWAY), claims.nbf.map(seconds));
        if expires_at <= now {
            return Err(IdentityError::Expired);
        }
        if not_before.is_some_and(|begins| begins.before(LEEWAY) > now) {
            return Err(IdentityError::Invalid);
        }
        if claims.sub.is_empty() || claims.sub.chars().count() > MAX_SUBJECT_CHARACTERS {
            return Err(IdentityError::Invalid);
        }
        let login = self.login(&claims, token.expose());
        Ok(Outside {
            issuer: self.issuer.clone(),
            subject: claims.sub,
            preferred_username: claims.preferred_username.as_ref().and_then(Value::as_str).map(str::to_owned),
            login,
            expires_at,
        })
    }

    /// The claims, if one of the keys has signed them, for us. Times are not looked at.
    fn genuine(&self, token: &str, header: &Header, keys: &KeySet) -> Option<Claims> {
        keys.candidates(header.kid.as_deref(), header.alg).find_map(|key| {
            let mut validation = Validation::new(key.algorithm);
            validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
            validation.set_issuer(&[&self.issuer]);
            validation.set_audience(&[&self.audience]);
            // Checked by the caller, to the millisecond and by its clock.
            validation.validate_exp = false;
            decode::<Claims>(token, &key.verifying, &validation).ok().map(|verified| verified.claims)
        })
    }

    /// A token's own id, within its issuer and subject; without one, the text that was signed. The
    /// signature is left out of it: ECDSA lets anybody write a second one that is as good.
    fn login(&self, claims: &Claims, token: &str) -> LoginId {
        let own = match claims.jti.as_ref().and_then(Value::as_str).filter(|jti| !jti.is_empty()) {
            Some(jti) => ["jti", jti],
            None => ["signed", token.rsplit_once('.').map_or(token, |(signed, _)| signed)],
        };
        let mut digest = Sha256::new();
        for part in [&self.issuer, &claims.sub, own[0], own[1]] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.finalize()[..16]);
        LoginId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The header, where it is one that we may go by.
fn header(token: &Secret) -> Option<Header> {
    if token.expose().len() > MAX_TOKEN_BYTES {
        return None;
    }
    let header = decode_header(token.expose()).ok()?;
    let accepted = matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA);
    (accepted && header.crit.is_none()).then_some(header)
}

/// A NumericDate (RFC 7519, 2), which may have a fraction, and may be beyond all calendars.
fn seconds(date: f64) -> Timestamp {
    Timestamp::from_millis((date.clamp(0.0, LAST_SECOND) * 1000.0) as i64)
}

#[cfg(test)]
mod tests;
