//! How long a director signs: an order for each of ten thousand devices, on one core. And what
//! it costs that devices sign what they say: the device once, the controller once, per report.

use std::hint::black_box;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use fleetway_controller::pki::DeviceKey;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Context, Envelope, sign as sign_payload};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, ORDER_BYTES_MAX, SIGNED_REPORT_BYTES_MAX};
use fleetway_protocol::order::{Action, ModelOrder, Order, Terms};
use fleetway_protocol::signed::{Algorithm, SignedReport, message};
use fleetway_protocol::topics::Topic;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair, KeyPair as _};
use tokio::time::Instant;

use super::figures::Figures;

/// Devices of the figure.
const ORDERS: u64 = 10_000;
/// What is aimed at, seconds.
const AIM_S: f64 = 2.0;

/// Reports of the figures.
const REPORTS: u64 = 10_000;
/// About what a state has.
const STATE_BYTES: usize = 150;

/// Encodes, signs and seals an order per device, as the controller does before it sends one.
pub(super) fn sign(figures: &mut Figures) -> Result<()> {
    let director = SigningKey::from_bytes(&[7; 32]);
    let model = ModelOrder {
        model: ModelName::new("digits").context("a name")?,
        release: Digest([1; 32]),
        action: Action::Run,
        rollout: 1,
        terms: Terms::default(),
    };
    let (mut payload, mut sealed) = ([0; ORDER_BYTES_MAX], [0; ENVELOPE_BYTES_MAX]);
    let since = Instant::now();
    for n in 0..ORDERS {
        let order = Order {
            device: DeviceId::new(&format!("cam-{n}")).context("an id")?,
            generation: n,
            issued_s: n,
            expires_s: n + 3600,
            nonce: None,
            models: [model.clone()].into_iter().collect(),
        };
        let payload = codec::encode(&order, &mut payload).context("an order fits")?;
        let mut envelope = Envelope::new(payload);
        let signature = sign_payload(&director, Context::Order, payload);
        envelope.push(signature).ok().context("one signature fits")?;
        black_box(envelope.encode(&mut sealed).context("an envelope fits")?);
    }
    let how = "10,000 orders of one model: encoded, signed and sealed on one thread";
    figures.add("sign_10k_orders_s", since.elapsed().as_secs_f64(), Some(AIM_S), how);
    Ok(())
}

/// Signs and verifies reports as agent and controller do, one thread each.
pub(super) fn reports(figures: &mut Figures) -> Result<()> {
    let random = SystemRandom::new();
    let refused = |_| anyhow::anyhow!("a key is not taken");
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&P256, &random).map_err(refused)?;
    let pair = EcdsaKeyPair::from_pkcs8(&P256, pkcs8.as_ref(), &random);
    let pair = pair.ok().context("a key is not taken")?;
    let key = DeviceKey::from_point(pair.public_key().as_ref()).context("a point")?;
    let topic = Topic::State(DeviceId::new("cam-1")?, ModelName::new("digits")?);
    let (ca, body) = (Digest([1; 32]), [7; STATE_BYTES]);
    let signing = Instant::now();
    let mut signed = Vec::new();
    for _ in 0..REPORTS {
        let message = message(&ca, Algorithm::EcdsaP256, &topic, &body);
        let signature = pair.sign(&random, &message).map_err(refused)?;
        let report = SignedReport::new(&body, Algorithm::EcdsaP256, signature.as_ref());
        let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
        signed.push(report.context("fits")?.encode(&mut buf).context("fits")?.to_vec());
    }
    let per_report = |since: Instant| since.elapsed().as_secs_f64() * 1e6 / REPORTS as f64;
    figures.add("sign_report_us", per_report(signing), None, "ECDSA P-256 by ring, 150 bytes");
    let verifying = Instant::now();
    for bytes in &signed {
        let report = SignedReport::decode(bytes).context("decodes")?;
        let verifies =
            |message: &[u8; 64], signature: &[u8]| key.verifies_report(message, signature);
        black_box(report.open(Some(key.algorithm()), &ca, &topic, verifies)?);
    }
    figures.add("verify_report_us", per_report(verifying), None, "the same, on one thread");
    let more = signed.first().map_or(0, Vec::len) - STATE_BYTES;
    figures.add("signed_report_more_bytes", more as f64, None, "on the wire, per report");
    Ok(())
}
