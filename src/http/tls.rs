//! TLS: certificates from PEM files, taken up anew on SIGHUP.
//!
//! Owns the handshake's configuration: TLS 1.2 and 1.3, HTTP/2 or HTTP/1.1 as the client chooses (a
//! WebSocket client chooses the latter). A reload that fails changes nothing: the server goes on with the
//! certificates that it has, and says so in its log.

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::signal::unix::{SignalKind, signal};

/// Why there are no certificates to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, cannot be read, or holds nothing of use.
    #[error("{}: {error}", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// Why.
        error: rustls_pki_types::pem::Error,
    },
    /// The certificate and the key do not go together, or are of a kind that is not served.
    #[error("{}: {error}", file.display())]
    Certificate {
        /// The certificate's file.
        file: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// The certificates that new connections are served with.
#[derive(Debug)]
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    // A std lock: it is held for the length of a clone, and nothing awaits under it.
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the chain and its key.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            current: RwLock::new(Arc::new(read(certificate, key)?)),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// What a handshake that begins now uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; connections that are open keep what they have.
    ///
    /// # Errors
    /// As [`Self::load`]; then the certificates in use stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(read(&self.certificate, &self.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Reloads at each SIGHUP, until it is dropped.
    ///
    /// # Errors
    /// The signal cannot be listened for.
    pub async fn reload_on_hangup(self: Arc<Self>) -> std::io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        while hangups.recv().await.is_some() {
            let certificates = Arc::clone(&self);
            // Files are read off the async threads.
            match tokio::task::spawn_blocking(move || certificates.reload()).await {
                Ok(Ok(())) => tracing::info!("certificates taken up anew"),
                Ok(Err(error)) => tracing::error!(%error, "certificates not taken up; the old ones stay"),
                Err(error) => tracing::error!(%error, "certificates not taken up; the old ones stay"),
            }
        }
        Ok(())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let pem = |file: &Path| {
        let file = file.to_owned();
        move |error| TlsError::Pem { file, error }
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(pem(certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|error| TlsError::Certificate { file: certificate.to_owned(), error })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::Certificates;
    use std::fs;
    use std::path::Path;

    fn write(folder: &Path) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_reload_takes_up_new_files_and_a_failed_one_keeps_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        write(folder.path());
        let certificates = Certificates::load(&cert, &key).unwrap();
        let first = certificates.current();
        assert_eq!(first.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);

        write(folder.path());
        certificates.reload().unwrap();
        let second = certificates.current();
        assert!(!std::sync::Arc::ptr_eq(&first, &second));

        fs::write(&key, "no key").unwrap();
        let error = certificates.reload().unwrap_err().to_string();
        assert!(error.contains("key.pem"), "{error}");
        assert!(std::sync::Arc::ptr_eq(&second, &certificates.current()));
    }

    #[test]
    fn a_key_that_is_another_certificates_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(one.path());
        write(other.path());
        let error = Certificates::load(&one.path().join("cert.pem"), &other.path().join("key.pem"));
        assert!(error.unwrap_err().to_string().contains("cert.pem"));
    }

    #[test]
    fn a_missing_or_empty_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let key = folder.path().join("key.pem");
        let missing = Certificates::load(&folder.path().join("none.pem"), &key).unwrap_err();
        assert!(missing.to_string().contains("none.pem"), "{missing}");
        fs::write(folder.path().join("cert.pem"), "").unwrap();
        let empty = Certificates::load(&folder.path().join("cert.pem"), &key).unwrap_err();
        assert!(empty.to_string().contains("cert.pem"), "{empty}");
    }
}
