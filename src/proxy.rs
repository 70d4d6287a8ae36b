//! Which proxy a request goes through, decided from settings and environment alone.
//!
//! A setting wins: an address is used for every host, `direct` for none. Without one the variables decide, as they do
//! for Go's programs: `HTTPS_PROXY` for https, `HTTP_PROXY` for http, the lower-case names where the upper-case ones are
//! unset, `NO_PROXY` for the exceptions. `ALL_PROXY` is not read. A variable never sends a loopback host to a proxy.
//!
//! Pure: the environment is an argument and nothing is contacted. An address that cannot be used is an error, never a
//! silent direct connection, and the error does not repeat the address: it may hold a password.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

use crate::config::anchore::ProxySetting;

/// A proxy was named that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin} is not the address of a proxy ({reason}): write it as http://host:port")]
pub struct ProxyError {
    /// The variable or setting that names it.
    pub origin: String,
    /// What is wrong with it, without repeating it.
    pub reason: String,
}

/// The proxy for a request to `target`; `None` is a direct connection. `variables` is the process' environment.
///
/// # Errors
/// The setting or the variable that decides holds something that is not the address of a proxy.
pub fn for_url(
    target: &Url,
    setting: &ProxySetting,
    variables: &BTreeMap<String, String>,
) -> Result<Option<Url>, ProxyError> {
    match setting {
        ProxySetting::Direct => Ok(None),
        ProxySetting::Url(proxy) => {
            usable(proxy).map_err(|reason| ProxyError { origin: "anchore.http.proxy".to_owned(), reason })?;
            Ok(Some(proxy.clone()))
        }
        ProxySetting::Environment => from_variables(target, variables),
    }
}

fn from_variables(target: &Url, variables: &BTreeMap<String, String>) -> Result<Option<Url>, ProxyError> {
    let names = match target.scheme() {
        "https" => ["HTTPS_PROXY", "https_proxy"],
        "http" => ["HTTP_PROXY", "http_proxy"],
        _ => return Ok(None),
    };
    let Some((name, value)) = first_set(variables, names) else { return Ok(None) };
    let Some(host) = target.host() else { return Ok(None) };
    let exceptions = first_set(variables, ["NO_PROXY", "no_proxy"]).map_or("", |(_, value)| value);
    if is_loopback(&host) || is_excepted(&host, target.port_or_known_default(), exceptions) {
        return Ok(None);
    }
    parse_address(value).map(Some).map_err(|reason| ProxyError { origin: name.to_owned(), reason })
}

/// The first of `names` that is set to more than blanks, and its value. An empty variable counts as unset.
fn first_set<'v>(variables: &'v BTreeMap<String, String>, names: [&'static str; 2]) -> Option<(&'static str, &'v str)> {
    names.into_iter().find_map(|name| {
        let value = variables.get(name)?.trim();
        (!value.is_empty()).then_some((name, value))
    })
}

/// Reads an address from a variable; `proxy.example:3128`, without a scheme, means http.
fn parse_address(value: &str) -> Result<Url, String> {
    let parsed = if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
    let proxy = parsed.map_err(|error| error.to_string())?;
    usable(&proxy)?;
    Ok(proxy)
}

fn usable(proxy: &Url) -> Result<(), String> {
    match proxy.scheme() {
        "http" | "https" | "socks5" | "socks5h" if proxy.has_host() => Ok(()),
        "http" | "https" | "socks5" | "socks5h" => Err("it names no host".to_owned()),
        _ => Err("its scheme is none of http, https, socks5 and socks5h".to_owned()),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || ends_with_ignoring_case(name, ".localhost")
        }
    }
}

fn is_excepted(host: &Host<&str>, port: Option<u16>, exceptions: &str) -> bool {
    exceptions
        .split(|separator: char| separator == ',' || separator.is_whitespace())
        .filter(|exception| !exception.is_empty())
        .any(|exception| exception == "*" || matches(exception, host, port))
}

/// Whether one entry of `NO_PROXY` names this host: a network (`10.0.0.0/8`), an address, or a name, the last two with
/// or without a port. A name covers its subdomains; with a leading dot (or `*.`) the subdomains alone.
fn matches(exception: &str, host: &Host<&str>, port: Option<u16>) -> bool {
    if let Ok(network) = exception.parse::<IpNet>() {
        return address_of(host).is_some_and(|address| network.contains(&address));
    }
    let (name, wanted_port) = split_port(exception);
    if wanted_port.is_some() && wanted_port != port {
        return false;
    }
    match (address_of(host), host) {
        (Some(address), _) => name.parse::<IpAddr>().is_ok_and(|wanted| wanted.to_canonical() == address),
        (None, Host::Domain(domain)) => covers(name, domain),
        (None, _) => false,
    }
}

fn address_of(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(address.to_canonical()),
        Host::Domain(_) => None,
    }
}

/// Splits `host:port` and `[address]:port`; a bare IPv6 address has no port.
fn split_port(exception: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = exception.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match exception.split_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (exception, None),
        },
        None => (exception, None),
    }
}

fn covers(exception: &str, domain: &str) -> bool {
    let domain = domain.trim_end_matches('.');
    let exception = exception.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(exception);
    let exception = exception.trim_end_matches('.');
    if exception.starts_with('.') {
        return ends_with_ignoring_case(domain, exception);
    }
    domain.eq_ignore_ascii_case(exception) || ends_with_ignoring_case(domain, &format!(".{exception}"))
}

/// Whether `text` is longer than `suffix` and ends with it, whatever the case of ASCII letters.
fn ends_with_ignoring_case(text: &str, suffix: &str) -> bool {
    let (text, suffix) = (text.as_bytes(), suffix.as_bytes());
    text.len() > suffix.len()
        && text.iter().rev().zip(suffix.iter().rev()).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    const PROXY: &str = "http://proxy.example:3128/";

    fn variables<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn decide(target: &str, variables: &BTreeMap<String, String>) -> Option<String> {
        let target = Url::parse(target).unwrap();
        for_url(&target, &ProxySetting::Environment, variables).unwrap().map(String::from)
    }

    fn is_proxied(target: &str, no_proxy: &str) -> bool {
        decide(target, &variables([("HTTPS_PROXY", PROXY), ("HTTP_PROXY", PROXY), ("NO_PROXY", no_proxy)])).is_some()
    }

    #[test]
    fn each_scheme_has_its_own_variable() {
        let both = variables([("HTTPS_PROXY", "http://secure.example:1"), ("HTTP_PROXY", "http://plain.example:2")]);

        assert_eq!(decide("https://anchore.example", &both).as_deref(), Some("http://secure.example:1/"));
        assert_eq!(decide("http://anchore.example", &both).as_deref(), Some("http://plain.example:2/"));
        assert_eq!(decide("https://anchore.example", &variables([("HTTP_PROXY", PROXY)])), None);
    }

    #[test]
    fn lower_case_names_count_where_the_upper_case_ones_are_unset_or_empty() {
        let lower = variables([("https_proxy", PROXY), ("HTTPS_PROXY", " ")]);
        let both = variables([("https_proxy", "http://other.example:1"), ("HTTPS_PROXY", PROXY)]);

        assert_eq!(decide("https://anchore.example", &lower).as_deref(), Some(PROXY));
        assert_eq!(decide("https://anchore.example", &both).as_deref(), Some(PROXY));
        let excepted = variables([("HTTPS_PROXY", PROXY), ("no_proxy", "anchore.example")]);
        assert_eq!(decide("https://anchore.example", &excepted), None);
    }

    #[test]
    fn all_proxy_is_not_read() {
        assert_eq!(decide("https://anchore.example", &variables([("ALL_PROXY", PROXY), ("all_proxy", PROXY)])), None);
    }

    #[test]
    fn an_address_without_a_scheme_means_http() {
        let proxied = variables([("HTTPS_PROXY", "proxy.example:3128")]);
        assert_eq!(decide("https://anchore.example", &proxied).as_deref(), Some(PROXY));
    }

    #[rstest]
    #[case("https://localhost:8228")]
    #[case("https://LOCALHOST.:8228")]
    #[case("https://anchore.localhost")]
    #[case("http://127.0.0.1:8228")]
    #[case("http://127.8.8.8")]
    #[case("http://[::1]:8228")]
    #[case("http://[::ffff:127.0.0.1]")]
    fn loopback_hosts_are_never_proxied_by_a_variable(#[case] target: &str) {
        assert!(!is_proxied(target, ""));
    }

    #[rstest]
    #[case("*", "https://anchore.example")]
    #[case("anchore.example", "https://anchore.example")]
    #[case("Anchore.EXAMPLE", "https://anchore.example.")]
    #[case("other.example, anchore.example", "https://anchore.example")]
    #[case("other.example anchore.example", "https://anchore.example")]
    #[case("example", "https://anchore.example")]
    #[case(".example", "https://anchore.example")]
    #[case("*.example", "https://anchore.example")]
    #[case("anchore.example:8228", "https://anchore.example:8228")]
    #[case("anchore.example:443", "https://anchore.example")]
    #[case("10.0.0.0/8", "https://10.20.30.40:8228")]
    #[case("10.20.30.40", "https://10.20.30.40:8228")]
    #[case("10.20.30.40:8228", "https://10.20.30.40:8228")]
    #[case("2001:db8::/32", "https://[2001:db8::5]")]
    #[case("2001:db8::5", "https://[2001:db8::5]")]
    #[case("[2001:db8::5]:443", "https://[2001:db8::5]")]
    fn no_proxy_excepts(#[case] no_proxy: &str, #[case] target: &str) {
        assert!(!is_proxied(target, no_proxy));
    }

    #[rstest]
    #[case("", "https://anchore.example")]
    #[case("chore.example", "https://anchore.example")]
    #[case(".anchore.example", "https://anchore.example")]
    #[case("anchore.example.org", "https://anchore.example")]
    #[case("anchore.example:8228", "https://anchore.example")]
    #[case("10.0.0.0/8", "https://11.0.0.1")]
    #[case("10.0.0.0/8", "https://anchore.example")]
    #[case("0.0.0.1", "https://10.0.0.1")]
    #[case("::/0", "https://10.0.0.1")]
    fn no_proxy_does_not_except(#[case] no_proxy: &str, #[case] target: &str) {
        assert!(is_proxied(target, no_proxy));
    }

    #[test]
    fn a_setting_wins_over_the_variables_and_their_exceptions() {
        let environment = variables([("HTTPS_PROXY", "http://other.example:1"), ("NO_PROXY", "*")]);
        let target = Url::parse("https://127.0.0.1:8228").unwrap();
        let setting = Url::parse(PROXY).unwrap();

        assert_eq!(for_url(&target, &ProxySetting::Url(setting.clone()), &environment), Ok(Some(setting)));
        assert_eq!(for_url(&target, &ProxySetting::Direct, &environment), Ok(None));
    }

    #[rstest]
    #[case("ftp://user:hunter2@proxy.example")]
    #[case("http://user:hunter2@")]
    #[case("http://user:hunter2@proxy.example:port")]
    fn an_unusable_address_is_an_error_that_does_not_repeat_it(#[case] value: &str) {
        let target = Url::parse("https://anchore.example").unwrap();
        let error = for_url(&target, &ProxySetting::Environment, &variables([("https_proxy", value)])).unwrap_err();

        let message = error.to_string();
        assert!(message.starts_with("https_proxy is not the address of a proxy"), "{message}");
        assert!(!format!("{message} {error:?}").contains("hunter2"), "{message}");
    }
}
