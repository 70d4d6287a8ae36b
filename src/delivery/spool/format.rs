//! The form of a file in the spool.
//!
//! One file holds one batch. Numbers are little-endian; the CRC is CRC-32 as in gzip.
//!
//! ```text
//! offset     length
//! 0          8       "ANCHKSPL"
//! 8          4       version of the format: 1
//! 12         4       H, the length of the header
//! 16         4       CRC of bytes 0..16 and of the header
//! 20         H       the header: JSON, see `Header`
//! 20 + H     L       the body as it is sent; L stands in the header
//! 20 + H + L 4       CRC of the body
//! ```
//!
//! There is nothing secret in it: credentials come from the configuration when the body is sent.

use std::io::{self, Read, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"ANCHKSPL";

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes before the header.
const PREFIX_BYTES: usize = 20;

const TRAILER_BYTES: u64 = 4;

/// Beyond this the length is not a length.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// What a file says of its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The account the report is of.
    pub(crate) account: String,
    /// The cluster's name in it.
    pub(crate) cluster_name: String,
    /// `anchore.url` when it was written.
    pub(crate) destination: String,
    /// The report's time.
    pub(crate) timestamp: Timestamp,
    /// Number of its set, the same for all batches of it and greater than that of every set before.
    pub(crate) sequence: u64,
    /// Number of the batch in the set, from 1.
    pub(crate) batch: usize,
    /// Batches in the set.
    pub(crate) batch_count: usize,
    /// Namespaces in the batch.
    pub(crate) namespaces: usize,
    /// Length of the body in bytes.
    pub(crate) byte_len: u64,
}

/// A file is not a batch that can be sent.
#[derive(Debug, Error)]
pub(crate) enum FormatError {
    #[error("it does not begin as files of the spool do")]
    Foreign,
    #[error("its format has the version {0}, and this agent reads version {VERSION}")]
    Version(u32),
    #[error("it ends too early or too late")]
    Torn,
    #[error("its checksum is wrong")]
    Corrupt,
    #[error("its header cannot be read: {0}")]
    Header(serde_json::Error),
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The beginning of a file, up to the body.
///
/// # Errors
/// The header is longer than any can be, because a name in it is.
pub(crate) fn encode(header: &Header) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(header)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= MOST_HEADER_BYTES);
    let length = length.ok_or_else(|| io::Error::other("the names of cluster and account are too long"))?;
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + text.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    let crc = header_crc(&bytes, &text);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

/// Length of the whole file whose beginning is this long.
pub(crate) fn file_len(beginning: u64, byte_len: u64) -> u64 {
    beginning.saturating_add(byte_len).saturating_add(TRAILER_BYTES)
}

/// Reads the beginning of a file of that length; gives where the body begins as well. The body is not read.
pub(crate) fn decode(mut from: impl Read, length: u64) -> Result<(Header, u64), FormatError> {
    let mut prefix = [0; PREFIX_BYTES];
    let read = read_up_to(&mut from, &mut prefix)?;
    if !prefix.starts_with(MAGIC) {
        // Of a file that ends within these bytes nobody knows what it was.
        return Err(if read < MAGIC.len() { FormatError::Torn } else { FormatError::Foreign });
    }
    let mut numbers = prefix.split_at(MAGIC.len()).1;
    let (Some(version), Some(header_len), Some(crc)) =
        (take_u32(&mut numbers), take_u32(&mut numbers), take_u32(&mut numbers))
    else {
        return Err(FormatError::Torn);
    };
    if read < PREFIX_BYTES {
        return Err(FormatError::Torn);
    }
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let header_len = usize::try_from(header_len).unwrap_or(usize::MAX);
    if header_len > MOST_HEADER_BYTES {
        return Err(FormatError::Corrupt);
    }
    let mut text = vec![0; header_len];
    if read_up_to(&mut from, &mut text)? < header_len {
        return Err(FormatError::Torn);
    }
    if header_crc(prefix.split_at(PREFIX_BYTES - 4).0, &text) != crc {
        return Err(FormatError::Corrupt);
    }
    let header: Header = serde_json::from_slice(&text).map_err(FormatError::Header)?;
    let beginning = u64::try_from(PREFIX_BYTES + header_len).unwrap_or(u64::MAX);
    if file_len(beginning, header.byte_len) != length {
        return Err(FormatError::Torn);
    }
    Ok((header, beginning))
}

/// Reads a whole file, and checks the body against its checksum.
pub(crate) fn verify(mut from: impl Read, length: u64) -> Result<(), FormatError> {
    let (header, _) = decode(&mut from, length)?;
    let mut body = Checked::new(io::sink());
    if io::copy(&mut (&mut from).take(header.byte_len), &mut body)? != header.byte_len {
        return Err(FormatError::Torn);
    }
    let mut trailer = [0; 4];
    if read_up_to(&mut from, &mut trailer)? < trailer.len() {
        return Err(FormatError::Torn);
    }
    if u32::from_le_bytes(trailer) == body.crc() { Ok(()) } else { Err(FormatError::Corrupt) }
}

/// Writes through, counting and checksumming.
#[derive(Debug)]
pub(crate) struct Checked<W> {
    to: W,
    hasher: crc32fast::Hasher,
    written: u64,
}

impl<W: Write> Checked<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, hasher: crc32fast::Hasher::new(), written: 0 }
    }

    /// Bytes so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    fn crc(&self) -> u32 {
        self.hasher.clone().finalize()
    }

    /// Ends the body with its checksum.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let crc = self.crc();
        self.to.write_all(&crc.to_le_bytes())?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        let taken = bytes.get(..count).unwrap_or(bytes);
        self.hasher.update(taken);
        self.written = self.written.saturating_add(u64::try_from(taken.len()).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn header_crc(prefix: &[u8], text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix);
    hasher.update(text);
    hasher.finalize()
}

/// Fills `buffer` as far as there is something; gives how far.
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    fn header(byte_len: u64) -> Header {
        Header {
            account: "team-ä".to_owned(),
            cluster_name: "edge-7".to_owned(),
            destination: "https://anchore.example/".to_owned(),
            timestamp: "2026-03-04T05:06:07Z".parse().expect("a time"),
            sequence: 7,
            batch: 2,
            batch_count: 3,
            namespaces: 4,
            byte_len,
        }
    }

    fn file(body: &[u8]) -> Vec<u8> {
        let mut out = Checked::new(encode(&header(body.len() as u64)).expect("short names"));
        out.write_all(body).expect("written");
        out.finish().expect("written")
    }

    fn check(file: &[u8]) -> Result<(), FormatError> {
        verify(file, file.len() as u64)
    }

    #[test]
    fn what_was_written_is_read() {
        let file = file(b"{}");
        let (read, offset) = decode(file.as_slice(), file.len() as u64).expect("a file");
        assert_eq!(read, header(2));
        assert_eq!(file[usize::try_from(offset).expect("short")..file.len() - 4], *b"{}");
        assert!(check(&file).is_ok());
    }

    #[test]
    fn a_file_that_ends_at_any_byte_before_its_end_is_torn() {
        let file = file(b"{\"containers\":[]}");
        for length in 0..file.len() {
            let torn = check(&file[..length]).expect_err("torn");
            assert!(matches!(torn, FormatError::Torn), "{length}: {torn}");
        }
        assert!(matches!(check(&[file.as_slice(), b"x"].concat()), Err(FormatError::Torn)));
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let file = file(b"{\"containers\":[]}");
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut later = file(b"{}");
        later[8] = 2;
        let error = check(&later).expect_err("another version");
        assert_eq!(error.to_string(), "its format has the version 2, and this agent reads version 1");
    }

    #[test]
    fn something_else_is_foreign() {
        assert!(matches!(check(b"#!/bin/sh\nexit 0\n# and more\n"), Err(FormatError::Foreign)));
    }

    #[test]
    fn a_name_beyond_all_reason_is_refused() {
        let endless = Header { account: "a".repeat(MOST_HEADER_BYTES), ..header(2) };
        assert!(encode(&endless).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), follows_magic: bool) {
            let bytes = if follows_magic { [MAGIC.as_slice(), &1_u32.to_le_bytes(), &bytes].concat() } else { bytes };
            prop_assert!(check(&bytes).is_err());
        }
    }
}
