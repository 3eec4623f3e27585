//! As much of MQTT 5.0 as somebody in the middle needs: packets as they are, and PUBLISH in
//! parts (OASIS MQTT 5.0, sections 2.1 and 3.3). Everything else is passed on unread.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Larger than any message that the controller or a device sends.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// CONNECT, PUBLISH and PUBACK, in the upper half of the first byte.
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// One packet: its first byte, and what follows the length.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    first: u8,
    body: Vec<u8>,
}

/// The parts of a PUBLISH.
#[derive(Clone, Debug)]
pub(super) struct Publish {
    /// DUP, QoS and RETAIN as they stand in the first byte.
    flags: u8,
    /// Where to.
    pub(super) topic: String,
    /// Only with a QoS above 0.
    pub(super) id: Option<u16>,
    /// With their length.
    properties: Vec<u8>,
    /// What.
    pub(super) payload: Vec<u8>,
}

impl Packet {
    /// The next packet, `None` where the stream ends between two.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let first = match from.read_u8().await {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut len = 0;
        for shift in [0, 7, 14, 21] {
            let byte = from.read_u8().await?;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        if len > PACKET_BYTES_MAX {
            return Err(io::Error::other(format!("a packet of {len} bytes")));
        }
        let mut body = vec![0; len];
        from.read_exact(&mut body).await?;
        Ok(Some(Self { first, body }))
    }

    /// The bytes on the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        let mut len = self.body.len();
        loop {
            let more = len > 0x7f;
            bytes.push(len as u8 & 0x7f | if more { 0x80 } else { 0 });
            len >>= 7;
            if !more {
                break;
            }
        }
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Acknowledges the PUBLISH with this id.
    pub(super) fn ack(id: u16) -> Self {
        Self { first: PUBACK << 4, body: id.to_be_bytes().to_vec() }
    }

    /// The client's id, if this is its CONNECT.
    pub(super) fn client_id(&self) -> Option<String> {
        if self.first >> 4 != CONNECT {
            return None;
        }
        // Protocol name, version, flags, keep-alive; then, from version 5 on, properties.
        let name_len = usize::from(u16::from_be_bytes([*self.body.first()?, *self.body.get(1)?]));
        let version = *self.body.get(2 + name_len)?;
        let mut rest = self.body.get(2 + name_len + 4..)?;
        if version >= 5 {
            rest = rest.get(properties_len(rest)?..)?;
        }
        Some(text(rest)?.0)
    }

    /// The PUBLISH, if it is one.
    pub(super) fn publish(&self) -> Option<Publish> {
        if self.first >> 4 != PUBLISH {
            return None;
        }
        let (topic, mut rest) = text(&self.body)?;
        let mut id = None;
        if self.first >> 1 & 3 > 0 {
            id = Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
            rest = rest.get(2..)?;
        }
        let len = properties_len(rest)?;
        let (properties, payload) = (rest.get(..len)?.to_vec(), rest.get(len..)?.to_vec());
        Some(Publish { flags: self.first & 0x0f, topic, id, properties, payload })
    }
}

impl Publish {
    /// A message that nobody acknowledges.
    pub(super) fn at_most_once(topic: &str, payload: Vec<u8>) -> Self {
        Self { flags: 0, topic: topic.to_owned(), id: None, properties: vec![0], payload }
    }

    /// As a packet.
    pub(super) fn packet(&self) -> Packet {
        let mut body = (self.topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(self.topic.as_bytes());
        body.extend(self.id.into_iter().flat_map(u16::to_be_bytes));
        body.extend_from_slice(&self.properties);
        body.extend_from_slice(&self.payload);
        Packet { first: PUBLISH << 4 | self.flags, body }
    }
}

/// A length of two bytes and as much text, and what comes after.
fn text(from: &[u8]) -> Option<(String, &[u8])> {
    let len = usize::from(u16::from_be_bytes([*from.first()?, *from.get(1)?]));
    let text = std::str::from_utf8(from.get(2..2 + len)?).ok()?;
    Some((text.to_owned(), &from[2 + len..]))
}

/// Bytes that the properties take, their length included.
fn properties_len(from: &[u8]) -> Option<usize> {
    let (mut len, mut at) = (0, 0);
    loop {
        let byte = *from.get(at)?;
        len |= usize::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte < 0x80 {
            return Some(at + len);
        }
        if at == 4 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_publish_reads_back() {
        for (id, len) in [(None, 0), (Some(7), 200), (Some(65_535), 70_000)] {
            let mut publish = Publish::at_most_once("a/b", vec![5; len]);
            (publish.id, publish.flags) = (id, if id.is_some() { 2 } else { 0 });
            let bytes = publish.packet().bytes();
            let packet = Packet::read(&mut &bytes[..]).await.unwrap().unwrap();
            let back = packet.publish().unwrap();
            assert_eq!((back.topic.as_str(), back.id), ("a/b", id));
            assert_eq!(back.payload.len(), len);
            assert_eq!(packet.bytes(), bytes);
        }
    }
}
