//! `anchore.*`.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::secret::Credentials;

/// Where and as whom reports are sent.
#[derive(Debug, Clone)]
pub struct AnchoreConfig {
    /// Base of all paths; may itself carry a path. Never holds user info, query or fragment.
    pub url: Url,
    /// The global credentials; `None` only when every account that can be reported to has its own.
    pub credentials: Option<Credentials>,
    /// `anchore.account`.
    pub account: String,
    /// How the connection is made.
    pub http: HttpConfig,
}

/// `anchore.http.*`.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// Bound on connecting, on each stretch of an upload without progress, and on the wait for the answer (plus 1 s per
    /// MiB of body); `None` (setting 0) is no bound.
    pub timeout: Option<Duration>,
    /// Adhoc mode: how long the whole run keeps retrying; zero is one attempt each.
    pub retry: Duration,
    /// PEM file of certificate authorities, added to the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of a client certificate and its key.
    pub client_certificate: Option<ClientCertificate>,
    /// Which proxy.
    pub proxy: ProxySetting,
}

/// PEM files of a client certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate chain.
    pub certificate_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// `anchore.http.proxy`.
#[derive(Debug, Clone)]
pub enum ProxySetting {
    /// Unset: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` decide.
    Environment,
    /// `direct`: no proxy, whatever the environment says.
    Direct,
    /// This one. May hold a password, which [`crate::proxy`] never prints.
    Url(Url),
}
