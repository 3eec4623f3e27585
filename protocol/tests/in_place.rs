//! What is read in place is checked in place: keysets, manifests, orders and envelopes that no constructor of
//! ours would make, written field by field, are refused, and beside each the nearest good one is taken.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/samples.rs"]
mod samples;

use ed25519_dalek::SigningKey;
use fleetway_protocol::codec::{self, DecodeError};
use fleetway_protocol::envelope::{EnvelopeView, PublicKey};
use fleetway_protocol::keyset::KeysetView;
use fleetway_protocol::limits::*;
use fleetway_protocol::manifest::{Attestation, ManifestView, Variant};
use fleetway_protocol::order::{ModelOrder, OrderView};

/// Room for whatever is written here.
const ROOM: usize = 16 * 1024;
type Key = [u8; 32];

/// Whether it is read at all. Nothing here is refused for its length or its version.
fn taken<T>(decoded: Result<T, DecodeError>) -> bool {
    match decoded {
        Ok(_) => true,
        Err(DecodeError::Malformed) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Whether a view is read from what this value is written as.
macro_rules! reads {
    ($view:ty, $value:expr) => {{
        let mut buf = [0; ROOM];
        let bytes = codec::encode(&$value, &mut buf).unwrap();
        taken(codec::decode::<$view>(bytes, ROOM))
    }};
}

fn keys(count: usize) -> Vec<Key> {
    let key = |seed| PublicKey::of(&SigningKey::from_bytes(&[seed; 32])).to_bytes();
    (0..count as u8).map(key).collect()
}

/// The neutral element: every signature of nobody holds for it.
fn weak() -> Key {
    let mut key = [0; 32];
    key[0] = 1;
    key
}

/// A y of which there is no x: the sign is of a root that does not exist.
fn no_point() -> Key {
    let is_none = |key: &Key| PublicKey::new(*key).is_err() && *key != weak();
    (2..=255).map(|y| [y; 32]).find(is_none).unwrap()
}

#[test]
fn authorities() {
    let (one, two) = (keys(1), keys(2));
    let reads_with = |keys: &[Key], threshold: u8| {
        let release: &[(Key, &str)] = &[(one[0], "*")];
        // As the root and as the director: both are read by the same lines.
        let root =
            reads!(KeysetView<'_>, (1u64, (keys, threshold), (release, 1u8), (&one[..], 1u8)));
        let other =
            reads!(KeysetView<'_>, (1u64, (&one[..], 1u8), (release, 1u8), (keys, threshold)));
        assert_eq!(root, other, "{threshold} of {keys:?}");
        root
    };
    assert!(reads_with(&two, 2) && reads_with(&keys(AUTHORITY_KEYS_MAX), 1));
    for (keys, threshold) in [
        (two.clone(), 0),
        (two, 3),
        (Vec::new(), 0),
        // One key is one voice, however often it stands there.
        (vec![one[0], one[0]], 2),
        (vec![one[0], weak()], 1),
        (vec![one[0], no_point()], 1),
        (keys(AUTHORITY_KEYS_MAX + 1), 1),
    ] {
        assert!(!reads_with(&keys, threshold), "{threshold} of {keys:?}");
    }
}

#[test]
fn release_keys() {
    let (one, two) = (keys(1), keys(2));
    let reads_with = |entries: &[(Key, &str)], threshold: u8| {
        let authority = (&one[..], 1u8);
        reads!(KeysetView<'_>, (1u64, authority, (entries, threshold), authority))
    };
    let many = |count| keys(count).into_iter().map(|key| (key, "digits")).collect::<Vec<_>>();
    assert!(reads_with(&[(two[0], "*"), (two[1], "vision-*")], 2));
    assert!(reads_with(&many(RELEASE_KEYS_MAX), 1));
    let long = "a".repeat(MODEL_NAME_BYTES_MAX + 1);
    for (entries, threshold) in [
        (vec![(two[0], "*")], 0),
        (vec![(two[0], "*")], 2),
        // One key for two teams is one key.
        (vec![(two[0], "digits"), (two[0], "vision-*")], 2),
        (vec![(two[0], "")], 1),
        (vec![(two[0], "Digits")], 1),
        (vec![(two[0], "di*ts")], 1),
        (vec![(two[0], &*long)], 1),
        (vec![(weak(), "*")], 1),
        (vec![(two[0], "*"), (no_point(), "*")], 1),
        (many(RELEASE_KEYS_MAX + 1), 1),
    ] {
        assert!(!reads_with(&entries, threshold), "{threshold} of {entries:?}");
    }
}

#[test]
fn manifests() {
    let good = samples::manifest();
    let reads_with =
        |model: &str, note: Option<&str>, variants: usize, others: usize, classes: usize| {
            let variants: Vec<Variant> = vec![good.variants[0]; variants];
            let others: Vec<Attestation> = vec![good.attestations[0]; others];
            let classes = vec!["class"; classes];
            let (version, counter, floor) = (good.version.as_str(), good.counter, good.min_release);
            let head = (model, version, counter, floor, variants.as_slice(), good.golden);
            let (rest, health) = ((note, others.as_slice(), classes.as_slice()), &good.health);
            reads!(ManifestView<'_>, (head, rest, health))
        };
    let long = "n".repeat(NOTE_BYTES_MAX + 1);
    assert!(reads_with("digits", Some("why"), VARIANTS_MAX, ATTESTATIONS_MAX, HARDWARE_MAX));
    assert!(!reads_with("Digits", None, 1, 1, 1));
    assert!(!reads_with("digits", Some(&long), 1, 1, 1));
    assert!(!reads_with("digits", None, VARIANTS_MAX + 1, 1, 1));
    assert!(!reads_with("digits", None, 1, ATTESTATIONS_MAX + 1, 1));
    assert!(!reads_with("digits", None, 1, 1, HARDWARE_MAX + 1));
}

#[test]
fn orders() {
    let good = samples::order();
    let reads_with = |device: &str, models: usize| {
        let models: Vec<ModelOrder> = vec![good.models[0].clone(); models];
        let nonce: Option<[u8; 16]> = None;
        reads!(OrderView<'_>, (device, 1u64, 2u64, 3u64, nonce, models.as_slice()))
    };
    assert!(reads_with("cam-01", MODELS_PER_DEVICE_MAX));
    assert!(!reads_with("cam/01", 1));
    assert!(!reads_with("cam-01", MODELS_PER_DEVICE_MAX + 1));
}

#[test]
fn envelopes() {
    let signature: (([u8; 16], Key), Key) = (([1; 16], [2; 32]), [3; 32]);
    let reads_with = |count: usize| {
        let signatures = vec![signature; count];
        reads!(EnvelopeView<'_>, (&b"payload"[..], signatures.as_slice()))
    };
    assert!(reads_with(SIGNATURES_MAX));
    assert!(!reads_with(SIGNATURES_MAX + 1));
}
