//! What pods belong to: replica sets, and the deployments of those.

use k8s_pb::api::apps::v1 as apps;

use super::owner::Owner;
use super::{identity, message};
use crate::objects::{Kind, Object};

/// A workload of the group `apps`, with one replica.
#[derive(Debug, Clone)]
#[must_use]
pub struct Workload {
    kind: Kind,
    name: String,
    uid: Option<String>,
    replicas: i32,
    owners: Vec<Owner>,
}

impl Workload {
    /// A deployment.
    pub fn deployment(name: &str) -> Self {
        Self { kind: Kind::Deployments, name: name.to_owned(), uid: None, replicas: 1, owners: Vec::new() }
    }

    /// A replica set.
    pub fn replica_set(name: &str) -> Self {
        Self { kind: Kind::ReplicaSets, ..Self::deployment(name) }
    }

    /// With this uid instead of the one that follows from its names.
    pub fn uid(self, uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..self }
    }

    /// With so many replicas wanted.
    pub fn replicas(self, replicas: i32) -> Self {
        Self { replicas, ..self }
    }

    /// Owned by this, and by what was said before.
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owners.push(owner);
        self
    }

    /// How an object of the same namespace names it as its controller.
    pub fn as_controller(&self, namespace: &str) -> Owner {
        Owner::controller(self.kind.singular(), &self.name, &self.usual_uid(namespace))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn object(&self, namespace: &str) -> Object {
        let mut meta = message::meta(namespace, &self.name, &self.usual_uid(namespace));
        meta.generation = Some(1);
        meta.owner_references = self.owners.iter().map(Owner::message).collect();
        let (metadata, replicas) = (Some(meta), Some(self.replicas));
        if self.kind == Kind::Deployments {
            let spec = Some(apps::DeploymentSpec { replicas, ..apps::DeploymentSpec::default() });
            Object::new(namespace, &self.name, &apps::Deployment { metadata, spec, status: None })
        } else {
            let spec = Some(apps::ReplicaSetSpec { replicas, ..apps::ReplicaSetSpec::default() });
            Object::new(namespace, &self.name, &apps::ReplicaSet { metadata, spec, status: None })
        }
    }

    fn usual_uid(&self, namespace: &str) -> String {
        self.uid.clone().unwrap_or_else(|| identity::uid(self.kind.resource(), namespace, &self.name))
    }
}
