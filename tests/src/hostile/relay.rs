//! Between the endpoints: TLS with the broker's own key on one side, a broker without any
//! rules on the other, and every packet through the attacker's hands.
//!
//! Whoever holds the broker's certificate is the broker. Devices and controller connect
//! here, see the right name signed by the right authority, and are told whatever the
//! [`Attack`] wants. What it takes away is acknowledged in the receiver's name, so that the
//! sender believes it arrived.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fleetway_protocol::ids::Digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::attack::Attack;
use super::kinds::Way;
use super::mqtt::{Packet, Publish};

/// Packets on their way in one direction: then the attacker waits for the reader, so that
/// nothing it sends is lost in a queue.
const PACKETS_MAX: usize = 64;

/// A place in the middle that listens already and is not open yet.
#[derive(Debug)]
pub(crate) struct Middle {
    listener: TcpListener,
    addr: SocketAddr,
}

/// The running relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// What it does to what passes.
    pub attack: Arc<Attack>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Middle {
    pub(crate) async fn bind() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port in the middle")?;
        let addr = listener.local_addr().context("a port in the middle")?;
        Ok(Self { listener, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Opens with the broker's identity from the controller's directory.
    pub(crate) fn open(self, controller: &Path, broker: SocketAddr, seed: u64) -> Result<Relay> {
        let pki = controller.join("pki");
        let chain: Vec<_> = CertificateDer::pem_file_iter(pki.join("server.pem"))
            .and_then(Iterator::collect)
            .context("the broker's certificate")?;
        let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).context("its key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let ca = CertificateDer::from_pem_file(pki.join("ca.pem")).context("the fleet's CA")?;
        let attack = Arc::new(Attack::new(seed, Digest::of(&ca)));
        let task = tokio::spawn(accept(self.listener, acceptor, broker, attack.clone()));
        Ok(Relay { attack, task })
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    broker: SocketAddr,
    attack: Arc<Attack>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, attack) = (acceptor.clone(), attack.clone());
        tokio::spawn(async move {
            // A client that goes away is no news.
            let _ = between(client, acceptor, broker, attack).await;
        });
    }
}

async fn between(
    client: TcpStream,
    acceptor: TlsAcceptor,
    broker: SocketAddr,
    attack: Arc<Attack>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let broker = TcpStream::connect(broker).await?;
    broker.set_nodelay(true)?;
    let Some(connect) = Packet::read(&mut client).await? else { return Ok(()) };
    let id = connect.client_id().ok_or_else(|| io::Error::other("no CONNECT"))?;
    let (client_in, client_out) = tokio::io::split(client);
    let (broker_in, broker_out) = broker.into_split();
    let (to_client, for_client) = mpsc::channel(PACKETS_MAX);
    let (to_broker, for_broker) = mpsc::channel(PACKETS_MAX);
    let _ = to_broker.send(connect.bytes()).await;
    let line = attack.connected(&id, &to_client);
    let ended = tokio::select! {
        ended = write(client_out, for_client) => ended,
        ended = write(broker_out, for_broker) => ended,
        ended = pass(client_in, &id, Way::Up, &attack, &to_broker, &to_client) => ended,
        ended = pass(broker_in, &id, Way::Down, &attack, &to_client, &to_broker) => ended,
    };
    attack.gone(&id, line);
    ended
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut packets: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(packet) = packets.recv().await {
        to.write_all(&packet).await?;
        if packets.is_empty() {
            to.flush().await?;
        }
    }
    Ok(())
}

/// Passes packets on; what is published goes through the attacker's hands.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    id: &str,
    way: Way,
    attack: &Attack,
    on: &mpsc::Sender<Vec<u8>>,
    back: &mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let closed = |_| io::Error::other("the other side is gone");
    while let Some(packet) = Packet::read(&mut from).await? {
        let Some(publish) = packet.publish() else {
            on.send(packet.bytes()).await.map_err(closed)?;
            continue;
        };
        let passed = attack.touch(id, way, publish.clone());
        let kept = passed.iter().any(|p: &Publish| p.id.is_some() && p.id == publish.id);
        if let Some(ack) = publish.id.filter(|_| !kept) {
            back.send(Packet::ack(ack).bytes()).await.map_err(closed)?;
        }
        for publish in passed {
            on.send(publish.packet().bytes()).await.map_err(closed)?;
        }
    }
    Ok(())
}
