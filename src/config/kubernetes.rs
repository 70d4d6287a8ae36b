//! `kubeconfig.*` and `kubernetes.*`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Which cluster, under which name, with whose rights.
#[derive(Debug, Clone)]
pub struct KubeconfigConfig {
    /// Where access to the cluster comes from.
    pub access: ClusterAccess,
    /// `kubeconfig.context`: the context to use instead of the current one.
    pub context: Option<String>,
    /// `kubeconfig.cluster`: the cluster's name in reports; `None` takes the context's cluster name.
    pub cluster_name: Option<String>,
}

/// Where access to the cluster comes from, in the order of `docs/configuration.md`.
#[derive(Debug, Clone)]
pub enum ClusterAccess {
    /// `kubeconfig.path` (or `--kubeconfig`): this file and no other.
    File(PathBuf),
    /// `kubeconfig.path: use-in-cluster`: the pod's service account.
    InCluster,
    /// `kubeconfig.server`, `cluster-cert` and `user`, complete.
    Explicit(ExplicitAccess),
    /// Nothing configured: `$KUBECONFIG`, else `~/.kube/config`, else the pod's service account.
    Default,
}

/// Access written into the configuration itself.
#[derive(Debug, Clone)]
pub struct ExplicitAccess {
    /// URL of the API server.
    pub server: http::Uri,
    /// PEM of the certificate authority (decoded from the setting's base64).
    pub cluster_certificate: Vec<u8>,
    /// Who we are.
    pub user: ExplicitUser,
}

/// `kubeconfig.user`.
#[derive(Debug, Clone)]
pub enum ExplicitUser {
    /// `type: private_key`: PEM of a client certificate and its key.
    Certificate {
        /// PEM of the certificate.
        certificate: Vec<u8>,
        /// PEM of the private key.
        private_key: SecretString,
    },
    /// `type: token`.
    Token(SecretString),
}

/// How the Kubernetes API is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Bound on each request: its response headers, and each further chunk of its body.
    pub request_timeout: Duration,
    /// Objects per page, where pages are used.
    pub page_size: u32,
    /// Most requests at the same time when namespaces are read one by one.
    pub max_concurrent_requests: usize,
}
