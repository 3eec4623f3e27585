//! Just enough of an MQTT broker, by hand, to do everything wrong. Knows one client and no retained messages.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const CONNECT: u8 = 1;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const UNSUBSCRIBE: u8 = 10;
pub(crate) const PINGREQ: u8 = 12;
pub(crate) const DISCONNECT: u8 = 14;
/// Not a packet: the connection is over.
pub(crate) const CLOSED: u8 = 0;

/// A packet the client sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packet {
    /// Which connection, from 0.
    pub(crate) conn: usize,
    pub(crate) kind: u8,
    /// Protocol level of the connection: 4 or 5.
    pub(crate) level: u8,
    pub(crate) id: u16,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// The topic, or all filters with commas.
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// Everything after the fixed header.
    pub(crate) body: Vec<u8>,
}

impl Packet {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// What the broker does about a packet.
pub(crate) enum Reply {
    /// What a good broker would.
    Usual,
    /// The usual, and these bytes before it.
    Before(Vec<u8>),
    /// These bytes instead.
    Bytes(Vec<u8>),
    /// These bytes instead, then hang up.
    Last(Vec<u8>),
}

/// Does nothing about a packet.
pub(crate) const NOTHING: Reply = Reply::Bytes(Vec::new());
/// Hangs up.
pub(crate) const CUT: Reply = Reply::Last(Vec::new());

type Script = Arc<dyn Fn(&Packet) -> Reply + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Packet>>>,
    script: Script,
}

impl Broker {
    pub(crate) async fn start(script: impl Fn(&Packet) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at(
        address: &str,
        script: impl Fn(&Packet) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let broker = Self::new(&listener, script);
        let accepting = broker.clone();
        tokio::spawn(async move {
            for conn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(accepting.clone().serve(conn, stream));
            }
        });
        broker
    }

    /// One that is given its streams; see the TLS tests.
    pub(crate) fn new(
        listener: &TcpListener,
        script: impl Fn(&Packet) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        Self { address, seen: Arc::default(), script: Arc::new(script) }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// All packets of a kind so far.
    pub(crate) fn seen(&self, kind: u8) -> Vec<Packet> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|packet| packet.kind == kind).cloned().collect()
    }

    /// Waits until `enough` is true of all packets of a kind.
    pub(crate) async fn wait_for(
        &self,
        kind: u8,
        enough: impl Fn(&[Packet]) -> bool,
    ) -> Vec<Packet> {
        for _ in 0..1000 {
            let seen = self.seen(kind);
            if enough(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never came: {:?}", self.seen.lock().unwrap());
    }

    pub(crate) async fn serve(self, conn: usize, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut level = 0;
        while let Some(packet) = read_packet(&mut stream, conn, level).await {
            level = packet.level;
            let reply = (self.script)(&packet);
            let kind = packet.kind;
            let (bytes, last) = match reply {
                Reply::Usual => (usual(&packet), kind == DISCONNECT),
                Reply::Before(bytes) => ([bytes, usual(&packet)].concat(), kind == DISCONNECT),
                Reply::Bytes(bytes) => (bytes, false),
                Reply::Last(bytes) => (bytes, true),
            };
            self.seen.lock().unwrap().push(packet);
            if stream.write_all(&bytes).await.is_err() || last {
                break;
            }
        }
        let _ = stream.shutdown().await;
        let closed = Packet { conn, kind: CLOSED, ..Packet::default() };
        self.seen.lock().unwrap().push(closed);
    }
}

/// What a good broker answers.
fn usual(packet: &Packet) -> Vec<u8> {
    match packet.kind {
        CONNECT => connack(packet.level, false, 0),
        PUBLISH if packet.qos == 1 => puback(packet.id),
        SUBSCRIBE => suback(packet, 1),
        UNSUBSCRIBE => unsuback(packet),
        PINGREQ => vec![0xD0, 0],
        _ => Vec::new(),
    }
}

pub(crate) fn connack(level: u8, session_present: bool, code: u8) -> Vec<u8> {
    let mut body = vec![u8::from(session_present), code];
    body.extend((level == 5).then_some(0));
    frame(0x20, &body)
}

/// A v5 CONNACK with properties.
pub(crate) fn connack_with(properties: &[u8]) -> Vec<u8> {
    frame(0x20, &[&[0, 0, properties.len() as u8], properties].concat())
}

pub(crate) fn puback(id: u16) -> Vec<u8> {
    frame(0x40, &id.to_be_bytes())
}

pub(crate) fn suback(packet: &Packet, code: u8) -> Vec<u8> {
    let mut body = packet.id.to_be_bytes().to_vec();
    body.extend((packet.level == 5).then_some(0));
    body.extend(packet.topic.split(',').map(|_| code));
    frame(0x90, &body)
}

fn unsuback(packet: &Packet) -> Vec<u8> {
    let mut body = packet.id.to_be_bytes().to_vec();
    if packet.level == 5 {
        body.extend([0, 0]);
    }
    frame(0xB0, &body)
}

/// A QoS 0 message to the client.
pub(crate) fn publish(level: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend((level == 5).then_some(0));
    body.extend(payload);
    frame(0x30, &body)
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

async fn read_packet(
    stream: &mut (impl AsyncRead + Unpin),
    conn: usize,
    level: u8,
) -> Option<Packet> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let mut packet = Packet {
        conn,
        kind: first >> 4,
        level,
        qos: (first >> 1) & 3,
        retain: first & 1 == 1,
        body: body.clone(),
        ..Packet::default()
    };
    let mut rest = body.as_slice();
    match packet.kind {
        CONNECT => packet.level = body[6],
        PUBLISH => {
            packet.topic = take_text(&mut rest);
            if packet.qos > 0 {
                packet.id = take_u16(&mut rest);
            }
            skip_properties(&mut rest, level);
            packet.payload = rest.to_vec();
        }
        SUBSCRIBE | UNSUBSCRIBE => {
            packet.id = take_u16(&mut rest);
            skip_properties(&mut rest, level);
            let mut filters = Vec::new();
            while !rest.is_empty() {
                filters.push(take_text(&mut rest));
                rest = &rest[usize::from(packet.kind == SUBSCRIBE)..];
            }
            packet.topic = filters.join(",");
        }
        _ => {}
    }
    Some(packet)
}

fn take_u16(rest: &mut &[u8]) -> u16 {
    let (taken, left) = rest.split_at(2);
    *rest = left;
    u16::from_be_bytes([taken[0], taken[1]])
}

fn take_text(rest: &mut &[u8]) -> String {
    let length = usize::from(take_u16(rest));
    let (taken, left) = rest.split_at(length);
    *rest = left;
    String::from_utf8(taken.to_vec()).unwrap()
}

/// Their length is one byte in all that we send.
fn skip_properties(rest: &mut &[u8], level: u8) {
    if level == 5 {
        *rest = &rest[1 + usize::from(rest[0])..];
    }
}

/// An address where nobody listens.
pub(crate) async fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(TcpStream::connect(address).await.is_err());
    address
}
