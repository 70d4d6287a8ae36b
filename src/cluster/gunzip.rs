//! Inflates an answer while it arrives, a bounded piece at a time, and knows a complete stream from one that was cut off.
//!
//! The decoder writes straight into the buffers that objects are later cut from. Answers of several gzip members, as
//! servers send that flush in between (RFC 1952, section 2.2), are read as one.

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

/// Bytes given at once. Some compressed bytes become a thousand times as many, so this is what bounds memory.
const PIECE: usize = 64 * 1024;

/// The largest window of a gzip stream.
const WINDOW_BITS: u8 = 15;

/// Why a stream could not be inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GunzipError {
    /// It is not gzip, or its checksum is wrong.
    #[error("its gzip is broken: {0}")]
    Broken(String),
    /// It ended inside a member.
    #[error("its gzip was cut off")]
    CutOff,
}

/// Inflates one body.
pub(crate) struct Gunzip {
    /// `None` between two members, and before the first.
    member: Option<Decompress>,
    compressed: Bytes,
    /// The decoder filled its piece and may hold more.
    is_full: bool,
    has_members: bool,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self { member: None, compressed: Bytes::new(), is_full: false, has_members: false }
    }

    /// Takes the next chunk. All pieces of the former one have to be taken first.
    pub(crate) fn push(&mut self, compressed: Bytes) {
        debug_assert!(self.compressed.is_empty(), "pieces of the former chunk were not taken");
        self.compressed = compressed;
    }

    /// The next piece, or `None` when it needs another chunk.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, GunzipError> {
        while self.is_full || !self.compressed.is_empty() {
            let piece = self.inflate()?;
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
        Ok(None)
    }

    /// The body has ended: was that all of the stream?
    pub(crate) fn finish(&self) -> Result<(), GunzipError> {
        if self.has_members && self.member.is_none() { Ok(()) } else { Err(GunzipError::CutOff) }
    }

    fn inflate(&mut self) -> Result<Vec<u8>, GunzipError> {
        let member = self.member.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
        self.has_members = true;
        let mut piece = Vec::with_capacity(PIECE);
        let before = member.total_in();
        let status = member
            .decompress_vec(&self.compressed, &mut piece, FlushDecompress::None)
            .map_err(|error| GunzipError::Broken(error.to_string()))?;
        // At most the length of what was given.
        let consumed = usize::try_from(member.total_in() - before).unwrap_or(usize::MAX);
        self.compressed.advance(consumed.min(self.compressed.len()));
        self.is_full = piece.len() == piece.capacity() && status != Status::StreamEnd;
        if status == Status::StreamEnd {
            self.member = None;
        } else if consumed == 0 && piece.is_empty() && !self.compressed.is_empty() {
            return Err(GunzipError::Broken("it makes no progress".to_owned()));
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn gunzip(compressed: &[u8], chunk: usize) -> Result<Vec<u8>, GunzipError> {
        let mut gunzip = Gunzip::new();
        let mut text = Vec::new();
        for chunk in compressed.chunks(chunk) {
            gunzip.push(Bytes::copy_from_slice(chunk));
            while let Some(piece) = gunzip.next()? {
                assert!(piece.len() <= PIECE);
                text.extend_from_slice(&piece);
            }
        }
        gunzip.finish()?;
        Ok(text)
    }

    #[test]
    fn what_grows_a_thousandfold_comes_in_bounded_pieces() {
        let zeros = vec![0; 20 * PIECE + 3];
        assert!(gunzip(&gzip(&zeros), 1 << 20).expect("complete") == zeros);
    }

    #[test]
    fn several_members_are_one_text() {
        let members = [gzip(b"first, "), gzip(b""), gzip(b"second")].concat();
        assert_eq!(gunzip(&members, 5).expect("complete"), b"first, second");
    }

    #[test]
    fn a_stream_cut_off_anywhere_is_never_complete() {
        let compressed = gzip(b"a report is complete for what it names, or it is not made");
        for end in 0..compressed.len() {
            assert_eq!(gunzip(&compressed[..end], 7), Err(GunzipError::CutOff), "cut at {end}");
        }
    }

    #[test]
    fn what_is_not_gzip_or_fails_its_checksum_is_refused() {
        let mut wrong_checksum = gzip(b"text");
        let checksum = wrong_checksum.len() - 8;
        wrong_checksum[checksum] ^= 1;
        for wrong in
            [&b"<html>sorry</html>"[..], &wrong_checksum, &[gzip(b"text"), b"trailing garbage".to_vec()].concat()]
        {
            assert!(matches!(gunzip(wrong, 64), Err(GunzipError::Broken(_))), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_give_the_same_text(
            text in prop::collection::vec(any::<u8>(), 0..5_000),
            chunk in 1..700usize,
        ) {
            prop_assert_eq!(gunzip(&gzip(&text), chunk).expect("complete"), text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1..50usize) {
            let _ = gunzip(&bytes, chunk);
            let _ = gunzip(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &bytes[..]].concat(), chunk);
        }
    }
}
