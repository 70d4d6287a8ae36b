//! `kubeconfig.*` and `kubernetes.*`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::key::{Choice, Integer, Key, Section, Text};
use super::reader::{Reader, Shown};

/// The value of `kubeconfig.path` that means the pod's service account.
const IN_CLUSTER: &str = "use-in-cluster";

const PATH: Key<Text> = Key::new(
    "kubeconfig.path",
    Text::UNSET,
    "A kubeconfig file, or `use-in-cluster` for the pod's service account. Unset: the explicit access below if it is \
     given; else the files in `$KUBECONFIG`; else `~/.kube/config` if it exists; else the pod's service account. In \
     periodic mode the files, and those of tokens and certificates that they name, are read again when they change; a \
     credential plugin is run again before its credentials expire, and ended after 60 s where nobody can answer it.",
);

const CONTEXT: Key<Text> = Key::new(
    "kubeconfig.context",
    Text::UNSET,
    "Context of the kubeconfig to use instead of its current one, which is the one at the start: a change later is not \
     followed.",
);

const CLUSTER: Key<Text> = Key::new(
    "kubeconfig.cluster",
    Text::UNSET,
    "The cluster's name in reports. Two clusters of one name overwrite each other in Anchore Enterprise. Unset, it is \
     the name that the kubeconfig's context gives the cluster; in a pod, and with explicit access, it must be set.",
);

const CLUSTER_CERT: Key<Text> = Key::new(
    "kubeconfig.cluster-cert",
    Text::UNSET,
    "Explicit access: base64 of the PEM of the cluster's certificate authority.",
);

const SERVER: Key<Text> = Key::new(
    "kubeconfig.server",
    Text::UNSET,
    "Explicit access: address of the Kubernetes API, such as `https://kubernetes.example.com:6443`.",
);

const USER_TYPE: Key<Choice<UserType>> = Key::new(
    "kubeconfig.user.type",
    Choice {
        default: ("private_key", UserType::PrivateKey),
        words: &[("private_key", UserType::PrivateKey), ("token", UserType::Token)],
    },
    "Explicit access: `private_key` for a client certificate and its key, `token` for a token.",
);

const CLIENT_CERT: Key<Text> = Key::new(
    "kubeconfig.user.client-cert",
    Text::UNSET,
    "Explicit access: base64 of the PEM of the client certificate.",
);

const PRIVATE_KEY: Key<Text> =
    Key::new("kubeconfig.user.private-key", Text::SECRET, "Explicit access: base64 of the PEM of its private key.");

const TOKEN: Key<Text> = Key::new("kubeconfig.user.token", Text::SECRET, "Explicit access: the token.");

const REQUEST_TIMEOUT: Key<Integer> = Key::new(
    "kubernetes.request-timeout-seconds",
    Integer { default: 60, min: 1, max: 86_400 },
    "Bound on each request to the Kubernetes API: on its answer, and on each further piece of it; not on the whole \
     collection.",
);

const OLD_REQUEST_TIMEOUT: Key<Integer> = Key::new(
    "kubernetes-request-timeout-seconds",
    Integer { default: 0, min: 0, max: 86_400 },
    "Old form of `kubernetes.request-timeout-seconds`, which it overrides when it is above 0.",
)
.old();

const PAGE_SIZE: Key<Integer> = Key::new(
    "kubernetes.request-batch-size",
    Integer { default: 500, min: 0, max: 4_294_967_295 },
    "Objects per page, where lists are read in pages. 0 takes the default.",
);

const CONCURRENCY: Key<Integer> = Key::new(
    "kubernetes.worker-pool-size",
    Integer { default: 100, min: 1, max: 4_294_967_295 },
    "Most requests at the same time when namespaces are read one by one. Few are used.",
);

/// Which cluster, under which name, with whose rights.
#[derive(Debug, Clone)]
pub struct KubeconfigConfig {
    /// Where access to the cluster comes from.
    pub access: ClusterAccess,
    /// `kubeconfig.context`: the context to use instead of the current one.
    pub context: Option<String>,
    /// `kubeconfig.cluster`: the cluster's name in reports; `None` takes the context's cluster name. Always set with
    /// [`ClusterAccess::InCluster`] and [`ClusterAccess::Explicit`], where there is no context.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum UserType {
    PrivateKey,
    Token,
}

/// The texts of explicit access, not yet checked.
struct ExplicitTexts {
    server: Option<String>,
    cluster_cert: Option<String>,
    user_type: UserType,
    client_cert: Option<String>,
    private_key: Option<String>,
    token: Option<String>,
}

pub(super) fn access_section() -> Section {
    Section {
        title: "The cluster",
        intro: "A `kubeconfig.path` wins over explicit access. Explicit access needs the server, its certificate and \
                the fields of the user's type; some but not all of them are an error.",
        rows: vec![
            PATH.into(),
            CONTEXT.into(),
            CLUSTER.into(),
            CLUSTER_CERT.into(),
            SERVER.into(),
            USER_TYPE.into(),
            CLIENT_CERT.into(),
            PRIVATE_KEY.into(),
            TOKEN.into(),
        ],
    }
}

pub(super) fn requests_section() -> Section {
    Section {
        title: "Reading the cluster",
        intro: "",
        rows: [REQUEST_TIMEOUT, PAGE_SIZE, CONCURRENCY, OLD_REQUEST_TIMEOUT].map(Into::into).into(),
    }
}

pub(super) fn read_access(reader: &mut Reader<'_>) -> KubeconfigConfig {
    let path = reader.text(&PATH);
    let context = reader.text(&CONTEXT);
    let cluster_name = reader.text(&CLUSTER);
    let explicit = read_explicit_texts(reader);
    let access = match path {
        Some(path) => {
            warn_of_unused_explicit_access(reader);
            let in_cluster = path.eq_ignore_ascii_case(IN_CLUSTER);
            if in_cluster { ClusterAccess::InCluster } else { ClusterAccess::File(reader.environment.path(&path)) }
        }
        None => explicit.complete(reader).map_or(ClusterAccess::Default, ClusterAccess::Explicit),
    };
    let without_kubeconfig = matches!(access, ClusterAccess::InCluster | ClusterAccess::Explicit(_));
    if without_kubeconfig && cluster_name.is_none() {
        let advice = "Set it to a name that no other cluster has";
        reader.error(&CLUSTER, "is missing; it is the cluster's name in reports", advice);
    }
    if without_kubeconfig && context.is_some() {
        // Going on would report another cluster than the one that was asked for.
        let advice = "Remove it, or set kubeconfig.path to that kubeconfig";
        reader.error(&CONTEXT, "names a context of a kubeconfig, but none is read", advice);
    }
    KubeconfigConfig { access, context, cluster_name }
}

pub(super) fn read_requests(reader: &mut Reader<'_>) -> KubernetesConfig {
    let current = reader.integer(&REQUEST_TIMEOUT);
    let old = read_old_timeout(reader);
    let page_size = match reader.integer(&PAGE_SIZE) {
        0 => PAGE_SIZE.kind.default,
        size => size,
    };
    let max_concurrent_requests = reader.integer(&CONCURRENCY);
    KubernetesConfig {
        request_timeout: Duration::from_secs(old.unwrap_or(current)),
        page_size: u32::try_from(page_size).unwrap_or(u32::MAX),
        max_concurrent_requests: usize::try_from(max_concurrent_requests).unwrap_or(usize::MAX),
    }
}

/// The old key's value takes the place of the current one's where settings are shown.
fn read_old_timeout(reader: &mut Reader<'_>) -> Option<u64> {
    let noted = reader.settings.len();
    let seconds = reader.integer(&OLD_REQUEST_TIMEOUT);
    reader.settings.truncate(noted);
    if seconds == 0 {
        return None;
    }
    reader.amend(Shown::Integer(seconds), reader.origin(&OLD_REQUEST_TIMEOUT));
    Some(seconds)
}

fn read_explicit_texts(reader: &mut Reader<'_>) -> ExplicitTexts {
    ExplicitTexts {
        cluster_cert: reader.text(&CLUSTER_CERT),
        server: reader.text(&SERVER),
        user_type: reader.choice(&USER_TYPE),
        client_cert: reader.text(&CLIENT_CERT),
        private_key: reader.text(&PRIVATE_KEY),
        token: reader.text(&TOKEN),
    }
}

impl ExplicitTexts {
    fn complete(self, reader: &mut Reader<'_>) -> Option<ExplicitAccess> {
        let any = [&SERVER, &CLUSTER_CERT, &CLIENT_CERT, &PRIVATE_KEY, &TOKEN].iter().any(|key| reader.is_set(key));
        if !any {
            return None;
        }
        let needed: &[&Key<Text>] = match self.user_type {
            UserType::PrivateKey => &[&SERVER, &CLUSTER_CERT, &CLIENT_CERT, &PRIVATE_KEY],
            UserType::Token => &[&SERVER, &CLUSTER_CERT, &TOKEN],
        };
        let missing: Vec<&str> = needed.iter().filter(|key| !reader.is_set(key)).map(|key| key.path).collect();
        if !missing.is_empty() {
            report_missing(reader, &missing, self.user_type);
            return None;
        }
        let server = self.server.and_then(|text| read_server(reader, &text));
        let cluster_certificate = self.cluster_cert.and_then(|text| read_pem(reader, &CLUSTER_CERT, &text));
        let user = match self.user_type {
            UserType::Token => self.token.map(|token| ExplicitUser::Token(token.into())),
            UserType::PrivateKey => {
                let certificate = self.client_cert.and_then(|text| read_pem(reader, &CLIENT_CERT, &text));
                let private_key = self.private_key.and_then(|text| read_pem(reader, &PRIVATE_KEY, &text));
                certificate.zip(private_key).and_then(|(certificate, private_key)| {
                    let private_key = String::from_utf8(private_key).ok()?.into();
                    Some(ExplicitUser::Certificate { certificate, private_key })
                })
            }
        };
        Some(ExplicitAccess { server: server?, cluster_certificate: cluster_certificate?, user: user? })
    }
}

fn report_missing(reader: &mut Reader<'_>, missing: &[&str], user_type: UserType) {
    let witness = [SERVER, CLUSTER_CERT, CLIENT_CERT, PRIVATE_KEY, TOKEN].into_iter().find(|key| reader.is_set(key));
    let Some(witness) = witness else { return };
    let what = format!("is part of explicit access, which lacks {}", missing.join(", "));
    let token_without_type = user_type == UserType::PrivateKey && reader.is_set(&TOKEN);
    let advice = if token_without_type {
        "Set kubeconfig.user.type to token if the token is to be used"
    } else {
        "Set what is missing, or remove the rest to use a kubeconfig file"
    };
    reader.error(&witness, what, advice);
}

fn warn_of_unused_explicit_access(reader: &mut Reader<'_>) {
    let keys = [SERVER, CLUSTER_CERT, CLIENT_CERT, PRIVATE_KEY, TOKEN];
    if let Some(key) = keys.into_iter().find(|key| reader.is_set(key)) {
        reader.warning(&key, "is not used, because kubeconfig.path is set", "Remove one of the two");
    }
}

fn read_server(reader: &mut Reader<'_>, text: &str) -> Option<http::Uri> {
    let uri = text.trim().parse::<http::Uri>().ok().filter(|uri| {
        let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        host && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if uri.is_none() {
        let advice = "Write it like https://kubernetes.example.com:6443, without user or password";
        reader.error(&SERVER, "is not the address of a Kubernetes API", advice);
    }
    uri
}

/// Decodes base64, in which line breaks may stand, and checks that the result is PEM.
fn read_pem(reader: &mut Reader<'_>, key: &Key<Text>, text: &str) -> Option<Vec<u8>> {
    let compact: String = text.split_ascii_whitespace().collect();
    let pem = STANDARD
        .decode(compact)
        .ok()
        .filter(|bytes| std::str::from_utf8(bytes).is_ok_and(|pem| pem.contains("-----BEGIN ")));
    if pem.is_none() {
        reader.error(key, "is not base64 of PEM", "Encode the PEM file, including its BEGIN line, with base64");
    }
    pem
}
