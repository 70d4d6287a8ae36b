//! The built program, run as a user runs it, against a Kubernetes API and an Anchore Enterprise over real sockets.
//!
//! `agent` and `scene`: how a test starts the program, and what it runs against. `reporting`: what arrives where in a run
//! in which nothing fails. `collecting`, `broken_answers`, `odd_objects`: reading the cluster, and all that can go wrong
//! with it. `access`, `credentials`, `kubeconfig`: as whom, with which rights, which cluster. `delivery`: what Anchore
//! Enterprise answers. `resident`: the agent that stays. `bad_input`: files and names that nobody should have written.
//! `command_line`: output that nobody reads, full disks, signals, secrets.
//!
//! No test waits for time to pass: what a test waits for is an event, and only the program's own waits take time.

#![cfg(test)]

mod access;
mod agent;
mod bad_input;
mod broken_answers;
mod collecting;
mod command_line;
mod credentials;
mod delivery;
mod kubeconfig;
mod odd_objects;
mod reporting;
mod resident;
mod scene;
