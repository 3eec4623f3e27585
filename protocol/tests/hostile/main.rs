//! Bytes from a hostile world at every decoder: cut off, too long, of another version, with a
//! bit flipped, with more behind, and mutated by seed. The answer is a clear error or a value
//! within its bounds; never a panic, and never an admitted order or release.
//!
//! `decoders` lists what is attacked; this file damages by rule, `mutated` by seed.

mod decoders;
#[path = "../common/fuzz.rs"]
mod fuzz;
mod mutated;
#[path = "../common/rng.rs"]
mod rng;
#[path = "../common/samples.rs"]
mod samples;

use decoders::{Decoder, decoders, order};
use fleetway_protocol::codec::{DecodeError, WIRE_VERSION};
use fleetway_protocol::envelope::Context;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::trust::{ReleaseError, Verified};
use samples::{encoded, sealed};

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
    let refused =
        Verified::<Manifest>::admit(&bytes, &samples::keyring(), &wish, 2, samples::TARGET);
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
