//! The agent beside `curl`, in one run: how much more than fetching the pods does it take to report them?
//!
//! A real kube-apiserver and etcd hold a made-up fleet; an Anchore Enterprise of the testbed accepts the reports. In
//! each round `curl` fetches the list of all pods as protobuf, once plain and once compressed, and the agent makes two
//! whole adhoc runs, one with `disable-compression` in its kubeconfig (`plain`) and one as it is. What is printed are medians over the rounds and their ratios; a time alone says more of the machine
//! than of the program. Each process is started by a small one, `measure` of this program: a child is charged with the
//! memory of the process that it was forked from, and this one holds a fleet.
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

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use server::Server;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::fleet::Fleet;
use wait4::Wait4;

/// Rounds whose medians are taken, after one that warms up.
const ROUNDS: usize = 5;

/// Pods, namespaces and nodes; the last are the limits that Kubernetes names for itself.
const SIZES: [(usize, usize, usize); 4] =
    [(1_000, 50, 100), (10_000, 500, 350), (100_000, 2_000, 3_500), (150_000, 10_000, 5_000)];

/// First argument of this program when it is to start the command that follows, and print what that took.
const MEASURE: &str = "measure";

/// What one process took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
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
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MEASURE) {
        return start_and_measure(arguments);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let wanted: Vec<usize> = std::env::var("SIZES")
        .unwrap_or_default()
        .split(|separator: char| !separator.is_ascii_digit())
        .filter_map(|size| size.parse().ok())
        .collect();
    print_machine();
    println!(
        "{:>7} {:>7} {:>7} {:>7} {:>7} {:>6} {:>8} {:>6} {:>6} {:>6} {:>7} {:>8} {:>7}",
        "pods",
        "curl",
        "curl gz",
        "plain",
        "agent",
        "wall",
        "curl cpu",
        "plain",
        "cpu",
        "cpu",
        "memory",
        "requests",
        "report"
    );
    println!(
        "{:>7} {:>7} {:>7} {:>7} {:>7} {:>6} {:>8} {:>6} {:>6} {:>6} {:>7} {:>8} {:>7}",
        "", "s", "s", "s", "s", "ratio", "s", "s", "s", "ratio", "MiB", "", "MB"
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
    let mut series: [Series; 4] = Default::default();
    let mut requests = 0;
    for round in 0..=ROUNDS {
        let runs = [files.curl(false), files.curl(true), files.agent(false), files.agent(true)];
        for (command, series) in runs.into_iter().zip(&mut series) {
            let (taken, said) = tokio::task::spawn_blocking(move || run(&command)).await??;
            if round > 0 {
                series.0.push(taken);
            }
            requests = number_after(&said, "requests=").unwrap_or(requests);
        }
    }
    let accepted = enterprise.accepted();
    let sent = 2 * (ROUNDS + 1);
    ensure!(accepted.len() == sent, "Anchore accepted {} of {sent} reports", accepted.len());
    let report = accepted.last().map_or(0, |report| report.bytes);
    let [plain, compressed, uncompressed_agent, agent] = series;
    let best_curl = plain.wall().min(compressed.wall());
    println!(
        "{pods:>7} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>8.2} {:>6.2} {:>6.2} {:>6.2} {:>7.1} {requests:>8} {:>7.1}",
        plain.wall(),
        compressed.wall(),
        uncompressed_agent.wall(),
        agent.wall(),
        agent.wall() / best_curl,
        plain.cpu(),
        uncompressed_agent.cpu(),
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
    /// Asks for no compression.
    plain_kubeconfig: PathBuf,
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
        let kubeconfig = |options: &str| {
            format!(
                "current-context: c\ncontexts: [{{name: c, context: {{cluster: bench, user: u}}}}]\n\
             clusters: [{{name: bench, cluster: {{server: '{url}', certificate-authority: ca.crt{options}}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
            )
        };
        let anchore = format!("anchore: {{url: '{}', user: admin, password: foobar}}\n", enterprise.url());
        Ok(Self {
            kubeconfig: write("bench-kubeconfig", &kubeconfig(""))?,
            plain_kubeconfig: write("bench-kubeconfig-plain", &kubeconfig(", disable-compression: true"))?,
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

    fn agent(&self, compressed: bool) -> Command {
        let kubeconfig = if compressed { &self.kubeconfig } else { &self.plain_kubeconfig };
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_anchore-k8s-inventory")));
        command.args([OsStr::new("--config"), self.configuration.as_os_str()]);
        command.args([OsStr::new("--kubeconfig"), kubeconfig.as_os_str()]);
        command
    }
}

/// Runs a command to its end; what it took and what it said on standard error.
fn run(command: &Command) -> anyhow::Result<(Taken, String)> {
    let name = command.get_program().display().to_string();
    let mut launcher = Command::new(std::env::current_exe()?);
    launcher.arg(MEASURE).arg(command.get_program()).args(command.get_args());
    let output = launcher.output().with_context(|| format!("{name} cannot be started"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{name} failed: {said}");
    }
    Ok((serde_json::from_slice(&output.stdout)?, said))
}

/// Starts a command, waits for its end and prints what it took; its standard error is ours.
fn start_and_measure(mut command: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let program = command.next().context("no command to measure")?;
    let started = Instant::now();
    let child = Command::new(program).args(command).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let used = child.wait4()?;
    let taken =
        Taken { wall: started.elapsed(), cpu: used.rusage.utime + used.rusage.stime, memory: used.rusage.maxrss };
    ensure!(used.status.success(), "it ended with {}", used.status);
    println!("{}", serde_json::to_string(&taken)?);
    Ok(())
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
