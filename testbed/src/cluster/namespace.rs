//! Namespaces.

use k8s_pb::api::core::v1 as core;

use super::{identity, message};

/// A namespace.
#[derive(Debug, Clone)]
#[must_use]
pub struct Namespace {
    pub(super) name: String,
    uid: Option<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
}

impl Namespace {
    /// An active namespace.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), uid: None, labels: Vec::new(), annotations: Vec::new() }
    }

    /// With this uid instead of the one that follows from its name.
    pub fn uid(self, uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..self }
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn message(&self) -> core::Namespace {
        let uid = self.uid.clone().unwrap_or_else(|| identity::uid("namespaces", "", &self.name));
        let mut meta = message::meta("", &self.name, &uid);
        meta.labels = message::metadata(&self.labels);
        // The API server sets this one on every namespace.
        meta.labels.insert("kubernetes.io/metadata.name".to_owned(), self.name.clone());
        meta.annotations = message::metadata(&self.annotations);
        core::Namespace {
            metadata: Some(meta),
            spec: Some(core::NamespaceSpec { finalizers: vec!["kubernetes".to_owned()] }),
            status: Some(core::NamespaceStatus { phase: message::text("Active"), conditions: Vec::new() }),
        }
    }
}

impl From<&str> for Namespace {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}
