//! How long a director signs: an order for each of ten thousand devices, on one core.

use std::hint::black_box;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Context, Envelope, sign as sign_payload};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, ORDER_BYTES_MAX};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::{Action, ModelOrder, Order, Policy};
use tokio::time::Instant;

use super::figures::Figures;

/// Devices of the figure.
const ORDERS: u64 = 10_000;
/// What is aimed at, seconds.
const AIM_S: f64 = 2.0;

/// Encodes, signs and seals an order per device, as the controller does before it sends one.
pub(super) fn sign(figures: &mut Figures) -> Result<()> {
    let director = SigningKey::from_bytes(&[7; 32]);
    let model = ModelOrder {
        model: ModelName::new("digits").context("a name")?,
        release: Digest([1; 32]),
        variant: VariantKind::Onnx,
        action: Action::Run,
        rollout: 1,
        policy: Policy::default(),
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
