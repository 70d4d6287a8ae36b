//! The chart, through real Helm: what values files render to, what is refused, and releases that live and change on a
//! real API server.

mod documents;
mod helm;
mod release;
mod rendering;
mod rights;

/// Where releases of these tests are, under the Pod Security level `restricted`.
const NAMESPACE: &str = "agents";
