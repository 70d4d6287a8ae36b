//! What owns an object: an entry of its `ownerReferences`.

use k8s_pb::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::message::text;

/// An owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

impl Owner {
    /// The controller of an object, of a kind such as `ReplicaSet`; of the group `apps` unless said otherwise.
    pub fn controller(kind: &str, name: &str, uid: &str) -> Self {
        let (kind, name, uid) = (kind.to_owned(), name.to_owned(), uid.to_owned());
        Self { api_version: "apps/v1".to_owned(), kind, name, uid, controller: true }
    }

    /// Of this API version.
    pub fn api_version(self, api_version: &str) -> Self {
        Self { api_version: api_version.to_owned(), ..self }
    }

    /// It owns without being the controller.
    pub fn without_control(self) -> Self {
        Self { controller: false, ..self }
    }

    pub(super) fn message(&self) -> OwnerReference {
        OwnerReference {
            api_version: text(&self.api_version),
            kind: text(&self.kind),
            name: text(&self.name),
            uid: text(&self.uid),
            controller: Some(self.controller),
            block_owner_deletion: Some(true),
        }
    }
}
