//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use testbed::anchore::version::Version;
use testbed::fleet::Fleet;
use testbed::kubernetes::KubernetesVersion;

/// A Kubernetes API server and an Anchore Enterprise on loopback, to run anchore-k8s-inventory against without a cluster.
///
/// Starts both, fills the cluster with realistic pods, writes a kubeconfig and an agent's configuration, says what to run,
/// and serves until it gets SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 120, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) serve: Serve,
}

const EXAMPLES: &str = "\
Examples:
  testbed --out /tmp/testbed --account blue,green --summary
  anchore-k8s-inventory -c /tmp/testbed/config.yaml        (in another terminal)

  testbed --out /tmp/testbed --tls --pods 10000 --namespaces 500 --nodes 350
  testbed --out /tmp/testbed --churn 120
  testbed --out /tmp/testbed --fault kubernetes-busy --fault enterprise-unavailable

Enterprise lists what arrived at /v2/kubernetes-namespaces and its siblings, user `admin`,
password `foobar`, and adds it up at /testbed/summary.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a fleet straight into etcd, for a real API server to serve.
    LoadEtcd {
        /// Where etcd listens, over plain HTTP.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2379")]
        endpoint: Uri,

        #[command(flatten)]
        fleet: FleetSize,
    },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Serve {
    /// Folder for kubeconfig.yaml, config.yaml and, with --tls, ca.pem; made if it is missing. config.yaml comes last:
    /// when it is there, the servers listen.
    #[arg(long, value_name = "DIR", default_value = "testbed-out")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) fleet: FleetSize,

    /// Accounts of Enterprise beside `admin`; most namespaces name one by the label `anchore.io/account`.
    #[arg(long = "account", value_name = "NAME", value_delimiter = ',')]
    pub(crate) accounts: Vec<String>,

    /// Speak TLS, with a certificate authority made for the occasion, and know the agent by a token.
    #[arg(long)]
    pub(crate) tls: bool,

    /// Version of Kubernetes to play.
    #[arg(long, value_name = "VERSION", default_value = "1.37")]
    pub(crate) kubernetes_version: KubernetesVersion,

    /// Version of Anchore Enterprise to play, from 4.8 on.
    #[arg(long, value_name = "VERSION", default_value = "5.23")]
    pub(crate) enterprise_version: Version,

    /// Accept reports without checking them, and count nothing but their bytes: for measurements of the agent.
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// Something that goes wrong; may be repeated.
    #[arg(long = "fault", value_name = "FAULT")]
    pub(crate) faults: Vec<Fault>,

    /// Replace this many pods a minute by others, one after the other.
    #[arg(long, value_name = "PODS_PER_MINUTE", default_value_t = 0)]
    pub(crate) churn: u32,

    /// On exit, print what Enterprise accepted, by account.
    #[arg(long)]
    pub(crate) summary: bool,

    /// End when standard input does, too.
    #[arg(long)]
    pub(crate) stop_with_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FleetSize {
    /// Pods in the cluster.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pods: usize,

    /// Namespaces in the cluster; one in twenty-five is empty.
    #[arg(long, value_name = "N", default_value_t = 30)]
    namespaces: usize,

    /// Nodes in the cluster.
    #[arg(long, value_name = "N", default_value_t = 10)]
    nodes: usize,

    /// The same seed makes the same cluster.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The first list of pods is answered by 429, to be tried again after a second.
    KubernetesBusy,
    /// The first list of pods breaks off after 10 kB.
    KubernetesCutsLists,
    /// Nodes cannot be listed.
    KubernetesForbidsNodes,
    /// The first report is answered by 503, as by a proxy.
    EnterpriseUnavailable,
    /// Reports are answered by a login page, 200.
    EnterpriseLoginPage,
    /// Reports are read and never answered.
    EnterpriseHangs,
}

impl FleetSize {
    pub(crate) fn fleet(&self, accounts: Vec<String>) -> Fleet {
        let Self { pods, namespaces, nodes, seed } = *self;
        // Pods need somewhere to be.
        let namespaces = if pods > 0 { namespaces.max(1) } else { namespaces };
        Fleet { pods, namespaces, nodes, accounts, seed }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
