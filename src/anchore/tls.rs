//! Whom we trust and who we are on TLS connections to Anchore.
//!
//! The authorities are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them) and those of
//! `anchore.http.ca-file`. Every file is read when the client is made; one that cannot be used is an error that names
//! it, never a connection that trusts less or more than was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

use crate::config::anchore::{ClientCertificate, HttpConfig};

/// TLS cannot be set up as configured.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file of the configuration cannot be used.
    #[error("{key}: {} {reason}", path.display())]
    File {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
    /// There is nothing to verify the server's certificate with.
    #[error(
        "no certificate authorities were found on this system{detail}: install them, name a file of them in \
         anchore.http.ca-file, or let SSL_CERT_FILE name one"
    )]
    NoAuthorities {
        /// What went wrong when the system's were read; may be empty.
        detail: String,
    },
    /// The cryptography in use refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Reads the files and puts the TLS settings together. `needs_authorities` makes their absence an error.
pub(crate) fn client_config(settings: &HttpConfig, needs_authorities: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if settings.insecure {
        tracing::warn!(
            "anchore.http.insecure is set: the certificate of Anchore Enterprise is not verified, anyone on the way can \
             read the credentials"
        );
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate { provider }))
    } else {
        builder.with_root_certificates(authorities(settings, needs_authorities)?)
    };
    match &settings.client_certificate {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientCertificate { certificate_file, key_file }) => {
            let chain = read_certificates("anchore.http.client-cert-file", certificate_file)?;
            let key = read_private_key("anchore.http.client-key-file", key_file)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::File {
                key: "anchore.http.client-key-file",
                path: key_file.clone(),
                reason: format!("does not fit the certificate in {}: {error}", certificate_file.display()),
            })
        }
    }
}

fn authorities(settings: &HttpConfig, needed: bool) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = &settings.ca_file {
        let key = "anchore.http.ca-file";
        for certificate in read_certificates(key, path)? {
            roots.add(certificate).map_err(|error| TlsError::File {
                key,
                path: path.clone(),
                reason: format!("holds a certificate that cannot be an authority: {error}"),
            })?;
        }
    }
    if roots.is_empty() && needed {
        let detail = system.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::NoAuthorities { detail });
    }
    Ok(roots)
}

fn read_certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file_error = |reason| TlsError::File { key, path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| file_error(unreadable(&error)))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| file_error(format!("is not a PEM file: {error}")))?;
    if certificates.is_empty() {
        return Err(file_error("holds no certificate: it must be a PEM file with BEGIN CERTIFICATE".to_owned()));
    }
    Ok(certificates)
}

fn read_private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file_error = |reason| TlsError::File { key, path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| file_error(unreadable(&error)))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        file_error(format!("holds no private key that can be used; it must be a PEM file, not encrypted: {error}"))
    })
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {error}; check the path and the rights of the file")
}

/// What `anchore.http.insecure` asks for: any certificate is accepted, also one of a form that could not be verified.
#[derive(Debug)]
struct AcceptAnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
