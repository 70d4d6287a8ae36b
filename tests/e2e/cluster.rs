//! The whole cluster for one test: empty at its start, and filled by it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::objects::{Namespace, Node, Pod};
use crate::server::{self, Server};

/// As many tests as have servers at the same time: one can wait while the other computes.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Servers that no test uses now.
static IDLE: Mutex<Vec<Arc<Server>>> = Mutex::new(Vec::new());

/// Namespaces that the API server makes itself and would make again, in order. Tests leave them as they are.
const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Folders of etcd with objects in namespaces that tests make, but for pods.
const NAMESPACED: [&str; 11] = [
    "configmaps",
    "cronjobs",
    "deployments",
    "leases",
    "networkpolicies",
    "persistentvolumeclaims",
    "rolebindings",
    "roles",
    "secrets",
    "serviceaccounts",
    "services/specs",
];

/// What cluster-wide roles and bindings of tests are called, before the name of a user.
pub(crate) const CLUSTER_ROLE_PREFIX: &str = "e2e:";

/// Writes that etcd takes in one transaction.
const TRANSACTION: usize = 100;

/// How long the server may take until it acts on what was written.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cluster, for one test alone.
pub(crate) struct Cluster {
    pub(crate) server: Arc<Server>,
    /// Where this test keeps its kubeconfigs and where its agent runs.
    pub(crate) directory: tempfile::TempDir,
    client: reqwest::Client,
    _turn: SemaphorePermit<'static>,
}

impl Drop for Cluster {
    /// Servers of a test that failed may be down; the next one gets others.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&self.server));
        }
    }
}

impl Cluster {
    /// Waits for its turn, and empties the cluster.
    pub(crate) async fn fresh() -> Self {
        let turn = TURNS.acquire().await.expect("it is never closed");
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let server = match idle {
            Some(server) => server,
            None => Arc::new(Server::start().await.unwrap_or_else(|error| panic!("{error:#}"))),
        };
        let client = server::http_client(&server.certificate_authority());
        let directory = tempfile::tempdir_in(&server.directory).expect("a temporary folder can be made");
        let cluster = Self { server, directory, client, _turn: turn };
        cluster.has_system_namespaces().await;
        cluster.empty().await;
        cluster
    }

    /// A cluster with something to report.
    pub(crate) async fn with_one_pod() -> Self {
        let cluster = Self::fresh().await;
        cluster.namespace("shop").await;
        cluster.pod("shop", Pod::running("web-0").image("web:1")).await;
        cluster
    }

    /// Makes a namespace.
    pub(crate) async fn namespace(&self, namespace: impl Into<Namespace>) {
        self.post("/api/v1/namespaces", &namespace.into().manifest()).await;
    }

    /// Makes a node with its status.
    pub(crate) async fn node(&self, node: impl Into<Node>) {
        let node = node.into();
        let created = self.post("/api/v1/nodes", &node.manifest()).await;
        self.write_status(&format!("/api/v1/nodes/{}", node.name()), created, node.status()).await;
    }

    /// Makes a pod in `namespace` with its status, as the scheduler and the kubelet would.
    /// Gives its uid.
    pub(crate) async fn pod(&self, namespace: &str, pod: Pod) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let created = self.post(&path, &pod.manifest()).await;
        let path = format!("{path}/{}", pod.name());
        let uid = created["metadata"]["uid"].as_str().expect("what is made has a uid").to_owned();
        let created = match pod.ephemeral_containers() {
            None => created,
            Some(ephemeral) => {
                let mut debugged = created;
                debugged["spec"]["ephemeralContainers"] = ephemeral;
                self.request(Method::PUT, &format!("{path}/ephemeralcontainers"), Some(&debugged)).await
            }
        };
        self.write_status(&path, created, pod.status(namespace)).await;
        uid
    }

    /// Deletes an object as a user does: with its grace period, and its finalizers left to whoever set them.
    pub(crate) async fn delete(&self, path: &str) {
        self.request(Method::DELETE, path, None).await;
    }

    /// Deletes a pod at once.
    pub(crate) async fn delete_pod(&self, namespace: &str, name: &str) {
        self.delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")).await;
    }

    /// Changes some fields of an object.
    pub(crate) async fn patch(&self, path: &str, change: &Value) {
        let url = format!("{}{path}", self.server.url);
        let request = self.client.patch(url).bearer_auth(&self.server.admin_token).body(change.to_string());
        let answer = request.header("content-type", "application/merge-patch+json").send().await;
        let answer = answer.expect("the API server answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Has etcd forget all that was before now.
    pub(crate) async fn compact(&self) {
        let any = self.etcd("kv/range", &json!({"key": BASE64_STANDARD.encode("any")})).await;
        let revision = &any["header"]["revision"];
        self.etcd("kv/compaction", &json!({"revision": revision, "physical": true})).await;
    }

    /// What the API server answers to the administrator, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path, None).await
    }

    /// Makes an object in the collection at `path`.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> Value {
        self.request(Method::POST, path, Some(object)).await
    }

    /// Makes many namespaces at once, past the API server.
    pub(crate) async fn load_namespaces(&self, namespaces: impl IntoIterator<Item = Namespace>) {
        let stored = namespaces.into_iter().map(|it| (format!("/registry/namespaces/{}", it.name()), it.stored()));
        self.write_to_etcd(stored).await;
    }

    /// Makes many running pods at once in one namespace, past the API server.
    pub(crate) async fn load_pods(&self, namespace: &str, pods: impl IntoIterator<Item = Pod>) {
        let stored =
            pods.into_iter().map(|pod| (format!("/registry/pods/{namespace}/{}", pod.name()), pod.stored(namespace)));
        self.write_to_etcd(stored).await;
    }

    /// Deletes a pod, past the API server.
    pub(crate) async fn remove_pod(&self, namespace: &str, name: &str) {
        let key = format!("/registry/pods/{namespace}/{name}");
        self.delete_range(&key, &format!("{key}\0")).await;
    }

    /// Deletes a namespace with all that is in it, at once.
    pub(crate) async fn vanish(&self, namespace: &str) {
        self.delete_below(&format!("/registry/pods/{namespace}/")).await;
        let key = format!("/registry/namespaces/{namespace}");
        self.delete_range(&key, &format!("{key}\0")).await;
    }

    /// Writes objects into etcd in JSON, which the API server reads there as well as its own protobuf.
    async fn write_to_etcd(&self, objects: impl Iterator<Item = (String, Value)>) {
        let writes = objects.map(|(key, value)| {
            let value = BASE64_STANDARD.encode(value.to_string());
            json!({"request_put": {"key": BASE64_STANDARD.encode(key), "value": value}})
        });
        let writes: Vec<Value> = writes.collect();
        for writes in writes.chunks(TRANSACTION) {
            self.etcd("kv/txn", &json!({"success": writes})).await;
        }
    }

    /// Asks until the answer is yes: for what the API server does a moment after it was told.
    pub(crate) async fn wait_until(&self, what: &str, ask: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !ask().await {
            assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn write_status(&self, path: &str, mut object: Value, status: Value) {
        object["status"] = status;
        self.request(Method::PUT, &format!("{path}/status"), Some(&object)).await;
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}", self.server.url);
        let mut request = self.client.request(method.clone(), url).bearer_auth(&self.server.admin_token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("the API server answers");
        let status = answer.status();
        let text = answer.text().await.expect("the API server's answer is whole");
        assert!(status.is_success(), "{method} {path}: {status}: {text}");
        serde_json::from_str(&text).expect("the API server answers JSON")
    }

    async fn etcd(&self, call: &str, body: &Value) -> Value {
        let answer = self.client.post(format!("{}/v3/{call}", self.server.etcd_url)).json(body).send().await;
        let answer = answer.expect("etcd answers").error_for_status().expect("etcd does what it is asked");
        answer.json().await.expect("etcd answers JSON")
    }

    async fn has_system_namespaces(&self) {
        self.wait_until("the API server makes its own namespaces", async || {
            let list = self.get("/api/v1/namespaces").await;
            let names: Vec<&str> = items(&list).filter_map(|item| item["metadata"]["name"].as_str()).collect();
            SYSTEM_NAMESPACES.iter().all(|system| names.contains(system))
        })
        .await;
    }

    /// Deletes what tests made. Through etcd: nobody is there who would clear finalizers.
    async fn empty(&self) {
        self.delete_all_but_system("/registry/namespaces/", "").await;
        for folder in NAMESPACED {
            self.delete_all_but_system(&format!("/registry/{folder}/"), "/").await;
        }
        self.delete_below("/registry/pods/").await;
        self.delete_below("/registry/minions/").await;
        for folder in ["clusterroles", "clusterrolebindings"] {
            self.delete_below(&format!("/registry/{folder}/{CLUSTER_ROLE_PREFIX}")).await;
            // Of releases of the chart that a failed test has left, all in namespaces that begin so.
            self.delete_range(&format!("/registry/{folder}/agent"), &format!("/registry/{folder}/agent~")).await;
        }
    }

    /// Deletes the keys below `folder`, but not the names of the system's namespaces, followed by `suffix`.
    async fn delete_all_but_system(&self, folder: &str, suffix: &str) {
        let mut from = folder.to_owned();
        for name in SYSTEM_NAMESPACES {
            let kept = format!("{folder}{name}{suffix}");
            self.delete_range(&from, &kept).await;
            // A whole name is one key; a name with a suffix is all keys that start so.
            from = if suffix.is_empty() { format!("{kept}\0") } else { end_of(&kept) };
        }
        self.delete_range(&from, &end_of(folder)).await;
    }

    async fn delete_below(&self, prefix: &str) {
        self.delete_range(prefix, &end_of(prefix)).await;
    }

    async fn delete_range(&self, from: &str, to: &str) {
        let range = json!({"key": BASE64_STANDARD.encode(from), "range_end": BASE64_STANDARD.encode(to)});
        self.etcd("kv/deleterange", &range).await;
    }
}

/// The first key after all that start with `prefix`, which ends in `/` or `:`.
fn end_of(prefix: &str) -> String {
    match prefix.strip_suffix('/') {
        Some(start) => format!("{start}0"),
        None => format!("{};", prefix.trim_end_matches(':')),
    }
}

/// The objects of a list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}
