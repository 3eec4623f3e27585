//! A proof for bytes at hand: a release of them, signed by a key that nobody else knows.

use anyhow::{Result, anyhow};
use ed25519_dalek::SigningKey;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::ids::{Digest, ModelName, Version};
use fleetway_protocol::limits::{CHUNK_BYTES_MAX, ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};
use fleetway_protocol::trust::{Keyring, Verified};

/// The manifest of a release that has `model` in this form, as after an admission.
///
/// # Errors
/// A file over the protocol's bounds.
pub fn manifest(model: &[u8], kind: VariantKind) -> Result<Verified<Manifest>> {
    let artifact = Artifact {
        digest: Digest::of(model),
        bytes: u32::try_from(model.len())?,
        chunk_bytes: CHUNK_BYTES_MAX,
        chunk_list: Digest([0; 32]),
    };
    let manifest = Manifest {
        model: ModelName::new("m")?,
        version: Version::new("v1")?,
        counter: 1,
        min_release: 0,
        variants: [Variant { kind, model: artifact, golden: artifact }].into_iter().collect(),
        golden: GoldenRule { abs_err_max: 0.1, same_top1: true },
        golden_mismatch_accepted: None,
        attestations: Default::default(),
        hardware: Default::default(),
        health: Default::default(),
    };
    let key = SigningKey::from_bytes(&[7; 32]);
    let (mut payload, mut sealed) = ([0; MANIFEST_BYTES_MAX], [0; ENVELOPE_BYTES_MAX]);
    let payload = codec::encode(&manifest, &mut payload).map_err(|e| anyhow!("{e:?}"))?;
    let mut envelope = Envelope::new(payload);
    envelope.push(sign(&key, Context::Manifest, payload)).map_err(|e| anyhow!("{e:?}"))?;
    let authority = Authority::new(&[PublicKey::of(&key)], 1)?;
    let keyring = Keyring { release: authority.clone().into(), director: authority };
    let sealed = envelope.encode(&mut sealed).map_err(|e| anyhow!("{e:?}"))?;
    Ok(Verified::<Manifest>::recheck(sealed, &keyring, &Digest::of(payload))?)
}
