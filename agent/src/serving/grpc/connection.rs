//! One HTTP/2 connection, and when it ends: by its client, by ours, or because nobody at the other
//! end does their part.
//!
//! HTTP/2 lets a client keep a connection alive while it neither asks nor takes answers. So the
//! connection has a clock of its own: an answer that nobody took for a whole period
//! ([`Limits::write_stall`](super::super::limits::Limits)) ends it, and so do periods without a
//! call that make up the time that REST gives an idle connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::super::http::Api;
use super::super::limits::{
    CONNECTION_WINDOW_BYTES, READ_BUFFER_BYTES_MAX, SEND_BUFFER_BYTES_MAX, STREAM_WINDOW_BYTES,
    STREAMS_MAX,
};
use super::super::listen::stopped;
use super::super::stall::Unstalled;
use super::authority::Mended;
use super::frame::Calls;
use super::service::handle;

/// Serves one connection to its end.
pub(in super::super) async fn serve<S>(stream: S, api: Arc<Api>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = api.limits;
    let stream = Mended::new(Unstalled::new(stream, limits.write_stall));
    let stream = TokioIo::new(stream);
    let calls = Arc::new(Calls::default());
    let service = {
        let calls = calls.clone();
        service_fn(move |request| handle(api.clone(), calls.clone(), request))
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(READ_BUFFER_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut clock = interval(limits.write_stall);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    let idle_periods_max =
        limits.head.as_millis().div_ceil(limits.write_stall.as_millis().max(1)).max(1);
    let (mut seen, mut idle_periods, mut ending) = (0, 0, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "gRPC connection ended");
                }
                return;
            }
            () = stopped(&mut stop), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = clock.tick() => {
                calls.period.fetch_add(1, Ordering::Relaxed);
                if calls.waited_periods() > 0 {
                    tracing::debug!("gRPC connection cut: the client does not take its answers");
                    return;
                }
                let begun = calls.begun.load(Ordering::Relaxed);
                let is_idle = begun == seen && !calls.are_underway();
                idle_periods = if is_idle { idle_periods + 1 } else { 0 };
                seen = begun;
                match (idle_periods >= idle_periods_max, ending) {
                    (false, _) => {}
                    (true, false) => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    // It was told and stays.
                    (true, true) => return,
                }
            }
        }
    }
}
