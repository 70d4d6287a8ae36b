//! Which replica leads, with real Leases: their checks by the API server, its conflicts and its rights.

use std::sync::Arc;
use std::time::Duration;

use anchore_k8s_inventory::cluster::connect::Connection;
use anchore_k8s_inventory::cluster::lease::{Elector, LeaseSettings, Standing};
use anchore_k8s_inventory::config::Environment;
use anchore_k8s_inventory::config::kubernetes::{ClusterAccess, KubeconfigConfig};
use anchore_k8s_inventory::mandate::Mandate;
use pretty_assertions::assert_eq;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Right;
use crate::cluster::Cluster;
use crate::server::TokenUser;

const NAMESPACE: &str = "agents";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/agents/leases/agent";

/// Bound on waits, far above what they take.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a Role for several replicas grants.
const LEASES: [Right; 3] = [on_leases("get"), on_leases("create"), on_leases("update")];

const fn on_leases(verb: &'static str) -> Right {
    Right::of_group(verb, "coordination.k8s.io", "leases")
}

#[tokio::test]
async fn replicas_follow_each_other_without_a_gap() {
    let (cluster, user) = cluster_with_replicas().await;
    cluster.grant_in(NAMESPACE, &user.name, &LEASES).await;

    let mut one = Replica::start(&cluster, &user, "one").await;
    one.becomes(Standing::Leader { term: 1 }).await;
    assert!(one.mandate.holds());
    let first = cluster.get(LEASE).await;
    assert_eq!((&first["spec"]["holderIdentity"], &first["spec"]["leaseTransitions"]), (&"one".into(), &0.into()));
    let mut other = Replica::start(&cluster, &user, "other").await;
    let renewed = async || cluster.get(LEASE).await["spec"]["renewTime"] != first["spec"]["renewTime"];
    cluster.wait_until("the leader renews", renewed).await;
    assert_eq!(*other.standing.borrow(), Standing::Standby);

    one.ends().await;
    other.becomes(Standing::Leader { term: 1 }).await;
    let last = cluster.get(LEASE).await;
    assert_eq!((&last["spec"]["holderIdentity"], &last["spec"]["leaseTransitions"]), (&"other".into(), &1.into()));
    other.ends().await;
    assert_eq!(cluster.get(LEASE).await["spec"].get("holderIdentity").and_then(Value::as_str).unwrap_or_default(), "");
}

#[tokio::test]
async fn without_a_right_to_leases_a_replica_runs_alone() {
    let (cluster, user) = cluster_with_replicas().await;
    cluster.grant_in(NAMESPACE, &user.name, &LEASES[..2]).await;
    let mut first = Replica::start(&cluster, &user, "first").await;
    // It makes the Lease, and may not renew it.
    first.becomes(Standing::Leader { term: 1 }).await;
    first.becomes(Standing::Alone).await;
    assert!(first.mandate.holds());
    first.ends().await;
}

async fn cluster_with_replicas() -> (Cluster, TokenUser) {
    let cluster = Cluster::fresh().await;
    cluster.namespace(NAMESPACE).await;
    let user = cluster.token_user();
    (cluster, user)
}

struct Replica {
    standing: watch::Receiver<Standing>,
    mandate: Mandate,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(cluster: &Cluster, user: &TokenUser, identity: &str) -> Self {
        let kubeconfig = cluster.kubeconfig(&user.with_token());
        let settings = KubeconfigConfig { access: ClusterAccess::File(kubeconfig), context: None, cluster_name: None };
        let connection = Connection::open(&settings, &Environment::default()).await.expect("a connection");
        let settings =
            LeaseSettings { namespace: NAMESPACE.into(), name: "agent".into(), identity: identity.to_owned() };
        let (mut elector, standing) = Elector::new(Arc::new(connection), settings);
        let (mandate, stop) = (elector.mandate(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            elector.run(&stopped).await;
            elector.release().await;
        });
        Self { standing, mandate, stop, task }
    }

    async fn becomes(&mut self, expected: Standing) {
        let becomes = self.standing.wait_for(|standing| *standing == expected);
        tokio::time::timeout(PATIENCE, becomes).await.expect("before patience ends").expect("it runs");
    }

    async fn ends(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
        assert!(!self.mandate.holds());
    }
}
