//! The firmware's boards in QEMU, for whoever wants one on this machine: the firmware's own tests,
//! the end-to-end tests behind a real gateway, soak and bench. Never part of what is shipped.
//!
//! ```no_run
//! use fleetway_emulator::{Birth, Board, FactoryModel, MPS2, answers, golden_set};
//! # fn f(qnn: Vec<u8>, inputs: Vec<Vec<f32>>, ca: fleetway_protocol::ids::Digest, keyset: Vec<u8>)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let (model, hardware) = ("digits".parse()?, MPS2.name.parse()?);
//! let golden = golden_set(&answers(&qnn, inputs)?);
//! let factory = FactoryModel::made(&model, &hardware, qnn, golden);
//! let birth = Birth { id: "mcu-1".parse()?, model, hardware, ca, seed: [42; 32], keyset: &keyset };
//! let mut board = Board::new(&MPS2, &birth.page(&factory))?; // built, flash blank, off
//! board.power()?;
//! println!("socket = \"unix:{}\"", board.line().display()); // for [[gateway.device]]
//! board.kill(); // the power goes, anywhere
//! board.power()?; // and comes; the flash is as it was
//! # Ok(()) }
//! ```
//!
//! 1. [`board`]: which boards there are; built, started, killed, started again.
//! 2. [`maker`]: the page that a device is born with, its factory model included. `ca` is the
//!    digest of the fleet CA's certificate, `keyset` the fleet's first one (`1.keyset`), and the
//!    device's public key, for `fleetway device adopt`, is [`Birth::public_key`].
//! 3. [`network`]: made-up networks, small ones and slow ones.

pub mod board;
pub mod maker;
pub mod network;

pub use board::{AST1030, Board, EmulatorError, Kind, MPS2, RISCV32};
pub use maker::{Birth, FactoryModel, answers, golden_set};
