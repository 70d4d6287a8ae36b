//! Where access to a cluster comes from, and what it is at the moment: from settings to the client's settings.
//!
//! A source is chosen once. When its files change it is asked again, and never another source or context: what somebody
//! writes into a kubeconfig for a shell must not send the agent to another cluster.

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use kube::Config;
use kube::config::AuthInfo;
use secrecy::ExposeSecret;

use super::address::{proxy_for, server_url};
use super::connect::ConnectError;
use super::{kubeconfig, service_account};
use crate::config::Environment;
use crate::config::kubernetes::{ClusterAccess, ExplicitAccess, ExplicitUser, KubeconfigConfig};
use crate::fingerprint::Fingerprint;

/// The variable that names the system's certificate authorities, where the system's own are not used.
const SYSTEM_AUTHORITIES: &str = "SSL_CERT_FILE";

/// A source of access to a cluster.
#[derive(Debug)]
pub(super) enum Source {
    /// A context of kubeconfig files; `None` is the current one.
    Kubeconfig { files: Vec<PathBuf>, context: Option<String> },
    /// A pod's service account in this folder.
    ServiceAccount(PathBuf),
    /// Settings, with the cluster's name.
    Explicit(ExplicitAccess, Option<String>),
}

/// What a source of access gives: the client's settings, and the names the source has for cluster and context.
pub(super) struct Access {
    pub(super) config: Config,
    pub(super) name: Option<String>,
    pub(super) context: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    /// The files that this was read from, and that the client is built from.
    pub(super) files: Vec<PathBuf>,
}

impl Source {
    /// The one that the settings and the environment lead to.
    pub(super) fn choose(settings: &KubeconfigConfig, environment: &Environment) -> Result<Self, ConnectError> {
        let context = settings.context.clone();
        let service_account = Path::new(service_account::FOLDER);
        match &settings.access {
            ClusterAccess::File(path) => {
                Ok(Self::Kubeconfig { files: vec![environment.working_directory.join(path)], context })
            }
            ClusterAccess::InCluster => Ok(Self::ServiceAccount(service_account.to_owned())),
            ClusterAccess::Explicit(explicit) => Ok(Self::Explicit(explicit.clone(), settings.cluster_name.clone())),
            ClusterAccess::Default => {
                let files = kubeconfig::default_files(environment)?;
                if !files.is_empty() {
                    Ok(Self::Kubeconfig { files, context })
                } else if service_account.join("token").exists() {
                    Ok(Self::ServiceAccount(service_account.to_owned()))
                } else {
                    Err(ConnectError::NoCluster)
                }
            }
        }
    }

    /// Reads what it gives now.
    pub(super) fn access(&self, environment: &Environment) -> Result<Access, ConnectError> {
        let access = match self {
            Self::Kubeconfig { files, context } => from_files(files, context.as_deref(), environment),
            Self::ServiceAccount(folder) => from_service_account(folder, environment),
            Self::Explicit(explicit, name) => from_settings(explicit, name.as_deref(), environment),
        };
        Ok(access?.with_system_authorities(environment).with_needed_authorities())
    }

    /// Reads what it gives now, and the fingerprint of the files before they were read: a change in between shows later.
    ///
    /// Which files there are is known only once it was read, so that it is read again where they are others than `known`.
    pub(super) fn access_and_fingerprint(
        &self,
        environment: &Environment,
        known: Vec<PathBuf>,
    ) -> Result<(Access, Fingerprint), ConnectError> {
        let mut fingerprint = Fingerprint::of(known);
        let mut access = self.access(environment)?;
        if access.files != fingerprint.files() {
            fingerprint = Fingerprint::of(access.files);
            access = self.access(environment)?;
        }
        Ok((access, fingerprint))
    }

    /// The same source, bound to the context that `access` was read from, whichever is the current one later.
    pub(super) fn bound_to(self, access: &Access) -> Self {
        match self {
            Self::Kubeconfig { files, context } => {
                Self::Kubeconfig { files, context: context.or_else(|| access.context.clone()) }
            }
            other => other,
        }
    }
}

impl Access {
    /// As kubectl does, withholds credentials where everybody on the way could read them. Says whether it had to.
    pub(super) fn kept_off_the_wire(mut self) -> (Self, bool) {
        if self.config.cluster_url.scheme_str() != Some("http") {
            return (self, false);
        }
        let withheld = self.token_file.is_some() || names_somebody(&self.config.auth_info);
        self.config.auth_info = AuthInfo::default();
        self.token_file = None;
        (self, withheld)
    }

    fn with_system_authorities(mut self, environment: &Environment) -> Self {
        if self.config.root_cert.is_none()
            && let Some(file) = environment.variables.get(SYSTEM_AUTHORITIES)
        {
            self.files.push(environment.working_directory.join(file));
        }
        self
    }

    /// Leaves the system's certificate authorities alone where no certificate is verified: a machine may have none, which
    /// would be a failure.
    fn with_needed_authorities(mut self) -> Self {
        let meets_tls = |address: &http::Uri| address.scheme_str() == Some("https");
        let verifies = !self.config.accept_invalid_certs
            && (meets_tls(&self.config.cluster_url) || self.config.proxy_url.as_ref().is_some_and(meets_tls));
        if !verifies {
            self.config.root_cert.get_or_insert_default();
        }
        self
    }
}

pub(super) fn names_somebody(user: &AuthInfo) -> bool {
    user.token.is_some()
        || user.username.is_some()
        || user.exec.is_some()
        || user.client_certificate.is_some()
        || user.client_certificate_data.is_some()
        || user.impersonate.is_some()
}

fn from_files(files: &[PathBuf], context: Option<&str>, environment: &Environment) -> Result<Access, ConnectError> {
    let chosen = kubeconfig::choose(files, context)?;
    let cluster = &chosen.cluster;
    let wrong = |reason: String| ConnectError::Server { cluster: chosen.cluster_name.clone(), reason };
    let server = cluster.server.as_deref().ok_or_else(|| wrong("it is missing".to_owned()))?;
    let server = server_url(server).map_err(wrong)?;
    let mut config = Config::new(server.as_str().parse().map_err(|error| wrong(format!("{error}")))?);
    config.root_cert = kubeconfig::certificate_authorities(cluster)?;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or_default();
    config.disable_compression = cluster.disable_compression.unwrap_or_default();
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.proxy_url = proxy_for(&server, cluster.proxy_url.as_deref(), environment)?;
    config.auth_info = chosen.user;
    config.default_namespace = chosen.namespace.unwrap_or(config.default_namespace);
    let user = &mut config.auth_info;
    // Token files are read here, because kube sends their line end with the token, which no server accepts.
    let token_file = user.token_file.take().map(PathBuf::from);
    let named = [&cluster.certificate_authority, &user.client_certificate, &user.client_key];
    let named = named.into_iter().flatten().map(PathBuf::from).chain(token_file.clone());
    let files = files.iter().cloned().chain(named).collect();
    Ok(Access { config, name: Some(chosen.cluster_name), context: Some(chosen.context), token_file, files })
}

fn from_settings(
    explicit: &ExplicitAccess,
    name: Option<&str>,
    environment: &Environment,
) -> Result<Access, ConnectError> {
    let wrong =
        |reason: String| ConnectError::Server { cluster: name.unwrap_or("kubeconfig.server").to_owned(), reason };
    let server = server_url(&explicit.server.to_string()).map_err(wrong)?;
    let mut config = Config::new(server.as_str().parse().map_err(|error| wrong(format!("{error}")))?);
    let origin = "kubeconfig.cluster-cert";
    config.root_cert = Some(kubeconfig::decode_certificates(origin, &explicit.cluster_certificate)?);
    config.proxy_url = proxy_for(&server, None, environment)?;
    match &explicit.user {
        ExplicitUser::Token(token) => config.auth_info.token = Some(token.clone()),
        ExplicitUser::Certificate { certificate, private_key } => {
            config.auth_info.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
            config.auth_info.client_key_data = Some(BASE64_STANDARD.encode(private_key.expose_secret()).into());
        }
    }
    Ok(Access { config, name: None, context: None, token_file: None, files: Vec::new() })
}

fn from_service_account(folder: &Path, environment: &Environment) -> Result<Access, ConnectError> {
    let (config, token_file) = service_account::settings(folder, environment)?;
    let files = config.root_cert_file.iter().cloned().chain([token_file.clone()]).collect();
    Ok(Access { config, name: None, context: None, token_file: Some(token_file), files })
}
