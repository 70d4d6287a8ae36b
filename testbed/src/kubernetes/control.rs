//! How a test changes the cluster and disturbs its watches.

use std::sync::Arc;

use http::StatusCode;
use k8s_pb::api::core::v1 as core;
use prost::Message;
use uuid::Uuid;

use super::lease::Lease;
use super::status::Failure;
use super::{ExpiredWatch, KubernetesApi};
use crate::cluster::namespace::Namespace;
use crate::cluster::node::Node;
use crate::cluster::pod::Pod;
use crate::cluster::workload::Workload;
use crate::objects::{Kind, Object, Objects};
use crate::server::lock;

/// What is in the cluster.
impl KubernetesApi {
    /// Makes an object, or changes the one of its name, and gives back the resource version of that. Each call is a change
    /// of which watches hear, also when the object stays the same.
    pub fn apply(&self, kind: Kind, object: &Object) -> u64 {
        lock(&self.service.state).apply(kind, object)
    }

    /// Makes or changes a pod of this namespace, which need not be there. Like a pod of a
    /// [`Cluster`](crate::cluster::Cluster) it is bound to the node that it names, else, unless it is pending, to the first.
    pub fn apply_pod(&self, namespace: &str, pod: &Pod) -> u64 {
        let mut state = lock(&self.service.state);
        let node = state.objects.of(Kind::Nodes).first().map(|node| node.name.clone());
        state.apply(Kind::Pods, &Object::new(namespace, pod.name(), &pod.message(namespace, node.as_deref())))
    }

    /// Deletes the `at`th pod, counted on from the first after the last, and makes one like it of another name and uid, as
    /// a controller does. Nothing happens when there is none.
    pub fn replace_pod(&self, at: usize) {
        let mut state = lock(&self.service.state);
        let pods = state.objects.of(Kind::Pods);
        let Some(old) = at.checked_rem(pods.len()).and_then(|at| pods.get(at)).cloned() else { return };
        state.delete(Kind::Pods, &old.namespace, &old.name);
        let Ok(mut pod) = core::Pod::decode(old.to_bytes()) else { return };
        let uid = Uuid::new_v4().to_string();
        let name = format!("{}-{}", old.name.rsplit_once('-').map_or(&*old.name, |(name, _)| name), &uid[..5]);
        let meta = pod.metadata.get_or_insert_default();
        (meta.name, meta.uid) = (Some(name.clone()), Some(uid));
        state.apply(Kind::Pods, &Object::new(&old.namespace, &name, &pod));
    }

    /// Makes or changes a namespace.
    pub fn apply_namespace(&self, namespace: impl Into<Namespace>) -> u64 {
        let namespace = namespace.into();
        self.apply(Kind::Namespaces, &Object::new("", namespace.name(), &namespace.message()))
    }

    /// Makes or changes a node.
    pub fn apply_node(&self, node: impl Into<Node>) -> u64 {
        let node = node.into();
        self.apply(Kind::Nodes, &Object::new("", node.name(), &node.message()))
    }

    /// Makes or changes a workload of this namespace.
    pub fn apply_workload(&self, namespace: &str, workload: &Workload) -> u64 {
        self.apply(workload.kind(), &workload.object(namespace))
    }

    /// Deletes an object (and nothing that is in it), and gives back the resource version of that; `None` when there is
    /// none. `namespace` is empty for objects of the cluster itself.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Option<u64> {
        lock(&self.service.state).delete(kind, namespace, name)
    }

    /// Serves other objects from now on. Watches hear of each difference.
    pub fn replace(&self, objects: impl Into<Arc<Objects>>) {
        lock(&self.service.state).replace(objects.into());
    }

    /// What a lease says; `None` when there is none.
    pub fn lease(&self, namespace: &str, name: &str) -> Option<Lease> {
        lock(&self.service.state).leases.lease(namespace, name)
    }

    /// Makes or changes a lease, whatever it says.
    pub fn put_lease(&self, namespace: &str, name: &str, lease: &Lease) {
        let mut state = lock(&self.service.state);
        let version = state.advance();
        state.leases.put(namespace, name, lease, version);
    }

    /// Deletes a lease; `false` when there is none.
    pub fn delete_lease(&self, namespace: &str, name: &str) -> bool {
        lock(&self.service.state).leases.remove(namespace, name)
    }

    /// The present resource version.
    pub fn resource_version(&self) -> u64 {
        lock(&self.service.state).resource_version
    }

    /// Goes on counting from here and forgets all that has changed, as after etcd was restored from a backup. Objects stay:
    /// [`replace`](Self::replace) them before, and [`reset_watches`](Self::reset_watches) afterwards, to play all of it.
    /// As on a real server, a watch that begins with a higher resource version hears nothing until that is reached.
    pub fn set_resource_version(&self, version: u64) {
        lock(&self.service.state).restore(version);
    }

    /// Forgets what has changed, so that watches from before now are answered as [`ExpiredWatch`] says. Open ones go on.
    pub fn compact(&self) {
        lock(&self.service.state).compact();
    }

    /// Answers watches from before what is remembered in this way from now on.
    pub fn set_expired_watch(&self, answer: ExpiredWatch) {
        lock(&self.service.state).expired_watch = answer;
    }

    /// Lets all continue tokens given so far expire, as compaction does.
    pub fn expire_continue_tokens(&self) {
        let mut state = lock(&self.service.state);
        state.oldest_token = state.advance();
    }
}

/// Its watches.
impl KubernetesApi {
    /// Waits until something holds, which is looked at anew with each request, answer and watch that begins or ends.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let (mut requests, mut watches) = (self.server.log.subscribe(), self.service.watches_changed.subscribe());
        while !holds(self) {
            // Neither fails while the server is there.
            tokio::select! {
                _ = requests.changed() => {}
                _ = watches.changed() => {}
            }
        }
    }

    /// How many watches of a kind are open: begun, not ended by the server, and not noticed to be left by their clients.
    pub fn watch_count(&self, kind: Kind) -> usize {
        lock(&self.service.state).watch_count(kind)
    }

    /// Waits until exactly so many watches of a kind are open.
    pub async fn wait_for_watches(&self, kind: Kind, count: usize) {
        self.wait_until(|api| api.watch_count(kind) == count).await;
    }

    /// Sends a bookmark on all open watches whose clients want any.
    pub fn bookmark(&self) {
        lock(&self.service.state).bookmark(|_| true);
    }

    /// Ends all open watches as their time-out does, once what they were told is written.
    pub fn close_watches(&self) {
        let ended_below = lock(&self.service.state).unsubscribe_all();
        self.service.control.send_modify(|control| control.ended_below = ended_below);
        self.service.watches_changed.send_replace(());
    }

    /// Resets the connections of all open watches.
    pub fn reset_watches(&self) {
        let reset_below = lock(&self.service.state).unsubscribe_all();
        self.service.control.send_modify(|control| control.reset_below = reset_below);
        self.service.watches_changed.send_replace(());
    }

    /// With `true`, writes nothing more on any watch, open or begun later, and leaves their connections open, as a network
    /// that swallows everything does. With `false`, goes on with what was held back.
    pub fn hold_watches(&self, held: bool) {
        self.service.control.send_modify(|control| control.held = held);
    }

    /// Sends an `ERROR` event with this status on all open watches, and ends them.
    pub fn send_watch_error(&self, code: u16, reason: &'static str, message: &str) {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        lock(&self.service.state).fail_watches(&Failure::new(code, reason, message));
        self.service.watches_changed.send_replace(());
    }

    /// Lets the next change of a kind happen without any watch ever hearing of it. Lists show it.
    pub fn lose_next_event(&self, kind: Kind) {
        lock(&self.service.state).lose_next(kind);
    }
}
