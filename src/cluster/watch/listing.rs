//! Takes the lists of pods and namespaces into the store.

use std::num::NonZeroU64;

use super::Shared;
use super::store::ListMark;
use crate::cluster::list::{Intake, Mark, version};
use crate::cluster::request::RequestError;
use crate::cluster::wire::{self, ListMeta};

/// What the lists of both kinds have in common.
pub(super) struct StoreIntake<'a> {
    shared: &'a Shared,
    namespace: Option<&'a str>,
    mark: ListMark,
    /// A list of an older version does not count.
    floor: Option<NonZeroU64>,
    is_reset: bool,
    taken: usize,
    /// Namespace, name and reason of each object that does not decode.
    undecodable: Vec<(String, String, String)>,
}

/// Takes pods.
pub(super) struct PodIntake<'a>(pub(super) StoreIntake<'a>);

/// Takes namespaces.
pub(super) struct NamespaceIntake<'a>(pub(super) StoreIntake<'a>);

impl Intake for PodIntake<'_> {
    type Object = wire::Pod;

    fn starts(&mut self, metadata: &ListMeta) -> Result<(), RequestError> {
        self.0.check(metadata)
    }

    fn take(&mut self, object: wire::Pod) {
        self.0.taken += 1;
        self.0.shared.progress.pod();
        self.0.shared.store().list_pod(object, self.0.mark);
    }

    fn undecodable(&mut self, namespace: &str, name: &str, reason: String) -> Result<(), RequestError> {
        if namespace.is_empty() {
            return Err(RequestError::Malformed(reason));
        }
        self.0.taken += 1;
        self.0.undecodable.push((namespace.to_owned(), name.to_owned(), reason));
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark { objects: self.0.taken, undecodable: self.0.undecodable.len() }
    }

    fn take_back(&mut self, mark: Mark) {
        self.0.take_back(mark);
    }
}

impl Intake for NamespaceIntake<'_> {
    type Object = wire::Namespace;

    fn starts(&mut self, metadata: &ListMeta) -> Result<(), RequestError> {
        self.0.check(metadata)
    }

    fn take(&mut self, object: wire::Namespace) {
        self.0.taken += 1;
        self.0.shared.store().namespace_is(&object, Some(self.0.mark));
    }

    fn undecodable(&mut self, _namespace: &str, _name: &str, reason: String) -> Result<(), RequestError> {
        Err(RequestError::Malformed(reason))
    }

    fn mark(&self) -> Mark {
        Mark { objects: self.0.taken, undecodable: 0 }
    }

    fn take_back(&mut self, mark: Mark) {
        self.0.take_back(mark);
    }
}

impl<'a> StoreIntake<'a> {
    /// For a list of `namespace`, or of the cluster. With `is_reset` it counts whatever version it is of.
    pub(super) fn new(
        shared: &'a Shared,
        namespace: Option<&'a str>,
        floor: Option<NonZeroU64>,
        is_reset: bool,
    ) -> Self {
        let mark = shared.store().begin_list(is_reset);
        Self {
            shared,
            namespace,
            mark,
            floor: floor.filter(|_| !is_reset),
            is_reset,
            taken: 0,
            undecodable: Vec::new(),
        }
    }

    fn check(&self, metadata: &ListMeta) -> Result<(), RequestError> {
        match (version(&metadata.resource_version), self.floor) {
            (Some(told), Some(floor)) if told < floor => Err(RequestError::Outdated),
            _ => Ok(()),
        }
    }

    /// Objects that a broken attempt gave are not taken back, because they are there: the next attempt only decides anew
    /// which are not.
    fn take_back(&mut self, mark: Mark) {
        self.undecodable.truncate(mark.undecodable);
        self.taken = mark.objects;
        if mark.objects == 0 {
            self.mark = self.shared.store().begin_list(self.is_reset);
        }
    }

    /// The list of pods, of this version, is complete.
    pub(super) fn finish_pods(&mut self, version: Option<NonZeroU64>) {
        let mut store = self.shared.store();
        store.forget_undecodable(self.namespace);
        for (namespace, name, reason) in self.undecodable.drain(..) {
            store.pod_is_undecodable(&namespace, &name, reason);
        }
        store.end_pods(self.mark, self.namespace, version);
    }

    /// The list of namespaces, of this version, is complete.
    pub(super) fn finish_namespaces(&mut self, version: Option<NonZeroU64>) {
        self.shared.store().end_namespaces(self.mark, version);
    }
}
