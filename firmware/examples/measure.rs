//! What an update costs: operations on the flash (simulated), seconds over the line and stack (on
//! emulated boards). `cargo xtask bench firmware` runs it and reads what it says: `name=number`, a line
//! each.
#![allow(clippy::unwrap_used, reason = "a tool for those who measure")]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../tests/common/fleet.rs"]
mod fleet;
#[path = "../tests/boards/gateway.rs"]
mod gateway;
#[path = "../tests/power/nor.rs"]
mod nor;
#[path = "../tests/power/parts.rs"]
mod parts;
#[path = "../tests/common/rng.rs"]
mod rng;
#[path = "../tests/power/rules.rs"]
mod rules;
#[path = "../tests/power/world.rs"]
mod world;

use fleetway_emulator::{AST1030, Board, Kind, MPS2, RISCV32};
use fleetway_protocol::slot::Ending;

use fleet::{Fleet, Nature, Wish};
use gateway::Gateway;
use world::{WIDTH, World};

/// A model as large as a small board takes, and one of 256 KiB, bytes.
const MODELS: [(&str, usize); 2] = [("update_48k", 48 << 10), ("update_256k", 256 << 10)];

fn main() {
    flash();
    for (kind, models) in [(&MPS2, 2), (&AST1030, 1), (&RISCV32, 2)] {
        board(kind, &MODELS[..models]);
    }
}

/// An update of a made-up model of 9 KiB (three chunks and three vectors) on simulated flash.
fn flash() {
    let fleet = Fleet::new(WIDTH as u32, &[Nature::Good; 3]);
    let page = fleet.page();
    let mut world = World::new(&fleet, &page);
    for release in [1, 2] {
        let (ops, erases) = (world.nor.ops, world.nor.erases.iter().sum::<u32>());
        world.wants(Wish::run(release));
        world.settle().unwrap();
        if release == 2 {
            let erases = world.nor.erases.iter().sum::<u32>() - erases;
            println!("update_flash_ops={}\nupdate_flash_erases={erases}", world.nor.ops - ops);
        }
    }
}

/// The factory model, then each of the others, over the line.
fn board(kind: &'static Kind, models: &[(&str, usize)]) {
    let name = kind.name.replace('-', "_");
    let mut fleet = Fleet::empty();
    fleet.invent(WIDTH as u32, 1, Nature::Good);
    for (n, (_, bytes)) in models.iter().enumerate() {
        fleet.invent_of(WIDTH as u32, 2 + n as u8, Nature::Good, *bytes);
    }
    let mut board = Board::new(kind, &fleet.page()).unwrap();
    board.power().unwrap();
    let mut gateway = Gateway::new(&fleet, &mut board);
    gateway.runs(&mut board, 0);
    for (n, (what, _)) in models.iter().enumerate() {
        let took = gateway.order(&mut board, Wish::run(1 + n), Ending::Confirmed);
        println!("{name}_{what}_ms={}", took.as_millis());
    }
    println!("{name}_stack_bytes={}", board.stack_bytes().unwrap());
}
