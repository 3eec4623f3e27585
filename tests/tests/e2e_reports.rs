//! What devices say is theirs: somebody with the broker's certificate lies about a device, and
//! neither the rollout nor the operator's view believes a word.
//!
//! The lie is the best that there is: the device's own last report, changed into "the new
//! release is confirmed here". It comes unsigned, signed by the liar, under the device's real
//! signature of something else, signed by another device's real key, and as true words of
//! another time, another device and another model. Each is refused by a check with a name.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_protocol::codec;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::{REPORT_BYTES_MAX, SIGNED_REPORT_BYTES_MAX};
use fleetway_protocol::report::State;
use fleetway_protocol::signed::{Algorithm, SignedReport, message};
use fleetway_protocol::slot::{Ending, Outcome};
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_tests::harness::views::Status;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::hostile::attack::{Attack, Class, Kind};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(90);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 10";
/// The controller's connection, on which it hears reports.
const CONTROLLER: &str = "controller";

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_confirmation_confirms_nothing() {
    lies().await.unwrap();
}

/// A liar between a fleet and its controller.
struct Liar {
    fleet: Fleet,
    ca: Digest,
    rollout: u64,
}

async fn lies() -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Hostile { seed: 1 }, 2)).await?;
    fleet.feed(Duration::from_millis(25));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let ca = CertificateDer::from_pem_file(fleet.controller.data().join("pki/ca.pem"))?;
    let mut liar = Liar { fleet, ca: Digest::of(&ca), rollout: 0 };

    // A rollout that cannot move: nobody gets the order.
    liar.attack()?.withhold(&[Class::Order]);
    liar.attack()?.set(Some(Kind::Withhold));
    let flags = format!("--phase 100% --soak 0s --max-unavailable 100% --failures-max 0 {JUDGE}");
    liar.rollout = liar.fleet.controller.rollout("v2", &flags).await?.id;
    wait::until("both to be ordered", WAIT, async || {
        let counts = liar.fleet.controller.rollout_status(liar.rollout).await?.counts;
        ensure!(counts.moving == 2, "{counts:?}");
        Ok(())
    })
    .await?;

    let topic = Liar::state_of("cam-1")?;
    let text = topic.text(ROOT_DEFAULT);
    let said = liar.attack()?.said(&text);
    let (oldest, newest) = (said.first().context("it said nothing")?, said.last().context("-")?);
    ensure!(said.len() > 1, "nothing to replay");
    let true_words = SignedReport::decode(newest)?;
    let lie = liar.lie(true_words.report_unchecked()).await?;
    let signed = |key: &SigningKey| {
        let message = message(&liar.ca, Algorithm::EcdsaP256, &topic, &lie);
        let signature: Signature = key.sign(&message);
        encoded(SignedReport::new(&lie, Algorithm::EcdsaP256, &signature.to_bytes()))
    };
    let own = SigningKey::from_slice(&[7; 32])?;
    let stolen = liar.fleet.controller.data().join("devices/cam-2/device.key");
    let stolen = SigningKey::from_pkcs8_pem(&std::fs::read_to_string(stolen)?)?;
    // The signature is at the end, and of fixed length.
    let real_signature = &newest[newest.len() - 64..];

    liar.tell(&text, encoded(Some(SignedReport::unsigned(&lie)))?, "report unsigned").await?;
    liar.tell(&text, signed(&own)?, "report signature").await?;
    liar.tell(&text, signed(&stolen)?, "report signature").await?;
    let moved = encoded(SignedReport::new(&lie, Algorithm::EcdsaP256, real_signature))?;
    liar.tell(&text, moved, "report signature").await?;
    let ed = encoded(SignedReport::new(&lie, Algorithm::Ed25519, real_signature))?;
    liar.tell(&text, ed, "report algorithm").await?;
    liar.tell(&text, lie.clone(), "report decode").await?;
    // True words at the wrong time, of the wrong device, on the wrong model, as the wrong kind.
    liar.tell(&text, oldest.clone(), "report old").await?;
    let other = liar.attack()?.said(&Liar::state_of("cam-2")?.text(ROOT_DEFAULT));
    liar.tell(&text, other.last().context("cam-2 said nothing")?.clone(), "report signature")
        .await?;
    for wrong in ["d/cam-1/up/st/faces", "d/cam-1/up/tm/digits", "d/cam-1/up/on"] {
        liar.tell(&format!("{ROOT_DEFAULT}{wrong}"), newest.clone(), "report signature").await?;
    }
    let nobody = Liar::state_of("cam-9")?.text(ROOT_DEFAULT);
    liar.tell(&nobody, encoded(Some(SignedReport::unsigned(&lie)))?, "report device").await?;

    // Not for want of trying does nothing come through: the truth still does.
    liar.attack()?.set(None);
    let id = liar.rollout;
    liar.fleet.controller.cli.ok(&format!("rollout abort {id}")).await?;
    liar.fleet.controller.release("digits-v2", "v3", "").await?;
    liar.fleet.roll_out("v3", JUDGE, WAIT).await?;
    liar.fleet.check_no_errors()
}

fn encoded(report: Option<SignedReport<'_>>) -> Result<Vec<u8>> {
    let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
    Ok(report.context("a signature that is too long")?.encode(&mut buf)?.to_vec())
}

impl Liar {
    fn attack(&self) -> Result<&Attack> {
        Ok(&self.fleet.relay.as_ref().context("nobody in the middle")?.attack)
    }

    fn state_of(device: &str) -> Result<Topic> {
        Ok(Topic::State(device.parse()?, "digits".parse()?))
    }

    /// The device's last words, with the one thing changed that a rollout waits for.
    async fn lie(&self, last_words: &[u8]) -> Result<Vec<u8>> {
        #[derive(serde::Deserialize)]
        struct View {
            digest: String,
        }
        let view: View = self.fleet.controller.cli.json("model show digits@v2").await?;
        let release: Digest = view.digest.parse()?;
        let mut state: State = codec::decode(last_words, REPORT_BYTES_MAX)?;
        state.stamp.seq += 1000;
        state.generation += 1;
        state.running = Some(release);
        let result = Ending::Confirmed;
        state.last = Some(Outcome { release, rollout: self.rollout, result, evidence: None });
        let mut buf = [0; REPORT_BYTES_MAX];
        Ok(codec::encode(&state, &mut buf)?.to_vec())
    }

    /// Tells the controller something, which `check` refuses and which changes nothing.
    async fn tell(&self, topic: &str, payload: Vec<u8>, check: &str) -> Result<()> {
        let controller = &self.fleet.controller;
        let before = refused(&controller.cli.json("status").await?, check);
        self.attack()?.send(CONTROLLER, topic, payload).await?;
        wait::until(&format!("a refusal: {check}"), WAIT, async || {
            let status: Status = controller.cli.json("status").await?;
            ensure!(refused(&status, check) > before, "{topic}: {:?}", status.reports_refused);
            Ok(())
        })
        .await?;
        let rollout = controller.rollout_status(self.rollout).await?;
        ensure!(rollout.state == "running" && rollout.counts.moving == 2, "{topic}: {rollout:?}");
        for id in ["cam-1", "cam-2"] {
            let device = controller.device(id).await?;
            ensure!(device.runs() == Some("v1"), "{topic}: {device:?}");
        }
        Ok(())
    }
}

fn refused(status: &Status, check: &str) -> u64 {
    status.reports_refused.get(check).copied().unwrap_or(0)
}
