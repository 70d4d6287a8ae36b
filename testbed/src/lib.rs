//! A Kubernetes API server and an Anchore Enterprise to run the agent against, without a cluster.
