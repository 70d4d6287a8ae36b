//! The pool of connections to Anchore, made anew when the files of authorities and certificates have changed.
//!
//! Files may be found half written, or a certificate without its key yet: then the pool stays as it is, which is said
//! once, and the files are read again later. Requests under way keep the pool that they began with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{Connector, Proxies};
use super::exchange::HttpClient;
use super::tls::{self, TlsError};
use crate::config::anchore::{AnchoreConfig, ClientCertificate, HttpConfig};
use crate::fingerprint::{CHECK_INTERVAL, Fingerprint};

/// The server closes connections that were idle for 5 s; one kept longer would break under the next request.
const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(4);

/// The variable that names the system's certificate authorities, where the system's own are not used.
const SYSTEM_AUTHORITIES: &str = "SSL_CERT_FILE";

/// Connections to one Anchore Enterprise.
pub(super) struct Pool {
    settings: HttpConfig,
    needs_authorities: bool,
    proxies: Proxies,
    current: RwLock<HttpClient>,
    /// Held while the files are looked at.
    upkeep: Mutex<Upkeep>,
}

/// What has to be known to notice a change.
struct Upkeep {
    /// Of the files that the pool was made from.
    fingerprint: Fingerprint,
    checked: Instant,
    /// The files have changed, and cannot be used; this was told.
    is_failing: bool,
}

impl Pool {
    /// Reads the files of `settings`. `variables` is the environment, which may name the file of the system's authorities.
    pub(super) fn new(
        settings: &AnchoreConfig,
        proxies: Proxies,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, TlsError> {
        if settings.http.insecure {
            tracing::warn!(
                "anchore.http.insecure is set: the certificate of Anchore Enterprise is not verified, anyone on the way \
                 can read the credentials"
            );
        }
        let needs_authorities = settings.url.scheme() == "https";
        // Before they are read, so that a change in between shows later.
        let fingerprint = Fingerprint::of(files(&settings.http, variables));
        let tls = tls::client_config(&settings.http, needs_authorities)?;
        let current = RwLock::new(client(tls, &proxies, settings.http.timeout));
        let upkeep = Upkeep { fingerprint, checked: Instant::now(), is_failing: false };
        Ok(Self { settings: settings.http.clone(), needs_authorities, proxies, current, upkeep: Mutex::new(upkeep) })
    }

    /// The client for a request now. The files are looked at before, at most every ten seconds.
    pub(super) async fn client(&self) -> HttpClient {
        // Whoever comes while another looks takes what there is.
        if let Ok(mut upkeep) = self.upkeep.try_lock()
            && upkeep.checked.elapsed() >= CHECK_INTERVAL
        {
            upkeep.checked = Instant::now();
            self.look_after(&mut upkeep).await;
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn look_after(&self, upkeep: &mut Upkeep) {
        if upkeep.fingerprint.is_outdated().await {
            match self.read_again(&upkeep.fingerprint).await {
                Ok((tls, fingerprint)) => {
                    let client = client(tls, &self.proxies, self.settings.timeout);
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = client;
                    upkeep.fingerprint = fingerprint;
                    tracing::debug!("the certificates for Anchore Enterprise were read again");
                }
                Err(error) => {
                    if !upkeep.is_failing {
                        tracing::warn!(
                            "certificates for Anchore Enterprise have changed and cannot be used, what was used before \
                             stays in use: {error}"
                        );
                    }
                    upkeep.is_failing = true;
                    return;
                }
            }
        }
        if upkeep.is_failing {
            tracing::info!("the certificates for Anchore Enterprise are in order again");
            upkeep.is_failing = false;
        }
    }

    /// Reads the files on a thread that may block.
    async fn read_again(&self, before: &Fingerprint) -> Result<(ClientConfig, Fingerprint), TlsError> {
        let (settings, needs_authorities) = (self.settings.clone(), self.needs_authorities);
        let files = before.files().to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let fingerprint = Fingerprint::of(files);
            Ok((tls::client_config(&settings, needs_authorities)?, fingerprint))
        });
        reading.await.unwrap_or_else(|error| Err(rustls::Error::General(error.to_string()).into()))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

fn client(tls: ClientConfig, proxies: &Proxies, limit: Option<Duration>) -> HttpClient {
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_CONNECTION_LIMIT)
        .pool_timer(TokioTimer::new())
        .build(Connector::new(tls, proxies.clone(), limit))
}

/// The files that decide whom the client trusts and who it is.
fn files(settings: &HttpConfig, variables: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let system = variables.get(SYSTEM_AUTHORITIES).map(PathBuf::from);
    let own = settings.client_certificate.iter();
    let own = own.flat_map(|ClientCertificate { certificate_file, key_file }| [certificate_file, key_file]);
    settings.ca_file.iter().chain(own).cloned().chain(system).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use secrecy::SecretString;
    use tempfile::TempDir;
    use testbed::anchore::{Enterprise, EnterpriseOptions};
    use testbed::server::tls::Authority;

    use crate::anchore::error::{SendError, TransportError};
    use crate::anchore::loopback::{client_of, settings, small_report};
    use crate::anchore::{BasicAuth, Client};
    use crate::captured_log::Log;

    use super::*;

    /// An Enterprise that speaks TLS, and a folder with the files of a client.
    struct Scene {
        enterprise: Enterprise,
        authority: Arc<Authority>,
        folder: TempDir,
    }

    impl Scene {
        /// A server that speaks with everybody.
        async fn new() -> Self {
            Self::start(EnterpriseOptions::tls).await
        }

        /// A server that speaks only with those who have a certificate of its authority.
        async fn with_mutual_tls() -> Self {
            Self::start(EnterpriseOptions::mutual_tls).await
        }

        async fn start(tls: impl FnOnce(EnterpriseOptions, &Arc<Authority>) -> EnterpriseOptions) -> Self {
            let authority = Arc::new(Authority::new("enterprise").expect("an authority"));
            let enterprise = tls(EnterpriseOptions::default().unchecked(), &authority).start().await.expect("a server");
            let scene = Self { enterprise, authority, folder: tempfile::tempdir().expect("a folder") };
            scene.write("ca.pem", &scene.authority.certificate());
            scene
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("written");
        }

        /// Writes a client's certificate, and its key.
        fn write_identity(&self, issuer: &Authority) {
            let identity = issuer.client("agent").expect("an identity");
            self.write("client.pem", &identity.certificate);
            self.write("key.pem", &identity.private_key);
        }

        fn settings(&self) -> AnchoreConfig {
            let mut settings = settings(&self.enterprise.url().parse().expect("an address"));
            settings.http.ca_file = Some(self.path("ca.pem"));
            settings
        }

        /// A client that trusts the server by the file, and shows a certificate if there is one.
        fn client(&self) -> Client {
            let mut settings = self.settings();
            let (certificate_file, key_file) = (self.path("client.pem"), self.path("key.pem"));
            settings.http.client_certificate =
                certificate_file.exists().then_some(ClientCertificate { certificate_file, key_file });
            client_of(&settings)
        }

        fn accepted(&self) -> usize {
            self.enterprise.accepted().len()
        }
    }

    async fn send(client: &Client) -> Result<(), SendError> {
        let sender = BasicAuth { user: "admin".to_owned(), password: SecretString::from("foobar") };
        client.send_report(&small_report(), "admin", &sender).await
    }

    fn is_distrust(result: &Result<(), SendError>) -> bool {
        matches!(result, Err(SendError::Transport(TransportError::Tls { .. })))
    }

    /// Puts the clock forward, and lets it run on: requests are over real sockets.
    async fn let_pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn an_authority_that_was_replaced_is_trusted() {
        let scene = Scene::new().await;
        scene.write("ca.pem", &Authority::new("former").expect("an authority").certificate());
        let client = scene.client();

        let before = send(&client).await;
        scene.write("ca.pem", &scene.authority.certificate());
        let at_once = send(&client).await;
        let_pass(CHECK_INTERVAL).await;
        send(&client).await.expect("accepted");

        assert!(is_distrust(&before), "{before:?}");
        assert!(is_distrust(&at_once), "it is not looked at for every request: {at_once:?}");
    }

    #[tokio::test]
    async fn a_client_certificate_that_was_replaced_is_shown() {
        let scene = Scene::with_mutual_tls().await;
        scene.write_identity(&Authority::new("former").expect("an authority"));
        let client = scene.client();

        let before = send(&client).await;
        scene.write_identity(&scene.authority);
        let_pass(CHECK_INTERVAL).await;
        send(&client).await.expect("accepted");

        assert!(before.is_err());
        assert_eq!(scene.accepted(), 1);
    }

    #[tokio::test]
    async fn a_file_of_the_systems_authorities_is_looked_at_too() {
        let scene = Scene::new().await;
        let settings = scene.settings();
        let file = scene.path("system.pem");
        let variables = [(SYSTEM_AUTHORITIES.to_owned(), file.display().to_string())];

        assert_eq!(files(&settings.http, &variables.into()), [scene.path("ca.pem"), file]);
    }

    #[tokio::test]
    async fn a_half_written_file_leaves_the_pool_as_it_is_and_is_told_once() {
        let log = Log::default();
        let _logging = log.start();
        let scene = Scene::with_mutual_tls().await;
        scene.write_identity(&scene.authority);
        let client = scene.client();

        let key = fs::read_to_string(scene.path("key.pem")).expect("it is there");
        for half in [&key[..key.len() / 2], ""] {
            scene.write("key.pem", half);
            let_pass(CHECK_INTERVAL).await;
            send(&client).await.expect("accepted");
        }
        scene.write_identity(&scene.authority);
        let_pass(CHECK_INTERVAL).await;
        send(&client).await.expect("accepted");

        let alarms = log.alarms();
        let [alarm] = alarms.as_slice() else { panic!("{alarms:?}") };
        assert!(alarm.contains("stays in use: anchore.http.client-key-file: "), "{alarm}");
        assert!(alarm.contains("key.pem holds no private key"), "{alarm}");
    }

    #[tokio::test]
    async fn what_was_broken_is_told_again_after_it_was_in_order() {
        let log = Log::default();
        let _logging = log.start();
        let scene = Scene::new().await;
        let client = scene.client();

        for content in ["", &scene.authority.certificate(), "", &scene.authority.certificate()] {
            scene.write("ca.pem", content);
            let_pass(CHECK_INTERVAL).await;
            send(&client).await.expect("accepted");
        }

        assert_eq!(log.alarms().len(), 2, "{:?}", log.alarms());
    }
}
