//! A connection's client through time: replaced when files have changed, when credentials are about to expire, or when
//! the server has refused them.
//!
//! Files may be found half written, and a plugin may fail: then the client stays as it is, which is said once, and it is
//! tried again later. One renewal at a time; requests that meanwhile come do not wait for one that is a precaution.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::time::Instant;

use super::access::Access;
use super::connect::{Built, ConnectError, Connection, Lifetime, build};
use crate::fingerprint::{CHECK_INTERVAL, Fingerprint};

/// Credentials are renewed so long before they expire, or a tenth of their lifetime if that is less.
const LEAD: SignedDuration = SignedDuration::from_mins(1);

/// What has to be known to renew a client in time.
pub(super) struct Upkeep {
    /// Of the files that the client was made from.
    fingerprint: Fingerprint,
    checked: Instant,
    /// When credentials are to be renewed that would expire.
    renew_at: Option<Timestamp>,
    failure: Option<Failure>,
}

/// The last renewal failed.
struct Failure {
    at: Instant,
    error: Arc<ConnectError>,
    cause: Cause,
}

/// What made a renewal necessary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    ChangedFiles,
    Credentials,
}

/// A client from what there is now.
struct Renewed {
    built: Built,
    access: Arc<Access>,
    fingerprint: Fingerprint,
}

impl Upkeep {
    /// For a client that was made just now.
    pub(super) fn new(fingerprint: Fingerprint, expiry: Option<Timestamp>) -> Self {
        let renew_at = expiry.map(|expiry| renewal_time(Timestamp::now(), expiry));
        Self { fingerprint, checked: Instant::now(), renew_at, failure: None }
    }

    fn expires(&self) -> bool {
        self.renew_at.is_some_and(|time| time <= Timestamp::now())
    }

    /// What the last renewal failed with, if that was a moment ago.
    fn fresh_failure(&self) -> Option<&Arc<ConnectError>> {
        let failure = self.failure.as_ref().filter(|failure| failure.at.elapsed() < CHECK_INTERVAL);
        failure.map(|failure| &failure.error)
    }

    fn fail(&mut self, error: &Arc<ConnectError>, cause: Cause) {
        if self.failure.is_none() {
            tracing::warn!(
                "access to the API server was to be renewed and could not be, what was used before stays in use: {error}"
            );
        }
        self.failure = Some(Failure { at: Instant::now(), error: Arc::clone(error), cause });
    }

    fn recover(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("access to the API server is in order again");
        }
    }
}

impl Connection {
    /// The client for a request now, and which renewal it is of. The resident agent's is looked after before, at most
    /// every ten seconds.
    pub(crate) async fn fresh(&self) -> (Client, u64) {
        if self.lifetime == Lifetime::Resident
            && let Ok(mut upkeep) = self.upkeep.try_lock()
        {
            let is_due = upkeep.checked.elapsed() >= CHECK_INTERVAL;
            if is_due || self.is_suspect.load(Ordering::Relaxed) {
                self.look_after(&mut upkeep, is_due).await;
            }
        }
        let current = self.current();
        (current.client, current.generation)
    }

    /// Lets the files be looked at before the next request: a connection failed, as it does when the server's or the
    /// client's certificate has been replaced.
    pub(crate) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    /// Makes a client from what files and plugins give now, unless that was done since `generation`, whose credentials
    /// were refused.
    pub(crate) async fn renew(&self, generation: u64) -> Result<(), Arc<ConnectError>> {
        let mut upkeep = self.upkeep.lock().await;
        if self.current().generation != generation {
            return Ok(());
        }
        match upkeep.fresh_failure().filter(|_| self.lifetime == Lifetime::Resident) {
            Some(error) => Err(Arc::clone(error)),
            None => self.replace_client(&mut upkeep, Cause::Credentials).await,
        }
    }

    async fn look_after(&self, upkeep: &mut Upkeep, is_due: bool) {
        self.is_suspect.store(false, Ordering::Relaxed);
        if is_due {
            upkeep.checked = Instant::now();
        } else if upkeep.fresh_failure().is_some() {
            return;
        }
        let cause = if upkeep.fingerprint.is_outdated().await {
            Cause::ChangedFiles
        } else if is_due && upkeep.expires() {
            Cause::Credentials
        } else {
            if upkeep.failure.as_ref().is_some_and(|failure| failure.cause == Cause::ChangedFiles) {
                // What was wrong has been taken back.
                upkeep.recover();
            }
            return;
        };
        // A failure was told, and the client stays.
        let _ = self.replace_client(upkeep, cause).await;
    }

    async fn replace_client(&self, upkeep: &mut Upkeep, cause: Cause) -> Result<(), Arc<ConnectError>> {
        match self.renewed(&upkeep.fingerprint).await {
            Ok(Renewed { built, access, fingerprint }) => {
                upkeep.recover();
                *upkeep = Upkeep { checked: upkeep.checked, ..Upkeep::new(fingerprint, built.expiry) };
                self.replace(built.client, access);
                tracing::debug!("access to the API server was renewed");
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                if self.lifetime == Lifetime::Resident {
                    upkeep.fail(&error, cause);
                }
                Err(error)
            }
        }
    }

    /// What there is now: from the source if its files have changed, and with the credentials of this moment anyway.
    async fn renewed(&self, before: &Fingerprint) -> Result<Renewed, ConnectError> {
        let current = self.current().access;
        let (access, fingerprint) = if before.is_outdated().await {
            let (access, fingerprint) =
                self.source.access_and_fingerprint(&self.environment, before.files().to_owned())?;
            if access.name != current.name {
                return Err(ConnectError::OtherCluster { context: current.context.clone().unwrap_or_default() });
            }
            // That credentials are withheld was said when the connection was opened.
            (Arc::new(access.kept_off_the_wire().0), fingerprint)
        } else {
            (current, before.clone())
        };
        let built = build(&access, self.lifetime).await?;
        Ok(Renewed { built, access, fingerprint })
    }
}

/// When to renew what is made `now` and expires at `expiry`.
fn renewal_time(now: Timestamp, expiry: Timestamp) -> Timestamp {
    let lead = (expiry.duration_since(now) / 10).clamp(SignedDuration::ZERO, LEAD);
    expiry.checked_sub(lead).unwrap_or(expiry)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};
    use tempfile::TempDir;
    use testbed::cluster::Cluster;
    use testbed::kubernetes::access::User;
    use testbed::kubernetes::{KubernetesApi, KubernetesOptions};
    use testbed::server::tls::Authority;

    use super::*;
    use crate::captured_log::Log;
    use crate::cluster::access::Source;
    use crate::cluster::progress::Progress;
    use crate::cluster::request::{Accept, Api, RequestError};
    use crate::config::Environment;
    use crate::config::kubernetes::{ClusterAccess, KubeconfigConfig};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// An API server with one user, and a folder with the files by which it is read.
    struct Scene {
        api: KubernetesApi,
        folder: TempDir,
    }

    impl Scene {
        /// A server that knows a user by this token.
        async fn new(token: &str) -> Self {
            let user = User::reader("agent").token(token);
            let options = KubernetesOptions::default().cluster(&Cluster::new().namespace("shop")).user(user);
            let api = options.start().await.expect("a server");
            let scene = Self { api, folder: tempfile::tempdir().expect("a folder") };
            scene.write("ca.crt", &scene.authority());
            scene
        }

        fn authority(&self) -> String {
            self.api.authority().expect("it speaks TLS").certificate()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("written");
        }

        /// Files of this folder as the one kubeconfig.
        fn kubeconfig(&self, user: &Value) -> String {
            let mut kubeconfig: Value =
                serde_json::from_str(&self.api.kubeconfig(&User::named("agent"))).expect("JSON");
            kubeconfig["users"][0]["user"] = user.clone();
            kubeconfig["clusters"][0]["cluster"] = json!({"server": self.api.url(), "certificate-authority": "ca.crt"});
            kubeconfig.to_string()
        }

        async fn open(&self, kubeconfig: &str) -> Connection {
            self.write("config", kubeconfig);
            let settings =
                KubeconfigConfig { access: ClusterAccess::File("config".into()), context: None, cluster_name: None };
            let environment =
                Environment { working_directory: self.folder.path().to_owned(), ..Environment::default() };
            Connection::open_resident(&settings, &environment).await.expect("a connection")
        }

        async fn get(connection: &Connection) -> Result<(), RequestError> {
            let api = Api { connection, timeout: PATIENCE, progress: &Progress::default() };
            api.get("/api/v1/namespaces", Accept::Json).await?.whole().await.map(|_| ())
        }

        /// The tokens of all requests so far.
        fn tokens(&self) -> Vec<String> {
            let requests = self.api.requests();
            requests.iter().map(|request| request.header("authorization").replace("Bearer ", "")).collect()
        }
    }

    /// Puts the clock forward, and lets it run on: requests are over real sockets.
    async fn let_pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    /// A plugin that gives a token with the number of its run, which expires at that time.
    fn counting_plugin(scene: &Scene, expiry: &str) -> Value {
        let runs = scene.path("runs");
        let runs = runs.display();
        let script = format!(
            "[ -e {refusing} ] && exit 1; echo run >> {runs}; n=$(wc -l < {runs}); \
             echo \"{{status: {{token: token-$((n)), expirationTimestamp: {expiry}}}}}\"",
            refusing = scene.path("refusing").display()
        );
        json!({"exec": {"command": "sh", "args": ["-c", script], "interactiveMode": "Never"}})
    }

    #[tokio::test]
    async fn a_new_token_is_used_before_the_old_one_is_refused() {
        let scene = Scene::new("old").await;
        scene.write("token", "old");
        let connection = scene.open(&scene.kubeconfig(&json!({"tokenFile": "token"}))).await;

        Scene::get(&connection).await.expect("an answer");
        scene.write("token", "new\n");
        Scene::get(&connection).await.expect("the old one is not looked at again yet");
        scene.api.set_user(User::reader("agent").token("new"));
        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["old", "old", "new"]);
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_read_again_at_once() {
        let scene = Scene::new("old").await;
        let connection = scene.open(&scene.kubeconfig(&json!({"token": "old"}))).await;

        scene.api.set_user(User::reader("agent").token("new"));
        scene.write("config", &scene.kubeconfig(&json!({"token": "new"})));
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["old", "new"]);
    }

    #[tokio::test]
    async fn an_authority_that_was_replaced_is_trusted_with_the_next_request() {
        let scene = Scene::new("token").await;
        scene.write("ca.crt", &Authority::new("former").expect("an authority").certificate());
        let connection = scene.open(&scene.kubeconfig(&json!({"token": "token"}))).await;

        let before = Scene::get(&connection).await.expect_err("it is not trusted");
        scene.write("ca.crt", &scene.authority());
        Scene::get(&connection).await.expect("an answer");

        assert!(matches!(before, RequestError::Unreachable { .. }), "{before}");
    }

    #[tokio::test]
    async fn a_client_certificate_that_was_replaced_is_shown() {
        let scene = Scene::new("token").await;
        let write = |name: &str| {
            let identity = scene.api.authority().expect("it speaks TLS").client(name).expect("an identity");
            scene.write("client.crt", &identity.certificate);
            scene.write("client.key", &identity.private_key);
        };
        write("somebody");
        let user = json!({"client-certificate": "client.crt", "client-key": "client.key"});
        let connection = scene.open(&scene.kubeconfig(&user)).await;

        let before = Scene::get(&connection).await.expect_err("somebody has no rights");
        write("agent");
        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert!(matches!(before, RequestError::Forbidden(_)), "{before}");
    }

    #[tokio::test]
    async fn a_service_accounts_token_and_authority_are_read_again() {
        let scene = Scene::new("old").await;
        scene.write("token", "old");
        scene.write("ca.crt", &Authority::new("former").expect("an authority").certificate());
        let address = scene.api.address();
        let variables = [
            ("KUBERNETES_SERVICE_HOST".to_owned(), address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), address.port().to_string()),
        ];
        let environment = Environment { variables: variables.into(), ..Environment::default() };
        let settings =
            KubeconfigConfig { access: ClusterAccess::InCluster, context: None, cluster_name: Some("edge".to_owned()) };
        let source = Source::ServiceAccount(scene.folder.path().to_owned());
        let connection = Connection::open_at(source, Lifetime::Resident, &settings, &environment).await.expect("open");

        Scene::get(&connection).await.expect_err("it is not trusted");
        scene.write("ca.crt", &scene.authority());
        Scene::get(&connection).await.expect("an answer");
        scene.api.set_user(User::reader("agent").token("new"));
        scene.write("token", "new");
        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["old", "new"]);
    }

    #[tokio::test]
    async fn a_half_written_file_leaves_the_client_as_it_is_and_is_told_once() {
        let log = Log::default();
        let _logging = log.start();
        let scene = Scene::new("token").await;
        let whole = scene.kubeconfig(&json!({"token": "token"}));
        let connection = scene.open(&whole).await;

        for half in [&whole[..whole.len() / 2], ""] {
            scene.write("config", half);
            let_pass(CHECK_INTERVAL).await;
            Scene::get(&connection).await.expect("an answer");
        }
        scene.api.set_user(User::reader("agent").token("new"));
        scene.write("config", &scene.kubeconfig(&json!({"token": "new"})));
        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["token", "token", "new"]);
        let alarms = log.alarms();
        let [alarm] = alarms.as_slice() else { panic!("{alarms:?}") };
        assert!(alarm.contains("could not be, what was used before stays in use: kubeconfig "), "{alarm}");
    }

    #[tokio::test]
    async fn another_current_context_is_not_followed() {
        let scene = Scene::new("token").await;
        let kubeconfig = scene.kubeconfig(&json!({"token": "token"}));
        let connection = scene.open(&kubeconfig).await;

        let mut changed: Value = serde_json::from_str(&kubeconfig).expect("JSON");
        changed["current-context"] = "elsewhere".into();
        let context = json!({"name": "elsewhere", "context": {"cluster": "elsewhere", "user": "agent"}});
        changed["contexts"].as_array_mut().expect("a list").push(context);
        let cluster = json!({"name": "elsewhere", "cluster": {"server": "https://127.0.0.1:9"}});
        changed["clusters"].as_array_mut().expect("a list").push(cluster);
        scene.write("config", &changed.to_string());
        let_pass(CHECK_INTERVAL).await;

        Scene::get(&connection).await.expect("an answer");
        assert_eq!((connection.current().generation, connection.server()), (1, scene.api.url().to_owned()));
    }

    #[tokio::test]
    async fn a_context_that_leads_to_another_cluster_now_is_not_followed() {
        let log = Log::default();
        let _logging = log.start();
        let scene = Scene::new("token").await;
        let kubeconfig = scene.kubeconfig(&json!({"token": "token"}));
        let connection = scene.open(&kubeconfig).await;

        let mut changed: Value = serde_json::from_str(&kubeconfig).expect("JSON");
        changed["contexts"][0]["context"]["cluster"] = "elsewhere".into();
        changed["clusters"][0]["name"] = "elsewhere".into();
        scene.write("config", &changed.to_string());
        let_pass(CHECK_INTERVAL).await;

        Scene::get(&connection).await.expect("an answer");
        assert_eq!(connection.current().generation, 0);
        assert!(log.alarms()[0].contains("leads to another cluster than when the agent was started"));
    }

    #[tokio::test]
    async fn credentials_of_a_plugin_are_renewed_when_they_expire() {
        let scene = Scene::new("token-1").await;
        let connection = scene.open(&scene.kubeconfig(&counting_plugin(&scene, "2020-01-01T00:00:00Z"))).await;

        Scene::get(&connection).await.expect("an answer");
        scene.api.set_user(User::reader("agent").token("token-2"));
        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["token-1", "token-2"]);
    }

    #[tokio::test]
    async fn credentials_of_a_plugin_are_kept_while_they_last() {
        let scene = Scene::new("token-1").await;
        let connection = scene.open(&scene.kubeconfig(&counting_plugin(&scene, "2100-01-01T00:00:00Z"))).await;

        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["token-1"]);
    }

    #[tokio::test]
    async fn a_plugin_that_fails_leaves_the_credentials_and_is_not_run_by_every_request() {
        let log = Log::default();
        let _logging = log.start();
        let scene = Scene::new("token-1").await;
        let connection = scene.open(&scene.kubeconfig(&counting_plugin(&scene, "2020-01-01T00:00:00Z"))).await;

        scene.write("refusing", "");
        for _ in 0..2 {
            let_pass(CHECK_INTERVAL).await;
            Scene::get(&connection).await.expect("an answer");
        }
        // It would give credentials again, and a refusal asks for them; but it failed a moment ago.
        scene.api.set_user(User::reader("agent").token("token-2"));
        fs::remove_file(scene.path("refusing")).expect("removed");
        let refused = Scene::get(&connection).await.expect_err("refused").to_string();
        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");

        assert!(refused.contains("they could not be renewed: the credential plugin \"sh\""), "{refused}");
        assert_eq!(scene.tokens(), ["token-1", "token-1", "token-1", "token-2"]);
        let alarms = log.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
    }

    #[test]
    fn credentials_are_renewed_a_little_before_they_expire() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = time("2030-01-01T00:00:00Z");
        for (expiry, renewal) in [
            ("2030-01-01T01:00:00Z", "2030-01-01T00:59:00Z"),
            ("2030-01-01T00:01:00Z", "2030-01-01T00:00:54Z"),
            ("2029-01-01T00:00:00Z", "2029-01-01T00:00:00Z"),
        ] {
            assert_eq!(renewal_time(now, time(expiry)), time(renewal));
        }
    }
}
