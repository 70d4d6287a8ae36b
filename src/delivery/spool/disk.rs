//! The few things the spool does with a folder, each of which can fail and is made to fail by tests.
//!
//! Files are readable by the owner alone, whatever the umask. A file that was written, and a change of the folder, are
//! on the disk when the call returns, not merely with the operating system.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// A folder that belongs to the spool. Names are those of files in it.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    #[cfg(test)]
    pub(crate) faults: std::sync::Arc<faults::Faults>,
}

impl Disk {
    /// The folder at this path. Nothing is done yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            #[cfg(test)]
            faults: std::sync::Arc::default(),
        }
    }

    /// Its path.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folder, and those above it that do not exist.
    pub(crate) fn make(&self) -> io::Result<()> {
        self.strike()?;
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&self.folder)?;
        let permissions = fs::metadata(&self.folder)?.permissions();
        if permissions.mode() & 0o777 != PRIVATE_FOLDER
            && let Err(error) = fs::set_permissions(&self.folder, Permissions::from_mode(PRIVATE_FOLDER))
        {
            // Some network file systems have no modes. The files hold no secrets, and are private where modes exist.
            tracing::warn!(folder = %self.folder.display(), %error, "others may read the folder of unsent reports");
        }
        Ok(())
    }

    /// Takes the lock that is this file; it is held as long as the value lives. `None`: another process holds it.
    pub(crate) fn lock(&self, name: &str) -> io::Result<Option<File>> {
        self.strike()?;
        let options = OpenOptions::new().create(true).write(true).truncate(false).mode(PRIVATE_FILE).to_owned();
        let file = options.open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Names and lengths of the files; folders, links and the like are passed over.
    pub(crate) fn files(&self) -> io::Result<Vec<(OsString, u64)>> {
        self.strike()?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((entry.file_name(), metadata.len()));
            }
        }
        Ok(files)
    }

    /// A file to be read.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        self.strike()?;
        File::open(self.path(name))
    }

    /// A new file, or an old one emptied.
    pub(crate) fn create(&self, name: &str) -> io::Result<Output<'_>> {
        self.strike()?;
        let options = OpenOptions::new().create(true).write(true).truncate(true).mode(PRIVATE_FILE).to_owned();
        Ok(Output { file: options.open(self.path(name))?, disk: self })
    }

    /// Gives a file of this folder another name in `to`, in place of what had it.
    pub(crate) fn rename(&self, from: &str, to: &Self, name: &str) -> io::Result<()> {
        self.strike()?;
        fs::rename(self.path(from), to.path(name))
    }

    /// Removes a file. One that is not there is no error.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        self.strike()?;
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Has the names in the folder on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.strike()?;
        File::open(&self.folder)?.sync_all()
    }

    #[cfg(test)]
    fn strike(&self) -> io::Result<()> {
        self.faults.strike()
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "only tests make operations fail")]
    fn strike(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    file: File,
    disk: &'a Disk,
}

impl Output<'_> {
    /// Has all of it on the disk.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.disk.strike()?;
        self.file.sync_all()
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.strike()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Operations that fail on purpose.
#[cfg(test)]
pub(crate) mod faults {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Which operations of a [`super::Disk`] fail; none by default.
    #[derive(Debug)]
    pub(crate) struct Faults {
        done: AtomicU64,
        first: AtomicU64,
        last: AtomicU64,
    }

    impl Default for Faults {
        fn default() -> Self {
            Self { done: AtomicU64::new(0), first: AtomicU64::new(u64::MAX), last: AtomicU64::new(u64::MAX) }
        }
    }

    impl Faults {
        /// The operation after `skipped` others fails, and those after it up to `count` altogether.
        pub(crate) fn plan(&self, skipped: u64, count: u64) {
            let first = self.done() + skipped;
            self.first.store(first, Ordering::SeqCst);
            self.last.store(first.saturating_add(count), Ordering::SeqCst);
        }

        /// Nothing fails any more.
        pub(crate) fn end(&self) {
            self.first.store(u64::MAX, Ordering::SeqCst);
        }

        /// Operations so far.
        pub(crate) fn done(&self) -> u64 {
            self.done.load(Ordering::SeqCst)
        }

        pub(super) fn strike(&self) -> io::Result<()> {
            let number = self.done.fetch_add(1, Ordering::SeqCst);
            let is_planned = self.first.load(Ordering::SeqCst) <= number && number < self.last.load(Ordering::SeqCst);
            if is_planned { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }
}
