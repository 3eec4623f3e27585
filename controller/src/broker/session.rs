//! One connection: from the handshake to the pipe.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::acceptor::{Entry, SessionInfo, Shared, count};
use super::acl::{self, Action};
use super::connect::{self, Connect, ConnectError, Refusal, Version};
use super::tls::Peer;

/// Longest CONNECT: client id, topic and payload of a will are some hundred bytes.
const CONNECT_LEN_MAX: usize = 8 * 1024;
/// Buffer of each direction. TLS records and the kernel buffer on top of it.
const PIPE_LEN: usize = 8 * 1024;
/// A peer that takes nothing for this long is gone. Without it a client that stops reading
/// would hold its session for as long as its kernel answers.
const STALL: Duration = Duration::from_secs(60);
/// What a closing side gets to take the last bytes.
const CLOSE: Duration = Duration::from_secs(1);

type Tls = TlsStream<TcpStream>;

/// A connection that has passed the door, with its place in the table.
pub(super) struct Session {
    device: Tls,
    broker: TcpStream,
    info: SessionInfo,
    entry: Entry,
}

/// Does everything up to the broker's connection. Whoever is refused is told why, as far as
/// MQTT has words for it, and logged.
pub(super) async fn greet(
    shared: &Arc<Shared>,
    tcp: TcpStream,
    addr: SocketAddr,
) -> Option<Session> {
    // Commands are small and wait for answers: no Nagle. Failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let mut device = match shared.tls.accept(tcp).await {
        Ok(device) => device,
        Err(error) => {
            count(&shared.counters.handshakes_failed);
            debug!(%addr, %error, "TLS handshake failed");
            return None;
        }
    };
    let Some(peer) = device.get_ref().1.peer_certificates().and_then(|certs| Peer::of(certs, addr))
    else {
        count(&shared.counters.refused);
        warn!(%addr, "refused: a certificate of the fleet CA that names no client");
        return None;
    };
    match hello(shared, &mut device, &peer).await {
        Ok((info, entry, broker)) => Some(Session { device, broker, info, entry }),
        Err(no) => {
            count(&shared.counters.refused);
            no.log(&peer);
            if let Some((version, refusal)) = no.answer() {
                let _ = timeout(CLOSE, goodbye(device, version, refusal)).await;
            }
            None
        }
    }
}

/// Why a verified client is refused.
enum No {
    Connect(ConnectError),
    Closed(io::Error),
    ClientId(Version, String),
    Will(Version, String),
    Admission(Version),
    Full(Version),
    Broker(Version, io::Error),
}

impl No {
    fn answer(&self) -> Option<(Version, Refusal)> {
        match self {
            // What cannot be read has no version; the oldest answer is understood by most.
            Self::Connect(ConnectError::Version(_)) => Some((Version::V311, Refusal::Version)),
            Self::Connect(_) | Self::Closed(_) => None,
            Self::ClientId(version, _) => Some((*version, Refusal::ClientId)),
            Self::Will(version, _) | Self::Admission(version) => {
                Some((*version, Refusal::NotAuthorized))
            }
            Self::Full(version) | Self::Broker(version, _) => {
                Some((*version, Refusal::Unavailable))
            }
        }
    }

    fn log(&self, peer: &Peer) {
        let Peer { identity, serial, addr, .. } = peer;
        match self {
            Self::ClientId(_, client_id) => warn!(%addr, %serial,
                "refused: certificate {identity} tried to connect as client {client_id:?}"),
            Self::Will(_, topic) => warn!(%addr, %serial,
                "refused: certificate {identity} left a will for topic {topic:?}"),
            Self::Admission(_) => info!(%addr, %serial, "refused: {identity} is not admitted"),
            Self::Full(_) => warn!(%addr, "refused {identity}: too many sessions"),
            Self::Broker(_, error) => warn!(%addr, %error, "no broker for {identity}"),
            Self::Connect(error) => warn!(%addr, %error, "no CONNECT from {identity}"),
            Self::Closed(error) => debug!(%addr, %error, "{identity} left before its CONNECT"),
        }
    }
}

async fn hello(
    shared: &Arc<Shared>,
    device: &mut Tls,
    peer: &Peer,
) -> Result<(SessionInfo, Entry, TcpStream), No> {
    let mut buffer = Vec::with_capacity(1024);
    read_connect(device, &mut buffer).await?;
    let connect = connect::parse(&buffer, CONNECT_LEN_MAX).map_err(No::Connect)?;
    let version = connect.version;
    check(&connect, peer, &shared.root)?;
    let info = SessionInfo { peer: peer.clone(), client_id: connect.client_id.to_owned() };
    let entry = shared.enter(info.clone()).ok_or(No::Full(version))?;
    if !(shared.admit)(peer) {
        return Err(No::Admission(version));
    }
    let upstream = &shared.upstream;
    let mut first =
        connect.rewrite(&peer.identity.to_string(), upstream.secret.expose().as_bytes());
    // A client may send on without waiting for the answer.
    first.extend(&buffer[connect.len..]);
    let no_broker = |error| No::Broker(version, error);
    let mut broker = TcpStream::connect(upstream.addr).await.map_err(no_broker)?;
    let _ = broker.set_nodelay(true);
    broker.write_all(&first).await.map_err(no_broker)?;
    count(&shared.counters.sessions);
    Ok((info, entry, broker))
}

/// Reads until the CONNECT is complete; `buffer` may then hold the start of what follows.
async fn read_connect(device: &mut Tls, buffer: &mut Vec<u8>) -> Result<(), No> {
    loop {
        match connect::parse(buffer, CONNECT_LEN_MAX) {
            Ok(_) => return Ok(()),
            Err(ConnectError::Incomplete) => {}
            Err(error) => return Err(No::Connect(error)),
        }
        // `parse` refuses what would not fit, so an incomplete packet always leaves room.
        let room = (CONNECT_LEN_MAX - buffer.len()) as u64;
        match (&mut *device).take(room).read_buf(buffer).await {
            Ok(0) => return Err(No::Closed(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(No::Closed(error)),
        }
    }
}

fn check(connect: &Connect<'_>, peer: &Peer, root: &str) -> Result<(), No> {
    if !peer.identity.may_use_client_id(connect.client_id) {
        return Err(No::ClientId(connect.version, connect.client_id.to_owned()));
    }
    match &connect.will {
        // A will is a device's own: what hangs on it does not end with its connection.
        Some(will)
            if !acl::allowed(&peer.identity, &|_, _| false, root, Action::Publish, will.topic) =>
        {
            Err(No::Will(connect.version, will.topic.to_owned()))
        }
        _ => Ok(()),
    }
}

async fn goodbye(mut device: Tls, version: Version, refusal: Refusal) -> io::Result<()> {
    device.write_all(&connect::connack(version, refusal)).await?;
    device.shutdown().await?;
    // Closing with unread bytes would reset the connection and take the answer with it.
    copy(&mut device, &mut sink()).await.map(|_| ())
}

impl Session {
    /// Pipes until either side ends or the table says so.
    pub(super) async fn run(self) {
        let Self { device, broker, info, entry } = self;
        let SessionInfo { peer: Peer { identity, addr, .. }, client_id } = &info;
        debug!(%addr, client_id, "{identity} connected");
        let (mut from_device, mut to_device) = split(device);
        let (mut from_broker, mut to_broker) = broker.into_split();
        let why = tokio::select! {
            () = entry.end.notified() => "ended by the controller",
            ended = pipe(&mut from_device, &mut to_broker) => {
                // The broker takes what it was sent (a DISCONNECT, perhaps) and then closes.
                // Without one it sees an end without goodbye and publishes the will.
                let _ = timeout(CLOSE, async {
                    to_broker.shutdown().await?;
                    copy(&mut from_broker, &mut sink()).await
                }).await;
                if ended.is_ok() { "closed by the client" } else { "lost" }
            }
            ended = pipe(&mut from_broker, &mut to_device) => {
                let _ = timeout(CLOSE, to_device.shutdown()).await;
                if ended.is_ok() { "closed by the broker" } else { "stalled or lost" }
            }
        };
        debug!(%addr, client_id, "{identity} disconnected: {why}");
    }
}

/// Copies until the reader ends. Unlike `tokio::io::copy` it gives up on a writer that
/// takes nothing for [`STALL`].
async fn pipe(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; PIPE_LEN];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..len];
        while !rest.is_empty() {
            let written = timeout(STALL, to.write(rest)).await??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
        }
        timeout(STALL, to.flush()).await??;
    }
}
