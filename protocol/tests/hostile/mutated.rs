//! Bytes mutated by seed, thousands a decoder: messages, payloads behind a good signature, the
//! record and the table on the disk, topics. Where some are still taken they are counted, so
//! that mutations which never get past the first byte would be seen.

use fleetway_protocol::codec::{self, WIRE_VERSION};
use fleetway_protocol::envelope::Context;
use fleetway_protocol::limits::*;
use fleetway_protocol::order::Order;
use fleetway_protocol::record;
use fleetway_protocol::slot::SlotTable;
use fleetway_protocol::trust::Verified;

use crate::decoders::{Decoder, decoders};
use crate::rng::Rng;
use crate::samples::{encoded, sealed};
use crate::{fuzz, samples};

/// One to six changes: bits, bytes, lengths, pieces of the message itself and of another.
fn mutated(rng: &mut Rng, sample: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=rng.index(6) {
        let at = rng.index(bytes.len());
        let end = (at + 1 + rng.index(20)).min(bytes.len());
        match rng.index(7) {
            _ if bytes.is_empty() => bytes.push(WIRE_VERSION),
            0 => bytes[at] ^= 1 << rng.index(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.index(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.insert(at, rng.below(256) as u8),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = rng.index(other.len());
                let to = (from + 1 + rng.index(40)).min(other.len());
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
        let mut rng = Rng::new(0x5eed_0000 + n as u64);
        let mut taken = 0;
        for _ in 0..10_000 {
            let other = &all[rng.index(all.len())].sample;
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
    let mut rng = Rng::new(0x0bad_5eed);
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
    let mut rng = Rng::new(0x5eed_1111);
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
    let mut rng = Rng::new(0x5eed_2222);
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

#[test]
fn mutated_topics() {
    let samples = [
        "fleetway/v1/d/cam-01/up/on",
        "fleetway/v1/d/cam-01/up/st/digits",
        "fleetway/v1/b/99999999999999999999999999999999/300",
        "fleetway/v1/b/99999999999999999999999999999999/r",
        "fleetway/v1/d/cam-01/dn/blk",
    ];
    let mut rng = Rng::new(0x5eed_3333);
    let mut taken = 0;
    for n in 0..10_000 {
        let (sample, other) = (samples[n % 5], samples[rng.index(5)]);
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
