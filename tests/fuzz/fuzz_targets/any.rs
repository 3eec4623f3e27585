//! One program for all targets of `fleetway_tests::fuzz`; `FLEETWAY_FUZZ_TARGET` says which.
#![no_main]

use std::sync::LazyLock;

use fleetway_tests::fuzz::{Target, find};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FLEETWAY_FUZZ_TARGET").expect("FLEETWAY_FUZZ_TARGET is set");
    find(&name).unwrap_or_else(|| panic!("no fuzz target {name}"))
});

fuzz_target!(|bytes: &[u8]| {
    let _ = (TARGET.body)(bytes);
});
