//! The agent beside `curl`, in one run: how much more than fetching the pods does it take to report them?
//!
//! A real kube-apiserver and etcd hold a made-up fleet; an Anchore Enterprise of the testbed accepts the reports. In
//! each round `curl` fetches the list of all pods as protobuf, once plain and once compressed, and the agent makes a
//! whole adhoc run. What is printed are medians over the rounds and their ratios; a time alone says more of the machine
//! than of the program.
//!
//! ```text
//! make bench                      1,000, 10,000, 100,000 and 150,000 pods
//! make bench SIZES=10000          one size
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark is there to print")]
#![expect(clippy::cast_precision_loss, reason = "bytes are shown as megabytes")]

#[path = "../tests/e2e/server.rs"]
#[expect(dead_code, reason = "the end-to-end suite uses all of it")]
#[expect(clippy::expect_used, reason = "it is written for tests")]
mod server;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use server::Server;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::fleet::Fleet;
use wait4::Wait4;

/// Rounds whose medians are taken, after one that warms up.
const ROUNDS: usize = 5;

/// Pods, namespaces and nodes; the last are the limits that Kubernetes names for itself.
const SIZES: [(usize, usize, usize); 4] =
    [(1_000, 50, 100), (10_000, 500, 350), (100_000, 2_000, 3_500), (150_000, 10_000, 5_000)];

/// What one process took.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    wall: Duration,
    /// User and system.
    cpu: Duration,
    /// Largest resident set in bytes.
    memory: u64,
}

/// What the processes of one kind took, over the rounds.
#[derive(Debug, Default)]
struct Series(Vec<Taken>);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let wanted: Vec<usize> = std::env::var("SIZES")
        .unwrap_or_default()
        .split(|separator: char| !separator.is_ascii_digit())
        .filter_map(|size| size.parse().ok())
        .collect();
    print_machine();
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>8} {:>8} {:>8}",
        "pods", "curl", "curl gz", "agent", "wall", "curl cpu", "cpu", "cpu", "memory", "requests", "report"
    );
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>8} {:>8} {:>8}",
        "", "s", "s", "s", "ratio", "s", "s", "ratio", "MiB", "", "MB"
    );
    for (pods, namespaces, nodes) in SIZES {
        if wanted.is_empty() || wanted.contains(&pods) {
            runtime.block_on(measure(pods, namespaces, nodes))?;
        }
    }
    Ok(())
}

async fn measure(pods: usize, namespaces: usize, nodes: usize) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let fleet = Fleet { pods, namespaces, nodes, accounts: Vec::new(), seed: 1 };
    let objects = tokio::task::spawn_blocking(move || fleet.objects()).await?;
    testbed::etcd::load(&server.etcd_url.parse()?, &objects).await?;
    drop(objects);
    let enterprise = EnterpriseOptions::default().unchecked().start().await?;
    let files = Files::write(&server, &enterprise)?;
    let (mut plain, mut compressed, mut agent) = (Series::default(), Series::default(), Series::default());
    let mut requests = 0;
    for round in 0..=ROUNDS {
        let runs = [files.curl(false), files.curl(true), files.agent()];
        for (command, series) in runs.into_iter().zip([&mut plain, &mut compressed, &mut agent]) {
            let (taken, said) = tokio::task::spawn_blocking(move || run(command)).await??;
            if round > 0 {
                series.0.push(taken);
            }
            requests = number_after(&said, "requests=").unwrap_or(requests);
        }
    }
    let accepted = enterprise.accepted();
    ensure!(accepted.len() == ROUNDS + 1, "Anchore accepted {} of {} reports", accepted.len(), ROUNDS + 1);
    let report = accepted.last().map_or(0, |report| report.bytes);
    let best_curl = plain.wall().min(compressed.wall());
    println!(
        "{pods:>8} {:>8.2} {:>8.2} {:>8.2} {:>7.2} {:>8.2} {:>8.2} {:>7.2} {:>8.1} {requests:>8} {:>8.1}",
        plain.wall(),
        compressed.wall(),
        agent.wall(),
        agent.wall() / best_curl,
        plain.cpu(),
        agent.cpu(),
        agent.cpu() / plain.cpu(),
        agent.memory(),
        report as f64 / 1e6,
    );
    Ok(())
}

/// The files that a run needs, in the servers' folder.
struct Files {
    kubeconfig: PathBuf,
    configuration: PathBuf,
    authority: PathBuf,
    /// `Authorization: Bearer …`, kept off the command line.
    header: PathBuf,
    url: String,
}

impl Files {
    fn write(server: &Server, enterprise: &Enterprise) -> anyhow::Result<Self> {
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = server.directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(path)
        };
        let (url, token) = (&server.url, &server.admin_token);
        let kubeconfig = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: bench, user: u}}}}]\n\
             clusters: [{{name: bench, cluster: {{server: '{url}', certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
        );
        let anchore = format!("anchore: {{url: '{}', user: admin, password: foobar}}\n", enterprise.url());
        Ok(Self {
            kubeconfig: write("bench-kubeconfig", &kubeconfig)?,
            configuration: write("bench.yaml", &anchore)?,
            authority: server.directory.join("ca.crt"),
            header: write("bench-header", &format!("Authorization: Bearer {token}"))?,
            url: url.clone(),
        })
    }

    fn curl(&self, compressed: bool) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--output", "/dev/null"]);
        command.args([OsStr::new("--cacert"), self.authority.as_os_str()]);
        command.args(["--header", &format!("@{}", self.header.display())]);
        command.args(["--header", "Accept: application/vnd.kubernetes.protobuf"]);
        if compressed {
            command.arg("--compressed");
        }
        command.arg(format!("{}/api/v1/pods", self.url));
        command
    }

    fn agent(&self) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_anchore-k8s-inventory")));
        command.env_clear();
        command.args([OsStr::new("--config"), self.configuration.as_os_str()]);
        command.args([OsStr::new("--kubeconfig"), self.kubeconfig.as_os_str()]);
        command
    }
}

/// Runs a command to its end; what it took and what it said on standard error.
fn run(mut command: Command) -> anyhow::Result<(Taken, String)> {
    let name = command.get_program().display().to_string();
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    let said = std::io::read_to_string(child.stderr.take().context("standard error is a pipe")?)?;
    let used = child.wait4()?;
    let wall = started.elapsed();
    if !used.status.success() {
        bail!("{name} ended with {}: {said}", used.status);
    }
    let cpu = used.rusage.utime + used.rusage.stime;
    Ok((Taken { wall, cpu, memory: used.rusage.maxrss }, said))
}

impl Series {
    fn wall(&self) -> f64 {
        self.median(|taken| taken.wall.as_secs_f64())
    }

    fn cpu(&self) -> f64 {
        self.median(|taken| taken.cpu.as_secs_f64())
    }

    fn memory(&self) -> f64 {
        self.median(|taken| taken.memory as f64 / f64::from(1 << 20))
    }

    fn median(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }
}

fn print_machine() {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    println!("{cpus} CPUs,{}; medians of {ROUNDS} rounds after one to warm up", model.trim_start_matches(['\t', ':']));
}

/// The number that follows `key` in a line of log.
fn number_after(said: &str, key: &str) -> Option<u64> {
    let digits = said.split_once(key)?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
