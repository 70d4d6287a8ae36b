//! The resident agent at work: what it takes to follow a cluster, how soon it knows what is new, and how it recovers.
//!
//! A real kube-apiserver and etcd hold a made-up fleet; an Anchore Enterprise of the testbed accepts the reports. The
//! released program watches, and goes through the same phases at each size: its first state, quiet, a report, pods that
//! come and go through the API, many changes at once straight into etcd, and a restart of the API server after which
//! everything has to be listed anew. Each row has its target and how it was taken; a time alone says as much of the
//! machine as of the program, so compare only runs on an idle one.
//!
//! ```text
//! make bench-resident                  10,000, 100,000 and 150,000 pods
//! make bench-resident SIZES=10000      one size
//! make bench-resident AGENT=FILE       another build of the agent
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark is there to print")]
#![expect(clippy::cast_precision_loss, reason = "bytes are shown as megabytes")]

#[path = "../../tests/e2e/server.rs"]
#[expect(dead_code, reason = "the end-to-end suite uses all of it")]
#[expect(clippy::expect_used, reason = "it is written for tests")]
mod server;

mod agent;
mod api;
mod churn;
mod phases;
mod table;

use server::Server;
use testbed::anchore::EnterpriseOptions;
use testbed::fleet::Fleet;

use crate::agent::Agent;
use crate::api::Api;
use crate::phases::Scene;
use crate::table::Table;

/// Pods, namespaces, nodes, and the most memory in MiB that the agent may take to watch them.
const SIZES: [(usize, usize, usize, f64); 3] =
    [(10_000, 500, 350, 40.0), (100_000, 2_000, 3_500, 110.0), (150_000, 10_000, 5_000, 160.0)];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let wanted: Vec<usize> = std::env::var("SIZES")
        .unwrap_or_default()
        .split(|separator: char| !separator.is_ascii_digit())
        .filter_map(|size| size.parse().ok())
        .collect();
    table::print_machine();
    for (pods, namespaces, nodes, memory) in SIZES {
        if wanted.is_empty() || wanted.contains(&pods) {
            runtime.block_on(measure(pods, namespaces, nodes, memory))?;
        }
    }
    Ok(())
}

async fn measure(pods: usize, namespaces: usize, nodes: usize, memory: f64) -> anyhow::Result<()> {
    let server = Server::start().await?;
    // Its cache fills faster from what is there than from what comes.
    server.kill_apiserver();
    let fleet = Fleet { pods, namespaces, nodes, accounts: Vec::new(), seed: 1 };
    let objects = tokio::task::spawn_blocking(move || fleet.objects()).await?;
    testbed::etcd::load(&server.etcd_url.parse()?, &objects).await?;
    server.start_apiserver().await;
    let enterprise = EnterpriseOptions::default().unchecked().start().await?;
    let agent = Agent::start(&server, &enterprise)?;
    let api = Api::new(&server);
    let mut table = Table::new(pods);
    let mut scene = Scene { server: &server, enterprise: &enterprise, agent, api, objects, memory };
    let outcome = scene.run(&mut table).await;
    table.print();
    if outcome.is_err() {
        println!("{}", scene.agent.end_of_log());
    }
    outcome
}
