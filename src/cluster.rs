//! The Kubernetes API: one consistent picture of a cluster. The only user of `kube`.

pub mod snapshot;
pub mod strings;
