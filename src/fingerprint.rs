//! Whether files have changed, without keeping what they hold: they may hold secrets. Shared by both clients.
//!
//! Contents are compared, not times or sizes: a mounted Secret is swapped by its folder's link, and a token of the same
//! length may be written within the same second. Only plain files are looked at; a pipe gives what it holds once, to
//! those who need it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often files are looked at, at most.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What files held when they were looked at, as numbers that tell nothing of it.
#[derive(Clone)]
pub(crate) struct Fingerprint {
    files: Vec<PathBuf>,
    /// With keys of its own, so that the numbers cannot be compared with those of guessed contents.
    hasher: RandomState,
    /// One of each file; `None` of one that cannot be read.
    contents: Vec<Option<u64>>,
}

impl Fingerprint {
    /// Reads `files`, which may block.
    pub(crate) fn of(files: Vec<PathBuf>) -> Self {
        let hasher = RandomState::new();
        let contents = files.iter().map(|file| content(file, &hasher)).collect();
        Self { files, hasher, contents }
    }

    /// The files that are looked at.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether one of the files holds something else by now. They are read on a thread that may block.
    pub(crate) async fn is_outdated(&self) -> bool {
        if self.files.is_empty() {
            return false;
        }
        let before = self.clone();
        let look = move || before.files.iter().map(|file| content(file, &before.hasher)).ne(before.contents);
        // The thread is only lost when the program ends.
        tokio::task::spawn_blocking(look).await.unwrap_or(false)
    }
}

fn content(file: &Path, hasher: &RandomState) -> Option<u64> {
    let is_plain = fs::metadata(file).is_ok_and(|metadata| metadata.is_file());
    let content = is_plain.then(|| fs::read(file).ok()).flatten()?;
    Some(hasher.hash_one(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_changed_by_what_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let [token, link] = ["token", "link"].map(|name| folder.path().join(name));
        fs::write(&token, "old").expect("written");
        std::os::unix::fs::symlink(&token, &link).expect("linked");
        let before = Fingerprint::of(vec![link.clone()]);

        fs::write(&token, "old").expect("written");
        assert!(!before.is_outdated().await, "it holds the same");
        fs::write(&token, "new").expect("written");
        assert!(before.is_outdated().await, "it holds another token");
        fs::remove_file(&token).expect("removed");
        assert!(before.is_outdated().await, "it is gone");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_awaited() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.crt");
        let before = Fingerprint::of(vec![file.clone()]);

        assert!(!before.is_outdated().await);
        fs::write(&file, "").expect("written");
        assert!(before.is_outdated().await);
    }

    #[tokio::test]
    async fn what_is_no_plain_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("it runs");
        assert!(made.success());

        // Nobody writes into the pipe, so that a reader would wait for ever.
        assert!(!Fingerprint::of(vec![pipe]).is_outdated().await);
    }
}
