//! Messages that are right in every way but one: who signed them. The attacker knows every
//! format, makes an order for the future, a release of its own, trust metadata of a higher
//! version, and signs all of it with keys that nobody gave it.

use ed25519_dalek::{Signer as _, SigningKey};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{self, Context, Envelope};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX, ORDER_BYTES_MAX};
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::order::Order;
use serde_json::{Value, json};

use super::attack::Class;

/// The attacker's keys.
#[derive(Debug)]
pub(super) struct Forger {
    key: SigningKey,
}

impl Forger {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        Self { key: SigningKey::from_bytes(&std::array::from_fn(|_| rng.u8(..))) }
    }

    /// Something like `original`, and more to the attacker's liking.
    pub(super) fn forge(&self, class: Class, original: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
        let forged = match class {
            Class::Order => self.order(original, rng),
            Class::Release => self.release(original),
            Class::Trust => self.metadata(original),
            _ => None,
        };
        // What is not signed by anybody: other bytes of the same length.
        forged.unwrap_or_else(|| original.iter().map(|_| rng.u8(..)).collect())
    }

    fn order(&self, original: &[u8], rng: &mut fastrand::Rng) -> Option<Vec<u8>> {
        let payload = Envelope::decode(original).ok()?.payload_unchecked();
        let mut order: Order = codec::decode(payload, ORDER_BYTES_MAX).ok()?;
        order.generation += 1 + rng.u64(0..1000);
        order.expires_s += 365 * 86_400;
        let mut buf = [0; ORDER_BYTES_MAX];
        self.sealed(Context::Order, codec::encode(&order, &mut buf).ok()?)
    }

    fn release(&self, original: &[u8]) -> Option<Vec<u8>> {
        let payload = Envelope::decode(original).ok()?.payload_unchecked();
        let mut manifest: Manifest = codec::decode(payload, MANIFEST_BYTES_MAX).ok()?;
        manifest.counter += 1;
        let mut buf = [0; MANIFEST_BYTES_MAX];
        self.sealed(Context::Manifest, codec::encode(&manifest, &mut buf).ok()?)
    }

    fn sealed(&self, context: Context, payload: &[u8]) -> Option<Vec<u8>> {
        let mut envelope = Envelope::new(payload);
        envelope.push(envelope::sign(&self.key, context, payload)).ok()?;
        let mut buf = [0; ENVELOPE_BYTES_MAX];
        Some(envelope.encode(&mut buf).ok()?.to_vec())
    }

    /// TUF metadata of a later version, under the ids of the keys that should have signed.
    fn metadata(&self, original: &[u8]) -> Option<Vec<u8>> {
        let mut file: Value = serde_json::from_slice(original).ok()?;
        let version = file["signed"]["version"].as_u64()?;
        file["signed"]["version"] = json!(version + 1);
        // Keys are sorted and there are no floats in TUF: this is its canonical form.
        let signature = self.key.sign(file["signed"].to_string().as_bytes()).to_bytes();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        for entry in file["signatures"].as_array_mut()? {
            entry["sig"] = json!(hex);
        }
        Some(file.to_string().into_bytes())
    }
}
