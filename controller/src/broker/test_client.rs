//! A small MQTT client over real TLS, for tests: it can send what a decent client library
//! would not, and shows every byte of the answers. Both protocol versions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pki::{FleetCa, Issued};

/// How long a test waits for what has to come.
const WAIT: Duration = Duration::from_secs(10);
/// How long a test waits for what must not come.
pub(super) const NOTHING: Duration = Duration::from_millis(300);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One packet as it came: type and flags, body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) first: u8,
    pub(super) body: Vec<u8>,
}

/// A published message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
}

/// What a CONNECT says.
#[derive(Clone)]
pub(super) struct Hello<'a> {
    pub(super) level: u8,
    pub(super) client_id: &'a str,
    pub(super) clean: bool,
    pub(super) will: Option<(&'a str, &'a [u8])>,
    pub(super) credentials: Option<(&'a str, &'a str)>,
}

impl<'a> Hello<'a> {
    pub(super) fn new(level: u8, client_id: &'a str) -> Self {
        Self { level, client_id, clean: true, will: None, credentials: None }
    }
}

pub(super) struct Client {
    stream: Box<dyn Stream>,
    v5: bool,
    next_id: u16,
}

pub(crate) fn now() -> SystemTime {
    // Real time on purpose: rustls compares certificates with the real clock.
    #[allow(clippy::disallowed_methods)]
    SystemTime::now()
}

/// TLS to `addr` as whoever holds `own`, or without a certificate.
pub(crate) async fn tls(
    addr: SocketAddr,
    ca: &FleetCa,
    own: Option<&Issued>,
) -> io::Result<Box<dyn Stream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(own) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(own.cert_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}

impl Client {
    /// Sends CONNECT and gives back the CONNACK's code with the client.
    pub(super) async fn hello(
        mut stream: Box<dyn Stream>,
        hello: &Hello<'_>,
    ) -> io::Result<(Self, u8)> {
        stream.write_all(&connect(hello)).await?;
        stream.flush().await?;
        let mut client = Self { stream, v5: hello.level == 5, next_id: 1 };
        let answer = client.packet(WAIT).await?.ok_or(io::ErrorKind::TimedOut)?;
        assert_eq!(answer.first, 0x20, "CONNACK expected: {answer:?}");
        Ok((client, answer.body[1]))
    }

    /// Connects and insists on being accepted.
    pub(super) async fn accepted(stream: Box<dyn Stream>, hello: &Hello<'_>) -> Self {
        let (client, code) = Self::hello(stream, hello).await.unwrap();
        assert_eq!(code, 0, "{} refused", hello.client_id);
        client
    }

    /// Publishes with QoS 1 and gives back the PUBACK's reason (0 where there is none).
    pub(super) async fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> u8 {
        let id = self.id();
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        self.no_properties(&mut body);
        body.extend(payload);
        self.send(0x32 | u8::from(retain), &body).await;
        self.answer(0x40, id).await.get(2).copied().unwrap_or(0)
    }

    /// Subscribes with QoS 1 and gives back the SUBACK's code.
    pub(super) async fn subscribe(&mut self, filter: &str) -> u8 {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        self.no_properties(&mut body);
        body.extend(text(filter));
        body.push(1);
        self.send(0x82, &body).await;
        *self.answer(0x90, id).await.last().unwrap()
    }

    /// The next message, which has to come.
    pub(super) async fn message(&mut self) -> Message {
        self.message_within(WAIT).await.expect("a message")
    }

    /// The next message, if it comes in time.
    pub(super) async fn message_within(&mut self, wait: Duration) -> Option<Message> {
        loop {
            // A connection that is gone gets nothing either, and proves nothing.
            let packet = self.packet(wait).await.expect("a live connection")?;
            if packet.first & 0xf0 == 0x30 {
                return Some(self.read_message(&packet).await);
            }
        }
    }

    /// Waits until the other side closes.
    pub(super) async fn closed(&mut self) -> bool {
        loop {
            match self.packet(WAIT).await {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Says goodbye, so that no will is published.
    pub(super) async fn disconnect(mut self) {
        self.send(0xe0, &[]).await;
        let _ = self.stream.shutdown().await;
    }

    async fn read_message(&mut self, packet: &Packet) -> Message {
        let body = &packet.body;
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut at = topic_end;
        if packet.first & 0x06 != 0 {
            let id = [body[at], body[at + 1]];
            at += 2;
            self.send(0x40, &id).await;
        }
        if self.v5 {
            let (len, width) = var_int(&body[at..]);
            at += width + len;
        }
        Message {
            topic: String::from_utf8(body[2..topic_end].to_vec()).unwrap(),
            payload: body[at..].to_vec(),
            retain: packet.first & 1 == 1,
        }
    }

    async fn answer(&mut self, first: u8, id: u16) -> Vec<u8> {
        loop {
            let packet = self.packet(WAIT).await.unwrap().expect("an answer");
            if packet.first == first && packet.body[..2] == id.to_be_bytes() {
                return packet.body;
            }
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    fn no_properties(&self, body: &mut Vec<u8>) {
        if self.v5 {
            body.push(0);
        }
    }

    async fn send(&mut self, first: u8, body: &[u8]) {
        self.stream.write_all(&packet(first, body)).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn packet(&mut self, wait: Duration) -> io::Result<Option<Packet>> {
        match timeout(wait, self.read_packet()).await {
            Ok(read) => read.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn read_packet(&mut self) -> io::Result<Packet> {
        let first = self.stream.read_u8().await?;
        let mut len = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.stream.read_u8().await?;
            len |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await?;
        Ok(Packet { first, body })
    }
}

/// A CONNECT, keep alive 60 s; in v5 with a session expiry of an hour.
pub(super) fn connect(hello: &Hello<'_>) -> Vec<u8> {
    let v5 = hello.level == 5;
    let mut flags = u8::from(hello.clean) << 1;
    flags |= if hello.will.is_some() { 0x2c } else { 0 };
    flags |= if hello.credentials.is_some() { 0xc0 } else { 0 };
    let mut body = text("MQTT");
    body.extend([hello.level, flags, 0, 60]);
    if v5 {
        body.extend([5, 0x11, 0, 0, 0x0e, 0x10]);
    }
    body.extend(text(hello.client_id));
    if let Some((topic, payload)) = hello.will {
        if v5 {
            body.push(0);
        }
        body.extend(text(topic));
        body.extend((payload.len() as u16).to_be_bytes());
        body.extend(payload);
    }
    if let Some((user, password)) = hello.credentials {
        body.extend(text(user));
        body.extend(text(password));
    }
    packet(0x10, &body)
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut len = body.len();
    while len > 0x7f {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

fn var_int(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (width, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * width);
        if byte & 0x80 == 0 {
            return (value, width + 1);
        }
    }
    panic!("no length in {bytes:?}")
}
