//! One etcd and one kube-apiserver for the whole suite, on loopback, in a folder of their own.
//!
//! Rust does not drop statics, and a test run may be killed at any moment. So a small shell, the reaper, is told the
//! process ids of both servers and waits for its standard input to end, which happens however this process ends; then
//! it kills them and removes the folder.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// How long both servers may take until they are ready: seconds on an idle machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// How often both are started anew when one of them ends at once: a port that was free may be taken before it is used.
const START_ATTEMPTS: usize = 3;

/// Users that tests can take, each with a token of its own and no rights. The API server reads its list of users only
/// when it starts.
const TOKEN_USERS: usize = 200;

/// Reads process ids from its standard input until that ends, then kills them and removes the folder `$1`.
const REAPER: &str = r#"
trap '' INT TERM HUP
pids=
while read -r pid; do pids="$pids $pid"; done
[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
tries=0
while ! rm -rf -- "$1" 2>/dev/null && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"#;

/// The two servers, ready.
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
    /// The reaper acts when this is closed.
    _reaper: ChildStdin,
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
        let mut reaper = start_reaper(&directory)?;
        let authority = new_authority()?;
        let admin = TokenUser { name: "admin".to_owned(), token: new_token() };
        let users: Vec<TokenUser> =
            (0..TOKEN_USERS).map(|n| TokenUser { name: format!("user-{n}"), token: new_token() }).collect();
        write_server_files(&directory, &authority, &admin, &users)?;

        let mut attempts = 0;
        let (etcd_port, port) = loop {
            attempts += 1;
            match start_both(&programs, &directory, &mut reaper, &authority.pem()).await {
                Ok(ports) => break ports,
                Err(error) if attempts < START_ATTEMPTS && error.is::<EndedAtOnce>() => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            url: format!("https://127.0.0.1:{port}"),
            etcd_url: format!("http://127.0.0.1:{etcd_port}"),
            directory,
            admin_token: admin.token,
            authority,
            users,
            users_taken: AtomicUsize::new(0),
            certificates_made: AtomicUsize::new(0),
            _reaper: reaper,
        })
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

/// The programs to start.
struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    /// What `kube-apiserver --version` says: `Kubernetes v1.37.2`.
    version: String,
}

impl Programs {
    fn find() -> anyhow::Result<Self> {
        let advice = "run `make e2e`, which builds kube-apiserver and etcd with Go, or set KUBEBUILDER_ASSETS to a \
                      folder that holds them";
        let folder = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let folder = folder.with_context(|| format!("KUBEBUILDER_ASSETS is not set: {advice}"))?;
        let program = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { bail!("{} is not there: {advice}", path.display()) }
        };
        let (etcd, apiserver) = (program("etcd")?, program("kube-apiserver")?);
        let version = Command::new(&apiserver).arg("--version").output().context("kube-apiserver cannot be started")?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        Ok(Self { etcd, apiserver, version })
    }

    /// Image volumes are switched on by default from 1.35 on.
    fn has_image_volumes_switched_off(&self) -> bool {
        let minor = self.version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        minor.is_some_and(|minor: u32| minor < 35)
    }
}

/// A server ended before it was ready.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended at once ({status}); the end of its log:\n{log}")]
struct EndedAtOnce {
    name: &'static str,
    status: std::process::ExitStatus,
    log: String,
}

/// A server that was started and is perhaps not ready yet.
struct Starting {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Starting {
    /// Starts a server whose process id the reaper knows, with a log in `directory`.
    fn new(
        name: &'static str,
        mut command: Command,
        directory: &Path,
        reaper: &mut ChildStdin,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        // Not in our process group: an interrupt from the terminal ends us, and the reaper then ends them.
        let command = command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        writeln!(reaper, "{}", child.id())?;
        Ok(Self { name, child, log })
    }

    /// Waits until `url` answers with success.
    async fn ready(&mut self, client: &reqwest::Client, url: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(EndedAtOnce { name: self.name, status, log: self.end_of_log() }.into());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {START_TIMEOUT:?}; the end of its log:\n{}", self.name, self.end_of_log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Starts etcd, then the API server; their ports.
async fn start_both(
    programs: &Programs,
    directory: &Path,
    reaper: &mut ChildStdin,
    certificate_authority: &str,
) -> anyhow::Result<(u16, u16)> {
    let client = http_client(certificate_authority);
    let (etcd_port, peer_port, port) = free_ports()?;
    let mut etcd = Starting::new("etcd", etcd_command(programs, directory, etcd_port, peer_port), directory, reaper)?;
    etcd.ready(&client, &format!("http://127.0.0.1:{etcd_port}/health")).await?;
    let command = apiserver_command(programs, directory, etcd_port, port);
    let mut apiserver = Starting::new("kube-apiserver", command, directory, reaper)?;
    apiserver.ready(&client, &format!("https://127.0.0.1:{port}/readyz")).await?;
    Ok((etcd_port, port))
}

fn etcd_command(programs: &Programs, directory: &Path, port: u16, peer_port: u16) -> Command {
    let mut command = Command::new(&programs.etcd);
    command
        // Named by its port, so that an attempt does not find what the one before it left.
        .args([format!("--data-dir={}", directory.join(format!("etcd-{port}")).display())])
        .args([format!("--listen-client-urls=http://127.0.0.1:{port}")])
        .args([format!("--advertise-client-urls=http://127.0.0.1:{port}")])
        .args([format!("--listen-peer-urls=http://127.0.0.1:{peer_port}")])
        // The default quota of 2 GiB is too small for the largest fleet of the benchmark.
        .args(["--unsafe-no-fsync", "--enable-grpc-gateway", "--quota-backend-bytes=8589934592", "--log-level=warn"]);
    command
}

fn apiserver_command(programs: &Programs, directory: &Path, etcd_port: u16, port: u16) -> Command {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new(&programs.apiserver);
    command
        .args([format!("--etcd-servers=http://127.0.0.1:{etcd_port}")])
        .args(["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={port}")])
        .args([
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
        ])
        .args([format!("--client-ca-file={}", file("ca.crt"))])
        .args([format!("--token-auth-file={}", file("tokens.csv"))])
        .args(["--service-account-issuer=https://kubernetes.default.svc".to_owned()])
        .args([format!("--service-account-key-file={}", file("server.crt"))])
        .args([format!("--service-account-signing-key-file={}", file("server.key"))])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .args(["--service-cluster-ip-range=10.0.0.0/24"]);
    if programs.has_image_volumes_switched_off() {
        command.arg("--feature-gates=ImageVolume=true");
    }
    command
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

/// Three ports that nobody listens on now, for etcd's clients, etcd's peers and the API server.
fn free_ports() -> anyhow::Result<(u16, u16, u16)> {
    // Held together, so that they differ.
    let listeners =
        [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [etcd, peer, apiserver] = &listeners;
    Ok((etcd.local_addr()?.port(), peer.local_addr()?.port(), apiserver.local_addr()?.port()))
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
    ] {
        std::fs::write(directory.join(file), content)?;
    }
    Ok(())
}

fn new_token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
