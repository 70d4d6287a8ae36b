//! What most tests here have: a cluster, an Anchore Enterprise, and the agent between them.

use testbed::anchore::Enterprise;
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::access::User;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions, KubernetesVersion};
use testbed::server::fault::{Fault, Requests};

use crate::agent::{Agent, Run, outlines};

pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const NODES: &str = "/api/v1/nodes";

/// A version before lists are streamed, so they are read by pages.
pub(crate) const OLD: KubernetesVersion = KubernetesVersion::minor(33);

/// What [`shop`] is reported as.
pub(crate) const SHOP: [&str; 6] = [
    "node n1",
    "namespace payment",
    "namespace shop",
    "pod payment/api-0 on n1: payment:7",
    "pod shop/web-0 on n1: nginx:1.27",
    "pod shop/web-1 on n1: nginx:1.27",
];

pub(crate) fn shop() -> Cluster {
    Cluster::new()
        .node("n1")
        .namespace("payment")
        .pod(Pod::running("api-0").image("payment:7"))
        .namespace("shop")
        .pod(Pod::running("web-0").image("nginx:1.27"))
        .pod(Pod::running("web-1").image("nginx:1.27"))
}

/// A cluster, where its reports go, and as whom it is read.
pub(crate) struct Scene {
    pub(crate) api: KubernetesApi,
    pub(crate) enterprise: Enterprise,
    user: User,
}

impl Scene {
    /// [`shop`], which anybody may read.
    pub(crate) async fn new() -> Self {
        Self::of(KubernetesOptions::default().cluster(&shop())).await
    }

    /// [`shop`], with something wrong.
    pub(crate) async fn with(requests: Requests, fault: impl Into<Fault>) -> Self {
        let scene = Self::new().await;
        scene.api.inject(requests, fault);
        scene
    }

    /// An API server that anybody may read from.
    pub(crate) async fn of(options: KubernetesOptions) -> Self {
        Self::start(options, User::named("somebody")).await
    }

    /// A cluster that knows this user alone, and is read as that user.
    pub(crate) async fn for_user(cluster: &Cluster, user: User) -> Self {
        Self::start(KubernetesOptions::default().cluster(cluster).user(user.clone()), user).await
    }

    async fn start(options: KubernetesOptions, user: User) -> Self {
        let api = options.start().await.expect("started");
        Self { api, enterprise: Enterprise::start().await.expect("started"), user }
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::new().reads_as(&self.api, &self.user).sends_to(&self.enterprise)
    }

    /// A run that does not wait long for a silent server.
    pub(crate) async fn run(&self) -> Run {
        self.agent().impatient().run().await
    }

    pub(crate) async fn run_with(&self, words: &str) -> Run {
        self.agent().with(words).run().await
    }

    /// The outlines of all reports that were accepted.
    pub(crate) fn reported(&self) -> Vec<Vec<String>> {
        outlines(&self.enterprise, "admin")
    }

    /// How often `path` was asked for in one piece, and by pages.
    pub(crate) fn asked_whole_and_paged(&self, path: &str) -> (usize, usize) {
        let requests = self.api.requests();
        let of_path = requests.iter().filter(|request| request.path == path);
        let (whole, paged): (Vec<_>, Vec<_>) = of_path.partition(|request| request.query.is_empty());
        (whole.len(), paged.len())
    }
}
