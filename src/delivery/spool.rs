//! A folder of batches that wait to be sent, which outlives the process.
//!
//! A set of batches is written to files with other names, has its bytes on the disk, and only then gets the names by
//! which it is found: after a crash at any moment a file that is found is whole, or shows by its checksum that it is
//! not. A file goes only when it is removed by name. One process uses the folder at a time. Everything here blocks.
//!
//! What is found and cannot be sent never stops the agent: files of an interrupted writing are removed, those that are
//! damaged are put aside, within bounds, and what the spool did not make is left alone.

pub(crate) mod disk;
pub(crate) mod format;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use self::disk::Disk;
use self::format::{Checked, FormatError, Header};
use crate::anchore::payload::Payload;
use crate::inventory::report::Report;

/// Below the state directory.
const FOLDER: &str = "spool";

/// Below the spool: files that cannot be read, for whoever wants to know why.
const ASIDE_FOLDER: &str = "rejected";

const LOCK: &str = "lock";

/// How names of batches end.
const BATCH: &str = ".report";

/// How names of batches end that are being written.
const PARTIAL: &str = ".partial";

/// Bounds on what is put aside; the oldest go.
const MOST_FILES_ASIDE: usize = 16;
const MOST_BYTES_ASIDE: u64 = 16 * 1024 * 1024;

const BUFFER_BYTES: usize = 64 * 1024;

/// What all reports of a process have in common. Batches of another one are not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The cluster's name in reports.
    pub(crate) cluster_name: String,
    /// `anchore.url`.
    pub(crate) destination: String,
}

/// A batch in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpoolFile {
    name: String,
    path: PathBuf,
    offset: u64,
    body_len: u64,
}

impl SpoolFile {
    fn new(disk: &Disk, header: &Header, offset: u64) -> Self {
        let name = name_of(header);
        Self { path: disk.path(&name), name, offset, body_len: header.byte_len }
    }

    /// Bytes of the whole file.
    pub(crate) fn file_len(&self) -> u64 {
        format::file_len(self.offset, self.body_len)
    }

    /// Its body.
    pub(crate) fn payload(&self) -> Payload {
        Payload::file(self.path.clone(), self.offset, self.body_len)
    }
}

/// The folder, held by this process.
#[derive(Debug)]
pub(crate) struct Spool {
    disk: Disk,
    aside: Disk,
    identity: Identity,
    /// Names of files that could not be removed yet.
    undead: Mutex<Vec<String>>,
    _lock: File,
}

/// What was found in the folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Batches of an earlier process, in the order in which they were written.
    pub(crate) batches: Vec<(Header, SpoolFile)>,
    /// Files that were dropped, each with its account where it is known, and why.
    pub(crate) dropped: Vec<(String, String)>,
    /// A number above those of all sets found.
    pub(crate) next_sequence: u64,
}

impl Spool {
    /// Takes the folder below the state directory, and looks what an earlier process left.
    ///
    /// # Errors
    /// It cannot be used; the reason as a sentence about the state directory.
    pub(crate) fn open(state_directory: &Path, identity: Identity) -> Result<(Self, Found), String> {
        Self::on(Disk::new(state_directory.join(FOLDER)), identity)
    }

    fn on(disk: Disk, identity: Identity) -> Result<(Self, Found), String> {
        let aside = Disk::new(disk.folder().join(ASIDE_FOLDER));
        let unusable = |error: io::Error| format!("the folder {} cannot be used: {error}", disk.folder().display());
        disk.make().map_err(unusable)?;
        let Some(lock) = disk.lock(LOCK).map_err(unusable)? else {
            return Err(format!("the folder {} is in use by another process", disk.folder().display()));
        };
        let found = find(&disk, &aside, &identity).map_err(unusable)?;
        Ok((Self { disk, aside, identity, undead: Mutex::default(), _lock: lock }, found))
    }

    /// The header of a batch that this process writes.
    pub(crate) fn header(&self, set: SetOf<'_>, batch: usize, report: &Report) -> Header {
        Header {
            account: set.account.to_owned(),
            cluster_name: self.identity.cluster_name.clone(),
            destination: self.identity.destination.clone(),
            timestamp: set.timestamp,
            sequence: set.sequence,
            batch,
            batch_count: set.batch_count,
            namespaces: report.namespace_count(),
            byte_len: report.byte_len(),
        }
    }

    /// Bytes of the file of a batch with this header.
    pub(crate) fn file_len(header: &Header) -> u64 {
        let beginning =
            format::encode(header).map_or(0, |beginning| u64::try_from(beginning.len()).unwrap_or(u64::MAX));
        format::file_len(beginning, header.byte_len)
    }

    /// Makes operations of the disk fail.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> std::sync::Arc<disk::faults::Faults> {
        std::sync::Arc::clone(&self.disk.faults)
    }

    /// Writes a set. When this returns, all of it is on the disk or none of it.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn write(&self, batches: &[(Header, &Report)]) -> io::Result<Vec<SpoolFile>> {
        self.remove_undead();
        let result = self.write_all(batches);
        if result.is_err() {
            let names = batches.iter().map(|(header, _)| name_of(header));
            self.remove_names(names.flat_map(|name| [partial(&name), name]).collect());
        }
        result
    }

    fn write_all(&self, batches: &[(Header, &Report)]) -> io::Result<Vec<SpoolFile>> {
        let mut files = Vec::with_capacity(batches.len());
        for (header, report) in batches {
            files.push(self.write_one(header, report)?);
        }
        for file in &files {
            self.disk.rename(&partial(&file.name), &self.disk, &file.name)?;
        }
        self.disk.sync()?;
        Ok(files)
    }

    fn write_one(&self, header: &Header, report: &Report) -> io::Result<SpoolFile> {
        let beginning = format::encode(header)?;
        let file = SpoolFile::new(&self.disk, header, u64::try_from(beginning.len()).unwrap_or(u64::MAX));
        let mut out = self.disk.create(&partial(&file.name))?;
        out.write_all(&beginning)?;
        // The buffer is above the checksum, which is slow in small pieces.
        let mut body = BufWriter::with_capacity(BUFFER_BYTES, Checked::new(out));
        serde_json::to_writer(&mut body, report)?;
        let body = body.into_inner().map_err(io::IntoInnerError::into_error)?;
        if body.written() != header.byte_len {
            return Err(io::Error::other("the report has another length than was counted"));
        }
        body.finish()?.finish()?;
        Ok(file)
    }

    /// Reads a batch to its end and compares its checksum.
    pub(crate) fn verify(&self, file: &SpoolFile) -> Result<(), FormatError> {
        let opened = self.disk.open(&file.name)?;
        let length = opened.metadata()?.len();
        format::verify(io::BufReader::with_capacity(BUFFER_BYTES, opened), length)
    }

    /// Removes batches. What cannot be removed is tried again later.
    pub(crate) fn remove<'f>(&self, files: impl IntoIterator<Item = &'f SpoolFile>) {
        self.remove_names(files.into_iter().map(|file| file.name.clone()).collect());
    }

    /// Puts a damaged batch aside.
    pub(crate) fn put_aside(&self, file: &SpoolFile) {
        put_aside(&self.disk, &self.aside, &file.name, file.file_len());
    }

    fn remove_undead(&self) {
        let names = std::mem::take(&mut *self.undead.lock().unwrap_or_else(PoisonError::into_inner));
        if !names.is_empty() {
            self.remove_names(names);
        }
    }

    fn remove_names(&self, names: Vec<String>) {
        let mut undead = self.undead.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = undead.is_empty();
        let mut failure = None;
        for name in names {
            if let Err(error) = self.disk.remove(&name) {
                failure = Some(error);
                undead.push(name);
            }
        }
        let failure = failure.or_else(|| self.disk.sync().err());
        if let Some(error) = failure.filter(|_| was_empty) {
            tracing::warn!(
                folder = %self.disk.folder().display(), %error,
                "files of the spool cannot be removed yet; if the agent ends now, they are sent again after the next start"
            );
        }
    }
}

/// A set that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetOf<'a> {
    /// The account the reports are of.
    pub(crate) account: &'a str,
    /// Their time.
    pub(crate) timestamp: jiff::Timestamp,
    /// The set's number.
    pub(crate) sequence: u64,
    /// How many there are.
    pub(crate) batch_count: usize,
}

/// By set, then by batch: names are in the order in which batches are sent.
fn name_of(header: &Header) -> String {
    format!("{:020}-{:06}{BATCH}", header.sequence, header.batch)
}

fn partial(name: &str) -> String {
    format!("{name}{PARTIAL}")
}

/// Looks through the folder.
fn find(disk: &Disk, aside: &Disk, identity: &Identity) -> io::Result<Found> {
    let mut found = Found { next_sequence: 1, ..Found::default() };
    let mut names: Vec<(String, u64)> = Vec::new();
    for (name, length) in disk.files()? {
        match name.into_string() {
            Ok(name) if name.ends_with(BATCH) || name.ends_with(PARTIAL) => names.push((name, length)),
            Ok(name) if name == LOCK => {}
            name => {
                let name = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                tracing::warn!(folder = %disk.folder().display(), name, "the spool did not make this file and leaves it");
            }
        }
    }
    names.sort();
    for (name, length) in names {
        if name.ends_with(PARTIAL) {
            // It was never said to be safe, and who carries what is in it tells it again.
            disk.remove(&name)?;
            continue;
        }
        match read_header(disk, &name, length) {
            Ok((header, offset)) => {
                found.next_sequence = found.next_sequence.max(header.sequence.saturating_add(1));
                if let Some(reason) = difference(&header, identity) {
                    disk.remove(&name)?;
                    found.dropped.push((header.account, reason));
                } else {
                    let file = SpoolFile::new(disk, &header, offset);
                    found.batches.push((header, file));
                }
            }
            Err(error) => {
                put_aside(disk, aside, &name, length);
                found.dropped.push((String::new(), format!("the file {name} was put aside: {error}")));
            }
        }
    }
    Ok(found)
}

fn read_header(disk: &Disk, name: &str, length: u64) -> Result<(Header, u64), FormatError> {
    let (header, offset) = format::decode(disk.open(name)?, length)?;
    // A copy under another name would be sent twice and removed once.
    if name_of(&header) == name { Ok((header, offset)) } else { Err(FormatError::Foreign) }
}

/// Why a batch of an earlier process is not sent by this one.
fn difference(header: &Header, identity: &Identity) -> Option<String> {
    if header.destination != identity.destination {
        return Some(format!("it was for {}, and anchore.url is {} now", header.destination, identity.destination));
    }
    (header.cluster_name != identity.cluster_name).then(|| {
        format!("it was of the cluster {}, and the cluster is {} now", header.cluster_name, identity.cluster_name)
    })
}

/// Moves a file out of the way, or removes it where that is impossible or it is too long to be kept.
fn put_aside(disk: &Disk, aside: &Disk, name: &str, length: u64) {
    let kept =
        if length > MOST_BYTES_ASIDE { Err(io::ErrorKind::FileTooLarge.into()) } else { keep_aside(disk, aside, name) };
    let result = kept.or_else(|_| disk.remove(name)).and_then(|()| disk.sync());
    if let Err(error) = result {
        tracing::warn!(folder = %disk.folder().display(), name, %error, "a damaged file of the spool cannot be removed");
    }
    // Not essential: what is above the bounds goes the next time.
    let _ = prune(aside);
}

fn keep_aside(disk: &Disk, aside: &Disk, name: &str) -> io::Result<()> {
    aside.make()?;
    disk.rename(name, aside, name)
}

/// Keeps what is put aside within its bounds.
fn prune(aside: &Disk) -> io::Result<()> {
    let mut files = aside.files()?;
    files.sort();
    let (mut count, mut bytes) = (0, 0_u64);
    for (name, length) in files.into_iter().rev() {
        count += 1;
        bytes = bytes.saturating_add(length);
        if (count > MOST_FILES_ASIDE || bytes > MOST_BYTES_ASIDE)
            && let Some(name) = name.to_str()
        {
            aside.remove(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::delivery::store::tests::report;

    fn identity() -> Identity {
        Identity { cluster_name: "edge-7".to_owned(), destination: "https://anchore.example/".to_owned() }
    }

    fn open(folder: &Path) -> (Spool, Found) {
        Spool::open(folder, identity()).expect("a folder")
    }

    /// Writes the set with this number, of two batches.
    fn write(spool: &Spool, sequence: u64) -> io::Result<Vec<SpoolFile>> {
        let timestamp = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
        let set = SetOf { account: "team-a", timestamp, sequence, batch_count: 2 };
        let reports = [report("one"), report("two")];
        let batches = reports.iter().zip(1..).map(|(report, batch)| (spool.header(set, batch, report), report));
        spool.write(&batches.collect::<Vec<_>>())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| name != LOCK && name != ASIDE_FOLDER)
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn folder_and_files_are_the_owner_s_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spool");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        let (spool, _) = open(folder.path());

        let files = write(&spool, 1).expect("written");

        assert_eq!(mode(&path), 0o700);
        assert_eq!(files.iter().map(|file| mode(&file.path)).collect::<Vec<_>>(), [0o600, 0o600]);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
    }

    #[test]
    fn what_cannot_be_sent_is_put_aside_and_what_is_not_of_the_spool_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spool");
        let (spool, _) = open(folder.path());
        let good = write(&spool, 7).expect("written");
        drop(spool);
        let bytes = fs::read(&good[0].path).expect("a file");
        let mut later = bytes.clone();
        later[8] = 2;
        for (name, bytes) in [
            ("00000000000000000001-000001.report", &bytes[..bytes.len() / 2]),
            ("00000000000000000002-000001.report", &later),
            ("00000000000000000003-000001.report", &bytes),
            ("00000000000000000004-000001.report", b"#!/bin/sh\necho this is something else entirely\n"),
            ("00000000000000000005-000001.report", b""),
            ("00000000000000000006-000001.report.partial", &bytes),
            ("notes.txt", b"mine"),
        ] {
            fs::write(path.join(name), bytes).expect("written");
        }

        let (_spool, found) = open(folder.path());

        let reasons: Vec<&str> = found.dropped.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(reasons.len(), 5, "{reasons:?}");
        assert!(reasons[0].ends_with("it ends too early or too late"), "{reasons:?}");
        assert!(reasons[1].contains("version 2") || reasons[1].contains("the version 2"), "{reasons:?}");
        assert_eq!(found.batches.into_iter().map(|(_, file)| file).collect::<Vec<_>>(), good);
        assert_eq!(found.next_sequence, 8);
        assert_eq!(names(&path), [good[0].name.as_str(), good[1].name.as_str(), "notes.txt"]);
        assert_eq!(names(&path.join(ASIDE_FOLDER)).len(), 5);
    }

    #[test]
    fn what_is_put_aside_is_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spool");
        fs::create_dir(&path).expect("made");
        for number in 0..40 {
            fs::write(path.join(format!("{number:020}-000001.report")), "not one").expect("written");
        }
        let long = fs::File::create(path.join("9.report")).expect("made");
        long.set_len(MOST_BYTES_ASIDE + 1).expect("long");

        let (_spool, found) = open(folder.path());

        assert_eq!(found.dropped.len(), 41);
        let kept = names(&path.join(ASIDE_FOLDER));
        assert_eq!((kept.len(), kept[0].as_str()), (MOST_FILES_ASIDE, "00000000000000000024-000001.report"));
        assert_eq!(names(&path), [""; 0]);
    }

    #[test]
    fn batches_of_another_anchore_or_cluster_are_dropped() {
        for identity in [
            Identity { destination: "https://other.example/".to_owned(), ..identity() },
            Identity { cluster_name: "edge-8".to_owned(), ..identity() },
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let (spool, _) = open(folder.path());
            write(&spool, 1).expect("written");
            drop(spool);

            let (_spool, found) = Spool::open(folder.path(), identity).expect("a folder");

            assert_eq!(found.dropped.iter().map(|(account, _)| account).collect::<Vec<_>>(), ["team-a"; 2]);
            assert!(found.batches.is_empty());
            assert_eq!(names(&folder.path().join("spool")), [""; 0]);
        }
    }

    #[test]
    fn a_set_is_whole_or_absent_whichever_operation_fails() {
        for skipped in 0.. {
            let folder = tempfile::tempdir().expect("a folder");
            let (spool, _) = open(folder.path());
            let before = spool.faults().done();
            spool.faults().plan(skipped, 1);
            let written = write(&spool, 1);
            let is_past = spool.faults().done() - before <= skipped;
            spool.faults().end();
            drop(spool);

            let (_spool, found) = open(folder.path());

            assert_eq!(found.batches.len(), if written.is_ok() { 2 } else { 0 }, "operation {skipped}");
            assert_eq!(names(&folder.path().join("spool")).len(), found.batches.len());
            assert!(found.dropped.is_empty());
            if is_past {
                assert_eq!(skipped, 13, "two files of three pieces each, two names, one folder");
                return;
            }
            assert!(written.is_err(), "operation {skipped}");
        }
    }

    #[test]
    fn a_disk_that_stays_full_leaves_nothing_that_cannot_be_read() {
        for skipped in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let (spool, _) = open(folder.path());
            spool.faults().plan(skipped, u64::MAX);
            let _ = write(&spool, 1);
            drop(spool);

            let (spool, found) = open(folder.path());

            assert!(found.dropped.is_empty(), "operation {skipped}");
            for (_, file) in &found.batches {
                spool.verify(file).expect("whole");
            }
        }
    }
}
