//! A certificate authority of one's own: certificates for servers on loopback and for clients.
//!
//! It lives in memory; keys are written out only where a caller does so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::lock;

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Names in the client certificates issued, by the certificate's DER.
    clients: Mutex<BTreeMap<Bytes, String>>,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub private_key: String,
}

/// Whether a server asks for a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// It checks one when there is one.
    Optional,
    /// It speaks with nobody else.
    Required,
}

impl Authority {
    /// A new one, with a key of its own.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        Ok(Self { issuer, clients: Mutex::default() })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for the client `name`.
    pub fn client(&self, name: &str) -> anyhow::Result<Identity> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        lock(&self.clients).insert(Bytes::copy_from_slice(certificate.der()), name.to_owned());
        Ok(Identity { certificate: certificate.pem(), private_key: key.serialize_pem() })
    }

    /// The name in a certificate that this authority issued to a client.
    pub(crate) fn client_name(&self, certificate: &Bytes) -> Option<String> {
        lock(&self.clients).get(certificate).cloned()
    }

    /// What a server on loopback, known as `localhost` too, needs to speak TLS.
    pub(crate) fn server(&self, clients: ClientCertificates) -> anyhow::Result<Arc<ServerConfig>> {
        let mut parameters = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, "testbed");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.issuer.der().to_vec()))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = match clients {
            ClientCertificates::Optional => verifier.allow_unauthenticated().build()?,
            ClientCertificates::Required => verifier.build()?,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )?;
        Ok(Arc::new(config))
    }
}
