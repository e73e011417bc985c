//! Our own tokens: access tokens and the cookie's tokens (JWT), and refresh tokens (opaque).
//!
//! A token is good for one thing: the cookie's is never taken for an access token, nor the reverse; their
//! audiences differ. Only the algorithm of our own key is accepted, whatever a token's header says, and
//! there is no leeway, the clock being the one that dated it. Whether a login was ended is not known here.

use super::IdentityError;
use super::keys::SigningKey;
use crate::model::id::{LoginId, UserId};
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// The `iss` of our tokens.
pub const ISSUER: &str = "roost";
/// How long a refresh token can be spent, and the cookie's token is good.
pub const REFRESH_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// No token of ours or of others is longer, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

const ACCESS: &str = "access";
const COOKIE: &str = "cookie";

/// Makes our tokens, and tells them from all others.
pub struct Mint {
    key: SigningKey,
    access_age: Duration,
}

/// What a token of ours says, its signature and its time having been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The user.
    pub user: UserId,
    /// The login that it belongs to.
    pub login: LoginId,
    /// When its time is over.
    pub expires_at: Timestamp,
}

/// A refresh token: the text is the client's, the hash is the store's.
pub struct RefreshToken {
    /// 32 random bytes in base64url.
    pub text: Secret,
    /// The SHA-256 of the text.
    pub hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: LoginId,
    jti: Uuid,
    iat: i64,
    exp: i64,
}

impl Mint {
    /// Signs with `key`; access tokens are good for `access_age`.
    #[must_use]
    pub const fn new(key: SigningKey, access_age: Duration) -> Self {
        Self { key, access_age }
    }

    /// How long an access token is good.
    #[must_use]
    pub const fn access_age(&self) -> Duration {
        self.access_age
    }

    /// A new access token.
    ///
    /// # Errors
    /// [`IdentityError::Failed`] where the key does not sign.
    pub fn access(&self, user: UserId, login: LoginId, now: Timestamp) -> Result<Secret, IdentityError> {
        self.sign(ACCESS, user, login, now, self.access_age)
    }

    /// A new token for the cookie.
    ///
    /// # Errors
    /// [`IdentityError::Failed`] where the key does not sign.
    pub fn cookie(&self, user: UserId, login: LoginId, now: Timestamp) -> Result<Secret, IdentityError> {
        self.sign(COOKIE, user, login, now, REFRESH_AGE)
    }

    /// Whether a token says that it is one of ours; [`Mint::verify_access`] tells whether that is true.
    #[must_use]
    pub fn claims(&self, token: &Secret) -> bool {
        issuer(token).is_some_and(|issuer| issuer == ISSUER)
    }

    /// Checks an access token.
    ///
    /// # Errors
    /// [`IdentityError::Invalid`], [`IdentityError::Expired`].
    pub fn verify_access(&self, token: &Secret, now: Timestamp) -> Result<Verified, IdentityError> {
        self.verify(ACCESS, token, now)
    }

    /// Checks a cookie's token.
    ///
    /// # Errors
    /// [`IdentityError::Invalid`], [`IdentityError::Expired`].
    pub fn verify_cookie(&self, token: &Secret, now: Timestamp) -> Result<Verified, IdentityError> {
        self.verify(COOKIE, token, now)
    }

    /// The public keys that others check our tokens by.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.key.jwks()
    }

    fn sign(
        &self,
        audience: &str,
        user: UserId,
        login: LoginId,
        now: Timestamp,
        age: Duration,
    ) -> Result<Secret, IdentityError> {
        let iat = now.millis() / 1000;
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            sub: user,
            sid: login,
            jti: Uuid::now_v7(),
            iat,
            exp: iat.saturating_add(age),
        };
        let header = Header { kid: self.key.kid.clone(), ..Header::new(self.key.algorithm) };
        jsonwebtoken::encode(&header, &claims, &self.key.signing)
            .map(Secret::new)
            .map_err(|error| IdentityError::Failed(format!("a token could not be signed: {error}")))
    }

    fn verify(&self, audience: &str, token: &Secret, now: Timestamp) -> Result<Verified, IdentityError> {
        let token = token.expose();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(IdentityError::Invalid);
        }
        let mut validation = Validation::new(self.key.algorithm);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[audience]);
        // The library takes a token in the very second of its `exp`; RFC 7519 (4.1.4) does not.
        validation.validate_exp = false;
        let verified = jsonwebtoken::decode::<Claims>(token, &self.key.verifying, &validation)
            .map_err(|_| IdentityError::Invalid)?;
        if verified.header.crit.is_some() {
            return Err(IdentityError::Invalid);
        }
        let claims = verified.claims;
        let expires_at = Timestamp::from_millis(claims.exp.saturating_mul(1000));
        if expires_at <= now {
            return Err(IdentityError::Expired);
        }
        Ok(Verified { user: claims.sub, login: claims.sid, expires_at })
    }
}

impl RefreshToken {
    /// A new one.
    ///
    /// # Errors
    /// [`IdentityError::Failed`] where the system gives no random bytes.
    pub fn make() -> Result<Self, IdentityError> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| IdentityError::Failed("no random bytes for a refresh token".to_owned()))?;
        let text = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
        let hash = Self::hash(&text);
        Ok(Self { text, hash })
    }

    /// What the store knows a refresh token by.
    #[must_use]
    pub fn hash(text: &Secret) -> [u8; 32] {
        Sha256::digest(text.expose()).into()
    }
}

/// Who a token says has made it. It has not been checked: good only for choosing by which key to check.
pub(super) fn issuer(token: &Secret) -> Option<String> {
    #[derive(Deserialize)]
    struct Issued {
        iss: String,
    }
    let token = token.expose();
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    jsonwebtoken::dangerous::insecure_decode_claims::<Issued>(token).ok().map(|claims| claims.iss)
}

#[cfg(test)]
mod tests {
    use super::{ACCESS, Claims, ISSUER, Mint, RefreshToken, Verified};
    use crate::identity::IdentityError;
    use crate::identity::keys::SigningKey;
    use crate::model::id::{LoginId, UserId};
    use crate::model::secret::Secret;
    use crate::model::timestamp::Timestamp;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;
    use std::time::Duration;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Timestamp = Timestamp::from_millis(1_767_398_400_000);

    fn shared() -> Mint {
        Mint::new(SigningKey::from_secret(&Secret::new(SECRET)).unwrap(), HOUR)
    }

    fn ed25519() -> Mint {
        let folder = tempfile::tempdir().unwrap();
        Mint::new(SigningKey::open_or_make(&folder.path().join("key.pem")).unwrap(), HOUR)
    }

    fn claims(audience: &str) -> Claims {
        Claims {
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            sub: UserId::make(),
            sid: LoginId::make(),
            jti: uuid::Uuid::now_v7(),
            iat: NOW.millis() / 1000,
            exp: NOW.millis() / 1000 + 3600,
        }
    }

    #[test]
    fn an_access_token_says_who_and_is_good_for_its_hour() {
        for mint in [shared(), ed25519()] {
            let (user, login) = (UserId::make(), LoginId::make());
            let token = mint.access(user, login, NOW).unwrap();
            assert!(mint.claims(&token));
            let expires_at = NOW.after(HOUR);
            let good = Ok(Verified { user, login, expires_at });
            assert_eq!(mint.verify_access(&token, NOW), good);
            assert_eq!(mint.verify_access(&token, expires_at.before(Duration::from_millis(1))), good);
            assert_eq!(mint.verify_access(&token, expires_at), Err(IdentityError::Expired));
        }
    }

    #[test]
    fn a_cookies_token_is_no_access_token_nor_the_reverse() {
        for mint in [shared(), ed25519()] {
            let (user, login) = (UserId::make(), LoginId::make());
            let (access, cookie) =
                (mint.access(user, login, NOW).unwrap(), mint.cookie(user, login, NOW).unwrap());
            assert!(mint.verify_cookie(&cookie, NOW.after(HOUR * 24 * 29)).is_ok());
            assert_eq!(mint.verify_cookie(&access, NOW), Err(IdentityError::Invalid));
            assert_eq!(mint.verify_access(&cookie, NOW), Err(IdentityError::Invalid));
        }
    }

    #[test]
    fn two_tokens_of_one_login_differ() {
        let (mint, user, login) = (shared(), UserId::make(), LoginId::make());
        assert!(mint.access(user, login, NOW).unwrap() != mint.access(user, login, NOW).unwrap());
    }

    #[test]
    fn a_token_without_a_signature_is_never_taken() {
        let token = shared().access(UserId::make(), LoginId::make(), NOW).unwrap();
        let mut parts = token.expose().split('.');
        let (header, payload) = (parts.next().unwrap(), parts.next().unwrap());
        for mint in [shared(), ed25519()] {
            for alg in ["none", "None", "NONE", "nOnE", "HS256", "EdDSA"] {
                let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
                for forged in [
                    format!("{unsigned}.{payload}."),
                    format!("{unsigned}.{payload}"),
                    format!("{header}.{payload}."),
                ] {
                    assert_eq!(
                        mint.verify_access(&Secret::new(forged), NOW),
                        Err(IdentityError::Invalid),
                        "{alg}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_the_algorithm_of_our_own_key_is_taken() {
        // Signed with the very secret, under its other algorithms.
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let forged = encode(
                &Header::new(algorithm),
                &claims(ACCESS),
                &EncodingKey::from_secret(SECRET.as_bytes()),
            )
            .unwrap();
            assert_eq!(shared().verify_access(&Secret::new(forged), NOW), Err(IdentityError::Invalid));
        }
        // Signed with what everybody knows of the Ed25519 key, as if that were a shared secret.
        let mint = ed25519();
        let x = mint.jwks()["keys"][0]["x"].as_str().unwrap().to_owned();
        for known in [x.clone().into_bytes(), URL_SAFE_NO_PAD.decode(x).unwrap()] {
            let forged =
                encode(&Header::new(Algorithm::HS256), &claims(ACCESS), &EncodingKey::from_secret(&known))
                    .unwrap();
            assert_eq!(mint.verify_access(&Secret::new(forged), NOW), Err(IdentityError::Invalid));
        }
    }

    #[test]
    fn another_nodes_key_or_a_changed_token_is_refused() {
        let (mint, other) = (ed25519(), ed25519());
        let token = other.access(UserId::make(), LoginId::make(), NOW).unwrap();
        assert!(mint.claims(&token), "it says that it is ours");
        assert_eq!(mint.verify_access(&token, NOW), Err(IdentityError::Invalid));

        let token = mint.access(UserId::make(), LoginId::make(), NOW).unwrap();
        let text = token.expose();
        for at in [3, text.find('.').unwrap() + 9, text.len() - 9] {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = Secret::new(String::from_utf8(changed).unwrap());
            assert_eq!(mint.verify_access(&changed, NOW), Err(IdentityError::Invalid), "at {at}");
        }
    }

    #[test]
    fn a_genuine_signature_does_not_make_up_for_missing_or_wrong_claims() {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let whole = serde_json::to_value(claims(ACCESS)).unwrap();
        let signed = |claims: &serde_json::Value| {
            Secret::new(encode(&Header::new(Algorithm::HS256), claims, &key).unwrap())
        };
        assert!(shared().verify_access(&signed(&whole), NOW).is_ok());
        for name in ["iss", "aud", "sub", "sid", "exp"] {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(name);
            assert_eq!(shared().verify_access(&signed(&without), NOW), Err(IdentityError::Invalid), "{name}");
            let mut wrong = whole.clone();
            wrong[name] = json!("somebody else");
            assert_eq!(shared().verify_access(&signed(&wrong), NOW), Err(IdentityError::Invalid), "{name}");
        }
        let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
        let critical = Secret::new(encode(&header, &whole, &key).unwrap());
        assert_eq!(shared().verify_access(&critical, NOW), Err(IdentityError::Invalid));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            "\u{0}",
            "é.é.é",
            &"x".repeat(20_000),
            &format!("{}.a.b", "e".repeat(20_000)),
        ] {
            let token = Secret::new(text);
            assert!(!shared().claims(&token));
            assert_eq!(shared().verify_access(&token, NOW), Err(IdentityError::Invalid));
        }
    }

    #[test]
    fn refresh_tokens_differ_and_are_known_by_their_hash() {
        let (one, two) = (RefreshToken::make().unwrap(), RefreshToken::make().unwrap());
        assert!(one.text != two.text && one.hash != two.hash);
        assert_eq!(one.text.expose().len(), 43);
        assert_eq!(RefreshToken::hash(&one.text), one.hash);
    }
}
