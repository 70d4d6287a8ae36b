//! Helm and kubectl, run as a user runs them, with nothing of this environment.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::NAMESPACE;
use crate::cluster::Cluster;
use crate::objects::Namespace;

/// The chart.
pub(super) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/k8s-inventory")
}

/// A file or folder beside these sources.
pub(super) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/chart").join(name)
}

/// Values as a file and what is expected of them: two YAML documents. In the second, `VERSION` is the agent's.
pub(super) fn values_and_expectation(name: &str) -> (String, String) {
    let text = std::fs::read_to_string(beside("values").join(name)).expect("a values file can be read");
    let (values, expectation) = text.split_once("\n---\n").expect("a values file has two documents");
    (values.to_owned(), expectation.replace("VERSION", env!("CARGO_PKG_VERSION")))
}

/// The values that every release needs.
pub(super) fn required_values() -> String {
    values_and_expectation("required.yaml").0
}

/// Helm with a home of its own.
pub(super) struct Helm {
    directory: tempfile::TempDir,
    kubeconfig: Option<PathBuf>,
}

/// What a command said.
pub(super) struct Said {
    pub(super) stdout: String,
    pub(super) stderr: String,
    succeeded: bool,
}

impl Helm {
    /// Without a cluster.
    pub(super) fn alone() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary folder can be made"), kubeconfig: None }
    }

    /// As an administrator of the cluster, which gets the namespace for releases and the kind `ServiceMonitor`.
    pub(super) async fn of(cluster: &Cluster) -> Self {
        let restricted = Namespace::named(NAMESPACE)
            .label("pod-security.kubernetes.io/enforce", "restricted")
            .label("pod-security.kubernetes.io/warn", "restricted");
        cluster.namespace(restricted).await;
        cluster.knows_service_monitors().await;
        let kubeconfig = cluster.kubeconfig(&json!({"token": cluster.server.admin_token}));
        Self { kubeconfig: Some(kubeconfig), ..Self::alone() }
    }

    /// Writes a values file; the argument that names it.
    pub(super) fn values(&self, name: &str, values: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, values).expect("a file can be written");
        format!("--values={}", path.display())
    }

    pub(super) async fn helm(&self, arguments: &[&str]) -> Said {
        let namespace = format!("--namespace={NAMESPACE}");
        self.run("helm", &[&[namespace.as_str()], arguments].concat()).await
    }

    pub(super) async fn kubectl(&self, arguments: &[&str]) -> Said {
        self.run("kubectl", arguments).await
    }

    /// A release that is only rendered, by a server that is asked what it knows.
    pub(super) async fn dry_run(&self, values: &[String]) -> Result<Rendered, String> {
        let chart = chart().display().to_string();
        let mut arguments = vec!["install", "agent", &chart, "--dry-run=server", "--output=json"];
        arguments.extend(values.iter().map(String::as_str));
        let said = self.helm(&arguments).await;
        if !said.succeeded {
            return Err(said.stderr);
        }
        let release: Value = serde_json::from_str(&said.stdout).map_err(|error| error.to_string())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut manifest = text(&release["manifest"]);
        for hook in release["hooks"].as_array().into_iter().flatten() {
            manifest.push_str("\n---\n");
            manifest.push_str(&text(&hook["manifest"]));
        }
        Ok(Rendered { notes: text(&release["info"]["notes"]), objects: objects(&manifest), manifest })
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Said {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let path = assets.expect("KUBEBUILDER_ASSETS is set: run `make e2e`").join(program);
        let mut command = Command::new(&path);
        command.env_clear().env("HOME", self.directory.path()).current_dir(self.directory.path());
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
        let advice = "run `make e2e`, which builds helm and kubectl with Go";
        let output = output.unwrap_or_else(|error| panic!("{} cannot be started: {error}: {advice}", path.display()));
        Said::from(output)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
        Self { stdout: text(output.stdout), stderr: text(output.stderr), succeeded: output.status.success() }
    }
}

impl Said {
    /// That all went well.
    pub(super) fn succeeded(self) -> Self {
        assert!(self.succeeded, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The error of a command that failed.
    pub(super) fn refusal(&self) -> Option<&str> {
        (!self.succeeded).then_some(self.stderr.as_str())
    }
}

/// A release as Helm renders it, its hooks among its objects.
pub(super) struct Rendered {
    pub(super) notes: String,
    pub(super) manifest: String,
    pub(super) objects: Vec<Value>,
}

impl Rendered {
    /// The object of this kind and name; a name may end in `@` and the namespace.
    pub(super) fn object(&self, kind_and_name: &str) -> Option<&Value> {
        let (kind, name) = kind_and_name.split_once('/').expect("a kind and a name");
        let (name, namespace) = name.split_once('@').unwrap_or((name, NAMESPACE));
        self.objects.iter().find(|object| {
            let metadata = &object["metadata"];
            let here = metadata["namespace"].as_str().unwrap_or(NAMESPACE);
            (&object["kind"], &metadata["name"], here) == (&json!(kind), &json!(name), namespace)
        })
    }

    /// The text of the agent's configuration file.
    pub(super) fn configuration(&self) -> &str {
        let mut files = self.objects.iter().filter_map(|object| object["data"]["config.yaml"].as_str());
        files.next().expect("a release has a configuration")
    }

    /// The spec of the agent's pods.
    pub(super) fn pod_spec(&self) -> &Value {
        let of = |kind: &str| self.objects.iter().find(|object| object["kind"] == kind);
        match (of("Deployment"), of("CronJob")) {
            (Some(deployment), None) => &deployment["spec"]["template"]["spec"],
            (None, Some(cron_job)) => &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            _ => panic!("either a Deployment or a CronJob is expected:\n{}", self.manifest),
        }
    }
}

fn objects(manifest: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).expect("a manifest is YAML");
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// What of `expected` is not in `actual`, each with its path: maps may hold more, lists may not, null is absent.
pub(super) fn missing(expected: &Value, actual: &Value, path: &str) -> Vec<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected
            .iter()
            .flat_map(|(key, value)| missing(value, actual.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}")))
            .collect(),
        (Value::Object(expected), Value::Null) => {
            missing(&Value::Object(expected.clone()), &Value::Object(Map::new()), path)
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let pairs = expected.iter().zip(actual).enumerate();
            pairs.flat_map(|(n, (expected, actual))| missing(expected, actual, &format!("{path}[{n}]"))).collect()
        }
        _ if expected == actual => Vec::new(),
        _ => vec![format!("{path}: expected {expected}, is {actual}")],
    }
}

impl Cluster {
    /// Makes the kind `ServiceMonitor` known, once for all tests.
    async fn knows_service_monitors(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let known = self.get(path).await;
        if known["items"].as_array().is_some_and(|items| !items.is_empty()) {
            return;
        }
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "names": {"kind": "ServiceMonitor", "plural": "servicemonitors"},
                "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
            },
        });
        self.post(path, &definition).await;
        self.wait_until("the API server serves ServiceMonitors", async || {
            let groups = self.get("/apis").await;
            groups.to_string().contains("monitoring.coreos.com")
        })
        .await;
    }
}
