//! The Kubernetes API: one consistent picture of a cluster. The only user of `kube`.
//!
//! Objects are cut out of the answers while they arrive, reduced to what a report needs and dropped: memory grows with
//! what is kept, never with what is read. A failed read is never an empty one: a namespace that could not be read is
//! named in [`snapshot::ClusterSnapshot::unreadable`], and where nothing could be read there is no snapshot.

mod access;
mod address;
pub mod collect;
pub mod connect;
mod credentials;
mod gunzip;
pub mod identity;
pub(crate) mod intake;
mod kubeconfig;
pub mod lease;
mod list;
pub mod progress;
mod renewal;
mod request;
mod select;
mod service_account;
pub mod snapshot;
mod stream;
pub mod strings;
pub mod watch;
pub(crate) mod wire;
