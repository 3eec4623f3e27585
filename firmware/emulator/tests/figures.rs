//! What a board's `hardware.toml` tells the controller is what its program has: a figure that is too large
//! signs releases that the board refuses.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::path::Path;

use fleetway_emulator::board::{AST1030, MPS2, RISCV32};

/// `96 * 96 * 3`, or one number.
fn product(text: &str) -> u64 {
    text.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().unwrap()).product()
}

/// What stands between two words of a source.
fn between<'s>(source: &'s str, from: &str, to: &str) -> &'s str {
    let (_, rest) = source.split_once(from).unwrap_or_else(|| panic!("no {from:?}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no {to:?}")).0
}

/// The figures in a board's `hardware.toml`.
fn told(text: &str) -> BTreeMap<&str, u64> {
    let figures = text.lines().filter(|line| !line.starts_with('#'));
    let figures = figures.filter_map(|line| line.split_once(" = "));
    figures.map(|(key, value)| (key, product(value.split('#').next().unwrap()))).collect()
}

#[test]
fn the_figures_of_a_board_are_those_of_its_program() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let shared = read(&boards.join("shared/src/lib.rs"));
    for kind in [&MPS2, &RISCV32, &AST1030] {
        let board = boards.join(kind.name);
        let (text, source) = (read(&board.join("hardware.toml")), read(&board.join("src/main.rs")));
        assert!(text.contains(&format!("[hardware.{}]", kind.name)), "{}", kind.name);
        let layout: Vec<&str> = between(&source, "Layout::new(", ")").split(',').collect();
        let room: Vec<&str> = between(&source, "static ROOM: Room<", ">").split(',').collect();
        let in_braces = |text: &str| product(text.trim().trim_matches(['{', '}']));
        let has = BTreeMap::from([
            ("golden_bytes", product(layout[2])),
            ("model_bytes", product(layout[3])),
            ("arena_bytes", in_braces(room[0])),
            ("input_values", in_braces(room[1])),
            ("output_values", in_braces(room[2])),
            ("work", product(between(&shared, "const WORK_MAX: u64 = ", ";"))),
        ]);
        assert_eq!(told(&text), has, "{}", kind.name);
    }
}
