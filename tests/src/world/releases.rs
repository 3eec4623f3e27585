//! Releases of the world: real manifests, really signed, with made-up bytes, and what a
//! device experiences when it tries them.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use fleetway_protocol::envelope::{Authority, Context, PublicKey};
use fleetway_protocol::health::{Health, HealthPolicy};
use fleetway_protocol::ids::{Digest, ModelName, ShortDigest, Version};
use fleetway_protocol::limits::MANIFEST_BYTES_MAX;
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};
use fleetway_protocol::topics::Piece;
use fleetway_protocol::{codec, manifest};

use crate::authority::seal;

/// Small, so that a small artifact has many chunks.
const CHUNK_BYTES: u32 = 256;

/// What comes of trying a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Works.
    Good,
    /// Its self-test finds other answers than the golden vectors'.
    Golden,
    /// Passes its self-test, and the engine will not load it.
    NoLoad,
    /// Serves, and its answers collapse.
    Collapse,
    /// Answers otherwise than what serves, in the shadow; where there is none, its answers
    /// collapse.
    Differs,
    /// Serves, and takes the power with it, every time.
    Crash,
    /// Serves well for an hour; its manifest asks for two. Not in the world, which has no hours.
    Late,
}

impl Nature {
    /// Every way of being bad.
    pub const BAD: [Self; 5] =
        [Self::Golden, Self::NoLoad, Self::Collapse, Self::Differs, Self::Crash];

    fn health(self) -> Health {
        let usual = Health::default();
        let two_hours = HealthPolicy { probation_s_min: 7_200, window_s: 60, ..usual.policy };
        if self == Self::Late { Health { policy: two_hours, ..usual } } else { usual }
    }
}

/// A published release.
#[derive(Clone, Debug)]
pub struct Release {
    /// What comes of it.
    pub nature: Nature,
    /// Its digest.
    pub digest: Digest,
    /// Its label.
    pub version: Version,
    /// Its signed manifest, exact bytes.
    pub envelope: Vec<u8>,
    /// All that devices fetch for it.
    pub pieces: BTreeMap<(ShortDigest, Piece), Vec<u8>>,
}

/// The keys of the world.
pub struct Keys {
    release: SigningKey,
    director: SigningKey,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            release: SigningKey::from_bytes(&[1; 32]),
            director: SigningKey::from_bytes(&[2; 32]),
        }
    }
}

impl Keys {
    /// Has the release authority name these keys.
    pub fn publish(&self, authority: &mut crate::authority::Authority) {
        authority.publish_keyset(1, &[&self.release], &self.director);
    }

    /// Whom the controller believes about releases.
    pub fn release_authority(&self) -> Authority {
        authority(&self.release)
    }

    /// A signed order.
    pub fn order(&self, payload: &[u8]) -> Vec<u8> {
        seal(&[&self.director], Context::Order, payload)
    }

    /// An order by somebody else.
    pub fn forged_order(&self, payload: &[u8]) -> Vec<u8> {
        seal(&[&self.release], Context::Order, payload)
    }

    /// A release of `model` with this counter.
    pub fn release(
        &self,
        model: &ModelName,
        counter: u64,
        nature: Nature,
        rng: &mut fastrand::Rng,
    ) -> Release {
        let mut pieces = BTreeMap::new();
        let mut artifact = |bytes: Vec<u8>| {
            let digest = Digest::of(&bytes);
            let list: Vec<u8> =
                bytes.chunks(CHUNK_BYTES as usize).flat_map(|c| Digest::of(c).0).collect();
            for (n, chunk) in bytes.chunks(CHUNK_BYTES as usize).enumerate() {
                pieces.insert((digest.short(), Piece::Chunk(n as u32)), chunk.to_vec());
            }
            let chunk_list = Digest::of(&list);
            pieces.insert((digest.short(), Piece::ChunkList), list);
            Artifact { digest, bytes: bytes.len() as u32, chunk_bytes: CHUNK_BYTES, chunk_list }
        };
        let random = |rng: &mut fastrand::Rng, len| (0..len).map(|_| rng.u8(..)).collect();
        let model_len = rng.usize(1_000..4_000);
        let mut variant = |kind| Variant {
            kind,
            model: artifact(random(rng, model_len)),
            golden: artifact(random(rng, 300)),
        };
        // Devices differ in what they can run.
        let variants = [VariantKind::Onnx, VariantKind::Qnn].map(&mut variant);
        let version = Version::new(&format!("v{counter}")).expect("a version");
        let manifest = Manifest {
            model: model.clone(),
            version: version.clone(),
            counter,
            min_release: counter.saturating_sub(1),
            variants: variants.into_iter().collect(),
            golden: GoldenRule { abs_err_max: 0.1, same_top1: true },
            golden_mismatch_accepted: None,
            attestations: Default::default(),
            hardware: Default::default(),
            health: nature.health(),
        };
        manifest::Manifest::check(&manifest).expect("a sane manifest");
        let mut buf = [0; MANIFEST_BYTES_MAX];
        let payload = codec::encode(&manifest, &mut buf).expect("fits").to_vec();
        let digest = Digest::of(&payload);
        let envelope = seal(&[&self.release], Context::Manifest, &payload);
        pieces.insert((digest.short(), Piece::Release), envelope.clone());
        Release { nature, digest, version, envelope, pieces }
    }
}

fn authority(key: &SigningKey) -> Authority {
    Authority::new(&[PublicKey::of(key)], 1).expect("one key, threshold one")
}
