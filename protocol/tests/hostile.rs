//! Bytes from a hostile world at every decoder: cut off, too long, of another version, with a
//! bit flipped, with more behind, and mutated by seed. The answer is a clear error or a value
//! within its bounds; never a panic, and never an admitted order or release.

#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/samples.rs"]
mod samples;

use fleetway_protocol::codec::{self, DecodeError, WIRE_VERSION};
use fleetway_protocol::envelope::{Context, Envelope, OpenError};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::{Keyset, KeysetError};
use fleetway_protocol::limits::*;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::order::Order;
use fleetway_protocol::record;
use fleetway_protocol::report::{Ack, BLOCK_BYTES_MAX, Block, Presence, State, Telemetry, Want};
use fleetway_protocol::slot::SlotTable;
use fleetway_protocol::trust::{OrderError, ReleaseError, Verified};
use samples::{encoded, sealed};

/// A decoder of messages.
struct Decoder {
    name: &'static str,
    sample: Vec<u8>,
    max: usize,
    decode: fn(&[u8]) -> Result<(), DecodeError>,
    fuzz: fn(&[u8]) -> bool,
    /// Whether its bytes are believed by signature: then no other bytes ever are.
    signed: bool,
}

fn plain<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(), DecodeError> {
    codec::decode::<T>(bytes, REPORT_BYTES_MAX).map(drop)
}

fn order(bytes: &[u8]) -> Result<(), DecodeError> {
    match Verified::<Order>::admit(bytes, &samples::keyring(), &samples::device(), 299, 1) {
        Ok(_) => Ok(()),
        Err(OrderError::Open(OpenError::Decode(error)) | OrderError::Decode(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

fn manifest(bytes: &[u8]) -> Result<(), DecodeError> {
    match Verified::<Manifest>::admit(bytes, &samples::keyring(), &samples::model_order(), 2) {
        Ok(_) => Ok(()),
        Err(ReleaseError::Open(OpenError::Decode(error)) | ReleaseError::Decode(error)) => {
            Err(error)
        }
        Err(other) => panic!("{other}"),
    }
}

fn keyset(bytes: &[u8]) -> Result<(), DecodeError> {
    let pinned = Digest::of(&encoded(&samples::keyset(1)));
    match Verified::<Keyset>::genesis(bytes, &pinned) {
        Ok(_) => Ok(()),
        Err(KeysetError::Open(OpenError::Decode(error)) | KeysetError::Decode(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

fn decoders() -> Vec<Decoder> {
    let report = |name, sample, decode, fuzz| Decoder {
        name,
        sample,
        max: REPORT_BYTES_MAX,
        decode,
        fuzz,
        signed: false,
    };
    let signed = |name, sample, decode, fuzz| Decoder {
        name,
        sample,
        max: ENVELOPE_BYTES_MAX,
        decode,
        fuzz,
        signed: true,
    };
    vec![
        signed(
            "envelope",
            samples::sealed_order(),
            |b| Envelope::decode(b).map(drop),
            fuzz::fuzz_envelope,
        ),
        signed("order", samples::sealed_order(), order, fuzz::fuzz_order),
        signed("manifest", samples::sealed_manifest(), manifest, fuzz::fuzz_manifest),
        signed("keyset", samples::sealed_keyset(), keyset, fuzz::fuzz_keyset),
        report("presence", encoded(&samples::presence()), plain::<Presence>, fuzz::fuzz_presence),
        report("state", encoded(&samples::state()), plain::<State>, fuzz::fuzz_state),
        report(
            "telemetry",
            encoded(&samples::telemetry()),
            plain::<Telemetry>,
            fuzz::fuzz_telemetry,
        ),
        report("ack", encoded(&samples::ack()), plain::<Ack>, fuzz::fuzz_ack),
        report("want", encoded(&samples::want()), plain::<Want>, fuzz::fuzz_want),
        Decoder {
            name: "block",
            sample: encoded(&samples::block()),
            max: BLOCK_BYTES_MAX,
            decode: |b| Block::decode(b).map(drop),
            fuzz: fuzz::fuzz_block,
            signed: false,
        },
    ]
}

#[test]
fn the_samples_are_taken() {
    for Decoder { name, sample, decode, fuzz, .. } in decoders() {
        assert_eq!(decode(&sample), Ok(()), "{name}");
        assert!(fuzz(&sample), "{name}");
    }
    assert!(fuzz::fuzz_envelope(&samples::sealed_manifest()));
}

#[test]
fn cut_off_at_every_length() {
    for Decoder { name, sample, decode, fuzz, .. } in decoders() {
        assert_eq!(decode(&[]), Err(DecodeError::Empty), "{name}");
        for cut in 1..sample.len() {
            assert_eq!(decode(&sample[..cut]), Err(DecodeError::Malformed), "{name} at {cut}");
            assert!(!fuzz(&sample[..cut]), "{name} at {cut}");
        }
    }
}

#[test]
fn too_long_and_with_more_behind() {
    for Decoder { name, sample, max, decode, fuzz, .. } in decoders() {
        for more in [1, 2, 100, max - sample.len()] {
            let longer = [sample.clone(), vec![0; more]].concat();
            assert_eq!(decode(&longer), Err(DecodeError::Trailing(more)), "{name}");
            assert!(!fuzz(&longer), "{name}");
        }
        for got in [max + 1, max + 2, 10 * max] {
            let mut longer = sample.clone();
            longer.resize(got, 0);
            assert_eq!(decode(&longer), Err(DecodeError::TooLarge { got, max }), "{name}");
            assert!(!fuzz(&longer), "{name}");
        }
    }
}

#[test]
fn of_another_version() {
    for Decoder { name, mut sample, decode, fuzz, .. } in decoders() {
        for got in (0..=u8::MAX).filter(|v| *v != WIRE_VERSION) {
            sample[0] = got;
            assert_eq!(decode(&sample), Err(DecodeError::Version { got }), "{name}");
            assert!(!fuzz(&sample), "{name}");
        }
    }
}

/// A signed payload of another version, or with more behind it, is refused by name as well:
/// an old build that hears a newer director says so.
#[test]
fn a_signed_payload_that_this_build_cannot_read() {
    let mut payload = encoded(&samples::order());
    payload[0] = 2;
    let bytes = sealed(&samples::director_key(), Context::Order, &payload);
    assert_eq!(order(&bytes), Err(DecodeError::Version { got: 2 }));
    payload[0] = WIRE_VERSION;
    payload.push(0);
    let bytes = sealed(&samples::director_key(), Context::Order, &payload);
    assert_eq!(order(&bytes), Err(DecodeError::Trailing(1)));

    let mut payload = encoded(&samples::manifest());
    payload[0] = 2;
    let bytes = sealed(&samples::release_key(), Context::Manifest, &payload);
    let wish = fleetway_protocol::order::ModelOrder {
        release: fleetway_protocol::ids::Digest::of(&payload),
        ..samples::model_order()
    };
    let refused = Verified::<Manifest>::admit(&bytes, &samples::keyring(), &wish, 2);
    assert_eq!(refused, Err(ReleaseError::Decode(DecodeError::Version { got: 2 })));
}

#[test]
fn every_bit_flipped() {
    for Decoder { name, sample, fuzz, signed, .. } in decoders() {
        let mut taken = 0;
        for bit in 0..sample.len() * 8 {
            let mut flipped = sample.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let was_taken = fuzz(&flipped);
            assert!(!(signed && was_taken), "{name}, bit {bit}");
            taken += u32::from(was_taken);
        }
        // The check itself sees values: what is not signed does change unseen.
        assert_eq!(taken > 0, !signed, "{name}");
    }
}

/// By another key, in another context, by the other authority, for another device: the
/// signature holds, and still nothing is admitted.
#[test]
fn signed_by_or_for_another() {
    use Context::{Manifest as M, Order as O};
    let (order_bytes, manifest_bytes) = (encoded(&samples::order()), encoded(&samples::manifest()));
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    for (key, context) in [
        (samples::release_key(), O),
        (samples::director_key(), M),
        (samples::release_key(), M),
        (stranger.clone(), O),
    ] {
        assert!(!fuzz::fuzz_order(&sealed(&key, context, &order_bytes)), "{context:?}");
    }
    for (key, context) in [
        (samples::director_key(), M),
        (samples::release_key(), O),
        (samples::director_key(), O),
        (stranger, M),
    ] {
        assert!(!fuzz::fuzz_manifest(&sealed(&key, context, &manifest_bytes)), "{context:?}");
    }
}

/// A small xorshift, seeded: the same mutations in every run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) as usize % n.max(1)
    }
}

/// One to six changes: bits, bytes, lengths, pieces of the message itself and of another.
fn mutated(rng: &mut Rng, sample: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=rng.below(6) {
        let at = rng.below(bytes.len());
        let end = (at + 1 + rng.below(20)).min(bytes.len());
        match rng.below(7) {
            _ if bytes.is_empty() => bytes.push(WIRE_VERSION),
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.insert(at, rng.below(256) as u8),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = rng.below(other.len());
                let to = (from + 1 + rng.below(40)).min(other.len());
                let end = (at + to - from).min(bytes.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn mutated_by_seed() {
    let all = decoders();
    for (n, Decoder { name, sample, fuzz, signed, .. }) in all.iter().enumerate() {
        let mut rng = Rng(0x5eed_0000 + n as u64);
        let mut taken = 0;
        for _ in 0..10_000 {
            let other = &all[rng.below(all.len())].sample;
            let bytes = mutated(&mut rng, sample, other);
            taken += u32::from(fuzz(&bytes) && bytes != *sample);
        }
        // Signed bytes are admitted only if nothing that was signed changed: at most another
        // way to write the same length in front of them.
        assert!(if *signed { taken < 100 } else { taken > 100 }, "{name}: {taken}");
    }
}

/// Payloads as the authority would sign them, mutated before they are signed: what a stolen
/// key can do is bounded by the checks behind the signature.
#[test]
fn mutated_payloads_behind_a_good_signature() {
    let mut rng = Rng(0x0bad_5eed);
    let (order_bytes, manifest_bytes) = (encoded(&samples::order()), encoded(&samples::manifest()));
    for _ in 0..2_000 {
        let payload = mutated(&mut rng, &order_bytes, &manifest_bytes);
        let _ = fuzz::fuzz_order(&payload);
        if payload.len() > ORDER_BYTES_MAX {
            continue;
        }
        let bytes = sealed(&samples::director_key(), Context::Order, &payload);
        let keyring = samples::keyring();
        let admitted = Verified::<Order>::admit(&bytes, &keyring, &samples::device(), 299, 1);
        if let Ok(order) = admitted {
            assert_eq!(order.get().device, samples::device());
            assert!(order.get().generation > 299 && order.get().expires_s > 1);
        }
    }
    for _ in 0..10_000 {
        let _ = fuzz::fuzz_manifest(&mutated(&mut rng, &manifest_bytes, &order_bytes));
    }
}

// --- what is on the disk ---------------------------------------------------------------------

#[test]
fn a_record_cut_flipped_or_mutated_is_not_read() {
    let mut buf = [0; TABLE_BYTES_MAX];
    let sample = record::write(42, &samples::table(), &mut buf).expect("fits").to_vec();
    assert!(fuzz::fuzz_record(&sample));
    for cut in 0..sample.len() {
        assert!(!fuzz::fuzz_record(&sample[..cut]), "cut at {cut}");
        // Torn over an older copy.
        let torn = [&sample[..cut], &vec![0xff; sample.len() - cut]].concat();
        assert!(!fuzz::fuzz_record(&torn), "torn at {cut}");
    }
    for bit in 0..sample.len() * 8 {
        let mut flipped = sample.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!fuzz::fuzz_record(&flipped), "bit {bit}");
    }
    let mut rng = Rng(0x5eed_1111);
    let other = encoded(&samples::order());
    for _ in 0..10_000 {
        let bytes = mutated(&mut rng, &sample, &other);
        let read = record::read::<SlotTable>(&bytes);
        assert!(read.is_none() || bytes.starts_with(&sample), "{bytes:02x?}");
        let _ = fuzz::fuzz_record(&bytes);
    }
    // Of a later build: another version inside a good checksum.
    let mut later = encoded(&samples::table());
    later[0] = 2;
    let body = later;
    let mut record_bytes = sample[..16].to_vec();
    record_bytes.extend(&body);
    let crc = record::crc32c(&record_bytes);
    record_bytes.extend(crc.to_le_bytes());
    assert!(!fuzz::fuzz_record(&record_bytes));
}

/// The bytes of tables without their checksum, so that the decoder and a boot see them all.
#[test]
fn mutated_tables_boot_without_a_panic() {
    let sample = encoded(&samples::table());
    let mut rng = Rng(0x5eed_2222);
    let mut decoded = 0;
    for _ in 0..10_000 {
        let bytes = mutated(&mut rng, &sample, &sample);
        decoded += u32::from(codec::decode::<SlotTable>(&bytes, TABLE_BYTES_MAX).is_ok());
        let _ = fuzz::fuzz_record(&bytes);
    }
    for bit in 0..sample.len() * 8 {
        let mut flipped = sample.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = fuzz::fuzz_record(&flipped);
    }
    assert!(decoded > 500, "{decoded}");
}

// --- topics ----------------------------------------------------------------------------------

#[test]
fn mutated_topics() {
    let samples = [
        "fleetway/v1/d/cam-01/up/on",
        "fleetway/v1/d/cam-01/up/st/digits",
        "fleetway/v1/b/99999999999999999999999999999999/300",
        "fleetway/v1/b/99999999999999999999999999999999/r",
        "fleetway/v1/d/cam-01/dn/blk",
    ];
    let mut rng = Rng(0x5eed_3333);
    let mut taken = 0;
    for n in 0..10_000 {
        let (sample, other) = (samples[n % 5], samples[rng.below(5)]);
        taken +=
            u32::from(fuzz::fuzz_topic(&mutated(&mut rng, sample.as_bytes(), other.as_bytes())));
    }
    assert!(taken > 100, "{taken}");
    for text in
        ["", "/", "fleetway/v1/", "fleetway/v1/b/99999999999999999999999999999999/4294967296"]
    {
        assert!(!fuzz::fuzz_topic(text.as_bytes()), "{text}");
    }
}
