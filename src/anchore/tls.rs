//! Whom we trust and who we are on TLS connections to Anchore.
//!
//! The authorities are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them) and those of
//! `anchore.http.ca-file`. Every file is read when the client is made and, by [`super::pool`], when it has changed; one
//! that cannot be used is an error that names it, never a connection that trusts less or more than was asked for.

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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pretty_assertions::assert_eq;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rstest::rstest;
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::anchore::error::{SendError, TransportError};
    use crate::anchore::loopback::{Loopback, answer_all, client_of, inventory_user, response, settings, small_report};
    use crate::config::anchore::{AnchoreConfig, ProxySetting};

    /// An authority, a server and a client it vouches for, and their PEM files.
    struct Identities {
        folder: TempDir,
        authority: CertifiedIssuer<'static, KeyPair>,
        server: (CertificateDer<'static>, PrivateKeyDer<'static>),
    }

    impl Identities {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let issue = |name: &str| {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new([name.to_owned()]).unwrap();
                (params.signed_by(&key, &authority).unwrap(), key)
            };
            let (server, server_key) = issue("127.0.0.1");
            let (client, client_key) = issue("agent");
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
            write("ca.pem", authority.pem());
            write("client.pem", client.pem());
            write("client-key.pem", client_key.serialize_pem());
            write("other-key.pem", server_key.serialize_pem());
            write("empty.pem", String::new());
            write("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n".to_owned());
            let server = (server.der().clone(), PrivateKeyDer::try_from(server_key.serialize_der()).unwrap());
            Self { folder, authority, server }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn client_certificate(&self, certificate: &str, key: &str) -> ClientCertificate {
            ClientCertificate { certificate_file: self.file(certificate), key_file: self.file(key) }
        }

        fn acceptor(&self, wants_client: bool) -> TlsAcceptor {
            let provider = Arc::new(ring::default_provider());
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap();
            let builder = if wants_client {
                let mut roots = RootCertStore::empty();
                roots.add(self.authority.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            } else {
                builder.with_no_client_auth()
            };
            let (certificate, key) = &self.server;
            let config = builder.with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
            TlsAcceptor::from(Arc::new(config))
        }

        /// A server that accepts every report over TLS, and the settings for it.
        async fn server(&self, wants_client: bool) -> (Loopback, AnchoreConfig) {
            let acceptor = self.acceptor(wants_client);
            let server = Loopback::serving(move |stream: TcpStream| accept_reports(acceptor.clone(), stream)).await;
            let settings = https_settings(&server);
            (server, settings)
        }
    }

    async fn accept_reports(acceptor: TlsAcceptor, stream: TcpStream) {
        if let Ok(mut stream) = acceptor.accept(stream).await {
            answer_all(&mut stream, &Mutex::default(), &|_: &_| response(201, "")).await;
        }
    }

    fn https_settings(server: &Loopback) -> AnchoreConfig {
        settings(&server.url.as_str().replace("http://", "https://").parse().unwrap())
    }

    async fn send(settings: &AnchoreConfig) -> Result<(), SendError> {
        client_of(settings).send_report(&small_report(), "team-a", &inventory_user()).await
    }

    fn is_untrusted(result: &Result<(), SendError>) -> bool {
        matches!(result, Err(SendError::Transport(TransportError::Tls { .. })))
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_the_authority_in_the_file_and_not_without() {
        let identities = Identities::new();
        let (_server, mut settings) = identities.server(false).await;

        let without = send(&settings).await;
        settings.http.ca_file = Some(identities.file("ca.pem"));
        let with = send(&settings).await;

        assert!(is_untrusted(&without), "{without:?}");
        with.unwrap();
    }

    #[tokio::test]
    async fn an_insecure_client_takes_any_certificate() {
        let identities = Identities::new();
        let (_server, mut settings) = identities.server(false).await;
        settings.http.insecure = true;

        send(&settings).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
        let identities = Identities::new();
        let (_server, mut settings) = identities.server(true).await;
        settings.http.ca_file = Some(identities.file("ca.pem"));

        let without = send(&settings).await;
        settings.http.client_certificate = Some(identities.client_certificate("client.pem", "client-key.pem"));
        let with = send(&settings).await;

        assert!(is_untrusted(&without), "{without:?}");
        with.unwrap();
    }

    #[tokio::test]
    async fn a_server_without_tls_is_said_to_be_one() {
        let server = Loopback::serving(|mut stream: TcpStream| async move {
            stream.write_all(response(400, "plain HTTP was sent to an HTTPS port").as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 100]).await;
        })
        .await;

        let result = send(&https_settings(&server)).await;

        assert!(is_untrusted(&result), "{result:?}");
    }

    #[tokio::test]
    async fn a_tunnel_through_a_proxy_ends_at_the_server() {
        let identities = Identities::new();
        let acceptor = identities.acceptor(false);
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let proxy = Loopback::serving(move |mut stream: TcpStream| {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            async move {
                let connect = crate::anchore::loopback::Received::read(&mut stream).await.unwrap();
                told.send(connect).unwrap();
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
                accept_reports(acceptor, stream).await;
            }
        })
        .await;
        // The certificate is for this address; nobody listens there.
        let mut settings = settings(&"https://127.0.0.1:9".parse().unwrap());
        settings.http.ca_file = Some(identities.file("ca.pem"));
        let address = proxy.url.as_str().replace("http://", "http://me:proxypw@");
        settings.http.proxy = ProxySetting::Url(address.parse().unwrap());

        send(&settings).await.unwrap();

        let connect = heard.recv().await.unwrap();
        assert_eq!(connect.line, "CONNECT 127.0.0.1:9");
        assert_eq!(connect.header("proxy-authorization"), "Basic bWU6cHJveHlwdw==");
        assert_eq!(connect.header("authorization"), "");
    }

    #[rstest]
    #[case(
        "nowhere.pem",
        "cannot be read: No such file or directory (os error 2); check the path and the rights of the file"
    )]
    #[case("empty.pem", "holds no certificate: it must be a PEM file with BEGIN CERTIFICATE")]
    #[case("client-key.pem", "holds no certificate: it must be a PEM file with BEGIN CERTIFICATE")]
    #[case("broken.pem", "is not a PEM file: base64 decode error: InvalidCharacter(37)")]
    fn an_authority_file_that_cannot_be_used_is_named(#[case] name: &str, #[case] reason: &str) {
        let identities = Identities::new();
        let path = identities.file(name);
        let settings = HttpConfig { ca_file: Some(path.clone()), ..settings_without_server() };

        let error = client_config(&settings, true).unwrap_err().to_string();

        assert_eq!(error, format!("anchore.http.ca-file: {} {reason}", path.display()));
    }

    #[rstest]
    #[case("nowhere.pem", "client-key.pem", "anchore.http.client-cert-file: ", "cannot be read")]
    #[case("client.pem", "nowhere.pem", "anchore.http.client-key-file: ", "cannot be read")]
    #[case("client.pem", "ca.pem", "anchore.http.client-key-file: ", "holds no private key that can be used")]
    #[case("client.pem", "other-key.pem", "anchore.http.client-key-file: ", "does not fit the certificate in")]
    fn client_files_that_cannot_be_used_are_named(
        #[case] certificate: &str,
        #[case] key: &str,
        #[case] start: &str,
        #[case] reason: &str,
    ) {
        let identities = Identities::new();
        let client_certificate = Some(identities.client_certificate(certificate, key));
        let settings = HttpConfig { client_certificate, ..settings_without_server() };

        let error = client_config(&settings, false).unwrap_err().to_string();

        assert!(error.starts_with(start) && error.contains(reason), "{error}");
    }

    fn settings_without_server() -> HttpConfig {
        settings(&"https://anchore.example".parse().unwrap()).http
    }
}
