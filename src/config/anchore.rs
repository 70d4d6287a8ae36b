//! `anchore.*`.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::key::{Boolean, Integer, Key, Section, Text};
use super::problem::{Problem, printable};
use super::reader::{Reader, Shown};
use super::routes::RoutingConfig;
use super::secret::{Credentials, TextSource, read_source};

const URL: Key<Text> = Key::new(
    "anchore.url",
    Text::UNSET,
    "Address of the Anchore Enterprise API; it may carry a base path, and holds no user or password. With url, user \
     and password all empty nothing is sent.",
);

const USER: Key<Text> = Key::new("anchore.user", Text::UNSET, "User that reports are sent as.");

const USER_FILE: Key<Text> = Key::new(
    "anchore.user-file",
    Text::UNSET,
    "File that holds the user, instead of `anchore.user`. One line end at its end is cut; it is read again when it \
     changes.",
);

const PASSWORD: Key<Text> = Key::new("anchore.password", Text::SECRET, "Password of that user.");

const PASSWORD_FILE: Key<Text> = Key::new(
    "anchore.password-file",
    Text::UNSET,
    "File that holds the password, instead of `anchore.password`. One line end at its end is cut; it is read again \
     when it changes.",
);

const ACCOUNT: Key<Text> = Key::new(
    "anchore.account",
    Text { default: "admin", secret: false },
    "Account that reports are sent to, where no route says otherwise.",
);

const INSECURE: Key<Boolean> = Key::new(
    "anchore.http.insecure",
    Boolean { default: false },
    "Do not verify the server's certificate. Logs a warning at start; `anchore.http.ca-file` is the better way.",
);

const TIMEOUT: Key<Integer> = Key::new(
    "anchore.http.timeout-seconds",
    Integer { default: 10, min: 0, max: 86_400 },
    "Bound on connecting, on every stretch of an upload without progress, and on the wait for the answer (plus 1 s \
     for each MiB of the report). 0 is no bound.",
);

const RETRY: Key<Integer> = Key::new(
    "anchore.http.retry-seconds",
    Integer { default: 60, min: 0, max: 86_400 },
    "In adhoc mode, how long the whole run keeps retrying what may succeed later. 0 is one attempt each.",
);

const CA_FILE: Key<Text> = Key::new(
    "anchore.http.ca-file",
    Text::UNSET,
    "PEM file of certificate authorities that are trusted besides the system's. It is read again when it changes, and so \
     is the file of the system's that `SSL_CERT_FILE` names.",
);

const CLIENT_CERT_FILE: Key<Text> = Key::new(
    "anchore.http.client-cert-file",
    Text::UNSET,
    "PEM file of a client certificate. It is read again when it or its key changes; while the two do not fit, the former \
     ones stay in use.",
);

const CLIENT_KEY_FILE: Key<Text> = Key::new(
    "anchore.http.client-key-file",
    Text::UNSET,
    "PEM file of the client certificate's private key. It is read again when it or the certificate changes.",
);

const PROXY: Key<Text> = Key::new(
    "anchore.http.proxy",
    // May carry a password.
    Text::SECRET,
    "URL of a proxy, or `direct` for none. Unset, the environment decides: `HTTPS_PROXY` for https, `HTTP_PROXY` for \
     http, `NO_PROXY` with hosts, suffixes, networks and ports; never for loopback addresses.",
);

/// Where and as whom reports are sent.
#[derive(Debug, Clone)]
pub struct AnchoreConfig {
    /// Base of all paths; may itself carry a path. Never holds user info, query or fragment.
    pub url: Url,
    /// The global credentials; `None` only when there are routes and every one of them has its own.
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
#[derive(Clone)]
pub enum ProxySetting {
    /// Unset: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` decide.
    Environment,
    /// `direct`: no proxy, whatever the environment says.
    Direct,
    /// This one. May hold a password, which is never printed.
    Url(Url),
}

impl std::fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Direct => f.write_str("Direct"),
            Self::Url(url) => f.debug_tuple("Url").field(&without_user_info(url).as_str()).finish(),
        }
    }
}

/// What the keys of this file say.
pub(super) struct Anchore {
    url: Option<Url>,
    user: Option<TextSource>,
    password: Option<TextSource>,
    pub(super) account: String,
    http: HttpConfig,
}

pub(super) fn section() -> Section {
    Section {
        title: "Anchore Enterprise",
        intro: "",
        rows: [URL, USER, USER_FILE, PASSWORD, PASSWORD_FILE, ACCOUNT].map(Into::into).into(),
    }
}

pub(super) fn http_section() -> Section {
    Section {
        title: "Connection to Anchore Enterprise",
        intro: "",
        rows: vec![
            INSECURE.into(),
            TIMEOUT.into(),
            RETRY.into(),
            CA_FILE.into(),
            CLIENT_CERT_FILE.into(),
            CLIENT_KEY_FILE.into(),
            PROXY.into(),
        ],
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Anchore {
    Anchore {
        url: read_url(reader),
        user: read_source(reader, &USER, &USER_FILE),
        password: read_source(reader, &PASSWORD, &PASSWORD_FILE),
        account: read_account(reader),
        http: read_http(reader),
    }
}

impl Anchore {
    /// Decides whether reports are sent, and checks that all is there which that needs.
    pub(super) fn complete(self, reader: &mut Reader<'_>, routing: &RoutingConfig) -> Option<AnchoreConfig> {
        let user_key = if reader.is_set(&USER_FILE) { &USER_FILE } else { &USER };
        let password_key = if reader.is_set(&PASSWORD_FILE) { &PASSWORD_FILE } else { &PASSWORD };
        let routes_suffice =
            !routing.routes.is_empty() && routing.routes.iter().all(|route| route.credentials.is_some());
        let required = if routes_suffice { vec![&URL] } else { vec![&URL, user_key, password_key] };
        let given = [&URL, user_key, password_key].into_iter().find(|key| reader.is_set(key));
        if let Some(given) = given {
            for key in required {
                if !reader.is_set(key) {
                    reader.missing(key, given, "Set all of anchore.url, anchore.user and anchore.password, or none");
                }
            }
        }
        let credentials = match (self.user, self.password) {
            (Some(user), Some(password)) => Some(Credentials { user, password }),
            _ => None,
        };
        let url = self.url?;
        if credentials.is_none() && routes_suffice {
            hint_at_missing_credentials(reader, routing);
        }
        Some(AnchoreConfig { url, credentials, account: self.account, http: self.http })
    }
}

/// Whether anything is ever routed to an account without credentials is known only when the cluster has been read.
fn hint_at_missing_credentials(reader: &mut Reader<'_>, routing: &RoutingConfig) {
    let account = &routing.default_account;
    if routing.by_label.is_some() || !routing.routes.iter().any(|route| route.account == *account) {
        let what = "anchore.user and anchore.password are not both set, so accounts without a route cannot be sent to";
        let hint = Problem::hint(reader.origin(&URL), URL.path, what);
        reader.problems.push(hint.advise(format!("What nothing routes goes to the account {}", printable(account))));
    }
}

fn read_url(reader: &mut Reader<'_>) -> Option<Url> {
    let text = reader.text(&URL)?;
    let advice = "Write the address of the API, such as https://anchore.example.com:8228";
    let url = match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => {
            reader.error(&URL, "is not an address that begins with http:// or https://", advice);
            return None;
        }
    };
    let problem = if !url.username().is_empty() || url.password().is_some() {
        Some(("must not hold a user or password", "Set anchore.user and anchore.password instead"))
    } else if url.query().is_some() || url.fragment().is_some() {
        Some(("must not hold a query or fragment", advice))
    } else {
        None
    };
    match problem {
        Some((what, advice)) => {
            reader.error(&URL, what, advice);
            None
        }
        None => Some(url),
    }
}

/// The account is sent in an HTTP header, which limits its characters.
fn read_account(reader: &mut Reader<'_>) -> String {
    let account = reader.text(&ACCOUNT).unwrap_or_default();
    if !fits_in_header(&account) {
        reader.error(&ACCOUNT, "holds characters that no account name has", "Use visible ASCII characters");
    }
    account
}

/// Whether an account's name can be sent in an HTTP header.
pub(super) fn fits_in_header(account: &str) -> bool {
    account.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && account.trim() == account
}

fn read_http(reader: &mut Reader<'_>) -> HttpConfig {
    let insecure = reader.boolean(&INSECURE);
    let timeout = reader.integer(&TIMEOUT);
    let retry = reader.integer(&RETRY);
    let mut file = |key| reader.text(key).map(|path| reader.environment.path(&path));
    let ca_file = file(&CA_FILE);
    let (certificate_file, key_file) = (file(&CLIENT_CERT_FILE), file(&CLIENT_KEY_FILE));
    HttpConfig {
        insecure,
        timeout: (timeout > 0).then(|| Duration::from_secs(timeout)),
        retry: Duration::from_secs(retry),
        ca_file,
        client_certificate: client_certificate(reader, certificate_file, key_file),
        proxy: read_proxy(reader),
    }
}

fn client_certificate(
    reader: &mut Reader<'_>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
) -> Option<ClientCertificate> {
    let (missing, given) = match (certificate_file, key_file) {
        (Some(certificate_file), Some(key_file)) => return Some(ClientCertificate { certificate_file, key_file }),
        (None, None) => return None,
        (Some(_), None) => (&CLIENT_KEY_FILE, &CLIENT_CERT_FILE),
        (None, Some(_)) => (&CLIENT_CERT_FILE, &CLIENT_KEY_FILE),
    };
    reader.missing(missing, given, "Set both or none");
    None
}

fn read_proxy(reader: &mut Reader<'_>) -> ProxySetting {
    let Some(text) = reader.text(&PROXY) else { return ProxySetting::Environment };
    let origin = reader.origin(&PROXY);
    if text.trim().eq_ignore_ascii_case("direct") {
        reader.amend(Shown::Text("direct".to_owned()), origin);
        return ProxySetting::Direct;
    }
    // A host without scheme is the common way to write a proxy.
    let address = if text.contains("://") { text.trim().to_owned() } else { format!("http://{}", text.trim()) };
    match Url::parse(&address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            if url.password().is_none() && url.username().is_empty() {
                reader.amend(Shown::Text(text), origin);
            }
            ProxySetting::Url(url)
        }
        _ => {
            reader.error(&PROXY, "is not the address of a proxy", "Write a URL such as http://proxy:3128, or direct");
            ProxySetting::Direct
        }
    }
}

fn without_user_info(url: &Url) -> Url {
    let mut shown = url.clone();
    // Both fail only for addresses that cannot have user info.
    let user_info = !url.username().is_empty() || url.password().is_some();
    if user_info && shown.set_password(None).and_then(|()| shown.set_username("REDACTED")).is_err() {
        shown.set_path("");
    }
    shown
}
