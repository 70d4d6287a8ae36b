//! What a report leaves out because Anchore would refuse it, counted by kind.
//!
//! What the configuration leaves out (selectors, pods that do not run, dropped tags) is not an omission and is never
//! counted.

/// How many objects of each kind were left out of all reports of one cycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Omissions {
    /// Namespaces without a uid, with one that is no UUID, or with that of another namespace.
    pub namespaces_without_uid: usize,
    /// Nodes, likewise.
    pub nodes_without_uid: usize,
    /// Pods, likewise, with all their containers.
    pub pods_without_uid: usize,
    /// Pods whose namespace is not reported, with all their containers.
    pub pods_without_namespace: usize,
    /// Containers without an id: they wait, and nothing of theirs runs yet.
    pub containers_without_id: usize,
    /// Containers of which nothing says a valid image reference.
    pub containers_without_image: usize,
    /// Containers with the id of an earlier container of their pod.
    pub containers_repeated: usize,
}

impl Omissions {
    /// Logs all counts in one line; nothing when there are none.
    pub fn log(&self) {
        if *self == Self::default() {
            return;
        }
        tracing::info!(
            namespaces_without_uid = self.namespaces_without_uid,
            nodes_without_uid = self.nodes_without_uid,
            pods_without_uid = self.pods_without_uid,
            pods_without_namespace = self.pods_without_namespace,
            containers_without_id = self.containers_without_id,
            containers_without_image = self.containers_without_image,
            containers_repeated = self.containers_repeated,
            "left out of the report what cannot be reported",
        );
    }
}
