//! Which cluster, from the files people have: `kubeconfig.path`, a list in `$KUBECONFIG`, `~/.kube/config`.
//!
//! Parsing and merging are kube's. What a file leaves empty counts as not set, as it does for kubectl: the tools that
//! write these files leave `current-context: ""` and `client-certificate: ""` in them. Reading the file and choosing the
//! context and the certificate authority are done here too, so that each mistake names the file and the name that is
//! wrong, and so that no line of a file that holds tokens is repeated in a message.

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use kube::config::{AuthInfo, AuthProviderConfig, Cluster, ExecAuthCluster, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};

use super::connect::ConnectError;
use crate::config::Environment;

/// The variable with a list of files.
const VARIABLE: &str = "KUBECONFIG";

/// A chosen context: where and as whom.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) context: String,
    pub(crate) cluster_name: String,
    pub(crate) cluster: Cluster,
    pub(crate) user: AuthInfo,
    /// The context's namespace.
    pub(crate) namespace: Option<String>,
}

/// The files to read when nothing is configured: those of `$KUBECONFIG` that exist, else `~/.kube/config` if it does.
///
/// Files of the list that do not exist are passed over, as kubectl does; when none of them exists the first is given,
/// so that reading it fails with its name. A list that cannot be understood is an error: the default may be another
/// cluster.
pub(crate) fn default_files(environment: &Environment) -> Result<Vec<PathBuf>, ConnectError> {
    if environment.unreadable.contains(VARIABLE) {
        return Err(ConnectError::Variable(VARIABLE));
    }
    let listed: Vec<PathBuf> = environment
        .variables
        .get(VARIABLE)
        .map(|list| std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if listed.is_empty() {
        let home = environment.home.iter().map(|home| home.join(".kube").join("config"));
        return Ok(home.filter(|path| path.exists()).collect());
    }
    let listed: Vec<PathBuf> = listed.iter().map(|path| environment.working_directory.join(path)).collect();
    let existing: Vec<PathBuf> = listed.iter().filter(|path| path.exists()).cloned().collect();
    Ok(if existing.is_empty() { listed.into_iter().take(1).collect() } else { existing })
}

/// Reads and merges `files` and chooses `context`, or the current one.
pub(crate) fn choose(files: &[PathBuf], context: Option<&str>) -> Result<Chosen, ConnectError> {
    let mut merged = Kubeconfig::default();
    for file in files {
        merged = merged.merge(read(file)?).map_err(|error| unreadable(file, &error))?;
    }
    let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    let wanted = context
        .or(merged.current_context.as_deref())
        .ok_or_else(|| ConnectError::NoCurrentContext { files: shown.clone() })?;
    let context = merged.contexts.iter().find(|named| named.name == wanted);
    let Some(chosen) = context.and_then(|named| named.context.clone()) else {
        let known = merged.contexts.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ConnectError::NoSuchContext { files: shown, context: wanted.to_owned(), known });
    };
    let cluster = merged.clusters.iter().find(|named| named.name == chosen.cluster);
    let Some(cluster) = cluster.and_then(|named| named.cluster.clone()) else {
        let (context, cluster) = (wanted.to_owned(), chosen.cluster);
        return Err(ConnectError::Dangling { files: shown, context, kind: "cluster", name: cluster });
    };
    let user_name = chosen.user.unwrap_or_default();
    let user = merged.auth_infos.into_iter().find(|named| named.name == user_name).and_then(|named| named.auth_info);
    if user.is_none() && !user_name.is_empty() {
        let context = wanted.to_owned();
        return Err(ConnectError::Dangling { files: shown, context, kind: "user", name: user_name });
    }
    let mut user = user.unwrap_or_default();
    if let Some(provider) = user.auth_provider.take() {
        user.token = Some(token_of(&provider)?);
    }
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        let info = ExecAuthCluster::try_from(&cluster).map_err(|error| unreadable(Path::new(&shown), &error))?;
        exec.cluster = Some(info);
    }
    let namespace = chosen.namespace.filter(|namespace| !namespace.is_empty());
    Ok(Chosen { context: wanted.to_owned(), cluster_name: chosen.cluster, cluster, user, namespace })
}

/// The names of all contexts in `files`, for completion. Unreadable files have none.
pub(super) fn context_names(files: &[PathBuf]) -> Vec<String> {
    let read = files.iter().filter_map(|file| read(file).ok());
    read.flat_map(|kubeconfig| kubeconfig.contexts.into_iter().map(|named| named.name)).collect()
}

/// The certificate authorities of a cluster entry; `None` leaves the decision to the system's.
pub(crate) fn certificate_authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, ConnectError> {
    let (origin, pem) = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => {
            let origin = "certificate-authority-data of the kubeconfig".to_owned();
            let pem = BASE64_STANDARD.decode(data).map_err(|error| ConnectError::Certificate {
                origin: origin.clone(),
                reason: format!("it is not base64: {error}"),
            })?;
            (origin, pem)
        }
        (None, Some(file)) => {
            let pem = std::fs::read(file)
                .map_err(|error| ConnectError::Certificate { origin: file.clone(), reason: error.to_string() })?;
            (file.clone(), pem)
        }
        (None, None) => return Ok(None),
    };
    decode_certificates(&origin, &pem).map(Some)
}

/// All certificates of a PEM text; none is an error.
pub(crate) fn decode_certificates(origin: &str, pem: &[u8]) -> Result<Vec<Vec<u8>>, ConnectError> {
    let wrong = |reason: String| ConnectError::Certificate { origin: origin.to_owned(), reason };
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

/// The token that a login left in the kubeconfig. Providers that run programs or ask a cloud are gone from Kubernetes'
/// own clients since 1.26.
fn token_of(provider: &AuthProviderConfig) -> Result<SecretString, ConnectError> {
    let refused = |reason: &'static str| ConnectError::AuthProvider { provider: provider.name.clone(), reason };
    if provider.name != "oidc" {
        return Err(refused("Kubernetes has replaced it: use the provider's credential plugin (exec)"));
    }
    let token = provider.config.get("id-token").filter(|token| !token.is_empty());
    token.map(|token| SecretString::from(token.as_str())).ok_or_else(|| refused("it has no id-token: log in again"))
}

/// One file, with its relative paths starting from its folder.
fn read(file: &Path) -> Result<Kubeconfig, ConnectError> {
    let wrong = |reason: String| ConnectError::Kubeconfig { file: file.to_owned(), reason };
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let text = decode(&bytes).ok_or_else(|| wrong("it is not text".to_owned()))?;
    let mut kubeconfig = Kubeconfig::from_yaml(&text).map_err(|error| unreadable(file, &error))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    unset_if_empty(&mut kubeconfig.current_context);
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        tidy_cluster(cluster, folder);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        tidy_user(user, folder);
    }
    Ok(kubeconfig)
}

/// UTF-8, or UTF-16 with its byte order mark: what redirecting output writes in Windows' own shell.
fn decode(bytes: &[u8]) -> Option<String> {
    let utf16 = |units: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = units.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().copied().map(unit).collect();
        rest.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
    };
    match bytes {
        [0xff, 0xfe, units @ ..] => utf16(units, u16::from_le_bytes),
        [0xfe, 0xff, units @ ..] => utf16(units, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] | text => std::str::from_utf8(text).ok().map(str::to_owned),
    }
}

fn tidy_cluster(cluster: &mut Cluster, folder: &Path) {
    for field in [&mut cluster.server, &mut cluster.tls_server_name, &mut cluster.proxy_url] {
        unset_if_empty(field);
    }
    start_from(folder, &mut cluster.certificate_authority);
    without_line_breaks(&mut cluster.certificate_authority_data);
}

fn tidy_user(user: &mut AuthInfo, folder: &Path) {
    for field in [&mut user.username, &mut user.impersonate, &mut user.impersonate_uid] {
        unset_if_empty(field);
    }
    for file in [&mut user.client_certificate, &mut user.client_key, &mut user.token_file] {
        start_from(folder, file);
    }
    without_line_breaks(&mut user.client_certificate_data);
    let mut key = user.client_key_data.as_ref().map(|key| key.expose_secret().to_owned());
    without_line_breaks(&mut key);
    user.client_key_data = key.map(SecretString::from);
    user.token.take_if(|token| token.expose_secret().is_empty());
    // A user name without a password is sent with an empty one.
    user.password = user.username.as_ref().map(|_| user.password.take().unwrap_or_default());
    if let Some(exec) = &mut user.exec
        && exec.command.as_ref().is_some_and(|command| command.contains(std::path::MAIN_SEPARATOR))
    {
        // Without a separator it is looked up in PATH.
        start_from(folder, &mut exec.command);
    }
}

fn unset_if_empty(field: &mut Option<String>) {
    field.take_if(|text| text.is_empty());
}

fn start_from(folder: &Path, file: &mut Option<String>) {
    unset_if_empty(file);
    if let Some(file) = file
        && let Some(path) = folder.join(&*file).to_str()
    {
        path.clone_into(file);
    }
}

/// Base64 may be written on several lines, which its decoder here does not know.
fn without_line_breaks(base64: &mut Option<String>) {
    if let Some(base64) = base64 {
        base64.retain(|c| !c.is_ascii_whitespace());
    }
    unset_if_empty(base64);
}

fn unreadable(file: &Path, error: &KubeconfigError) -> ConnectError {
    let reason = match error {
        // Its full text repeats lines of the file.
        KubeconfigError::Parse(error) => error.without_snippet().to_string(),
        other => other.to_string(),
    };
    ConnectError::Kubeconfig { file: file.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    const TWO_CONTEXTS: &str = "
apiVersion: v1
kind: Config
current-context: staging
clusters:
- {name: staging-cluster, cluster: {server: 'https://staging:6443', certificate-authority: ca.crt}}
- {name: production-cluster, cluster: {server: 'https://production:6443'}}
users:
- {name: admin, user: {tokenFile: token}}
contexts:
- {name: staging, context: {cluster: staging-cluster, user: admin}}
- {name: production, context: {cluster: production-cluster, user: nobody}}
- {name: lost, context: {cluster: nowhere, user: admin}}
";

    fn folder_with(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        (folder, file)
    }

    fn failure(file: &Path, context: Option<&str>) -> String {
        let error = choose(&[file.to_owned()], context).expect_err("refused").to_string();
        error.replace(&file.display().to_string(), "FILE")
    }

    #[test]
    fn the_current_context_is_chosen_with_paths_relative_to_its_file() {
        let (folder, file) = folder_with("config", TWO_CONTEXTS);
        let chosen = choose(&[file], None).expect("readable");
        let beside = |name: &str| Some(folder.path().join(name).display().to_string());
        assert_eq!(chosen.cluster_name, "staging-cluster");
        assert_eq!(chosen.cluster.certificate_authority, beside("ca.crt"));
        assert_eq!(chosen.user.token_file, beside("token"));
    }

    #[test]
    fn what_a_context_lacks_is_named() {
        let (_folder, file) = folder_with("config", TWO_CONTEXTS);
        assert_eq!(failure(&file, Some("live")), "FILE has no context \"live\"; it has: staging, production, lost");
        assert_eq!(
            failure(&file, Some("production")),
            "context \"production\" in FILE names the user \"nobody\", which is not there"
        );
        assert_eq!(
            failure(&file, Some("lost")),
            "context \"lost\" in FILE names the cluster \"nowhere\", which is not there"
        );
    }

    #[test]
    fn a_file_without_contexts_says_what_to_set() {
        let (_folder, file) = folder_with("config", "");
        assert_eq!(failure(&file, None), "FILE names no current context: set kubeconfig.context (or --context)");
    }

    #[test]
    fn a_broken_file_is_named_with_the_place_and_without_its_secrets() {
        let (_folder, file) = folder_with("config", "users:\n- name: a\n  user: {token: s3cret-canary, : [}\n");
        let message = failure(&file, None);
        assert!(message.starts_with("kubeconfig FILE cannot be used: "), "{message}");
        assert!(message.contains("line 3"), "{message}");
        assert!(!message.contains("s3cret-canary"), "{message}");
    }

    #[test]
    fn what_is_left_empty_is_not_set() {
        let (_folder, file) = folder_with(
            "config",
            "{current-context: c, contexts: [{name: c, context: {cluster: edge, user: u}}], \
             clusters: [{name: edge, cluster: {server: 'https://edge', certificate-authority: '', \
             certificate-authority-data: '', tls-server-name: '', proxy-url: ''}}], \
             users: [{name: u, user: {username: '', password: '', token: '', tokenFile: '', client-certificate: '', \
             client-certificate-data: '', client-key: '', client-key-data: '', as: '', as-uid: ''}}]}",
        );
        let chosen = choose(&[file], None).expect("readable");
        assert_eq!(serde_json::to_value(chosen.cluster).expect("JSON"), json!({"server": "https://edge"}));
        assert_eq!(serde_json::to_value(chosen.user).expect("JSON"), json!({}));
    }

    #[test]
    fn the_token_of_an_oidc_login_is_used_and_other_providers_are_refused() {
        let with_provider = |provider: &str| {
            let user = format!("user: {{auth-provider: {provider}}}");
            let (folder, file) = folder_with("config", &TWO_CONTEXTS.replace("user: {tokenFile: token}", &user));
            let chosen = choose(&[file], None).map_err(|error| error.to_string());
            drop(folder);
            chosen.map(|chosen| chosen.user.token.map(|token| token.expose_secret().to_owned()))
        };
        assert_eq!(with_provider("{name: oidc, config: {id-token: t}}"), Ok(Some("t".to_owned())));
        assert_eq!(
            with_provider("{name: oidc, config: {refresh-token: t}}"),
            Err("the auth-provider \"oidc\" of the kubeconfig gives no credentials: it has no id-token: log in again"
                .to_owned())
        );
        let gcp = with_provider("{name: gcp, config: {cmd-path: echo, cmd-args: s3cret-canary}}").expect_err("refused");
        assert!(gcp.contains("\"gcp\"") && gcp.contains("credential plugin (exec)"), "{gcp}");
        assert!(!gcp.contains("s3cret-canary"), "{gcp}");
    }

    #[test]
    fn an_empty_current_context_leaves_the_choice_to_the_next_file() {
        let (folder, first) = folder_with("first", "current-context: ''\n");
        let second = folder.path().join("second");
        fs::write(&second, TWO_CONTEXTS).expect("written");
        assert_eq!(choose(&[first, second], None).expect("readable").cluster_name, "staging-cluster");
    }

    #[test]
    fn base64_may_be_written_on_several_lines() {
        let config =
            TWO_CONTEXTS.replace("certificate-authority: ca.crt", "certificate-authority-data: \"QUJD\\nREVG\\n\"");
        let (_folder, file) = folder_with("config", &config);
        let chosen = choose(&[file], None).expect("readable");
        assert_eq!(chosen.cluster.certificate_authority_data.as_deref(), Some("QUJDREVG"));
    }

    #[test]
    fn a_file_may_be_utf_16_and_bytes_that_are_no_text_are_refused() {
        let units = |convert: fn(u16) -> [u8; 2]| TWO_CONTEXTS.encode_utf16().flat_map(convert).collect::<Vec<u8>>();
        let little_endian = [&[0xff, 0xfe][..], &units(u16::to_le_bytes)].concat();
        let big_endian = [&[0xfe, 0xff][..], &units(u16::to_be_bytes)].concat();
        let marked = [&[0xef, 0xbb, 0xbf][..], TWO_CONTEXTS.as_bytes()].concat();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config");
        for readable in [little_endian, big_endian, marked] {
            fs::write(&file, readable).expect("written");
            let files = std::slice::from_ref(&file);
            assert_eq!(choose(files, None).expect("readable").cluster_name, "staging-cluster");
        }
        for wrong in [&b"\xff\xfeabc"[..], b"\xff\xfe\x00\xd8", b"\x7fELF\x80"] {
            fs::write(&file, wrong).expect("written");
            assert_eq!(failure(&file, None), "kubeconfig FILE cannot be used: it is not text");
        }
    }

    #[test]
    fn a_list_of_files_is_merged_and_missing_ones_are_passed_over() {
        let (folder, first) = folder_with("first", "current-context: production\n");
        let second = folder.path().join("second");
        fs::write(&second, TWO_CONTEXTS.replace("user: nobody", "user: admin")).expect("written");
        let list = std::env::join_paths([first, folder.path().join("missing"), second]).expect("joins");
        let environment = Environment {
            variables: [("KUBECONFIG".to_owned(), list.into_string().expect("text"))].into(),
            ..Environment::default()
        };
        let files = default_files(&environment).expect("a list");
        assert_eq!(choose(&files, None).expect("readable").cluster_name, "production-cluster");
    }

    #[test]
    fn a_missing_file_of_the_variable_is_an_error_not_the_default() {
        let variables = [("KUBECONFIG".to_owned(), "/does/not/exist".to_owned())].into();
        let environment = Environment { variables, ..Environment::default() };
        let files = default_files(&environment).expect("a list");
        let error = choose(&files, None).expect_err("refused").to_string();
        assert!(error.starts_with("kubeconfig /does/not/exist cannot be used: "), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_utf8_is_an_error_not_the_default() {
        let (home, _) = folder_with("unused", "");
        fs::create_dir(home.path().join(".kube")).expect("made");
        fs::write(home.path().join(".kube/config"), TWO_CONTEXTS).expect("written");
        let found_beside = |unreadable: &str| {
            let home = Some(home.path().to_owned());
            let environment =
                Environment { home, unreadable: [unreadable.to_owned()].into(), ..Environment::default() };
            default_files(&environment).map_err(|error| error.to_string())
        };
        let sentence = "the variable KUBECONFIG is not UTF-8: change it, or set kubeconfig.path (or --kubeconfig)";
        assert_eq!(found_beside("ANOTHER"), Ok(vec![home.path().join(".kube/config")]));
        assert_eq!(found_beside("KUBECONFIG"), Err(sentence.to_owned()));
    }

    #[test]
    fn certificates_that_are_none_are_named() {
        let authority =
            |data: &str| Cluster { certificate_authority_data: Some(data.to_owned()), ..Cluster::default() };
        for wrong in ["%%%", "bm90IHBlbQ=="] {
            let error = certificate_authorities(&authority(wrong)).expect_err("refused").to_string();
            assert!(error.contains("certificate-authority-data of the kubeconfig"), "{error}");
        }
        let missing = Cluster { certificate_authority: Some("/no/ca.crt".to_owned()), ..Cluster::default() };
        let error = certificate_authorities(&missing).expect_err("refused").to_string();
        assert!(error.contains("/no/ca.crt"), "{error}");
    }
}
