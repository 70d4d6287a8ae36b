//! Bodies of answers, and what can go wrong with them on their way.

use std::io;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// A body of known length.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length, made while it is sent.
pub(crate) fn streamed(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    from_chunks(stream::iter(chunks.map(Ok)).boxed())
}

/// The same chunks through gzip at level 1, as the API server compresses.
pub(crate) fn gzip(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> impl Iterator<Item = Bytes> + Send {
    let mut chunks = chunks.fuse();
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    std::iter::from_fn(move || {
        loop {
            let Some(chunk) = chunks.next() else {
                // Writing into a vector cannot fail.
                return encoder.take()?.finish().ok().map(Bytes::from);
            };
            let writer = encoder.as_mut()?;
            writer.write_all(&chunk).ok()?;
            if writer.get_ref().len() >= 16 * 1024 {
                return Some(Bytes::from(std::mem::take(writer.get_mut())));
            }
        }
    })
}

/// Keeps `held` until the body is sent or dropped.
pub(crate) fn holding<T: Unpin + Send + 'static>(body: Body, held: T) -> Body {
    Holding { body, _held: held }.boxed_unsync()
}

/// The first `count` bytes, then an end as if it were all.
pub(crate) fn truncated(body: Body, count: usize) -> Body {
    from_chunks(first(body, count))
}

/// The first `count` bytes, then the connection is closed.
pub(crate) fn cut(body: Body, count: usize) -> Body {
    let cut = stream::once(async {
        // The server drops what it has not yet written when a body fails, so the bytes get a moment to leave.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    from_chunks(first(body, count).chain(cut).boxed())
}

/// The first `count` bytes, then nothing more for as long as the client waits.
pub(crate) fn stalled(body: Body, count: usize) -> Body {
    from_chunks(first(body, count).chain(stream::pending()).boxed())
}

/// The same bytes in chunks of `size`, each after `pause`.
pub(crate) fn paced(body: Body, size: usize, pause: Duration) -> Body {
    let pieces = body.into_data_stream().map_ok(move |chunk| {
        let pieces: Vec<Bytes> = (0..chunk.len())
            .step_by(size.max(1))
            .map(|start| chunk.slice(start..chunk.len().min(start + size.max(1))))
            .collect();
        stream::iter(pieces.into_iter().map(Ok))
    });
    let paced = pieces.try_flatten().then(move |piece| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        piece
    });
    from_chunks(paced.boxed())
}

/// Unlike `map_frame`, it keeps the length known.
struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn first(body: Body, count: usize) -> Chunks {
    let chunks = body.into_data_stream().scan(count, |left, chunk| {
        future::ready(match chunk {
            Ok(_) if *left == 0 => None,
            Ok(mut chunk) => {
                chunk.truncate(*left);
                *left -= chunk.len();
                Some(Ok(chunk))
            }
            Err(error) => Some(Err(error)),
        })
    });
    chunks.boxed()
}

/// A body that goes on for as long as these chunks do; an error breaks the connection.
pub(crate) fn from_chunks(chunks: Chunks) -> Body {
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}
