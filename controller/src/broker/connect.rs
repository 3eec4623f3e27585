//! The first packet of a connection: read it, judge it, write it anew.
//!
//! The broker behind the acceptor learns who is speaking from user name and password only,
//! so the acceptor puts the authenticated identity and the process's secret in their place.
//! That makes this parser a gate: what passes is written again *from the fields that were
//! read*, never copied as a whole, so that the broker cannot read the packet otherwise than
//! we did. The two property blocks of v5 travel as they are; their lengths bound them.
//!
//! Pure: bytes in, bytes out, no I/O. MQTT 3.1.1 (level 4) and 5.0 (level 5).

use std::str;

const PACKET_CONNECT: u8 = 0x10;
const PROTOCOL_NAME: &[u8] = b"MQTT";

const FLAG_RESERVED: u8 = 0x01;
const FLAG_CLEAN: u8 = 0x02;
const FLAG_WILL: u8 = 0x04;
const FLAG_WILL_DETAILS: u8 = 0x38;
const FLAG_PASSWORD: u8 = 0x40;
const FLAG_USERNAME: u8 = 0x80;

/// The protocol versions that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// Why a first packet is not a CONNECT that can be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// More bytes are needed: read on.
    #[error("the packet is not complete yet")]
    Incomplete,
    /// The announced length is over the bound.
    #[error("the packet announces {len} bytes, at most {max} are taken")]
    TooLarge {
        /// Announced length with its header.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The first packet is another one.
    #[error("first byte {0:#04x} is not a CONNECT")]
    NotConnect(u8),
    /// A protocol version that is not spoken here.
    #[error("protocol level {0} is not supported")]
    Version(u8),
    /// Anything else that the standard forbids.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// A last will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS 0, 1 or 2.
    pub qos: u8,
    /// Whether it is kept as the topic's last message.
    pub retain: bool,
    /// v5 properties as they came; empty in 3.1.1.
    pub properties: &'a [u8],
    /// The topic.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
}

/// A CONNECT packet, borrowed from the bytes that it was read from.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: Version,
    /// Clean session (3.1.1) or clean start (v5).
    pub clean: bool,
    /// Keep alive, in seconds.
    pub keep_alive_s: u16,
    /// v5 properties as they came; empty in 3.1.1.
    pub properties: &'a [u8],
    /// Client id, possibly empty.
    pub client_id: &'a str,
    /// Last will.
    pub will: Option<Will<'a>>,
    /// What the client said about itself: never believed, never passed on.
    pub username: Option<&'a str>,
    /// The client's password: never believed, never passed on.
    pub password: Option<&'a [u8]>,
    /// Length of the whole packet; what follows in the buffer is the next packet.
    pub len: usize,
}

impl std::fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean", &self.clean)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Reads the CONNECT at the start of `bytes`; a packet longer than `len_max` is refused as
/// soon as its header is there.
pub fn parse(bytes: &[u8], len_max: usize) -> Result<Connect<'_>, ConnectError> {
    let mut header = Reader(bytes);
    let first = header.u8().map_err(|_| ConnectError::Incomplete)?;
    if first != PACKET_CONNECT {
        return Err(ConnectError::NotConnect(first));
    }
    let body_len = header.var_int().map_err(|short| match short {
        Some(why) => ConnectError::Malformed(why),
        None => ConnectError::Incomplete,
    })?;
    let header_len = bytes.len() - header.0.len();
    let len = header_len + body_len;
    if len > len_max {
        return Err(ConnectError::TooLarge { len, max: len_max });
    }
    let body = bytes.get(header_len..len).ok_or(ConnectError::Incomplete)?;
    parse_body(Reader(body), len)
}

fn parse_body(mut body: Reader<'_>, len: usize) -> Result<Connect<'_>, ConnectError> {
    let name = body.bytes()?;
    let level = body.u8()?;
    let version = match (name, level) {
        (PROTOCOL_NAME, 4) => Version::V311,
        (PROTOCOL_NAME, 5) => Version::V5,
        (PROTOCOL_NAME, _) | (b"MQIsdp", 3) => return Err(ConnectError::Version(level)),
        _ => return Err(ConnectError::Malformed("protocol name")),
    };
    let flags = body.u8()?;
    check_flags(version, flags)?;
    let keep_alive_s = body.u16()?;
    let properties = body.properties(version)?;
    let client_id = body.string()?;
    let will = if flags & FLAG_WILL != 0 { Some(body.will(version, flags)?) } else { None };
    let username = if flags & FLAG_USERNAME != 0 { Some(body.string()?) } else { None };
    let password = if flags & FLAG_PASSWORD != 0 { Some(body.bytes()?) } else { None };
    if !body.0.is_empty() {
        return Err(ConnectError::Malformed("bytes after the last field"));
    }
    Ok(Connect {
        version,
        clean: flags & FLAG_CLEAN != 0,
        keep_alive_s,
        properties,
        client_id,
        will,
        username,
        password,
        len,
    })
}

fn check_flags(version: Version, flags: u8) -> Result<(), ConnectError> {
    if flags & FLAG_RESERVED != 0 {
        return Err(ConnectError::Malformed("reserved flag set"));
    }
    if flags & FLAG_WILL == 0 && flags & FLAG_WILL_DETAILS != 0 {
        return Err(ConnectError::Malformed("will flags without a will"));
    }
    if will_qos(flags) == 3 {
        return Err(ConnectError::Malformed("will QoS 3"));
    }
    if version == Version::V311 && flags & FLAG_PASSWORD != 0 && flags & FLAG_USERNAME == 0 {
        return Err(ConnectError::Malformed("password without a user name"));
    }
    Ok(())
}

fn will_qos(flags: u8) -> u8 {
    (flags >> 3) & 0x03
}

impl Connect<'_> {
    /// The same packet with these credentials instead of the client's own.
    ///
    /// `username` and `password` are ours and shorter than 64 KiB; longer ones would be cut.
    pub fn rewrite(&self, username: &str, password: &[u8]) -> Vec<u8> {
        let mut flags = FLAG_USERNAME | FLAG_PASSWORD;
        if self.clean {
            flags |= FLAG_CLEAN;
        }
        if let Some(will) = &self.will {
            flags |= FLAG_WILL | (will.qos << 3) | (u8::from(will.retain) << 5);
        }
        let mut body = Vec::with_capacity(self.len + username.len() + password.len() + 4);
        put_bytes(&mut body, PROTOCOL_NAME);
        body.extend([self.version.level(), flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        put_properties(&mut body, self.version, self.properties);
        put_bytes(&mut body, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            put_properties(&mut body, self.version, will.properties);
            put_bytes(&mut body, will.topic.as_bytes());
            put_bytes(&mut body, will.payload);
        }
        put_bytes(&mut body, username.as_bytes());
        put_bytes(&mut body, password);

        let mut packet = Vec::with_capacity(body.len() + 5);
        packet.push(PACKET_CONNECT);
        put_var_int(&mut packet, body.len());
        packet.append(&mut body);
        packet
    }
}

/// Why a connection is refused, as a CONNACK says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The client id is not this certificate's.
    ClientId,
    /// The last will lies in someone else's topics.
    NotAuthorized,
    /// The protocol version is not spoken here.
    Version,
    /// No room, or the broker is not there.
    Unavailable,
}

/// The CONNACK for a refusal. For [`Refusal::Version`] it is the 3.1.1 form, which is what
/// every older client understands.
pub fn connack(version: Version, refusal: Refusal) -> Vec<u8> {
    let v5_reason = match refusal {
        Refusal::ClientId => 0x85,
        Refusal::NotAuthorized => 0x87,
        Refusal::Unavailable => 0x88,
        Refusal::Version => 0x84,
    };
    let v311_code = match refusal {
        Refusal::Version => 1,
        Refusal::ClientId => 2,
        Refusal::Unavailable => 3,
        Refusal::NotAuthorized => 5,
    };
    match version {
        Version::V5 => vec![0x20, 3, 0, v5_reason, 0],
        Version::V311 => vec![0x20, 2, 0, v311_code],
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ConnectError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(ConnectError::Malformed("a field ends after the packet"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, ConnectError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, ConnectError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn bytes(&mut self) -> Result<&'a [u8], ConnectError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    fn string(&mut self) -> Result<&'a str, ConnectError> {
        let text = str::from_utf8(self.bytes()?)
            .map_err(|_| ConnectError::Malformed("a text is not UTF-8"))?;
        if text.contains('\0') {
            return Err(ConnectError::Malformed("a text contains NUL"));
        }
        Ok(text)
    }

    /// A variable byte integer; `Err(None)` when the bytes end before it does.
    fn var_int(&mut self) -> Result<usize, Option<&'static str>> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8().map_err(|_| None)?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Some("a length of more than four bytes"))
    }

    fn properties(&mut self, version: Version) -> Result<&'a [u8], ConnectError> {
        if version == Version::V311 {
            return Ok(&[]);
        }
        let len = self
            .var_int()
            .map_err(|why| ConnectError::Malformed(why.unwrap_or("properties are cut")))?;
        self.take(len)
    }

    fn will(&mut self, version: Version, flags: u8) -> Result<Will<'a>, ConnectError> {
        Ok(Will {
            qos: will_qos(flags),
            retain: flags & 0x20 != 0,
            properties: self.properties(version)?,
            topic: self.string()?,
            payload: self.bytes()?,
        })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(len.to_be_bytes());
    out.extend(&bytes[..usize::from(len)]);
}

fn put_properties(out: &mut Vec<u8>, version: Version, properties: &[u8]) {
    if version == Version::V5 {
        put_var_int(out, properties.len());
        out.extend(properties);
    }
}

fn put_var_int(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
