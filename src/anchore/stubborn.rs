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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream as StdTcpStream};

    use pretty_assertions::assert_eq;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A connection whose other end has said `refused` and was closed with unread bytes, so that writes fail.
    fn reset_connection() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"some").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        server.write_all(b"refused").unwrap();
        drop(server);
        client.set_nonblocking(true).unwrap();
        TcpStream::from_std(client).unwrap()
    }

    #[tokio::test]
    async fn what_the_other_end_said_is_read_after_a_write_has_failed() {
        reset_connection().write_all(b"more").await.unwrap_err();
        let mut stream = TokioIo::new(StubbornStream::new(TokioIo::new(reset_connection())));

        stream.write_all(b"more").await.unwrap();
        stream.write_all(b"and more").await.unwrap();
        stream.flush().await.unwrap();

        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "refused");
    }
}
