//! The credentials that a kubeconfig does not hold itself: those in a token file and those that a plugin gives.
//!
//! A plugin is a program that prints an `ExecCredential` (client.authentication.k8s.io). It is run here, once each time
//! credentials are wanted: kube would run it three times for one client, which asks a person to log in three times, and
//! its errors repeat what the plugin printed, which is where the token is. Nothing that a plugin printed as credentials
//! is ever repeated. A run waits for it without a bound, because a person may have to log in; one that is told to stop
//! ends it. The resident agent, where nobody is at the keyboard, gives it a minute. A token that no request can carry is
//! refused before there is a request.

use std::io::IsTerminal;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use http::HeaderValue;
use jiff::Timestamp;
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::connect::ConnectError;
use super::request::shorten;

/// What a plugin prints.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<Status>,
}

/// Who one is: by a token, by a client certificate, or by both; and until when.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<SecretString>,
    client_certificate_data: Option<String>,
    client_key_data: Option<SecretString>,
}

/// Reads the token file and runs the plugin of `user`, where it has one, so that all credentials are in `user` itself.
///
/// A plugin that nobody can answer is ended after `patience`; `None` is no bound. Gives the time at which the plugin says
/// that its credentials expire, if it does.
pub(crate) async fn complete(
    user: &mut AuthInfo,
    token_file: Option<&Path>,
    patience: Option<Duration>,
) -> Result<Option<Timestamp>, ConnectError> {
    let mut expiry = None;
    if let Some(token) = &user.token {
        let wrong = |reason| ConnectError::Token { origin: "the user's entry".to_owned(), reason };
        user.token = Some(sendable(token.expose_secret()).map_err(wrong)?);
    }
    if let Some(file) = token_file {
        match read_token(file) {
            Ok(token) => user.token = Some(token),
            // Of both, the file counts for as long as it can be read: that is client-go's rule.
            Err(_) if user.token.is_some() => {}
            Err(reason) => return Err(ConnectError::Token { origin: file.display().to_string(), reason }),
        }
    }
    if let Some(exec) = user.exec.take()
        && user.token.is_none()
        && user.username.is_none()
    {
        let status = run(&exec, patience).await?;
        // A time in another form is not worth a failure: the server says as well when credentials have expired.
        expiry = status.expiration_timestamp.and_then(|time| time.parse().ok());
        user.token = status.token;
        if let (Some(certificate), Some(key)) = (status.client_certificate_data, status.client_key_data) {
            user.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
            user.client_key_data = Some(BASE64_STANDARD.encode(key.expose_secret()).into());
        }
    }
    Ok(expiry)
}

fn read_token(file: &Path) -> Result<SecretString, String> {
    sendable(&std::fs::read_to_string(file).map_err(|error| error.to_string())?)
}

/// The token without the line end that files and variables put after it, which no server accepts.
fn sendable(token: &str) -> Result<SecretString, String> {
    match token.trim() {
        "" => Err("it is empty".to_owned()),
        token if HeaderValue::from_str(token).is_ok() => Ok(SecretString::from(token)),
        _ => Err("it has a line break or another character that no token has".to_owned()),
    }
}

async fn run(exec: &ExecConfig, patience: Option<Duration>) -> Result<Status, ConnectError> {
    let name = exec.command.clone().unwrap_or_default();
    let failed = |reason: String| ConnectError::PluginFailed { command: name.clone(), reason };
    let output = output(exec, &name, patience).await?;
    if !output.status.success() {
        let said = shorten(String::from_utf8_lossy(&output.stderr).trim());
        let said = if said.is_empty() { said } else { format!(": {said}") };
        return Err(failed(format!("it ended with {}{said}", output.status)));
    }
    // YAML, of which JSON is a part: some plugins print it.
    let answer: ExecCredential = serde_saphyr::from_slice(&output.stdout)
        .map_err(|_| failed("what it printed is not an ExecCredential".to_owned()))?;
    let mut status = answer.status.ok_or_else(|| failed("its answer has no status".to_owned()))?;
    status.token.take_if(|token| token.expose_secret().is_empty());
    if let Some(token) = &status.token {
        let token = sendable(token.expose_secret()).map_err(|reason| failed(format!("its token: {reason}")))?;
        status.token = Some(token);
    }
    if status.token.is_some() || (status.client_certificate_data.is_some() && status.client_key_data.is_some()) {
        Ok(status)
    } else {
        Err(failed("its answer has neither a token nor a client certificate with its key".to_owned()))
    }
}

async fn output(exec: &ExecConfig, name: &str, patience: Option<Duration>) -> Result<Output, ConnectError> {
    // Dropped, it ends the plugin.
    let running = command(exec, name).output();
    let output = match patience.filter(|_| !is_interactive(exec)) {
        None => running.await,
        Some(limit) => timeout(limit, running).await.map_err(|_| ConnectError::PluginFailed {
            command: name.to_owned(),
            reason: format!("it did not end within {} s", limit.as_secs()),
        })?,
    };
    output.map_err(|error| {
        let hint = exec.install_hint.as_ref().map(|hint| format!(". {}", shorten(hint))).unwrap_or_default();
        ConnectError::PluginMissing { command: name.to_owned(), reason: error.to_string(), hint }
    })
}

fn may_ask(exec: &ExecConfig) -> bool {
    exec.interactive_mode != Some(ExecInteractiveMode::Never)
}

/// Whether a plugin can have an answer of somebody.
fn is_interactive(exec: &ExecConfig) -> bool {
    may_ask(exec) && std::io::stdin().is_terminal()
}

fn command(exec: &ExecConfig, name: &str) -> Command {
    let interactive = is_interactive(exec);
    let mut command = Command::new(name);
    command.args(exec.args.iter().flatten());
    let variables = exec.env.iter().flatten();
    command.envs(variables.filter_map(|variable| Some((variable.get("name")?, variable.get("value")?))));
    let mut spec = serde_json::json!({"interactive": interactive});
    if exec.provide_cluster_info {
        spec["cluster"] = serde_json::json!(exec.cluster);
    }
    let info = serde_json::json!({"kind": "ExecCredential", "apiVersion": exec.api_version, "spec": spec});
    command.env("KUBERNETES_EXEC_INFO", info.to_string());
    command.stdin(if interactive { Stdio::inherit() } else { Stdio::null() });
    // One that may ask the user needs a way to speak; what another says is for the error, where it would be lost else.
    command.stderr(if may_ask(exec) { Stdio::inherit() } else { Stdio::piped() });
    command.kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    /// A user known by what `sh` prints when it runs `script`.
    fn plugin(script: &str) -> AuthInfo {
        let exec = ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".to_owned()),
            command: Some("sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            interactive_mode: Some(ExecInteractiveMode::Never),
            ..ExecConfig::default()
        };
        AuthInfo { exec: Some(exec), ..AuthInfo::default() }
    }

    fn with_token(token: &str) -> AuthInfo {
        AuthInfo { token: Some(token.into()), ..AuthInfo::default() }
    }

    fn secret(text: Option<&SecretString>) -> Option<&str> {
        text.map(ExposeSecret::expose_secret)
    }

    async fn failure(mut user: AuthInfo) -> String {
        let error = complete(&mut user, None, None).await.expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("s3cret-canary"), "{error:?}");
        error.to_string()
    }

    #[tokio::test]
    async fn a_plugin_is_run_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let runs = folder.path().join("runs");
        let mut user =
            plugin(&format!("echo run >> '{}'; echo '{{\"status\": {{\"token\": \"t\"}}}}'", runs.display()));

        complete(&mut user, None, None).await.expect("credentials");

        assert_eq!(secret(user.token.as_ref()), Some("t"));
        assert!(user.exec.is_none(), "it would be run again");
        assert_eq!(fs::read_to_string(runs).expect("it ran"), "run\n");
    }

    #[tokio::test]
    async fn a_plugin_may_give_a_token_and_a_certificate() {
        let mut user =
            plugin(r#"echo '{"status": {"token": "t", "clientCertificateData": "C", "clientKeyData": "K"}}'"#);

        complete(&mut user, None, None).await.expect("credentials");

        let decoded = |base64: &str| String::from_utf8(BASE64_STANDARD.decode(base64).expect("base64")).expect("text");
        assert_eq!(secret(user.token.as_ref()), Some("t"));
        assert_eq!(user.client_certificate_data.as_deref().map(decoded), Some("C".to_owned()));
        assert_eq!(secret(user.client_key_data.as_ref()).map(decoded), Some("K".to_owned()));
    }

    #[tokio::test]
    async fn a_certificate_of_a_plugin_comes_without_the_token_it_leaves_empty() {
        let mut user =
            plugin(r#"echo '{"status": {"token": "", "clientCertificateData": "C", "clientKeyData": "K"}}'"#);

        complete(&mut user, None, None).await.expect("credentials");

        assert_eq!(secret(user.token.as_ref()), None);
        assert!(user.client_certificate_data.is_some());
    }

    #[tokio::test]
    async fn a_plugin_is_told_its_variables_and_what_is_asked_of_it() {
        let mut user = plugin(r#"echo "status: {token: '$AUDIENCE $KUBERNETES_EXEC_INFO'}" | tr '"' '_'"#);
        let variable = |name: &str, value: &str| [("name", name), ("value", value)].map(|(k, v)| (k.into(), v.into()));
        let variables = vec![HashMap::from(variable("AUDIENCE", "prod"))];
        user.exec = user.exec.map(|exec| ExecConfig { env: Some(variables), ..exec });

        complete(&mut user, None, None).await.expect("credentials");

        assert_eq!(
            secret(user.token.as_ref()),
            Some(
                "prod {_apiVersion_:_client.authentication.k8s.io/v1_,_kind_:_ExecCredential_,\
                 _spec_:{_interactive_:false}}"
            )
        );
    }

    #[rstest]
    #[case("echo s3cret-canary; exit 3", "it ended with exit status: 3")]
    #[case("echo s3cret-canary; echo log in >&2; exit 3", "it ended with exit status: 3: log in")]
    #[case("echo '{\"status\": {\"token\": \"s3cret-canary\"'", "what it printed is not an ExecCredential")]
    #[case("echo s3cret-canary", "what it printed is not an ExecCredential")]
    #[case("echo '{\"spec\": {}}'", "its answer has no status")]
    #[case("echo '{\"status\": {\"token\": \"s3cret-canary\\u0007\"}}'", "its token: it has a line break or another")]
    #[case("echo '{\"status\": {\"token\": \"\", \"clientKeyData\": \"s3cret-canary\"}}'", "its answer has neither a")]
    #[tokio::test]
    async fn a_plugin_that_gives_nothing_usable_is_not_quoted(#[case] script: &str, #[case] reason: &str) {
        let message = failure(plugin(script)).await;
        let wanted = format!("the credential plugin \"sh\" of the kubeconfig gave no credentials: {reason}");
        assert!(message.starts_with(&wanted), "{message}");
    }

    #[rstest]
    #[case::in_json(r#"{"status": {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z"}}"#, true)]
    #[case::in_yaml("status: {token: t, expirationTimestamp: 2030-01-01T01:00:00+01:00}", true)]
    #[case::in_no_known_form("status: {token: t, expirationTimestamp: soon}", false)]
    #[case::left_out("status: {token: t}", false)]
    #[tokio::test]
    async fn a_plugin_may_say_how_long_its_credentials_last(#[case] answer: &str, #[case] is_known: bool) {
        let mut user = plugin(&format!("echo '{answer}'"));
        let expiry = complete(&mut user, None, None).await.expect("credentials");
        let time = "2030-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!((secret(user.token.as_ref()), expiry), (Some("t"), is_known.then_some(time)));
    }

    // The clock goes forward by itself whenever nothing else happens, and nothing does.
    #[tokio::test(start_paused = true)]
    async fn a_plugin_that_does_not_end_is_ended() {
        let mut user = plugin("exec sleep 1000");
        let error = complete(&mut user, None, Some(Duration::from_mins(1))).await.expect_err("it never ends");
        let wanted = "the credential plugin \"sh\" of the kubeconfig gave no credentials: it did not end within 60 s";
        assert_eq!(error.to_string(), wanted);
    }

    #[tokio::test]
    async fn a_token_of_the_kubeconfig_makes_the_plugin_unnecessary() {
        let mut user = AuthInfo { token: Some("t".into()), ..plugin("exit 3") };
        complete(&mut user, None, None).await.expect("credentials");
        assert_eq!(secret(user.token.as_ref()), Some("t"));
    }

    #[tokio::test]
    async fn a_token_is_sent_without_the_line_end_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        fs::write(&file, "from-file\r\n").expect("written");
        for (mut user, token_file, token) in
            [(with_token("in-place\n"), None, "in-place"), (AuthInfo::default(), Some(file.as_path()), "from-file")]
        {
            complete(&mut user, token_file, None).await.expect("credentials");
            assert_eq!(secret(user.token.as_ref()), Some(token));
        }
    }

    #[tokio::test]
    async fn a_token_that_no_request_can_carry_is_refused() {
        let message = failure(with_token("s3cret-canary\nand more")).await;
        assert!(message.starts_with("the token in the user's entry cannot be used: it has a line break"), "{message}");
    }
}
