//! Puts a board's memory map where the linker looks: the same for every board.

use std::path::PathBuf;

fn main() {
    let directory = |name| PathBuf::from(std::env::var_os(name).expect("cargo sets it"));
    let (board, out) = (directory("CARGO_MANIFEST_DIR"), directory("OUT_DIR"));
    std::fs::copy(board.join("memory.x"), out.join("memory.x")).expect("a board has a map");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
}
