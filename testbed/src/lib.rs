//! A Kubernetes API server and an Anchore Enterprise to run the agent against, without a cluster.
//!
//! ```text
//! cluster, fleet ─Objects─▶ kubernetes ◀─HTTP─ the agent ─HTTP─▶ anchore
//!                                └─── server: TLS, faults, record ───┘
//! ```
//!
//! Both stand-ins listen on loopback alone. They encode and check with the full messages and the published schema, and
//! share no code with the agent, so that a mistake of the agent cannot hide.

pub mod anchore;
pub mod cluster;
pub mod etcd;
pub mod fleet;
pub mod kubernetes;
pub mod objects;
pub mod proxy;
pub mod server;
