//! The largest message of each kind, every field at its largest, fits its bound. One that does
//! not would be refused by its receiver, and only on the day when somebody fills it.

#[path = "common/samples.rs"]
mod samples;

use fleetway_protocol::codec;
use fleetway_protocol::counters::{Confidence, Counters, Scores};
use fleetway_protocol::drift::{BINS, Reference, Watch, Watched};
use fleetway_protocol::envelope::{Context, Envelope, sign};
use fleetway_protocol::health::{Evidence, Health, HealthPolicy, Inconclusive, Subject};
use fleetway_protocol::histogram::{BUCKETS, Histogram};
use fleetway_protocol::hold::{Condition, Conditions, Held, Hold, Point, Window};
use fleetway_protocol::ids::{
    DeviceId, Digest, HardwareClass, ModelName, Note, ShortDigest, Version,
};
use fleetway_protocol::limits::*;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{
    Artifact, Attestation, AttestationKind, GoldenRule, Manifest, Variant, VariantKind,
};
use fleetway_protocol::order::{Action, ModelOrder, Order, Terms};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::record;
use fleetway_protocol::report::{
    Ack, BLOCK_BYTES_MAX, Block, Host, Nonce, Presence, Progress, Stamp, State, Telemetry, Want,
};
use fleetway_protocol::sandbox::{Fence, Sandbox};
use fleetway_protocol::shadow::{Otherwise, ShadowPolicy, ShadowReport};
use fleetway_protocol::slot::{
    Ending, Outcome, Poison, ReleaseFacts, Slot, SlotId, SlotState, SlotTable,
};
use fleetway_protocol::telemetry::{Heard, Numbered, Span};
use fleetway_protocol::topics::Piece;
use samples::encoded;

const DIGEST: Digest = Digest([0xff; 32]);

fn largest_manifest() -> Manifest {
    let artifact =
        Artifact { digest: DIGEST, bytes: u32::MAX, chunk_bytes: u32::MAX, chunk_list: DIGEST };
    let variant = Variant { kind: VariantKind::Qnn, model: artifact, golden: artifact };
    Manifest {
        model: ModelName::new(&"m".repeat(MODEL_NAME_BYTES_MAX)).expect("name"),
        version: Version::new(&"v".repeat(VERSION_BYTES_MAX)).expect("label"),
        counter: u64::MAX,
        min_release: u64::MAX,
        variants: core::iter::repeat_n(variant, VARIANTS_MAX).collect(),
        golden: GoldenRule { abs_err_max: f32::MAX, same_top1: true },
        golden_mismatch_accepted: Some(Note::new(&"n".repeat(NOTE_BYTES_MAX)).expect("note")),
        attestations: core::iter::repeat_n(
            Attestation { kind: AttestationKind::BillOfMaterials, digest: DIGEST },
            ATTESTATIONS_MAX,
        )
        .collect(),
        hardware: core::iter::repeat_n(
            HardwareClass::new(&"h".repeat(HARDWARE_BYTES_MAX)).expect("class"),
            HARDWARE_MAX,
        )
        .collect(),
        health: largest_health(),
    }
}

const TERMS: Terms = Terms {
    probation_s: u32::MAX,
    probation_answers: u32::MAX,
    error_permille_max: u16::MAX,
    p95_us_max: u32::MAX,
    collapse_permille_max: u16::MAX,
    self_test_ms_max: u32::MAX,
    self_test_mib_max: u32::MAX,
    shadow: Some(ShadowPolicy {
        share_permille: u16::MAX,
        answers_min: u32::MAX,
        agreement_permille_min: u16::MAX,
        error_permille_max: u16::MAX,
        p95_percent_max: u16::MAX,
        s_max: u32::MAX,
        otherwise: Otherwise::Fail,
        interface_differs: Otherwise::Fail,
    }),
    hold: Hold {
        download: EVERYTHING,
        activation: EVERYTHING,
        idle_s: u32::MAX,
        window: Window { days: u8::MAX, from_min: u16::MAX, to_min: u16::MAX },
        s_max: u32::MAX,
    },
};

const EVERYTHING: Conditions = Conditions::NONE
    .with(Condition::Unlocked)
    .with(Condition::Idle)
    .with(Condition::Mains)
    .with(Condition::Unmetered)
    .with(Condition::Window);
const WATCH: Watch = Watch::Element { input: u8::MAX, at: u32::MAX };

fn largest_health() -> Health {
    let watched = Watched { what: WATCH, edges: [f32::MAX; BINS - 1], counts: [u16::MAX; BINS] };
    let policy = HealthPolicy {
        samples_min: u32::MAX,
        window_s: u32::MAX,
        probation_s_min: u32::MAX,
        inconclusive: Inconclusive::RollBack { after_s: u32::MAX },
        error_permille_max: u16::MAX,
        p95_us_max: u32::MAX,
        p95_percent_max: u16::MAX,
        collapse_permille_max: u16::MAX,
        psi_milli_max: u16::MAX,
        confidence_permille_max: u16::MAX,
        memory_mib_max: u32::MAX,
        memory_growth_mib_max: u32::MAX,
        crashes_max: u8::MAX,
    };
    let reference = Reference {
        watched: core::iter::repeat_n(watched, WATCHED_MAX).collect(),
        classes: core::iter::repeat_n(u16::MAX, CLASSES_MAX).collect(),
        confidence: Some(Confidence(u16::MAX)),
    };
    Health { policy, scores: Some(Scores::Logits), reference }
}

fn largest_order() -> Order {
    let wish = ModelOrder {
        model: ModelName::new(&"m".repeat(MODEL_NAME_BYTES_MAX)).expect("name"),
        release: DIGEST,
        action: Action::Remove,
        rollout: u64::MAX,
        terms: TERMS,
    };
    Order {
        device: DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX)).expect("id"),
        generation: u64::MAX,
        issued_s: u64::MAX,
        expires_s: u64::MAX,
        nonce: Some([0xff; 16]),
        models: core::iter::repeat_n(wish, MODELS_PER_DEVICE_MAX).collect(),
    }
}

const LARGE_STAMP: Stamp = Stamp { epoch: u64::MAX, seq: u64::MAX };

fn largest_outcome() -> Outcome {
    let evidence = Evidence {
        of: Subject::Watched(WATCH),
        measured: u32::MAX,
        bound: u32::MAX,
        samples: u32::MAX,
    };
    let result = Ending::RolledBack(Reason::HealthInconclusive);
    Outcome { release: DIGEST, rollout: u64::MAX, result, evidence: Some(evidence) }
}

fn largest_state() -> State {
    State {
        stamp: LARGE_STAMP,
        generation: u64::MAX,
        running: Some(DIGEST),
        phase: Phase::Removal,
        target: Some(DIGEST),
        progress: Progress { have: u32::MAX, total: u32::MAX },
        waiting: Some(Reason::Stale),
        held: Some(Held { before: Point::Activation, conditions: EVERYTHING, since_s: u64::MAX }),
        shadow: Some(ShadowReport {
            release: DIGEST,
            compared: u32::MAX,
            agreed: u32::MAX,
            failed: u32::MAX,
            dropped: u32::MAX,
            diff_millionths_max: u32::MAX,
            p50_us: u32::MAX,
            p95_us: u32::MAX,
            serving_p95_us: u32::MAX,
            ended: Some(Err(Reason::Stale)),
        }),
        last: Some(largest_outcome()),
        floor: u64::MAX,
        poisoned: u8::MAX,
        poison_dropped: u32::MAX,
    }
}

const LARGE_NUMBERED: Numbered =
    Numbered { series: u64::MAX, number: u64::MAX, first: u64::MAX, time_s: u64::MAX };

fn largest_heard() -> Heard {
    let device = DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX)).expect("id");
    let span = Span { from: u64::MAX, to: u64::MAX };
    let above = core::iter::repeat_n(span, HEARD_SPANS_MAX).collect();
    Heard { device, series: u64::MAX, through: u64::MAX, lost: u64::MAX, above }
}

fn largest_telemetry() -> Telemetry {
    // Some of the smallest buckets are never counted in, but a hostile device may say so.
    let counts: heapless::Vec<u32, BUCKETS> = core::iter::repeat_n(u32::MAX, BUCKETS).collect();
    let latency = codec::decode::<Histogram>(&encoded(&counts), REPORT_BYTES_MAX);
    let latency = latency.expect("a histogram is its counts");
    Telemetry {
        stamp: LARGE_STAMP,
        numbered: LARGE_NUMBERED,
        load: u32::MAX,
        counters: Counters {
            requests: u64::MAX,
            errors: u64::MAX,
            latency,
            classes: core::iter::repeat_n(u32::MAX, CLASSES_MAX).collect(),
            watched: core::iter::repeat_n([u32::MAX; BINS], WATCHED_MAX).collect(),
            confidence_sum: u64::MAX,
            confidence_count: u64::MAX,
        },
        rss_bytes: Some(u64::MAX),
        dropped: u64::MAX,
        ..Telemetry::new(DIGEST)
    }
}

fn largest_table() -> SlotTable {
    let facts = ReleaseFacts {
        digest: DIGEST,
        counter: u64::MAX,
        min_release: u64::MAX,
        variant: VariantKind::Qnn,
        crashes_max: u8::MAX,
    };
    let state = SlotState::Bad(Reason::Stale);
    let slot = Slot {
        state,
        release: Some(facts),
        rollout: u64::MAX,
        terms: TERMS,
        held_since_s: u64::MAX,
    };
    let mut table = SlotTable::new(Some(facts));
    table.version_floor = u64::MAX;
    table.serving = Some(SlotId::B);
    table.slots = [slot; 2];
    (table.removed, table.graceful) = (true, true);
    let poison = Poison { release: DIGEST, reason: Reason::Stale };
    table.poison = core::iter::repeat_n(poison, POISON_MAX).collect();
    table.poison_dropped = u32::MAX;
    table.last = Some(largest_outcome());
    table
}

/// Every field at its largest.
#[test]
fn the_largest_of_each_kind_fits_its_bound() {
    fn check<T>(name: &str, value: &T, max: usize)
    where
        T: serde::Serialize + for<'a> codec::Decode<'a> + PartialEq + core::fmt::Debug,
    {
        let bytes = encoded(value);
        println!("{name}: {} of {max} bytes", bytes.len());
        assert!(bytes.len() <= max, "{name}: {} of {max} bytes", bytes.len());
        assert_eq!(codec::decode::<T>(&bytes, max).as_ref(), Ok(value), "{name}");
    }
    check("manifest", &largest_manifest(), MANIFEST_BYTES_MAX);
    check("order", &largest_order(), ORDER_BYTES_MAX);
    check("state", &largest_state(), REPORT_BYTES_MAX);
    check("telemetry", &largest_telemetry(), REPORT_BYTES_MAX);
    let agent = Version::new(&"v".repeat(VERSION_BYTES_MAX)).expect("label");
    let generation = u64::MAX;
    let missing = Fence::ALL.into_iter().collect();
    let sandbox = Some(Sandbox { missing, met: true });
    let hardware = HardwareClass::new(&"h".repeat(HARDWARE_BYTES_MAX)).ok();
    assert!(hardware.is_some());
    let presence =
        Presence { stamp: LARGE_STAMP, online: true, agent, generation, sandbox, hardware };
    check("presence", &presence, REPORT_BYTES_MAX);
    let much = Some(u64::MAX);
    let host = Host {
        stamp: LARGE_STAMP,
        numbered: LARGE_NUMBERED,
        uptime_s: much,
        cpu_permille: Some(u16::MAX),
        memory_bytes: much,
        memory_available_bytes: much,
        temperature_milli_c: Some(i32::MIN),
        disk_bytes: much,
        disk_free_bytes: much,
    };
    check("host", &host, REPORT_BYTES_MAX);
    check("heard", &largest_heard(), HEARD_BYTES_MAX);
    let refused = Some(Reason::Stale);
    let ack = Ack { stamp: LARGE_STAMP, generation, order: DIGEST, refused };
    check("ack", &ack, REPORT_BYTES_MAX);
    let pieces = core::iter::repeat_n(Piece::Chunk(u32::MAX), WANT_PIECES_MAX).collect();
    let want = Want { stamp: LARGE_STAMP, of: ShortDigest([0xff; 16]), pieces };
    check("want", &want, REPORT_BYTES_MAX);
    let nonce = Nonce { stamp: LARGE_STAMP, nonce: [0xff; 16] };
    check("nonce", &nonce, REPORT_BYTES_MAX);

    let mut buf = [0; TABLE_BYTES_MAX];
    let written = record::write(u64::MAX, &largest_table(), &mut buf).expect("fits").len();
    println!("slot table record: {written} of {TABLE_BYTES_MAX} bytes");
    assert_eq!(record::read(&buf), Some((u64::MAX, largest_table())));
}

/// Every bucket of the largest telemetry is in use and saturated.
#[test]
fn the_largest_telemetry_is_the_largest() {
    let latency = largest_telemetry().counters.latency;
    assert_eq!(latency.count(), BUCKETS as u64 * u64::from(u32::MAX));
}

#[test]
fn the_largest_envelope_fits_and_opens_to_a_payload_that_fits() {
    for (payload_max, context) in
        [(ORDER_BYTES_MAX, Context::Order), (MANIFEST_BYTES_MAX, Context::Manifest)]
    {
        let payload = vec![0xff; payload_max];
        let mut envelope = Envelope::new(&payload);
        for seed in 0..SIGNATURES_MAX as u8 {
            let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
            envelope.push(sign(&key, context, &payload)).expect("room");
        }
        let mut buf = [0; ENVELOPE_BYTES_MAX];
        let bytes = envelope.encode(&mut buf).expect("fits");
        println!("envelope: {} of {ENVELOPE_BYTES_MAX} bytes", bytes.len());
        assert!(Envelope::decode(bytes).is_ok());
        // A signed manifest travels in a block too.
        assert!(bytes.len() <= CHUNK_BYTES_MAX as usize);
    }
}

#[test]
fn the_largest_block_and_chunk_list_fit() {
    let bytes = vec![0xff; CHUNK_BYTES_MAX as usize];
    let of = ShortDigest([0xff; 16]);
    let block = Block { of, piece: Piece::Chunk(u32::MAX), bytes: &bytes };
    let written = encoded(&block);
    println!("block: {} of {BLOCK_BYTES_MAX} bytes", written.len());
    assert_eq!(Block::decode(&written), Ok(block));
    let largest = Artifact {
        digest: DIGEST,
        bytes: ARTIFACT_BYTES_MAX,
        chunk_bytes: CHUNK_BYTES_MAX,
        chunk_list: DIGEST,
    };
    assert_eq!(largest.check(), Ok(()));
    assert_eq!(largest.chunk_count() as usize, CHUNKS_MAX);
    assert!(largest.chunk_list_bytes() <= CHUNK_BYTES_MAX);
}
