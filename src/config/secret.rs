//! Secrets, and texts that may come from a file which an operator or a rotation replaces while the agent runs.

use std::path::PathBuf;

use secrecy::SecretString;

use super::key::{Key, Text};
use super::reader::Reader;

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

/// Reads a text that is given by one key, or in the file that the other key names; giving both is an error.
pub(super) fn read_source(reader: &mut Reader<'_>, inline: &Key<Text>, file: &Key<Text>) -> Option<TextSource> {
    let text = reader.text(inline);
    let path = reader.text(file);
    if text.is_some() && path.is_some() {
        let what = format!("cannot be set together with {}", inline.path);
        reader.error(file, what, "Remove one of the two");
    }
    match (text, path) {
        (Some(text), _) => Some(TextSource::Inline(text.into())),
        (None, Some(path)) => Some(TextSource::File(reader.environment.path(&path))),
        (None, None) => None,
    }
}
