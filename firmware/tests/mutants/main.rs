//! The planted bugs still fit the source. That the power tests find every one of them is seen by
//! `cargo run -p fleetway-firmware --example mutants`, which `cargo xtask soak firmware` runs: it
//! builds the crate once for each.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod table;

use std::path::Path;

#[test]
fn every_planted_bug_has_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for table::Mutant { name, file, right, wrong } in &table::MUTANTS {
        let source = std::fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(source.matches(right).count(), 1, "{name}: {file} has not this once: {right}");
        assert_ne!(right, wrong, "{name}");
    }
}
