//! Mutual TLS for links: both ends show a certificate of the same authority.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What a node shows, and whom it trusts.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates.
    #[error("the certificates of the cluster port cannot be read: {0}")]
    Certificates(String),
    /// The key.
    #[error("the key of the cluster port cannot be read: {0}")]
    Key(String),
    /// The authority's certificates.
    #[error("the authority of the cluster port cannot be read: {0}")]
    Authority(String),
    /// They do not fit each other.
    #[error("certificate, key and authority of the cluster port do not fit: {0}")]
    Unfit(String),
}

impl Tls {
    /// From PEM: this node's certificates and key, the authority that signs all nodes', and the name that all nodes'
    /// certificates carry.
    pub fn from_pem(certificates: &[u8], key: &[u8], authority: &[u8], name: &str) -> Result<Self, TlsError> {
        let unfit = |error: &dyn fmt::Display| TlsError::Unfit(error.to_string());
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Certificates(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority) {
            let root = root.map_err(|error| TlsError::Authority(error.to_string()))?;
            roots.add(root).map_err(|error| TlsError::Authority(error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Authority(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(|error| unfit(&error))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)
            .map_err(|error| unfit(&error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            name: ServerName::try_from(name.to_owned()).map_err(|error| unfit(&error))?,
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}
