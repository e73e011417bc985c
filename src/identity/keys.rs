//! Our own signing key: a shared secret (HS256) or an Ed25519 key in a file.
//!
//! The key file is PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` makes it. The one in the data
//! folder is made at first start, whole or not at all, readable by its owner alone. Private keys and
//! secrets are never shown, by no method here.

use super::IdentityError;
use crate::model::secret::Secret;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A shared secret has at least this many bytes, as HS256 asks (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// The key that our tokens are signed with and checked by.
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
    /// The RFC 7638 thumbprint of the public key; a shared secret has none.
    pub(super) kid: Option<String>,
    public: Option<Value>,
}

impl SigningKey {
    /// HS256 with a secret that several nodes may share.
    ///
    /// # Errors
    /// [`IdentityError::Setup`] for one shorter than [`MIN_SECRET_BYTES`].
    pub fn from_secret(secret: &Secret) -> Result<Self, IdentityError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(IdentityError::Setup(format!(
                "the secret has {} bytes, and must have at least {MIN_SECRET_BYTES}",
                bytes.len()
            )));
        }
        Ok(Self {
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(bytes),
            verifying: DecodingKey::from_secret(bytes),
            kid: None,
            public: None,
        })
    }

    /// Ed25519 with the key in `file`, which must be there.
    ///
    /// # Errors
    /// [`IdentityError::Setup`], naming the file, where it cannot be read or holds no such key.
    pub fn open(file: &Path) -> Result<Self, IdentityError> {
        let pem = fs::read(file).map_err(|error| unusable(file, &error))?;
        warn_if_readable_by_others(file);
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|_| unusable(file, &"it is not a PKCS#8 private key in PEM (BEGIN PRIVATE KEY)"))?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| unusable(file, &"its key is not an Ed25519 key"))?;
        let public = pair.public_key().as_ref();
        let x = URL_SAFE_NO_PAD.encode(public);
        let kid = thumbprint(&x);
        Ok(Self {
            algorithm: Algorithm::EdDSA,
            signing: EncodingKey::from_ed_der(der.secret_pkcs8_der()),
            verifying: DecodingKey::from_ed_der(public),
            public: Some(json!({
                "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig",
            })),
            kid: Some(kid),
        })
    }

    /// The same, the key being made first where there is no such file.
    ///
    /// # Errors
    /// [`IdentityError::Setup`], naming the file, where it can be neither read nor made.
    pub fn open_or_make(file: &Path) -> Result<Self, IdentityError> {
        if matches!(fs::symlink_metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            make(file)?;
        }
        Self::open(file)
    }

    /// The public half as a JWK set (RFC 7517), for whoever checks our tokens; a shared secret has none.
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.public.iter().collect::<Vec<_>>() })
    }
}

/// RFC 7638: the SHA-256 of the key's required members in lexicographic order, without blanks.
fn thumbprint(x: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

fn make(file: &Path) -> Result<(), IdentityError> {
    let pair = Ed25519KeyPair::generate()
        .map_err(|_| IdentityError::Setup("no random bytes for a signing key".to_owned()))?;
    let der = pair
        .to_pkcs8v1()
        .map_err(|_| IdentityError::Setup("the new signing key cannot be encoded".to_owned()))?;
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    write_whole(file, pem.as_bytes()).map_err(|error| unusable(file, &error))
}

/// Writes beside the file and renames, so that a crash leaves a whole key or none. A file that is there
/// by now is kept: its tokens are out.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&beside);
    // One of a process that died at this point and had our number.
    let _ = fs::remove_file(beside);
    let written = write_new(beside, bytes).and_then(|()| match fs::hard_link(beside, file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = fs::remove_file(beside);
    written?;
    match file.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(file)?;
    open.write_all(bytes)?;
    open.sync_all()
}

fn warn_if_readable_by_others(file: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(file)
        && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o007 != 0
    {
        tracing::warn!(file = %file.display(), "everybody on this machine can read the signing key");
    }
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Setup(format!("the signing key {} cannot be used: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::{SigningKey, thumbprint};
    use crate::identity::IdentityError;
    use crate::model::secret::Secret;
    use serde_json::json;
    use std::fs;

    /// The key of RFC 8410, 10.3.
    const FOREIGN: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn a_thumbprint_is_that_of_rfc_8037() {
        assert_eq!(
            thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signing-key.pem");
        let made = SigningKey::open_or_make(&file).unwrap();
        let opened = SigningKey::open_or_make(&file).unwrap();
        assert_eq!(made.kid, opened.kid);
        assert_eq!(made.jwks(), opened.jwks());
        assert_eq!(made.jwks()["keys"][0]["kid"], json!(made.kid));
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["signing-key.pem"]);
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777,
            0o600
        );
    }

    #[test]
    fn a_key_made_by_another_tool_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        fs::write(&file, FOREIGN).unwrap();
        let key = SigningKey::open(&file).unwrap();
        // The public key that RFC 8410 gives for it, without its 12 bytes of header.
        assert_eq!(key.jwks()["keys"][0]["x"], "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE");
    }

    #[test]
    fn the_public_set_holds_nothing_private() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::open_or_make(&folder.path().join("key.pem")).unwrap();
        let mut members: Vec<_> = key.jwks()["keys"][0].as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
        let shared = SigningKey::from_secret(&Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
        assert_eq!(shared.jwks(), json!({ "keys": [] }));
    }

    #[test]
    fn what_is_no_key_is_refused_by_name_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signing-key.pem");
        assert!(SigningKey::open(&file).is_err(), "a missing file");
        for wrong in ["", "not a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(&file, wrong).unwrap();
            let Err(IdentityError::Setup(line)) = SigningKey::open_or_make(&file) else {
                panic!("{wrong:?} was taken for a key");
            };
            assert!(line.contains("signing-key.pem") && !line.contains('\n'), "{line}");
            assert_eq!(fs::read_to_string(&file).unwrap(), wrong);
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_not_shown() {
        let Err(refused) = SigningKey::from_secret(&Secret::new("hunter2")) else { panic!("taken") };
        assert!(refused.to_string().contains("at least 32"), "{refused}");
        assert!(!refused.to_string().contains("hunter2"));
    }
}
