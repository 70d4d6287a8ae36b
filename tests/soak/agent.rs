//! The built program, which is killed now and then and started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use testbed::fleet::random::Random;
use testbed::kubernetes::KubernetesApi;
use testbed::objects::Kind;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chronicle::{Chronicle, Downtime};
use crate::cluster_faults::watched;
use crate::{Pace, Shared, lock};

/// How long a new process may take until it watches everything, whatever goes wrong meanwhile.
const STARTUP: Duration = Duration::from_mins(3);

/// How long the agent may take to end.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The program and its folder.
pub(crate) struct Agent {
    folder: TempDir,
    child: Child,
    /// When this process was started.
    began: Instant,
    memory: Vec<Sample>,
}

/// Resident memory of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Which process.
    pub(crate) process: u32,
    pub(crate) uptime: Duration,
    pub(crate) bytes: u64,
}

impl Agent {
    /// Starts the program with these settings.
    pub(crate) fn start(folder: TempDir, settings: &Value) -> Self {
        std::fs::write(folder.path().join("settings.json"), settings.to_string()).expect("written");
        let child = spawn(folder.path());
        Self { folder, child, began: Instant::now(), memory: Vec::new() }
    }

    /// Looks after the program, and kills it now and then, until told to stop.
    ///
    /// # Errors
    /// It ended by itself, or does not come up again.
    pub(crate) async fn run(
        &mut self,
        api: Arc<KubernetesApi>,
        chronicle: Shared<Chronicle>,
        (seed, pace): (u64, Pace),
        stop: CancellationToken,
    ) -> Result<(), String> {
        let mut random = Random::new(seed, "kills", 0);
        let started = Instant::now();
        let mut next_kill = pace.kills_until.map(|_| started + pace.kill_after(&mut random));
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            self.is_alive()?;
            self.measure();
            if next_kill.is_some_and(|next| next <= Instant::now()) {
                let downtime = self.kill_and_start(&api, &mut random).await?;
                lock(&chronicle).downtimes.push(downtime);
                let next = Instant::now() + pace.kill_after(&mut random);
                next_kill = Some(next).filter(|next| pace.kills_until.is_some_and(|last| *next < started + last));
            }
        }
        Ok(())
    }

    /// # Errors
    /// It ended by itself.
    pub(crate) fn is_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait().expect("it can be asked for") {
            Some(status) => Err(format!("the agent ended by itself ({status}): {}", self.said())),
            None => Ok(()),
        }
    }

    async fn kill_and_start(&mut self, api: &KubernetesApi, random: &mut Random) -> Result<Downtime, String> {
        self.child.kill().await.expect("killed");
        let killed = Timestamp::now();
        let is_left =
            |api: &KubernetesApi| [Kind::Pods, Kind::Namespaces].into_iter().all(|kind| api.watch_count(kind) == 0);
        api.wait_until(is_left).await;
        // Times of reports have whole seconds: those of the two processes must differ.
        tokio::time::sleep(Duration::from_millis(1000 + random.below(1000) as u64)).await;
        self.child = spawn(self.folder.path());
        self.began = Instant::now();
        if tokio::time::timeout(STARTUP, watched(api)).await.is_err() {
            return Err(format!("the agent does not watch everything {STARTUP:?} after its start: {}", self.said()));
        }
        Ok(Downtime { killed, until: Timestamp::now() })
    }

    fn measure(&mut self) {
        let Some(process) = self.child.id() else { return };
        let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else { return };
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        if let Some(kilobytes) = kilobytes {
            self.memory.push(Sample { process, uptime: self.began.elapsed(), bytes: kilobytes * 1024 });
        }
    }

    /// Ends the program as Kubernetes does.
    ///
    /// # Errors
    /// It does not end in order.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        let Some(id) = self.child.id() else { return Err("the agent ended by itself".to_owned()) };
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().await.expect("a shell");
        assert!(sent.success());
        match tokio::time::timeout(SHUTDOWN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(ended) => Err(format!("the agent ended with {ended:?} after SIGTERM: {}", self.said())),
            Err(_) => Err(format!("the agent has not ended {SHUTDOWN:?} after SIGTERM")),
        }
    }

    pub(crate) fn memory(&self) -> &[Sample] {
        &self.memory
    }

    /// What it wrote on standard error.
    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Leaves its folder, with its log, to whoever looks for a mistake.
    pub(crate) fn keep_folder(self) -> PathBuf {
        self.folder.keep()
    }
}

fn spawn(folder: &Path) -> Child {
    let stderr = std::fs::File::options().create(true).append(true).open(folder.join("stderr")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_anchore-k8s-inventory"));
    command.env_clear().env("HOME", folder).env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(folder);
    command.args(["--config", "settings.json"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    command.kill_on_drop(true).spawn().expect("started")
}
