//! Several replicas, of which the holder of the Lease reports.

use pretty_assertions::assert_eq;
use testbed::anchore::EnterpriseOptions;
use testbed::kubernetes::access::User;
use testbed::kubernetes::lease::Lease;

use super::process::Resident;
use super::{Stage, assert_in_order};
use crate::agent::Agent;

const LEASE: &str = "anchore-k8s-inventory";

fn replica(stage: &Stage, name: &str) -> Agent {
    let folder = stage.state.path().join(name);
    let agent = stage.agent().set("leader-election.enabled", true);
    agent
        .set("state.directory", folder.to_str().expect("text"))
        .variable("POD_NAMESPACE", "anchore")
        .variable("POD_NAME", name)
}

fn holder(stage: &Stage) -> Option<String> {
    stage.api.lease("anchore", LEASE)?.holder.filter(|holder| !holder.is_empty())
}

#[tokio::test]
async fn f32_one_of_two_reports_and_hands_over_when_it_ends() {
    let stage = Stage::new().await;
    let first = Resident::start(replica(&stage, "one"));
    stage.accepted(1).await;
    let second = Resident::start(replica(&stage, "two"));

    second.answers("/readyz", 200).await;
    stage.accepted_more(2).await;
    assert!(holder(&stage).is_some_and(|holder| holder.starts_with("one_")));
    assert_eq!((first.metric("leader").await, second.metric("leader").await), (Some(1.0), Some(0.0)));
    assert!(!second.log().contains("reports made"), "{}", second.log());

    assert_eq!(first.stop().await.code, Some(0));
    second.logged("reports made").await;
    stage.accepted_more(1).await;

    assert!(holder(&stage).is_some_and(|holder| holder.starts_with("two_")));
    second.measures("leader", |leads| leads > 0.5).await;
    assert_in_order(&stage.enterprise);
    let registrations = stage.enterprise.registrations();
    assert!(registrations.len() >= 2, "the new leader registers, too");
    assert_eq!(second.stop().await.code, Some(0));
    assert_eq!(holder(&stage), None, "the Lease is released");
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_stops_reporting() {
    let stage = Stage::new().await;
    let resident = Resident::start(replica(&stage, "one"));
    stage.accepted(1).await;

    stage.api.put_lease("anchore", LEASE, &Lease::held_by("somebody-else"));
    resident.logged("this replica does not lead any more").await;
    resident.measures("leader", |leads| leads < 0.5).await;

    assert_eq!(resident.get("/readyz").await.0, 200, "standbys are ready");
    assert_eq!(resident.stop().await.code, Some(0));
    assert_eq!(holder(&stage).as_deref(), Some("somebody-else"), "the Lease of another one stays");
}

#[tokio::test]
async fn without_the_right_for_leases_a_replica_says_so_and_runs_alone() {
    let stage = Stage::for_user(User::reader("agent").token("token-1"), EnterpriseOptions::default()).await;
    let resident = Resident::start(replica(&stage, "one"));

    stage.accepted(2).await;

    assert_eq!(resident.log().matches("ERROR").count(), 1, "{}", resident.log());
    assert!(resident.log().contains("lease"), "{}", resident.log());
    resident.measures("leader", |leads| leads > 0.5).await;
}
