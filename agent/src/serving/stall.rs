//! A stream that gives up on a peer who does not take what is written.
//!
//! hyper bounds how long a request head may take and we bound its body; nobody bounds a client
//! that asks for a large answer and then does not read it. While bytes are waiting, the peer must
//! take [`PROGRESS_BYTES_MIN`] in each period, or the last of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes that count as progress: with 20 s, a client slower than 3 kB/s is no reader.
const PROGRESS_BYTES_MIN: usize = 64 << 10;

pub(super) struct Unstalled<S> {
    stream: S,
    period: Duration,
    /// Since the peer first did not take everything, and what it took since.
    blocked: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Unstalled<S> {
    pub(super) fn new(stream: S, period: Duration) -> Self {
        Self { stream, period, blocked: None }
    }

    fn note_write(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match (wrote, &mut self.blocked) {
            (Poll::Ready(Ok(bytes)), Some((_, taken))) => {
                *taken += bytes;
                if *taken >= PROGRESS_BYTES_MIN {
                    self.blocked = None;
                }
                wrote_bytes(bytes)
            }
            (Poll::Pending, blocked) => {
                let period = self.period;
                let sleep = || (Box::pin(tokio::time::sleep(period)), 0);
                let (timer, _) = blocked.get_or_insert_with(sleep);
                ready!(timer.as_mut().poll(cx));
                let text = "the client does not take the answer";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
            (wrote, None) => wrote,
            (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
        }
    }
}

fn wrote_bytes(bytes: usize) -> Poll<io::Result<usize>> {
    Poll::Ready(Ok(bytes))
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Reached only when everything was written: hyper flushes its own buffer first.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.blocked = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
