//! The files that an agent needs.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context;
use testbed::anchore::Enterprise;
use testbed::anchore::tenancy::ADMIN_ACCOUNT;
use testbed::fleet::ACCOUNT_LABEL;

use super::cli::Serve;

/// The folder for them.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes it, if it is missing.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
        Ok(Self(made.with_context(|| format!("the folder {} cannot be made", path.display()))?))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes a file of an earlier run away.
    pub(crate) fn remove(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} of an earlier run cannot be removed", self.path(name).display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file, whole or not at all, for its owner alone: it may hold a token.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let written = || {
            let unfinished = self.path(&format!(".{name}.unfinished"));
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&unfinished, self.path(name))
        };
        written().with_context(|| format!("{} cannot be written", self.path(name).display()))
    }
}

/// A configuration for the agent, with routing by label where namespaces have labels.
pub(crate) fn agent_configuration(folder: &Folder, enterprise: &Enterprise, arguments: &Serve) -> String {
    // A JSON text is a YAML text too.
    let quoted = |name: &str| serde_json::json!(folder.path(name).display().to_string());
    let ca_file = if arguments.tls { format!("  http:\n    ca-file: {}\n", quoted("ca.pem")) } else { String::new() };
    let routing = if arguments.accounts.is_empty() {
        String::new()
    } else {
        format!("account-route-by-namespace-label:\n  key: {ACCOUNT_LABEL}\n  default-account: {ADMIN_ACCOUNT}\n")
    };
    format!(
        "# What anchore-k8s-inventory needs to report the testbed's cluster to the testbed's Enterprise.\n\
         kubeconfig:\n\
         \x20 path: {kubeconfig}\n\
         \x20 cluster: testbed\n\
         anchore:\n\
         \x20 url: {url}\n\
         \x20 user: admin\n\
         \x20 password: foobar\n\
         {ca_file}{routing}",
        kubeconfig = quoted("kubeconfig.yaml"),
        url = enterprise.url(),
    )
}
