//! Who may do what, and the kubeconfigs that say who one is.

use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::cluster::{CLUSTER_ROLE_PREFIX, Cluster};
use crate::server::{CertificateUser, TokenUser};

/// A verb on a resource, as in a rule of a Role.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
}

/// What a `ClusterRole` for the agent grants.
pub(crate) const READ_EVERYTHING: [Right; 4] = [
    Right::new("get", "namespaces"),
    Right::new("list", "namespaces"),
    Right::new("list", "nodes"),
    Right::new("list", "pods"),
];

/// What a `ClusterRole` for the resident agent grants.
pub(crate) const WATCH_EVERYTHING: [Right; 6] = [
    Right::new("get", "namespaces"),
    Right::new("list", "namespaces"),
    Right::new("watch", "namespaces"),
    Right::new("list", "nodes"),
    Right::new("list", "pods"),
    Right::new("watch", "pods"),
];

/// What replicas need to choose who leads.
pub(crate) const SHARE_LEASES: [Right; 3] = [
    Right::of_group("get", "coordination.k8s.io", "leases"),
    Right::of_group("create", "coordination.k8s.io", "leases"),
    Right::of_group("update", "coordination.k8s.io", "leases"),
];

/// What the agent needs to read a namespace by its name.
pub(crate) const READ_NAMESPACE: [Right; 2] = [Right::new("get", "namespaces"), Right::new("list", "pods")];

impl Right {
    pub(crate) const fn new(verb: &'static str, resource: &'static str) -> Self {
        Self { verb, group: "", resource }
    }

    /// On a resource of another group than the core's.
    pub(crate) const fn of_group(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self { verb, group, resource }
    }

    fn rule(self) -> Value {
        json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]})
    }
}

impl Cluster {
    /// A user with a token and without rights.
    pub(crate) fn token_user(&self) -> TokenUser {
        self.server.token_user()
    }

    /// A user with a client certificate and without rights.
    pub(crate) fn certificate_user(&self) -> CertificateUser {
        self.server.certificate_user()
    }

    /// A service account, known by a token that the API server issued, as in a pod. It has no rights.
    pub(crate) async fn service_account(&self, namespace: &str, name: &str) -> TokenUser {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.post(&path, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})).await;
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.post(&format!("{path}/{name}/token"), &request).await;
        let token = answer["status"]["token"].as_str().expect("the API server issues tokens").to_owned();
        TokenUser { name: format!("system:serviceaccount:{namespace}:{name}"), token }
    }

    /// A user with a token who may read everything that the agent reads.
    pub(crate) async fn reader(&self) -> TokenUser {
        let user = self.token_user();
        self.grant(&user.name, &READ_EVERYTHING).await;
        user
    }

    /// As [`Self::reader`], with a client certificate.
    pub(crate) async fn certificate_reader(&self) -> CertificateUser {
        let user = self.certificate_user();
        self.grant(&user.name, &READ_EVERYTHING).await;
        user
    }

    /// Grants `rights` in the whole cluster, and waits until the API server knows.
    pub(crate) async fn grant(&self, user: &str, rights: &[Right]) {
        let name = format!("{CLUSTER_ROLE_PREFIX}{user}");
        self.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role("ClusterRole", &name, rights)).await;
        let binding = binding("ClusterRole", &name, user);
        self.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
        self.wait_for_rights(user, None, rights).await;
    }

    /// Grants `rights` in one namespace, and waits until the API server knows.
    pub(crate) async fn grant_in(&self, namespace: &str, user: &str, rights: &[Right]) {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        self.post(&format!("{path}/roles"), &role("Role", user, rights)).await;
        self.post(&format!("{path}/rolebindings"), &binding("Role", user, user)).await;
        self.wait_for_rights(user, Some(namespace), rights).await;
    }

    /// Takes back what [`Self::grant`] granted to `user`. The API server acts on it a moment later.
    pub(crate) async fn revoke(&self, user: &str) {
        let name = format!("{CLUSTER_ROLE_PREFIX}{user}");
        self.delete(&format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}")).await;
        self.delete(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}")).await;
    }

    /// Waits until the API server knows that `user` has `rights`.
    pub(crate) async fn wait_for_rights(&self, user: &str, namespace: Option<&str>, rights: &[Right]) {
        for Right { verb, group, resource } in rights {
            let attributes = json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace});
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes},
            });
            self.wait_until("the API server knows a new right", async || {
                let answer = self.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
                answer["status"]["allowed"] == true
            })
            .await;
        }
    }

    /// Writes a kubeconfig with one context, whose cluster is called `prod`.
    pub(crate) fn kubeconfig(&self, user: &Value) -> PathBuf {
        Kubeconfig::new()
            .cluster("prod", &self.entry())
            .user("reader", user)
            .context("main", "prod", "reader")
            .write(self)
    }

    /// The entry of this cluster in a kubeconfig.
    pub(crate) fn entry(&self) -> Value {
        let certificate_authority = BASE64_STANDARD.encode(self.server.certificate_authority());
        json!({"server": self.server.url, "certificate-authority-data": certificate_authority})
    }

    /// Writes a file into the folder of this test.
    pub(crate) fn write_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder can be made");
        std::fs::write(&path, content).expect("a file can be written");
        path
    }

    /// Writes a program into the folder of this test.
    pub(crate) fn write_script(&self, name: &str, lines: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write_file(name, &format!("#!/bin/sh\n{lines}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode can be set");
        path
    }
}

/// A kubeconfig, built entry by entry. The first context is the current one.
#[must_use]
pub(crate) struct Kubeconfig(Value);

impl Kubeconfig {
    pub(crate) fn new() -> Self {
        Self(json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}))
    }

    pub(crate) fn cluster(self, name: &str, entry: &Value) -> Self {
        self.with("clusters", &json!({"name": name, "cluster": entry}))
    }

    pub(crate) fn user(self, name: &str, entry: &Value) -> Self {
        self.with("users", &json!({"name": name, "user": entry}))
    }

    pub(crate) fn context(mut self, name: &str, cluster: &str, user: &str) -> Self {
        if self.0["current-context"].is_null() {
            self.0["current-context"] = name.into();
        }
        self.with("contexts", &json!({"name": name, "context": {"cluster": cluster, "user": user}}))
    }

    /// Writes it into the folder of the test.
    pub(crate) fn write(&self, cluster: &Cluster) -> PathBuf {
        self.write_as(cluster, "kubeconfig")
    }

    /// Writes it into the folder of the test, at this path.
    pub(crate) fn write_as(&self, cluster: &Cluster, path: &str) -> PathBuf {
        // JSON is YAML too.
        cluster.write_file(path, &self.0.to_string())
    }

    fn with(mut self, list: &str, entry: &Value) -> Self {
        self.0[list].as_array_mut().expect("it is a list").push(entry.clone());
        self
    }
}

impl TokenUser {
    /// As a kubeconfig's user, with the token in it.
    pub(crate) fn with_token(&self) -> Value {
        json!({"token": self.token})
    }
}

impl CertificateUser {
    /// As a kubeconfig's user, with certificate and key in it.
    pub(crate) fn with_data(&self) -> Value {
        json!({
            "client-certificate-data": BASE64_STANDARD.encode(&self.certificate),
            "client-key-data": BASE64_STANDARD.encode(&self.private_key),
        })
    }
}

fn role(kind: &str, name: &str, rights: &[Right]) -> Value {
    let rules: Vec<Value> = rights.iter().map(|right| right.rule()).collect();
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": rules})
}

fn binding(kind: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": format!("{kind}Binding"),
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}
