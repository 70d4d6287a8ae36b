//! `ignore-not-running`, `missing-registry-override` and `missing-tag-policy.*`.

/// How a container's image becomes a name, a tag and a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Leave out the containers of pods whose phase is not Running.
    pub ignore_not_running: bool,
    /// Prefixed to references that name no registry; no scheme, no trailing slash.
    pub missing_registry_override: Option<String>,
    /// What becomes of an image that is pinned by digest and has no tag.
    pub missing_tag: MissingTagPolicy,
}

/// What becomes of an image that is pinned by digest and has no tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingTagPolicy {
    /// The hex of the digest becomes the tag.
    Digest,
    /// This text becomes the tag.
    Insert(String),
    /// The container is left out.
    Drop,
}
