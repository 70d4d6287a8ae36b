//! What values files render to: the folder `values` holds each with what is expected of it, `refusals.yaml` what is
//! refused.
//!
//! Every rendered configuration is loaded by the built program and its effective settings are compared, and every
//! rendered object is shown to the API server.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::Value;

use super::helm::{Helm, Rendered, beside, chart, missing, required_values, values_and_expectation};
use crate::cluster::Cluster;

/// Dotted keys with the values in effect.
type Settings = BTreeMap<String, Value>;

/// What is expected of a values file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Expectation {
    /// The settings that differ from those of `required.yaml`; there, from the agent's defaults.
    config: Settings,
    /// Objects by kind and name, with what they hold at least; null is absent.
    objects: BTreeMap<String, Value>,
    /// Texts that the notes hold.
    notes: Vec<String>,
    /// Texts that stand nowhere but in Secrets.
    secrets: Vec<String>,
    /// Variables that somebody else gives to the agent, as from a Secret of the user's.
    environment: BTreeMap<String, String>,
    /// Whether the pods need more than the Pod Security level `restricted` allows.
    unrestricted: bool,
}

/// A refusal: values over the required ones, and what is said of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    values: Value,
    says: Vec<String>,
}

#[tokio::test]
async fn chart_passes_helms_lint() {
    let helm = Helm::alone();
    let values = helm.values("values.yaml", &required_values());
    helm.helm(&["lint", "--strict", &chart().display().to_string(), &values]).await.succeeded();
}

#[tokio::test]
async fn chart_values_files_render_what_they_mean() {
    let cluster = Cluster::fresh().await;
    let helm = Helm::of(&cluster).await;
    for namespace in ["shop", "blog"] {
        cluster.namespace(namespace).await;
    }
    let defaults = effective_settings(&cluster, "", &BTreeMap::new()).await;
    let (values, _) = values_and_expectation("required.yaml");
    let required = helm.values("required.yaml", &values);
    let rendered = helm.dry_run(std::slice::from_ref(&required)).await.expect("the required values are enough");
    let base = effective_settings(&cluster, rendered.configuration(), &environment(&rendered)).await;

    let mut names: Vec<String> = std::fs::read_dir(beside("values"))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("names are UTF-8"))
        .collect();
    names.sort();
    assert!(names.len() > 20, "the values files are found");
    let mut wrong = Vec::new();
    for name in names {
        let (values, expectation) = values_and_expectation(&name);
        let expectation: Expectation = serde_saphyr::from_str(&expectation).expect("an expectation can be read");
        let before = if name == "required.yaml" { &defaults } else { &base };
        let problems = match helm.dry_run(&[required.clone(), helm.values(&name, &values)]).await {
            Ok(rendered) => problems(&cluster, &helm, &rendered, &expectation, before).await,
            Err(refusal) => vec![refusal],
        };
        wrong.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn chart_refuses_what_it_cannot_render_as_meant() {
    let helm = Helm::alone();
    let required = helm.values("required.yaml", &required_values());
    let refusals = std::fs::read_to_string(beside("refusals.yaml")).expect("refusals.yaml can be read");
    let refusals: Vec<Refusal> = serde_saphyr::from_str(&refusals).expect("refusals.yaml is right");
    let chart = chart().display().to_string();
    let mut wrong = Vec::new();
    for Refusal { values, says } in &refusals {
        let given = helm.values("values.yaml", &values.to_string());
        let said = helm.helm(&["template", "agent", &chart, &required, &given]).await;
        match said.refusal() {
            Some(refusal) if says.iter().all(|text| refusal.contains(text.as_str())) => {}
            Some(refusal) => wrong.push(format!("{values}: {says:?} is not in: {refusal}")),
            None => wrong.push(format!("{values} is accepted")),
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refusals.len() > 30, "the refusals are found");
}

#[tokio::test]
async fn chart_of_the_existing_agent_runs_this_one_when_only_the_image_is_changed() {
    let helm = Helm::alone();
    let chart = beside("existing").display().to_string();
    let manifest = helm.helm(&["template", "agent", &chart]).await.succeeded().stdout;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).expect("a manifest is YAML");
    let rendered = Rendered { notes: String::new(), manifest, objects };
    let container = &rendered.pod_spec()["containers"][0];
    assert_eq!(container["command"], serde_json::json!(["/anchore-k8s-inventory"]));
    assert_eq!(container["livenessProbe"]["exec"]["command"], serde_json::json!(["/anchore-k8s-inventory", "version"]));

    let cluster = Cluster::fresh().await;
    cluster.agent_without_kubeconfig().arg("version").runs().await.succeeded();
    let settings = effective_settings(&cluster, rendered.configuration(), &environment(&rendered)).await;

    let keys = ["mode", "kubeconfig.cluster", "anchore.user", "anchore.password", "metadata-collection.pods.labels"];
    let values = keys.map(|key| settings.get(key).cloned().unwrap_or_default());
    let labels = serde_json::json!(["a", "b"]);
    assert_eq!(values, ["periodic".into(), "production-eu".into(), "inventory".into(), "<redacted>".into(), labels]);
}

/// What of a rendered release is not as expected.
async fn problems(
    cluster: &Cluster,
    helm: &Helm,
    rendered: &Rendered,
    expectation: &Expectation,
    before: &Settings,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, expected) in &expectation.objects {
        match (expected, rendered.object(name)) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => problems.push(format!("{name} is there")),
            (_, None) => problems.push(format!("{name} is not there")),
            (expected, Some(object)) => problems.extend(missing(expected, object, name)),
        }
    }
    for text in expectation.notes.iter().filter(|text| !rendered.notes.contains(text.as_str())) {
        problems.push(format!("the notes do not say {text:?}:\n{}", rendered.notes));
    }
    problems.extend(secrets_elsewhere(rendered, &expectation.secrets));

    let mut variables = environment(rendered);
    variables.extend(expectation.environment.clone());
    let check = agent_with(cluster, rendered.configuration(), &variables).arg("config").arg("check").runs().await;
    if check.exit_code != Some(0) {
        problems.push(format!("config check: {}{}\n{}", check.stdout, check.stderr, rendered.configuration()));
    }
    let settings = effective_settings(cluster, rendered.configuration(), &variables).await;
    let expected = &expectation.config;
    let keys = before.keys().chain(settings.keys()).chain(expected.keys());
    let keys: std::collections::BTreeSet<&String> = keys.collect();
    for key in keys {
        let of = |settings: &Settings| settings.get(key).cloned().unwrap_or_default();
        let meant = expected.get(key).cloned().unwrap_or_else(|| of(before));
        if of(&settings) != meant {
            problems.push(format!("{key} is {}, and should be {meant}", of(&settings)));
        }
    }

    let manifest = helm.values("manifest.yaml", &rendered.manifest);
    let manifest = manifest.replace("--values=", "--filename=");
    let shown = helm.kubectl(&["create", "--dry-run=server", &manifest]).await;
    if expectation.unrestricted {
        let forbidden = shown.stderr.lines().filter(|line| !line.contains("PodSecurity"));
        problems.extend(forbidden.map(|line| format!("the API server says: {line}")));
    } else if shown.refusal().is_some() || !shown.stderr.is_empty() {
        problems.push(format!("the API server says: {}", shown.stderr));
    }
    problems
}

/// Objects, apart from Secrets, and notes that hold one of the texts, as it is or in base 64.
fn secrets_elsewhere(rendered: &Rendered, secrets: &[String]) -> Vec<String> {
    let others = rendered.objects.iter().filter(|object| object["kind"] != "Secret").map(Value::to_string);
    let texts: Vec<String> = others.chain([rendered.notes.clone()]).collect();
    let found = secrets.iter().filter(|secret| {
        let quoted = Value::from(secret.as_str()).to_string();
        let encoded = BASE64_STANDARD.encode(secret.as_bytes());
        let forms = [quoted.trim_matches('"').to_owned(), encoded];
        texts.iter().any(|text| forms.iter().any(|form| text.contains(form.as_str())))
    });
    found.map(|secret| format!("{secret:?} stands outside of Secrets")).collect()
}

/// The variables that the agent gets from the chart's own Secret, and from values given in its pod.
fn environment(rendered: &Rendered) -> BTreeMap<String, String> {
    let container = &rendered.pod_spec()["containers"][0];
    let secrets = container["envFrom"].as_array().into_iter().flatten();
    let secrets = secrets.filter_map(|source| source["secretRef"]["name"].as_str());
    let secrets = secrets.filter_map(|name| rendered.object(&format!("Secret/{name}")));
    let mut variables = BTreeMap::new();
    for secret in secrets {
        for (name, value) in secret["stringData"].as_object().into_iter().flatten() {
            variables.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        for (name, value) in secret["data"].as_object().into_iter().flatten() {
            let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
            let bytes = bytes.expect("data of a Secret is base 64");
            variables.insert(name.clone(), String::from_utf8(bytes).expect("the chart's Secrets hold text"));
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    variables
}

/// The agent where it finds `configuration` as in its pod.
fn agent_with<'a>(
    cluster: &'a Cluster,
    configuration: &str,
    variables: &BTreeMap<String, String>,
) -> crate::agent::Agent<'a> {
    cluster.write_file("xdg/anchore-k8s-inventory/config.yaml", configuration);
    let folder = cluster.directory.path().join("xdg");
    let agent = cluster.agent_without_kubeconfig();
    let agent = agent.variable("XDG_CONFIG_DIRS", folder.to_str().expect("paths of tests are UTF-8"));
    variables.iter().fold(agent, |agent, (name, value)| agent.variable(name, value))
}

/// What `config show` says.
async fn effective_settings(cluster: &Cluster, configuration: &str, variables: &BTreeMap<String, String>) -> Settings {
    let run = agent_with(cluster, configuration, variables).arg("config").arg("show").runs().await.succeeded();
    let shown: Value = serde_saphyr::from_str(&run.stdout).expect("config show prints YAML");
    let mut settings = Settings::new();
    flatten("", shown, &mut settings);
    settings
}

fn flatten(path: &str, value: Value, into: &mut Settings) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        value => {
            into.insert(path.to_owned(), value);
        }
    }
}
