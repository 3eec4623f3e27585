//! The threat table, row by row: what an attacker has, what it tries, what happens.
//!
//! | the attacker | gets | where |
//! |---|---|---|
//! | has the director's key | what was released, in another order, above the floor | [`keys`] |
//! | has a release key that is replaced while three devices are off | nothing | [`keys`] |
//! | withholds fresh metadata (freeze) | nothing new installed, what runs goes on | [`clock`] |
//! | turns a device's clock ten years forward or back | a pause, no brick | [`clock`] |
//! | sends old orders to a device that forgot everything | nothing: it asks which are old, or they expired | [`replay`] |
//! | lies in a device's name (`e2e_reports.rs`) | nothing: reports are signed | |
//! | sends a release of other hardware | a refusal with that name | [`replay`] |
//!
//! Elsewhere: a root key lost below the threshold (`controller/src/trust/tests.rs`), reports
//! in another device's name (`e2e_enrol.rs`), everything a broker can do (`e2e_hostile.rs`),
//! hostile models (`e2e_sandbox.rs`).

mod clock;
mod keys;
mod replay;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_controller::keys as key_files;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{self, Context, Envelope};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, ORDER_BYTES_MAX};
use fleetway_protocol::order::{Action, ModelOrder, Order, Terms};
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_tests::harness::agent::AgentStatus;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::hostile::attack::Attack;

/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(90);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 10";
/// Pause between two questions of an application.
const ASK: Duration = Duration::from_millis(25);
/// How long it is watched that nothing happens.
const QUIET: Duration = Duration::from_secs(3);

/// Devices behind a broker in the attacker's hands, with these releases rolled out in turn.
async fn fleet_on(versions: &[(&str, &str)], devices: usize) -> Result<Fleet> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Hostile { seed: 1 }, devices)).await?;
    fleet.feed(ASK);
    for (model, version) in versions {
        fleet.controller.release(model, version, "").await?;
        fleet.roll_out(version, JUDGE, WAIT).await?;
    }
    Ok(fleet)
}

fn attacker(fleet: &Fleet) -> Result<&Attack> {
    Ok(&fleet.relay.as_ref().context("nobody in the middle")?.attack)
}

async fn status(fleet: &Fleet, at: usize) -> Result<AgentStatus> {
    fleet.agents[at].status().await
}

async fn runs(fleet: &Fleet, at: usize) -> Result<String> {
    let running = status(fleet, at).await?.models.into_iter().find_map(|m| m.running);
    Ok(running.context("it serves nothing")?.version)
}

/// The device goes on with `version`, for a while.
async fn keeps(fleet: &Fleet, at: usize, version: &str) -> Result<()> {
    let from = tokio::time::Instant::now();
    while from.elapsed() < QUIET {
        let now = runs(fleet, at).await?;
        ensure!(now == version, "it runs {now}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fleet.check_no_errors()
}

/// Waits until the device counted `more` refusals at `check`.
async fn refused(fleet: &Fleet, at: usize, check: &str, before: u64, more: u64) -> Result<()> {
    wait::until(&format!("a refusal: {check}"), WAIT, async || {
        let counts = status(fleet, at).await?.refused;
        let now = counts.get(check).copied().unwrap_or(0);
        ensure!(now >= before + more, "{counts:?}");
        Ok(())
    })
    .await
}

async fn counted(fleet: &Fleet, at: usize, check: &str) -> Result<u64> {
    Ok(status(fleet, at).await?.refused.get(check).copied().unwrap_or(0))
}

/// A secret key from the controller's directory: what a thief took.
fn stolen(fleet: &Fleet, name: &str) -> Result<ed25519_dalek::SigningKey> {
    let path: PathBuf = fleet.controller.data().join("keys").join(format!("{name}.key"));
    key_files::load(&path).with_context(|| path.display().to_string())
}

/// An order as the director would write it.
fn order(device: &str, generation: u64, release: Digest) -> Result<Order> {
    let now_s = fleetway_controller::clock::now_s();
    let wish = ModelOrder {
        model: ModelName::new("digits")?,
        release,
        action: Action::Run,
        rollout: 1,
        terms: Terms { probation_s: 1, probation_answers: 10, ..Terms::default() },
    };
    let mut order = Order {
        device: DeviceId::new(device)?,
        generation,
        issued_s: now_s,
        expires_s: now_s + 3600,
        nonce: None,
        models: Default::default(),
    };
    order.models.push(wish).map_err(|_| anyhow::anyhow!("no room for a model"))?;
    Ok(order)
}

fn sealed(key: &ed25519_dalek::SigningKey, context: Context, payload: &[u8]) -> Result<Vec<u8>> {
    let mut envelope = Envelope::new(payload);
    let signature = envelope::sign(key, context, payload);
    envelope.push(signature).map_err(|_| anyhow::anyhow!("no room for a signature"))?;
    let mut buf = [0; ENVELOPE_BYTES_MAX];
    Ok(envelope.encode(&mut buf)?.to_vec())
}

/// Has the broker give `device` this order, signed with `key`.
async fn send_order(fleet: &Fleet, key: &ed25519_dalek::SigningKey, order: &Order) -> Result<()> {
    let mut buf = [0; ORDER_BYTES_MAX];
    let bytes = sealed(key, Context::Order, codec::encode(order, &mut buf)?)?;
    let topic = Topic::Order(order.device.clone()).text(ROOT_DEFAULT);
    attacker(fleet)?.send(order.device.as_str(), &topic, bytes).await
}

/// The digest of a published release.
async fn digest(fleet: &Fleet, version: &str) -> Result<Digest> {
    #[derive(serde::Deserialize)]
    struct View {
        digest: String,
    }
    let view: View = fleet.controller.cli.json(&format!("model show digits@{version}")).await?;
    Ok(view.digest.parse()?)
}
