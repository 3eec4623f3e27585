//! The fleet around the device: its keys, its releases, its orders, all of them really signed.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use fleetway_emulator::maker::{self, CHUNK_BYTES, encoded, golden_set};
use fleetway_emulator::network::{SLOW_POOLS, network};
use fleetway_firmware::provision::{Factory, Provision};
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::health::{Health, HealthPolicy};
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, ShortDigest, Version};
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, TRIAL_TRIES_MAX};
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};
use fleetway_protocol::order::{Action, ModelOrder, Order, Terms};
use fleetway_protocol::signed::{Algorithm, SignedReport};
use fleetway_protocol::topics::{Piece, Topic};

/// The seed of the device's key.
const SEED: [u8; 32] = [42; 32];
/// What the device is.
const HARDWARE: &str = "mps2-an386";
/// How a release does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    /// Its golden vectors say something else.
    WrongAnswers,
    /// For another board.
    OtherHardware,
    /// Larger than a slot.
    TooLarge,
    /// Signed by somebody else in the right name.
    Forged,
    /// Its policy does not bear what it answers.
    Unhealthy,
    /// It never comes back once it serves; the watchdog does.
    Hangs,
    /// It does not even come back from its self-test.
    HangsInTest,
    /// Its self-test may take that long, an answer may not.
    Slow,
}

pub(crate) struct Release {
    pub(crate) nature: Nature,
    pub(crate) digest: Digest,
    pub(crate) envelope: Vec<u8>,
    pub(crate) golden: Vec<u8>,
    pub(crate) model: Vec<u8>,
}

/// Everything that a gateway could carry.
pub(crate) struct Fleet {
    pub(crate) keysets: Vec<Vec<u8>>,
    pub(crate) releases: Vec<Release>,
    pieces: BTreeMap<(ShortDigest, Piece), Vec<u8>>,
}

pub(crate) fn id() -> DeviceId {
    DeviceId::new("sensor-1").unwrap()
}

fn ca() -> Digest {
    Digest::of(b"ca")
}

pub(crate) fn model() -> ModelName {
    ModelName::new("gesture").unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn authority(seed: u8) -> Authority {
    Authority::new(&[PublicKey::of(&key(seed))], 1).unwrap()
}

fn sealed(keys: &[u8], context: Context, payload: &[u8]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|seed| key(*seed)).collect();
    maker::sealed(&keys, context, payload)
}

/// Signed by somebody else in the release authority's name.
fn forged(payload: &[u8]) -> Vec<u8> {
    let mut signature = sign(&key(DIRECTORS[0]), Context::Manifest, payload);
    signature.key = PublicKey::of(&key(RELEASE)).id();
    let mut envelope = Envelope::new(payload);
    envelope.push(signature).unwrap();
    envelope.encode(&mut vec![0; ENVELOPE_BYTES_MAX]).unwrap().to_vec()
}

const ROOTS: [u8; 3] = [1, 11, 12];
const RELEASE: u8 = 2;
/// Another one in each keyset.
const DIRECTORS: [u8; 3] = [3, 13, 14];

/// Version `n` of the keyset, signed by its own root and the one before.
fn keyset(n: usize) -> Vec<u8> {
    let keyset = Keyset {
        version: n as u64 + 1,
        root: authority(ROOTS[n]),
        release: authority(RELEASE).into(),
        director: authority(DIRECTORS[n]),
    };
    let signers = [ROOTS[n], ROOTS[n.saturating_sub(1)]];
    sealed(&signers[..1 + usize::from(n > 0)], Context::Keyset, &encoded(&keyset))
}

/// The report under a signature that holds.
pub(crate) fn opened(topic: &Topic, report: &[u8]) -> Option<Vec<u8>> {
    let key = PublicKey::of(&SigningKey::from_bytes(&SEED));
    let signed = SignedReport::decode(report).ok()?;
    let verifies = |message: &[u8; 64], signature: &[u8]| key.verifies_raw(message, signature);
    let ed25519 = Some(Algorithm::Ed25519);
    signed.open(ed25519, &ca(), topic, verifies).ok().map(<[u8]>::to_vec)
}

impl Fleet {
    /// A fleet of made-up models that take and give `width` numbers.
    pub(crate) fn new(width: u32, natures: &[Nature]) -> Self {
        let mut fleet = Self::empty();
        for (n, nature) in natures.iter().enumerate() {
            fleet.invent(width, n as u8 + 1, *nature);
        }
        fleet
    }

    pub(crate) fn empty() -> Self {
        let keysets = (0..ROOTS.len()).map(keyset).collect();
        Self { keysets, releases: Vec::new(), pieces: BTreeMap::new() }
    }

    /// Publishes a made-up model.
    pub(crate) fn invent(&mut self, width: u32, shift: u8, nature: Nature) {
        let bytes = match nature {
            Nature::TooLarge => 40_000,
            _ => 9_000 + 100 * usize::from(shift),
        };
        self.invent_of(width, shift, nature, bytes);
    }

    /// Publishes a made-up model of so many bytes.
    pub(crate) fn invent_of(&mut self, width: u32, shift: u8, nature: Nature, bytes: usize) {
        let pools = if nature == Nature::Slow { SLOW_POOLS } else { 0 };
        let model = network(width, shift, bytes, pools);
        let moved = if nature == Nature::WrongAnswers { shift + 1 } else { shift };
        let vectors: Vec<_> = (0..if pools > 0 { 1 } else { 3u8 })
            .map(|row| {
                let input: Vec<f32> = (0..width as u8).map(|at| f32::from(row * 8 + at)).collect();
                let output = input.iter().map(|value| value + f32::from(moved)).collect();
                (input, output)
            })
            .collect();
        self.publish(nature, model, golden_set(&vectors));
    }

    /// Publishes a model with its golden vectors.
    pub(crate) fn publish(&mut self, nature: Nature, model: Vec<u8>, golden: Vec<u8>) {
        let n = self.releases.len() as u64;
        let mut health = Health::default();
        health.policy = HealthPolicy {
            samples_min: 2,
            collapse_permille_max: if nature == Nature::Unhealthy { 500 } else { 1000 },
            memory_growth_mib_max: 0,
            crashes_max: TRIAL_TRIES_MAX - 1,
            ..health.policy
        };
        let class = if nature == Nature::OtherHardware { "esp-9" } else { HARDWARE };
        let variant =
            Variant { kind: VariantKind::Qnn, model: self.cut(&model), golden: self.cut(&golden) };
        let manifest = Manifest {
            model: crate::fleet::model(),
            version: Version::new(&format!("v{n}")).unwrap(),
            counter: 10 * (n + 1),
            min_release: 10 * n,
            variants: [variant].into_iter().collect(),
            golden: GoldenRule { abs_err_max: 0.1, same_top1: true },
            golden_mismatch_accepted: None,
            attestations: Default::default(),
            hardware: [HardwareClass::new(class).unwrap()].into_iter().collect(),
            health,
        };
        let payload = encoded(&manifest);
        let envelope = match nature {
            Nature::Forged => forged(&payload),
            _ => sealed(&[RELEASE], Context::Manifest, &payload),
        };
        let digest = Digest::of(&payload);
        self.pieces.insert((digest.short(), Piece::Release), envelope.clone());
        self.releases.push(Release { nature, digest, envelope, golden, model });
    }

    /// Cuts an artifact into what a gateway carries.
    fn cut(&mut self, bytes: &[u8]) -> Artifact {
        let (artifact, list) = maker::artifact(bytes);
        let of = artifact.digest.short();
        for (n, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            self.pieces.insert((of, Piece::Chunk(n as u32)), chunk.to_vec());
        }
        self.pieces.insert((of, Piece::ChunkList), list);
        artifact
    }

    pub(crate) fn piece(&self, of: ShortDigest, piece: Piece) -> Option<&[u8]> {
        self.pieces.get(&(of, piece)).map(Vec::as_slice)
    }

    /// The page of a device whose factory model is the first release.
    pub(crate) fn page(&self) -> Vec<u8> {
        let factory = &self.releases[0];
        let page = Provision {
            id: id(),
            model: model(),
            hardware: HardwareClass::new(HARDWARE).unwrap(),
            firmware: Version::new("0.1.0").unwrap(),
            ca: ca(),
            seed: SEED,
            keyset: &self.keysets[0],
            factory: Some(Factory {
                release: &factory.envelope,
                keyset: &self.keysets[0],
                golden: &factory.golden,
                model: &factory.model,
            }),
        };
        page.write(&mut vec![0; 256 * 1024]).unwrap().to_vec()
    }

    /// An order, signed by the director of a keyset.
    pub(crate) fn order(
        &self,
        keyset: usize,
        generation: u64,
        wish: Wish,
        nonce: Option<[u8; 16]>,
    ) -> Vec<u8> {
        self.order_for(id(), keyset, generation, wish, nonce)
    }

    /// The same for a device of this fleet.
    pub(crate) fn order_for(
        &self,
        device: DeviceId,
        keyset: usize,
        generation: u64,
        wish: Wish,
        nonce: Option<[u8; 16]>,
    ) -> Vec<u8> {
        let terms = Terms { probation_s: 1, probation_answers: 3, ..Terms::default() };
        let wish = ModelOrder {
            model: model(),
            release: self.releases[wish.release].digest,
            action: wish.action,
            rollout: generation,
            terms,
        };
        let order = Order {
            device,
            generation,
            issued_s: 1_700_000_000 + generation,
            expires_s: 1_700_100_000 + generation,
            nonce,
            models: [wish].into_iter().collect(),
        };
        sealed(&[DIRECTORS[keyset]], Context::Order, &encoded(&order))
    }
}

/// What an order wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) release: usize,
    pub(crate) action: Action,
}

impl Wish {
    pub(crate) fn run(release: usize) -> Self {
        Self { release, action: Action::Run }
    }
}
