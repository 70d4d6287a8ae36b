//! A connection's client through time: replaced when files have changed, when credentials are about to expire, or when
//! the server has refused them.
//!
//! Files may be found half written, and a plugin may fail: then the client stays as it is, which is said once, and it is
//! tried again later. One renewal at a time; requests that come meanwhile do not wait for one that is a precaution. A
//! request that is given up does not end the renewal it has begun: else a slow plugin would never end where requests have
//! little time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::access::{Access, Source};
use super::connect::{Built, ConnectError, Connection, Lifetime, build};
use crate::config::Environment;
use crate::fingerprint::{CHECK_INTERVAL, Fingerprint};

/// Credentials are renewed so long before they expire, or a tenth of their lifetime if that is less.
const LEAD: SignedDuration = SignedDuration::from_mins(1);

/// A client, and what it takes to make another.
pub(super) struct Renewal {
    origin: Origin,
    current: RwLock<Current>,
    /// Held while the client is renewed.
    upkeep: Arc<Mutex<Upkeep>>,
    /// A connection failed, for which changed files may be the reason.
    is_suspect: AtomicBool,
}

/// Where clients come from, and how long they are needed.
pub(super) struct Origin {
    pub(super) source: Source,
    pub(super) environment: Environment,
    pub(super) lifetime: Lifetime,
}

/// What is in use now.
#[derive(Clone)]
pub(super) struct Current {
    client: Client,
    pub(super) access: Arc<Access>,
    /// Counts renewals, so that several requests refused at once renew once.
    pub(super) generation: u64,
}

/// What has to be known to renew a client in time.
struct Upkeep {
    /// Of the files that the client was made from.
    fingerprint: Fingerprint,
    checked: Instant,
    /// When its credentials expire, if that is known.
    expiry: Option<Timestamp>,
    /// When they are to be renewed.
    renew_at: Option<Timestamp>,
    failure: Option<Failure>,
}

/// The last renewal failed.
struct Failure {
    at: Instant,
    error: Arc<ConnectError>,
    cause: Cause,
}

/// Whether there is a new client, or why not.
type RenewalResult = Result<(), Arc<ConnectError>>;

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

impl Connection {
    /// The client for a request now, and which renewal it is of. The resident agent's is looked after before, at most
    /// every ten seconds.
    pub(crate) async fn fresh(&self) -> (Client, u64) {
        self.renewal.keep().await;
        let current = self.renewal.current();
        (current.client, current.generation)
    }

    /// Lets the files be looked at before the next request: a connection failed, as it does when the server's or the
    /// client's certificate has been replaced.
    pub(crate) fn suspect(&self) {
        self.renewal.is_suspect.store(true, Ordering::Relaxed);
    }

    /// Makes a client from what files and plugins give now, unless that was done since `generation`, whose credentials
    /// were refused.
    pub(crate) async fn renew(&self, generation: u64) -> Result<(), Arc<ConnectError>> {
        self.renewal.renew(generation).await
    }
}

impl Renewal {
    /// Begins with a client that was made just now.
    pub(super) fn new(origin: Origin, built: Built, access: Access, fingerprint: Fingerprint) -> Self {
        let upkeep = Arc::new(Mutex::new(Upkeep::new(fingerprint, built.expiry)));
        let current = RwLock::new(Current { client: built.client, access: Arc::new(access), generation: 0 });
        Self { origin, current, upkeep, is_suspect: AtomicBool::new(false) }
    }

    /// What is in use now.
    pub(super) fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_resident(&self) -> bool {
        self.origin.lifetime == Lifetime::Resident
    }

    /// Looks after the client, where that is due.
    async fn keep(self: &Arc<Self>) {
        if !self.is_resident() {
            return;
        }
        // While another request looks after it, this one takes what there is.
        let Ok(mut upkeep) = Arc::clone(&self.upkeep).try_lock_owned() else { return };
        let is_due = upkeep.checked.elapsed() >= CHECK_INTERVAL;
        let is_suspect = self.is_suspect.swap(false, Ordering::Relaxed) && upkeep.fresh_failure().is_none();
        if is_due {
            upkeep.checked = Instant::now();
        } else if !is_suspect {
            return;
        }
        if upkeep.fingerprint.is_outdated().await {
            // A failure was told, and the client stays.
            let _ = end_of(self.begin(upkeep, Cause::ChangedFiles)).await;
        } else if is_due && upkeep.is_to_be_renewed() {
            let has_expired = upkeep.has_expired();
            let renewing = self.begin(upkeep, Cause::Credentials);
            if has_expired {
                let _ = end_of(renewing).await;
            }
        } else {
            upkeep.files_are_as_before();
        }
    }

    async fn renew(self: &Arc<Self>, generation: u64) -> Result<(), Arc<ConnectError>> {
        let mut upkeep = Arc::clone(&self.upkeep).lock_owned().await;
        if self.current().generation != generation {
            return Ok(());
        }
        if !self.is_resident() {
            // A run that is told to stop takes a plugin with it.
            return Box::pin(self.replace_client(&mut upkeep, Cause::Credentials)).await;
        }
        match upkeep.fresh_failure() {
            Some(error) => Err(Arc::clone(error)),
            None => end_of(self.begin(upkeep, Cause::Credentials)).await,
        }
    }

    /// Begins what goes on when nobody waits for it any more.
    fn begin(self: &Arc<Self>, mut upkeep: OwnedMutexGuard<Upkeep>, cause: Cause) -> JoinHandle<RenewalResult> {
        let renewal = Arc::clone(self);
        tokio::spawn(async move { renewal.replace_client(&mut upkeep, cause).await })
    }

    async fn replace_client(&self, upkeep: &mut Upkeep, cause: Cause) -> RenewalResult {
        match self.renewed(&upkeep.fingerprint).await {
            Ok(Renewed { built, access, fingerprint }) => {
                upkeep.recover();
                *upkeep = Upkeep { checked: upkeep.checked, ..Upkeep::new(fingerprint, built.expiry) };
                // Requests under way keep the old client until they end.
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Current { client: built.client, access, generation: current.generation + 1 };
                tracing::debug!("access to the API server was renewed");
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                if self.is_resident() {
                    upkeep.fail(&error, cause);
                }
                Err(error)
            }
        }
    }

    /// What there is now: from the source if its files have changed, and with the credentials of this moment anyway.
    async fn renewed(&self, before: &Fingerprint) -> Result<Renewed, ConnectError> {
        let Origin { source, environment, lifetime } = &self.origin;
        let current = self.current().access;
        let (access, fingerprint) = if before.is_outdated().await {
            let (access, fingerprint) = source.access_and_fingerprint(environment, before.files().to_owned())?;
            if access.name != current.name {
                return Err(ConnectError::OtherCluster { context: current.context.clone().unwrap_or_default() });
            }
            // That credentials are withheld was said when the connection was opened.
            (Arc::new(access.kept_off_the_wire().0), fingerprint)
        } else {
            (current, before.clone())
        };
        let built = build(&access, *lifetime).await?;
        Ok(Renewed { built, access, fingerprint })
    }
}

impl Upkeep {
    /// For a client that was made just now.
    fn new(fingerprint: Fingerprint, expiry: Option<Timestamp>) -> Self {
        let renew_at = expiry.map(|expiry| renewal_time(Timestamp::now(), expiry));
        Self { fingerprint, checked: Instant::now(), expiry, renew_at, failure: None }
    }

    fn is_to_be_renewed(&self) -> bool {
        self.renew_at.is_some_and(|time| time <= Timestamp::now())
    }

    fn has_expired(&self) -> bool {
        self.expiry.is_some_and(|time| time <= Timestamp::now())
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

    /// Nothing is to be renewed; where files were wrong, they have been put right.
    fn files_are_as_before(&mut self) {
        if self.failure.as_ref().is_some_and(|failure| failure.cause == Cause::ChangedFiles) {
            self.recover();
        }
    }

    fn recover(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("access to the API server is in order again");
        }
    }
}

/// How a renewal ended that somebody waits for.
async fn end_of(renewing: JoinHandle<RenewalResult>) -> RenewalResult {
    match renewing.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            // As if there were no other task: whoever waits panics.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Arc::new(ConnectError::Client(error.to_string()))),
        },
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
        assert_eq!((connection.renewal.current().generation, connection.server()), (1, scene.api.url().to_owned()));
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
        assert_eq!(connection.renewal.current().generation, 0);
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

    /// A plugin that after its first run waits until it is let go: by one who opens the pipe, and closes it.
    fn patient_plugin(scene: &Scene, expiry: &str) -> (Value, PathBuf) {
        let gate = scene.path("gate");
        let made = std::process::Command::new("mkfifo").arg(&gate).status().expect("it runs");
        assert!(made.success());
        let mut plugin = counting_plugin(scene, expiry);
        let script = plugin["exec"]["args"][1].as_str().expect("a script");
        let script = format!("[ -e {} ] && cat {} > /dev/null; {script}", scene.path("runs").display(), gate.display());
        plugin["exec"]["args"][1] = script.into();
        (plugin, gate)
    }

    #[tokio::test]
    async fn requests_do_not_wait_for_credentials_that_are_renewed_before_they_expire() {
        let scene = Scene::new("token-1").await;
        let (plugin, gate) = patient_plugin(&scene, "2100-01-01T00:00:00Z");
        let connection = scene.open(&scene.kubeconfig(&plugin)).await;
        connection.renewal.upkeep.lock().await.renew_at = Some(Timestamp::UNIX_EPOCH);

        let_pass(CHECK_INTERVAL).await;
        Scene::get(&connection).await.expect("an answer");
        Scene::get(&connection).await.expect("an answer");
        tokio::fs::write(&gate, "go").await.expect("the plugin waits");
        drop(connection.renewal.upkeep.lock().await);
        scene.api.set_user(User::reader("agent").token("token-2"));
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["token-1", "token-1", "token-2"]);
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_does_not_end_the_plugin_it_waits_for() {
        let scene = Scene::new("token-1").await;
        let (plugin, gate) = patient_plugin(&scene, "2020-01-01T00:00:00Z");
        let connection = Arc::new(scene.open(&scene.kubeconfig(&plugin)).await);

        let_pass(CHECK_INTERVAL).await;
        let waiting = Arc::clone(&connection);
        let request = tokio::spawn(async move { Scene::get(&waiting).await });
        let opened = tokio::task::spawn_blocking(move || fs::File::create(gate).expect("the plugin waits")).await;
        request.abort();
        assert!(request.await.expect_err("it was given up").is_cancelled());
        drop(opened);
        drop(connection.renewal.upkeep.lock().await);
        scene.api.set_user(User::reader("agent").token("token-2"));
        Scene::get(&connection).await.expect("an answer");

        assert_eq!(scene.tokens(), ["token-2"]);
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
