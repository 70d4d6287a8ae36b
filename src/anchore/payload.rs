//! Bodies that are larger than the memory they may use: written in chunks while they are sent, again for each attempt.
//!
//! What is written is a document as JSON, or a stretch of a file. A writer on a blocking thread fills a bounded channel, the connection empties it: at most four chunks of 64 KiB exist
//! at once. The length is known beforehand, so the request has a `Content-Length`; a writer that produces another length
//! breaks the request off instead of sending a wrong body.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that may wait for the connection.
const WAITING_CHUNKS: usize = 2;

type Write = dyn Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync;

type Permission = dyn Fn() -> bool + Send + Sync;

/// A body of known length that can be written any number of times, the same each time. Cheap to clone.
#[derive(Clone)]
pub struct Payload {
    byte_len: u64,
    write: Arc<Write>,
    permission: Option<Arc<Permission>>,
}

impl Payload {
    /// A document as compact JSON, of which `byte_len` is the length in bytes.
    pub fn json(document: impl Serialize + Send + Sync + 'static, byte_len: u64) -> Self {
        let write = move |out: &mut dyn io::Write| serde_json::to_writer(out, &document).map_err(io::Error::from);
        Self { byte_len, write: Arc::new(write), permission: None }
    }

    /// The `byte_len` bytes of a file from `offset` on. The file is opened for each attempt and must not change.
    pub fn file(path: PathBuf, offset: u64, byte_len: u64) -> Self {
        let write = move |out: &mut dyn io::Write| {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            io::copy(&mut file.take(byte_len), out).map(|_| ())
        };
        Self { byte_len, write: Arc::new(write), permission: None }
    }

    /// The same body, of which no byte is given to the connection once `permission` says no: it is asked before the
    /// first byte, which may be long after the attempt began, and before each further piece.
    pub(crate) fn while_permitted(&self, permission: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { permission: Some(Arc::new(permission)), ..self.clone() }
    }

    /// Length in bytes.
    pub fn byte_len(&self) -> u64 {
        self.byte_len
    }

    /// A body for one attempt, and how far it is; dropping the latter ends the body. Starts the writing; call within a
    /// runtime.
    pub(crate) fn body(&self) -> (PayloadBody, watch::Receiver<Progress>) {
        let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
        let (progress, observed) = watch::channel(Progress::NotStarted);
        let write = Arc::clone(&self.write);
        tokio::task::spawn_blocking(move || {
            let mut out = ChunkWriter { chunk: Vec::with_capacity(CHUNK_BYTES), sender };
            let written = write(&mut out).and_then(|()| out.send_chunk());
            if let Err(error) = written {
                // Nobody listens any more when the request has ended: its answer came early, or it was broken off.
                let _ = out.sender.blocking_send(Err(error));
            }
        });
        (PayloadBody { chunks, remaining: self.byte_len, progress, permission: self.permission.clone() }, observed)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("byte_len", &self.byte_len).finish_non_exhaustive()
    }
}

/// How far a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no connection yet.
    NotStarted,
    /// The connection took something of it and this many bytes remain.
    Remaining(u64),
    /// The connection took all of it.
    Done,
}

/// The body could not be made. No other attempt would fare better.
#[derive(Debug, Error)]
pub(crate) enum PayloadError {
    #[error("the report could not be read from its file or written as JSON: {0}")]
    Write(io::Error),
    #[error("the report may not be sent any more")]
    Forbidden,
    #[error("the report has another length than was counted")]
    Length,
    #[error("the report was answered before all of it was sent")]
    Unneeded,
}

/// A body for one attempt.
pub(crate) struct PayloadBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    remaining: u64,
    progress: watch::Sender<Progress>,
    permission: Option<Arc<Permission>>,
}

impl PayloadBody {
    /// The body of a request that has none.
    pub(crate) fn empty() -> (Self, watch::Receiver<Progress>) {
        let (_, chunks) = mpsc::channel(WAITING_CHUNKS);
        let (progress, observed) = watch::channel(Progress::Done);
        (Self { chunks, remaining: 0, progress, permission: None }, observed)
    }

    fn take(&mut self, chunk: Bytes) -> Result<Frame<Bytes>, PayloadError> {
        let length = u64::try_from(chunk.len()).map_err(|_| PayloadError::Length)?;
        self.remaining = self.remaining.checked_sub(length).ok_or(PayloadError::Length)?;
        let progress = if self.remaining == 0 { Progress::Done } else { Progress::Remaining(self.remaining) };
        self.progress.send_replace(progress);
        Ok(Frame::data(chunk))
    }
}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        if self.progress.is_closed() {
            return Poll::Ready(Some(Err(PayloadError::Unneeded)));
        }
        if self.permission.as_ref().is_some_and(|permitted| !permitted()) {
            return Poll::Ready(Some(Err(PayloadError::Forbidden)));
        }
        let chunk = ready!(self.chunks.poll_recv(context));
        Poll::Ready(match chunk {
            Some(Ok(chunk)) => Some(self.take(chunk)),
            Some(Err(error)) => Some(Err(PayloadError::Write(error))),
            None if self.remaining == 0 => None,
            None => Some(Err(PayloadError::Length)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Cuts what is written into chunks. Fails when the other end of the channel is gone, which ends the writing.
struct ChunkWriter {
    chunk: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl ChunkWriter {
    fn send_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(self.chunk.len());
        let (now, _) = bytes.split_at(room.min(bytes.len()));
        self.chunk.extend_from_slice(now);
        if self.chunk.len() >= CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use pretty_assertions::assert_eq;

    use super::*;

    fn text(length: usize) -> String {
        "anchore ".chars().cycle().take(length).collect()
    }

    fn payload(text: &str) -> Payload {
        let length = serde_json::to_vec(text).unwrap().len();
        Payload::json(text.to_owned(), u64::try_from(length).unwrap())
    }

    #[tokio::test]
    async fn a_body_is_the_document_as_json_each_time_it_is_made() {
        let text = text(3 * CHUNK_BYTES + 5);
        let payload = payload(&text);

        for _ in 0..2 {
            let (body, _observed) = payload.body();
            assert_eq!(body.size_hint().exact(), Some(payload.byte_len()));
            let sent = body.collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<String>(&sent).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn progress_is_told_until_all_is_taken() {
        let payload = payload(&text(CHUNK_BYTES + 10));
        let (mut body, progress) = payload.body();
        assert_eq!(*progress.borrow(), Progress::NotStarted);

        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), CHUNK_BYTES);
        assert_eq!(*progress.borrow(), Progress::Remaining(12));

        body.frame().await.unwrap().unwrap();
        assert_eq!(*progress.borrow(), Progress::Done);
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_document_of_another_length_breaks_the_body_off() {
        for wrong in [3, 40] {
            let (body, _observed) = Payload::json("0123456789", wrong).body();
            assert!(matches!(body.collect().await, Err(PayloadError::Length)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_written_says_why() {
        struct Unwritable;
        impl Serialize for Unwritable {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no such symbol"))
            }
        }

        let (body, _observed) = Payload::json(Unwritable, 10).body();

        let error = body.collect().await.unwrap_err().to_string();
        assert_eq!(error, "the report could not be read from its file or written as JSON: no such symbol");
    }

    #[tokio::test]
    async fn a_stretch_of_a_file_is_sent_and_a_file_that_became_shorter_breaks_the_body_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        std::fs::write(&path, text(3 * CHUNK_BYTES)).expect("written");
        let (offset, byte_len) = (8, 2 * CHUNK_BYTES + 5);
        let payload = Payload::file(path.clone(), offset, byte_len as u64);

        for _ in 0..2 {
            let sent = payload.body().0.collect().await.expect("a body").to_bytes();
            assert_eq!(sent, text(byte_len).into_bytes());
        }
        std::fs::write(&path, text(CHUNK_BYTES)).expect("written");
        assert!(matches!(payload.body().0.collect().await, Err(PayloadError::Length)));
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(payload.body().0.collect().await, Err(PayloadError::Write(_))));
    }

    #[tokio::test]
    async fn no_byte_is_given_without_permission() {
        let permitted = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&permitted);
        let payload =
            payload(&text(2 * CHUNK_BYTES)).while_permitted(move || asked.load(std::sync::atomic::Ordering::Relaxed));
        let (mut body, progress) = payload.body();
        body.frame().await.expect("a frame").expect("a chunk");

        permitted.store(false, std::sync::atomic::Ordering::Relaxed);

        assert!(matches!(body.frame().await, Some(Err(PayloadError::Forbidden))));
        let (mut body, _progress) = payload.body();
        assert!(matches!(body.frame().await, Some(Err(PayloadError::Forbidden))));
        drop(progress);
    }

    #[tokio::test]
    async fn writing_ends_when_nobody_reads() {
        let (ended, has_ended) = std::sync::mpsc::channel();
        let write = move |out: &mut dyn io::Write| loop {
            if let Err(error) = out.write_all(&[b' '; 1_000]) {
                ended.send(error.kind()).unwrap();
                return Err(error);
            }
        };
        let endless = Payload { byte_len: u64::MAX, write: Arc::new(write), permission: None };

        drop(endless.body());

        let kind = tokio::task::spawn_blocking(move || has_ended.recv().unwrap()).await.unwrap();
        assert_eq!(kind, io::ErrorKind::BrokenPipe);
    }
}
