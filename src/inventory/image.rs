//! From what a pod's spec and status say of an image to the name, tag and digest that are reported.
//!
//! A result is always a valid reference with a tag. Where none can be made, the image is unnamed: nothing is guessed,
//! and a runtime's own image id never passes for a digest that a registry would know.

use super::reference::{Reference, digest_of, hex_of, names_registry};
use crate::cluster::snapshot::ImageFacts;
use crate::cluster::strings::Texts;
use crate::config::images::{ImagesConfig, MissingTagPolicy};

/// What container runtimes pull when an image names neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// What spec and status say of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageTexts<'a> {
    /// `image` in the spec; `None` when the spec has no such container.
    pub spec: Option<&'a str>,
    /// `image` in the status; may be empty.
    pub status: &'a str,
    /// `imageID` in the status; may be empty.
    pub image_id: &'a str,
}

/// What became of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOutcome {
    /// It has a name and a tag.
    Named(Image),
    /// It is pinned by digest, has no tag, and the policy is to leave such images out.
    Dropped,
    /// Nothing that was said of it is a reference.
    Unnamed,
}

/// An image as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name and tag.
    pub tag: Box<str>,
    /// Its digest in a registry; empty when unknown.
    pub digest: Box<str>,
    /// Length of the name within `tag`.
    name_len: usize,
    /// Whether the missing-tag policy made the tag.
    tag_is_made: bool,
}

impl<'a> ImageTexts<'a> {
    /// The texts behind `facts`.
    pub fn of(facts: &ImageFacts, strings: &'a Texts) -> Self {
        Self {
            spec: facts.spec.map(|spec| strings.get(spec)),
            status: strings.get(facts.status),
            image_id: strings.get(facts.image_id),
        }
    }

    /// What is said of an image that only a spec names.
    pub fn of_spec(spec: &'a str) -> Self {
        Self { spec: Some(spec), status: "", image_id: "" }
    }

    /// Finds name, tag and digest.
    pub fn resolve(self, config: &ImagesConfig) -> ImageOutcome {
        let Some(reference) = Reference::parse(self.spec.unwrap_or(self.status)) else {
            return ImageOutcome::Unnamed;
        };
        let digest = digest_of(self.image_id).or_else(|| digest_of(self.status)).or_else(|| digest_of(self.spec?));
        let pinned_only = reference.tag.is_none() && reference.digest.is_some();
        let tag = match &config.missing_tag {
            _ if !pinned_only => Some(reference.tag.unwrap_or(DEFAULT_TAG)),
            MissingTagPolicy::Digest => digest.map(hex_of),
            MissingTagPolicy::Insert(tag) => Some(tag.as_str()),
            MissingTagPolicy::Drop => return ImageOutcome::Dropped,
        };
        let name = with_registry(reference.name, config);
        match tag.and_then(|tag| join(&name, tag)) {
            Some(tag) => ImageOutcome::Named(Image {
                tag: tag.into(),
                digest: digest.unwrap_or_default().into(),
                name_len: name.len(),
                tag_is_made: pinned_only,
            }),
            None => ImageOutcome::Unnamed,
        }
    }
}

impl Image {
    /// What a person would pull, and the digest, which is empty when unknown: the name and its tag, or the name alone
    /// where the tag is made up and the digest known.
    pub fn as_pulled(&self) -> (&str, &str) {
        let is_digest_enough = self.tag_is_made && !self.digest.is_empty();
        (if is_digest_enough { &self.tag[..self.name_len] } else { &self.tag }, &self.digest)
    }
}

/// `name`, below the configured registry when it names none itself.
fn with_registry(name: &str, config: &ImagesConfig) -> String {
    match &config.missing_registry_override {
        Some(registry) if !names_registry(name) => format!("{registry}/{name}"),
        _ => name.to_owned(),
    }
}

/// Name and tag as one reference; `None` when it would not read back as these two, whatever the settings put in.
fn join(name: &str, tag: &str) -> Option<String> {
    let text = format!("{name}:{tag}");
    let reads_back = Reference::parse(&text) == Some(Reference { name, tag: Some(tag), digest: None });
    reads_back.then_some(text)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HEX: &str = "76049887f07a0476dc93efc2d3569b9529bf982b22d29f356092ce206e98765c";
    const OTHER_HEX: &str = "f0a210a37565286ecaaac0529a6749917e8ea58d3dfc72c84acfbfbe1a64a20a";

    #[rstest]
    #[case::docker(format!("docker-pullable://nginx@sha256:{HEX}"))]
    #[case::containerd(format!("docker.io/library/nginx@sha256:{HEX}"))]
    #[case::cri_o(format!("registry.example/mirror/nginx@sha256:{HEX}"))]
    fn the_digest_is_what_follows_the_at_sign_of_the_image_id(#[case] image_id: String) {
        let texts =
            ImageTexts { spec: Some("nginx:1.25"), status: "docker.io/library/nginx:1.25", image_id: &image_id };
        assert_eq!(texts.resolve(&defaults()), named("nginx:1.25", Some(HEX)));
    }

    #[rstest]
    #[case::kind_loaded(format!("sha256:{HEX}"))]
    #[case::cri_o_bare(HEX.to_owned())]
    #[case::docker_local(format!("docker://sha256:{HEX}"))]
    fn d1_bare_image_id_is_never_a_digest(#[case] image_id: String) {
        let texts = ImageTexts { spec: Some("quay.io/a/b"), status: "", image_id: &image_id };
        assert_eq!(texts.resolve(&defaults()), named("quay.io/a/b:latest", None));
    }

    #[test]
    fn d1_digest_falls_back_to_status_then_spec() {
        let bare = format!("sha256:{HEX}");
        let spec = format!("python@sha256:{HEX}");
        let status = format!("docker.io/library/python@sha256:{OTHER_HEX}");
        let from_status = ImageTexts { spec: Some(&spec), status: &status, image_id: &bare };
        assert_eq!(from_status.resolve(&defaults()), pinned(&format!("python:{OTHER_HEX}"), OTHER_HEX));
        let from_spec = ImageTexts { spec: Some(&spec), status: &bare, image_id: "" };
        assert_eq!(from_spec.resolve(&defaults()), pinned(&format!("python:{HEX}"), HEX));
    }

    #[rstest]
    fn d2_no_tag_and_no_digest_means_latest(
        #[values(MissingTagPolicy::Digest, MissingTagPolicy::Insert("UNKNOWN".into()), MissingTagPolicy::Drop)]
        missing_tag: MissingTagPolicy,
    ) {
        let image_id = format!("docker.io/library/nginx@sha256:{HEX}");
        let texts = ImageTexts { spec: Some("nginx"), status: "docker.io/library/nginx:latest", image_id: &image_id };
        let config = ImagesConfig { missing_tag, ..defaults() };
        assert_eq!(texts.resolve(&config), named("nginx:latest", Some(HEX)));
    }

    #[test]
    fn d3_policy_decides_over_images_pinned_by_digest_alone() {
        let spec = format!("quay.io/a/python@sha256:{HEX}");
        let texts = ImageTexts::of_spec(&spec);
        let with = |missing_tag| texts.resolve(&ImagesConfig { missing_tag, ..defaults() });
        assert_eq!(with(MissingTagPolicy::Digest), pinned(&format!("quay.io/a/python:{HEX}"), HEX));
        assert_eq!(with(MissingTagPolicy::Insert("UNKNOWN".into())), pinned("quay.io/a/python:UNKNOWN", HEX));
        assert_eq!(with(MissingTagPolicy::Drop), ImageOutcome::Dropped);
    }

    #[test]
    fn the_made_tag_is_the_hex_of_the_reported_digest() {
        let spec = format!("python@sha256:{HEX}");
        let image_id = format!("docker.io/library/python@sha256:{OTHER_HEX}");
        let texts = ImageTexts { spec: Some(&spec), status: "", image_id: &image_id };
        assert_eq!(texts.resolve(&defaults()), pinned(&format!("python:{OTHER_HEX}"), OTHER_HEX));
    }

    #[test]
    fn a_tag_is_kept_and_the_digest_beside_it_is_cut() {
        let spec = format!("quay.io/a/b:1.2@sha256:{HEX}");
        assert_eq!(ImageTexts::of_spec(&spec).resolve(&defaults()), named("quay.io/a/b:1.2", Some(HEX)));
    }

    #[test]
    fn a_pin_that_is_no_digest_leaves_the_name() {
        let image_id = format!("docker.io/library/python@sha256:{HEX}");
        let texts = ImageTexts { spec: Some("python@sha256:short"), status: "", image_id: &image_id };
        assert_eq!(texts.resolve(&defaults()), pinned(&format!("python:{HEX}"), HEX));
        assert_eq!(ImageTexts::of_spec("python@sha256:short").resolve(&defaults()), ImageOutcome::Unnamed);
    }

    #[test]
    fn the_name_comes_from_the_status_only_without_a_spec() {
        let image_id = format!("docker.io/library/busybox@sha256:{HEX}");
        let status = "docker.io/library/busybox:1.36";
        let forgotten = ImageTexts { spec: None, status, image_id: &image_id };
        assert_eq!(forgotten.resolve(&defaults()), named(status, Some(HEX)));
        let specified = ImageTexts { spec: Some("busybox:stable"), status, image_id: &image_id };
        assert_eq!(specified.resolve(&defaults()), named("busybox:stable", Some(HEX)));
        let broken = ImageTexts { spec: Some("Busybox:stable"), status, image_id: &image_id };
        assert_eq!(broken.resolve(&defaults()), ImageOutcome::Unnamed);
    }

    #[rstest]
    #[case::empty(String::new())]
    #[case::config_digest(format!("sha256:{HEX}"))]
    #[case::bare_hex(HEX.to_owned())]
    fn a_bare_id_in_the_status_names_nothing(#[case] status: String) {
        let image_id = format!("docker.io/library/busybox@sha256:{HEX}");
        let texts = ImageTexts { spec: None, status: &status, image_id: &image_id };
        assert_eq!(texts.resolve(&defaults()), ImageOutcome::Unnamed);
    }

    #[rstest]
    #[case("nginx:1", "registry.example/mirror/nginx:1")]
    #[case("team/app:1", "registry.example/mirror/team/app:1")]
    #[case::three_parts("org/team/app:1", "registry.example/mirror/org/team/app:1")]
    #[case::localhost("localhost/app:1", "localhost/app:1")]
    #[case::port("host:5000/app:1", "host:5000/app:1")]
    #[case::dot("quay.io/org/team/app:1", "quay.io/org/team/app:1")]
    fn d25_registry_is_added_to_names_without_one_however_many_parts(#[case] spec: &str, #[case] expected: &str) {
        let config =
            ImagesConfig { missing_registry_override: Some("registry.example/mirror".to_owned()), ..defaults() };
        assert_eq!(ImageTexts::of_spec(spec).resolve(&config), named(expected, None));
    }

    #[test]
    fn a_made_tag_that_would_make_a_bare_image_id_names_nothing() {
        let spec = format!("sha256@sha256:{HEX}");
        assert_eq!(ImageTexts::of_spec(&spec).resolve(&defaults()), ImageOutcome::Unnamed);
    }

    #[test]
    fn a_made_tag_is_not_for_pulling() {
        let spec = format!("python@sha256:{HEX}");
        let ImageOutcome::Named(image) = ImageTexts::of_spec(&spec).resolve(&defaults()) else { panic!("named") };
        assert_eq!(image.as_pulled(), ("python", &*format!("sha256:{HEX}")));
    }

    fn defaults() -> ImagesConfig {
        ImagesConfig {
            ignore_not_running: true,
            missing_registry_override: None,
            missing_tag: MissingTagPolicy::Digest,
        }
    }

    fn named(tag: &str, hex: Option<&str>) -> ImageOutcome {
        outcome(tag, hex, false)
    }

    fn pinned(tag: &str, hex: &str) -> ImageOutcome {
        outcome(tag, Some(hex), true)
    }

    fn outcome(tag: &str, hex: Option<&str>, tag_is_made: bool) -> ImageOutcome {
        let digest = hex.map(|hex| format!("sha256:{hex}")).unwrap_or_default();
        let name_len = tag.rfind(':').expect("a tag");
        ImageOutcome::Named(Image { tag: tag.into(), digest: digest.into(), name_len, tag_is_made })
    }

    /// Texts that look like those of runtimes and specs, broken ones among them.
    fn image_text() -> impl Strategy<Value = String> {
        let name =
            "(docker-pullable://|docker://|)([a-zA-Z.]{1,6}(:[0-9]{0,3})?/)?[a-z0-9._/-]{0,8}(:[a-zA-Z0-9._-]{0,6})?";
        let digest = "(@?(sha256|sha512|md5)?:?([0-9a-f]{64}|[0-9a-fA-F]{0,70}))?";
        prop_oneof![4 => (name, digest).prop_map(|(name, digest)| name + &digest), 1 => ".{0,20}"]
    }

    fn any_policy() -> impl Strategy<Value = MissingTagPolicy> {
        prop_oneof![
            Just(MissingTagPolicy::Digest),
            Just(MissingTagPolicy::Drop),
            "[ -~]{0,8}".prop_map(MissingTagPolicy::Insert),
        ]
    }

    proptest! {
        #[test]
        fn any_texts_give_a_valid_reference_or_none(
            spec in proptest::option::of(image_text()),
            status in image_text(),
            image_id in image_text(),
            missing_tag in any_policy(),
            missing_registry_override in proptest::option::of("[a-zA-Z.-]{1,8}(:[0-9]{1,2})?(/[a-z]{0,3})?"),
        ) {
            let config = ImagesConfig { ignore_not_running: true, missing_registry_override, missing_tag };
            let texts = ImageTexts { spec: spec.as_deref(), status: &status, image_id: &image_id };
            if let ImageOutcome::Named(image) = texts.resolve(&config) {
                let reference = Reference::parse(&image.tag).expect("valid");
                prop_assert!(reference.tag.is_some() && reference.digest.is_none(), "{}", image.tag);
                let (pulled, _) = image.as_pulled();
                prop_assert!(Reference::parse(pulled).is_some(), "{pulled}");
                let full = format!("{}@{}", image.tag, image.digest);
                prop_assert_eq!(digest_of(&full).unwrap_or_default(), &*image.digest);
            }
        }
    }
}
