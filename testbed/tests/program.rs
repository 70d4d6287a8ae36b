//! The program `testbed` as a person starts it.

#![cfg(test)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

#[tokio::test]
async fn it_serves_until_its_input_ends_and_then_sums_up() {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(env!("CARGO_BIN_EXE_testbed"));
    program.arg("--out").arg(folder.path()).args([
        "--pods",
        "5",
        "--namespaces",
        "2",
        "--nodes",
        "1",
        "--account",
        "blue",
    ]);
    program.args([
        "--kubernetes-version",
        "1.31",
        "--fault",
        "enterprise-unavailable",
        "--churn",
        "6000",
        "--summary",
        "--stop-with-stdin",
    ]);
    let mut running = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let mut output = BufReader::new(running.stdout.take().expect("its output"));
    let mut started = String::new();
    while !started.contains("anchore-k8s-inventory -c") {
        assert!(output.read_line(&mut started).expect("a line") > 0, "it ended: {started}");
    }

    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");
    let kubeconfig: Value = serde_json::from_str(&read("kubeconfig.yaml")).expect("JSON");
    let kubernetes = kubeconfig["clusters"][0]["cluster"]["server"].as_str().expect("a URL");
    let enterprise = read("config.yaml").lines().find_map(|line| Some(line.trim().strip_prefix("url: ")?.to_owned()));
    let enterprise = enterprise.expect("a URL");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let get = async |path: &str| -> Value {
        client.get(format!("{kubernetes}{path}")).send().await.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(get("/version").await["minor"], "31");
    let list = get("/api/v1/pods").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(5));
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let pods = format!("{kubernetes}/api/v1/pods?watch=true&resourceVersion={version}");
    let mut watch = client.get(pods).send().await.expect("an answer");
    assert!(watch.chunk().await.expect("a body").is_some(), "pods come and go");

    let report = json!({"cluster_name": "testbed", "timestamp": "2026-03-04T05:06:07Z"});
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let request = client.post(format!("{enterprise}/v2/kubernetes-inventory")).basic_auth("admin", Some("foobar"));
        let request = request.header("x-anchore-account", "blue").json(&report);
        statuses.push(request.send().await.expect("an answer").status().as_u16());
    }
    assert_eq!(statuses, [503, 201]);

    drop(running.stdin.take());
    let mut summary = String::new();
    output.read_to_string(&mut summary).expect("text");
    assert!(running.wait().expect("its end").success());
    let bytes = report.to_string().len();
    let expected = format!(
        "ACCOUNT  REPORTS  NAMESPACES  PODS  CONTAINERS  BYTES\nblue           1           0     0           0  {bytes:>5}\n"
    );
    assert_eq!(summary, expected);
}
