//! One function per decoder: it takes any bytes, must not panic, and asserts what holds of
//! whatever is taken. It says whether the bytes were taken. `hostile/` calls them; so can a
//! libFuzzer target: `fuzz_target!(|bytes: &[u8]| { let _ = fuzz_order(bytes); });`

use std::sync::LazyLock;

use fleetway_protocol::codec;
use fleetway_protocol::drift::Drift;
use fleetway_protocol::envelope::{Authority, Context, Envelope};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::limits::*;
use fleetway_protocol::machine::{Event, Machine};
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::order::Order;
use fleetway_protocol::record;
use fleetway_protocol::report::{
    Ack, BLOCK_BYTES_MAX, Block, Host, Nonce, Presence, State, Telemetry, Want,
};
use fleetway_protocol::signed::{Algorithm, SignedReport};
use fleetway_protocol::slot::SlotTable;
use fleetway_protocol::telemetry::Heard;
use fleetway_protocol::topics::{ROOT_DEFAULT, TOPIC_BYTES_MAX, Topic};
use fleetway_protocol::trust::{Keyring, Verified};

use crate::samples;

static KEYRING: LazyLock<Keyring> = LazyLock::new(samples::keyring);
static RELEASE: LazyLock<Authority> = LazyLock::new(|| {
    let keys: Vec<_> = KEYRING.release.keys().map(|entry| entry.key).collect();
    Authority::new(&keys, KEYRING.release.threshold()).expect("sane")
});
static ORDER: LazyLock<Order> = LazyLock::new(samples::order);
static MANIFEST: LazyLock<Manifest> = LazyLock::new(samples::manifest);

/// Whatever decodes keeps its bound when it is encoded again, and reads back as the same.
fn stable<T: serde::Serialize + for<'a> codec::Decode<'a>>(value: &T, max: usize) {
    let mut buf = vec![0; max];
    let bytes = codec::encode(value, &mut buf).expect("what was read fits").to_vec();
    let again = codec::decode::<T>(&bytes, max).expect("what was written reads");
    assert_eq!(samples::encoded(&again), bytes);
}

/// Any envelope, and that its payload is believed only if it is one that was signed.
pub(crate) fn fuzz_envelope(bytes: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(bytes) else { return false };
    let mut buf = vec![0; ENVELOPE_BYTES_MAX];
    let written = envelope.encode(&mut buf).expect("what was read fits");
    assert_eq!(Envelope::decode(written).as_ref(), Ok(&envelope));
    assert!(envelope.signers().count() <= SIGNATURES_MAX);
    let order = envelope.open(&KEYRING.director, Context::Order);
    let manifest = envelope.open(&RELEASE, Context::Manifest);
    assert!(envelope.open(&KEYRING.director, Context::Manifest).is_err());
    assert!(envelope.open(&RELEASE, Context::Order).is_err());
    match (order, manifest) {
        (Ok(payload), Err(_)) => assert_eq!(payload, samples::encoded(&*ORDER)),
        (Err(_), Ok(payload)) => assert_eq!(payload, samples::encoded(&*MANIFEST)),
        (Err(_), Err(_)) => return false,
        (Ok(_), Ok(_)) => panic!("signed by both"),
    }
    true
}

/// Admission of an order; its payload as if it were signed, too.
pub(crate) fn fuzz_order(bytes: &[u8]) -> bool {
    if let Ok(order) = codec::decode::<Order>(bytes, ORDER_BYTES_MAX) {
        stable(&order, ORDER_BYTES_MAX);
    }
    let admitted = Verified::<Order>::admit(bytes, &KEYRING, &samples::device(), 299, 1);
    if let Ok(order) = &admitted {
        assert_eq!(order.get(), &*ORDER);
        assert_eq!(order.digest(), Digest::of(&samples::encoded(&*ORDER)));
    }
    admitted.is_ok()
}

/// Admission of a release; its payload as if it were signed, too.
pub(crate) fn fuzz_manifest(bytes: &[u8]) -> bool {
    if let Ok(manifest) = codec::decode::<Manifest>(bytes, MANIFEST_BYTES_MAX) {
        stable(&manifest, MANIFEST_BYTES_MAX);
        if manifest.check().is_ok() {
            let artifacts = manifest.variants.iter().flat_map(|v| [v.model, v.golden]);
            for artifact in artifacts {
                let chunks = artifact.chunk_count();
                assert!((1..=CHUNKS_MAX as u32).contains(&chunks));
                let lengths = (0..chunks).filter_map(|n| artifact.chunk_len(n));
                assert_eq!(lengths.sum::<u32>(), artifact.bytes);
                assert_eq!(artifact.chunk_len(chunks), None);
            }
            assert!(manifest.min_release <= manifest.counter);
            assert!(manifest.golden.abs_err_max >= 0.0);
        }
    }
    let admitted =
        Verified::<Manifest>::admit(bytes, &KEYRING, &samples::model_order(), 2, samples::TARGET);
    if let Ok((manifest, _)) = &admitted {
        assert_eq!(manifest.get(), &*MANIFEST);
    }
    admitted.is_ok()
}

/// Every way in for a keyset; its payload as if it were signed, too.
pub(crate) fn fuzz_keyset(bytes: &[u8]) -> bool {
    if let Ok(keyset) = codec::decode::<Keyset>(bytes, KEYSET_BYTES_MAX) {
        stable(&keyset, KEYSET_BYTES_MAX);
        for authority in [&keyset.root, &keyset.director] {
            assert!((1..=authority.keys().len()).contains(&usize::from(authority.threshold())));
        }
        assert!((1..=keyset.release.keys().len()).contains(&keyset.release.threshold().into()));
    }
    let pinned = Digest::of(&samples::encoded(&samples::keyset(1)));
    let genesis = Verified::<Keyset>::genesis(bytes, &pinned);
    if let Ok(keyset) = &genesis {
        assert_eq!(*keyset.get(), samples::keyset(1));
        assert!(keyset.advance(bytes).is_err(), "a keyset does not follow itself");
    }
    if let Ok(keyset) = Verified::<Keyset>::authorised(bytes, &Digest::of(bytes), 0) {
        assert!(keyset.get().version > 0);
    }
    genesis.is_ok()
}

pub(crate) fn fuzz_presence(bytes: &[u8]) -> bool {
    let read = codec::decode::<Presence>(bytes, REPORT_BYTES_MAX);
    read.inspect(|presence| stable(presence, REPORT_BYTES_MAX)).is_ok()
}

pub(crate) fn fuzz_state(bytes: &[u8]) -> bool {
    let read = codec::decode::<State>(bytes, REPORT_BYTES_MAX);
    read.inspect(|state| stable(state, REPORT_BYTES_MAX)).is_ok()
}

/// Telemetry, and what a controller does with it: quantiles and sums.
pub(crate) fn fuzz_telemetry(bytes: &[u8]) -> bool {
    let Ok(telemetry) = codec::decode::<Telemetry>(bytes, REPORT_BYTES_MAX) else { return false };
    stable(&telemetry, REPORT_BYTES_MAX);
    let mut sum = telemetry.counters.clone();
    sum.merge(&telemetry.counters);
    assert_eq!(sum.confidence().is_some(), sum.confidence_count > 0);
    let classes = || sum.classes.iter().copied();
    if let Some(drift) = Drift::of(classes(), classes(), 0.1) {
        assert!(drift.psi == 0.0 && drift.bound >= 0.1, "{drift:?}");
    }
    let sum = sum.latency;
    for permille in [0, 500, 950, 1000] {
        assert_eq!(sum.quantile_us(permille).is_some(), sum.count() > 0);
    }
    true
}

pub(crate) fn fuzz_host(bytes: &[u8]) -> bool {
    let read = codec::decode::<Host>(bytes, REPORT_BYTES_MAX);
    read.inspect(|host| stable(host, REPORT_BYTES_MAX)).is_ok()
}

pub(crate) fn fuzz_ack(bytes: &[u8]) -> bool {
    let read = codec::decode::<Ack>(bytes, REPORT_BYTES_MAX);
    read.inspect(|ack| stable(ack, REPORT_BYTES_MAX)).is_ok()
}

/// Any signed report; what is in it is another target's.
pub(crate) fn fuzz_signed_report(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedReport::decode(bytes) else { return false };
    let mut buf = vec![0; SIGNED_REPORT_BYTES_MAX];
    let written = signed.encode(&mut buf).expect("what was read fits");
    assert_eq!(SignedReport::decode(written).as_ref(), Ok(&signed));
    let topic = Topic::Ack(samples::device());
    let enrolled = Some(Algorithm::EcdsaP256);
    let opened = signed.open(enrolled, &Digest([1; 32]), &topic, |_, signature| {
        assert!(signature.len() <= REPORT_SIGNATURE_BYTES_MAX);
        false
    });
    assert!(opened.is_err(), "nobody's signature");
    true
}

pub(crate) fn fuzz_want(bytes: &[u8]) -> bool {
    let Ok(want) = codec::decode::<Want>(bytes, REPORT_BYTES_MAX) else { return false };
    stable(&want, REPORT_BYTES_MAX);
    assert!(want.pieces.len() <= WANT_PIECES_MAX);
    let _ = want.is_sane();
    true
}

pub(crate) fn fuzz_nonce(bytes: &[u8]) -> bool {
    let Ok(nonce) = codec::decode::<Nonce>(bytes, REPORT_BYTES_MAX) else { return false };
    stable(&nonce, REPORT_BYTES_MAX);
    true
}

/// The controller's answer to telemetry; its payload as if it were signed, too.
pub(crate) fn fuzz_heard(bytes: &[u8]) -> bool {
    if let Ok(heard) = codec::decode::<Heard>(bytes, HEARD_BYTES_MAX) {
        stable(&heard, HEARD_BYTES_MAX);
        if heard.is_sane() {
            let settled = |number: &u64| heard.settles(*number);
            assert!(heard.above.iter().all(|span| settled(&span.from) && settled(&span.to)));
            assert!(!heard.settles(heard.through.max(REPORT_NUMBER_MAX) + 1));
        }
    }
    let opened = Heard::open(bytes, &KEYRING, &samples::device());
    if let Ok(heard) = &opened {
        assert_eq!(*heard, samples::heard());
    }
    opened.is_ok()
}

pub(crate) fn fuzz_block(bytes: &[u8]) -> bool {
    let Ok(block) = Block::decode(bytes) else { return false };
    assert!(block.bytes.len() <= BLOCK_BYTES_MAX);
    assert_eq!(Block::decode(&samples::encoded(&block)).as_ref(), Ok(&block));
    true
}

/// A slot table from the disk, and a machine that boots from it.
pub(crate) fn fuzz_record(bytes: &[u8]) -> bool {
    boot(codec::decode::<SlotTable>(bytes, TABLE_BYTES_MAX).ok());
    let Some((seq, table)) = record::read::<SlotTable>(bytes) else { return false };
    let mut buf = vec![0; TABLE_BYTES_MAX];
    let written = record::write(seq, &table, &mut buf).expect("what was read fits");
    assert_eq!(record::read::<SlotTable>(written).as_ref(), Some(&(seq, table.clone())));
    boot(Some(table));
    true
}

fn boot(table: Option<SlotTable>) {
    let Some(table) = table else { return };
    stable(&table, TABLE_BYTES_MAX);
    let mut machine = Machine::recover(table);
    for event in [Event::Tick, Event::Order(samples::model_order()), Event::Stopping] {
        let commands = (0..9).take_while(|_| machine.poll().is_some()).count();
        assert!(commands < 9, "poll never ends");
        machine.handle(1, event);
    }
}

/// A topic that is read is written as it was.
pub(crate) fn fuzz_topic(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let Some(topic) = Topic::parse(ROOT_DEFAULT, text) else { return false };
    assert_eq!(topic.text(ROOT_DEFAULT), text);
    assert!(text.len() <= TOPIC_BYTES_MAX);
    true
}
