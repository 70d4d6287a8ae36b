//! For which account, and as whom, a report is sent.
//!
//! Credentials that stand in files are read when they are used, because an operator or a rotation replaces those files
//! while the agent runs. A file that cannot be read, or is empty, is an error that names it; its content is never shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::fs;

use crate::anchore::BasicAuth;
use crate::config::anchore::AnchoreConfig;
use crate::config::routes::RoutingConfig;
use crate::config::secret::{Credentials, TextSource};

/// An account, and the credentials for it.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Name of the account.
    pub account: String,
    /// Whose rights are used; `None` when the configuration has none for it.
    credentials: Option<Credentials>,
}

/// The credentials for an account cannot be had.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The configuration has none.
    #[error(
        "there is no user and password for the account {account}: set anchore.user and anchore.password, or those of a \
         route of this account"
    )]
    None {
        /// The account.
        account: String,
    },
    /// They stand in a file that cannot be used.
    #[error("the {what} for the account {account} is in {}, which {reason}", path.display())]
    File {
        /// `user` or `password`.
        what: &'static str,
        /// The account.
        account: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
}

impl Recipient {
    /// User and password as they are now.
    ///
    /// # Errors
    /// There are none, or their file cannot be read.
    pub async fn sender(&self) -> Result<BasicAuth, CredentialsError> {
        let Some(Credentials { user, password }) = &self.credentials else {
            return Err(CredentialsError::None { account: self.account.clone() });
        };
        let user = self.read("user", user).await?.expose_secret().to_owned();
        let password = self.read("password", password).await?;
        Ok(BasicAuth { user, password })
    }

    /// Whether user or password stand in a file, and may change.
    pub(crate) fn is_from_files(&self) -> bool {
        let sources = self.credentials.iter().flat_map(|credentials| [&credentials.user, &credentials.password]);
        sources.into_iter().any(|source| matches!(source, TextSource::File(_)))
    }

    async fn read(&self, what: &'static str, source: &TextSource) -> Result<SecretString, CredentialsError> {
        match source {
            TextSource::Inline(text) => Ok(text.clone()),
            TextSource::File(path) => read_file(path).await.map_err(|reason| CredentialsError::File {
                what,
                account: self.account.clone(),
                path: path.clone(),
                reason,
            }),
        }
    }
}

impl Recipient {
    /// A reason for a failure, with the reason why it was sent here instead of to its own account, if it was.
    pub(crate) fn explain(&self, reason: String, reroute: Option<&String>) -> String {
        match reroute {
            Some(reroute) => format!("{reason}; sent to the default account {}, because {reroute}", self.account),
            None => reason,
        }
    }
}

/// The recipients that the configuration knows.
#[derive(Debug, Clone)]
pub struct Recipients {
    global: Option<Credentials>,
    by_account: BTreeMap<String, Credentials>,
    default_account: String,
}

impl Recipients {
    /// Those of the global settings and the routes.
    pub fn new(anchore: &AnchoreConfig, routing: &RoutingConfig) -> Self {
        let own = routing.routes.iter().filter_map(|route| Some((route.account.clone(), route.credentials.clone()?)));
        Self {
            global: anchore.credentials.clone(),
            by_account: own.collect(),
            default_account: routing.default_account.clone(),
        }
    }

    /// The recipient for an account: with the credentials of its route, else the global ones.
    pub fn of(&self, account: &str) -> Recipient {
        let credentials = self.by_account.get(account).or(self.global.as_ref()).cloned();
        Recipient { account: account.to_owned(), credentials }
    }

    /// Who gets the reports of accounts that the server does not know.
    pub fn fallback(&self) -> Recipient {
        self.of(&self.default_account)
    }

    /// Who gets the reports of `recipient` instead, whose account the server does not know; none where that would be the
    /// same account as the same `user`.
    pub(crate) async fn fallback_of(&self, recipient: &Recipient, user: &str) -> Option<Recipient> {
        let fallback = self.fallback();
        let is_other =
            fallback.account != recipient.account || fallback.sender().await.is_ok_and(|sender| sender.user != user);
        is_other.then_some(fallback)
    }
}

/// Reads a text and cuts one line end off. The error completes the sentence "the file …".
async fn read_file(path: &Path) -> Result<SecretString, String> {
    let text = fs::read_to_string(path).await.map_err(|error| format!("cannot be read: {error}"))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pretty_assertions::assert_eq;
    use rstest::rstest;
    use url::Url;

    use super::*;
    use crate::config::anchore::{HttpConfig, ProxySetting};
    use crate::config::routes::AccountRoute;

    fn credentials(user: &str) -> Credentials {
        let text = |text: &str| TextSource::Inline(SecretString::from(text));
        Credentials { user: text(user), password: text("pw") }
    }

    fn recipients(global: Option<&str>, routes: &[(&str, Option<&str>)], default_account: &str) -> Recipients {
        let anchore = AnchoreConfig {
            url: Url::parse("https://anchore.example").unwrap(),
            credentials: global.map(credentials),
            account: "admin".to_owned(),
            http: HttpConfig {
                insecure: false,
                timeout: None,
                retry: Duration::ZERO,
                ca_file: None,
                client_certificate: None,
                proxy: ProxySetting::Direct,
            },
        };
        let routes = routes.iter().map(|(account, user)| AccountRoute {
            account: (*account).to_owned(),
            credentials: user.map(credentials),
            namespaces: Vec::new(),
        });
        let routing =
            RoutingConfig { routes: routes.collect(), by_label: None, default_account: default_account.to_owned() };
        Recipients::new(&anchore, &routing)
    }

    async fn user_of(recipient: &Recipient) -> String {
        recipient.sender().await.unwrap().user
    }

    #[tokio::test]
    async fn a_route_has_its_own_credentials_or_the_global_ones() {
        let recipients = recipients(Some("global"), &[("team-a", Some("a")), ("team-b", None)], "admin");

        assert_eq!(user_of(&recipients.of("team-a")).await, "a");
        assert_eq!(user_of(&recipients.of("team-b")).await, "global");
        assert_eq!(user_of(&recipients.of("unrouted")).await, "global");
        assert_eq!(user_of(&recipients.of("Team-A")).await, "global");
    }

    #[tokio::test]
    async fn the_fallback_uses_the_route_of_the_default_account_if_there_is_one() {
        let routed = recipients(Some("global"), &[("platform", Some("p"))], "platform").fallback();
        assert_eq!((routed.account.as_str(), user_of(&routed).await.as_str()), ("platform", "p"));

        let unrouted = recipients(Some("global"), &[("team-a", Some("a"))], "platform").fallback();
        assert_eq!((unrouted.account.as_str(), user_of(&unrouted).await.as_str()), ("platform", "global"));
    }

    #[tokio::test]
    async fn an_account_without_any_credentials_says_which_to_set() {
        let error = recipients(None, &[("team-a", Some("a"))], "admin").of("team-b").sender().await.unwrap_err();
        assert!(
            error.to_string().starts_with("there is no user and password for the account team-b: set anchore.user")
        );
    }

    #[rstest]
    #[case("secret", "secret")]
    #[case("secret\n", "secret")]
    #[case("secret\r\n", "secret")]
    #[case("secret\n\n", "secret\n")]
    #[case(" secret \n", " secret ")]
    #[case("secret\r", "secret\r")]
    #[tokio::test]
    async fn one_line_end_is_cut_off_a_file(#[case] written: &str, #[case] read: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, written).unwrap();

        assert_eq!(read_file(&path).await.unwrap().expose_secret(), read);
    }

    #[rstest]
    #[case(Some("\n".as_bytes()), "is empty")]
    #[case(Some("".as_bytes()), "is empty")]
    #[case(Some(b"\xff".as_slice()), "cannot be read: stream did not contain valid UTF-8")]
    #[case(None, "cannot be read: No such file or directory (os error 2)")]
    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_with_the_reason(#[case] written: Option<&[u8]>, #[case] reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        if let Some(written) = written {
            std::fs::write(&path, written).unwrap();
        }
        let credentials = Credentials { password: TextSource::File(path.clone()), ..credentials("me") };
        let recipient = Recipient { account: "team-a".to_owned(), credentials: Some(credentials) };

        let error = recipient.sender().await.unwrap_err().to_string();

        assert_eq!(error, format!("the password for the account team-a is in {}, which {reason}", path.display()));
    }
}
