//! Secrets, and texts that may come from a file which an operator or a rotation replaces while the agent runs.

use std::path::PathBuf;

use secrecy::SecretString;

/// A user and a password for Anchore.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: TextSource,
    /// The password.
    pub password: TextSource,
}

/// A text given in the configuration, or the file that holds it. Never printed.
#[derive(Debug, Clone)]
pub enum TextSource {
    /// The text itself.
    Inline(SecretString),
    /// Read at each use; one trailing line end is cut.
    File(PathBuf),
}
