//! One value of every kind of message, the same in every run.
#![allow(dead_code)] // each test binary uses its part

use ed25519_dalek::SigningKey;
use fleetway_protocol::codec;
use fleetway_protocol::counters::{Answer, Confidence, Scores};
use fleetway_protocol::drift::{Reference, Watch, Watched};
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::health::{Evidence, Health, HealthPolicy, Inconclusive, Subject};
use fleetway_protocol::hold::{Condition, Conditions, Held, Hold, Point, Window};
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, ShortDigest, Version};
use fleetway_protocol::keyset::{Keyset, ReleaseKey, ReleaseKeys, Scope};
use fleetway_protocol::limits::ENVELOPE_BYTES_MAX;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{
    Artifact, Attestation, AttestationKind, GoldenRule, Manifest, Variant, VariantKind,
};
use fleetway_protocol::order::{Action, ModelOrder, Order, Terms};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{
    Ack, Block, Host, Nonce, Presence, Progress, Stamp, State, Telemetry, Want,
};
use fleetway_protocol::sandbox::{Fence, Sandbox};
use fleetway_protocol::shadow::{Otherwise, ShadowPolicy, ShadowReport};
use fleetway_protocol::signed::{Algorithm, SignedReport};
use fleetway_protocol::slot::{
    Ending, Outcome, Poison, ReleaseFacts, Slot, SlotId, SlotState, SlotTable,
};
use fleetway_protocol::telemetry::{Heard, Numbered, Span};
use fleetway_protocol::topics::Piece;
use fleetway_protocol::trust::{Keyring, Target};

pub(crate) const STAMP: Stamp = Stamp { epoch: 3, seq: 300 };
const NUMBERED: Numbered = Numbered { series: 1, number: 300, first: 299, time_s: 1_760_000_000 };

pub(crate) fn release_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(crate) fn director_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

pub(crate) fn keyring() -> Keyring {
    let authority = |key: &SigningKey| Authority::new(&[PublicKey::of(key)], 1).expect("sane");
    Keyring { release: authority(&release_key()).into(), director: authority(&director_key()) }
}

pub(crate) fn device() -> DeviceId {
    DeviceId::new("cam-01").expect("id")
}

/// Two of three root keys, a release key for everything and one for one model's team.
pub(crate) fn keyset(version: u64) -> Keyset {
    let public = |seed: u8| PublicKey::of(&SigningKey::from_bytes(&[seed; 32]));
    let scoped = |seed, models: &str| ReleaseKey {
        key: public(seed),
        models: Scope::new(models).expect("a scope"),
    };
    Keyset {
        version,
        root: Authority::new(&[public(11), public(12), public(13)], 2).expect("sane"),
        release: ReleaseKeys::new(&[scoped(1, "*"), scoped(21, "dig*"), scoped(22, "faces")], 1)
            .expect("sane"),
        director: Authority::new(&[PublicKey::of(&director_key())], 1).expect("sane"),
    }
}

/// `payload` under the signatures of the keys with these seeds.
pub(crate) fn sealed_by(seeds: &[u8], context: Context, payload: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(payload);
    for seed in seeds {
        let key = SigningKey::from_bytes(&[*seed; 32]);
        envelope.push(sign(&key, context, payload)).expect("room");
    }
    envelope.encode(&mut vec![0; ENVELOPE_BYTES_MAX]).expect("fits").to_vec()
}

fn model() -> ModelName {
    ModelName::new("digits").expect("name")
}

pub(crate) fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut buf = vec![0; 1 << 17];
    codec::encode(value, &mut buf).expect("fits").to_vec()
}

pub(crate) fn sealed(key: &SigningKey, context: Context, payload: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(payload);
    envelope.push(sign(key, context, payload)).expect("room");
    envelope.encode(&mut vec![0; ENVELOPE_BYTES_MAX]).expect("fits").to_vec()
}

fn artifact(seed: u8, bytes: u32) -> Artifact {
    Artifact {
        digest: Digest([seed; 32]),
        bytes,
        chunk_bytes: 32 * 1024,
        chunk_list: Digest([seed + 1; 32]),
    }
}

pub(crate) fn manifest() -> Manifest {
    let variant = |kind, seed| Variant {
        kind,
        model: artifact(seed, 100_000),
        golden: artifact(seed + 2, 4096),
    };
    Manifest {
        model: model(),
        version: Version::new("v2").expect("label"),
        counter: 300,
        min_release: 2,
        variants: [variant(VariantKind::Onnx, 0x10), variant(VariantKind::Qnn, 0x20)]
            .into_iter()
            .collect(),
        golden: GoldenRule { abs_err_max: 0.25, same_top1: true },
        golden_mismatch_accepted: None,
        attestations: [Attestation {
            kind: AttestationKind::BillOfMaterials,
            digest: Digest([0x30; 32]),
        }]
        .into_iter()
        .collect(),
        hardware: Default::default(),
        health: health(),
    }
}

pub(crate) fn health() -> Health {
    let watched = |what, from: f32| Watched {
        what,
        edges: core::array::from_fn(|at| from + at as f32),
        counts: [150; 10],
    };
    let numbers = [watched(Watch::Mean { input: 0 }, 0.5), watched(Watch::Confidence, -4.0)];
    Health {
        policy: HealthPolicy {
            p95_us_max: 20_000,
            inconclusive: Inconclusive::RollBack { after_s: 86_400 },
            ..HealthPolicy::default()
        },
        scores: Some(Scores::Logits),
        reference: Reference {
            watched: numbers.into_iter().collect(),
            classes: [700, 800].into_iter().collect(),
            confidence: Some(Confidence(60_000)),
        },
    }
}

pub(crate) fn terms() -> Terms {
    Terms {
        probation_s: 600,
        probation_answers: 100,
        error_permille_max: 20,
        p95_us_max: 10_000,
        collapse_permille_max: 950,
        self_test_ms_max: 30_000,
        self_test_mib_max: 1024,
        shadow: None,
        hold: Hold::default(),
    }
}

/// Terms with everything that may be left out.
pub(crate) fn terms_in_full() -> Terms {
    let shadow = ShadowPolicy {
        share_permille: 100,
        answers_min: 300,
        agreement_permille_min: 980,
        error_permille_max: 10,
        p95_percent_max: 150,
        s_max: 3600,
        otherwise: Otherwise::Wait,
        interface_differs: Otherwise::Proceed,
    };
    let hold = Hold {
        download: Conditions::NONE.with(Condition::Unmetered),
        activation: Conditions::NONE.with(Condition::Unlocked).with(Condition::Window),
        idle_s: 300,
        window: Window { days: 0x1f, from_min: 120, to_min: 300 },
        s_max: 172_800,
    };
    Terms { shadow: Some(shadow), hold, ..terms() }
}

pub(crate) fn shadow_report() -> ShadowReport {
    ShadowReport {
        release: Digest([0x88; 32]),
        compared: 300,
        agreed: 299,
        failed: 1,
        dropped: 2,
        diff_millionths_max: 250_000,
        p50_us: 900,
        p95_us: 1_500,
        serving_p95_us: 1_400,
        ended: Some(Err(Reason::ShadowDisagrees)),
    }
}

pub(crate) fn model_order() -> ModelOrder {
    ModelOrder {
        model: model(),
        release: Digest::of(&encoded(&manifest())),
        action: Action::Run,
        rollout: 7,
        terms: terms_in_full(),
    }
}

pub(crate) fn order() -> Order {
    let other = ModelOrder {
        model: ModelName::new("faces").expect("name"),
        release: Digest([0x44; 32]),
        action: Action::Rollback,
        rollout: 8,
        terms: Terms::default(),
    };
    Order {
        device: device(),
        generation: 300,
        issued_s: 1_760_000_000,
        expires_s: 1_760_600_000,
        nonce: Some([0x55; 16]),
        models: [model_order(), other].into_iter().collect(),
    }
}

pub(crate) fn sealed_manifest() -> Vec<u8> {
    sealed(&release_key(), Context::Manifest, &encoded(&manifest()))
}

pub(crate) fn sealed_keyset() -> Vec<u8> {
    sealed_by(&[11, 13], Context::Keyset, &encoded(&keyset(1)))
}

pub(crate) fn sealed_order() -> Vec<u8> {
    sealed(&director_key(), Context::Order, &encoded(&order()))
}

pub(crate) fn presence() -> Presence {
    let agent = Version::new("0.1.0").expect("label");
    let missing = [Fence::Tcp, Fence::SystemCalls].into_iter().collect();
    let sandbox = Some(Sandbox { missing, met: true });
    let hardware = Some(HardwareClass::new("pi4").expect("label"));
    Presence { stamp: STAMP, online: true, agent, generation: 300, sandbox, hardware }
}

pub(crate) fn outcome() -> Outcome {
    let result = Ending::RolledBack(Reason::HealthCollapse);
    let evidence = Evidence { of: Subject::Whole, measured: 981, bound: 950, samples: 300 };
    Outcome { release: Digest([0x66; 32]), rollout: 7, result, evidence: Some(evidence) }
}

pub(crate) fn state() -> State {
    State {
        stamp: STAMP,
        generation: 300,
        running: Some(Digest([0x77; 32])),
        phase: Phase::Download,
        target: Some(Digest([0x88; 32])),
        progress: Progress { have: 5, total: 200 },
        waiting: Some(Reason::Network),
        last: Some(outcome()),
        floor: 2,
        poisoned: 1,
        poison_dropped: 0,
        held: Some(Held {
            before: Point::Activation,
            conditions: Conditions::NONE.with(Condition::Mains),
            since_s: 1_760_000_300,
        }),
        shadow: Some(shadow_report()),
    }
}

pub(crate) fn telemetry() -> Telemetry {
    let mut telemetry = Telemetry::new(Digest([0x77; 32]));
    for (latency_us, class) in [(9, 0), (9, 2), (100, 2)] {
        let answer = Answer {
            confidence: Some(Confidence(50_000)),
            bins: [Some(1), Some(9), None, None, None, None],
            ..Answer::ok(latency_us, Some(class))
        };
        telemetry.counters.record(&answer);
    }
    telemetry.counters.record(&Answer::failed(0));
    telemetry.stamp = STAMP;
    telemetry.numbered = NUMBERED;
    telemetry.load = 2;
    telemetry.rss_bytes = Some(20_000_000);
    telemetry.dropped = 1;
    telemetry
}

pub(crate) fn host() -> Host {
    Host {
        stamp: STAMP,
        numbered: NUMBERED,
        uptime_s: Some(86_400),
        cpu_permille: Some(125),
        memory_bytes: Some(1 << 30),
        memory_available_bytes: Some(1 << 29),
        temperature_milli_c: Some(-1_500),
        disk_bytes: None,
        disk_free_bytes: Some(1 << 33),
    }
}

pub(crate) fn heard() -> Heard {
    let above = [Span { from: 302, to: 310 }, Span { from: 312, to: 312 }];
    let above = above.into_iter().collect();
    Heard { device: device(), series: 1, through: 300, lost: 2, above }
}

pub(crate) fn sealed_heard() -> Vec<u8> {
    sealed(&director_key(), Context::Heard, &encoded(&heard()))
}

pub(crate) fn ack() -> Ack {
    let order = Digest::of(&encoded(&order()));
    Ack { stamp: STAMP, generation: 300, order, refused: Some(Reason::Stale) }
}

pub(crate) fn want() -> Want {
    let pieces = [Piece::Release, Piece::ChunkList, Piece::Chunk(300)].into_iter().collect();
    Want { stamp: STAMP, of: ShortDigest([0x99; 16]), pieces }
}

pub(crate) fn nonce() -> Nonce {
    Nonce { stamp: STAMP, nonce: [0x55; 16] }
}

/// An ack under a signature of the right form, which is nobody's.
pub(crate) fn signed_report() -> Vec<u8> {
    let ack = encoded(&ack());
    let signed = SignedReport::new(&ack, Algorithm::EcdsaP256, &[0xa5; 64]).expect("fits");
    encoded(&signed)
}

pub(crate) fn block() -> Block<'static> {
    Block { of: ShortDigest([0x99; 16]), piece: Piece::Chunk(300), bytes: b"chunk" }
}

fn facts(seed: u8, counter: u64) -> ReleaseFacts {
    let digest = Digest([seed; 32]);
    ReleaseFacts {
        digest,
        counter,
        min_release: counter - 1,
        variant: VariantKind::Qnn,
        crashes_max: 2,
    }
}

pub(crate) fn table() -> SlotTable {
    let slot =
        |state, release, rollout| Slot { state, release, rollout, terms: terms(), held_since_s: 0 };
    let mut table = SlotTable::new(Some(facts(0xaa, 1)));
    table.version_floor = 2;
    table.serving = Some(SlotId::A);
    table.slots = [
        slot(SlotState::Confirmed, Some(facts(0xbb, 3)), 6),
        slot(SlotState::Trial { tries_left: 1 }, Some(facts(0xcc, 300)), 7),
    ];
    table.graceful = true;
    let poison = Poison { release: Digest([0x66; 32]), reason: Reason::Golden };
    table.poison.push(poison).expect("room");
    table.poison_dropped = 1;
    table.last = Some(outcome());
    table
}

/// A device that runs qnn files alone, and does not say what it is.
pub(crate) const TARGET: Target<'static> = Target { hardware: None, forms: &[VariantKind::Qnn] };
