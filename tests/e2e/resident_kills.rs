//! The resident agent is killed again and again, while Anchore accepts now and then.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::server::fault::{Answer, Fault, Requests};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::objects::Pod;
use crate::resident::{Arrivals, assert_in_order, settings};

const KILLS: usize = 50;

#[tokio::test]
async fn what_was_kept_when_it_was_killed_is_accepted_in_order_in_the_end() {
    let cluster = Cluster::with_one_pod().await;
    let user = cluster.watcher().await;
    let enterprise = EnterpriseOptions::default().report_answer(StatusCode::CREATED, r#"{"message": "thank you"}"#);
    let enterprise = enterprise.start().await.expect("the testbed starts");
    let kubeconfig = cluster.kubeconfig(&user.with_token());
    let settings = settings(&enterprise, &json!({}));
    let mut kept = BTreeSet::new();

    // Lives are as long as this machine needs for a report, more or less.
    let began = Instant::now();
    let agent = cluster.agent(&kubeconfig).stays("agent", &settings);
    Arrivals::at(&enterprise).next().await;
    let longest_life = began.elapsed() * 3;
    agent.kill().await;

    accept_now_and_then(&enterprise);
    for n in 0..KILLS {
        let agent = cluster.agent(&kubeconfig).stays("agent", &settings);
        tokio::time::sleep(longest_life.mul_f64(random())).await;
        agent.kill().await;
        kept.extend(timestamps_in(cluster.directory.path()));
        if n % 10 == 0 {
            cluster.pod("shop", Pod::running(&format!("web-{}", n + 1)).image("web:2")).await;
        }
    }
    enterprise.clear_faults();
    let agent = cluster.agent(&kubeconfig).stays("agent", &settings);
    Arrivals::at(&enterprise).tell(&cluster.state().await).await;
    let is_empty = async || timestamps_in(cluster.directory.path()).is_empty();
    cluster.wait_long_until(|| "nothing waits any more".to_owned(), is_empty).await;
    let log = agent.stops().await;

    assert!(!kept.is_empty(), "it was never killed while something waited");
    let accepted: BTreeSet<String> = enterprise.accepted().into_iter().map(|report| report.timestamp).collect();
    let lost: Vec<&String> = kept.difference(&accepted).collect();
    assert_eq!(lost, [""; 0]);
    assert_in_order(&enterprise);
    for trouble in ["could not be read", "put aside", "dropped", "memory"] {
        assert!(!log.contains(trouble), "{trouble}:\n{log}");
    }
}

/// Half of the requests are refused, broken off after they were read, or answered so slowly that a kill comes first.
fn accept_now_and_then(enterprise: &Enterprise) {
    for n in 1..1_000 {
        let fault: Fault = match random() {
            fraction if fraction < 0.25 => Answer::status(503).into(),
            fraction if fraction < 0.35 => Fault::Closes { after: usize::MAX },
            fraction if fraction < 0.5 => Fault::drips(1, Duration::from_millis(20)),
            _ => continue,
        };
        enterprise.inject(Requests::to("/v2/kubernetes-inventory").nth(n), fault);
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    let [byte, ..] = Uuid::new_v4().into_bytes();
    f64::from(byte) / f64::from(u8::MAX)
}

/// Times of the reports that wait in the spool of a user with this home.
fn timestamps_in(home: &Path) -> BTreeSet<String> {
    let Ok(files) = std::fs::read_dir(home.join(".local/state/anchore-k8s-inventory/spool")) else {
        return BTreeSet::new();
    };
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let reports = paths.filter(|path| path.extension().is_some_and(|extension| extension == "report"));
    // What is gone meanwhile waits no more.
    let contents = reports.filter_map(|path| std::fs::read(path).ok());
    contents.map(|content| timestamp_in(&content)).collect()
}

fn timestamp_in(content: &[u8]) -> String {
    // A prefix of 20 bytes with the header's length at its 12th.
    let length: [u8; 4] = content[12..16].try_into().expect("four bytes");
    let end = 20 + usize::try_from(u32::from_le_bytes(length)).expect("it fits");
    let header: Value = serde_json::from_slice(&content[20..end]).expect("the header is JSON");
    let time = header["timestamp"].as_str().expect("it has a time");
    // Reports know whole seconds.
    format!("{}Z", &time[..19])
}
