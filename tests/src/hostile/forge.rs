//! Messages that are right in every way but one: who signed them. The attacker knows every
//! format, makes an order for the future, a release of its own, trust metadata of a higher
//! version, a device's report of success, and signs all of it with keys that nobody gave it.

use ed25519_dalek::{Signer as _, SigningKey};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{self, Context, Envelope};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::{
    ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX, ORDER_BYTES_MAX, REPORT_BYTES_MAX,
    SIGNED_REPORT_BYTES_MAX,
};
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::order::Order;
use fleetway_protocol::report::{Ack, Host, Nonce, Presence, State, Telemetry, Want};
use fleetway_protocol::signed::{Algorithm, SignedReport, message};
use fleetway_protocol::slot::Ending;
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use serde_json::{Value, json};

use super::kinds::Class;

/// The attacker's keys, and its own idea of which fleet this is: the right one, because the CA
/// is no secret.
#[derive(Debug)]
pub(super) struct Forger {
    key: SigningKey,
    /// Of the kind that devices enrol.
    device: p256::ecdsa::SigningKey,
    ca: Digest,
}

impl Forger {
    pub(super) fn new(rng: &mut fastrand::Rng, ca: Digest) -> Self {
        // A scalar below the group's order: the first byte of that is 0xff.
        let scalar: [u8; 32] = std::array::from_fn(|at| if at == 0 { 1 } else { rng.u8(..) });
        let device = p256::ecdsa::SigningKey::from_slice(&scalar).expect("a scalar in range");
        let key = SigningKey::from_bytes(&std::array::from_fn(|_| rng.u8(..)));
        Self { key, device, ca }
    }

    /// A device's report from the future: unsigned, signed by the attacker in one way or the
    /// other, of a device that there is not, or where nobody says anything.
    pub(super) fn report(
        &self,
        topic: &str,
        original: &[u8],
        rng: &mut fastrand::Rng,
    ) -> (String, Vec<u8>) {
        let body = SignedReport::decode(original).map_or(original, |r| r.report_unchecked());
        let body = later(topic, body).unwrap_or_else(|| body.to_vec());
        let unsigned = Some(SignedReport::unsigned(&body));
        let elsewhere = |level: &str| {
            let device = topic.split('/').nth(3).unwrap_or_default();
            topic.replacen(&format!("/{device}/"), level, 1)
        };
        let (topic, report) = match rng.u8(0..5) {
            0 => (topic.to_owned(), unsigned),
            1 => (topic.to_owned(), self.signed(topic, &body)),
            2 => {
                let signature = self.key.sign(&body).to_bytes();
                let report = SignedReport::new(&body, Algorithm::Ed25519, &signature);
                (topic.to_owned(), report)
            }
            3 => (elsewhere("/nobody/"), unsigned),
            _ => (elsewhere("/No_Body/"), unsigned),
        };
        let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
        let bytes = report.and_then(|report| Some(report.encode(&mut buf).ok()?.to_vec()));
        (topic, bytes.unwrap_or_else(|| original.to_vec()))
    }

    fn signed<'a>(&self, topic: &str, body: &'a [u8]) -> Option<SignedReport<'a>> {
        let topic = Topic::parse(ROOT_DEFAULT, topic)?;
        let message = message(&self.ca, Algorithm::EcdsaP256, &topic, body);
        let signature: p256::ecdsa::Signature = self.device.sign(&message);
        SignedReport::new(body, Algorithm::EcdsaP256, &signature.to_bytes())
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

/// The same report, said later; a state says that its release is confirmed.
fn later(topic: &str, body: &[u8]) -> Option<Vec<u8>> {
    const LATER: u64 = 1_000_000;
    fn changed<T: serde::Serialize + serde::de::DeserializeOwned>(
        body: &[u8],
        change: impl FnOnce(&mut T),
    ) -> Option<Vec<u8>> {
        let mut report: T = codec::decode(body, REPORT_BYTES_MAX).ok()?;
        change(&mut report);
        let mut buf = [0; REPORT_BYTES_MAX];
        Some(codec::encode(&report, &mut buf).ok()?.to_vec())
    }
    match Topic::parse(ROOT_DEFAULT, topic)? {
        Topic::Presence(_) => changed(body, |p: &mut Presence| p.stamp.seq += LATER),
        Topic::Telemetry(..) => changed(body, |t: &mut Telemetry| t.stamp.seq += LATER),
        Topic::Host(_) => changed(body, |h: &mut Host| h.stamp.seq += LATER),
        Topic::Ack(_) => changed(body, |a: &mut Ack| a.stamp.seq += LATER),
        Topic::Want(_) => changed(body, |w: &mut Want| w.stamp.seq += LATER),
        Topic::Nonce(_) => changed(body, |n: &mut Nonce| n.stamp.seq += LATER),
        Topic::State(..) => changed(body, |state: &mut State| {
            state.stamp.seq += LATER;
            state.running = state.target.or(state.running);
            if let (Some(last), Some(release)) = (&mut state.last, state.running) {
                (last.release, last.result) = (release, Ending::Confirmed);
                last.rollout += 1;
            }
        }),
        _ => None,
    }
}
