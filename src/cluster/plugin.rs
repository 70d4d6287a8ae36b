//! What went wrong with a credential plugin (`exec` in a kubeconfig), in our words.
//!
//! kube runs the plugin and reports what it wrote. Its standard output is where the token is, so nothing of that is
//! repeated here.

use kube::client::AuthError;
use kube::config::AuthInfo;

use super::connect::ConnectError;
use super::request::shorten;

/// What the plugin of `user` did wrong; `None` when the error is not about a plugin.
pub(crate) fn explain(error: &AuthError, user: &AuthInfo) -> Option<ConnectError> {
    let exec = user.exec.as_ref();
    let command = exec.and_then(|exec| exec.command.clone()).unwrap_or_default();
    let reason = match error {
        AuthError::AuthExecStart(error) => {
            let hint = exec.and_then(|exec| exec.install_hint.as_deref());
            let hint = hint.map(|hint| format!(". {}", shorten(hint))).unwrap_or_default();
            return Some(ConnectError::PluginMissing { command, reason: error.to_string(), hint });
        }
        AuthError::AuthExecRun { out, .. } => {
            // A plugin that may ask the user shares the agent's standard error. What one with `interactiveMode: Never`
            // says there is captured, and would be lost.
            let said = shorten(String::from_utf8_lossy(&out.stderr).trim());
            let said = if said.is_empty() { said } else { format!(": {said}") };
            format!("it ended with {}{said}", out.status)
        }
        AuthError::AuthExecParse(_) => "what it printed is not an ExecCredential".to_owned(),
        AuthError::ExecPluginFailed => "its answer has no status".to_owned(),
        AuthError::UnrefreshableTokenResponse => "it gave no token that expires where it had given one".to_owned(),
        AuthError::MalformedTokenExpirationDate(_) => "its expirationTimestamp is no time".to_owned(),
        _ => return None,
    };
    Some(ConnectError::PluginFailed { command, reason })
}
