//! An observer of a cluster in the testbed:
//!
//! ```ignore
//! let scene = Scene::of(&Cluster::new().namespace("shop").pod(web())).start().await;
//! assert_eq!(scene.pods().await, ["shop/web: nginx:1"]);
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use testbed::cluster::Cluster;
use testbed::kubernetes::access::User;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions};
use testbed::objects::Kind;
use tokio::task::JoinHandle;

use crate::cluster::connect::Connection;
use crate::cluster::snapshot::ClusterSnapshot;
use crate::cluster::watch::{
    NoPicture, ObserveSettings, Observer, Picture, SourceKind, SourceState, SourceStatus, WatchLimits,
};
use crate::config::periodic::CollectionMethod;
use crate::config::{Environment, Overrides};

/// Nothing here needs a tenth of this, however slow the machine is.
const HARD_LIMIT: Duration = Duration::from_mins(1);

/// As if the polling interval were so long.
pub(super) const LONG: Duration = Duration::from_hours(1);

/// What is observed before it is.
#[must_use]
pub(super) struct Plan {
    options: KubernetesOptions,
    user: User,
    include: Vec<String>,
    method: CollectionMethod,
    reports_finished: bool,
    limits: WatchLimits,
}

/// What is observed.
pub(super) struct Scene {
    pub(super) api: KubernetesApi,
    pub(super) observer: Arc<Observer>,
    task: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    /// With other options of the API server.
    pub(super) fn options(self, change: impl FnOnce(KubernetesOptions) -> KubernetesOptions) -> Self {
        Self { options: change(self.options), ..self }
    }

    /// By this user, who is the only one.
    pub(super) fn by(self, user: User) -> Self {
        let user = user.token("secret");
        Self { options: self.options.user(user.clone()), user, ..self }
    }

    /// With `namespace-selectors.include`.
    pub(super) fn include(self, names: &[&str]) -> Self {
        Self { include: names.iter().map(|&name| name.to_owned()).collect(), ..self }
    }

    /// With `inventory-collection.method: poll`.
    pub(super) fn polling(self) -> Self {
        Self { method: CollectionMethod::Poll, ..self }
    }

    /// Gives up a watch that is silent for so long.
    pub(super) fn silence(self, silence: Duration) -> Self {
        Self { limits: WatchLimits { silence, ..self.limits }, ..self }
    }

    /// Starts to observe.
    pub(super) async fn start(self) -> Scene {
        let api = self.options.start().await.expect("a server");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("kubeconfig"), api.kubeconfig(&self.user)).expect("written");
        let environment = Environment { working_directory: folder.path().to_owned(), ..Environment::default() };
        let overrides =
            Overrides { kubeconfig: Some("kubeconfig".to_owned()), namespaces: self.include, ..Overrides::default() };
        let config = crate::config::load(&overrides, &environment).expect("settings").config;
        let connection = Connection::open(&config.kubeconfig, &environment).await.expect("a client");
        let settings = ObserveSettings {
            method: self.method,
            kubernetes: config.kubernetes,
            selectors: config.selectors,
            metadata: config.metadata,
            account_label_key: None,
            reports_finished: self.reports_finished,
        };
        let observer = Arc::new(Observer::new(Arc::new(connection), settings, self.limits));
        let running = Arc::clone(&observer);
        let task = tokio::spawn(async move { running.run().await });
        Scene { api, observer, task }
    }
}

impl Scene {
    /// An observer of this cluster, by anybody, who does not wait for long after failures.
    pub(super) fn of(cluster: &Cluster) -> Plan {
        Plan {
            options: KubernetesOptions::default().cluster(cluster),
            user: User::named("somebody"),
            include: Vec::new(),
            method: CollectionMethod::Watch,
            reports_finished: false,
            limits: WatchLimits { first_wait: Duration::from_millis(10), ..WatchLimits::default() },
        }
    }

    pub(super) async fn picture(&self) -> Result<Picture, NoPicture> {
        self.observer.picture(Timestamp::UNIX_EPOCH, LONG).await
    }

    /// The pods of a picture, with their images; what ran and is gone is among them.
    pub(super) async fn pods(&self) -> Vec<String> {
        let snapshot = self.picture().await.expect("a picture").snapshot(None);
        pods(&snapshot)
    }

    /// The namespaces of a picture.
    pub(super) async fn namespaces(&self) -> Vec<String> {
        let snapshot = self.picture().await.expect("a picture").snapshot(None);
        snapshot.namespaces.iter().map(|namespace| snapshot.strings.get(namespace.name).to_owned()).collect()
    }

    /// Waits until pictures have these pods.
    pub(super) async fn shows(&self, expected: &[&str]) {
        let mut last = Vec::new();
        let shown = async {
            loop {
                if let Ok(picture) = self.picture().await {
                    last = pods(&picture.snapshot(None));
                    if last == expected {
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        let is_shown = tokio::time::timeout(HARD_LIMIT, shown).await.is_ok();
        assert!(is_shown, "it shows {last:?} and not {expected:?}");
    }

    /// Waits until this is so.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waits = async {
            while !is_so(self) {
                tokio::task::yield_now().await;
            }
        };
        let was_so = tokio::time::timeout(HARD_LIMIT, waits).await.is_ok();
        assert!(was_so, "it never was so: {what}; {:?}, {:?}", self.observer.statuses(), self.observer.counts());
    }

    /// Waits until pods and namespaces are watched.
    pub(super) async fn is_watching(&self) {
        self.until("both are watched", |scene| {
            scene.api.watch_count(Kind::Pods) == 1
                && scene.api.watch_count(Kind::Namespaces) == 1
                && scene.observer.statuses().iter().all(|status| status.is_watched)
        })
        .await;
    }

    /// The source of pods, or the first of them.
    pub(super) fn pods_source(&self) -> SourceStatus {
        let of_pods = |status: &SourceStatus| status.kind == SourceKind::Pods;
        self.observer.statuses().into_iter().find(of_pods).expect("a source of pods")
    }

    pub(super) fn is_blind(&self) -> bool {
        matches!(self.pods_source().state, SourceState::Blind { .. })
    }

    pub(super) fn is_synced(&self) -> bool {
        self.pods_source().state == SourceState::Synced
    }

    /// How many lists and how many watches of a path were asked for.
    pub(super) fn requests(&self, path: &str) -> (usize, usize) {
        let requests = self.api.requests();
        let of_path = requests.iter().filter(|request| request.path == path);
        let watches = of_path.clone().filter(|request| request.query.contains("watch=true")).count();
        (of_path.count() - watches, watches)
    }

    /// Lists of pods and namespaces so far, and of those how many were read anew.
    pub(super) fn lists(&self) -> (u64, u64) {
        let counts = self.observer.counts();
        (counts.lists, counts.relists)
    }

    /// Has account `a` accept all that is carried.
    pub(super) async fn accept(&self) {
        let picture = self.picture().await.expect("a picture");
        for (id, _) in super::unrouted(&picture) {
            self.observer.route(id, &["a".into()].into());
        }
        let namespaces = picture.snapshot(None).namespaces.iter().map(|namespace| namespace.name).collect();
        self.observer.settle("a", &picture.carried_in(&namespaces, "a"));
    }
}

/// `namespace/name: image, image`, with an asterisk for a pod that does not run.
fn pods(snapshot: &ClusterSnapshot) -> Vec<String> {
    let text = |symbol| snapshot.strings.get(symbol);
    let lines = snapshot.pods.iter().map(|pod| {
        let images: Vec<&str> = pod
            .containers
            .iter()
            .filter_map(|container| snapshot.images[container.image as usize].spec.map(text))
            .collect();
        let mark = if pod.running { "" } else { "*" };
        format!("{}/{}{mark}: {}", text(pod.namespace), text(pod.name), images.join(", "))
    });
    lines.collect()
}

/// What is logged in this thread at `warn` and above, for as long as the guard lives.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// How many lines have this text.
    pub(super) fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("text").lines().filter(|line| line.contains(text)).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
