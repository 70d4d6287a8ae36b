//! Where the API server is, and the proxy on the way to it.
//!
//! An address with a user or a password in it is refused: they belong into the user's entry, and an address is shown.

use url::Url;

use super::connect::ConnectError;
use crate::config::Environment;
use crate::config::anchore::ProxySetting;
use crate::proxy::{self, ProxyError};

/// Where a kubeconfig names a proxy, for messages.
const OWN_PROXY: &str = "proxy-url of the kubeconfig";

/// The API server's address, or what is wrong with it. kubectl takes an address without a scheme as http.
pub(super) fn server_url(server: &str) -> Result<Url, String> {
    let url = if server.contains("://") { Url::parse(server) } else { Url::parse(&format!("http://{server}")) };
    let url = url.map_err(|error| error.to_string())?;
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err("it holds a user or password, which belong into the user's entry".to_owned())
        }
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("it is neither http nor https".to_owned()),
    }
}

/// The proxy for `server`: the kubeconfig's `own`, else that of the environment.
pub(super) fn proxy_for(
    server: &Url,
    own: Option<&str>,
    environment: &Environment,
) -> Result<Option<http::Uri>, ConnectError> {
    let setting = match own {
        None => ProxySetting::Environment,
        Some(own) => ProxySetting::Url(
            Url::parse(own).map_err(|error| ProxyError { origin: OWN_PROXY.to_owned(), reason: error.to_string() })?,
        ),
    };
    let found = proxy::for_url(server, &setting, &environment.variables).map_err(|error| match own {
        Some(_) => ProxyError { origin: OWN_PROXY.to_owned(), ..error },
        None => error,
    });
    let Some(mut url) = found? else { return Ok(None) };
    if url.scheme() == "socks5h" {
        // kube knows one word for both, and lets the proxy resolve names.
        url = Url::parse(&url.as_str().replacen("socks5h", "socks5", 1))
            .map_err(|error| ConnectError::Client(error.to_string()))?;
    }
    url.as_str().parse().map(Some).map_err(|_| ConnectError::Client("the proxy's address is not a URI".to_owned()))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn an_address_without_scheme_is_http() {
        assert_eq!(server_url("localhost:8080").map(String::from), Ok("http://localhost:8080/".to_owned()));
    }
}
