//! Which cluster, as whom, through which proxy: from settings to a client, and to a new client when credentials have
//! to be renewed. Nothing is contacted before the first request, but exec plugins run here.
//!
//! Every mistake found here is one of configuration: the error names the file, the name or the setting and what to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{KubeconfigError, LoadDataError};

use super::access::{Access, Source};
use super::renewal::{Origin, Renewal};
use super::request::chain;
use super::{credentials, kubeconfig};
use crate::config::Environment;
use crate::config::kubernetes::{ClusterAccess, KubeconfigConfig};
use crate::fingerprint::Fingerprint;
use crate::proxy::ProxyError;

/// The name that the existing agent's chart and sample configuration put where nobody chose one.
const PLACEHOLDER_NAME: &str = "docker-desktop";

/// Sent with every request.
const USER_AGENT: &str = concat!("anchore-k8s-inventory/", env!("CARGO_PKG_VERSION"));

/// How long the resident agent waits for a plugin that nobody can answer.
const PLUGIN_LIMIT: Duration = Duration::from_mins(1);

/// Why there is no client for a cluster. All but [`ConnectError::PluginFailed`] are mistakes of configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says which cluster.
    #[error(
        "no cluster to read: set kubeconfig.path (or --kubeconfig), or kubeconfig.server with a certificate and a user, \
         or the variable KUBECONFIG, or write ~/.kube/config; inside a cluster, mount the pod's service account"
    )]
    NoCluster,
    /// The variable that says which cluster cannot be understood.
    #[error("the variable {0} is not UTF-8: change it, or set kubeconfig.path (or --kubeconfig)")]
    Variable(&'static str),
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {} cannot be used: {reason}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// No context was named.
    #[error("{files} names no current context: set kubeconfig.context (or --context)")]
    NoCurrentContext {
        /// The kubeconfig files.
        files: String,
    },
    /// The context is not there.
    #[error("{files} has no context {context:?}; it has: {known}")]
    NoSuchContext {
        /// The kubeconfig files.
        files: String,
        /// The context that was wanted.
        context: String,
        /// Those that exist.
        known: String,
    },
    /// The context names something that is not there.
    #[error("context {context:?} in {files} names the {kind} {name:?}, which is not there")]
    Dangling {
        /// The kubeconfig files.
        files: String,
        /// The context.
        context: String,
        /// `cluster` or `user`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The server's address is missing or wrong.
    #[error("the server of cluster {cluster:?} is not an address ({reason}): write it as https://host:port")]
    Server {
        /// The cluster's name.
        cluster: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("the certificate or key in {origin} cannot be used: {reason}")]
    Certificate {
        /// File or setting.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A token cannot be used.
    #[error("the token in {origin} cannot be used: {reason}")]
    Token {
        /// File or setting.
        origin: String,
        /// Why.
        reason: String,
    },
    /// The exec plugin of the kubeconfig is not there.
    #[error("the credential plugin {command:?} of the kubeconfig cannot be started ({reason}): install it{hint}")]
    PluginMissing {
        /// The command.
        command: String,
        /// The system's reason.
        reason: String,
        /// The kubeconfig's own `installHint`.
        hint: String,
    },
    /// The exec plugin ran and gave nothing usable.
    #[error("the credential plugin {command:?} of the kubeconfig gave no credentials: {reason}")]
    PluginFailed {
        /// The command.
        command: String,
        /// Its exit status, or what is wrong with its answer.
        reason: String,
    },
    /// The user is one of an `auth-provider`.
    #[error("the auth-provider {provider:?} of the kubeconfig gives no credentials: {reason}")]
    AuthProvider {
        /// Its name.
        provider: String,
        /// What is missing, and what to do.
        reason: &'static str,
    },
    /// The pod's service account cannot be used.
    #[error("the pod's service account cannot be used: {0}")]
    ServiceAccount(String),
    /// A report needs the cluster's name.
    #[error(
        "the cluster has no name: set kubeconfig.cluster, unique among your clusters; Anchore Enterprise tells clusters \
         apart by it alone"
    )]
    NoName,
    /// The kubeconfig was changed, and its context leads to another cluster than before.
    #[error(
        "the kubeconfig's context {context:?} leads to another cluster than when the agent was started: start the agent \
         again to report that one"
    )]
    OtherCluster {
        /// The context.
        context: String,
    },
    /// The proxy's address is wrong.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Anything else that keeps a client from being built.
    #[error("the cluster's client cannot be built: {0}")]
    Client(String),
}

/// How long a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// For one run: credentials are renewed only when they are refused.
    OneRun,
    /// For months: files and credentials are watched over.
    Resident,
}

/// A cluster, with the credentials to read it.
pub struct Connection {
    /// The cluster's name in reports.
    cluster_name: String,
    pub(super) renewal: Arc<Renewal>,
}

impl ConnectError {
    /// Whether the configuration is to blame; otherwise something failed while it ran.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::PluginFailed { .. })
    }
}

impl Connection {
    /// Prepares access to the configured cluster for one run.
    pub async fn open(settings: &KubeconfigConfig, environment: &Environment) -> Result<Self, ConnectError> {
        Self::open_at(Source::choose(settings, environment)?, Lifetime::OneRun, settings, environment).await
    }

    /// Prepares access to the configured cluster for as long as the program runs: what changes in the files that access
    /// comes from, and credentials of plugins that are about to expire, are renewed before the next request. Plugins
    /// that nobody can answer are ended after a minute.
    pub async fn open_resident(settings: &KubeconfigConfig, environment: &Environment) -> Result<Self, ConnectError> {
        Self::open_at(Source::choose(settings, environment)?, Lifetime::Resident, settings, environment).await
    }

    pub(super) async fn open_at(
        source: Source,
        lifetime: Lifetime,
        settings: &KubeconfigConfig,
        environment: &Environment,
    ) -> Result<Self, ConnectError> {
        let (access, fingerprint) = match lifetime {
            // What is read once may be a pipe.
            Lifetime::OneRun => (source.access(environment)?, Fingerprint::of(Vec::new())),
            Lifetime::Resident => source.access_and_fingerprint(environment, Vec::new())?,
        };
        let source = source.bound_to(&access);
        let cluster_name = settings.cluster_name.clone().or_else(|| access.name.clone()).ok_or(ConnectError::NoName)?;
        warn_of_placeholder(&cluster_name, access.name.as_deref());
        let (access, withheld) = access.kept_off_the_wire();
        if withheld {
            let server = access.config.cluster_url.host();
            tracing::warn!(server, "the API server's address is not https, so no credentials are sent to it");
        }
        let built = build(&access, lifetime).await?;
        let origin = Origin { source, environment: environment.clone(), lifetime };
        Ok(Self { cluster_name, renewal: Arc::new(Renewal::new(origin, built, access, fingerprint)) })
    }

    /// The cluster's name in reports.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    fn access(&self) -> Arc<Access> {
        self.renewal.current().access
    }

    /// The API server's address for messages: without a path, and without a password somebody may have put into it.
    pub(crate) fn server(&self) -> String {
        let access = self.access();
        let url = &access.config.cluster_url;
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{}://{host}", url.scheme_str().unwrap_or("https"))
    }

    /// The namespace of the service account or of the kubeconfig's context; `default` where none is named.
    pub(crate) fn default_namespace(&self) -> String {
        self.access().config.default_namespace.clone()
    }

    /// Whether to ask for compressed answers: not where the kubeconfig says `disable-compression`.
    pub(crate) fn compresses(&self) -> bool {
        !self.access().config.disable_compression
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("cluster_name", &self.cluster_name).finish_non_exhaustive()
    }
}

/// The names of all contexts that `settings` can reach, for completion. What cannot be read has none.
pub fn context_names(settings: &KubeconfigConfig, environment: &Environment) -> Vec<String> {
    match &settings.access {
        ClusterAccess::File(path) => kubeconfig::context_names(&[environment.working_directory.join(path)]),
        ClusterAccess::Default => {
            kubeconfig::default_files(environment).map(|files| kubeconfig::context_names(&files)).unwrap_or_default()
        }
        ClusterAccess::InCluster | ClusterAccess::Explicit(_) => Vec::new(),
    }
}

/// A client, and when its credentials expire if that is known.
pub(super) struct Built {
    pub(super) client: Client,
    pub(super) expiry: Option<Timestamp>,
}

/// Builds a client, with files read on a thread that may block.
pub(super) async fn build(access: &Access, lifetime: Lifetime) -> Result<Built, ConnectError> {
    let mut config = access.config.clone();
    let patience = (lifetime == Lifetime::Resident).then_some(PLUGIN_LIMIT);
    let expiry = credentials::complete(&mut config.auth_info, access.token_file.as_deref(), patience).await?;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    // Retrying is decided where it is known what a request is for.
    config.default_retry = false;
    let built = tokio::task::spawn_blocking(move || ClientBuilder::try_from(config).map(ClientBuilder::build)).await;
    let client = built.map_err(|error| ConnectError::Client(error.to_string()))?.map_err(|error| explain(&error))?;
    Ok(Built { client, expiry })
}

/// kube's error in our words.
fn explain(error: &kube::Error) -> ConnectError {
    match error {
        kube::Error::InferKubeconfig(
            KubeconfigError::LoadClientCertificate(cause) | KubeconfigError::LoadClientKey(cause),
        ) => match cause {
            LoadDataError::ReadFile(error, path) => {
                ConnectError::Certificate { origin: path.display().to_string(), reason: error.to_string() }
            }
            LoadDataError::NoBase64DataOrFile => ConnectError::Certificate {
                origin: "the user's entry".to_owned(),
                reason: "a client certificate needs its key, and a key its certificate".to_owned(),
            },
            LoadDataError::DecodeBase64(error) => {
                ConnectError::Certificate { origin: "the user's entry".to_owned(), reason: error.to_string() }
            }
        },
        kube::Error::RustlsTls(error) => {
            ConnectError::Certificate { origin: "the cluster's or user's entry".to_owned(), reason: chain(error) }
        }
        other => ConnectError::Client(chain(other)),
    }
}

/// Two clusters under one name overwrite each other in Anchore Enterprise.
fn warn_of_placeholder(name: &str, own_name: Option<&str>) {
    if name == PLACEHOLDER_NAME && own_name != Some(PLACEHOLDER_NAME) {
        tracing::warn!(
            cluster = name,
            own_name,
            "kubeconfig.cluster is the placeholder of a sample configuration: set it to a name that no other cluster has"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cluster::access::names_somebody;

    fn kubeconfig_with_user(user: &str) -> String {
        format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: edge, user: u}}}}]\n\
             clusters: [{{name: edge, cluster: {{server: 'https://127.0.0.1:1'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        )
    }

    async fn open(kubeconfig: &str) -> Result<Connection, ConnectError> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("config"), kubeconfig).expect("written");
        fs::write(folder.path().join("empty-token"), " \n").expect("written");
        let settings =
            KubeconfigConfig { access: ClusterAccess::File("config".into()), context: None, cluster_name: None };
        let environment = Environment { working_directory: folder.path().to_owned(), ..Environment::default() };
        Connection::open(&settings, &environment).await
    }

    async fn failure(user: &str) -> (String, bool) {
        let error = open(&kubeconfig_with_user(user)).await.expect_err("refused");
        (error.to_string(), error.is_configuration())
    }

    #[tokio::test]
    async fn the_clusters_name_is_the_contexts() {
        let connection = open(&kubeconfig_with_user("{token: t}")).await.expect("complete");
        assert_eq!(connection.cluster_name(), "edge");
    }

    #[tokio::test]
    async fn a_missing_plugin_is_named_with_its_hint() {
        let exec = "{apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, installHint: Get it.}";
        let (message, configuration) = failure(&format!("{{exec: {exec}}}")).await;
        assert!(message.contains("\"no-such-plugin\"") && message.ends_with("install it. Get it."), "{message}");
        assert!(configuration);
    }

    #[tokio::test]
    async fn requests_refused_at_once_renew_the_credentials_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let runs = folder.path().join("runs");
        let script = format!("echo run >> {}; echo 'status: {{token: t}}'", runs.display());
        let user = format!("{{exec: {{command: sh, args: [-c, \"{script}\"], interactiveMode: Never}}}}");
        let connection = open(&kubeconfig_with_user(&user)).await.expect("complete");
        let generation = connection.renewal.current().generation;

        let (one, other) = tokio::join!(connection.renew(generation), connection.renew(generation));

        one.and(other).expect("renewed");
        let runs = fs::read_to_string(runs).expect("it ran");
        assert_eq!(runs.lines().count(), 2, "once to open and once to renew");
    }

    #[tokio::test]
    async fn token_and_certificate_files_that_cannot_be_used_are_named() {
        for (user, place) in [
            ("{tokenFile: no-such-token}", "no-such-token"),
            ("{tokenFile: empty-token}", "empty-token"),
            ("{client-certificate: no-such-cert, client-key: k}", "no-such-cert"),
        ] {
            let (message, configuration) = failure(user).await;
            assert!(message.contains(place), "{message}");
            assert!(configuration);
        }
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_refused() {
        for server in ["''", "'ftp://x'", "'https://'", "'https://[::'", "'https://u:s3cret-canary@x'"] {
            let kubeconfig = kubeconfig_with_user("{token: t}").replace("'https://127.0.0.1:1'", server);
            let error = open(&kubeconfig).await.expect_err("refused").to_string();
            assert!(error.starts_with("the server of cluster \"edge\" is not an address"), "{error}");
            assert!(!error.contains("s3cret-canary"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_none_is_named_by_its_place_in_the_kubeconfig() {
        let entry = "server: 'https://edge', proxy-url: 'ftp://u:s3cret-canary@proxy:1'";
        let kubeconfig = kubeconfig_with_user("{token: t}").replace("server: 'https://127.0.0.1:1'", entry);
        let error = open(&kubeconfig).await.expect_err("refused").to_string();
        assert!(error.starts_with("proxy-url of the kubeconfig is not the address of a proxy"), "{error}");
        assert!(!error.contains("s3cret-canary"), "{error}");
    }

    #[tokio::test]
    async fn credentials_are_not_sent_without_tls() {
        let kubeconfig = kubeconfig_with_user("{token: t, exec: {command: no-such-plugin}}").replace("https", "http");
        let connection = open(&kubeconfig).await.expect("nothing is run or read");
        assert!(!names_somebody(&connection.access().config.auth_info));
    }
}
