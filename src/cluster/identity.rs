//! Who this process is in the cluster: its namespace, its pod, and the Deployment that the pod belongs to.
//!
//! Found by owner references, from the pod over its replica set to the Deployment, following only the owner that
//! controls. An owner of another kind, an object that is not there or a right that is missing end the search without a
//! Deployment, and the same way each time; only what may pass is tried again, so that an identity does not change with
//! the weather.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::connect::Connection;
use super::list::Patience;
use super::progress::Progress;
use super::request::{Accept, Api, RequestError};
use super::{service_account, wire};
use crate::config::Environment;

/// How often each object is asked for: about a minute, with the waits between.
const ATTEMPTS: u32 = 8;

/// Where the system keeps the name of the host, which in a pod is the pod's.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Who this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The namespace of its pod; `None` outside of a cluster.
    pub namespace: Option<String>,
    /// The name of its pod, or of its host; never empty.
    pub host: String,
    /// The Deployment it belongs to, if it could be found.
    pub deployment: Option<Deployment>,
}

/// A Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Identity {
    /// What is known without asking the cluster: the namespace from `POD_NAMESPACE` or the service account, the pod
    /// from `POD_NAME`, `HOSTNAME` or the system.
    pub async fn of_process(environment: &Environment) -> Self {
        Self::from_sources(environment, Path::new(service_account::FOLDER), Path::new(HOST_NAME_FILE)).await
    }

    async fn from_sources(environment: &Environment, service_account: &Path, host_name_file: &Path) -> Self {
        let variable = |name: &str| environment.variables.get(name).and_then(|value| non_blank(value));
        let namespace = match variable("POD_NAMESPACE") {
            Some(namespace) => Some(namespace),
            None => first_line(&service_account.join("namespace")).await,
        };
        let host = match variable("POD_NAME").or_else(|| variable("HOSTNAME")) {
            Some(host) => host,
            None => first_line(host_name_file).await.unwrap_or_else(|| "localhost".to_owned()),
        };
        Self { namespace, host, deployment: None }
    }

    /// Finds the Deployment, too. Takes a while when the API server does not answer; what cannot be found is logged.
    /// `timeout` bounds each request.
    pub async fn lookup(self, connection: &Connection, timeout: Duration) -> Self {
        let Some(namespace) = &self.namespace else { return self };
        let progress = Progress::default();
        let api = Api { connection, timeout, progress: &progress };
        let deployment = match deployment(&api, namespace, &self.host).await {
            Ok(deployment) => deployment,
            Err(error) => {
                tracing::warn!(
                    namespace,
                    pod = self.host,
                    "the agent's own Deployment could not be looked up, so its registration is named after the cluster, \
                     the namespace and the pod: {error}; grant `get` on pods and replicasets in this namespace, or set \
                     anchore-registration.registration-id"
                );
                None
            }
        };
        Self { deployment, ..self }
    }
}

/// The Deployment of a pod; `None` when the pod is none of a Deployment.
async fn deployment(api: &Api<'_>, namespace: &str, pod: &str) -> Result<Option<Deployment>, RequestError> {
    let (Some(namespace), Some(pod)) = (path_segment(namespace), path_segment(pod)) else { return Ok(None) };
    let Some(owner) = controller(api, &format!("/api/v1/namespaces/{namespace}/pods/{pod}")).await? else {
        return Ok(None);
    };
    let Some(replica_set) = owner.named("ReplicaSet") else {
        tracing::info!(pod, kind = owner.kind, owner = owner.name, "the agent's pod belongs to no Deployment");
        return Ok(None);
    };
    let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets/{replica_set}");
    let Some(owner) = controller(api, &path).await? else { return Ok(None) };
    let is_deployment = owner.named("Deployment").is_some() && !owner.uid.is_empty();
    Ok(is_deployment.then_some(Deployment { name: owner.name, uid: owner.uid }))
}

/// The owner of an object that controls it.
async fn controller(api: &Api<'_>, path: &str) -> Result<Option<OwnerReference>, RequestError> {
    let mut patience = Patience::new(ATTEMPTS);
    loop {
        match get(api, path).await {
            Ok(object) => {
                let owners = object.metadata.unwrap_or_default().owner_references.unwrap_or_default();
                return Ok(owners.into_iter().find(|owner| owner.controller == Some(true)));
            }
            Err(error) => patience.wait_after(error, path).await?,
        }
    }
}

/// Asks for JSON, which is what proxies and servers of any age have, for so few objects.
async fn get(api: &Api<'_>, path: &str) -> Result<OwnedObject, RequestError> {
    let body = api.get(path, Accept::Json).await?.whole().await?;
    serde_json::from_slice(&wire::valid_text(body)).map_err(|error| RequestError::Malformed(error.to_string()))
}

/// An object of any kind, its owners alone.
#[derive(Debug, Default, Deserialize)]
struct OwnedObject {
    metadata: Option<OwnedMeta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnedMeta {
    owner_references: Option<Vec<OwnerReference>>,
}

/// `meta/v1.OwnerReference`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

impl OwnerReference {
    /// Its name, when it is of this kind of the group `apps`, whatever the version.
    fn named(&self, kind: &str) -> Option<&str> {
        let is_of_kind = self.kind == kind && self.api_version.starts_with("apps/");
        path_segment(&self.name).filter(|_| is_of_kind)
    }
}

/// A name that can stand in a path as it is: what names of pods and namespaces are made of.
fn path_segment(name: &str) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let is_name = name.bytes().all(fits) && name.bytes().any(|byte| byte != b'.');
    is_name.then_some(name)
}

fn non_blank(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

async fn first_line(path: &Path) -> Option<String> {
    let text = tokio::fs::read_to_string(path).await.ok()?;
    non_blank(text.lines().next()?)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;
    use crate::anchore::loopback::{Loopback, Received, response_with};
    use crate::config::kubernetes::{ClusterAccess, KubeconfigConfig};

    const POD: &str = "GET /api/v1/namespaces/anchore/pods/agent-7d9-x2x";
    const REPLICA_SET: &str = "GET /apis/apps/v1/namespaces/anchore/replicasets/agent-7d9";

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment { variables, ..Environment::default() }
    }

    fn owned_by(owner: &serde_json::Value) -> String {
        object(&json!({"metadata": {"name": "x", "ownerReferences": owner}}))
    }

    fn object(document: &serde_json::Value) -> String {
        response_with(200, "Content-Type: application/json\r\n", &document.to_string())
    }

    fn failure(status: u16, reason: &str) -> String {
        let document = json!({"kind": "Status", "reason": reason, "message": "said", "code": status});
        response_with(status, "Content-Type: application/json\r\n", &document.to_string())
    }

    fn owner(kind: &str, name: &str) -> serde_json::Value {
        json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true})
    }

    /// The Deployment that is found on a server that answers like this, and what it was asked.
    async fn found(
        answer: impl Fn(&Received) -> String + Clone + Send + Sync + 'static,
    ) -> (Option<Deployment>, Vec<String>) {
        let server = Loopback::answering(answer).await;
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = json!({
            "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "edge", "user": "u"}}],
            "clusters": [{"name": "edge", "cluster": {"server": server.url.as_str()}}], "users": [{"name": "u", "user": {}}],
        });
        std::fs::write(folder.path().join("config"), kubeconfig.to_string()).expect("written");
        let settings =
            KubeconfigConfig { access: ClusterAccess::File("config".into()), context: None, cluster_name: None };
        let environment = Environment { working_directory: folder.path().to_owned(), ..Environment::default() };
        let connection = Connection::open(&settings, &environment).await.expect("complete");
        let identity =
            Identity { namespace: Some("anchore".to_owned()), host: "agent-7d9-x2x".to_owned(), deployment: None };
        let identity = identity.lookup(&connection, Duration::from_mins(1)).await;
        (identity.deployment, server.lines())
    }

    #[tokio::test]
    async fn the_deployment_is_found_by_the_owners_that_control() {
        let (deployment, asked) = found(|request| match request.line.as_str() {
            POD => owned_by(&json!([
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "u"},
                owner("ReplicaSet", "agent-7d9")
            ])),
            REPLICA_SET => owned_by(&json!([owner("Deployment", "agent")])),
            _ => failure(404, "NotFound"),
        })
        .await;
        let expected = Deployment { name: "agent".to_owned(), uid: "uid-of-agent".to_owned() };
        assert_eq!((deployment, asked), (Some(expected), vec![POD.to_owned(), REPLICA_SET.to_owned()]));
    }

    #[tokio::test]
    async fn a_pod_of_another_kind_of_owner_or_of_none_has_no_deployment() {
        for owners in [
            json!(null),
            json!([]),
            json!([owner("StatefulSet", "agent")]),
            json!([owner("DaemonSet", "agent")]),
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "agent", "uid": "u", "controller": true}]),
            json!([{"apiVersion": "argoproj.io/v1", "kind": "ReplicaSet", "name": "a", "uid": "u", "controller": true}]),
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "agent-7d9", "uid": "u"}]),
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "../pods", "uid": "u", "controller": true}]),
        ] {
            let (deployment, asked) = found(move |_| owned_by(&owners)).await;
            assert_eq!((deployment, asked), (None, vec![POD.to_owned()]));
        }
    }

    #[tokio::test]
    async fn a_replica_set_without_a_deployment_has_none() {
        let (deployment, _) = found(|request| match request.line.as_str() {
            POD => owned_by(&json!([owner("ReplicaSet", "agent-7d9")])),
            _ => object(&json!({"metadata": {"name": "agent-7d9"}})),
        })
        .await;
        assert_eq!(deployment, None);
    }

    #[tokio::test]
    async fn a_missing_right_or_object_ends_the_search_at_once() {
        for (status, reason) in [(403, "Forbidden"), (404, "NotFound"), (400, "BadRequest")] {
            let (deployment, asked) = found(move |_| failure(status, reason)).await;
            assert_eq!((deployment, asked.len()), (None, 1), "{status}");
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again() {
        let is_first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (deployment, asked) = found(move |request| {
            if is_first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                return failure(500, "InternalError");
            }
            match request.line.as_str() {
                POD => owned_by(&json!([owner("ReplicaSet", "agent-7d9")])),
                _ => owned_by(&json!([owner("Deployment", "agent")])),
            }
        })
        .await;
        assert_eq!((deployment.map(|deployment| deployment.name), asked.len()), (Some("agent".to_owned()), 3));
    }

    #[tokio::test]
    async fn the_variables_name_namespace_and_pod_before_the_files_do() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("namespace"), "of-account\n").expect("written");
        std::fs::write(folder.path().join("host"), "of-system\n").expect("written");
        let identity = async |variables: &[(&str, &str)], folder: &Path| {
            let found = Identity::from_sources(&environment(variables), folder, &folder.join("host")).await;
            (found.namespace.unwrap_or_default(), found.host)
        };
        let pair = |namespace: &str, host: &str| (namespace.to_owned(), host.to_owned());
        let all = [("POD_NAMESPACE", "ns"), ("POD_NAME", "pod"), ("HOSTNAME", "host")];
        assert_eq!(identity(&all, folder.path()).await, pair("ns", "pod"));
        let blank = [("POD_NAMESPACE", " "), ("POD_NAME", ""), ("HOSTNAME", "host")];
        assert_eq!(identity(&blank, folder.path()).await, pair("of-account", "host"));
        assert_eq!(identity(&[], folder.path()).await, pair("of-account", "of-system"));
        assert_eq!(identity(&[], Path::new("no-such-folder")).await, pair("", "localhost"));
    }
}
