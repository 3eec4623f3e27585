//! A microcontroller in the fleet: the firmware itself on an emulated board, whose UART is a socket that an
//! agent's gateway connects to. What it is born with, how it comes into the fleet, and how its power
//! fails.
//!
//! [`releases`] makes the bad ones; [`Outages`] ends the emulator at moments that a seed decides.

mod outages;
pub mod releases;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_emulator::{Birth, Board, FactoryModel, MPS2, answers, golden_set};
use fleetway_protocol::ids::Digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::harness::views::Device;
use crate::harness::{Digits, Fleet, digits, programs, wait};

pub use outages::Outages;

/// Its class: the board's.
pub const HARDWARE: &str = MPS2.name;
/// Images that the factory model's golden vectors are made of, and that the board's sensor sees again and
/// again.
const IMAGES: usize = 32;
/// Longest wait for the board to be heard, on a loaded machine.
const HEARD: Duration = Duration::from_secs(60);
/// The seed of its key.
const SEED: [u8; 32] = [42; 32];

/// A board on the line of an agent.
pub struct Mcu {
    /// Its id in the fleet.
    pub id: String,
    /// Its public key, as `device adopt` takes it.
    pub key: String,
    board: Arc<Mutex<Board>>,
}

impl Mcu {
    /// Makes a board whose factory model is digits v1, gives it power, and connects it to the first agent
    /// of the fleet, whose configuration is changed for it. It is not adopted yet.
    ///
    /// # Errors
    /// The emulator's, or the agent's.
    pub async fn plug_in(fleet: &mut Fleet, id: &str) -> Result<Self> {
        let data = fleet.controller.data().to_owned();
        let keyset = std::fs::read(data.join("trust/metadata/1.keyset")).context("1.keyset")?;
        let ca = CertificateDer::from_pem_file(data.join("pki/ca.pem")).context("ca.pem")?;
        let (model, hardware) = ("digits".parse()?, HARDWARE.parse()?);
        let factory = digits_v1()?;
        let factory = FactoryModel::made(&model, &hardware, factory.0, factory.1);
        let (id_, ca) = (id.parse()?, Digest::of(&ca));
        let birth = Birth { id: id_, model, hardware, ca, seed: SEED, keyset: &keyset };
        let key = Digest(birth.public_key()).to_string();
        let mut board = Board::new(&MPS2, &birth.page(&factory))?;
        board.power()?;
        let agent = &mut fleet.agents[0];
        agent.stop().await?;
        let config = std::fs::read_to_string(agent.config()).context("agent.toml")?;
        let line = board.line();
        let line =
            format!("[[gateway.device]]\nid = \"{id}\"\nsocket = \"unix:{}\"", line.display());
        std::fs::write(agent.config(), format!("{config}\n{line}\n")).context("agent.toml")?;
        agent.start().await?;
        Ok(Self { id: id.to_owned(), key, board: Arc::new(Mutex::new(board)) })
    }

    /// The command that makes it a device of the fleet, on the line of `via`.
    pub fn adopt_line(&self, via: &str) -> String {
        let Self { id, key, .. } = self;
        format!("device adopt {id} --via {via} --hardware {HARDWARE} --key {key} --label kind=mcu")
    }

    /// Waits until the controller hears it.
    ///
    /// # Errors
    /// What it says instead, and what the board says.
    pub async fn heard(&self, fleet: &Fleet) -> Result<Device> {
        wait::until(&format!("{} to be heard", self.id), HEARD, async || {
            let device = fleet.controller.device(&self.id).await?;
            ensure!(device.online && device.digits().is_some(), "{device:?}");
            Ok(device)
        })
        .await
        .with_context(|| format!("the board says:\n{}", self.text()))
    }

    /// The emulator ends, wherever the board is, and a new one starts with the flash as it was.
    ///
    /// # Errors
    /// The emulator's.
    pub fn power_cycle(&self) -> Result<()> {
        Ok(self.board().power()?)
    }

    /// Begins to do that at moments decided by `seed`, until it is dropped or was done `most` times.
    pub fn outages(&self, seed: u64, most: u32) -> Outages {
        Outages::begin(Arc::clone(&self.board), seed, most)
    }

    /// What the board wrote for a person, in all its lives.
    pub fn text(&self) -> String {
        self.board().text()
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what the board's class has room for into the controller's configuration, as an operator does.
///
/// # Errors
/// The disk's.
pub fn know_class(fleet: &Fleet) -> Result<()> {
    let board = programs::workspace().join("firmware/boards").join(HARDWARE);
    let room = std::fs::read_to_string(board.join("hardware.toml")).context("hardware.toml")?;
    let path = fleet.controller.data().join("fleetway.toml");
    let config = std::fs::read_to_string(&path).context("fleetway.toml")?;
    std::fs::write(&path, format!("{config}\n{room}")).context("fleetway.toml")
}

/// The compiled network of digits v1, and golden vectors of held-out images.
fn digits_v1() -> Result<(Vec<u8>, Vec<u8>)> {
    let onnx = std::fs::read(digits::model_dir().join("digits-v1.onnx")).context("digits-v1")?;
    let file = fleetway_qnnc::compile(&onnx)?;
    let digits = Digits::heldout();
    let images = (0..IMAGES).map(|at| digits.pixels(at).to_vec());
    let golden = golden_set(&answers(&file, images)?);
    Ok((file, golden))
}
