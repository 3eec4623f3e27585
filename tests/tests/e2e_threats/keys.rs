//! Keys in the wrong hands.

use anyhow::{Context as _, Result, ensure};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::Context;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::MANIFEST_BYTES_MAX;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::topics::{Piece, ROOT_DEFAULT, Topic};

use super::{
    JUDGE, WAIT, attacker, counted, digest, fleet_on, keeps, order, refused, runs, sealed,
    send_order, status, stolen,
};
use fleetway_tests::harness::{Fleet, wait};
use fleetway_tests::hostile::attack::{Class, Kind};

/// The director's key alone: an order for something that nobody released is refused, an old
/// release is below the floor, and the fleet is taken back by a new key.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_director_key_only_orders_what_was_released() {
    stolen_director().await.unwrap();
}

async fn stolen_director() -> Result<()> {
    let releases = [("digits-v1", "v1"), ("digits-v2", "v2"), ("digits-v1", "v3")];
    let fleet = fleet_on(&releases, 1).await?;
    let key = stolen(&fleet, "director")?;
    let above = status(&fleet, 0).await?.generation;
    // The thief has the broker too: what the controller says against it does not arrive.
    attacker(&fleet)?.withhold(&[Class::Order]);
    attacker(&fleet)?.set(Some(Kind::Withhold));
    // A release of the thief's own, signed with the only key that it has.
    let (name, bytes) = own_release(&fleet, "v3", &key)?;
    let before = counted(&fleet, 0, "release signature").await?;
    send_order(&fleet, &key, &order("cam-1", above + 10, name)?).await?;
    let topic = Topic::Blob(name.short(), Piece::Release).text(ROOT_DEFAULT);
    wait::until("the device to look at the thief's release", WAIT, async || {
        attacker(&fleet)?.send("cam-1", &topic, bytes.clone()).await?;
        ensure!(counted(&fleet, 0, "release signature").await? > before, "not yet");
        Ok(())
    })
    .await?;
    keeps(&fleet, 0, "v3").await?;
    // One that was released and is too old: the floor is what v3 brought.
    let old = digest(&fleet, "v1").await?;
    send_order(&fleet, &key, &order("cam-1", above + 20, old)?).await?;
    wait::until("the device to refuse the old release", WAIT, async || {
        let models = status(&fleet, 0).await?.models;
        let code = models[0].last.as_ref().and_then(|last| last.why.as_ref()).map(|w| &w.code);
        ensure!(code.is_some_and(|code| code == "BELOW_FLOOR"), "{models:?}");
        Ok(())
    })
    .await?;
    keeps(&fleet, 0, "v3").await?;
    attacker(&fleet)?.set(None);
    // Another director: the thief's orders count no longer, the fleet's do.
    let cli = &fleet.controller.cli;
    replace(&fleet, "director").await?;
    fleet.controller.release("digits-v2", "v4", "").await?;
    fleet.roll_out("v4", JUDGE, WAIT).await?;
    let before = counted(&fleet, 0, "order signature").await?;
    let above = status(&fleet, 0).await?.generation;
    send_order(&fleet, &key, &order("cam-1", above + 10, digest(&fleet, "v3").await?)?).await?;
    refused(&fleet, 0, "order signature", before, 1).await?;
    keeps(&fleet, 0, "v4").await?;
    cli.ok("trust status").await.map(drop)
}

/// A release key that was stolen is replaced while three of four devices are off. When they
/// come back they believe the new one, and nothing that the old one signs any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_release_key_is_replaced_while_three_devices_are_off() {
    stolen_release().await.unwrap();
}

async fn stolen_release() -> Result<()> {
    let mut fleet = fleet_on(&[("digits-v1", "v1")], 4).await?;
    let (thief, director) = (stolen(&fleet, "release")?, stolen(&fleet, "director")?);
    for at in 1..4 {
        fleet.feeders[at].expect_down(true);
        fleet.agents[at].stop().await?;
    }
    replace(&fleet, "release").await?;
    // The controller takes nothing of the old key, and devices that were on neither.
    fleet.controller.cli.ok(&import("digits-v2", "evil")).await?;
    let old_key = fleet.controller.data().join("keys/release.key");
    let line = format!("model sign digits@evil --key '{}'", old_key.display());
    fleet.controller.cli.run(&line).await?.expect_code(7)?;
    for at in 1..4 {
        fleet.agents[at].start().await?;
        wait::until("the model", WAIT, async || runs(&fleet, at).await.map(drop)).await?;
        fleet.feeders[at].expect_down(false);
    }
    fleet.all_online(WAIT).await?;
    let (model, golden) = paths("digits-v2");
    let new_key = fleet.dir().join("release-2.key");
    let cli = &fleet.controller.cli;
    cli.ok(&format!(
        "model import '{}' --name digits --version v2 --golden '{}'",
        model.display(),
        golden.display()
    ))
    .await?;
    cli.ok(&format!("model sign digits@v2 --key '{}'", new_key.display())).await?;
    cli.ok("model publish digits@v2").await?;
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    // Even with the director's key too: what the old release key signs is not released.
    for at in 0..4 {
        let id = fleet.agents[at].id.clone();
        let above = status(&fleet, at).await?.generation;
        let (name, bytes) = own_release(&fleet, "v2", &thief)?;
        let before = counted(&fleet, at, "release signature").await?;
        send_order(&fleet, &director, &order(&id, above + 10, name)?).await?;
        let topic = Topic::Blob(name.short(), Piece::Release).text(ROOT_DEFAULT);
        wait::until("the device to look at the thief's release", WAIT, async || {
            attacker(&fleet)?.send(&id, &topic, bytes.clone()).await?;
            ensure!(counted(&fleet, at, "release signature").await? > before, "not yet");
            Ok(())
        })
        .await?;
        ensure!(runs(&fleet, at).await? == "v2");
    }
    keeps(&fleet, 0, "v2").await
}

fn paths(model: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let dir = fleetway_tests::harness::digits::model_dir();
    (dir.join(format!("{model}.onnx")), dir.join(format!("{model}.golden.npz")))
}

fn import(model: &str, version: &str) -> String {
    let (model, golden) = paths(model);
    format!(
        "model import '{}' --name digits --version {version} --golden '{}'",
        model.display(),
        golden.display()
    )
}

/// Puts a new key in the place of `name`: the whole ceremony, by its commands.
async fn replace(fleet: &Fleet, name: &str) -> Result<()> {
    let cli = &fleet.controller.cli;
    let new = fleet.dir().join(format!("{name}-2.key"));
    cli.ok(&format!("key generate {name}-2 --plain --out '{}'", new.display())).await?;
    cli.ok(&format!("key rotate {name} --to '{name}-2={}.pub'", new.display())).await?;
    let root = fleet.controller.data().join("keys/root.key");
    cli.ok(&format!("trust sign --key '{}'", root.display())).await?;
    // Targets are signed anew by whoever may sign them now.
    let targets =
        if name == "release" { new } else { fleet.controller.data().join("keys/release.key") };
    cli.run(&format!("trust sign --key '{}'", targets.display())).await?;
    if name == "director" {
        std::fs::copy(
            fleet.dir().join("director-2.key"),
            fleet.controller.data().join("keys/director.key"),
        )
        .context("the new director's key")?;
    }
    cli.ok("trust publish").await.map(drop)
}

/// The manifest of a published release, with a higher counter, signed by `key`.
fn own_release(
    fleet: &Fleet,
    version: &str,
    key: &ed25519_dalek::SigningKey,
) -> Result<(Digest, Vec<u8>)> {
    let dir = fleet.controller.data().join("catalog/digits").join(version);
    let payload = std::fs::read(dir.join("manifest.bin")).context("the release's manifest")?;
    let mut manifest: Manifest = codec::decode(&payload, MANIFEST_BYTES_MAX)?;
    manifest.counter += 100;
    let mut buf = [0; MANIFEST_BYTES_MAX];
    let payload = codec::encode(&manifest, &mut buf)?;
    Ok((Digest::of(payload), sealed(key, Context::Manifest, payload)?))
}
