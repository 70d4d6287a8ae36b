//! One etcd and one kube-apiserver on loopback, in a folder of their own. Each can be killed and started again.
//!
//! Rust does not drop statics, and a test run may be killed at any moment. So a small shell, the reaper, is told the
//! process ids of both servers and waits for its standard input to end, which happens however this process ends; then
//! it kills them and removes the folder.
//!
//! The ports stay bound by this process, without listening, as long as the servers are wanted: nobody else is given one
//! of them, also while a server is down, and whoever connects to it then is refused.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

// The benchmark has this file at another place.
#[path = "programs.rs"]
mod programs;

use self::programs::{Ports, Programs, apiserver_command, etcd_command};

/// How long both servers may take until they are ready: seconds on an idle machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// Users that tests can take, each with a token of its own and no rights. The API server reads its list of users only
/// when it starts.
const TOKEN_USERS: usize = 200;

/// Who listed and watched what, for tests to read.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, userGroups: ["system:masters"]}
  - {level: Metadata, verbs: [get, list, watch], resources: [{group: "", resources: [pods, namespaces, nodes]}]}
  - {level: None}
"#;

/// Reads lines of process ids from its standard input until that ends, then kills those of the last line and removes the
/// folder `$1`.
const REAPER: &str = r#"
trap '' INT TERM HUP
pids=
while read -r line; do pids=$line; done
[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
tries=0
while ! rm -rf -- "$1" 2>/dev/null && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"#;

/// The two servers.
pub(crate) struct Server {
    /// `https://127.0.0.1:port` of the API server.
    pub(crate) url: String,
    /// `http://127.0.0.1:port` of etcd.
    pub(crate) etcd_url: String,
    /// Where the servers and the tests keep their files; it is removed in the end.
    pub(crate) directory: PathBuf,
    /// Token of a user who may do everything.
    pub(crate) admin_token: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    users: Vec<TokenUser>,
    users_taken: AtomicUsize,
    certificates_made: AtomicUsize,
    programs: Programs,
    ports: Ports,
    processes: Mutex<Processes>,
}

/// What runs now.
struct Processes {
    etcd: Option<Child>,
    apiserver: Option<Child>,
    /// The reaper acts when this is closed.
    reaper: ChildStdin,
}

/// One of the two.
#[derive(Clone, Copy)]
enum Part {
    Etcd,
    Apiserver,
}

/// A user known by a token.
#[derive(Clone)]
pub(crate) struct TokenUser {
    pub(crate) name: String,
    pub(crate) token: String,
}

/// A user known by a client certificate.
pub(crate) struct CertificateUser {
    pub(crate) name: String,
    /// PEM.
    pub(crate) certificate: String,
    /// PEM.
    pub(crate) private_key: String,
}

impl Server {
    /// Starts both servers and waits until they are ready.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        let directory = tempfile::Builder::new().prefix("e2e-").tempdir()?.keep();
        let reaper = start_reaper(&directory)?;
        let authority = new_authority()?;
        let admin = TokenUser { name: "admin".to_owned(), token: new_token() };
        let users: Vec<TokenUser> =
            (0..TOKEN_USERS).map(|n| TokenUser { name: format!("user-{n}"), token: new_token() }).collect();
        write_server_files(&directory, &authority, &admin, &users)?;
        let ports = Ports::reserve()?;
        let server = Self {
            url: format!("https://127.0.0.1:{}", ports.apiserver.0),
            etcd_url: format!("http://127.0.0.1:{}", ports.etcd.0),
            directory,
            admin_token: admin.token,
            authority,
            users,
            users_taken: AtomicUsize::new(0),
            certificates_made: AtomicUsize::new(0),
            programs,
            ports,
            processes: Mutex::new(Processes { etcd: None, apiserver: None, reaper }),
        };
        server.start_part(Part::Etcd).await?;
        server.start_part(Part::Apiserver).await?;
        Ok(server)
    }

    /// Kills the API server, as a crash does, and waits until it is gone.
    pub(crate) fn kill_apiserver(&self) {
        self.kill_part(Part::Apiserver);
    }

    /// Starts the API server that was killed, and waits until it is ready.
    pub(crate) async fn start_apiserver(&self) {
        self.start_part(Part::Apiserver).await.expect("the API server starts again");
    }

    /// Kills etcd, as a crash does, and waits until it is gone.
    pub(crate) fn kill_etcd(&self) {
        self.kill_part(Part::Etcd);
    }

    /// Starts the etcd that was killed, with what it has stored, and waits until it is ready.
    pub(crate) async fn start_etcd(&self) {
        self.start_part(Part::Etcd).await.expect("etcd starts again");
    }

    /// Whether the API server says that it can do its work.
    pub(crate) async fn apiserver_is_ready(&self) -> bool {
        self.is_ready(&format!("{}/readyz", self.url)).await
    }

    async fn is_ready(&self, url: &str) -> bool {
        let answer = http_client(&self.authority.pem()).get(url).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn kill_part(&self, part: Part) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = processes.slot(part).take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        processes.tell_reaper().expect("the reaper listens");
    }

    async fn start_part(&self, part: Part) -> anyhow::Result<()> {
        let (command, url) = match part {
            Part::Etcd => {
                (etcd_command(&self.programs, &self.directory, &self.ports), format!("{}/health", self.etcd_url))
            }
            Part::Apiserver => {
                (apiserver_command(&self.programs, &self.directory, &self.ports), format!("{}/readyz", self.url))
            }
        };
        let log = {
            let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
            let (child, log) = spawn(part.name(), command, &self.directory)?;
            *processes.slot(part) = Some(child);
            processes.tell_reaper()?;
            log
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.is_ready(&url).await {
            let status = {
                let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
                processes.slot(part).as_mut().context("it was killed meanwhile")?.try_wait()?
            };
            if let Some(status) = status {
                bail!("{} ended at once ({status}); the end of its log:\n{}", part.name(), end_of(&log));
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {START_TIMEOUT:?}; the end of its log:\n{}", part.name(), end_of(&log));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// PEM of the certificate that vouches for the API server.
    pub(crate) fn certificate_authority(&self) -> String {
        self.authority.pem()
    }

    /// A user without rights whom no test had before.
    pub(crate) fn token_user(&self) -> TokenUser {
        let next = self.users_taken.fetch_add(1, Ordering::Relaxed);
        self.users.get(next).expect("TOKEN_USERS is larger than the number of users that tests take").clone()
    }

    /// As [`Self::token_user`], with a client certificate.
    pub(crate) fn certificate_user(&self) -> CertificateUser {
        let name = format!("certified-{}", self.certificates_made.fetch_add(1, Ordering::Relaxed));
        let key = KeyPair::generate().expect("a key can be made");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, &name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = parameters.signed_by(&key, &self.authority).expect("the authority can sign");
        CertificateUser { name, certificate: certificate.pem(), private_key: key.serialize_pem() }
    }
}

/// A client for loopback that trusts `certificate_authority`.
pub(crate) fn http_client(certificate_authority: &str) -> reqwest::Client {
    // An error means that another test did it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(certificate_authority.as_bytes()).expect("it is PEM");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]);
    client.timeout(Duration::from_mins(1)).build().expect("a client can be built")
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
        }
    }
}

impl Processes {
    fn slot(&mut self, part: Part) -> &mut Option<Child> {
        match part {
            Part::Etcd => &mut self.etcd,
            Part::Apiserver => &mut self.apiserver,
        }
    }

    fn tell_reaper(&mut self) -> std::io::Result<()> {
        let ids: Vec<String> =
            [&self.etcd, &self.apiserver].into_iter().flatten().map(|child| child.id().to_string()).collect();
        writeln!(self.reaper, "{}", ids.join(" "))
    }
}

/// Starts a server; gives its log as well, which grows with each start.
fn spawn(name: &str, mut command: Command, directory: &Path) -> anyhow::Result<(Child, PathBuf)> {
    let log = directory.join(format!("{name}.log"));
    let output = File::options().create(true).append(true).open(&log)?;
    // Not in our process group: an interrupt from the terminal ends us, and the reaper then ends them.
    let command = command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
    Ok((child, log))
}

fn end_of(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn start_reaper(directory: &Path) -> anyhow::Result<ChildStdin> {
    let mut reaper = Command::new("sh")
        .args(["-c", REAPER, "reaper"])
        .arg(directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("sh cannot be started")?;
    reaper.stdin.take().context("its standard input is a pipe")
}

fn new_authority() -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "end-to-end suite");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

fn write_server_files(
    directory: &Path,
    authority: &CertifiedIssuer<'static, KeyPair>,
    admin: &TokenUser,
    users: &[TokenUser],
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = parameters.signed_by(&key, authority)?;

    let mut tokens = format!("{},{},{},system:masters\n", admin.token, admin.name, admin.name);
    for TokenUser { name, token } in users {
        writeln!(tokens, "{token},{name},{name}")?;
    }
    for (file, content) in [
        ("ca.crt", authority.pem()),
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("tokens.csv", tokens),
        ("audit.yaml", AUDIT_POLICY.to_owned()),
    ] {
        std::fs::write(directory.join(file), content)?;
    }
    Ok(())
}

fn new_token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
