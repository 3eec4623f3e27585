//! Which keyset follows which, and what a release key may sign: every way in that is meant,
//! and every way around it that is not.

#[path = "common/samples.rs"]
mod samples;

use fleetway_protocol::envelope::{Authority, Context, Envelope, OpenError, PublicKey};
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::keyset::{Keyset, KeysetError, ReleaseKey, ReleaseKeys, Scope, VersionRule};
use fleetway_protocol::limits::*;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::trust::{Keyring, ReleaseError, Verified};
use samples::{encoded, sealed_by};

use ed25519_dalek::SigningKey;

fn public(seed: u8) -> PublicKey {
    PublicKey::of(&SigningKey::from_bytes(&[seed; 32]))
}

fn root(seeds: &[u8], threshold: u8) -> Authority {
    let keys: Vec<_> = seeds.iter().map(|seed| public(*seed)).collect();
    Authority::new(&keys, threshold).expect("sane")
}

fn sealed(signers: &[u8], keyset: &Keyset) -> Vec<u8> {
    sealed_by(signers, Context::Keyset, &encoded(keyset))
}

/// Version 1: root keys 11, 12, 13, two of them.
fn first() -> Verified<Keyset> {
    let bytes = samples::sealed_keyset();
    Verified::<Keyset>::genesis(&bytes, &Digest::of(&encoded(&samples::keyset(1)))).expect("pinned")
}

fn threshold(good: u8, threshold: u8) -> OpenError {
    OpenError::Threshold { good, threshold }
}

#[test]
fn the_first_keyset_is_the_pinned_one_and_no_other() {
    let pinned = Digest::of(&encoded(&samples::keyset(1)));
    assert_eq!(first().digest(), pinned);
    assert_eq!(Verified::<Keyset>::recheck(&samples::sealed_keyset(), &pinned), Ok(first()));
    let other = samples::keyset(2);
    let got = Digest::of(&encoded(&other));
    let refused = Verified::<Keyset>::genesis(&sealed(&[11, 12], &other), &pinned);
    assert_eq!(refused, Err(KeysetError::Digest { got, expected: pinned }));
    // The right bytes, but its own people did not agree.
    let alone = Verified::<Keyset>::genesis(&sealed(&[11], &samples::keyset(1)), &pinned);
    assert_eq!(alone, Err(KeysetError::Open(threshold(1, 2))));
    // Signed as something else.
    let bytes = sealed_by(&[11, 12], Context::Manifest, &encoded(&samples::keyset(1)));
    let refused = Verified::<Keyset>::genesis(&bytes, &pinned);
    assert_eq!(refused, Err(KeysetError::Open(threshold(0, 2))));
    let zero = samples::keyset(0);
    let refused =
        Verified::<Keyset>::genesis(&sealed(&[11, 12], &zero), &Digest::of(&encoded(&zero)));
    assert_eq!(refused, Err(KeysetError::Zero));
}

#[test]
fn the_next_keyset_needs_the_old_and_the_new_root() {
    let next = Keyset { root: root(&[13, 14, 15], 2), ..samples::keyset(2) };
    let check = |signers: &[u8], expected: Result<(), KeysetError>| {
        let advanced = first().advance(&sealed(signers, &next)).map(|k| assert_eq!(*k.get(), next));
        assert_eq!(advanced, expected, "{signers:?}");
    };
    check(&[11, 12, 14, 15], Ok(()));
    // 13 is in both.
    check(&[11, 13, 14], Ok(()));
    check(&[14, 15], Err(KeysetError::Predecessor(threshold(0, 2))));
    check(&[13, 14, 15], Err(KeysetError::Predecessor(threshold(1, 2))));
    check(&[11, 12], Err(KeysetError::Open(threshold(0, 2))));
    check(&[11, 12, 14], Err(KeysetError::Open(threshold(1, 2))));
    check(&[], Err(KeysetError::Predecessor(threshold(0, 2))));
}

#[test]
fn versions_rise_one_by_one() {
    for (version, good) in [(1, false), (2, true), (3, false), (0, false), (u64::MAX, false)] {
        let advanced = first().advance(&sealed(&[11, 12], &samples::keyset(version)));
        assert_eq!(advanced.is_ok(), good, "{version}: {advanced:?}");
    }
    let skipped = first().advance(&sealed(&[11, 12], &samples::keyset(3)));
    let expected = VersionRule::Next;
    assert_eq!(skipped, Err(KeysetError::Version { got: 3, current: 1, expected }));
    let last = samples::keyset(u64::MAX);
    let last = Verified::<Keyset>::genesis(&sealed(&[11, 12], &last), &Digest::of(&encoded(&last)))
        .expect("pinned");
    assert!(last.advance(&sealed(&[11, 12], &samples::keyset(1))).is_err(), "no wrap");
}

#[test]
fn what_the_release_authority_lists_may_leave_versions_out_but_never_go_back() {
    let bytes = sealed(&[11, 12], &samples::keyset(5));
    let check = |seen: u64, expected: Result<u64, KeysetError>| {
        let taken = Verified::<Keyset>::authorised(&bytes, &Digest::of(&bytes), seen);
        assert_eq!(taken.map(|k| k.get().version), expected, "{seen}");
    };
    check(0, Ok(5));
    check(5, Ok(5));
    let expected = VersionRule::NotBelow;
    check(6, Err(KeysetError::Version { got: 5, current: 6, expected }));
    // Another signature is another file.
    let listed = Digest::of(&bytes);
    let more = sealed(&[11, 12, 13], &samples::keyset(5));
    let refused = Verified::<Keyset>::authorised(&more, &listed, 0);
    assert_eq!(refused, Err(KeysetError::Digest { got: Digest::of(&more), expected: listed }));
    let few = sealed(&[13], &samples::keyset(5));
    let refused = Verified::<Keyset>::authorised(&few, &Digest::of(&few), 0);
    assert_eq!(refused, Err(KeysetError::Open(threshold(1, 2))));
    let huge = vec![0; ENVELOPE_BYTES_MAX + 1];
    assert!(Verified::<Keyset>::authorised(&huge, &Digest::of(&huge), 0).is_err());
}

/// A payload whose signatures would hold, with a threshold of zero or above its keys: not a
/// keyset at all, whoever signed it.
#[test]
fn no_authority_without_a_threshold_is_read() {
    let good = encoded(&samples::keyset(1));
    let root_threshold = 1 + 1 + 1 + 3 * 32;
    assert_eq!(good[root_threshold], 2, "the sample's layout");
    for wrong in [0, 4, 255] {
        let mut payload = good.clone();
        payload[root_threshold] = wrong;
        let bytes = sealed_by(&[11, 12, 13], Context::Keyset, &payload);
        let refused = Verified::<Keyset>::genesis(&bytes, &Digest::of(&payload));
        assert!(matches!(refused, Err(KeysetError::Decode(_))), "{wrong}: {refused:?}");
    }
}

#[test]
fn a_full_keyset_fits_its_bound_and_one_more_key_is_refused() {
    let long = "m".repeat(MODEL_NAME_BYTES_MAX) + "*";
    let entry = |seed| ReleaseKey { key: public(seed), models: Scope::new(&long).expect("scope") };
    let keys: Vec<_> = (0..RELEASE_KEYS_MAX as u8).map(entry).collect();
    let people: Vec<u8> = (100..100 + AUTHORITY_KEYS_MAX as u8).collect();
    let full = Keyset {
        version: u64::MAX,
        root: root(&people, 8),
        release: ReleaseKeys::new(&keys, 16).expect("full"),
        director: root(&people, 1),
    };
    let payload = encoded(&full);
    assert!(payload.len() <= KEYSET_BYTES_MAX, "{} of {KEYSET_BYTES_MAX}", payload.len());
    let bytes = sealed(&people, &full);
    assert!(bytes.len() <= ENVELOPE_BYTES_MAX);
    assert!(Verified::<Keyset>::genesis(&bytes, &Digest::of(&payload)).is_ok());
    let more: Vec<_> = (0..=RELEASE_KEYS_MAX as u8).map(entry).collect();
    assert!(ReleaseKeys::new(&more, 1).is_err());
}

#[test]
fn scopes() {
    let check = |scope: &str, model: &str, covered: bool| {
        let (scope, model) = (Scope::new(scope).expect("scope"), ModelName::new(model).expect("m"));
        assert_eq!(scope.covers(&model), covered, "{scope} {model}");
    };
    check("*", "digits", true);
    check("digits", "digits", true);
    check("digits", "digits-2", false);
    check("dig*", "digits", true);
    check("digits*", "digits", true);
    check("digits-*", "digits", false);
    check("dig*", "di", false);
    for wrong in ["", "**", "a*b", "*a", "A", "a/*", "-*", "a b", &"m".repeat(66)] {
        assert!(Scope::new(wrong).is_err(), "{wrong:?}");
    }
}

/// Team key 21 may sign `dig*`, 22 only `faces`; the sample's release is of `digits`.
#[test]
fn a_release_key_signs_its_models_and_no_others() {
    let release = |threshold: u8, entries: &[(u8, &str)]| {
        let entry = |(seed, models): &(u8, &str)| ReleaseKey {
            key: public(*seed),
            models: Scope::new(models).expect("scope"),
        };
        let keys: Vec<_> = entries.iter().map(entry).collect();
        let release = ReleaseKeys::new(&keys, threshold).expect("sane");
        Keyring { release, ..Keyring::of(&first()) }
    };
    let payload = encoded(&samples::manifest());
    let admit = |keyring: &Keyring, signers: &[u8]| {
        let bytes = sealed_by(signers, Context::Manifest, &payload);
        let order = samples::model_order();
        let admitted =
            Verified::<Manifest>::admit(&bytes, keyring, &order, 2, samples::TARGET).map(drop);
        let again = Verified::<Manifest>::recheck(&bytes, keyring, &order.release).map(drop);
        assert_eq!(admitted, again, "at boot as at admission");
        admitted
    };
    let one = Keyring::of(&first());
    assert_eq!(admit(&one, &[1]), Ok(()));
    assert_eq!(admit(&one, &[21]), Ok(()));
    assert_eq!(admit(&one, &[22]), Err(ReleaseError::Scope { good: 0, threshold: 1 }));
    assert_eq!(admit(&one, &[22, 21]), Ok(()));
    assert_eq!(admit(&one, &[23]), Err(ReleaseError::Open(threshold(0, 1))));

    let two = release(2, &[(1, "*"), (21, "dig*"), (22, "faces")]);
    assert_eq!(admit(&two, &[1, 21]), Ok(()));
    assert_eq!(admit(&two, &[1, 22]), Err(ReleaseError::Scope { good: 1, threshold: 2 }));
    assert_eq!(admit(&two, &[21]), Err(ReleaseError::Open(threshold(1, 2))));
    // Two entries of one key are one key.
    let twice = release(2, &[(21, "dig*"), (21, "digits"), (1, "*")]);
    assert_eq!(admit(&twice, &[21]), Err(ReleaseError::Open(threshold(1, 2))));
    assert_eq!(admit(&twice, &[21, 1]), Ok(()));
    let entry = ReleaseKey { key: public(21), models: Scope::all() };
    assert!(ReleaseKeys::new(&[entry.clone(), entry], 2).is_err());
    assert_eq!(two.release.for_model(&samples::manifest().model).len(), 2);
}

#[test]
fn a_signature_made_elsewhere_is_the_same_signature() {
    use ed25519_dalek::Signer as _;
    use fleetway_protocol::envelope::{EnvelopeSignature, message, sign};
    let key = SigningKey::from_bytes(&[11; 32]);
    let raw = key.sign(&message(Context::Keyset, b"payload")).to_bytes();
    let made = EnvelopeSignature::new(&public(11), &raw);
    assert_eq!(made, sign(&key, Context::Keyset, b"payload"));
    let mut envelope = Envelope::new(b"payload");
    envelope.push(made).expect("room");
    assert!(envelope.good_signers(Context::Keyset)(&public(11)));
    assert!(!envelope.good_signers(Context::Order)(&public(11)));
}
