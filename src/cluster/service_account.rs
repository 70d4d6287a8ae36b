//! Access from inside a cluster: with the service account that Kubernetes mounts into a pod.
//!
//! The address is the one in the pod's environment, the token and the certificate authority are files that Kubernetes
//! replaces before they expire. A proxy is never used: the API server is in the same network.

use std::path::{Path, PathBuf};

use kube::Config;

use super::connect::ConnectError;
use super::kubeconfig;
use crate::config::Environment;

/// Where a pod finds its service account.
pub(crate) const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Settings for the cluster around this pod and the file of its token, from the service account in `folder`.
pub(crate) fn settings(folder: &Path, environment: &Environment) -> Result<(Config, PathBuf), ConnectError> {
    let variable = |name: &str| {
        let value = environment.variables.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| ConnectError::ServiceAccount(format!("the variable {name} is not set")))
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
    let server = port.parse::<u16>().ok().and_then(|port| format!("https://{host}:{port}").parse().ok());
    let server = server.ok_or_else(|| {
        ConnectError::ServiceAccount("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are no address".to_owned())
    })?;
    let authority = folder.join("ca.crt");
    let pem = std::fs::read(&authority)
        .map_err(|error| ConnectError::ServiceAccount(format!("{}: {error}", authority.display())))?;
    let mut config = Config::new(server);
    config.root_cert = Some(kubeconfig::decode_certificates(&authority.display().to_string(), &pem)?);
    config.root_cert_file = Some(authority);
    if let Ok(namespace) = std::fs::read_to_string(folder.join("namespace")) {
        namespace.trim().clone_into(&mut config.default_namespace);
    }
    Ok((config, folder.join("token")))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    fn environment(host: &str, port: &str) -> Environment {
        let variables = [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Environment { variables, ..Environment::default() }
    }

    fn folder_with_authority() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).expect("a certificate");
        std::fs::write(folder.path().join("ca.crt"), authority.cert.pem()).expect("written");
        folder
    }

    #[rstest]
    #[case("10.96.0.1", "443", "https://10.96.0.1:443/")]
    #[case("fd00::1", "6443", "https://[fd00::1]:6443/")]
    #[case("[fd00::1]", "6443", "https://[fd00::1]:6443/")]
    #[case("api.example.com", "443", "https://api.example.com:443/")]
    fn the_address_is_that_of_the_environment(#[case] host: &str, #[case] port: &str, #[case] server: &str) {
        let folder = folder_with_authority();
        let (config, token) = settings(folder.path(), &environment(host, port)).expect("complete");
        assert_eq!(config.cluster_url.to_string(), server);
        assert_eq!(token, folder.path().join("token"));
        assert_eq!(config.proxy_url, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = folder_with_authority();
        let failure = |folder: &Path, environment: &Environment| {
            settings(folder, environment).expect_err("refused").to_string().replace(&folder.display().to_string(), "F")
        };
        assert_eq!(
            failure(folder.path(), &environment("", "443")),
            "the pod's service account cannot be used: the variable KUBERNETES_SERVICE_HOST is not set"
        );
        assert_eq!(
            failure(folder.path(), &environment("kubernetes", "x")),
            "the pod's service account cannot be used: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are no address"
        );
        let missing = failure(&folder.path().join("elsewhere"), &environment("kubernetes", "443"));
        assert!(missing.starts_with("the pod's service account cannot be used: F/ca.crt: No such file"), "{missing}");
    }
}
