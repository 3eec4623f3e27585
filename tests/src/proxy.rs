//! A bad network on demand: a TCP proxy that is slow, late, cut, or silently dead.
//!
//! Demo and end-to-end tests put it between a device and the broker. It shapes each
//! connection by itself, as a modem does: both directions have a token bucket of some
//! hundredths of a second, so that a rate is smooth and not a burst per second. What is on
//! the way is bounded; beyond that it stops reading and TCP pushes back.
//!
//! The ways to lose a network differ to the programs under test: [`Proxy::cut`] (reset, and
//! no new connection), [`Proxy::cut_once`] (reset, new ones work), [`Proxy::blackhole`]
//! (nothing moves, nobody is told), and one side closing, which is passed on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Largest piece that is read at once ...
const PIECE_MAX: usize = 8 * 1024;
/// ... and how long one takes on a line with a rate, so that slow lines trickle.
const PIECE_TIME: Duration = Duration::from_millis(20);
/// Pieces on the way in one direction: 0.6 s of a line with a rate, else 256 KiB.
const PIECES_MAX: usize = 32;

/// What one connection moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// The client's address.
    pub client: SocketAddr,
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
    /// Whether it is still open.
    pub open: bool,
}

/// The proxy; dropping it resets what is open and frees the port.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Rises with every cut; dropping it cuts too.
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

struct Shared {
    /// Bytes per second and direction, 0 without a limit.
    rate: AtomicU64,
    latency_us: AtomicU64,
    slice: AtomicUsize,
    refusing: AtomicBool,
    blackhole: watch::Sender<bool>,
    connections: Mutex<Vec<ConnectionCounts>>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `upstream`.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            rate: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            slice: AtomicUsize::new(PIECE_MAX),
            refusing: AtomicBool::new(false),
            blackhole: watch::Sender::new(false),
            connections: Mutex::default(),
        });
        let (cuts, cut) = watch::channel(0);
        let task = tokio::spawn(accept(listener, upstream, shared.clone(), cut));
        Ok(Self { addr, shared, cuts, task })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes per second of each direction of each connection; `None` is unlimited.
    pub fn set_rate(&self, bytes_per_s: Option<u64>) {
        self.shared.rate.store(bytes_per_s.map_or(0, |rate| rate.max(1)), Relaxed);
    }

    /// Delay of each direction: a round trip takes twice as long.
    pub fn set_latency(&self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.shared.latency_us.store(latency_us, Relaxed);
    }

    /// Writes at most this many bytes at once, to break what hopes for whole packets.
    pub fn set_slice(&self, len_max: usize) {
        self.shared.slice.store(len_max.clamp(1, PIECE_MAX), Relaxed);
    }

    /// Resets all connections and every new one, until [`Proxy::heal`].
    pub fn cut(&self) {
        self.shared.refusing.store(true, Relaxed);
        self.cut_once();
    }

    /// Ends a cut and a black hole. Rate, latency and slice stay.
    pub fn heal(&self) {
        self.shared.refusing.store(false, Relaxed);
        self.blackhole(false);
    }

    /// Resets all connections; new ones work.
    pub fn cut_once(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Stops (or resumes) forwarding without telling anyone: connections stay open, new ones
    /// are taken. This is what a lost radio link looks like.
    pub fn blackhole(&self, on: bool) {
        self.shared.blackhole.send_replace(on);
    }

    /// Bytes that went from clients to the upstream.
    pub fn bytes_up(&self) -> u64 {
        self.shared.connections().iter().map(|counts| counts.up).sum()
    }

    /// Bytes that went from the upstream to clients.
    pub fn bytes_down(&self) -> u64 {
        self.shared.connections().iter().map(|counts| counts.down).sum()
    }

    /// All connections so far, oldest first.
    pub fn connections(&self) -> Vec<ConnectionCounts> {
        self.shared.connections().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<ConnectionCounts>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long `len` bytes take on the line.
    fn time(&self, len: usize) -> Duration {
        match self.rate.load(Relaxed) {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(len as f64 / rate as f64),
        }
    }

    fn piece_len(&self) -> usize {
        match self.rate.load(Relaxed) {
            0 => PIECE_MAX,
            rate => ((rate as f64 * PIECE_TIME.as_secs_f64()) as usize).clamp(1, PIECE_MAX),
        }
    }

    /// Waits until there is no black hole.
    async fn open_hole(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.blackhole.subscribe().wait_for(|on| !on).await;
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    shared: Arc<Shared>,
    cut: watch::Receiver<u64>,
) {
    loop {
        let Ok((client, addr)) = listener.accept().await else {
            sleep(PIECE_TIME).await;
            continue;
        };
        // First the mark, then the look: no cut falls between them unnoticed.
        let mut cut = cut.clone();
        cut.mark_unchanged();
        if shared.refusing.load(Relaxed) {
            let _ = client.set_zero_linger();
            continue;
        }
        let number = shared.connections().len();
        let counts = ConnectionCounts { client: addr, up: 0, down: 0, open: true };
        shared.connections().push(counts);
        tokio::spawn(serve(client, upstream, shared.clone(), number, cut));
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    shared: Arc<Shared>,
    number: usize,
    mut cut: watch::Receiver<u64>,
) {
    let mut server = tokio::select! {
        server = TcpStream::connect(upstream) => server.ok(),
        _ = cut.changed() => None,
    };
    let mut graceful = false;
    if let Some(server) = &mut server {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let up = |len| shared.connections()[number].up += len;
        let down = |len| shared.connections()[number].down += len;
        let both = async {
            tokio::try_join!(
                forward(client_in, server_out, &shared, up),
                forward(server_in, client_out, &shared, down),
            )
        };
        graceful = tokio::select! {
            done = both => done.is_ok(),
            _ = cut.changed() => false,
        };
    }
    if !graceful {
        // A reset, on both sides: neither may believe that the other said goodbye.
        let _ = client.set_zero_linger();
        let _ = server.as_ref().map(TcpStream::set_zero_linger);
    }
    shared.connections()[number].open = false;
}

async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    count: impl Fn(u64),
) -> io::Result<()> {
    // Pieces with the time at which they are due.
    let (line, mut due_line) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let fill = async move {
        let mut buffer = vec![0; PIECE_MAX];
        while let Ok(room) = line.reserve().await {
            shared.open_hole().await;
            let len = from.read(&mut buffer[..shared.piece_len()]).await?;
            if len == 0 {
                break;
            }
            let due = Instant::now() + Duration::from_micros(shared.latency_us.load(Relaxed));
            room.send((due, buffer[..len].to_vec()));
        }
        Ok(())
    };
    let drain = async {
        let mut free_at = Instant::now();
        while let Some((due, piece)) = due_line.recv().await {
            sleep_until(due.max(free_at)).await;
            for part in piece.chunks(shared.slice.load(Relaxed)) {
                shared.open_hole().await;
                to.write_all(part).await?;
                count(part.len() as u64);
            }
            // The bucket: after a pause at most one piece's time is caught up.
            free_at = free_at.max(Instant::now() - PIECE_TIME) + shared.time(piece.len());
        }
        to.shutdown().await
    };
    tokio::try_join!(fill, drain).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);

    /// An upstream that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        addr
    }

    async fn proxy() -> Proxy {
        Proxy::start(echo().await).await.unwrap()
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.addr()).await.unwrap()
    }

    async fn there_and_back(stream: &mut TcpStream, bytes: &[u8]) {
        let (mut from, mut to) = stream.split();
        let mut got = vec![0; bytes.len()];
        let both = async { tokio::try_join!(to.write_all(bytes), from.read_exact(&mut got)) };
        timeout(SOON, both).await.unwrap().unwrap();
        assert_eq!(got, bytes);
    }

    async fn is_reset(stream: &mut TcpStream) -> bool {
        let read = timeout(SOON, stream.read_u8()).await.unwrap();
        read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    #[tokio::test]
    async fn forwards_counts_and_closes() {
        let proxy = proxy().await;
        let bytes: Vec<u8> = (0..1_000_000).map(|n| (n % 251) as u8).collect();
        let mut one = client(&proxy).await;
        there_and_back(&mut one, &bytes).await;
        let mut two = client(&proxy).await;
        proxy.set_slice(7);
        there_and_back(&mut two, &bytes[..10_000]).await;
        assert_eq!((proxy.bytes_up(), proxy.bytes_down()), (1_010_000, 1_010_000));
        one.shutdown().await.unwrap();
        assert_eq!(timeout(SOON, one.read(&mut [0])).await.unwrap().unwrap(), 0);
        let counts = proxy.connections();
        assert_eq!((counts[1].up, counts[1].down, counts[1].open), (10_000, 10_000, true));
        assert_eq!(counts[0].client, one.local_addr().unwrap());
    }

    #[tokio::test]
    async fn each_connection_has_the_rate_and_it_is_smooth() {
        let proxy = proxy().await;
        proxy.set_rate(Some(100_000));
        let (mut one, mut two) = (client(&proxy).await, client(&proxy).await);
        let bytes = vec![1; 100_000];
        let started = Instant::now();
        let half = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            proxy.bytes_up()
        };
        let (_, _, at_half) =
            tokio::join!(there_and_back(&mut one, &bytes), there_and_back(&mut two, &bytes), half);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        assert!((40_000..=120_000).contains(&at_half), "{at_half}");
    }

    #[tokio::test]
    async fn latency_delays_both_ways() {
        let proxy = proxy().await;
        let mut stream = client(&proxy).await;
        proxy.set_latency(Duration::from_millis(60));
        let started = Instant::now();
        there_and_back(&mut stream, b"x").await;
        assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn cuts_reset_and_refuse_until_healed() {
        let proxy = proxy().await;
        let mut stream = client(&proxy).await;
        there_and_back(&mut stream, b"x").await;
        proxy.cut_once();
        assert!(is_reset(&mut stream).await);
        let mut stream = client(&proxy).await;
        there_and_back(&mut stream, b"x").await;
        proxy.cut();
        assert!(is_reset(&mut stream).await);
        if let Ok(mut refused) = TcpStream::connect(proxy.addr()).await {
            assert!(is_reset(&mut refused).await);
        }
        proxy.heal();
        let mut stream = client(&proxy).await;
        there_and_back(&mut stream, b"x").await;
        drop(proxy);
        assert!(is_reset(&mut stream).await);
    }

    #[tokio::test]
    async fn a_black_hole_keeps_connections_and_says_nothing() {
        let proxy = proxy().await;
        let mut stream = client(&proxy).await;
        there_and_back(&mut stream, b"x").await;
        proxy.blackhole(true);
        stream.write_all(b"y").await.unwrap();
        assert!(timeout(Duration::from_millis(200), stream.read_u8()).await.is_err());
        let mut late = client(&proxy).await;
        late.write_all(b"z").await.unwrap();
        assert!(timeout(Duration::from_millis(100), late.read_u8()).await.is_err());
        assert_eq!(proxy.bytes_up(), 1);
        proxy.heal();
        assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), b'y');
        assert_eq!(timeout(SOON, late.read_u8()).await.unwrap().unwrap(), b'z');
    }
}
