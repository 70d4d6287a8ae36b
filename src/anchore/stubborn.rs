//! A connection that is read to its end although it can no longer be written to.
//!
//! A server may refuse a report after its first bytes, say why, and close. What it said is here already when the next
//! write fails, but the HTTP client gives up on a failed write before it looks. So a lost connection takes all further
//! writes as if it sent them; the next read finds the answer, or the end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A TCP connection on which reading outlives writing.
#[derive(Debug)]
pub(super) struct StubbornStream {
    tcp: TokioIo<TcpStream>,
    is_lost: bool,
}

impl StubbornStream {
    pub(super) fn new(tcp: TokioIo<TcpStream>) -> Self {
        Self { tcp, is_lost: false }
    }

    /// What a write of `length` bytes is told: the truth, until the other end is gone.
    fn told(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Err(error) if means_lost(&error) => {
                self.is_lost = true;
                Ok(length)
            }
            written => written,
        }
    }
}

fn means_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

impl Connection for StubbornStream {
    fn connected(&self) -> Connected {
        self.tcp.connected()
    }
}

impl Read for StubbornStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl Write for StubbornStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_lost {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.tcp).poll_write(context, bytes));
        Poll::Ready(self.told(written, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if self.is_lost {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(context, pieces));
        Poll::Ready(self.told(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_lost { Poll::Ready(Ok(())) } else { Pin::new(&mut self.tcp).poll_flush(context) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_lost { Poll::Ready(Ok(())) } else { Pin::new(&mut self.tcp).poll_shutdown(context) }
    }
}
