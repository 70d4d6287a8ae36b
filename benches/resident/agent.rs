//! The agent as a process: what it says of itself, and what the system says of it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testbed::anchore::Enterprise;
use tokio::time::sleep;

use crate::server::Server;

/// Seconds from one report to the next: long enough for a minute of quiet in between.
pub(crate) const INTERVAL: Duration = Duration::from_secs(80);

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(5);

/// Clock ticks in a second, as Linux shows them on every processor in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running agent. It is killed when this is dropped.
pub(crate) struct Agent {
    child: Child,
    client: reqwest::Client,
    metrics: String,
    log: PathBuf,
    pub(crate) started: Instant,
}

/// What the agent says of itself at one moment.
pub(crate) struct Metrics(String);

/// Memory in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident.
    pub(crate) resident: f64,
    /// Of that, what is not backed by files: without the program itself.
    pub(crate) anonymous: f64,
    /// The most that was resident since [`Agent::forget_peak`].
    pub(crate) peak: f64,
}

impl Agent {
    /// Starts the agent of this build, or the one that `AGENT` names, in the servers' folder.
    pub(crate) fn start(server: &Server, enterprise: &Enterprise) -> anyhow::Result<Self> {
        let directory = &server.directory;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (url, token) = (&server.url, &server.admin_token);
        let kubeconfig = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: bench, user: u}}}}]\n\
             clusters: [{{name: bench, cluster: {{server: '{url}', certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
        );
        let mut settings = String::from("mode: periodic\n");
        writeln!(settings, "polling-interval-seconds: {}", INTERVAL.as_secs())?;
        writeln!(settings, "anchore: {{url: '{}', user: admin, password: foobar}}", enterprise.url())?;
        writeln!(settings, "state: {{directory: '{}'}}", directory.join("state").display())?;
        writeln!(settings, "admin: {{listen: '127.0.0.1:{port}'}}")?;
        let kubeconfig = write(directory, "bench-kubeconfig", &kubeconfig)?;
        let settings = write(directory, "bench.yaml", &settings)?;
        let log = directory.join("agent.log");
        let output = std::fs::File::create(&log)?;
        let program = std::env::var_os("AGENT").map(PathBuf::from);
        let program = program.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_anchore-k8s-inventory")));
        let mut command = Command::new(&program);
        command.arg("--config").arg(settings).arg("--kubeconfig").arg(kubeconfig);
        command.env_clear().env("HOME", directory).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { child, client, metrics: format!("http://127.0.0.1:{port}/metrics"), log, started })
    }

    pub(crate) async fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.client.get(&self.metrics).send().await?.error_for_status()?.text().await?))
    }

    /// Asks for metrics each `pause` until they are as they should be.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        pause: Duration,
        is_so: impl Fn(&Metrics) -> bool,
    ) -> anyhow::Result<Metrics> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(metrics) = self.metrics().await
                && is_so(&metrics)
            {
                return Ok(metrics);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended while it was waited for that {what}: {status}");
            }
            if Instant::now() > deadline {
                bail!("it was waited in vain for that {what}");
            }
            sleep(pause).await;
        }
    }

    /// Waits until the next report was made and accepted.
    pub(crate) async fn next_report(&mut self) -> anyhow::Result<()> {
        let made = self.metrics().await.map_or(0, |now| now.reports_made());
        self.until("a report is made and accepted", Duration::from_millis(100), |now| {
            now.reports_made() > made && now.is_delivered()
        })
        .await?;
        Ok(())
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(self.file("status"))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
            number.map(|number| number / 1024.0).with_context(|| format!("the system does not tell {name}"))
        };
        Ok(Memory { resident: of("VmRSS")?, anonymous: of("RssAnon")?, peak: of("VmHWM")? })
    }

    /// The peak begins anew.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.file("clear_refs"), "5")?)
    }

    /// Seconds on a processor since the start, of the program and of the system for it.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(self.file("stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("the system tells no times")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(self.file("task")).map_or(0, Iterator::count)
    }

    pub(crate) fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Lines of its log that are warnings or errors.
    pub(crate) fn complaints(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count()
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Metrics {
    /// The value of a series that counts, such as `held_objects{kind="pods"}`; 0 when it is not there.
    pub(crate) fn of(&self, series: &str) -> u64 {
        self.text_of(series).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// How long the last tick took until its reports were handed to delivery, in seconds.
    pub(crate) fn tick_seconds(&self) -> f64 {
        self.text_of("last_tick_duration_seconds").and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    fn text_of(&self, series: &str) -> Option<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix("anchore_k8s_inventory_")?.strip_prefix(series));
        Some(line?.trim())
    }

    pub(crate) fn reports_made(&self) -> u64 {
        self.of("ticks_total{outcome=\"report\"}")
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.of("spool_sets") == 0
    }

    pub(crate) fn pods(&self) -> u64 {
        self.of("held_objects{kind=\"pods\"}")
    }

    pub(crate) fn events(&self) -> u64 {
        self.of("watch_events_total")
    }

    pub(crate) fn received(&self) -> u64 {
        self.of("kubernetes_received_bytes_total")
    }

    /// Whether both kinds are what the cluster says.
    pub(crate) fn is_synced(&self) -> bool {
        ["pods", "namespaces"]
            .iter()
            .all(|source| self.of(&format!("sources{{source=\"{source}\",state=\"synced\"}}")) == 1)
    }
}

fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}
