//! Addresses under the base of `anchore.url`, and which redirects of them are followed.

use http::StatusCode;
use url::Url;

/// `GET`: the versions of the service and its API.
pub(crate) const VERSION: &str = "/version";

/// Which path takes reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiGeneration {
    /// Enterprise 4.9 and newer.
    V2,
    /// Enterprise 4.8 and 4.9.
    V1,
}

impl ApiGeneration {
    /// The path that takes reports.
    pub(crate) fn inventory_path(self) -> &'static str {
        match self {
            Self::V2 => "/v2/kubernetes-inventory",
            Self::V1 => "/v1/enterprise/kubernetes-inventory",
        }
    }

    /// The one it is not.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::V2 => Self::V1,
            Self::V1 => Self::V2,
        }
    }
}

/// The address of `path`, which starts with a slash, below `base`: the base's own path is kept, whether or not it ends
/// with slashes.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// Where a redirect of a request to `from` leads, if it may be followed with the same body and credentials: 307 and 308
/// (which keep method and body, RFC 9110 §15.4), to the same host, not from https to http. The port may change only
/// together with the step from http to https.
pub(crate) fn follow(from: &Url, status: StatusCode, location: Option<&Url>) -> Option<Url> {
    let to = location?;
    let keeps_body = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let same_host = to.host().is_some() && to.host() == from.host();
    let same_port = to.port_or_known_default() == from.port_or_known_default();
    let may_follow = match (from.scheme(), to.scheme()) {
        ("http", "https") => true,
        (one, other) => one == other && same_port,
    };
    (keeps_body && same_host && may_follow).then(|| to.clone())
}

/// An address as it may be printed: without user info, query and fragment, which may hold secrets.
pub(crate) fn printable(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for addresses that cannot hold user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[rstest]
    #[case("http://h:8228", "http://h:8228/v2/kubernetes-inventory", "http://h:8228/version")]
    #[case("http://h:8228/", "http://h:8228/v2/kubernetes-inventory", "http://h:8228/version")]
    #[case("http://h/anchore", "http://h/anchore/v2/kubernetes-inventory", "http://h/anchore/version")]
    #[case("http://h/anchore/", "http://h/anchore/v2/kubernetes-inventory", "http://h/anchore/version")]
    #[case("http://h/a/b//?q=1#f", "http://h/a/b/v2/kubernetes-inventory", "http://h/a/b/version")]
    fn the_path_of_the_base_is_kept(#[case] base: &str, #[case] inventory: &str, #[case] version: &str) {
        assert_eq!(below(&url(base), ApiGeneration::V2.inventory_path()).as_str(), inventory);
        assert_eq!(below(&url(base), VERSION).as_str(), version);
    }

    #[rstest]
    #[case("http://h/a", 307, "http://h/b")]
    #[case("http://h/a", 308, "https://h/a")]
    #[case("http://h:8228/a", 308, "https://h:8443/a")]
    #[case("https://h/a", 308, "https://h:443/b")]
    fn redirects_within_a_host_are_followed(#[case] from: &str, #[case] status: u16, #[case] to: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(follow(&url(from), status, Some(&url(to))), Some(url(to)));
    }

    #[rstest]
    #[case("http://h/a", 301, "http://h/b")]
    #[case("http://h/a", 302, "http://h/b")]
    #[case("http://h/a", 303, "http://h/b")]
    #[case("http://h/a", 307, "http://other/a")]
    #[case("http://h/a", 307, "http://h:81/a")]
    #[case("https://h/a", 308, "http://h/a")]
    #[case("https://h/a", 308, "mailto:h")]
    fn other_redirects_are_not_followed(#[case] from: &str, #[case] status: u16, #[case] to: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(follow(&url(from), status, Some(&url(to))), None);
        assert_eq!(follow(&url(from), status, None), None);
    }

    #[test]
    fn a_printed_address_holds_no_secrets() {
        assert_eq!(printable(&url("https://me:pw@h:8228/login?token=t#f")), "https://h:8228/login");
        assert_eq!(printable(&url("mailto:me@h")), "mailto:me@h");
    }
}
