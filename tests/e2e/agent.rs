//! The built program, run as a user runs it, in the folder of the test and with nothing of this environment.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use pretty_assertions::assert_eq;
use serde_json::Value;
use tokio::process::Command;

use crate::cluster::Cluster;

/// Longest run: far beyond what any of these takes, so that a run that never ends fails its test.
const RUN_TIMEOUT: Duration = Duration::from_mins(3);

/// A run that is prepared.
#[must_use]
pub(crate) struct Agent<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) command: Command,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) exit_code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    began: Timestamp,
    ended: Timestamp,
}

impl Cluster {
    /// The agent with this kubeconfig.
    pub(crate) fn agent(&self, kubeconfig: &Path) -> Agent<'_> {
        let agent = self.agent_without_kubeconfig();
        agent.arg("--kubeconfig").arg(kubeconfig.to_str().expect("paths of tests are UTF-8"))
    }

    /// The agent, which is to find its kubeconfig itself.
    pub(crate) fn agent_without_kubeconfig(&self) -> Agent<'_> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anchore-k8s-inventory"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.directory.path()).current_dir(self.directory.path());
        command.stdin(Stdio::null()).kill_on_drop(true);
        Agent { cluster: self, command }
    }
}

impl Agent<'_> {
    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With this configuration file.
    pub(crate) fn configured(self, yaml: &str) -> Self {
        let file = self.cluster.write_file("agent.yaml", yaml);
        self.arg("--config").arg(file.to_str().expect("paths of tests are UTF-8"))
    }

    /// Prints its report.
    pub(crate) async fn prints_json(self) -> Run {
        self.arg("--output").arg("json").runs().await
    }

    /// Runs to its end.
    pub(crate) async fn runs(mut self) -> Run {
        // Reports know whole seconds.
        let began = Timestamp::now() - 1.second();
        let output = tokio::time::timeout(RUN_TIMEOUT, self.command.output()).await;
        let output = output.expect("the agent ends").expect("the agent can be started");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the agent writes UTF-8");
        Run {
            exit_code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            began,
            ended: Timestamp::now(),
        }
    }
}

impl Run {
    /// That all went well.
    pub(crate) fn succeeded(self) -> Self {
        self.ended_with(0)
    }

    /// That it printed all that there is to report of `cluster`, and all went well.
    pub(crate) async fn tells_all_of(self, cluster: &Cluster) -> Self {
        let run = self.succeeded();
        assert_eq!(run.report(), cluster.state().await.report());
        run
    }

    pub(crate) fn ended_with(self, exit_code: i32) -> Self {
        assert_eq!(self.exit_code, Some(exit_code), "its standard error:\n{}", self.stderr);
        self
    }

    /// That standard error has all of these texts in one line.
    pub(crate) fn said(self, texts: &[&str]) -> Self {
        let says = self.stderr.lines().any(|line| texts.iter().all(|text| line.contains(text)));
        assert!(says, "no line has all of {texts:?}:\n{}", self.stderr);
        self
    }

    /// That no report was made, not even an empty one.
    pub(crate) fn printed_nothing(self) -> Self {
        assert_eq!(self.stdout, "");
        self
    }

    /// The one report that it printed, without its timestamp, which is that of the run.
    pub(crate) fn report(&self) -> Value {
        let mut reports = self.reports();
        assert_eq!(reports.len(), 1, "standard output is not one report:\n{}", self.stdout);
        reports.remove(0)
    }

    /// All reports that it printed, each as from [`Self::report`].
    pub(crate) fn reports(&self) -> Vec<Value> {
        let documents = serde_json::Deserializer::from_str(&self.stdout).into_iter();
        let documents: Result<Vec<Value>, _> = documents.collect();
        let documents =
            documents.unwrap_or_else(|error| panic!("standard output is not JSON: {error}:\n{}", self.stdout));
        documents.into_iter().map(|document| self.without_timestamp(document)).collect()
    }

    /// `report` without its timestamp, which is that of the run.
    pub(crate) fn without_timestamp(&self, mut report: Value) -> Value {
        let timestamp = report.as_object_mut().and_then(|report| report.remove("timestamp"));
        let timestamp = timestamp.expect("a report has a timestamp");
        let text = timestamp.as_str().expect("the timestamp is a text");
        assert_eq!((text.len(), text.ends_with('Z')), ("2026-03-04T05:06:07Z".len(), true), "{text}");
        let at: Timestamp = text.parse().expect("the timestamp is RFC 3339");
        assert!((self.began..=self.ended).contains(&at), "{at} is not between {} and {}", self.began, self.ended);
        report
    }
}
