//! Image references, `[host[:port]/]path[:tag][@digest]`, by the grammar of the OCI distribution project's reference
//! package and the digests of the OCI image specification.
//!
//! The one parser of references. It refuses whatever the grammar does not produce, and a runtime's bare image ids,
//! which name nothing that could be pulled. It adds nothing: no default registry, no default tag.

use std::fmt;

/// Longest path of a name, without its registry, in characters.
const MAX_PATH: usize = 255;

/// Longest tag in characters.
const MAX_TAG: usize = 128;

/// A parsed reference, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Registry, if any, and path.
    pub name: &'a str,
    /// After the colon.
    pub tag: Option<&'a str>,
    /// After the `@`, as written: it pins the image, but only [`digest_of`] says whether it is a digest we understand.
    pub digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Parses `text`; `None` when its name or its tag breaks the grammar, or when it is a bare image id.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tagged, digest) = split_digest(text);
        let end_of_directories = tagged.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match tagged[end_of_directories..].find(':') {
            Some(colon) => {
                let (name, tag) = tagged.split_at(end_of_directories + colon);
                (name, Some(&tag[1..]))
            }
            None => (tagged, None),
        };
        let valid = is_name(name) && tag.is_none_or(is_tag) && !is_image_id(tagged);
        valid.then_some(Self { name, tag, digest })
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(tag) = self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The digest that `text` holds after its `@`; `None` when there is none, or none that a registry could know.
pub fn digest_of(text: &str) -> Option<&str> {
    split_digest(text).1.filter(|digest| is_digest(digest))
}

/// The hexadecimal part of a digest.
pub fn hex_of(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hex)| hex)
}

/// Whether the first part of `name` is a registry rather than the beginning of a path.
pub fn names_registry(name: &str) -> bool {
    name.split_once('/').is_some_and(|(first, _)| {
        // Upper case is legal in a host and in no path, so such a part cannot be anything else.
        first == "localhost" || first.contains(['.', ':']) || first.contains(|c: char| c.is_ascii_uppercase())
    })
}

/// Whether `text` is a name: an optional host, then path components.
fn is_name(text: &str) -> bool {
    let is_path = |path: &str| path.len() <= MAX_PATH && path.split('/').all(is_path_component);
    is_path(text) || text.split_once('/').is_some_and(|(host, path)| is_host(host) && is_path(path))
}

/// Whether `text` is a tag.
fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= MAX_TAG && text.starts_with(is_word) && text.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

fn split_digest(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((tagged, digest)) => (tagged, Some(digest)),
        None => (text, None),
    }
}

/// Whether `text` is a digest by one of the algorithms that registries use, in the one spelling they accept.
fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| match algorithm {
        "sha256" | "blake3" => is_hex(hex, 64),
        "sha384" => is_hex(hex, 96),
        "sha512" => is_hex(hex, 128),
        _ => false,
    })
}

/// Whether `text` is what runtimes call an image that no registry named: the digest of its configuration, or the hex
/// of that alone.
fn is_image_id(text: &str) -> bool {
    is_digest(text) || is_hex(text, 64)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A domain name, an IPv4 address or a bracketed IPv6 address, with an optional port.
fn is_host(text: &str) -> bool {
    let end_of_address = text.rfind(']').unwrap_or(0);
    let (host, port) = match text[end_of_address..].find(':') {
        Some(colon) => (&text[..end_of_address + colon], &text[end_of_address + colon + 1..]),
        None => (text, "0"),
    };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ipv6) => !ipv6.is_empty() && ipv6.bytes().all(|byte| byte == b':' || byte.is_ascii_hexdigit()),
        None => host.split('.').all(is_domain_label),
    };
    is_port && is_address
}

fn is_domain_label(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(is_alphanumeric)
        && text.ends_with(is_alphanumeric)
        && text.chars().all(|c| is_alphanumeric(c) || c == '-')
}

/// Lower-case letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    text.starts_with(is_alphanumeric)
        && text.ends_with(is_alphanumeric)
        && text.split(is_alphanumeric).all(is_separator)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HEX: &str = "76049887f07a0476dc93efc2d3569b9529bf982b22d29f356092ce206e98765c";

    #[rstest]
    #[case::only_a_name("nginx", "nginx", None)]
    #[case::a_tag("nginx:1.25", "nginx", Some("1.25"))]
    #[case::a_path("library/nginx:1.25-alpine", "library/nginx", Some("1.25-alpine"))]
    #[case::a_registry("registry.k8s.io/pause:3.9", "registry.k8s.io/pause", Some("3.9"))]
    #[case::a_registry_in_capitals("Registry.Example/shop/web:4", "Registry.Example/shop/web", Some("4"))]
    #[case::a_port_without_tag("localhost:5000/shop/web", "localhost:5000/shop/web", None)]
    #[case::a_port_and_a_tag("10.0.0.1:5000/web:v1", "10.0.0.1:5000/web", Some("v1"))]
    #[case::ipv6("[2001:db8::1]:5000/web:v1", "[2001:db8::1]:5000/web", Some("v1"))]
    #[case::separators("a.b/c_d/e__f/g---h:_x", "a.b/c_d/e__f/g---h", Some("_x"))]
    #[case::an_underscore_is_no_host("my_team/web", "my_team/web", None)]
    #[case::a_hash_as_tag(
        "web:0123456789abcdef0123456789abcdef01234567",
        "web",
        Some("0123456789abcdef0123456789abcdef01234567")
    )]
    fn name_and_tag_are_told_apart(#[case] text: &str, #[case] name: &str, #[case] tag: Option<&str>) {
        assert_eq!(Reference::parse(text), Some(Reference { name, tag, digest: None }));
    }

    #[rstest]
    fn whatever_follows_the_at_sign_is_the_digest_as_written(
        #[values("sha256:76049887f07a0476dc93efc2d3569b9529bf982b22d29f356092ce206e98765c", "sha256:short", "")]
        digest: &str,
    ) {
        let text = format!("quay.io/shop/web:4@{digest}");
        let expected = Reference { name: "quay.io/shop/web", tag: Some("4"), digest: Some(digest) };
        assert_eq!(Reference::parse(&text), Some(expected));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::only_a_tag(":1")]
    #[case::trailing_colon("nginx:")]
    #[case::two_colons("nginx:1:2")]
    #[case::capitals_in_the_path("docker.io/Nginx")]
    #[case::capitals_alone("Nginx")]
    #[case::leading_slash("/nginx")]
    #[case::trailing_slash("nginx/")]
    #[case::empty_component("a//b")]
    #[case::scheme("https://registry.example/web")]
    #[case::pullable_prefix("docker-pullable://nginx")]
    #[case::blank(" nginx")]
    #[case::line_end("nginx\n")]
    #[case::separator_first("-web")]
    #[case::separator_last("web.")]
    #[case::mixed_separators("a._b")]
    #[case::three_underscores("a___b")]
    #[case::umlaut("bücher/web")]
    #[case::tag_begins_with_dash("web:-1")]
    #[case::host_without_path("[::1]:5000")]
    #[case::port_without_digits("host:/web")]
    #[case::port_of_letters("host:port/web")]
    #[case::unclosed_bracket("[::1/web")]
    #[case::only_a_digest("@sha256:76049887f07a0476dc93efc2d3569b9529bf982b22d29f356092ce206e98765c")]
    fn what_the_grammar_does_not_produce_is_refused(#[case] text: &str) {
        assert_eq!(Reference::parse(text), None);
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(Reference::parse(&format!("registry.example/{}", "a".repeat(255))).is_some());
        assert_eq!(Reference::parse(&"a".repeat(256)), None);
        assert!(Reference::parse(&format!("web:{}", "1".repeat(128))).is_some());
        assert_eq!(Reference::parse(&format!("web:{}", "1".repeat(129))), None);
    }

    #[test]
    fn bare_image_ids_name_nothing() {
        assert_eq!(Reference::parse(HEX), None);
        assert_eq!(Reference::parse(&format!("sha256:{HEX}")), None);
        assert_eq!(Reference::parse(&format!("sha512:{HEX}{HEX}")), None);
        assert!(Reference::parse(&format!("sha256:{}", &HEX[1..])).is_some(), "an image that is called sha256");
    }

    #[test]
    fn only_registered_digests_after_an_at_sign_count() {
        let digest = format!("sha256:{HEX}");
        for text in [format!("docker-pullable://nginx@{digest}"), format!("docker.io/library/nginx:1@{digest}")] {
            assert_eq!(digest_of(&text), Some(digest.as_str()));
        }
        let capitals = format!("nginx@sha256:{}", HEX.to_uppercase());
        for text in [&digest, HEX, "", "nginx", "nginx@sha256:short", "nginx@md5:0123", &capitals] {
            assert_eq!(digest_of(text), None, "{text}");
        }
        assert_eq!(hex_of(&digest), HEX);
    }

    #[rstest]
    #[case("nginx", false)]
    #[case("team/app", false)]
    #[case("org/team/app", false)]
    #[case("docker.io/library/nginx", true)]
    #[case("host:5000/app", true)]
    #[case("localhost/app", true)]
    #[case("localhost", false)]
    #[case("Registry/app", true)]
    fn a_registry_is_recognised_by_its_dot_port_or_name(#[case] name: &str, #[case] expected: bool) {
        assert_eq!(names_registry(name), expected);
    }

    /// References by construction, from the grammar's own productions.
    fn reference_text() -> impl Strategy<Value = String> {
        let domain = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?(\\.[a-z0-9]{1,4}){0,2}(:[0-9]{1,5})?/";
        let ipv6 = "\\[[0-9a-f:]{2,8}\\](:[0-9]{1,5})?/";
        (
            proptest::option::of(prop_oneof![domain, ipv6]),
            "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,3}",
            proptest::option::of(":[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}"),
            proptest::option::of("@sha256:[0-9a-f]{64}"),
        )
            .prop_map(|(host, path, tag, digest)| {
                [host.unwrap_or_default(), path, tag.unwrap_or_default(), digest.unwrap_or_default()].concat()
            })
    }

    proptest! {
        #[test]
        fn every_reference_of_the_grammar_is_read_and_written_back(text in reference_text()) {
            let reference = Reference::parse(&text).expect("built from the grammar");
            prop_assert_eq!(reference.to_string(), text);
        }

        #[test]
        fn no_text_panics_and_what_parses_is_written_back(text in ".{0,40}|[a-zA-Z0-9@:/._\\[\\]-]{0,40}") {
            if let Some(reference) = Reference::parse(&text) {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
