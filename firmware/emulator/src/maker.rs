//! What a device's maker does: a key, the fleet that it is to believe, and a factory model with
//! golden vectors, on one page ([`fleetway_firmware::provision`]). Tests make many of them, so that
//! it is done once, here.

use ed25519_dalek::SigningKey;
use fleetway_firmware::provision::{Factory, PAGE_OVERHEAD_BYTES, Provision};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::health::Health;
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::limits::ENVELOPE_BYTES_MAX;
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};

/// Bytes of one chunk, as variants for microcontrollers are cut.
pub const CHUNK_BYTES: usize = 4096;
/// How far an answer may be from the golden one: every processor computes the same bits, and this
/// leaves room for nothing but the last of them.
const ABS_ERR_MAX: f32 = 1e-4;
/// Room on the page for ids, keyset and manifest, bytes: two keysets and a manifest in envelopes.
const PAPERS_BYTES_MAX: usize = 3 * ENVELOPE_BYTES_MAX + 1024;
/// The maker's key: no fleet's.
const MAKER: [u8; 32] = *b"the maker of devices, for tests.";

/// An input, and the right answer to it.
pub type Vector = (Vec<f32>, Vec<f32>);

/// What a device is made with.
#[derive(Clone, Debug)]
pub struct Birth<'b> {
    /// Who it is.
    pub id: DeviceId,
    /// The model that it serves.
    pub model: ModelName,
    /// What it is; the fleet's releases are told apart by it.
    pub hardware: HardwareClass,
    /// Digest of the fleet CA's certificate.
    pub ca: Digest,
    /// The seed of its Ed25519 key.
    pub seed: [u8; 32],
    /// The fleet's first keyset, in its envelope.
    pub keyset: &'b [u8],
}

impl Birth<'_> {
    /// The key that its reports are signed with, for `fleetway device adopt --key`.
    pub fn public_key(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.seed).verifying_key().to_bytes()
    }

    /// Its page.
    ///
    /// # Panics
    /// If the keyset is larger than any.
    pub fn page(&self, factory: &FactoryModel) -> Vec<u8> {
        let page = Provision {
            id: self.id.clone(),
            model: self.model.clone(),
            hardware: self.hardware.clone(),
            firmware: Version::new(env!("CARGO_PKG_VERSION")).expect("short"),
            ca: self.ca,
            seed: self.seed,
            keyset: self.keyset,
            factory: Some(Factory {
                release: &factory.release,
                keyset: &factory.keyset,
                golden: &factory.golden,
                model: &factory.model,
            }),
        };
        let bytes = PAPERS_BYTES_MAX + PAGE_OVERHEAD_BYTES;
        let bytes = bytes + factory.golden.len() + factory.model.len();
        page.write(&mut vec![0; bytes]).expect("a keyset within its bound").to_vec()
    }
}

/// A factory model: a release of the fleet, or one that the maker has signed with a key of its own,
/// which the device takes because it lies on its page; the fleet never hears of that key.
#[derive(Clone, Debug)]
pub struct FactoryModel {
    release: Vec<u8>,
    keyset: Vec<u8>,
    golden: Vec<u8>,
    model: Vec<u8>,
}

impl FactoryModel {
    /// A release of the fleet: its signed manifest, a keyset that names who signed it, its golden
    /// vectors and its compiled network.
    pub fn released(release: Vec<u8>, keyset: Vec<u8>, golden: Vec<u8>, model: Vec<u8>) -> Self {
        Self { release, keyset, golden, model }
    }

    /// A release of the int8 file `model` with the golden set `golden`.
    ///
    /// # Panics
    /// Never: a manifest of one variant is small.
    pub fn made(
        name: &ModelName,
        hardware: &HardwareClass,
        model: Vec<u8>,
        golden: Vec<u8>,
    ) -> Self {
        let (model_artifact, golden_artifact) = (artifact(&model).0, artifact(&golden).0);
        let variant =
            Variant { kind: VariantKind::Qnn, model: model_artifact, golden: golden_artifact };
        let manifest = Manifest {
            model: name.clone(),
            version: Version::new("factory").expect("short"),
            counter: 1,
            min_release: 0,
            variants: [variant].into_iter().collect(),
            golden: GoldenRule { abs_err_max: ABS_ERR_MAX, same_top1: true },
            golden_mismatch_accepted: None,
            attestations: heapless::Vec::new(),
            hardware: [hardware.clone()].into_iter().collect(),
            health: Health::default(),
        };
        let key = SigningKey::from_bytes(&MAKER);
        let authority = Authority::new(&[PublicKey::of(&key)], 1).expect("one of one");
        let keyset = Keyset {
            version: 1,
            root: authority.clone(),
            release: authority.clone().into(),
            director: authority,
        };
        let keyset = sealed(std::slice::from_ref(&key), Context::Keyset, &encoded(&keyset));
        let release = sealed(&[key], Context::Manifest, &encoded(&manifest));
        Self { release, keyset, golden, model }
    }
}

/// A value as it is signed.
///
/// # Panics
/// If it is larger than any paper.
pub fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut buf = vec![0; ENVELOPE_BYTES_MAX];
    codec::encode(value, &mut buf).expect("a paper within its bound").to_vec()
}

/// A payload in its envelope, signed with every key.
///
/// # Panics
/// If there are more keys than an envelope takes, or it is larger than any.
pub fn sealed(keys: &[SigningKey], context: Context, payload: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(payload);
    for key in keys {
        envelope.push(sign(key, context, payload)).expect("as many as an envelope takes");
    }
    let mut buf = vec![0; ENVELOPE_BYTES_MAX];
    envelope.encode(&mut buf).expect("an envelope within its bound").to_vec()
}

/// How a manifest names some bytes, and their chunk list.
pub fn artifact(bytes: &[u8]) -> (Artifact, Vec<u8>) {
    let list: Vec<u8> = bytes.chunks(CHUNK_BYTES).flat_map(|chunk| Digest::of(chunk).0).collect();
    let artifact = Artifact {
        digest: Digest::of(bytes),
        bytes: bytes.len() as u32,
        chunk_bytes: CHUNK_BYTES as u32,
        chunk_list: Digest::of(&list),
    };
    (artifact, list)
}

/// What this machine's kernels make of `inputs`: to the bit the same on every board. For models of
/// one input and one output; bytes are numbers here.
///
/// # Errors
/// [`fleetway_qnn::LoadError`] if `model` is none.
///
/// # Panics
/// If an input has another length than the model takes.
pub fn answers(
    model: &[u8],
    inputs: impl IntoIterator<Item = Vec<f32>>,
) -> Result<Vec<Vector>, fleetway_qnn::LoadError> {
    let model = fleetway_qnn::Model::load(model)?;
    let elements = model.outputs().next().map_or(0, |(_, output)| output.elements as usize);
    let mut arena = vec![0; model.arena_bytes()];
    let answer = |input: Vec<f32>| {
        let mut output = vec![0.0; elements];
        let outputs = &mut [fleetway_qnn::Output::Numbers(&mut output)];
        let kernels = fleetway_qnn::Kernels::best();
        let ran = model.run(kernels, &mut arena, &[fleetway_qnn::Input::Numbers(&input)], outputs);
        ran.expect("an input as the model takes it");
        (input, output)
    };
    Ok(inputs.into_iter().map(answer).collect())
}

/// A golden set as a Linux device encodes it.
pub fn golden_set(vectors: &[Vector]) -> Vec<u8> {
    let (input, output) = vectors.first().map_or((0, 0), |(i, o)| (i.len(), o.len()));
    let spec = |name: &str, len: usize| {
        [varint(1), varint(name.len()), name.as_bytes().to_vec(), varint(0), varint(1), varint(len)]
            .concat()
    };
    let tensor = |values: &[f32]| {
        let numbers = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let len = || varint(values.len());
        [varint(1), varint(1), len(), varint(0), len(), numbers].concat()
    };
    let vectors: Vec<u8> = std::iter::once(varint(vectors.len()))
        .chain(vectors.iter().map(|(input, output)| [tensor(input), tensor(output)].concat()))
        .flatten()
        .collect();
    [spec("in", input), spec("out", output), vectors].concat()
}

/// postcard's numbers.
fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}
