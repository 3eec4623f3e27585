//! The firmware itself on an emulated board: it serves its factory model, takes an update over its
//! serial line, refuses a wrong one, comes back from a hang with what it had, and from being killed
//! anywhere.
//!
//! Needs QEMU and the board's target, which `cargo xtask test` sees to.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../common/fleet.rs"]
#[allow(dead_code, reason = "the power tests use the rest")]
mod fleet;
mod gateway;
#[path = "../common/rng.rs"]
#[allow(dead_code, reason = "the power tests use the rest")]
mod rng;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleetway_protocol::order::Action;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::Ending;

use fleetway_emulator::{AST1030, Board, Kind, MPS2, RISCV32, answers, golden_set};

use fleet::{Fleet, Nature, Wish};
use gateway::Gateway;

/// What the digits models take.
const PIXELS: usize = 64;

/// Releases 0 to 3: digits v1 (the factory's) and v2, v2 with golden vectors of another model, and
/// one that is too slow.
fn fleet() -> Fleet {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let compiled = |name: &str| {
        let onnx = std::fs::read(root.join("tests/models/digits").join(name)).unwrap();
        fleetway_qnnc::compile(&onnx).unwrap()
    };
    let (v1, v2) = (compiled("digits-v1.onnx"), compiled("digits-v2.onnx"));
    let mut fleet = Fleet::empty();
    fleet.publish(Nature::Good, v1.clone(), digits(&v1));
    fleet.publish(Nature::Good, v2.clone(), digits(&v2));
    fleet.publish(Nature::WrongAnswers, v2, digits(&v1));
    fleet.invent(PIXELS as u32, 9, Nature::Slow);
    fleet
}

/// Some images and what the model makes of them.
fn digits(model: &[u8]) -> Vec<u8> {
    let mut rng = rng::Rng::new(7);
    let images = (0..8).map(|_| (0..PIXELS).map(|_| rng.below(17) as f32).collect());
    golden_set(&answers(model, images).unwrap())
}

/// Looks at what some thousand calls and a reset take: a minute, on a busy machine.
const OVERFLOW_LOOKS_MAX: u32 = 3_000;

/// One emulator at a time: what a board waits for is measured in its own time, which stands still
/// while others have the processors.
static TURN: Mutex<()> = Mutex::new(());

/// A stack that grows too long faults, and the board starts again with what lies below it as it was.
#[test]
fn a_stack_that_grows_too_long_is_a_crash() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut board = Board::with(&MPS2, &[], "overflow").unwrap();
    board.power().unwrap();
    for _ in 0..OVERFLOW_LOOKS_MAX {
        if board.text().contains("started again") {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it said {:?}", board.text());
}

/// Everything that happens to a model, on one board.
fn life(kind: &'static Kind) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let fleet = fleet();
    let mut board = Board::new(kind, &fleet.page()).unwrap();
    board.power().unwrap();
    let mut gateway = Gateway::new(&fleet, &mut board);

    // The factory model serves before anybody orders anything.
    gateway.runs(&mut board, 0);

    // An update over the line.
    let bytes = fleet.releases[1].model.len();
    let took = gateway.order(&mut board, Wish::run(1), Ending::Confirmed);
    println!("{}: an update of {bytes} bytes was confirmed after {took:?}", kind.name);
    gateway.runs(&mut board, 1);

    // Its golden vectors say something else: it never runs.
    gateway.order(&mut board, Wish::run(2), Ending::Failed(Reason::Golden));
    gateway.runs(&mut board, 1);

    // It passes its self-test and does not answer in time: the watchdog, three times, then back.
    gateway.order(&mut board, Wish::run(3), Ending::RolledBack(Reason::Interrupted));
    gateway.runs(&mut board, 1);

    // And by an order.
    let back = Wish { release: 0, action: Action::Rollback };
    gateway.order(&mut board, back, Ending::Confirmed);
    gateway.runs(&mut board, 0);

    if kind.has_text {
        let text = board.text();
        for said in ["boot 1 after power", "answer 1: class", "after a hang"] {
            assert!(text.contains(said), "the board does not say {said:?}:\n{text}");
        }
    }
}

/// The board is killed at random moments while it is ordered back and forth.
fn killed(kind: &'static Kind, kills: u64) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let fleet = fleet();
    let mut board = Board::new(kind, &fleet.page()).unwrap();
    board.power().unwrap();
    let mut gateway = Gateway::new(&fleet, &mut board);
    let mut rng = rng::Rng::new(kills);
    for n in 0..kills {
        gateway.wants(Wish::run(if n / 4 % 2 == 0 { 1 } else { 2 }));
        gateway.carry(Duration::from_millis(rng.below(1_500)));
        board.power().unwrap();
        gateway.connect(&mut board);
        gateway.serves_something(&mut board);
    }
    println!("{}: {kills} kills, and the board always served", kind.name);
}

/// How often a board is killed: a few times, or as `FLEETWAY_FIRMWARE_KILLS` says.
fn kills() -> u64 {
    let kills = std::env::var("FLEETWAY_FIRMWARE_KILLS").ok().and_then(|text| text.parse().ok());
    kills.unwrap_or(12)
}

macro_rules! boards {
    ($($kind:ident $life:ident $killed:ident)*) => { $(
        #[test]
        fn $life() {
            life(&$kind);
        }

        #[test]
        fn $killed() {
            killed(&$kind, kills());
        }
    )* };
}

boards! {
    MPS2 mps2 mps2_killed
    AST1030 ast1030 ast1030_killed
    RISCV32 riscv32 riscv32_killed
}
