//! The first packet comes from anybody, before anything is known of them. So it is cut at every
//! byte, made of random bytes, and given forbidden flags; and what is written anew must read the
//! same, except for the credentials, which must be gone.

use super::*;
use proptest::prelude::*;

const MAX: usize = 8 * 1024;

/// Writes a CONNECT by hand, field by field, so that the tests do not lean on `rewrite`.
struct Raw {
    name: &'static [u8],
    level: u8,
    flags: u8,
    rest: Vec<u8>,
}

fn raw(level: u8, flags: u8, rest: Vec<u8>) -> Raw {
    Raw { name: b"MQTT", level, flags, rest }
}

impl Raw {
    fn bytes(&self) -> Vec<u8> {
        let mut body = field(self.name);
        body.extend([self.level, self.flags, 0, 60]);
        body.extend(&self.rest);
        let mut packet = vec![0x10];
        put_var_int(&mut packet, body.len());
        packet.extend(body);
        packet
    }
}

fn field(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

fn fields(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| field(part)).collect()
}

fn malformed(bytes: &[u8]) -> bool {
    matches!(parse(bytes, MAX), Err(ConnectError::Malformed(_)))
}

/// A v5 packet with everything: session expiry, a will with a delay, user name, password.
fn full_v5() -> Vec<u8> {
    let mut rest = vec![5, 0x11, 0, 1, 0x51, 0x80];
    rest.extend(field(b"cam-1"));
    rest.extend([5, 0x18, 0, 0, 0, 10]);
    rest.extend(fields(&[b"fleetway/v1/d/cam-1/up/on", b"\x00gone", b"me", b"secret"]));
    raw(5, 0xee, rest).bytes()
}

#[test]
fn reads_311() {
    let packet = raw(4, 0x02, field(b"cam-1")).bytes();
    let connect = parse(&packet, MAX).unwrap();
    assert_eq!(
        connect,
        Connect {
            version: Version::V311,
            clean: true,
            keep_alive_s: 60,
            properties: &[],
            client_id: "cam-1",
            will: None,
            username: None,
            password: None,
            len: packet.len(),
        }
    );
}

#[test]
fn reads_v5_with_everything() {
    let packet = full_v5();
    let connect = parse(&packet, MAX).unwrap();
    assert_eq!(
        connect,
        Connect {
            version: Version::V5,
            clean: true,
            keep_alive_s: 60,
            properties: &[0x11, 0, 1, 0x51, 0x80],
            client_id: "cam-1",
            will: Some(Will {
                qos: 1,
                retain: true,
                properties: &[0x18, 0, 0, 0, 10],
                topic: "fleetway/v1/d/cam-1/up/on",
                payload: b"\x00gone",
            }),
            username: Some("me"),
            password: Some(b"secret"),
            len: packet.len(),
        }
    );
}

#[test]
fn every_truncation_asks_for_more() {
    let packet = full_v5();
    for cut in 0..packet.len() {
        assert_eq!(parse(&packet[..cut], MAX), Err(ConnectError::Incomplete), "cut at {cut}");
    }
}

#[test]
fn every_inner_cut_is_malformed() {
    // The header says less than the fields need: never a read past the packet.
    let packet = full_v5();
    for short in 1..packet.len() - 2 {
        let mut cut = packet.clone();
        cut[1] -= u8::try_from(short).unwrap();
        assert!(malformed(&cut), "short by {short}");
    }
}

#[test]
fn what_follows_is_left_alone() {
    let mut packet = full_v5();
    let len = packet.len();
    packet.extend([0xc0, 0]);
    assert_eq!(parse(&packet, MAX).unwrap().len, len);
}

#[test]
fn a_length_over_the_bound_is_refused_at_its_header() {
    assert_eq!(
        parse(&[0x10, 0xff, 0xff, 0xff, 0x7f], MAX),
        Err(ConnectError::TooLarge { len: 268_435_460, max: MAX })
    );
    assert!(malformed(&[0x10, 0xff, 0xff, 0xff, 0xff]));
    assert!(malformed(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x01]));
    assert_eq!(parse(&[0x10, 0xff, 0xff, 0xff], MAX), Err(ConnectError::Incomplete));
    let packet = full_v5();
    assert!(parse(&packet, packet.len()).is_ok());
    let bound = packet.len() - 1;
    assert!(matches!(parse(&packet, bound), Err(ConnectError::TooLarge { .. })));
}

#[test]
fn other_packets_and_versions_are_refused() {
    for first in [0x00, 0x11, 0x20, 0x30, 0xc0, 0xf0, b'G', 0x16] {
        assert_eq!(parse(&[first, 0], MAX), Err(ConnectError::NotConnect(first)));
    }
    for level in [0, 3, 6, 0x84] {
        let packet = raw(level, 2, field(b"cam")).bytes();
        assert_eq!(parse(&packet, MAX), Err(ConnectError::Version(level)));
    }
    let old = Raw { name: b"MQIsdp", ..raw(3, 2, field(b"cam")) };
    assert_eq!(parse(&old.bytes(), MAX), Err(ConnectError::Version(3)));
    let other = Raw { name: b"HTTP", ..raw(4, 2, field(b"cam")) };
    assert!(malformed(&other.bytes()));
}

#[test]
fn forbidden_flags_are_malformed() {
    let id = field(b"cam");
    assert!(malformed(&raw(4, 0x01, id.clone()).bytes()), "reserved");
    assert!(malformed(&raw(4, 0x08, id.clone()).bytes()), "will QoS without will");
    assert!(malformed(&raw(4, 0x20, id.clone()).bytes()), "will retain without will");
    let will = fields(&[b"cam", b"t", b"p"]);
    assert!(malformed(&raw(4, 0x1c, will).bytes()), "will QoS 3");
    let password = fields(&[b"cam", b"pw"]);
    assert!(malformed(&raw(4, 0x40, password.clone()).bytes()), "password alone in 3.1.1");
    let mut v5 = vec![0];
    v5.extend(password);
    let packet = raw(5, 0x40, v5).bytes();
    assert_eq!(parse(&packet, MAX).unwrap().password, Some(&b"pw"[..]));
}

#[test]
fn texts_must_be_utf8_without_nul() {
    assert!(malformed(&raw(4, 2, field(b"c\xffm")).bytes()));
    assert!(malformed(&raw(4, 2, field(b"c\0m")).bytes()));
    assert!(malformed(&raw(4, 2, field(b"\xed\xa0\x80")).bytes()), "surrogate");
    assert!(malformed(&raw(4, 6, fields(&[b"cam", b"\xff", b"p"])).bytes()), "will topic");
}

#[test]
fn bytes_after_the_last_field_are_malformed() {
    let mut rest = field(b"cam");
    rest.push(0);
    assert!(malformed(&raw(4, 2, rest).bytes()));
}

#[test]
fn the_clients_credentials_do_not_survive() {
    let packet = full_v5();
    let written = parse(&packet, MAX).unwrap().rewrite("device/cam-1", b"process-secret");
    let read = parse(&written, MAX).unwrap();
    assert_eq!(read.username, Some("device/cam-1"));
    assert_eq!(read.password, Some(&b"process-secret"[..]));
    assert!(!written.windows(6).any(|w| w == b"\x00\x06secr"));
    assert_eq!(read.len, written.len());
}

#[test]
fn refusals_speak_the_clients_version() {
    assert_eq!(connack(Version::V5, Refusal::ClientId), [0x20, 3, 0, 0x85, 0]);
    assert_eq!(connack(Version::V311, Refusal::ClientId), [0x20, 2, 0, 2]);
    assert_eq!(connack(Version::V5, Refusal::NotAuthorized)[3], 0x87);
    assert_eq!(connack(Version::V311, Refusal::NotAuthorized)[3], 5);
    assert_eq!(connack(Version::V311, Refusal::Version)[3], 1);
}

type Owned = (Vec<u8>, String, Vec<u8>);

fn wills() -> impl Strategy<Value = Option<(u8, bool, Owned)>> {
    let text = "[^\\x00]{0,40}";
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    proptest::option::of((0u8..3, any::<bool>(), (bytes(), text, bytes())))
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, MAX);
    }

    #[test]
    fn random_bodies_never_panic(
        level in 3u8..7,
        flags in any::<u8>(),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = parse(&raw(level, flags, rest).bytes(), MAX);
    }

    #[test]
    fn flipped_packets_never_panic(at in 0usize..80, to in any::<u8>()) {
        let mut packet = full_v5();
        let at = at % packet.len();
        packet[at] = to;
        if let Ok(connect) = parse(&packet, MAX) {
            prop_assert!(parse(&connect.rewrite("u", b"p"), 2 * MAX).is_ok());
        }
    }

    #[test]
    fn rewritten_packets_read_the_same(
        v5 in any::<bool>(),
        clean in any::<bool>(),
        keep_alive_s in any::<u16>(),
        properties in proptest::collection::vec(any::<u8>(), 0..300),
        client_id in "[^\\x00]{0,40}",
        will in wills(),
    ) {
        let connect = Connect {
            version: if v5 { Version::V5 } else { Version::V311 },
            clean,
            keep_alive_s,
            properties: if v5 { &properties } else { &[] },
            client_id: &client_id,
            will: will.as_ref().map(|(qos, retain, (properties, topic, payload))| Will {
                qos: *qos,
                retain: *retain,
                properties: if v5 { properties } else { &[] },
                topic,
                payload,
            }),
            username: Some("device/cam"),
            password: Some(b"secret"),
            len: 0,
        };
        let written = connect.rewrite("device/cam", b"secret");
        let read = parse(&written, MAX).unwrap();
        prop_assert_eq!(Connect { len: written.len(), ..connect }, read);
    }
}
