//! From a join string to a device that works; and every way in which it must not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::join::Join;
use fleetway_tests::harness::agent::join;
use fleetway_tests::harness::cli::Done;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};

use super::WAIT;

fn refused(done: Done, says: &[&str]) -> Result<()> {
    ensure!(done.code != 0, "`{}` succeeded:\n{}", done.line, done.stdout);
    for word in says {
        ensure!(done.stderr.contains(word), "does not say {word:?} but:\n{}", done.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_device_joins_by_its_string_and_nobody_else_does() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    let text = fleet.controller.enroll("cam-1").await?;
    let string: Join = text.parse()?;
    let dir = fleet.device_dir("cam-1");

    // Mistyped, cut, of another kind: named before anything is connected.
    let mistyped =
        format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' });
    refused(join(&mistyped, &dir).await?, &["join string", "checksum"])?;
    refused(join("mqtts://somewhere", &dir).await?, &["FLEETWAY1-", "device enroll"])?;
    // Another fleet's CA behind the URL: nothing is sent, the token stays good.
    let other = Join { ca: Digest::of(b"another CA"), ..string.clone() };
    let other = other.encode()?;
    refused(join(&other, &dir).await?, &["another fleet", "nothing was sent"])?;
    // A root that is not the pinned one: the same.
    let other = Join { root: Some(Digest::of(b"another root")), ..string.clone() };
    refused(join(&other.encode()?, &dir).await?, &["root"])?;
    ensure!(!dir.join("agent.toml").exists() && !dir.join("device.pem").exists(), "left behind");
    // A wrong token, and the right one of another device.
    let wrong = Join { token: fleetway_protocol::enroll::Token([0; 16]), ..string.clone() };
    refused(join(&wrong.encode()?, &dir).await?, &["token", "device enroll"])?;
    let device = "cam-2".parse()?;
    let stolen = Join { device, ..string.clone() };
    refused(join(&stolen.encode()?, &fleet.device_dir("cam-2")).await?, &["token"])?;

    // It joins; cut before its last file it does so again, with the same key.
    join(&text, &dir).await?.expect_code(0)?;
    let key = std::fs::read(dir.join("device.key"))?;
    let mode = std::fs::metadata(dir.join("device.key"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    refused(join(&text, &dir).await?, &["joined already"])?;
    std::fs::remove_file(dir.join("agent.toml"))?;
    std::fs::remove_file(dir.join("device.pem"))?;
    join(&text, &dir).await?.expect_code(0)?;
    ensure!(std::fs::read(dir.join("device.key"))? == key, "another key");
    // Two devices with one id: the token is used, by another key.
    let twin = fleet.device_dir("twin");
    refused(join(&text, &twin).await?, &["used already", "device revoke"])?;

    // It works, and says until when.
    let mut agent = fleetway_tests::harness::Agent::new("cam-1", &dir);
    agent.start().await?;
    fleet.agents.push(agent);
    fleet.all_online(WAIT).await?;
    let device = fleet.controller.device("cam-1").await?;
    ensure!(device.identity == "enrolled", "{device:?}");
    fleetway_tests::harness::wait::until("its certificate in the status", WAIT, async || {
        let status = fleet.agents[0].status().await?;
        ensure!(status.certificate.ends_s.is_some(), "{status:?}");
        Ok(())
    })
    .await?;
    // What the controller keeps holds no token.
    let log = std::fs::read_to_string(fleet.controller.log())?;
    ensure!(!log.contains(&text), "a secret in the log");
    fleet.controller.stop().await?;
    let found = files_with(fleet.controller.data(), &string.token.0)?;
    ensure!(found.is_empty(), "the token is in {found:?}");
    Ok(())
}

/// Files below `dir` that hold these bytes.
fn files_with(dir: &Path, bytes: &[u8]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes)?);
        } else if path.is_file() && std::fs::read(&path)?.windows(bytes.len()).any(|w| w == bytes) {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn guessing_ends_and_qr_codes_are_drawn() {
    let fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await.unwrap();
    let cli = &fleet.controller.cli;
    let done = cli.ok("device enroll cam-1 --qr").await.unwrap();
    assert!(done.stdout.starts_with("FLEETWAY1-") && done.stderr.contains('\u{2588}'), "{done:?}");
    let text = done.stdout.trim().to_owned();
    let string: Join = text.parse().unwrap();
    let dir = fleet.device_dir("cam-1");
    for guess in 0..10 {
        let token = fleetway_protocol::enroll::Token([guess; 16]);
        let wrong = Join { token, ..string.clone() }.encode().unwrap();
        refused(join(&wrong, &dir).await.unwrap(), &["token"]).unwrap();
    }
    refused(join(&text, &dir).await.unwrap(), &["too many wrong tokens"]).unwrap();
    // The way out.
    let text = fleet.controller.enroll("cam-1").await.unwrap();
    join(&text, &dir).await.unwrap().expect_code(0).unwrap();
}
