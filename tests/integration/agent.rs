//! The program in an empty folder with nothing in its environment, and what one run of it leaves behind:
//!
//! ```ignore
//! let run = Agent::new().reads(&api).sends_to(&enterprise).run().await;
//! assert_eq!(run, Run::succeeded());
//! assert_eq!(outlines(&enterprise, "admin"), [["namespace shop", "pod shop/web-0 on n1: nginx:1.27"]]);
//! ```
//!
//! It runs quietly unless told otherwise, so standard error holds one line for each thing that failed and no more. A
//! run that has not ended after a minute is killed, and the test fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use testbed::anchore::Enterprise;
use testbed::kubernetes::KubernetesApi;
use testbed::kubernetes::access::User;
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_anchore-k8s-inventory");

/// No run here needs half of this, however slow the machine is.
pub(crate) const HARD_LIMIT: Duration = Duration::from_mins(1);

/// The program before it is started.
#[must_use]
pub(crate) struct Agent {
    folder: TempDir,
    settings: Value,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    quiet: bool,
    stdout: Stdio,
}

/// The program while it runs.
pub(crate) struct Running {
    folder: TempDir,
    child: Child,
}

/// How a run ended, and what it printed. The folder's path is written as `FOLDER`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            settings: json!({}),
            arguments: Vec::new(),
            variables: BTreeMap::new(),
            quiet: true,
            stdout: Stdio::piped(),
        }
    }

    /// Reads this cluster as somebody without credentials.
    pub(crate) fn reads(self, api: &KubernetesApi) -> Self {
        self.reads_as(api, &User::named("somebody"))
    }

    /// Reads this cluster as a user who has a token.
    pub(crate) fn reads_as(self, api: &KubernetesApi, user: &User) -> Self {
        self.kubeconfig(&api.kubeconfig(user))
    }

    /// Reads the cluster of this kubeconfig.
    pub(crate) fn kubeconfig(self, text: &str) -> Self {
        self.file("kubeconfig", text).set("kubeconfig.path", "kubeconfig")
    }

    /// Sends to this Enterprise, as the user that it has by default.
    pub(crate) fn sends_to(self, enterprise: &Enterprise) -> Self {
        self.set("anchore.url", enterprise.url()).set("anchore.user", "admin").set("anchore.password", "foobar")
    }

    /// With a value in the configuration file. The dots of `key` are levels.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let place = key.split('.').fold(&mut self.settings, |level, part| &mut level[part]);
        *place = value.into();
        self
    }

    /// Gives up on a silent API server after a second instead of a minute.
    pub(crate) fn impatient(self) -> Self {
        self.set("kubernetes.request-timeout-seconds", 1)
    }

    /// Stays, and reports each second, with its admin port anywhere.
    pub(crate) fn resident(self) -> Self {
        let settings = self.set("mode", "periodic").set("polling-interval-seconds", 1);
        settings.set("health-report-interval-seconds", 30).set("admin.listen", "127.0.0.1:0").loudly()
    }

    /// With these words on the command line.
    pub(crate) fn with(mut self, words: &str) -> Self {
        self.arguments.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// With this variable in its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With this file in its folder, which is its working directory and its home too.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
        self
    }

    /// Where a file of its folder is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Logs on standard error, as it does by default.
    pub(crate) fn loudly(self) -> Self {
        Self { quiet: false, ..self }
    }

    /// Prints there.
    pub(crate) fn prints_to(self, stdout: impl Into<Stdio>) -> Self {
        Self { stdout: stdout.into(), ..self }
    }

    /// Runs to the end.
    pub(crate) async fn run(self) -> Run {
        self.start().ended().await
    }

    /// Starts, and does not wait for the end.
    pub(crate) fn start(self) -> Running {
        let mut command = Command::new(PROGRAM);
        command.env_clear().env("HOME", self.folder.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.envs(&self.variables).args(&self.arguments).current_dir(self.folder.path());
        if self.settings != json!({}) {
            std::fs::write(self.path("settings.json"), self.settings.to_string()).expect("written");
            command.args(["--config", "settings.json"]);
        }
        if self.quiet {
            command.arg("--quiet");
        }
        command.stdin(Stdio::null()).stdout(self.stdout).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().expect("started");
        Running { folder: self.folder, child }
    }
}

impl Running {
    /// Sends a signal, `TERM` or `INT`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs");
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await.expect("a shell");
        assert!(sent.success());
    }

    /// Waits until this is written in a file of its folder.
    pub(crate) async fn has_written(&self, file: &str, text: &str) {
        let written = async {
            while !std::fs::read_to_string(self.folder.path().join(file)).is_ok_and(|content| content.contains(text)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HARD_LIMIT, written).await.expect("it must be written within a minute");
    }

    /// Its folder and its process.
    pub(crate) fn into_parts(self) -> (TempDir, Child) {
        (self.folder, self.child)
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Run {
        self.ended_with_file("").await.0
    }

    /// Waits for its end, and reads a file that it left in its folder; a missing one is empty.
    pub(crate) async fn ended_with_file(self, name: &str) -> (Run, String) {
        let output = tokio::time::timeout(HARD_LIMIT, self.child.wait_with_output()).await;
        let output = output.expect("it must end within a minute").expect("it ran");
        let run = Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: hide(self.folder.path(), &String::from_utf8(output.stderr).expect("text")),
        };
        (run, std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
    }
}

impl Run {
    /// All was done, and nothing was printed.
    pub(crate) fn succeeded() -> Self {
        Self { code: Some(0), stdout: String::new(), stderr: String::new() }
    }

    /// Something failed while it ran: this is said of it, and nothing was printed on standard output.
    pub(crate) fn failed(reasons: &[&str]) -> Self {
        let stderr = reasons.iter().flat_map(|reason| ["error: ", *reason, "\n"]).collect();
        Self { code: Some(1), stdout: String::new(), stderr }
    }

    /// It was set up wrongly: this is said of it, and nothing was printed on standard output.
    pub(crate) fn refused(reason: &str) -> Self {
        Self { code: Some(2), ..Self::failed(&[reason]) }
    }

    /// The outline of the one report on standard output.
    pub(crate) fn outline(&self) -> Vec<String> {
        outline(&serde_json::from_str(&self.stdout).expect("one report on standard output"))
    }
}

/// What an account accepted: each report's outline.
pub(crate) fn outlines(enterprise: &Enterprise, account: &str) -> Vec<Vec<String>> {
    enterprise.reports(account).iter().map(outline).collect()
}

/// A report in lines: its nodes, its namespaces, and its pods with their containers' images. What names something that
/// is not in the report gives `nowhere`, and what is named by nothing makes no line disappear.
pub(crate) fn outline(report: &Value) -> Vec<String> {
    let items = |kind: &str| report[kind].as_array().cloned().unwrap_or_default();
    let names = |kind: &str| -> BTreeMap<String, String> {
        items(kind).iter().map(|item| (text(&item["uid"]), text(&item["name"]))).collect()
    };
    let (nodes, namespaces, pods) = (names("nodes"), names("namespaces"), names("pods"));
    let find = |names: &BTreeMap<String, String>, uid: &Value| {
        names.get(&text(uid)).cloned().unwrap_or_else(|| "nowhere".to_owned())
    };
    let mut lines: Vec<String> = items("nodes").iter().map(|node| format!("node {}", text(&node["name"]))).collect();
    lines.extend(items("namespaces").iter().map(|namespace| format!("namespace {}", text(&namespace["name"]))));
    for pod in items("pods") {
        let namespace = find(&namespaces, &pod["namespace_uid"]);
        let node = pod.get("node_uid").map(|uid| format!(" on {}", find(&nodes, uid))).unwrap_or_default();
        let of_pod = items("containers").into_iter().filter(|container| container["pod_uid"] == pod["uid"]);
        let images: Vec<String> = of_pod.map(|container| text(&container["image_tag"])).collect();
        lines.push(format!("pod {namespace}/{}{node}: {}", text(&pod["name"]), images.join(", ")));
    }
    let lost = items("containers").into_iter().filter(|container| find(&pods, &container["pod_uid"]) == "nowhere");
    lines.extend(lost.map(|container| format!("container {} of no pod", text(&container["name"]))));
    lines
}

/// An outline as it is written in a test.
pub(crate) fn lines(outline: &[&str]) -> Vec<String> {
    outline.iter().map(|line| (*line).to_owned()).collect()
}

/// What was asked of an API server: paths with their queries, sorted, because some requests are sent at the same time.
/// Continue tokens are written as `…`.
pub(crate) fn asked(api: &KubernetesApi) -> Vec<String> {
    let mut asked: Vec<String> = api
        .requests()
        .iter()
        .map(|request| match request.query.split_once("continue=") {
            _ if request.query.is_empty() => request.path.clone(),
            None => format!("{}?{}", request.path, request.query),
            Some((before, _)) => format!("{}?{before}continue=…", request.path),
        })
        .collect();
    asked.sort();
    asked
}

/// Waits until the API server was asked for `path`.
pub(crate) async fn asked_for(api: &KubernetesApi, path: &str) {
    let asked = async {
        while !api.requests().iter().any(|request| request.path == path) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HARD_LIMIT, asked).await.expect("it must be asked for within a minute");
}

/// A report without the two things that differ from run to run and server to server: its time and its cluster's name.
pub(crate) fn without_time(report: &str) -> String {
    let mut report: Map<String, Value> = serde_json::from_str(report).expect("a report");
    report.remove("timestamp").expect("a time");
    Value::from(report).to_string()
}

/// The printed bytes before the server's version and the time, which come last.
pub(crate) fn cluster_part(printed: &str) -> String {
    printed.split_once("\"serverVersionMetadata\"").expect("a report").0.to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn hide(folder: &Path, text: &str) -> String {
    text.replace(&folder.display().to_string(), "FOLDER")
}
