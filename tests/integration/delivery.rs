//! What Anchore Enterprise answers, or does not, and what becomes of the reports.
//!
//! `accepting`: what counts as accepted, and the paths of old and new servers. `refusals`: answers that are errors.
//! `connections`: answers that do not come. `redirects`. `retrying`: when it is sent again. `accounts`: routes, the
//! default account, one failure beside another. `batches`. `trust`: TLS. `proxies`. `credentials`: from files.
//! `printing`: what is shown of what is sent. `secrets`: what is not. `stopping`: signals. `relay`: what holds an answer
//! back for a test.

mod accepting;
mod accounts;
mod batches;
mod connections;
mod credentials;
mod printing;
mod proxies;
mod redirects;
mod refusals;
mod relay;
mod retrying;
mod secrets;
mod stopping;
mod trust;

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use testbed::anchore::{AcceptedReport, Enterprise, EnterpriseOptions};
use testbed::cluster::Cluster;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::KubernetesApi;
use testbed::server::fault::{Fault, Requests};
use testbed::server::record::RecordedRequest;

use crate::agent::Agent;

/// No wait here takes half of this, however slow the machine is.
const HARD_LIMIT: Duration = Duration::from_mins(1);

const V2: &str = "/v2/kubernetes-inventory";
const V1: &str = "/v1/enterprise/kubernetes-inventory";

/// The outline of the one report on [`shop`].
const SHOP: [&str; 5] =
    ["node n1", "namespace blog", "namespace shop", "pod blog/blog-0 on n1: blog:1", "pod shop/shop-0 on n1: shop:1"];

/// What an accepted report on [`shop`] leaves in the answer to [`Scene::arrived`].
const SHOP_ARRIVED: [&str; 1] = ["admin from admin: blog, shop"];

/// Two namespaces, each with a pod.
fn shop() -> Cluster {
    namespaces(&["blog", "shop"])
}

/// These namespaces, each with a pod and with an account of its name in the label `account`.
fn namespaces(names: &[&str]) -> Cluster {
    names.iter().fold(Cluster::new().node("n1"), |cluster, name| {
        let pod = Pod::running(&format!("{name}-0")).image(&format!("{name}:1"));
        cluster.namespace(Namespace::named(name).label("account", name)).pod(pod)
    })
}

/// A report of 12 MiB: more than the buffers of a connection hold.
fn large_cluster() -> Cluster {
    let text = "x".repeat(1 << 20);
    let pods = (0..12).map(|number| Pod::running(&format!("web-{number}")).image("web:1").annotation("notes", &text));
    pods.fold(Cluster::new().node("n1").namespace("shop"), Cluster::pod)
}

/// A cluster, and the Enterprise that its reports go to.
struct Scene {
    api: KubernetesApi,
    enterprise: Enterprise,
}

impl Scene {
    /// The cluster [`shop`] and the default Enterprise.
    async fn new() -> Self {
        Self::with(EnterpriseOptions::default()).await
    }

    /// The cluster [`shop`] and an Enterprise of one's own.
    async fn with(options: EnterpriseOptions) -> Self {
        Self::of(&shop(), options).await
    }

    async fn of(cluster: &Cluster, options: EnterpriseOptions) -> Self {
        let api = KubernetesApi::serving(cluster).await.expect("started");
        Self { api, enterprise: options.start().await.expect("started") }
    }

    /// This Enterprise, for whose reports this always goes wrong.
    async fn failing(fault: impl Into<Fault>) -> Self {
        let scene = Self::new().await;
        scene.enterprise.inject(Requests::to("*"), fault);
        scene
    }

    /// The agent with the configuration that fits.
    fn agent(&self) -> Agent {
        Agent::new().reads(&self.api).sends_to(&self.enterprise)
    }

    /// What was accepted, in order: the account, the user, and the namespaces of the report.
    fn arrived(&self) -> Vec<String> {
        let requests = self.enterprise.requests();
        let line = |report: AcceptedReport| {
            let body = requests[report.request].json().expect("a report that was kept");
            let namespaces = body["namespaces"].as_array().cloned().unwrap_or_default();
            let names: Vec<&str> = namespaces.iter().filter_map(|namespace| namespace["name"].as_str()).collect();
            format!("{} from {}: {}", report.account, report.user, names.join(", "))
        };
        self.enterprise.accepted().into_iter().map(line).collect()
    }

    /// What was accepted, whatever the order.
    fn arrived_in_any_order(&self) -> Vec<String> {
        sorted(self.arrived())
    }

    /// The requests, in order: method and path, and of those with an account or credentials, both.
    fn asked(&self) -> Vec<String> {
        self.enterprise.requests().iter().map(summary).collect()
    }

    fn asked_in_any_order(&self) -> Vec<String> {
        sorted(self.asked())
    }

    /// Waits until this many requests have arrived.
    async fn asked_for(&self, count: usize) {
        let asked = async {
            while self.enterprise.requests().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HARD_LIMIT, asked).await.expect("it must be asked within a minute");
    }

    /// The sentence about the first batch of the account `admin`, after the address of its request.
    fn answered(&self, rest: &str) -> String {
        not_accepted(&format!("{}{V2} answered {rest}", self.enterprise.url()), "admin", 1)
    }

    /// Host and port of the server, as sentences name it.
    fn peer(&self) -> String {
        self.enterprise.address().to_string()
    }
}

/// The sentence about a batch of an account.
fn not_accepted(reason: &str, account: &str, batch: usize) -> String {
    format!("report not accepted: {reason} account=\"{account}\" batch={batch}")
}

/// A report to the newer path.
fn post(account: &str, user: &str) -> String {
    format!("POST {V2} for {account} from {user}")
}

fn summary(request: &RecordedRequest) -> String {
    let credentials = request.header("authorization").strip_prefix("Basic ").map(|encoded| {
        let decoded = BASE64_STANDARD.decode(encoded).expect("base64");
        String::from_utf8(decoded).expect("text").split_once(':').expect("a user and a password").0.to_owned()
    });
    let account = request.header("x-anchore-account");
    match credentials {
        None if account.is_empty() => format!("{} {}", request.method, request.path),
        user => {
            format!("{} {} for {account} from {}", request.method, request.path, user.as_deref().unwrap_or("nobody"))
        }
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The lines of standard error, in an order of their own.
fn sorted_lines(text: &str) -> Vec<String> {
    sorted(text.lines().map(str::to_owned).collect())
}
