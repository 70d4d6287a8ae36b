//! The built program against a real kube-apiserver and etcd: real RBAC, real credentials, real protobuf.
//!
//! `KUBEBUILDER_ASSETS` names the folder that holds `kube-apiserver`, `etcd`, `kubectl` and `helm`; `make e2e` builds them
//! where it is not set. Without them every test fails with a sentence that says so: nothing is skipped.
//!
//! [`server`] starts both. Each test has a whole cluster for itself, with servers that it may kill and start again:
//! [`cluster::Cluster::fresh`] waits until one is free and empties etcd. There is no kubelet and no controller, so tests
//! write the status of what they make. Expected reports are computed by [`expected`] from what the API server itself
//! says, as JSON, of its objects. [`resident`] is an agent that stays, and what arrives of it.

#![expect(clippy::expect_used, clippy::panic, reason = "a test whose ground gives way has to fail")]

mod access;
mod agent;
mod cluster;
mod expected;
mod objects;
mod resident;
mod server;

mod accounts;
mod chart;
mod collecting;
mod contents;
mod credentials;
mod delivery;
mod election;
mod kubeconfigs;
mod resident_access;
mod resident_kills;
mod resident_outages;
mod resident_replicas;
mod resident_reports;
mod rights;
mod scale;
