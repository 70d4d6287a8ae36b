//! Finds out which container images are in use in a Kubernetes cluster and reports them to Anchore Enterprise.
//!
//! ```text
//! Kubernetes API ─▶ cluster ─ClusterSnapshot─▶ inventory ─▶ routing ─▶ batching ─Report─▶ delivery ─▶ anchore ─▶ Enterprise
//!                   (lists, watches)           └─────── pure, synchronous, deterministic ──────┘        (spool)
//! ```
//!
//! An adhoc run goes through this once. The resident agent does so at each tick, from the state that it keeps by watching;
//! beside that, [`integration`] registers it and reports its health, [`admin`] answers probes and [`metrics`], and a Lease
//! decides which of several replicas does so.
//!
//! The modules in reading order: [`cli`] (what the user asked for), [`config`] (the settings, checked), [`agent`] (puts
//! the parts together and runs them), then the parts in the order of the picture.

pub mod admin;
pub mod agent;
pub mod anchore;
pub mod batching;
#[cfg(test)]
mod captured_log;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod delivery;
mod fingerprint;
#[cfg(test)]
mod golden;
pub mod integration;
pub mod inventory;
mod jitter;
pub mod journal;
pub mod mandate;
pub mod metrics;
pub mod output;
pub mod proxy;
pub mod routing;
pub mod telemetry;
