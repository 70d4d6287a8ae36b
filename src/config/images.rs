//! `ignore-not-running`, `missing-registry-override` and `missing-tag-policy.*`.

use regex::Regex;

use super::key::{Boolean, Choice, Key, Section, Text};
use super::reader::Reader;

const IGNORE_NOT_RUNNING: Key<Boolean> = Key::new(
    "ignore-not-running",
    Boolean { default: true },
    "Leave out the containers of pods whose phase is not Running. The pods themselves stay in the report.",
);

const REGISTRY_OVERRIDE: Key<Text> = Key::new(
    "missing-registry-override",
    Text::UNSET,
    "Registry that is put before image references that name none, such as `registry.example.com:5000`. No scheme; \
     trailing slashes are cut.",
);

const POLICY: Key<Choice<Policy>> = Key::new(
    "missing-tag-policy.policy",
    Choice {
        default: ("digest", Policy::Digest),
        words: &[
            ("digest", Policy::Digest),
            ("insert", Policy::Insert),
            ("dummy", Policy::Insert),
            ("drop", Policy::Drop),
        ],
    },
    "What becomes of an image that is pinned by digest and has no tag: `digest` uses the digest's hex digits as the \
     tag, `insert` (or `dummy`) the one given below, `drop` leaves the container out. An image with neither tag nor \
     digest is `:latest`, whatever the policy.",
);

const TAG: Key<Text> =
    Key::new("missing-tag-policy.tag", Text { default: "UNKNOWN", secret: false }, "The tag of the policy `insert`.");

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

#[derive(Clone, Copy)]
enum Policy {
    Digest,
    Insert,
    Drop,
}

/// A registry's host and port, and perhaps path components, by the grammar of OCI references.
const REGISTRY: &str = concat!(
    r"^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$"
);

/// A tag, by the grammar of OCI references.
const VALID_TAG: &str = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";

pub(super) fn section() -> Section {
    Section {
        title: "Images",
        intro: "",
        rows: vec![IGNORE_NOT_RUNNING.into(), REGISTRY_OVERRIDE.into(), POLICY.into(), TAG.into()],
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> ImagesConfig {
    ImagesConfig {
        ignore_not_running: reader.boolean(&IGNORE_NOT_RUNNING),
        missing_registry_override: read_registry(reader),
        missing_tag: read_policy(reader),
    }
}

fn read_registry(reader: &mut Reader<'_>) -> Option<String> {
    let registry = reader.text(&REGISTRY_OVERRIDE)?;
    let registry = registry.trim().trim_end_matches('/');
    if registry.contains("://") {
        reader.error(
            &REGISTRY_OVERRIDE,
            "must not hold a scheme",
            "Write the host alone, such as registry.example.com",
        );
    } else if !registry.is_empty() && !matches(REGISTRY, registry) {
        let advice = "Write a host, perhaps with a port and a path in lower case";
        reader.error(&REGISTRY_OVERRIDE, "cannot begin an image reference", advice);
    }
    (!registry.is_empty()).then(|| registry.to_owned())
}

fn read_policy(reader: &mut Reader<'_>) -> MissingTagPolicy {
    let policy = reader.choice(&POLICY);
    let tag = reader.text(&TAG).unwrap_or_default();
    match policy {
        Policy::Digest => MissingTagPolicy::Digest,
        Policy::Drop => MissingTagPolicy::Drop,
        Policy::Insert => {
            if !matches(VALID_TAG, &tag) {
                let advice = "Use up to 128 letters, digits and the characters _ . - and begin with none of . -";
                reader.error(&TAG, "is not a valid tag", advice);
            }
            MissingTagPolicy::Insert(tag)
        }
    }
}

fn matches(grammar: &str, text: &str) -> bool {
    Regex::new(grammar).is_ok_and(|grammar| grammar.is_match(text))
}
